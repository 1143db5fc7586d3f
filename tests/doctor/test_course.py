"""The course of a watched training: trend, plateau, oscillation and noise, against series whose course is known."""

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.doctor.course import course_of, noise_scale, robust_slope, trend_score

RNG = np.random.default_rng(0)
STEPS = np.arange(1000)


def course(losses, noise=()):
    return course_of(range(len(losses)), losses, noise, 32)


def noisy(losses, seed=0):
    return losses + 0.05 * np.random.default_rng(seed).standard_normal(len(losses))


def test_the_robust_slope_is_that_of_a_line_which_a_fifth_of_the_points_have_left():
    x = np.arange(50.0)
    y = 3 - 0.25 * x
    y[::5] = 100
    assert robust_slope(x, y) == pytest.approx(-0.25)


def test_the_trend_score_of_chance_is_standard_normal():
    scores = [trend_score(RNG.standard_normal(40)) for _ in range(2000)]
    assert np.mean(scores) == pytest.approx(0, abs=0.1)
    assert np.std(scores) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("seed", range(5))
def test_a_loss_that_falls_all_the_way_stands_nowhere(seed):
    found = course(noisy(3 - 2 * STEPS / 1000, seed))
    assert found.plateau is None
    assert found.significance < -5
    assert found.trend == pytest.approx(-0.2 / 1.5, rel=0.1)  # 0.2 in 100 steps, of 1.5 on average


@pytest.mark.parametrize("seed", range(5))
def test_a_loss_that_has_settled_stands_since_it_did(seed):
    found = course(noisy(1 + np.maximum(2 - STEPS / 100, 0), seed))  # falls for 200 steps
    assert 150 <= found.plateau <= 350
    assert abs(found.significance) < 3
    assert (found.first, found.last) == (pytest.approx(2.9, abs=0.15), pytest.approx(1, abs=0.1))


@pytest.mark.parametrize("seed", range(5))
def test_a_loss_that_never_moved_stands_from_the_start(seed):
    assert course(noisy(np.full(1000, 2.3), seed)).plateau <= 30


def test_a_loss_that_every_step_throws_to_the_other_side_oscillates():
    assert course(1 + 0.3 * (-1.0) ** STEPS).oscillation < -0.95
    assert abs(course(noisy(np.ones(1000))).oscillation) < 0.1
    assert abs(course(noisy(3 - 2 * STEPS / 1000)).oscillation) < 0.1


def test_losses_that_are_not_finite_are_passed_over_and_few_tell_nothing():
    losses = noisy(3 - 2 * STEPS / 1000)
    losses[::7] = math.nan
    assert course(losses).significance < -5
    assert course(losses[:8]) is None
    assert course([]) is None


def test_the_noise_scale_is_the_variance_of_a_batch_over_the_square_of_the_gradient():
    gradient, spread = RNG.standard_normal(100), 2.0
    pairs = []
    for _ in range(500):
        one, other = gradient + spread * RNG.standard_normal((2, 100))
        pairs.append((one @ other, np.sum((one - other) ** 2) / 2))
    assert noise_scale(pairs) == pytest.approx(100 * spread**2 / np.sum(gradient**2), rel=0.1)
    assert noise_scale(pairs[:3]) is None
    assert noise_scale([(-1.0, 1.0)] * 9) == math.inf


def test_a_monitor_measures_the_noise_that_the_examples_gradients_have():
    """Linear regression, whose gradient by each example is known, watched at one place by steps of no length."""
    count, batch = 2000, 16
    model = nn.Sequential(nn.Linear(20, 1, dtype=np.float64))
    optimizer = cr.optim.SGD(model.parameters(), lr=1e-12)
    x = RNG.standard_normal((count, 20))
    y = x @ RNG.standard_normal((20, 1)) + RNG.standard_normal((count, 1))
    weight, bias = model[0].weight.data, model[0].bias.data
    each = 2 * (x @ weight.T + bias - y) * np.concatenate([x, np.ones((count, 1))], axis=1)
    expected = each.var(axis=0).sum() / batch / np.sum(each.mean(axis=0) ** 2)
    with cr.monitor(model, optimizer=optimizer, every=2, warn=False) as monitor:
        for _ in range(400):
            rows = RNG.integers(0, count, batch)
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x[rows]), y[rows]).backward()
            optimizer.step()
    found = monitor.report().examination.course
    assert found.noise_scale == pytest.approx(expected, rel=0.2)
    assert found.batch == batch
    assert all(sample.noise is not None for sample in monitor.history[:8])
    assert f"equal at {found.noise_scale * batch:.3g} examples" in str(monitor.report()).replace("\n", " ")


def test_gradients_of_compiled_steps_are_not_compared():
    model = nn.Sequential(nn.Linear(4, 3))
    optimizer = cr.optim.SGD(model.parameters(), lr=0.1)
    x, y = RNG.standard_normal((8, 4)).astype(np.float32), RNG.integers(0, 3, 8)

    @cr.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    with cr.monitor(model, optimizer=optimizer, every=1, overhead=math.inf) as monitor:
        for _ in range(20):
            step(x, y)
    assert [sample.noise for sample in monitor.history] == [None] * 20
    assert monitor.report().examination.course.noise_scale is None
    assert monitor.report().examination.course.significance < -2
