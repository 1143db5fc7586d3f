"""Layout, joining and creation: values against NumPy, derivatives against central differences."""

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, broadcastable_shapes, mutually_broadcastable_shapes
from numpy.testing import assert_allclose, assert_array_equal
from other_libraries import assert_same_on, parts

import chainrule as cr
from chainrule.ops import creation, joining, layout

FEW = settings(max_examples=max(3, settings.default.max_examples // 3))
SEEDS = st.integers(0, 2**32 - 1)
SHAPES = array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)

# What is done, where `f` is NumPy or chainrule, and the shapes of the arrays it is done to.
CASES = {
    "reshape": (lambda f, x: f.reshape(x, (4, -1)), (2, 3, 2)),
    "reshape to a vector": (lambda f, x: f.reshape(x, -1), (2, 3)),
    "reshape of nothing": (lambda f, x: f.reshape(x, (0, 5)), (3, 0)),
    "ravel": (lambda f, x: f.ravel(x), (2, 3)),
    "expand_dims": (lambda f, x: f.expand_dims(x, (0, -1)), (2, 3)),
    "squeeze": (lambda f, x: f.squeeze(x), (1, 3, 1)),
    "squeeze one axis": (lambda f, x: f.squeeze(x, -1), (1, 3, 1)),
    "atleast_1d": (lambda f, x: f.atleast_1d(x), ()),
    "atleast_2d": (lambda f, x: f.atleast_2d(x), (3,)),
    "atleast_3d of a scalar": (lambda f, x: f.atleast_3d(x), ()),
    "atleast_3d of a vector": (lambda f, x: f.atleast_3d(x), (3,)),
    "atleast_3d of a matrix": (lambda f, x: f.atleast_3d(x), (2, 3)),
    "atleast_2d of several": (lambda f, x, y: f.atleast_2d(x, y), (), (1, 2, 2)),
    "broadcast_to": (lambda f, x: f.broadcast_to(x, (2, 3, 4)), (3, 1)),
    "broadcast_arrays": (lambda f, x, y: f.broadcast_arrays(x, y), (3, 1), (2,)),
    "permute_dims": (lambda f, x: f.permute_dims(x, (1, -1, 0)), (2, 3, 4)),
    "matrix_transpose": (lambda f, x: f.matrix_transpose(x), (2, 3, 4)),
    "swapaxes": (lambda f, x: f.swapaxes(x, 0, -1), (2, 3, 4)),
    "moveaxis": (lambda f, x: f.moveaxis(x, (0, -1), (-1, 1)), (2, 3, 4)),
    "moveaxis of one": (lambda f, x: f.moveaxis(x, 0, -1), (2, 3)),
    "flip": (lambda f, x: f.flip(x), (2, 3)),
    "flip one axis": (lambda f, x: f.flip(x, axis=-1), (2, 3)),
    "roll": (lambda f, x: f.roll(x, 2), (2, 3)),
    "roll one axis": (lambda f, x: f.roll(x, -1, axis=1), (2, 3)),
    "roll two axes": (lambda f, x: f.roll(x, (1, 2), axis=(0, 1)), (2, 3)),
    "roll two axes alike": (lambda f, x: f.roll(x, 1, axis=(0, 1)), (2, 3)),
    "rot90": (lambda f, x: f.rot90(x), (2, 3)),
    "rot90 twice": (lambda f, x: f.rot90(x, 2), (2, 3)),
    "rot90 back": (lambda f, x: f.rot90(x, -1, (1, 2)), (2, 3, 2)),
    "rot90 all round": (lambda f, x: f.rot90(x, 4), (2, 3)),
    "tril": (lambda f, x: f.tril(x), (3, 4)),
    "tril below": (lambda f, x: f.tril(x, -1), (2, 3, 3)),
    "triu": (lambda f, x: f.triu(x, 1), (3, 4)),
    "concat": (lambda f, x, y: f.concat([x, y, x], axis=-1), (2, 3), (2, 1)),
    "concat flat": (lambda f, x, y: f.concat([x, y], axis=None), (2, 3), (2,)),
    "stack": (lambda f, x, y: f.stack([x, y], axis=-1), (2, 3), (2, 3)),
    "hstack of vectors": (lambda f, x, y: f.hstack([x, y]), (2,), ()),
    "hstack": (lambda f, x, y: f.hstack([x, y]), (2, 1), (2, 3)),
    "vstack": (lambda f, x, y: f.vstack([x, y]), (3,), (2, 3)),
    "dstack": (lambda f, x, y: f.dstack([x, y]), (2, 3), (2, 3, 2)),
    "column_stack": (lambda f, x, y: f.column_stack([x, y]), (3,), (3, 2)),
    "split": (lambda f, x: f.split(x, 3), (6, 2)),
    "split at places": (lambda f, x: f.split(x, [1, 3, 3], axis=-1), (2, 4)),
    "split at negative and far places": (lambda f, x: f.split(x, [-2, 9]), (5,)),
    "split out of order": (lambda f, x: f.split(x, [3, 1]), (5,)),
    "array_split": (lambda f, x: f.array_split(x, 3, axis=1), (2, 5)),
    "array_split into more than there are": (lambda f, x: f.array_split(x, 3), (2,)),
    "unstack": (lambda f, x: f.unstack(x, axis=1), (2, 3)),
    "unstack of nothing": (lambda f, x: f.unstack(x), (0, 3)),
    "tile": (lambda f, x: f.tile(x, (2, 1, 3)), (2, 3)),
    "tile fewer axes": (lambda f, x: f.tile(x, 2), (2, 3)),
    "tile no times": (lambda f, x: f.tile(x, (0, 2)), (2, 3)),
    "repeat": (lambda f, x: f.repeat(x, 3, axis=0), (2, 3)),
    "repeat flat": (lambda f, x: f.repeat(x, 2), (2, 3)),
    "repeat no times": (lambda f, x: f.repeat(x, 0, axis=1), (2, 3)),
    "repeat by counts": (lambda f, x: f.repeat(x, [2, 0, 1], axis=-1), (2, 3)),
    "repeat by one count": (lambda f, x: f.repeat(x, np.array([2]), axis=0), (2, 3)),
    "pad": (lambda f, x: f.pad(x, 1), (2, 3)),
    "pad by a pair": (lambda f, x: f.pad(x, (2, 0)), (2, 3)),
    "pad by pairs": (lambda f, x: f.pad(x, ((0, 1), (2, 0))), (2, 3)),
    "pad by a column": (lambda f, x: f.pad(x, ((1,), (2,))), (2, 3)),
    "pad by a dictionary": (lambda f, x: f.pad(x, {-1: (1, 2)}), (2, 3)),
    "pad with constants": (lambda f, x: f.pad(x, 1, constant_values=((1, 2), (3, 4))), (2, 3)),
    "pad nothing": (lambda f, x: f.pad(x, ((1, 1), (0, 0)), constant_values=5), (0, 2)),
    "pad by reflection": (lambda f, x: f.pad(x, (4, 1), mode="reflect"), (3, 2)),
    "pad by symmetry": (lambda f, x: f.pad(x, 2, mode="symmetric"), (2, 3)),
    "pad by the edge": (lambda f, x: f.pad(x, ((1, 2), (0, 0)), mode="edge"), (2, 3)),
    "pad by wrapping": (lambda f, x: f.pad(x, 3, mode="wrap"), (2, 3)),
    "pad by the edge, not at all": (lambda f, x: f.pad(x, 0, mode="edge"), (2, 3)),
    "diag of a vector": (lambda f, x: f.diag(x), (3,)),
    "diag of a vector, above": (lambda f, x: f.diag(x, 2), (3,)),
    "diag of a vector, below": (lambda f, x: f.diag(x, -1), (2,)),
    "diag of a matrix": (lambda f, x: f.diag(x), (3, 4)),
    "diag of a matrix, above": (lambda f, x: f.diag(x, 1), (3, 4)),
    "diag of a matrix, below": (lambda f, x: f.diag(x, -2), (4, 2)),
    "diag outside a matrix": (lambda f, x: f.diag(x, 5), (2, 3)),
    "meshgrid": (lambda f, x, y: f.meshgrid(x, y), (2,), (3,)),
    "meshgrid ij": (lambda f, x, y, z: f.meshgrid(x, y, z, indexing="ij"), (2,), (3,), (1,)),
    "linspace": (lambda f, x, y: f.linspace(x, y, 5), (), ()),
    "linspace without its end": (lambda f, x: f.linspace(x, 2.0, 4, endpoint=False), (3,)),
    "linspace of arrays": (lambda f, x, y: f.linspace(x, y, 3), (2, 1), (3,)),
    "linspace of one": (lambda f, x: f.linspace(x, 2.0, 1), ()),
}


class _ChainRule:
    """The functions under test by NumPy's names."""

    def __getattr__(self, name):
        return next(getattr(room, name) for room in (layout, joining, creation) if hasattr(room, name))


f = _ChainRule()


def inputs(shapes, dtype=np.float64):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def squares(y):
    """A scalar that depends on every element in its own way."""
    return sum(((part + 1) ** 3).sum() for part in parts(y))


# Every function ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.bool_])
def test_the_value_and_dtype_are_numpys(case, dtype):
    function, *shapes = CASES[case]
    given = inputs(shapes, dtype)
    if dtype == np.bool_ and "linspace" in case:
        return  # NumPy subtracts no booleans
    expected = parts(function(np, *given))
    found = parts(function(f, *map(cr.tensor, given)))
    assert len(found) == len(expected)
    for y, oracle in zip(found, expected, strict=True):
        assert y.shape == oracle.shape
        assert y.dtype == oracle.dtype
        if "linspace" in case:
            assert_allclose(y.numpy(), oracle, atol=1e-7 if dtype == np.float32 else 1e-15)
        else:
            assert_array_equal(y.numpy(), oracle)


@pytest.mark.parametrize("case", CASES)
def test_plain_arrays_and_lists_are_taken_too_and_give_constants(case):
    function, *shapes = CASES[case]
    given = inputs(shapes)
    for xs in (given, [x.tolist() for x in given]):
        if any(0 in shape for shape in shapes) or "atleast" in case or "linspace" in case:
            continue  # a list does not know these shapes
        for y, oracle in zip(parts(function(f, *xs)), parts(function(np, *given)), strict=True):
            assert isinstance(y, cr.Tensor)
            assert_array_equal(y.numpy(), oracle)


@pytest.mark.parametrize("case", CASES)
def test_first_and_second_derivatives_agree_with_central_differences(case):
    function, *shapes = CASES[case]
    if case == "unstack of nothing":
        return  # there is no output
    cr.check_grads(lambda *xs: squares(function(f, *xs)), inputs(shapes), order=2, max_elements=8)


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_of_float32_is_float32_of_the_same_shape(case):
    function, *shapes = CASES[case]
    leaves = [cr.tensor(x, requires_grad=True) for x in inputs(shapes, np.float32)]
    y = squares(function(f, *leaves))
    if not isinstance(y, cr.Tensor):
        return  # of no outputs
    assert y.dtype == np.float32
    y.backward()
    for leaf in leaves:
        assert (leaf.grad.dtype, leaf.grad.shape) == (np.float32, leaf.shape)


@pytest.mark.parametrize("case", CASES)
def test_array_api_strict_gives_numpys_value_and_derivatives(case):
    function, *shapes = CASES[case]
    if case != "unstack of nothing":
        assert_same_on(array_api_strict, lambda *xs: function(f, *xs), *inputs(shapes))


# Any shape --------------------------------------------------------------------------------------------------


@given(shape=SHAPES, data=st.data())
def test_any_order_of_axes_is_undone_by_the_transpose(shape, data):
    axes = data.draw(st.permutations(range(len(shape))))
    x = np.random.default_rng(0).normal(size=shape)
    _, pull = cr.vjp(lambda t: layout.permute_dims(t, axes), x)
    assert_array_equal(pull(np.permute_dims(x, axes))[0], x)


@given(shape=array_shapes(max_dims=3, max_side=3), data=st.data())
def test_the_gradient_of_broadcasting_counts_the_copies(shape, data):
    target = data.draw(broadcastable_shapes(shape, min_dims=len(shape), max_dims=5, max_side=3))
    target = np.broadcast_shapes(shape, target)
    x = cr.tensor(np.zeros(shape), requires_grad=True)
    layout.broadcast_to(x, target).sum().backward()
    assert_array_equal(x.grad.numpy(), np.full(shape, np.prod(target) / np.prod(shape)))


@FEW
@given(shapes=mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3))
def test_broadcast_arrays_of_any_shapes_are_numpys(shapes):
    given = inputs(shapes.input_shapes)
    for y, oracle in zip(layout.broadcast_arrays(*given), np.broadcast_arrays(*given), strict=True):
        assert_array_equal(y.numpy(), oracle)


