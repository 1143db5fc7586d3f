"""Reductions: values against NumPy, derivatives against central differences and closed forms."""

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from numpy.testing import assert_allclose, assert_array_equal
from other_libraries import assert_same_constants_on, assert_same_on

import chainrule as cr
from chainrule.ops import reductions as ops

FEW = settings(max_examples=max(3, settings.default.max_examples // 3))
SEEDS = st.integers(0, 2**32 - 1)

SMOOTH = {
    "sum": np.sum,
    "prod": np.prod,
    "mean": np.mean,
    "var": np.var,
    "std": np.std,
    "max": np.max,
    "min": np.min,
}
CONSTANT = {"any": np.any, "all": np.all, "count_nonzero": np.count_nonzero}
RUNNING = {"cumulative_sum": np.cumsum, "cumulative_prod": np.cumprod}


@st.composite
def arrays_and_axes(draw, min_side=1, max_side=4):
    """An array without ties or zeros, and an axis argument: None, an integer or a tuple, perhaps negative."""
    shape = draw(array_shapes(min_dims=0, max_dims=3, min_side=min_side, max_side=max_side))
    rng = np.random.default_rng(draw(SEEDS))
    x = rng.permutation(int(np.prod(shape))).reshape(shape) * 0.3 - 1.17 + rng.uniform(0, 0.1, shape)
    if not shape:
        return x, draw(st.sampled_from([None, ()]))
    axes = st.integers(-len(shape), len(shape) - 1)
    several = st.lists(axes, max_size=3, unique_by=lambda axis: axis % len(shape)).map(tuple)
    return x, draw(st.none() | axes | several)


def gradient(function, x, seed=None):
    leaf = cr.tensor(x, requires_grad=True)
    y = function(leaf)
    y.backward(np.ones(y.shape, dtype=y.dtype) if seed is None else seed)
    return leaf.grad.numpy()


# Values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SMOOTH, *CONSTANT])
@FEW
@given(case=arrays_and_axes(), keepdims=st.booleans(), dtype=st.sampled_from([np.float32, np.float64]))
def test_a_reduction_over_any_axes_has_numpys_value_shape_and_dtype(name, case, keepdims, dtype):
    x, axis = case[0].astype(dtype), case[1]
    y = getattr(ops, name)(cr.tensor(x), axis=axis, keepdims=keepdims)
    expected = (SMOOTH | CONSTANT)[name](x, axis=axis, keepdims=keepdims)
    assert y.shape == np.shape(expected)
    assert y.dtype == expected.dtype if isinstance(expected, (np.ndarray, np.generic)) else np.int64
    assert_allclose(y.numpy(), expected, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-6)


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "any", "all", "count_nonzero"])
@FEW
@given(case=arrays_and_axes(), dtype=st.sampled_from([np.bool_, np.int8, np.int64]))
def test_a_reduction_of_integers_has_numpys_value_and_carries_no_gradient(name, case, dtype):
    x, axis = (case[0] * 3).astype(dtype), case[1]
    y = getattr(ops, name)(cr.tensor(x), axis=axis)
    expected = (SMOOTH | CONSTANT)[name](x, axis=axis)
    assert_array_equal(y.numpy(), expected)
    assert y.dtype == np.asarray(expected).dtype
    assert not y.requires_grad


@pytest.mark.parametrize("name", ["mean", "var", "std"])
def test_the_mean_and_spread_of_integers_are_float64(name):
    x = np.arange(6).reshape(2, 3)
    y = getattr(ops, name)(cr.tensor(x), axis=1)
    assert y.dtype == np.float64
    assert_allclose(y.numpy(), SMOOTH[name](x, axis=1))


@pytest.mark.parametrize("name", RUNNING)
@FEW
@given(case=arrays_and_axes(min_side=0), data=st.data())
def test_a_running_total_has_numpys_value_along_every_axis_and_over_all_elements(name, case, data):
    x = case[0]
    axis = data.draw(st.none() | (st.integers(-x.ndim, x.ndim - 1) if x.ndim else st.none()))
    y = getattr(ops, name)(cr.tensor(x), axis=axis)
    assert_allclose(y.numpy(), RUNNING[name](x, axis=axis), rtol=1e-12)


