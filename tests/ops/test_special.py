"""Special functions: values against SciPy, derivatives against central differences, and the edges of each."""

import math

import array_api_strict
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes
from numpy.testing import assert_allclose, assert_array_equal

import chainrule as cr
from chainrule.ops import special

FEW = settings(max_examples=max(2, settings.default.max_examples // 6))
SEEDS = st.integers(0, 2**32 - 1)

# name: where the function is smooth, between these bounds
UNARY = {
    "erf": (-3, 3),
    "erfc": (-3, 3),
    "erfinv": (-0.9, 0.9),
    "ndtr": (-3, 3),
    "ndtri": (0.05, 0.95),
    "log_ndtr": (-20, 5),
    "expit": (-8, 8),
    "log_expit": (-8, 8),
    "logit": (0.05, 0.95),
    "digamma": (0.3, 5),
    "gammaln": (0.3, 5),
    "gamma": (0.3, 4),
    "entr": (0.1, 3),
    "j0": (-5, 5),
    "j1": (-5, 5),
    "i0": (-3, 3),
    "i1": (-3, 3),
    "i0e": (0.1, 4),
    "i1e": (-4, -0.1),
    "sinc": (-3, 3),
}
BINARY = {
    "betaln": (0.3, 3),
    "beta": (0.3, 3),
    "xlogy": (0.2, 3),
    "xlog1py": (0.2, 3),
    "rel_entr": (0.2, 3),
    "kl_div": (0.2, 3),
}
BESSEL = ["jv", "iv", "ive"]


@pytest.mark.parametrize("name", UNARY)
@FEW
@given(seed=SEEDS)
def test_functions_of_one_variable_differentiate_twice_in_both_modes(name, seed):
    x = np.random.default_rng(seed).uniform(*UNARY[name], (2, 2))
    cr.check_grads(getattr(special, name), (x,), order=2)


@pytest.mark.parametrize("name", BINARY)
@FEW
@given(shapes=mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=2), seed=SEEDS)
def test_functions_of_two_variables_differentiate_twice_and_broadcast(name, shapes, seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.uniform(*BINARY[name], shape) for shape in shapes.input_shapes)
    cr.check_grads(getattr(special, name), (a, b), order=2)


@pytest.mark.parametrize("name", BESSEL)
@FEW
@given(order=st.sampled_from([0, 1, 2, 2.5, -1]), seed=SEEDS)
def test_bessel_functions_of_any_order_differentiate_twice(name, order, seed):
    x = np.random.default_rng(seed).uniform(0.3, 4, 3)
    cr.check_grads(lambda x: getattr(special, name)(order, x), (x,), order=2)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_polygamma_is_scipys_and_differentiates_twice(order):
    x = np.array([0.4, 1.0, 3.5, 11.0, -0.5, -1.3])
    assert_allclose(special.polygamma(order, x).numpy(), scipy.special.polygamma(order, x), rtol=1e-13)
    cr.check_grads(lambda x: special.polygamma(order, x), (x[:3],), order=2)


@pytest.mark.parametrize("name", ["expit", "gammaln", "xlogy", "iv"])
def test_the_tape_gives_the_same_second_derivative_as_nested_grad(name):
    def f(x):
        return getattr(special, name)(2.0, x) if name in ("xlogy", "iv") else getattr(special, name)(x)

    t = cr.tensor(0.7, requires_grad=True)
    f(t).backward(create_graph=True)
    first, t.grad = t.grad, None
    first.backward()
    assert_allclose(t.grad.item(), cr.grad(cr.grad(f))(0.7), rtol=1e-12)


# Values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [*UNARY, *BINARY, *BESSEL])
def test_values_are_scipys_in_the_dtype_given_and_so_are_gradients(name, dtype):
    low, high = UNARY.get(name) or BINARY.get(name) or (0.3, 3)
    x = np.linspace(low, high, 7, dtype=dtype)
    before = [1.5] if name in BESSEL else [x[::-1].copy()] if name in BINARY else []
    t = cr.tensor(x, requires_grad=True)
    y = getattr(special, name)(*before, t)
    y.sum().backward()
    assert y.dtype == t.grad.dtype == dtype
    expected = getattr(scipy.special, name)(*before, x)
    assert_allclose(y.detach().numpy(), expected, rtol=2e-6 if dtype == np.float32 else 1e-14, atol=1e-30)


@pytest.mark.parametrize("name", [*UNARY, *BINARY, *BESSEL])
def test_the_same_rules_run_on_another_array_library(name):
    low, high = UNARY.get(name) or BINARY.get(name) or (0.3, 3)
    x = np.linspace(low, high, 5)

    def value_and_gradient(library):
        t = cr.tensor(library.asarray(x), requires_grad=True)
        y = getattr(special, name)(*[0.5] * (name in BINARY) + [1] * (name in BESSEL), t)
        y.sum().backward()
        return np.from_dlpack(y.data), np.from_dlpack(t.grad.data)

    for theirs, ours in zip(value_and_gradient(array_api_strict), value_and_gradient(np), strict=True):
        assert_allclose(theirs, ours, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_])
def test_integers_and_booleans_give_floats(dtype):
    x = np.array([0, 1, 1], dtype=dtype)
    assert_allclose(special.sigmoid(x).numpy(), scipy.special.expit(x.astype(float)), rtol=1e-15)
    assert_allclose(special.erf(x).numpy(), scipy.special.erf(x.astype(float)), rtol=1e-6)