@given(shape=array_shapes(max_dims=3, min_side=0, max_side=5), data=st.data(), seed=SEEDS)
def test_the_pieces_of_a_split_joined_again_are_the_array_and_so_are_their_gradients(shape, data, seed):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    places = sorted(data.draw(st.lists(st.integers(0, shape[axis]), max_size=3)))
    x = np.random.default_rng(seed).normal(size=shape)
    rejoined, pull = cr.vjp(lambda t: joining.concat(joining.split(t, places, axis), axis), x)
    assert_array_equal(rejoined, x)
    assert_array_equal(pull(x)[0], x)


@FEW
@given(
    shape=array_shapes(max_dims=3, max_side=3),
    data=st.data(),
    mode=st.sampled_from(["constant", "edge", "reflect", "symmetric", "wrap"]),
)
def test_padding_of_any_widths_has_numpys_value_and_right_derivatives(shape, data, mode):
    widths = [(data.draw(st.integers(0, 4)), data.draw(st.integers(0, 4))) for _ in shape]
    (x,) = inputs([shape])
    assert_array_equal(joining.pad(x, widths, mode).numpy(), np.pad(x, widths, mode))
    cr.check_grads(lambda t: joining.pad(t, widths, mode) ** 2, (x,), order=2, max_elements=4)


