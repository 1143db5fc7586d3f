"""Trials: training runs on copies that tell the truth and leave no trace."""

import math
from itertools import cycle

import numpy as np
import pytest
from sick_networks import Framework, digits, mlp, numbers

from chainrule import nn, optim
from chainrule.doctor import DoctorError
from chainrule.doctor.rates import adam, range_test, tune
from chainrule.doctor.subjects import subject_of
from chainrule.doctor.training import dealt_losses, falling, rehearsal, split_of, train
from chainrule.doctor.trial import QUICK_STEPS, on_batch, on_data, trials

OURS = Framework(nn, optim, lambda a: a, nn.random.manual_seed)
X, Y = digits(600)


def subject(model, rate=0.05, **given):
    optimizer = optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    return subject_of(model, nn.functional.cross_entropy, (X[:64], Y[:64]), optimizer=optimizer, **given)


def test_a_trial_sees_the_losses_that_training_itself_has():
    trial = on_batch(subject(mlp(OURS)), steps=5)
    model = mlp(OURS)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses, norms = [], []
    for _ in range(6):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(X[:64]), Y[:64])
        loss.backward()
        losses.append(float(loss.detach()))
        norms.append(optim.get_total_norm(p.grad for p in model.parameters()))
        optimizer.step()
    np.testing.assert_allclose(trial.losses, losses, rtol=1e-6)
    np.testing.assert_allclose(trial.gradient_norms, norms[:5], rtol=1e-5)


def test_update_ratios_are_the_median_of_how_far_the_weight_matrices_moved():
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    trial = on_batch(subject(model, rate=0.1), steps=1)
    twin = subject(model, rate=0.1).copy()
    before = [numbers(p) for p in twin.model.parameters()]
    twin.step()
    moved = [
        np.linalg.norm(numbers(p) - old) / np.linalg.norm(old)
        for p, old in zip(twin.model.parameters(), before, strict=True)
    ]
    assert trial.update_ratios == (pytest.approx(np.median(moved[::2]), rel=1e-4),)
    assert list(trial.first_updates.values()) == pytest.approx(moved, rel=1e-4)


def test_a_trial_leaves_no_trace():
    model = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 10))
    patient = subject(model, data=(X, Y))
    patient.step()
    before = {path: numbers(value) for path, value in model.state_dict().items()}
    gradients = [numbers(p.grad) for p in model.parameters()]
    state, momentum = nn.random.get_rng_state(), str(patient.optimizer.state_dict())
    trials(patient, thorough=True)
    assert nn.random.get_rng_state() == state
    assert str(patient.optimizer.state_dict()) == momentum
    for path, value in model.state_dict().items():
        np.testing.assert_array_equal(numbers(value), before[path])
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        np.testing.assert_array_equal(numbers(parameter.grad), gradient)


def test_random_numbers_are_as_before_even_if_training_fails():
    patient = subject(mlp(OURS))
    state = nn.random.get_rng_state()
    with pytest.raises(DoctorError), rehearsal(patient, 5) as copy:
        train(copy, iter([(X[:4], Y[:3])]), 1)
    assert nn.random.get_rng_state() == state


def test_the_same_seed_gives_the_same_trial_though_the_network_draws():
    model = nn.Sequential(nn.Linear(64, 16), nn.Dropout(0.5), nn.Linear(16, 10))
    one, other = (on_batch(subject(model), seed=4).losses for _ in range(2))
    assert one == other
    assert on_batch(subject(model), seed=5).losses != one


def test_a_run_that_does_not_stay_finite_ends_there():
    trial = on_batch(subject(mlp(OURS), rate=1e30), steps=20)
    assert len(trial.losses) < 20
    assert not math.isfinite(trial.losses[-1]) or not math.isfinite(trial.gradient_norms[-1])


def test_the_share_of_clipped_steps_is_told_where_gradients_are_clipped():
    assert on_batch(subject(mlp(OURS), clip_norm=1e-3), steps=4).clipped == 1.0
    assert on_batch(subject(mlp(OURS), clip_norm=1e3), steps=4).clipped == 0.0
    assert on_batch(subject(mlp(OURS)), steps=4).clipped is None


