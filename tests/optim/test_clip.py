"""Clipping shortens gradients without turning them, and norms are right at any size."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule import nn, optim


def with_gradients(*gradients, dtype=np.float64):
    made = []
    for g in gradients:
        parameter = nn.Parameter(np.zeros(np.shape(g), dtype))
        parameter.grad = np.asarray(g, dtype)
        made.append(parameter)
    return made


def test_a_norm_above_the_limit_is_brought_to_it_over_all_parameters_together():
    a, b = with_gradients([3.0, 0.0], [[4.0]])
    assert optim.clip_grad_norm_([a, b], 1.0) == 5
    np.testing.assert_allclose(a.grad.data, [0.6, 0], rtol=1e-6)
    np.testing.assert_allclose(b.grad.data, [[0.8]], rtol=1e-6)


def test_a_norm_below_the_limit_is_left_exactly_as_it_is():
    (a,) = with_gradients([3.0, 4.0])
    before = a.grad
    assert optim.clip_grad_norm_([a, nn.Parameter(1.0)], 5.1) == 5
    assert a.grad is before


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=6), st.floats(0.01, 100))
def test_the_clipped_gradient_points_the_same_way_and_is_no_longer_than_allowed(gradient, limit):
    (p,) = with_gradients(gradient)
    norm = optim.clip_grad_norm_([p], limit)
    np.testing.assert_allclose(p.grad.data, np.array(gradient) * min(1, limit / (norm + 1e-6)), rtol=1e-12)
    assert np.linalg.norm(p.grad.data) <= limit * (1 + 1e-12)


@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e-20, 1.0, 1e20, 1e30])
def test_the_norm_neither_underflows_nor_overflows_in_float32(size):
    parts = with_gradients([3 * size, 0], [4 * size], dtype=np.float32)
    expected = math.hypot(*(float(p.grad.data[0]) for p in parts))
    np.testing.assert_allclose(optim.get_total_norm([p.grad for p in parts]), expected, rtol=1e-6)


@pytest.mark.parametrize("p, expected", [(1, 3 + 4 + 12), (2, 13), (3, (27 + 64 + 1728) ** (1 / 3)), (math.inf, 12)])
def test_every_norm_is_that_of_all_elements_as_one_vector(p, expected):
    parts = [np.array([3.0, -4.0]), np.array([[12.0]]), np.zeros((0, 2)), None]
    np.testing.assert_allclose(optim.get_total_norm(parts, p), expected, rtol=1e-12)


@pytest.mark.parametrize("p", [1, 2, 3, math.inf])
def test_norms_of_nothing_of_zeros_and_of_what_is_not_finite(p):
    assert optim.get_total_norm([], p) == 0
    assert optim.get_total_norm([np.zeros(3), np.zeros(2)], p) == 0
    assert optim.get_total_norm([np.array([1.0, math.inf]), np.ones(1)], p) == math.inf
    assert math.isnan(optim.get_total_norm([np.array([1.0, math.nan]), np.ones(1)], p))


def test_a_norm_that_is_not_finite_is_an_error_if_wanted():
    (p,) = with_gradients([math.nan])
    with pytest.raises(RuntimeError, match="the norm of the gradients is nan"):
        optim.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    optim.clip_grad_norm_([p], 1.0)
    assert math.isnan(p.grad.item())


def test_clipping_by_value_cuts_every_element():
    (p,) = with_gradients([-3.0, 0.5, 7.0])
    optim.clip_grad_value_(p, 2.0)
    np.testing.assert_array_equal(p.grad.data, [-2, 0.5, 2])


def test_the_dtype_stays():
    (p,) = with_gradients([3.0, 4.0], dtype=np.float32)
    optim.clip_grad_norm_([p], 1.0)
    assert p.grad.dtype == np.float32
    optim.clip_grad_value_([p], 0.1)
    assert p.grad.dtype == np.float32


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: optim.clip_grad_norm_([], -1.0), "max_norm must not be negative"),
        (lambda: optim.clip_grad_norm_([], 1.0, norm_type=0), "norm_type must be positive"),
        (lambda: optim.clip_grad_value_([], -1.0), "clip_value must not be negative"),
    ],
)
def test_limits_out_of_range_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
