"""A monitor sees what happens in a training loop, and changes nothing of it."""

import contextlib
import copy
import itertools
import math
import warnings

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core import state
from chainrule.doctor import DoctorError, DoctorWarning, statistics

F = nn.functional
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(32, 6)).astype(np.float32), RNG.integers(0, 3, 32)


def made(*between, optimizer=cr.optim.Adam, **options):
    nn.random.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), *between, nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))
    return model, optimizer(model.parameters(), **options)


def stepper(model, optimizer, clip=None):
    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if clip is not None:
            cr.optim.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        return loss

    return step


def trained(watch, compiled, steps=100):
    model, optimizer = made(nn.BatchNorm1d(16))
    step = stepper(model, optimizer)
    step = cr.compile(step) if compiled else step
    if not watch:
        for _ in range(steps):
            step(X, Y)
        return model, None
    with cr.monitor(model, optimizer=optimizer, every=7, overhead=math.inf) as monitor:
        for _ in range(steps):
            step(X, Y)
    return model, monitor


def test_gradients_of_successive_steps_are_compared_at_eight_looks_and_at_every_fourth_later():
    model, optimizer = made()
    step = stepper(model, optimizer)
    with cr.monitor(model, optimizer=optimizer, every=2, warn=False) as monitor:
        for _ in range(36):
            step(X, Y)
    compared = [look for look, sample in enumerate(monitor.history, 1) if sample.noise is not None]
    assert compared == [*range(1, 9), 12, 16]


@pytest.mark.parametrize("compiled", [False, True])
def test_weights_after_100_steps_are_equal_bit_for_bit_with_and_without_it(compiled):
    alone, _ = trained(False, compiled)
    random = nn.random.get_rng_state()
    watched, monitor = trained(True, compiled)
    assert nn.random.get_rng_state() == random
    for own, other in zip(
        [*alone.parameters(), *alone.buffers()], [*watched.parameters(), *watched.buffers()], strict=True
    ):
        np.testing.assert_array_equal(own.detach().numpy(), other.detach().numpy())
    assert [sample.step for sample in monitor.history] == list(range(0, 100, 7))
    assert monitor.step == 100
    assert all(layer.error_signal > 0 for sample in monitor.history for layer in sample.layers)
    assert all(layer.update_ratio > 0 for sample in monitor.history for layer in sample.layers)


@pytest.mark.parametrize("compiled", [False, True])
def test_only_rehearsals_of_compiled_steps_are_left_out_where_they_take_too_long(compiled, monkeypatch):
    seconds = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: next(seconds))  # each look at it takes a second
    model, optimizer = made()
    step = cr.compile(stepper(model, optimizer)) if compiled else stepper(model, optimizer)
    with cr.monitor(model, optimizer=optimizer, every=2, overhead=0.1) as monitor:
        for _ in range(100):
            step(X, Y)
            sum(next(seconds) > 0 for _ in range(10))  # and each step ten
    assert monitor.step == 100
    looked_at = [sample.step for sample in monitor.history]
    if compiled:
        between = np.diff(looked_at)
        assert looked_at[0] == 0
        assert (between % 2 == 0).all()
        assert len(between) > 10
        assert 4 in between
        assert monitor._spent <= 0.1 * next(seconds)
    else:
        assert looked_at == list(range(0, 100, 2))


def test_a_step_that_could_not_be_compiled_is_looked_at_as_it_is():
    model, optimizer = made()
    step = stepper(model, optimizer)

    compiled = cr.compile(step, limit=1)
    compiled(X, Y)
    with pytest.warns(RuntimeWarning, match="runs uncompiled"):
        compiled(X[:9], Y[:9])
    with cr.monitor(model, optimizer=optimizer, every=2) as monitor:
        for _ in range(5):
            compiled(X, Y)
    assert monitor.step == 5
    assert [sample.step for sample in monitor.history] == [0, 2, 4]


def test_a_monitor_that_is_entered_again_goes_on():
    model, optimizer = made()
    step, monitor = stepper(model, optimizer), cr.monitor(model, optimizer=optimizer, every=2)
    for _ in range(3):
        with monitor:
            step(X, Y)
        step(X, Y)
    assert monitor.step == 3
    assert [sample.step for sample in monitor.history] == [0, 2]