def test_the_tuned_copy_gets_far_where_a_tiny_learning_rate_gets_nowhere():
    trial = on_batch(subject(mlp(OURS), rate=1e-6), steps=40, tuned=True)
    assert trial.losses[-1] > 0.99 * trial.losses[0]
    assert trial.best < 0.1 * trial.losses[0]
    assert trial.best_optimizer.startswith("Adam, lr ")


def test_a_quick_trial_takes_7_steps_and_a_last_look(monkeypatch):
    steps = []
    kind = type(subject(mlp(OURS)))
    taken = kind.step
    monkeypatch.setattr(kind, "step", lambda self, batch=None: steps.append(1) or taken(self, batch))
    (trial,), notes = trials(subject(mlp(OURS)))
    assert len(steps) == QUICK_STEPS == 7
    assert len(trial.losses) == 8
    assert notes == ()


def test_without_an_optimizer_no_quick_trial_is_made():
    assert trials(subject_of(mlp(OURS), nn.functional.cross_entropy, (X, Y))) == ((), ())


def test_labels_are_worth_no_more_than_chance_exactly_where_they_were_shuffled():
    shuffled = np.random.default_rng(0).permutation(Y)
    true, false = (on_data(subject(mlp(OURS), data=(X, labels))) for labels in (Y, shuffled))
    assert true.validation[1] < 0.5 * true.validation[0]
    assert true.validation[1] < 0.5 * true.chance
    assert false.losses[-1] < 0.7 * false.losses[0]  # learned by heart
    assert false.validation[1] > 0.9 * false.chance


def test_a_split_holds_out_examples_that_no_batch_has():
    split = split_of(subject(mlp(OURS), data=(X, Y)), seed=1)
    held = {row.tobytes() for row in split.held_out[0]}
    drawn = split.batches(0)
    seen = {row.tobytes() for _ in range(20) for row in next(drawn)[0]}
    assert len(split.held_out[0]) == 150
    assert not held & seen


def test_data_too_few_to_hold_any_out_make_no_trial():
    assert on_data(subject(mlp(OURS), data=(X[:5], Y[:5]))) is None


def test_a_step_that_fails_is_one_clear_error():
    patient = subject(mlp(OURS))
    with pytest.raises(DoctorError, match="a training step fails"), rehearsal(patient, 0) as copy:
        train(copy, cycle([(X[:4, :3], Y[:4])]), 1)


# Learning rates -----------------------------------------------------------------------------------------------------


class Bowl(nn.Module):
    """A quadratic: loss = curvature·w²/2."""

    def __init__(self, curvature):
        self.w = nn.Parameter(np.ones(4))
        self.curvature = curvature

    def forward(self, x):
        return self.curvature * (self.w * self.w).sum() / 2


@pytest.mark.parametrize("curvature", [0.5, 20.0, 3000.0])
def test_the_range_test_ends_where_a_quadratic_starts_to_diverge(curvature):
    model = Bowl(curvature)
    patient = subject_of(model, lambda y: y, np.ones(1), optimizer=optim.SGD(model.parameters(), lr=1.0))
    edge, _ = range_test(patient, lambda: cycle([patient.batch]), 0, equip=lambda s, lr: _set(s, lr))
    assert 0.1 < edge * curvature / 2 < 4  # gradient descent diverges beyond 2/curvature


def _set(patient, rate):
    patient.optimizer.param_groups[0]["lr"] = rate
    return patient


def test_a_tuned_rate_learns_more_than_one_ten_times_smaller_or_larger():
    patient = subject(mlp(OURS))
    rate = tune(patient, lambda: cycle([patient.batch]), 30)

    def loss(lr):
        with rehearsal(patient, 0) as copy:
            losses = train(adam(copy, lr), cycle([patient.batch]), 30).losses
        return losses[-1]

    assert loss(rate) < loss(rate / 10)
    assert loss(rate) < loss(10 * rate)


# What a few steps do not tell ---------------------------------------------------------------------------------------


