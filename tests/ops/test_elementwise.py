"""Elementwise operations: values against NumPy, derivatives against central differences and closed forms."""

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, mutually_broadcastable_shapes
from numpy.testing import assert_allclose, assert_array_equal
from other_libraries import assert_same_on

import chainrule as cr
from chainrule.ops import elementwise as ops

FEW = settings(max_examples=max(3, settings.default.max_examples // 3))

# name in `ops`: (the NumPy function, where the operation is smooth: between these bounds)
UNARY = {
    "negative": (np.negative, (-3, 3)),
    "positive": (np.positive, (-3, 3)),
    "reciprocal": (np.reciprocal, (0.3, 3)),
    "square": (np.square, (-3, 3)),
    "absolute": (np.abs, (0.1, 3)),
    "exp": (np.exp, (-2, 2)),
    "expm1": (np.expm1, (-2, 2)),
    "exp2": (np.exp2, (-2, 2)),
    "log": (np.log, (0.2, 3)),
    "log1p": (np.log1p, (-0.8, 3)),
    "log2": (np.log2, (0.2, 3)),
    "log10": (np.log10, (0.2, 3)),
    "sqrt": (np.sqrt, (0.2, 3)),
    "cbrt": (np.cbrt, (0.2, 3)),
    "sin": (np.sin, (-3, 3)),
    "cos": (np.cos, (-3, 3)),
    "tan": (np.tan, (-1.2, 1.2)),
    "asin": (np.asin, (-0.9, 0.9)),
    "acos": (np.acos, (-0.9, 0.9)),
    "atan": (np.atan, (-3, 3)),
    "sinh": (np.sinh, (-2, 2)),
    "cosh": (np.cosh, (-2, 2)),
    "tanh": (np.tanh, (-2, 2)),
    "asinh": (np.asinh, (-3, 3)),
    "acosh": (np.acosh, (1.2, 3)),
    "atanh": (np.atanh, (-0.8, 0.8)),
}
BINARY = {
    "add": (np.add, (-3, 3), (-3, 3)),
    "subtract": (np.subtract, (-3, 3), (-3, 3)),
    "multiply": (np.multiply, (-3, 3), (-3, 3)),
    "divide": (np.divide, (-3, 3), (0.3, 3)),
    "power": (np.power, (0.3, 2), (-2, 2)),
    "remainder": (np.remainder, (2.1, 2.9), (0.8, 1.0)),
    "logaddexp": (np.logaddexp, (-3, 3), (-3, 3)),
    "hypot": (np.hypot, (0.2, 3), (-3, 3)),
    "atan2": (np.atan2, (0.2, 3), (-3, 3)),
    "maximum": (np.maximum, (-3, 3), (-3, 3)),
    "minimum": (np.minimum, (-3, 3), (-3, 3)),
    "copysign": (np.copysign, (0.2, 3), (0.2, 3)),
}
FLAT = {
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "round": np.round,
}
COMPARISONS = {
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
}
SHAPES = array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
SEEDS = st.integers(0, 2**32 - 1)
DTYPES = st.sampled_from([np.float32, np.float64])


def points(seed, shape, bounds, dtype=np.float64):
    return np.asarray(np.random.default_rng(seed).uniform(*bounds, shape), dtype=dtype)


def gradients(function, *arrays, seed=None):
    """The value of `function`, and the gradients of its sum (weighted by `seed`), by one backward pass."""
    leaves = [cr.tensor(x, requires_grad=True) for x in arrays]
    y = function(*leaves)
    y.backward(np.ones(y.shape, dtype=np.asarray(y.detach()).dtype) if seed is None else seed)
    return y.detach(), [leaf.grad for leaf in leaves]


def derivative(function, x):
    return cr.grad(function)(float(x))


# Values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*UNARY, *FLAT])
@FEW
@given(shape=SHAPES, seed=SEEDS, dtype=DTYPES)
def test_the_value_and_dtype_of_a_function_of_one_array_are_numpys(name, shape, seed, dtype):
    oracle, bounds = UNARY.get(name) or (FLAT[name], (-3, 3))
    x = points(seed, shape, bounds, dtype)
    y = getattr(ops, name)(cr.tensor(x))
    assert_allclose(y.numpy(), oracle(x), rtol=1e-6 if dtype == np.float32 else 1e-14)
    assert y.dtype == dtype


@pytest.mark.parametrize("name", [*BINARY, *COMPARISONS, "floor_divide", "nextafter"])
@FEW
@given(shapes=mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3), seed=SEEDS)
def test_the_value_of_a_function_of_two_broadcast_arrays_is_numpys(name, shapes, seed):
    oracle, first, second = BINARY.get(name) or (getattr(np, name), (-3, 3), (0.3, 3))
    a = points(seed, shapes.input_shapes[0], first)
    b = points(seed + 1, shapes.input_shapes[1], second)
    for left, right in ((cr.tensor(a), cr.tensor(b)), (cr.tensor(a), b), (a, cr.tensor(b))):
        y = getattr(ops, name)(left, right)
        assert_allclose(y.numpy(), oracle(a, b), rtol=1e-14)
        assert y.shape == shapes.result_shape


@pytest.mark.parametrize("name", [*BINARY, "floor_divide"])
@pytest.mark.parametrize("scalar", [1, 1.0, True])
def test_a_python_number_beside_float32_stays_float32_in_value_and_gradient(name, scalar):
    x = np.linspace(1.25, 1.75, 5, dtype=np.float32)
    for function in (lambda t: getattr(ops, name)(t, scalar), lambda t: getattr(ops, name)(scalar, t)):
        y, (g,) = gradients(function, x)
        assert y.dtype == g.dtype == np.float32
        primal, tangent = cr.jvp(function, (x,), (np.ones_like(x),))
        assert primal.dtype == tangent.dtype == np.float32


@pytest.mark.parametrize("name", [*UNARY, *FLAT])
def test_float32_in_is_float32_out_in_value_gradient_and_tangent(name):
    bounds = UNARY[name][1] if name in UNARY else (-3, 3)
    x = points(0, (2, 3), bounds, np.float32)
    y, (g,) = gradients(getattr(ops, name), x)
    _, tangent = cr.jvp(getattr(ops, name), (x,), (np.ones_like(x),))
    assert y.dtype == g.dtype == tangent.dtype == np.float32


def test_the_gradient_of_a_float32_input_is_float32_where_the_other_input_is_float64():
    y, (g, h) = gradients(ops.multiply, np.ones(3, np.float32), np.ones(3, np.float64))
    assert (y.dtype, g.dtype, h.dtype) == (np.float64, np.float32, np.float64)


@given(x=st.floats(-10, 10), low=st.none() | st.floats(-5, 5), high=st.none() | st.floats(-5, 5))
def test_clip_gives_numpys_value_with_any_bounds(x, low, high):
    assert ops.clip(cr.tensor(x), low, high).item() == np.clip(x, low, high)


def test_round_takes_decimals_as_numpy_does():
    x = np.array([1.235, -2.5, 0.5, 1234.5])
    for decimals in (0, 1, 2, -2):
        assert_allclose(ops.round(cr.tensor(x), decimals).numpy(), np.round(x, decimals), rtol=1e-15)


# Derivatives ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", UNARY)
@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_first_and_second_derivatives_of_one_array_agree_with_central_differences(name, shape, seed):
    x = points(seed, shape, UNARY[name][1])
    cr.check_grads(getattr(ops, name), (x,), order=2, max_elements=6)


@pytest.mark.parametrize("name", BINARY)
@FEW
@given(shapes=mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3), seed=SEEDS)
def test_first_and_second_derivatives_of_two_broadcast_arrays_agree_with_central_differences(name, shapes, seed):
    _, first, second = BINARY[name]
    a = points(seed, shapes.input_shapes[0], first)
    b = points(seed + 1, shapes.input_shapes[1], second)
    cr.check_grads(getattr(ops, name), (a, b), order=2, max_elements=6)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("number", [1.0, 2, 0.5])