@pytest.mark.parametrize("name", RUNNING)
@pytest.mark.parametrize("length", [0, 1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_include_initial_puts_the_empty_total_in_front_even_of_nothing(name, length, dtype):
    x = np.arange(2 * length).reshape(2, length).astype(dtype)
    y = getattr(ops, name)(cr.tensor(x), axis=1, include_initial=True)
    assert_array_equal(y.numpy(), getattr(np, name)(x, axis=1, include_initial=True))
    assert y.dtype == dtype


def test_sum_mean_and_prod_compute_in_the_dtype_asked_for():
    x = cr.tensor(np.ones(3, np.float32), requires_grad=True)
    for function in (ops.sum, ops.mean, ops.prod):
        y = function(x, dtype=np.float64)
        assert y.dtype == np.float64
        y.backward()
        assert x.grad.dtype == np.float32


@pytest.mark.parametrize("name", [*SMOOTH, *RUNNING])
def test_float32_in_is_float32_out_in_value_gradient_and_tangent(name):
    x = np.linspace(1, 2, 6, dtype=np.float32).reshape(2, 3)
    function = lambda t: getattr(ops, name)(t, axis=1)
    value, tangent = cr.jvp(function, (x,), (x,))
    assert gradient(function, x).dtype == value.dtype == tangent.dtype == np.float32


# Derivatives ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMOOTH)
@FEW
@given(case=arrays_and_axes(max_side=3), keepdims=st.booleans())
def test_first_and_second_derivatives_agree_with_central_differences(name, case, keepdims):
    x, axis = case
    if name == "std" and SMOOTH[name](x, axis=axis).min() == 0:
        x = np.zeros_like(x)[..., None] + [0.3, 1.1]  # one element has no spread; two do
        axis = -1
    cr.check_grads(lambda t: getattr(ops, name)(t, axis=axis, keepdims=keepdims), (x,), order=2, max_elements=6)


@pytest.mark.parametrize("name", ["var", "std"])
@pytest.mark.parametrize("correction", [0, 1, 1.5])
def test_corrected_variance_has_numpys_value_and_right_derivatives(name, correction):
    x = np.random.default_rng(0).normal(size=(4, 3))
    function = lambda t: getattr(ops, name)(t, axis=0, correction=correction)
    assert_allclose(function(cr.tensor(x)).numpy(), SMOOTH[name](x, axis=0, ddof=correction))
    cr.check_grads(function, (x,), order=2)


@pytest.mark.parametrize("name", RUNNING)
@FEW
@given(case=arrays_and_axes(max_side=5), data=st.data())
def test_derivatives_of_running_totals_agree_with_central_differences(name, case, data):
    x = case[0]
    axis = data.draw(st.none() | (st.integers(-x.ndim, x.ndim - 1) if x.ndim else st.none()))
    initial = data.draw(st.booleans())
    function = lambda t: getattr(ops, name)(t, axis=axis, include_initial=initial)
    cr.check_grads(function, (x / 3,), order=2, max_elements=6)


# Zeros in products ------------------------------------------------------------------------------------------


@given(seed=SEEDS, zeros=st.integers(0, 3))
def test_the_gradient_of_prod_is_the_product_of_the_others_with_any_number_of_zeros(seed, zeros):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.5, 2, (2, 4))
    x[:, rng.permutation(4)[:zeros]] = 0
    others = [[np.prod(np.delete(row, j)) for j in range(4)] for row in x]
    assert_allclose(gradient(lambda t: ops.prod(t, axis=1), x), others)
    assert_allclose(gradient(lambda t: ops.prod(t, axis=(1,), keepdims=True), x), others)


@given(seed=SEEDS, zeros=st.integers(0, 3), n=st.integers(1, 9))
def test_the_gradient_of_cumulative_prod_is_right_with_any_number_of_zeros(seed, zeros, n):
    rng = np.random.default_rng(seed)
    x, cotangent = rng.uniform(0.5, 2, n), rng.normal(size=n)
    x[rng.permutation(n)[:zeros]] = 0
    ones = np.where(np.eye(n) == 1, 1, x)  # row j: x without its element j
    jacobian = np.triu(np.cumprod(ones, axis=1))  # [j, i]
    assert_allclose(gradient(ops.cumulative_prod, x, cotangent), jacobian @ cotangent, rtol=1e-12)
    _, pushed = cr.jvp(ops.cumulative_prod, (x,), (cotangent,))
    assert_allclose(pushed, cotangent @ jacobian, rtol=1e-12)


@pytest.mark.parametrize("function", [ops.prod, ops.cumulative_prod])
def test_derivatives_of_products_to_the_third_order_are_right_at_zeros(function):
    cr.check_grads(function, (np.array([1.3, 0.0, -0.7, 0.0, 2.1]),), order=3)


# Ties and kinks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, arg", [("max", np.argmax), ("min", np.argmin)])
@given(seed=SEEDS, case=arrays_and_axes(), keepdims=st.booleans())
def test_the_first_of_equal_winners_takes_the_whole_gradient(name, arg, seed, case, keepdims):
    axis = case[1]
    x = np.random.default_rng(seed).integers(0, 3, case[0].shape).astype(float)
    axes = tuple(range(x.ndim)) if axis is None else np.atleast_1d(np.array(axis, dtype=int)) % max(x.ndim, 1)
    axes = tuple(int(a) for a in axes)
    rows = np.moveaxis(x, axes, range(x.ndim - len(axes), x.ndim))
    flat = rows.reshape(*rows.shape[: x.ndim - len(axes)], -1)
    winners = np.zeros(flat.shape)
    np.put_along_axis(winners, np.expand_dims(arg(flat, axis=-1), -1), 1, axis=-1)
    expected = np.moveaxis(winners.reshape(rows.shape), range(x.ndim - len(axes), x.ndim), axes)
    assert_array_equal(gradient(lambda t: getattr(ops, name)(t, axis=axis, keepdims=keepdims), x), expected)


def test_a_nan_wins_the_maximum_and_takes_the_gradient():
    assert_array_equal(gradient(ops.max, np.array([1.0, np.nan, 2.0, np.nan])), [0, 1, 0, 0])


def test_the_derivative_of_std_is_zero_where_all_elements_are_equal():
    x = np.full((2, 3), 1.5)
    assert_array_equal(gradient(lambda t: ops.std(t, axis=1), x), np.zeros((2, 3)))
    assert_array_equal(cr.jvp(lambda t: ops.std(t, axis=1), (x,), (np.eye(2, 3),))[1], np.zeros(2))


# Nothing to reduce ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, expected", [("sum", 0), ("prod", 1), ("any", False), ("all", True)])
def test_a_reduction_of_no_elements_is_its_neutral_element(name, expected):
    assert getattr(ops, name)(cr.tensor(np.zeros((0, 3)))).item() == expected
    assert_array_equal(getattr(ops, name)(cr.tensor(np.zeros((0, 3))), axis=0).numpy(), [expected] * 3)


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "var", "std", "max", "min"])
def test_the_gradient_of_an_empty_array_is_empty(name):
    assert gradient(lambda t: getattr(ops, name)(t, axis=1), np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("name", RUNNING)
def test_the_gradient_of_an_empty_running_total_is_empty(name):
    assert gradient(lambda t: getattr(ops, name)(t, axis=1), np.zeros((2, 0))).shape == (2, 0)


@pytest.mark.parametrize("name", ["max", "min"])
def test_the_extreme_of_no_elements_is_refused_by_name_and_shape(name):
    with pytest.raises(ValueError, match=rf"{name}: .*no elements.*\(2, 0\)"):
        getattr(ops, name)(cr.tensor(np.zeros((2, 0))), axis=1)


@pytest.mark.parametrize("name", [*SMOOTH, *CONSTANT])
def test_an_axis_that_is_not_there_or_named_twice_is_refused_by_name(name):
    x = cr.tensor(np.ones((2, 3)))
    with pytest.raises(np.exceptions.AxisError, match=rf"{name}: axis 2 .* 2 dimensions"):
        getattr(ops, name)(x, axis=2)
    with pytest.raises(ValueError, match=rf"{name}: .* twice"):
        getattr(ops, name)(x, axis=(1, -1))


@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero):RuntimeWarning")
@pytest.mark.parametrize("name", ["var", "std"])
def test_the_spread_of_fewer_elements_than_the_correction_is_nan_and_so_is_its_gradient(name):
    x = np.array([[1.0], [2.0]])
    function = lambda t: getattr(ops, name)(t, axis=1, correction=1)
    assert np.isnan(function(cr.tensor(x)).numpy()).all()
    assert np.isnan(gradient(function, x)).all()