def test_losses_and_gradient_norms_are_those_of_the_loop():
    model, optimizer = made()
    step = stepper(model, optimizer)
    losses = []
    with cr.monitor(model, optimizer=optimizer, every=3) as monitor:
        for _ in range(7):
            losses.append(step(X, Y).item())
    assert monitor.losses == losses
    assert [sample.loss for sample in monitor.history] == losses[::3]
    size = np.sqrt(sum(np.sum(p.grad.numpy() ** 2) for p in model.parameters()))
    assert monitor.history[-1].gradient_norm == pytest.approx(size, rel=1e-5)


def test_without_an_optimizer_a_step_is_a_backward_pass():
    model, _ = made()
    with cr.monitor(model, every=3) as monitor:
        for _ in range(7):
            model.zero_grad()
            F.cross_entropy(model(X), Y).backward()
    assert monitor.step == 7
    assert [sample.step for sample in monitor.history] == [0, 3, 6]
    assert [sample.loss for sample in monitor.history] == monitor.losses[::3]


def test_nothing_of_it_is_left_when_the_loop_fails():
    model, optimizer = made()
    step = stepper(model, optimizer)
    backward = cr.Tensor.backward
    monitor = cr.monitor(model, optimizer=optimizer, every=1)
    with pytest.raises(ValueError, match="linear"), monitor:
        step(X[:, :5], Y)
    assert cr.Tensor.backward is backward
    assert not state.compiled_watchers
    assert not state.call_watchers
    assert state.watcher.get() is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not optimizer._step_pre_hooks
    assert not optimizer._step_post_hooks


def test_steps_that_were_clipped_are_known():
    model, optimizer = made()
    with cr.monitor(model, optimizer=optimizer, every=1, warn=False) as monitor:
        for _ in range(3):
            stepper(model, optimizer, clip=1e-3)(X, Y)
        stepper(model, optimizer, clip=1e3)(X, Y)
    assert [sample.clipped for sample in monitor.history] == [True, True, True, False]


def test_clipping_is_known_where_no_sample_of_the_longest_gradient_tells_of_it():
    nn.random.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5000, 4))
    optimizer = cr.optim.SGD(model.parameters(), lr=0.1)
    with cr.monitor(model, optimizer=optimizer, every=1, warn=False) as monitor:
        for clip in (1e-3, 1e3):
            optimizer.zero_grad()
            model(np.array([1])).sum().backward()  # one row of 5000
            cr.optim.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
    assert [sample.clipped for sample in monitor.history] == [True, False]


def test_validation_in_between_is_not_taken_for_a_step():
    model, optimizer = made()
    step = stepper(model, optimizer)
    with cr.monitor(model, optimizer=optimizer, every=1) as monitor:
        for _ in range(2):
            with cr.no_grad():
                model.eval()(X)
            model.train()
            step(X, Y)
    assert monitor.step == len(monitor.history) == 2


def test_what_turns_bad_is_told_once_when_it_does():
    model, optimizer = made()
    step = stepper(model, optimizer)
    seen = []

    def watched():
        with cr.monitor(model, optimizer=optimizer, every=1, on_finding=lambda f, n: seen.append((f.code, n))) as m:
            for number in range(5):
                if number == 2:
                    model[0].bias.data = np.full(16, -50, np.float32)
                step(X, Y)
        return m

    with pytest.warns(DoctorWarning, match=r"step 2: dying-relu in 0") as caught:
        monitor = watched()
    assert [str(w.message)[:18] for w in caught if "dying" in str(w.message)] == ["step 2: dying-relu"]
    assert ("dying-relu", 2) in seen
    report = monitor.report()
    assert not report.healthy
    assert len(report.history) == 5


