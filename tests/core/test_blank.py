"""`Blank`: arrays without values say of themselves what NumPy's arrays would be: shapes, dtypes, views."""

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from chainrule.core.blank import Blank, BlankDraws

DTYPES = [np.float32, np.float64, np.int64, np.bool_]


def like(array):
    return Blank(array.shape, array.dtype)


def check(found, expected, of=None, blank=None):
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if of is not None:
        assert (found.memory is blank.memory) == np.shares_memory(expected, of)


@st.composite
def arrays(draw, least=0):
    shape = draw(st.lists(st.integers(1, 4), min_size=least, max_size=4))
    return np.zeros(shape, draw(st.sampled_from(DTYPES)))


@given(arrays(), st.data())
def test_layout_gives_views_where_numpy_gives_views_and_copies_where_it_copies(x, data):
    blank, now = like(x), x
    shown = blank
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(["transpose", "reshape", "slice", "broadcast"]))
        if kind == "transpose":
            axes = data.draw(st.permutations(range(now.ndim)))
            now, shown = np.transpose(now, axes), np.transpose(shown, axes)
        elif kind == "reshape":
            shape = data.draw(st.sampled_from([(-1,), (1, -1), (*now.shape, 1), now.shape[::-1]]))
            now, shown = np.reshape(now, shape), np.reshape(shown, shape)
        elif kind == "slice":
            index = tuple(slice(None, None, data.draw(st.sampled_from([1, 2, -1]))) for _ in now.shape)
            now, shown = now[index], shown[index]
        else:
            shape = (2, *now.shape)
            now, shown = np.broadcast_to(now, shape), np.broadcast_to(shown, shape)
        check(shown, now, x, blank)


@given(arrays(least=2), st.permutations(range(4)))
def test_an_elementwise_result_has_the_order_in_memory_of_its_inputs(x, order):
    axes = [axis for axis in order if axis < x.ndim]
    now, shown = np.exp(np.transpose(x, axes)), np.exp(np.transpose(like(x), axes))
    back = np.argsort(axes)
    check(shown, now)
    flat, shown_flat = np.reshape(np.transpose(now, back), -1), np.reshape(np.transpose(shown, back), -1)
    assert np.shares_memory(flat, now) == (shown_flat.memory is shown.memory)


@pytest.mark.parametrize(
    "a, b", [((3, 4), (4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((2, 1, 3, 4), (6, 4, 5))]
)
def test_matrix_products_have_numpys_shapes(a, b):
    x, y = np.zeros(a, np.float32), np.zeros(b)
    check(np.matmul(like(x), like(y)), np.asarray(np.matmul(x, y)))
    with pytest.raises(ValueError, match="do not fit"):
        np.matmul(like(x), Blank((7, 2), np.float32))


@given(arrays(least=1), st.data())
def test_reductions_have_numpys_shapes_and_dtypes(x, data):
    name = data.draw(st.sampled_from(["sum", "prod", "max", "min", "any", "all"]))
    axis = data.draw(st.one_of(st.none(), st.integers(-x.ndim, x.ndim - 1)))
    keepdims = data.draw(st.booleans())
    function = getattr(np, name)
    check(function(like(x), axis=axis, keepdims=keepdims), np.asarray(function(x, axis=axis, keepdims=keepdims)))


FAR, NEAR = np.zeros((2, 3), int), np.zeros(3, int)


@pytest.mark.parametrize(
    "index",
    [
        (FAR,), (slice(None), FAR), (NEAR, slice(None), FAR), (slice(None), NEAR, FAR), (..., NEAR), (NEAR, ..., FAR),
        (None, NEAR), (NEAR, None, FAR), (slice(None), NEAR, ..., NEAR, 1), (slice(1, 3), 2, NEAR), ([0, 1], 1),
        (np.array([True, False, True]),), (1, ..., slice(None, None, 2)), (None, 1), (...,),
    ],
)  # fmt: skip
def test_indexing_gives_numpys_shapes(index):
    x = np.zeros((3, 4, 5, 6), np.float32)
    blank = like(x)
    check(blank[index], x[index], x, blank)


def test_functions_promote_as_numpy_does():
    x, y = Blank((3, 1), np.float32), Blank((2,), np.int64)
    assert (x + y).dtype == np.float64
    assert (x + 1.5).dtype == np.float32
    assert (y / 2).dtype == np.float64
    assert (x < 0).dtype == np.bool_
    assert scipy.special.erf(x).dtype == np.float32
    assert np.where(x < 0, x, 0.0).dtype == np.float32
    assert (x + y).shape == np.where(x < 0, y, 1.0).shape == (3, 2)
    assert [part.dtype for part in np.frexp(x)] == [np.float32, np.int32]
    check(np.concatenate([x, x], axis=1), np.zeros((3, 2), np.float32))
    check(np.concatenate([x, y], axis=None), np.zeros(5))
    check(np.cumulative_sum(Blank((3,), np.bool_), axis=0), np.zeros(3, int))


@pytest.mark.parametrize("read", [np.asarray, float, bool, lambda x: x.item(), lambda x: np.add.reduce(x)])
def test_reading_values_is_an_error_that_says_where_they_should_have_come_from(read):
    with pytest.raises(TypeError, match=r"values of an array of shape .*without_values"):
        read(Blank((1,), np.float32))


def test_no_memory_is_needed_however_large():
    x = Blank((10**6, 10**6, 1000), np.float64)
    assert x.nbytes == 8 * 10**15
    assert np.reshape(x * 2 + x, (-1, 10)).shape == (10**14, 10)
    assert BlankDraws().random((10**9,), dtype=np.float32).nbytes == 4 * 10**9
