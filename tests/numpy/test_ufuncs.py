"""Operators, ufuncs, their options and their methods, with tensors on either side."""

import operator

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays, mutually_broadcastable_shapes

import chainrule as cr

_rng = np.random.default_rng(1)
A = _rng.uniform(0.5, 1.5, (3, 4))
B = _rng.uniform(0.5, 1.5, (3, 4))
MASK = A > 1

BINARY = {
    operator.add: (1.0, 1.0),
    operator.sub: (1.0, -1.0),
    operator.mul: (B, A),
    operator.truediv: (1 / B, -A / B**2),
    operator.pow: (B * A ** (B - 1), A**B * np.log(A)),
}


def recorded(array):
    return cr.tensor(array, requires_grad=True)


def gradient(function, *arrays):
    return cr.grad(lambda *xs: function(*xs).sum(), tuple(range(len(arrays))))(*arrays)


@pytest.mark.parametrize("operation", BINARY)
@pytest.mark.parametrize("plain_side", ["left", "right", "neither"])
def test_operators_differentiate_with_a_plain_array_on_either_side(operation, plain_side):
    a, b = recorded(A), recorded(B)
    y = operation(A if plain_side == "left" else a, B if plain_side == "right" else b)
    assert isinstance(y, cr.Tensor)
    np.testing.assert_array_equal(y.detach().numpy(), operation(A, B))
    y.sum().backward()
    for tensor, local, side in ((a, BINARY[operation][0], "left"), (b, BINARY[operation][1], "right")):
        if side == plain_side:
            assert tensor.grad is None
        else:
            np.testing.assert_allclose(tensor.grad.numpy(), np.broadcast_to(local, A.shape), rtol=1e-13)


@pytest.mark.parametrize("number", [2.0, 2, np.float64(2.0), np.float32(2.0), np.int64(2), [2.0, 3.0, 4.0, 5.0]])
@pytest.mark.parametrize("operation", BINARY)
def test_operators_take_numbers_numpy_scalars_and_lists_on_either_side(operation, number):
    t = recorded(A)
    np.testing.assert_array_equal(operation(t, number).detach().numpy(), operation(A, number))
    np.testing.assert_array_equal(operation(number, t).detach().numpy(), operation(number, A))


@given(
    mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3).flatmap(
        lambda shapes: st.tuples(*(arrays(np.float64, s, elements=st.floats(0.5, 2)) for s in shapes.input_shapes))
    ),
    st.sampled_from([np.add, np.multiply, np.divide, np.power, np.arctan2, np.hypot]),
)
def test_a_ufunc_gives_each_input_a_gradient_of_its_own_shape(inputs, ufunc):
    a, b = inputs
    y = ufunc(recorded(a), recorded(b))
    np.testing.assert_array_equal(y.detach().numpy(), ufunc(a, b))
    gradients = gradient(ufunc, a, b)
    assert [np.shape(g) for g in gradients] == [a.shape, b.shape]
    cr.check_grads(ufunc, (a, b), max_elements=3)


def test_augmented_assignment_to_a_tensor_moves_the_handle_and_keeps_the_graph():
    x = recorded(A)
    y = x * 1.0
    before = y
    y += B
    y *= 2
    assert y is before
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.full(A.shape, 2.0))


def test_augmented_assignment_of_a_recorded_tensor_to_an_array_says_what_to_do():
    a = A.copy()
    with pytest.raises(cr.GradientError, match=r"np\.add: out is a NumPy array.*a = a \+ t"):
        a += recorded(B)
    np.testing.assert_array_equal(a, A)


def test_augmented_assignment_of_a_constant_tensor_to_an_array_works():
    a = A.copy()
    a += cr.tensor(B)
    np.testing.assert_array_equal(a, A + B)


# Options -------------------------------------------------------------------------------------------------------------


def test_out_moves_a_tensor_to_the_result():
    x, out = recorded(A), cr.numpy.zeros(A.shape)
    assert np.exp(x, out=out) is out
    out.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.exp(A))


def test_out_of_another_shape_or_dtype_is_refused():
    with pytest.raises(ValueError, match=r"np\.exp: the result has shape \(3, 4\), out has shape \(4,\)"):
        np.exp(recorded(A), out=cr.numpy.zeros(4))
    with pytest.raises(TypeError, match=r"np\.exp: a result of dtype float64 cannot be stored in out of dtype int64"):
        np.exp(recorded(A), out=cr.numpy.zeros((3, 4), dtype=np.int64))


def test_where_computes_the_chosen_elements_only():
    x = np.where(MASK, A, 0.0)
    t = recorded(x)
    out = cr.tensor(np.full(A.shape, 7.0))
    y = np.log(t, where=MASK, out=out)
    np.testing.assert_array_equal(y.detach().numpy(), np.where(MASK, np.log(np.where(MASK, x, 1)), 7.0))
    y.sum().backward()
    np.testing.assert_array_equal(t.grad.numpy(), np.where(MASK, 1 / np.where(MASK, x, 1), 0.0))


def test_where_leaves_the_gradient_of_the_other_elements_to_out():
    _, g = gradient(lambda a, b: np.multiply(a, 2, where=MASK, out=b * 1), A, B)
    np.testing.assert_array_equal(g, np.where(MASK, 0.0, 1.0))


def test_dtype_is_the_dtype_that_is_computed_in():
    y = np.multiply(recorded(A.astype(np.float32)), 2, dtype=np.float64)
    assert y.dtype == np.float64
    (g,) = gradient(lambda x: np.multiply(x, 2, dtype=np.float64), A.astype(np.float32))
    assert g.dtype == np.float32


