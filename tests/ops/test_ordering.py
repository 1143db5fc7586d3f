"""Ordering: values against NumPy, derivatives against central differences and closed forms at ties."""

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from numpy.testing import assert_allclose, assert_array_equal
from other_libraries import assert_same_constants_on, assert_same_on

import chainrule as cr
from chainrule.ops import ordering as ops

FEW = settings(max_examples=max(3, settings.default.max_examples // 3))
SEEDS = st.integers(0, 2**32 - 1)
DTYPES = st.sampled_from([np.float32, np.float64, np.int64])


@st.composite
def arrays_and_an_axis(draw, ties, max_side=4):
    """An array, with equal elements or without any, and one of its axes or None."""
    shape = draw(array_shapes(max_dims=3, max_side=max_side))
    rng = np.random.default_rng(draw(SEEDS))
    size = int(np.prod(shape))
    x = rng.integers(-2, 3, size) * 1.0 if ties else rng.permutation(size) * 0.3 - 1.17 + rng.uniform(0, 0.1, size)
    return x.reshape(shape), draw(st.none() | st.integers(-len(shape), len(shape) - 1))


# Sorting ----------------------------------------------------------------------------------------------------


@given(case=arrays_and_an_axis(ties=True), dtype=DTYPES, descending=st.booleans())
def test_sort_is_numpys_in_either_direction_along_any_axis(case, dtype, descending):
    x, axis = case[0].astype(dtype), case[1]
    y = ops.sort(cr.tensor(x), axis, descending)
    expected = -np.sort(-x, axis=axis) if descending else np.sort(x, axis=axis)
    assert_array_equal(y.numpy(), expected, strict=True)


@given(case=arrays_and_an_axis(ties=True), dtype=DTYPES, descending=st.booleans())
def test_argsort_keeps_equal_elements_in_their_order_in_either_direction(case, dtype, descending):
    x, axis = case[0].astype(dtype), case[1]
    y = ops.argsort(cr.tensor(x), axis, descending=descending)
    assert_array_equal(y.numpy(), np.argsort(-x if descending else x, axis=axis, stable=True))
    assert not y.requires_grad


@FEW
@given(case=arrays_and_an_axis(ties=False), descending=st.booleans())
def test_first_and_second_derivatives_of_sort_agree_with_central_differences(case, descending):
    x, axis = case
    cr.check_grads(lambda t: ops.sort(t, axis, descending) ** 3, (x,), order=2, max_elements=6)


@given(case=arrays_and_an_axis(ties=True), descending=st.booleans(), seed=SEEDS)
def test_sort_sends_each_cotangent_to_the_place_of_its_element_in_a_stable_order(case, descending, seed):
    x, axis = case
    if axis is None:
        x, axis = x.reshape(-1), 0
    order = np.argsort(-x if descending else x, axis=axis, stable=True)
    cotangent, tangent = np.random.default_rng(seed).normal(size=(2, *x.shape))
    expected = np.zeros(x.shape)
    np.put_along_axis(expected, order, cotangent, axis=axis)
    function = lambda t: ops.sort(t, axis, descending)
    assert_array_equal(cr.vjp(function, x)[1](cotangent)[0], expected)
    pushed = cr.jvp(function, (x,), (tangent,))[1]
    assert_array_equal(pushed, np.take_along_axis(tangent, order, axis=axis))


def test_a_nan_is_sorted_last_and_keeps_its_gradient():
    x = np.array([2.0, np.nan, 1.0])
    y, pull = cr.vjp(ops.sort, x)
    assert_array_equal(y, [1, 2, np.nan])
    assert_array_equal(pull(np.array([1.0, 2.0, 3.0]))[0], [2, 3, 1])


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_an_empty_array_is_sorted_to_itself_with_an_empty_gradient(shape):
    y, pull = cr.vjp(lambda t: ops.sort(t, descending=True), np.zeros(shape))
    assert y.shape == pull(np.zeros(shape))[0].shape == shape


@given(case=arrays_and_an_axis(ties=False), data=st.data(), largest=st.booleans())
def test_topk_is_the_front_of_the_sort_with_its_indices_and_gradients(case, data, largest):
    x, axis = case
    axis = -1 if axis is None else axis
    k = data.draw(st.integers(0, x.shape[axis]))
    leaf = cr.tensor(x, requires_grad=True)
    values, indices = ops.topk(leaf, k, axis, largest)
    order = np.argsort(-x if largest else x, axis=axis)
    assert_array_equal(indices.numpy(), np.take(order, range(k), axis=axis))
    assert_array_equal(values.detach().numpy(), np.take_along_axis(x, indices.numpy(), axis=axis))
    values.sum().backward()
    chosen = np.zeros(x.shape)
    np.put_along_axis(chosen, indices.numpy(), 1, axis=axis)
    assert_array_equal(leaf.grad.numpy(), chosen)


# Searching --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["argmax", "argmin"])
@given(case=arrays_and_an_axis(ties=True), keepdims=st.booleans())
def test_the_index_of_an_extreme_is_numpys_the_first_at_a_tie(name, case, keepdims):
    x, axis = case
    y = getattr(ops, name)(cr.tensor(x, requires_grad=True), axis, keepdims)
    assert_array_equal(y.numpy(), getattr(np, name)(x, axis=axis, keepdims=keepdims))
    assert not y.requires_grad


@given(case=arrays_and_an_axis(ties=True))
def test_nonzero_is_numpys(case):
    for found, expected in zip(ops.nonzero(cr.tensor(case[0])), np.nonzero(case[0]), strict=True):
        assert_array_equal(found.numpy(), expected)


@given(
    vector=st.lists(st.integers(-3, 3), max_size=6),
    values=st.lists(st.floats(-4, 4), max_size=4) | st.floats(-4, 4),
    side=st.sampled_from(["left", "right"]),
)
def test_searchsorted_is_numpys_with_and_without_a_sorter(vector, values, side):
    x = np.array(vector, dtype=float)
    expected = np.searchsorted(np.sort(x), values, side=side)
    sorter = np.argsort(x)
    assert_array_equal(ops.searchsorted(cr.tensor(np.sort(x)), values, side).numpy(), expected)
    assert_array_equal(ops.searchsorted(cr.tensor(x), values, side, sorter).numpy(), expected)
    assert_array_equal(ops.searchsorted(x, cr.tensor(np.array(values)), side, cr.tensor(sorter)).numpy(), expected)


# Distinct values --------------------------------------------------------------------------------------------


@given(case=arrays_and_an_axis(ties=True), dtype=st.sampled_from([np.float64, np.int8, np.bool_]))
def test_the_parts_of_unique_are_numpys(case, dtype):
    x = case[0].astype(dtype)
    t = cr.tensor(x)
    expected = np.unique(x, return_index=True, return_inverse=True, return_counts=True)
    everything = ops.unique_all(t)
    for found, oracle in zip(everything, expected, strict=True):
        assert_array_equal(found.numpy(), oracle)
    assert [part.shape for part in ops.unique_counts(t)] == [everything.values.shape, everything.counts.shape]
    assert_array_equal(ops.unique_inverse(t).inverse_indices.numpy(), expected[2])
    assert_array_equal(ops.unique_values(t).numpy(), expected[0])
    assert_array_equal(ops.unique(t).numpy(), expected[0])
    _, counts = ops.unique(t, return_counts=True)
    assert_array_equal(counts.numpy(), expected[3])


def test_unique_of_nothing_is_nothing():
    assert [part.shape for part in ops.unique_all(cr.tensor(np.zeros((0, 2))))] == [(0,), (0,), (0, 2), (0,)]


def test_every_nan_is_distinct():
    found = ops.unique_counts(cr.tensor([np.nan, 1.0, np.nan]))
    assert_array_equal(found.values.numpy(), [1, np.nan, np.nan])
    assert_array_equal(found.counts.numpy(), [1, 1, 1])


# Quantiles --------------------------------------------------------------------------------------------------


@st.composite
def quantile_cases(draw):
    x, axis = draw(arrays_and_an_axis(ties=False))
    if x.ndim > 1 and draw(st.booleans()):
        axis = (0, -1)
    qs = st.floats(0, 1)
    q = draw(qs | st.lists(qs, min_size=1, max_size=3) | st.just([[0.0, 0.5], [0.9, 1.0]]))
    return x, np.asarray(q), axis, draw(st.booleans())


@given(case=quantile_cases(), dtype=DTYPES)
def test_quantile_and_percentile_are_numpys(case, dtype):
    x, q, axis, keepdims = case[0].astype(dtype), *case[1:]
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-13}
    y = ops.quantile(cr.tensor(x), q, axis, keepdims)
    assert_allclose(y.numpy(), np.quantile(x, q, axis=axis, keepdims=keepdims), **tolerance)
    assert y.dtype == (np.float32 if dtype == np.float32 else np.float64)
    y = ops.percentile(cr.tensor(x), q * 100, axis, keepdims)
    assert_allclose(y.numpy(), np.quantile(x, q, axis=axis, keepdims=keepdims), **tolerance)


@FEW
@given(case=quantile_cases())
def test_first_and_second_derivatives_of_quantile_agree_with_central_differences(case):
    x, q, axis, keepdims = case
    q = np.round(q, 2)  # closer to an element than a step, the difference is that of its neighbour
    cr.check_grads(lambda t: ops.quantile(t, q, axis, keepdims) ** 2, (x,), order=2, max_elements=6)


@given(case=arrays_and_an_axis(ties=False), keepdims=st.booleans())
def test_median_is_numpys_and_shares_its_gradient_between_the_middle_two(case, keepdims):
    x, axis = case
    assert_allclose(ops.median(cr.tensor(x), axis, keepdims).numpy(), np.median(x, axis=axis, keepdims=keepdims))
    g = cr.grad(ops.median)(x)
    middle = np.sort(x, axis=None)[[(x.size - 1) // 2, x.size // 2]]
    assert_array_equal(g, np.isin(x, middle) / len(set(middle)))


def test_one_nan_makes_the_quantiles_of_its_row_nan_as_in_numpy():
    x = np.array([[1.0, np.nan, 2.0], [3.0, 1.0, 2.0]])
    assert_array_equal(ops.quantile(cr.tensor(x), [0.0, 0.5], axis=1).numpy(), [[np.nan, 1], [np.nan, 2]])


def test_an_infinite_neighbour_does_not_spoil_a_median_of_odd_length():
    assert ops.median(cr.tensor([1.0, np.inf, 2.0])).item() == 2.0


def test_float32_stays_float32_in_quantiles_and_their_gradients():
    x = np.array([3.0, 1.0, 2.0, 5.0], np.float32)
    for function in (
        ops.median,
        lambda t: ops.quantile(t, 0.3),
        lambda t: ops.percentile(t, [30]).sum(),
        lambda t: ops.sort(t)[0],
    ):
        value, g = cr.value_and_grad(function)(x)
        assert value.dtype == g.dtype == np.float32


# Other libraries --------------------------------------------------------------------------------------------

ROUTED = {
    "sort": lambda x: ops.sort(x, axis=0),
    "sort flat, descending": lambda x: ops.sort(x, axis=None, descending=True),
    "topk": lambda x: ops.topk(x, 2)[0],
    "median": lambda x: ops.median(x),
    "median of rows": lambda x: ops.median(x, axis=1),
    "quantiles": lambda x: ops.quantile(x, [0.1, 0.6], axis=(0, 1)),
}
FOUND = {
    "argsort, descending": lambda x: ops.argsort(x, axis=0, descending=True),
    "argsort flat": lambda x: ops.argsort(x, axis=None),
    "topk": lambda x: ops.topk(x, 2, axis=0)[1],
    "argmax": lambda x: ops.argmax(x),
    "argmin": lambda x: ops.argmin(x, axis=1, keepdims=True),
    "nonzero": lambda x: ops.nonzero(x > 0),
    "searchsorted": lambda x: ops.searchsorted(x[0], x),
    "searchsorted right": lambda x: ops.searchsorted(x[0], 0.5, side="right"),
    "searchsorted with a sorter": lambda x: ops.searchsorted(x[1], x, sorter=ops.argsort(x[1])),
    "unique_all": ops.unique_all,
    "unique_counts": ops.unique_counts,
    "unique_values": ops.unique_values,
}
DISTINCT = np.array([[0.3, -1.2, 2.1, 0.9], [1.7, 0.1, -0.4, 3.0], [-2.0, 1.1, 0.7, -0.9]])
EQUAL = np.array([[1.0, 2.0, 3.0], [2.0, 2.0, -1.0]])


@pytest.mark.parametrize("case", ROUTED)
def test_array_api_strict_gives_numpys_value_and_derivatives(case):
    assert_same_on(array_api_strict, ROUTED[case], DISTINCT)


@pytest.mark.parametrize("case", FOUND)
def test_indices_and_counts_on_array_api_strict_are_numpys(case):
    assert_same_constants_on(array_api_strict, FOUND[case], EQUAL)


# Errors -----------------------------------------------------------------------------------------------------

X = np.zeros((2, 3))


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: ops.sort(X, axis=2), np.exceptions.AxisError, "sort: axis 2"),
        (lambda: ops.sort(1.0), np.exceptions.AxisError, "sort: axis -1"),
        (lambda: ops.sort(["b", "a"]), TypeError, "sort: "),
        (lambda: ops.topk(X, 4), ValueError, "topk: k must be between 0 and the length 3 of axis 1, got 4"),
        (lambda: ops.argmax(X[:0]), ValueError, r"argmax: .*no elements.*\(0, 3\)"),
        (lambda: ops.argmin(X[:0], axis=0), ValueError, r"argmin: .*no elements.*\(0, 3\)"),
        (lambda: ops.nonzero(1.0), ValueError, "nonzero: needs at least one dimension"),
        (lambda: ops.searchsorted(X, 1.0), ValueError, r"searchsorted: needs a vector.*\(2, 3\)"),
        (lambda: ops.searchsorted(X[0], 1.0, side="middle"), ValueError, "searchsorted: side .*'middle'"),
        (lambda: ops.quantile(X, 1.5), ValueError, "quantile: q must be between 0 and 1"),
        (lambda: ops.quantile(X, np.nan), ValueError, "quantile: q must be between 0 and 1"),
        (lambda: ops.percentile(X, 101), ValueError, "percentile: q must be between 0 and 100"),
        (lambda: ops.median(X[:0]), ValueError, r"median: .*no elements.*\(0, 3\)"),
    ],
)
def test_a_mistake_is_answered_by_the_operations_name_and_the_shapes(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_distinct_values_send_their_gradient_to_the_first_that_has_them():
    g = cr.grad(lambda x: (ops.unique_values(x) * np.array([1.0, 2.0, 3.0])).sum())(np.array([5.0, 1.0, 5.0, 3.0]))
    assert g.tolist() == [3, 1, 0, 2]


def test_a_recorded_quantile_level_is_refused():
    with pytest.raises(cr.GradientError, match="recorded"):
        cr.grad(lambda q: ops.quantile(np.arange(5.0), q))(0.5)