def test_derivatives_beside_a_python_number_agree_with_central_differences(name, number):
    x = np.array([0.31, 0.77, 1.29, 2.03])
    cr.check_grads(lambda t: getattr(ops, name)(t, number), (x,), order=2)
    cr.check_grads(lambda t: getattr(ops, name)(number, t), (x,), order=2)


@FEW
@given(shapes=mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3), seed=SEEDS)
def test_derivatives_of_where_agree_with_central_differences(shapes, seed):
    condition = points(seed, shapes.input_shapes[0], (-1, 1)) > 0
    a = points(seed, shapes.input_shapes[1], (-1, 1))
    b = points(seed + 1, shapes.input_shapes[2], (-1, 1))
    cr.check_grads(lambda a, b: ops.where(condition, a * a, b), (a, b), order=2, max_elements=6)


@pytest.mark.parametrize("name", FLAT)
def test_the_derivative_of_a_step_function_is_zero(name):
    _, (g,) = gradients(getattr(ops, name), np.array([-1.7, 0.2, 2.6]))
    assert_array_equal(g.numpy(), np.zeros(3))


# Closed forms where differences cannot go -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_at_a_tie_the_first_argument_takes_the_whole_gradient(name):
    x = np.array([1.0, -2.0, 0.0])
    _, (g, h) = gradients(getattr(ops, name), x, x)
    assert_array_equal(g.numpy(), np.ones(3))
    assert_array_equal(h.numpy(), np.zeros(3))