def test_a_healthy_loop_is_left_in_peace():
    model, optimizer = made()
    step = stepper(model, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with cr.monitor(model, optimizer=optimizer, every=2) as monitor:
            for _ in range(20):
                step(X, Y)
    assert monitor.report().healthy


def test_a_monitor_that_saw_nothing_says_what_it_needs():
    model, optimizer = made()
    with cr.monitor(model, optimizer=optimizer) as monitor:
        pass
    with pytest.raises(DoctorError, match="saw no step: call the model in training mode"):
        monitor.report()
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        cr.monitor(model, every=0)


def test_two_monitors_at_once_see_the_same():
    model, optimizer = made()
    step = stepper(model, optimizer)
    with cr.monitor(model, optimizer=optimizer, every=2) as one, cr.monitor(model, optimizer=optimizer, every=1) as two:
        for _ in range(4):
            step(X, Y)
    assert (len(one.history), len(two.history)) == (2, 4)
    assert one.history[1].gradient_norm == two.history[2].gradient_norm


def test_of_two_monitors_the_first_to_come_may_be_the_first_to_leave():
    model, optimizer = made()
    step = stepper(model, optimizer)
    backward = cr.Tensor.backward
    one, two = (cr.monitor(model, optimizer=optimizer, every=1) for _ in range(2))
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        first.enter_context(one)
        second.enter_context(two)
        step(X, Y)
        first.close()
        step(X, Y)
    assert (len(one.history), len(two.history)) == (1, 2)
    assert cr.Tensor.backward is backward
    assert not state.call_watchers


def test_a_compiled_step_need_not_look_again_at_what_it_was_compiled_for_after_a_look():
    model, optimizer = made()
    step = cr.compile(stepper(model, optimizer))
    with cr.monitor(model, optimizer=optimizer, every=2, overhead=math.inf) as monitor:
        step(X, Y)
        before = state.structure[0]
        for _ in range(5):
            step(X, Y)
        assert state.structure[0] == before
    assert len(monitor.history) == 3


def test_of_small_arrays_a_look_tells_what_numpy_tells():
    model, optimizer = made()
    with cr.monitor(model, optimizer=optimizer, every=1) as monitor:
        stepper(model, optimizer)(X, Y)
    seen = monitor.examination
    assert seen is not None
    first = seen.layers[0]
    before = made()[0]
    output = X @ before[0].weight.detach().numpy().T + before[0].bias.detach().numpy()
    assert first.output.mean == pytest.approx(output.mean(), rel=1e-4)
    assert first.output.std == pytest.approx(output.std(), rel=1e-4)
    assert first.output.smallest == pytest.approx(output.min(), rel=1e-4)
    assert first.input.largest == X.max()
    assert seen.activations[0].output.zeros == pytest.approx((output <= 0).mean(), abs=1e-6)
    moved = model[0].weight.detach().numpy() - before[0].weight.detach().numpy()
    size = np.linalg.norm(before[0].weight.detach().numpy())
    assert first.update_ratio == pytest.approx(np.linalg.norm(moved) / size, rel=1e-4)


def test_two_monitors_of_a_compiled_step_do_not_take_each_others_rehearsals_for_steps():
    model, optimizer = made()
    step = cr.compile(stepper(model, optimizer))
    every = {"optimizer": optimizer, "overhead": math.inf}
    with cr.monitor(model, every=2, **every) as one, cr.monitor(model, every=1, **every) as two:
        for _ in range(4):
            step(X, Y)
    assert (one.step, two.step) == (4, 4)
    assert (len(one.history), len(two.history)) == (2, 4)
    assert one.history[1].gradient_norm == pytest.approx(two.history[2].gradient_norm, rel=0.5)  # other dropout


def test_a_monitored_model_can_be_copied():
    model, optimizer = made()
    with cr.monitor(model, optimizer=optimizer, every=1):
        stepper(model, optimizer)(X, Y)
        copy.deepcopy((model, optimizer))


def test_samples_together_say_of_each_what_is_said_of_it_alone():
    draw = np.random.default_rng(1).normal
    odd = draw(size=40)
    odd[3:6] = np.inf, -np.inf, np.nan
    large = (1e200 * draw(size=30), (1e37 * draw(size=30)).astype(np.float32))
    arrays = [draw(size=(7, 5)), np.full(9, 0.1), odd, np.maximum(draw(size=50), 0), 1e3 + draw(size=20), *large]
    for given in (arrays, [*arrays, np.zeros(0)]):
        together = statistics.Samples.of(given, None)
        for found, array in zip(together.spreads(), given, strict=True):
            alone = statistics.spread(array)
            assert vars(found) == pytest.approx(vars(alone), rel=1e-6, abs=1e-12, nan_ok=True)
        assert together.zeros() == [statistics.zeros(array) for array in given]
    finite = [*arrays[:2], *arrays[3:5]]
    doubled = statistics.Samples.of([2 * array for array in finite], None)
    alone = [np.linalg.norm(array.astype(float)) for array in finite]
    assert statistics.Samples.of(finite, None).distances(doubled) == pytest.approx(alone)
    assert doubled.norms() == pytest.approx([2 * size for size in alone])
