"""Transforms nest in any order and never mix their perturbations."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr


def reverse(f):
    return cr.grad(f)


def forward(f):
    return lambda x: cr.jvp(f, (x,), (1.0,))[1]


def through_vjp(f):
    return lambda x: cr.vjp(f, x)[1](1.0)[0]


MODES = {"reverse": reverse, "forward": forward, "vjp": through_vjp}


@pytest.mark.parametrize("modes", list(itertools.product(MODES, repeat=3)), ids="-".join)
def test_every_order_of_nesting_gives_the_third_derivative(modes):
    f = lambda x: np.sin(x) * np.exp(2 * x) + x**3
    for mode in modes:
        f = MODES[mode](f)
    x = 0.7
    expected = math.exp(2 * x) * (2 * math.sin(x) + 11 * math.cos(x)) + 6
    assert float(f(x)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("outer", "inner"), list(itertools.product(MODES, repeat=2)))
def test_an_inner_derivative_holds_the_outer_variable_constant(outer, inner):
    f = lambda x: x * MODES[inner](lambda y: x + y)(1.0)
    assert float(MODES[outer](f)(1.0)) == 1


@pytest.mark.parametrize(("outer", "inner"), list(itertools.product(MODES, repeat=2)))
def test_an_inner_derivative_at_the_outer_variable_depends_on_it(outer, inner):
    f = lambda x: x * MODES[inner](lambda y: x * y * y)(x)
    assert float(MODES[outer](f)(3.0)) == pytest.approx(54, rel=1e-14)


@given(st.lists(st.sampled_from(sorted(MODES)), min_size=1, max_size=4), st.floats(-2, 2))
def test_any_stack_of_modes_differentiates_a_polynomial(modes, x):
    f = lambda x: x**5 - 2 * x**3 + x
    coefficients = np.polynomial.Polynomial([0, 1, 0, -2, 0, 1])
    for mode in modes:
        f = MODES[mode](f)
        coefficients = coefficients.deriv()
    assert float(f(x)) == pytest.approx(coefficients(x), rel=1e-9, abs=1e-9)


def test_a_functional_gradient_of_a_recorded_tensor_is_recorded():
    t = cr.tensor([1.0, 2.0], requires_grad=True)
    g = cr.grad(lambda x: (x**3).sum())(t)
    assert g.requires_grad
    g.sum().backward()
    assert t.grad.tolist() == [6, 12]


def test_a_functional_gradient_closes_over_recorded_tensors():
    w = cr.tensor(3.0, requires_grad=True)
    g = cr.grad(lambda x: w * x * x)(2.0)  # 2wx
    assert g.item() == 12
    g.backward()
    assert w.grad.item() == 4


def test_no_grad_outside_does_not_stop_a_functional_gradient():
    with cr.no_grad():
        assert cr.grad(lambda x: x * x)(3.0) == 6


@pytest.mark.parametrize("mode", sorted(MODES))
def test_no_grad_inside_makes_constants_in_every_mode(mode):
    def f(x):
        with cr.no_grad():
            c = x * 10
        return c * x

    assert float(MODES[mode](f)(3.0)) == 30


@pytest.mark.parametrize("mode", sorted(MODES))
def test_detach_makes_constants_in_every_mode(mode):
    assert float(MODES[mode](lambda x: x.detach() * x)(3.0)) == 3


def test_backward_inside_a_differentiated_function_stays_apart():
    def f(x):
        t = cr.tensor(2.0, requires_grad=True)
        (t * t * 3).backward()
        return x * t.grad.item()

    assert cr.grad(f)(1.0) == 12


def test_hessian_vector_product_is_the_hessian_times_the_vector():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((5, 5))
    x, v = rng.standard_normal(5), rng.standard_normal(5)

    def f(x):
        return np.tanh(A @ x).sum() ** 2 + np.exp(x * 0.1) @ x

    H = cr.hessian(f)(x)
    np.testing.assert_allclose(H, H.T, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(cr.hvp(f, x, v), H @ v, rtol=1e-10)
    np.testing.assert_allclose(cr.hvp(f, (x,), (v,)), H @ v, rtol=1e-10)
    np.testing.assert_allclose(cr.jacobian(cr.grad(f), mode="reverse")(x), H, rtol=1e-10, atol=1e-12)