@given(seed=SEEDS)
def test_the_gradients_of_maximum_add_up_to_the_cotangent(seed):
    a, b = np.random.default_rng(seed).integers(-2, 3, (2, 5)).astype(float)
    cotangent = np.random.default_rng(seed).normal(size=5)
    for name in ("maximum", "minimum"):
        _, (g, h) = gradients(getattr(ops, name), a, b, seed=cotangent)
        assert_array_equal(g.numpy() + h.numpy(), cotangent)


def test_a_value_on_the_bound_of_clip_keeps_its_gradient():
    _, (g,) = gradients(lambda t: ops.clip(t, -1.0, 1.0), np.array([-2.0, -1.0, 0.0, 1.0, 2.0]))
    assert_array_equal(g.numpy(), [0, 1, 1, 1, 0])


@pytest.mark.parametrize("exponent, expected", [(0, 0), (0.0, 0), (1, 1), (2, 0), (3.0, 0)])
def test_the_derivative_of_a_power_at_zero_is_the_closed_form(exponent, expected):
    assert derivative(lambda x: x**exponent, 0.0) == expected
    assert derivative(lambda x: x ** cr.tensor(exponent), 0.0) == expected


@pytest.mark.parametrize("base", [0.5, 1.0, 3.0])
def test_the_mixed_second_derivative_of_a_power_is_right_where_the_exponent_is_zero(base):
    """∂²(a^b)/∂a∂b = a^(b−1)·(1 + b·ln a), which is 1/a at b = 0."""
    mixed = cr.grad(lambda b: cr.grad(lambda a: a**b)(base))(0.0)
    assert mixed == pytest.approx(1 / base)


def test_zero_to_a_positive_power_does_not_depend_on_the_power():
    assert derivative(lambda b: ops.power(0.0, b), 2.0) == 0.0
    assert derivative(lambda b: ops.power(cr.tensor(0.0), b), 2.0) == 0.0


@pytest.mark.parametrize("function", [ops.absolute, lambda x: ops.hypot(x, 0.0), lambda x: ops.hypot(0.0, x)])
def test_the_derivative_of_a_distance_is_zero_at_the_origin(function):
    assert derivative(function, 0.0) == 0.0


def test_where_keeps_an_unchosen_nan_out_of_the_value_and_of_the_gradient():
    x = np.array([0.0, 4.0])
    with np.errstate(invalid="ignore", divide="ignore"):
        y, (g, h) = gradients(lambda a, b: ops.where(x > 0, a, b / x), x, np.ones(2))
    assert_array_equal(g.numpy(), [0, 1])
    assert_array_equal(y.numpy(), [np.inf, 4])
    assert h.numpy()[1] == 0