@FEW
@given(shape=array_shapes(max_dims=3, max_side=3), counts=st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_tiling_by_any_counts_has_numpys_value_and_the_gradient_counts_the_copies(shape, counts):
    (x,) = inputs([shape])
    assert_array_equal(joining.tile(x, counts).numpy(), np.tile(x, counts))
    g = cr.grad(lambda t: joining.tile(t, counts).sum())(x)
    assert_array_equal(g, np.full(shape, np.prod(counts)))


def test_one_used_piece_of_a_split_leaves_zeros_for_the_others():
    x = cr.tensor(np.ones(5), requires_grad=True)
    joining.split(x, [1, 3])[1].sum().backward()
    assert_array_equal(x.grad.numpy(), [0, 1, 1, 0, 0])


# Dtypes -----------------------------------------------------------------------------------------------------


def test_a_gradient_flows_through_a_change_of_floating_type_and_comes_back_in_its_own():
    x = cr.tensor(np.ones(3, np.float32), requires_grad=True)
    y = layout.astype(x, np.float64) * 2
    assert y.dtype == np.float64
    y.sum().backward()
    assert x.grad.dtype == np.float32
    assert_array_equal(x.grad.numpy(), [2, 2, 2])


@pytest.mark.parametrize("dtype", [np.int64, np.bool_])
def test_conversion_to_integers_or_booleans_carries_no_gradient(dtype):
    y = layout.astype(cr.tensor([1.5, 0.0], requires_grad=True), dtype)
    assert y.dtype == dtype
    assert not y.requires_grad


def test_joined_float32_and_float64_get_gradients_of_their_own_types():
    x, y = (cr.tensor(np.ones(2, dtype), requires_grad=True) for dtype in (np.float32, np.float64))
    joined = joining.concat([x, y])
    assert joined.dtype == np.float64
    joined.sum().backward()
    assert (x.grad.dtype, y.grad.dtype) == (np.float32, np.float64)


# Creation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["zeros", "ones", "empty"])
@pytest.mark.parametrize("shape", [(), 3, (2, 0), [2, 3]])
@pytest.mark.parametrize("dtype", [None, np.float32, np.int64, bool, "float32"])
def test_arrays_from_a_shape_are_numpys(name, shape, dtype):
    y = getattr(creation, name)(shape, dtype=dtype)
    assert_array_equal(y.numpy(), getattr(np, "zeros" if name == "empty" else name)(shape, dtype=dtype), strict=True)


@pytest.mark.parametrize("name, value", [("zeros_like", 0), ("ones_like", 1), ("empty_like", 0)])
@pytest.mark.parametrize("library", [np, array_api_strict])
def test_an_array_like_another_has_its_library_shape_and_dtype(name, value, library):
    x = cr.tensor(library.asarray([[1.5, 2.5]], dtype=library.float32))
    y = getattr(creation, name)(x)
    assert_array_equal(y.numpy(), np.full((1, 2), value, np.float32), strict=True)
    assert type(y.data) is type(x.data)
    assert y.dtype == x.dtype
    assert getattr(creation, name)(x, dtype=library.int64).dtype == library.int64


def test_full_of_a_recorded_number_passes_its_gradient_on():
    x = cr.tensor(3.0, requires_grad=True)
    y = creation.full((2, 3), x) + creation.full_like(np.zeros((2, 3)), x)
    assert_array_equal(y.detach().numpy(), np.full((2, 3), 6.0))
    y.sum().backward()
    assert x.grad.item() == 12
    assert_array_equal(creation.full(2, 7).numpy(), np.full(2, 7), strict=True)
    assert_array_equal(creation.full_like([1.5], 7).numpy(), [7.0], strict=True)


def test_eye_arange_and_linspace_of_numbers_are_numpys():
    assert_array_equal(creation.eye(2, 3, k=1, dtype=np.float32).numpy(), np.eye(2, 3, 1, np.float32), strict=True)
    assert_array_equal(creation.eye(2).numpy(), np.eye(2), strict=True)
    assert_array_equal(creation.arange(3).numpy(), np.arange(3), strict=True)
    assert_array_equal(creation.arange(1, 2, 0.25).numpy(), np.arange(1, 2, 0.25), strict=True)
    assert_array_equal(creation.linspace(0, 1, 7).numpy(), np.linspace(0, 1, 7), strict=True)


@pytest.mark.parametrize("name", ["zeros", "ones", "eye"])
def test_an_array_made_with_another_librarys_dtype_is_of_that_library(name):
    cr.tensor(array_api_strict.asarray(1.0))  # a library is known from its first array on
    assert type(getattr(creation, name)(2, dtype=array_api_strict.float32).data) is array_api_strict._array_object.Array


# Errors -----------------------------------------------------------------------------------------------------

X = np.zeros((2, 3))


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: layout.reshape(X, (4, 2)), ValueError, r"reshape: .*\(2, 3\).*\(4, 2\)"),
        (lambda: layout.reshape(X, (-1, -1)), ValueError, r"reshape: .*\(2, 3\).*\(-1, -1\)"),
        (lambda: layout.reshape(X, (-1, 4)), ValueError, r"reshape: .*\(2, 3\).*\(-1, 4\)"),
        (lambda: layout.reshape(X, (-2, -3)), ValueError, r"reshape: .*\(2, 3\).*\(-2, -3\)"),
        (lambda: layout.reshape(X, (3, 2), order="F"), ValueError, "reshape: order 'F'"),
        (lambda: layout.permute_dims(X, (0,)), ValueError, "permute_dims: 1 axes .* 2 dimensions"),
        (lambda: layout.permute_dims(X, (0, 0)), ValueError, "permute_dims: .* twice"),
        (lambda: layout.swapaxes(X, 0, 2), np.exceptions.AxisError, "swapaxes: axis 2"),
        (lambda: layout.moveaxis(X, (0, 1), 0), ValueError, "moveaxis: 2 source axes and 1"),
        (lambda: layout.matrix_transpose(X[0]), ValueError, r"matrix_transpose: .*\(3,\)"),
        (lambda: layout.squeeze(X, 0), ValueError, r"squeeze: .*\(2, 3\)"),
        (lambda: layout.broadcast_to(X, (3, 2)), ValueError, r"broadcast_to: .*\(2, 3\).*\(3, 2\)"),
        (lambda: layout.broadcast_to(X, (3,)), ValueError, r"broadcast_to: .*\(2, 3\).*\(3,\)"),
        (lambda: layout.broadcast_arrays(X, X.T), ValueError, r"broadcast_arrays: .*\(2, 3\), \(3, 2\)"),
        (lambda: layout.roll(X, (1, 2, 3), (0, 1)), ValueError, "roll: 3 shifts .* 2 axes"),
        (lambda: layout.tril(X[0]), ValueError, r"tril: .*\(3,\)"),
        (lambda: joining.concat([]), ValueError, "concat: needs at least one"),
        (lambda: joining.concat([X, X.T]), ValueError, r"concat: shapes \(2, 3\), \(3, 2\)"),
        (lambda: joining.stack([X, X.T]), ValueError, r"stack: .*\(2, 3\), \(3, 2\)"),
        (lambda: joining.split(X, 2, axis=1), ValueError, r"split: axis 1 of shape \(2, 3\) has no 2 equal"),
        (lambda: joining.array_split(X, 0), ValueError, "array_split: .* at least 1, got 0"),
        (lambda: joining.tile(X, -1), ValueError, "tile: .* negative"),
        (lambda: joining.repeat(X, [1, 2], axis=1), ValueError, "repeat: .* or 3 of them"),
        (lambda: joining.repeat(X, 1.5), ValueError, "repeat: .*float64"),
        (lambda: joining.pad(X, -1), ValueError, "pad: .* negative"),
        (lambda: joining.pad(X, ((1, 2), (3, 4), (5, 6))), ValueError, "pad: pad_width .* 2 dimensions"),
        (lambda: joining.pad(X, 1, mode="median"), ValueError, "pad: mode 'median' is not supported"),
        (lambda: joining.pad(X[:0], 1, mode="edge"), ValueError, r"pad: .*nothing to copy.*\(0, 3\)"),
        (lambda: joining.diag(X[None]), ValueError, r"diag: .*\(1, 2, 3\)"),
        (lambda: creation.meshgrid(X), ValueError, r"meshgrid: needs vectors, got shapes \(2, 3\)"),
        (lambda: creation.meshgrid(indexing="yx"), ValueError, "meshgrid: indexing"),
        (lambda: creation.linspace(0, 1, -1), ValueError, "linspace: .* negative"),
        (lambda: layout.flip(["a"]), TypeError, "flip: "),
    ],
)
def test_a_mistake_is_answered_by_the_operations_name_and_the_shapes(call, error, message):
    with pytest.raises(error, match=message):
        call()