def test_a_network_that_knows_nothing_loses_nothing_where_its_answers_are_dealt_out_and_a_trained_one_does():
    patient = subject(mlp(OURS))
    fresh = on_batch(patient, steps=1)
    assert fresh.level == pytest.approx(fresh.losses[0], rel=0.05)
    for _ in range(120):
        patient.step()
    trained = on_batch(patient, steps=1)
    assert trained.losses[0] < 0.2 * fresh.losses[0]
    assert trained.level == trained.chance > fresh.losses[0]


def test_dealt_out_targets_are_nobodys_own():
    seen = []

    def loss(output, target):
        seen.append(np.asarray(target))
        return (output * 0).sum()

    patient = subject_of(mlp(OURS), loss, (X[:9], np.arange(9)))
    dealt_losses(patient, deals=5)
    assert len(seen) == 5
    for targets in seen:
        assert sorted(targets) == list(range(9))
        assert not np.any(targets == np.arange(9))


def test_steps_that_are_too_long_do_better_ten_times_shorter():
    trial = on_batch(subject(mlp(OURS), rate=3.0), steps=40, tuned=True)
    assert 2 * trial.slower < trial.mean


def test_steps_that_are_too_short_are_followed_four_times_as_long():
    trial = on_batch(subject(mlp(OURS), rate=5e-4), steps=40, tuned=True)
    assert trial.best < 0.1 * trial.level
    assert 0.5 * trial.level < trial.longer < trial.end
    assert trial.slower > 0.9 * trial.mean


def test_a_healthy_run_is_not_looked_into_any_further():
    trial = on_batch(subject(mlp(OURS)), steps=60, tuned=True)
    assert (trial.longer, trial.slower, trial.lowest) == (None, None, None)
    assert trial.learned < 0.1


def test_what_cannot_be_learned_by_heart_leaves_answers_that_fit_anybody():
    model = mlp(OURS)
    inputs = np.zeros_like(X[:64])
    patient = subject_of(
        model, nn.functional.cross_entropy, (inputs, Y[:64]), optimizer=optim.SGD(model.parameters(), lr=0.05)
    )
    trial = on_batch(patient, steps=50, tuned=True)
    assert trial.learned == pytest.approx(1, abs=0.05)
    assert trial.lowest > 0.9 * trial.level


def test_shuffled_labels_are_no_better_than_luck_and_true_ones_far_beyond_it():
    shuffled = np.random.default_rng(0).permutation(Y)
    true, false = (on_data(subject(mlp(OURS), data=(X, labels))) for labels in (Y, shuffled))
    assert true.beyond_chance > 10
    assert abs(false.beyond_chance) < 4


def test_a_trial_raises_its_rate_as_the_warm_up_of_a_schedule_does():
    def warmed():
        model = mlp(OURS)
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        schedule = optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / 6, 1.0))
        return model, optimizer, schedule

    model, optimizer, _ = warmed()
    patient = subject_of(model, nn.functional.cross_entropy, (X[:64], Y[:64]), optimizer=optimizer)
    trial = on_batch(patient, steps=12, tuned=True)
    model, optimizer, schedule = warmed()
    losses = []
    for _ in range(13):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(X[:64]), Y[:64])
        loss.backward()
        losses.append(float(loss.detach()))
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(trial.losses, losses, rtol=1e-5)
    assert "rise" not in patient.optimizer.param_groups[0]


@pytest.mark.parametrize("scheduled", [True, False])
def test_rates_with_a_schedule_fall_to_a_tenth_and_others_stay(scheduled):
    patient = subject(mlp(OURS)).copy()
    if scheduled:
        optim.lr_scheduler.LambdaLR(patient.optimizer, lambda step: 1.0)
    rates = []
    for _ in range(12):
        train(falling(patient, 10) if not rates else patient, cycle([patient.batch]), 1)
        rates.append(patient.optimizer.param_groups[0]["lr"])
    steps = np.minimum(np.arange(1, 13), 10)
    np.testing.assert_allclose(rates, 0.05 * (0.55 + 0.45 * np.cos(np.pi * steps / 10)) if scheduled else 0.05)