def test_logaddexp_overflows_neither_in_value_nor_in_gradient():
    y, (g, h) = gradients(ops.logaddexp, np.array([1000.0, -1000.0, 5.0]), np.array([1000.0, 0.0, -np.inf]))
    assert_allclose(y.numpy(), [1000 + np.log(2), 0, 5])
    assert_allclose(g.numpy(), [0.5, 0, 1])
    assert_allclose(h.numpy(), [0.5, 1, 0])


def test_second_derivatives_survive_a_python_number_on_either_side():
    assert cr.grad(cr.grad(lambda x: x**3))(2.0) == pytest.approx(12.0)
    assert cr.grad(cr.grad(lambda x: 2.0**x))(1.0) == pytest.approx(2 * np.log(2) ** 2)
    assert cr.grad(cr.grad(lambda x: 1 / x))(2.0) == pytest.approx(0.25)


# Integers and booleans --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMPARISONS)
def test_a_comparison_carries_no_gradient(name):
    y = getattr(ops, name)(cr.tensor([1.0, 2.0], requires_grad=True), 1.5)
    assert not y.requires_grad
    with pytest.raises(cr.GradientError, match="nothing was recorded"):
        y.backward(np.ones(2))


def test_integer_arithmetic_keeps_its_dtype_and_carries_no_gradient():
    y = cr.tensor([1, 2]) * 3 + 1
    assert y.dtype == np.int64
    assert not y.requires_grad
    with pytest.raises(TypeError, match=r"int64.*gradient"):
        y.requires_grad = True


def test_a_list_beside_a_tensor_is_an_array():
    _, (g,) = gradients(lambda x: [4.0, 9.0] / (x * [2.0, 3.0]), np.array([1.0, 2.0]))
    assert_allclose(g.numpy(), [-2, -0.75])


def test_an_integer_operand_is_a_constant_beside_a_recorded_one():
    _, (g,) = gradients(lambda x: x ** cr.tensor([2, 3, 0]), np.array([3.0, 2.0, 5.0]))
    assert_array_equal(g.numpy(), [6, 12, 0])


@pytest.mark.parametrize("value", [1j, np.array([1j]), [1j], ["a"], [None]])
def test_an_operand_that_is_not_a_real_number_is_refused_by_name(value):
    with pytest.raises(TypeError, match="multiply"):
        ops.multiply(cr.tensor(1.0, requires_grad=True), value)


# Other libraries --------------------------------------------------------------------------------------------

ONE_ARRAY = {name: (getattr(ops, name), UNARY[name][1] if name in UNARY else (-3, 3)) for name in [*UNARY, *FLAT]}
TWO_ARRAYS = {name: (getattr(ops, name), *bounds) for name, (_, *bounds) in BINARY.items()} | {
    "where": (lambda a, b: ops.where(a > 0, a, b), (-1, 1), (-1, 1)),
    "where of a number": (lambda a, b: ops.where(a > b, a, 0.0), (-1, 1), (-1, 1)),
    "clip": (lambda a, b: ops.clip(a, -0.5, 0.5) * b, (-1, 1), (-1, 1)),
    "cube": (lambda a, b: a**3 + b**0, (-1, 1), (-1, 1)),
}


@pytest.mark.parametrize("name", ONE_ARRAY)
def test_one_array_of_array_api_strict_gives_numpys_value_and_derivatives(name):
    function, bounds = ONE_ARRAY[name]
    assert_same_on(array_api_strict, function, points(1, (2, 3), bounds))


@pytest.mark.parametrize("name", TWO_ARRAYS)
def test_two_arrays_of_array_api_strict_give_numpys_value_and_derivatives(name):
    function, first, second = TWO_ARRAYS[name]
    assert_same_on(array_api_strict, function, points(1, (2, 3), first), points(2, (3,), second))


@pytest.mark.parametrize("name", BINARY)
def test_an_array_of_array_api_strict_takes_a_python_number_on_either_side(name):
    function, first, second = TWO_ARRAYS[name]
    assert_same_on(array_api_strict, lambda a: function(a, 1.5), points(1, (2, 3), first))
    assert_same_on(array_api_strict, lambda b: function(1.5, b), points(2, (2, 3), second))