def test_options_without_a_meaning_for_tensors_are_refused_by_name():
    with pytest.raises(TypeError, match=r"np\.matmul: the argument axes=.* is not supported"):
        np.matmul(recorded(A), recorded(B.T), axes=[(0, 1), (0, 1), (0, 1)])


# Methods -------------------------------------------------------------------------------------------------------------

METHODS = [
    (np.add.reduce, {}),
    (np.add.reduce, {"axis": None}),
    (np.add.reduce, {"axis": (0, 1), "keepdims": True}),
    (np.multiply.reduce, {"axis": 1}),
    (np.maximum.reduce, {"axis": 1}),
    (np.minimum.reduce, {}),
    (np.logaddexp.reduce, {"axis": 1}),
    (np.hypot.reduce, {"axis": 1}),
    (np.subtract.reduce, {"axis": 1, "keepdims": True}),
    (np.fmax.reduce, {"axis": (0, 1)}),
    (np.add.accumulate, {"axis": 1}),
    (np.multiply.accumulate, {}),
    (np.maximum.accumulate, {"axis": 1}),
]


@pytest.mark.parametrize("method, options", METHODS)
def test_reduce_and_accumulate_are_numpys_and_differentiate(method, options):
    np.testing.assert_allclose(method(cr.tensor(A), **options).numpy(), method(A, **options), rtol=1e-14)
    cr.check_grads(lambda x: method(x, **options), (A,), order=2, max_elements=6)


@pytest.mark.parametrize("ufunc", [np.multiply, np.add, np.power, np.arctan2])
def test_outer_combines_every_pair(ufunc):
    a, b = A[0], B[:, :2]
    np.testing.assert_array_equal(ufunc.outer(cr.tensor(a), b).numpy(), ufunc.outer(a, b))
    cr.check_grads(ufunc.outer, (a, b), order=2, max_elements=4)


@pytest.mark.parametrize("ufunc", [np.add, np.multiply, np.maximum])
def test_reduceat_combines_stretches(ufunc):
    indices = [0, 2, 1]
    wanted = ufunc.reduceat(A, indices, axis=1)
    np.testing.assert_array_equal(ufunc.reduceat(cr.tensor(A), indices, axis=1).numpy(), wanted)
    cr.check_grads(lambda x: ufunc.reduceat(x, indices, axis=1), (A,), max_elements=6)


def test_add_at_adds_once_for_each_time_an_element_is_named():
    def added(a, v):
        y = a * 1
        np.add.at(y, ([0, 2, 0], [1, 1, 1]), v)
        return y

    v = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(added(cr.tensor(A), cr.tensor(v)).numpy(), added(A, v))
    cr.check_grads(added, (A, v), order=2)


def test_a_method_that_is_not_supported_is_named():
    with pytest.raises(TypeError, match=r"np\.multiply\.at is not supported on tensors"):
        np.multiply.at(recorded(A), [0], 2.0)


# Without a gradient --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ufunc", [np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal, np.logical_and]
)
def test_comparisons_are_constants_on_either_side(ufunc):
    for y in (ufunc(recorded(A), B), ufunc(A, recorded(B))):
        assert not y.requires_grad
        np.testing.assert_array_equal(y.numpy(), ufunc(A, B))


def test_comparison_operators_take_arrays_on_either_side_and_leave_none_to_python():
    t = recorded(A)
    for operation in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne):
        np.testing.assert_array_equal(operation(t, B).numpy(), operation(A, B))
        np.testing.assert_array_equal(operation(A, recorded(B)).numpy(), operation(A, B))
        np.testing.assert_array_equal(operation(np.float64(1.0), t).numpy(), operation(1.0, A))
    assert (t == None) is False  # noqa: E711
    assert (t != None) is True  # noqa: E711


def test_integers_and_booleans_keep_numpys_meaning():
    i = np.array([3, 5, 6])
    t = cr.tensor(i)
    for ufunc in (np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.left_shift, np.right_shift, np.gcd, np.lcm):
        np.testing.assert_array_equal(ufunc(t, 2).numpy(), ufunc(i, 2))
    np.testing.assert_array_equal(np.invert(t).numpy(), ~i)
    np.testing.assert_array_equal((t > 4).numpy() & ~(t > 5).numpy(), [False, True, False])


def test_a_ufunc_without_a_derivative_is_named_and_constants_pass():
    with pytest.raises(cr.GradientError, match=r"np\.spacing has no derivative here.*cr\.custom_vjp.*detach"):
        np.spacing(recorded(A))
    np.testing.assert_array_equal(np.spacing(cr.tensor(A)).numpy(), np.spacing(A))
    with pytest.raises(cr.GradientError, match="ellipk has no derivative here"):
        scipy.special.ellipk(recorded(A - 0.5))


# SciPy ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["expit", "erf", "erfc", "gammaln", "digamma", "log_ndtr", "ndtr", "i0", "j1", "entr"])
def test_scipys_ufuncs_run_on_tensors(name):
    ufunc = getattr(scipy.special, name)
    np.testing.assert_allclose(ufunc(recorded(A)).detach().numpy(), ufunc(A), rtol=1e-14)
    cr.check_grads(ufunc, (A,), order=2, max_elements=4)


@pytest.mark.parametrize("name", ["xlogy", "xlog1py", "betaln", "rel_entr", "kl_div"])
def test_scipys_binary_ufuncs_run_with_a_tensor_at_either_place(name):
    ufunc = getattr(scipy.special, name)
    for inputs in ((recorded(A), B), (A, recorded(B))):
        np.testing.assert_allclose(ufunc(*inputs).detach().numpy(), ufunc(A, B), rtol=1e-14)
    cr.check_grads(ufunc, (A, B), max_elements=4)
