"""The first call of a large step: recorded by its shapes alone, and computed by the program that is made of it."""

import importlib
import tracemalloc

import numpy as np
import pytest
from tests.compile.twins import SetUp, as_array, assert_trains_alike, batches

import chainrule as cr
from chainrule import nn, optim
from chainrule.compile import TraceError
from chainrule.nn import functional as F


@pytest.fixture
def everything_is_large(monkeypatch):
    monkeypatch.setattr(importlib.import_module("chainrule.compile.recording"), "_LARGE", 0)


def network_with(make_optimizer, *, sets_to_none=True):
    def make():
        model = nn.Sequential(
            nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 3)
        )
        model.to(np.float64)
        optimizer = make_optimizer(model.parameters())

        def step(x, y):
            optimizer.zero_grad(set_to_none=sets_to_none)
            loss = F.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return SetUp(step, model, optimizer)

    return make


OPTIMIZERS = {
    "SGD": lambda parameters: optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9),
    "Adam": lambda parameters: optim.Adam(parameters, lr=0.01),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_first_call_that_the_program_makes_leaves_losses_parameters_state_and_draws_as_eager_code(
    optimizer, everything_is_large
):
    assert_trains_alike(network_with(OPTIMIZERS[optimizer]), batches())


def test_the_first_call_of_a_large_step_takes_no_memory_for_what_lies_between():
    x = np.linspace(0.0, 1.0, 1 << 20)

    def chain(x):
        for _ in range(8):
            x = np.sin(x) + x
        return x.sum()

    slope = cr.grad(chain)
    expected = slope(x)
    compiled = cr.compile(cr.grad(chain), strict=True)
    compiled(x[:8])  # what is loaded and compiled once
    tracemalloc.start()
    found = compiled(x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert peak < 6 * x.nbytes  # a tape of 16 values and more is kept by eager code


def test_a_step_that_makes_its_state_in_its_first_call_is_recorded_with_values(everything_is_large):
    state = {}

    def step(x):
        state["mean"] = 0.5 * (state["mean"] + x) if "mean" in state else x * 1.0
        return (x - state["mean"]).sum()

    compiled = cr.compile(step, strict=True)
    found = [float(compiled(np.full(3, i))) for i in (1.0, 2.0, 4.0)]
    state.clear()
    assert found == [float(step(np.full(3, i))) for i in (1.0, 2.0, 4.0)]


def test_a_mistake_in_a_large_step_is_told_as_by_eager_code_and_leaves_everything_as_it_was(everything_is_large):
    w = cr.tensor(np.ones((3, 4)), requires_grad=True)

    @cr.compile
    def step(x):
        loss = (x @ w).sum()
        loss.backward()
        return loss

    with pytest.raises(ValueError, match="matmul"):
        step(np.ones((2, 5)))
    assert w.grad is None
    assert type(w._value) is np.ndarray
    assert step(np.ones((2, 3))).item() == 24.0


def test_an_index_out_of_range_in_a_first_call_raises_as_in_eager_code(everything_is_large):
    x = np.arange(4.0)
    picked = cr.compile(lambda x, at: cr.tensor(x)[at].sum())
    with pytest.raises(IndexError):
        picked(x, np.array([1, 4]))
    assert picked(x, np.array([1, 3])).item() == 4.0


def test_a_refused_large_step_has_drawn_nothing_and_changed_nothing(everything_is_large):
    w = cr.tensor(np.ones(3), requires_grad=True)
    dropout = nn.Dropout(0.5)

    @cr.compile
    def step(x):
        loss = dropout(w * x).sum()
        loss.backward()
        return loss if loss > 0 else -loss

    before = nn.random.get_rng_state()
    with pytest.raises(TraceError, match="bool"):
        step(np.ones(3))
    assert nn.random.get_rng_state() == before
    assert w.grad is None
    assert type(w._value) is np.ndarray


def test_the_second_call_of_a_large_step_runs_the_program_of_the_first(everything_is_large):
    w = cr.tensor(np.ones(3), requires_grad=True)

    @cr.compile
    def step(x):
        loss = (w * x).sum()
        loss.backward()
        return loss

    step(np.ones(3))
    (first,) = step.variants
    w.grad = None
    step(np.ones(3))
    assert step.variants == [first]


def test_what_a_large_step_hands_out_is_not_written_over_by_the_next(everything_is_large):
    w = cr.tensor(np.ones(3))

    @cr.compile
    def step(x):
        w.data = w * x
        return w * 1.0

    before = w._value
    first = step(np.full(3, 2.0))
    step(np.full(3, 2.0))
    np.testing.assert_array_equal(before, np.ones(3))
    np.testing.assert_array_equal(as_array(first), np.full(3, 2.0))
    np.testing.assert_array_equal(as_array(w), np.full(3, 4.0))