@pytest.mark.parametrize("ufunc", special.SCIPY_UFUNCS)
def test_every_ufunc_of_the_table_is_the_function_it_stands_for(ufunc):
    arguments = (np.array([0.2, 0.4, 0.7]),) * ufunc.nin
    assert_allclose(special.SCIPY_UFUNCS[ufunc](*arguments).numpy(), ufunc(*arguments), rtol=1e-14)


# Edges ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_neither_overflows_nor_loses_its_small_tail(dtype):
    x = np.array([-1e4, -80.0, -20.0, 0.0, 20.0, 1e4], dtype=dtype)
    assert_allclose(special.sigmoid(x).numpy(), scipy.special.expit(x), rtol=2e-7 if dtype == np.float32 else 1e-15)
    strict = special.sigmoid(array_api_strict.asarray(x))
    assert_allclose(np.from_dlpack(strict.data), scipy.special.expit(x), rtol=2e-6 if dtype == np.float32 else 1e-15)


def test_xlogy_and_the_entropies_do_not_depend_on_the_second_argument_where_the_first_is_zero():
    for b in (0.0, 2.0):
        assert cr.grad(special.xlogy, 1)(0.0, b) == 0
        assert cr.grad(special.xlog1py, 1)(0.0, b - 1) == 0
        assert cr.grad(special.rel_entr, 1)(0.0, b) == 0
        assert cr.grad(special.kl_div, 1)(0.0, b) == 1


def test_at_zero_xlogy_still_has_its_derivative_with_respect_to_the_first_argument():
    assert_allclose(cr.grad(special.xlogy)(0.0, 2.0), math.log(2), rtol=1e-15)
    mixed = cr.grad(lambda a: cr.grad(special.xlogy, 1)(a, 4.0))(0.0)
    assert mixed == 0.25


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_derivatives_that_are_infinite_come_out_infinite():
    assert cr.grad(special.entr)(0.0) == math.inf
    assert cr.grad(special.xlogy)(0.0, 0.0) == -math.inf


def test_log_ndtr_has_its_derivatives_however_far_in_the_tail():
    for x in (-1e3, -1e5, -1e10, -1e100):
        exact = -x - 1 / x + 2 / x**3  # Mills' ratio
        assert_allclose(cr.grad(special.log_ndtr)(x), exact, rtol=1e-12)
        assert_allclose(cr.grad(cr.grad(special.log_ndtr))(x), -1 + 1 / x**2, rtol=1e-9)
    for x in (40.0, 1e3, 1e200):
        assert cr.grad(special.log_ndtr)(x) == cr.grad(cr.grad(special.log_ndtr))(x) == 0


@pytest.mark.parametrize("x", [-199.9, -200.1, -250.0])
def test_the_second_derivative_of_log_ndtr_is_the_same_on_both_sides_of_its_change_of_formula(x):
    missing = 1 / x**2 - 3 / x**4 + 15 / x**6 - 105 / x**8
    hazard = -x / (1 - missing)  # φ(x)/Φ(x), DLMF 7.12.1
    exact = hazard * x * missing / (1 - missing)
    assert_allclose(cr.grad(cr.grad(special.log_ndtr))(x), exact, rtol=1e-10)


@pytest.mark.parametrize(
    "name, first, second",
    [
        ("sinc", 0, -(math.pi**2) / 3),
        ("j0", 0, -0.5),
        ("j1", 0.5, 0),
        ("i0", 0, 0.5),
        ("i1", 0.5, 0),
    ],
)
def test_derivatives_at_zero_are_the_limits_their_series_give(name, first, second):
    f = getattr(special, name)
    assert_allclose([cr.grad(f)(0.0), cr.grad(cr.grad(f))(0.0)], [first, second], rtol=1e-15, atol=1e-15)


def test_the_fourth_derivative_of_sinc_at_zero_is_that_of_its_series():
    fourth = special.sinc
    for _ in range(4):
        fourth = cr.grad(fourth)
    assert_allclose(fourth(0.0), math.pi**4 / 5, rtol=1e-13)


def test_sinc_keeps_its_accuracy_near_zero():
    assert_allclose(cr.grad(special.sinc)(1e-9), -(math.pi**2) / 3 * 1e-9, rtol=1e-12)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_gamma_functions_of_negative_numbers_differentiate():
    x = np.array([-0.5, -1.3, -2.7])
    for name in ("gamma", "gammaln", "digamma"):
        cr.check_grads(getattr(special, name), (x,), order=2)


# Errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n, error", [(1.5, TypeError), (np.array([1, 2]), TypeError), (-1, ValueError)])
def test_polygamma_refuses_an_order_that_is_not_a_single_natural_number(n, error):
    with pytest.raises(error, match="polygamma: the order n must"):
        special.polygamma(n, 2.0)


def test_the_order_of_a_bessel_function_has_no_gradient():
    with pytest.raises(cr.GradientError, match="jv: there is no derivative with respect to 'v'"):
        cr.grad(special.jv)(1.0, 2.0)


def test_the_gradient_of_a_bessel_function_takes_its_orders_from_an_array():
    g = cr.jacobian(lambda x: special.jv(np.array([0, 1, 2]), x))(1.2)
    assert_array_equal(g[0], cr.grad(lambda x: special.jv(0, x))(1.2))
    assert_allclose(g, scipy.special.jvp([0, 1, 2], 1.2), rtol=1e-14)