# Other libraries --------------------------------------------------------------------------------------------

X = np.random.default_rng(3).normal(size=(2, 3, 2))
REDUCED = {
    f"{name} over {axis}": lambda x, name=name, axis=axis: getattr(ops, name)(x, axis=axis)
    for name in SMOOTH
    for axis in (None, 0, -1, (0, 2), ())
    if (name, axis) != ("std", ())  # an element alone has no spread, and a kink there
}
TOTALS = {
    f"{name} along {axis}, initial {initial}": lambda x, name=name, axis=axis, initial=initial: getattr(ops, name)(
        x, axis=axis, include_initial=initial
    )
    for name in RUNNING
    for axis in (None, 0, -1)
    for initial in (False, True)
}
COUNTED = {
    f"{name} over {axis}": lambda x, name=name, axis=axis: getattr(ops, name)(x > 0, axis=axis)
    for name in CONSTANT
    for axis in (None, 0, -1, (0, 2), ())
}


@pytest.mark.parametrize("case", REDUCED | TOTALS)
def test_array_api_strict_gives_numpys_value_and_derivatives(case):
    assert_same_on(array_api_strict, (REDUCED | TOTALS)[case], X)


@pytest.mark.parametrize("case", COUNTED)
def test_array_api_strict_gives_numpys_constants(case):
    assert_same_constants_on(array_api_strict, COUNTED[case], X)
