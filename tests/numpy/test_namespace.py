"""`chainrule.numpy` as the array API namespace of tensors."""

import array_api_compat
import array_api_strict
import numpy as np
import pytest

import chainrule as cr
from chainrule import numpy as cnp

#: What the standard has and chainrule leaves out on purpose: complex numbers and Fourier transforms.
_LEFT_OUT = {"complex64", "complex128", "fft", "eig", "eigvals"}
#: What array_api_strict has beside the standard.
_ITS_OWN = {
    *("ArrayAPIStrictFlags", "Device", "get_array_api_strict_flags", "reset_array_api_strict_flags"),
    *("set_array_api_strict_flags", "__version__"),
}


def test_every_name_of_the_standard_is_there():
    names = set(array_api_strict.__all__) - _ITS_OWN - _LEFT_OUT
    assert {name for name in names if not hasattr(cnp, name)} == set()
    extension = {"inv", "solve", "cholesky", "qr", "svd", "det", "eigh", "pinv", "matrix_norm", "cross", "matrix_rank"}
    assert {name for name in extension if not hasattr(cnp.linalg, name)} == set()
    assert cnp.__array_api_version__ == "2024.12"


@pytest.mark.parametrize("name", ["arcsin", "absolute", "concatenate", "transpose", "cumsum", "power", "amax", "mod"])
def test_numpys_older_names_are_there_too(name):
    assert callable(getattr(cnp, name))


def test_a_tensor_says_which_namespace_it_belongs_to():
    t = cr.tensor([1.0, 2.0])
    assert t.__array_namespace__() is cnp
    assert t.__array_namespace__(api_version="2023.12") is cnp
    assert array_api_compat.array_namespace(t, 1.0) is cnp
    with pytest.raises(ValueError, match=r"version '2030\.01' of the array API is not supported"):
        t.__array_namespace__(api_version="2030.01")


def _standardized(x, /, *, axis=0):
    """A function of a library that is written to the standard."""
    xp = array_api_compat.array_namespace(x)
    kind = xp.result_type(x, xp.float32)
    x = xp.astype(x, kind)
    centred = x - xp.mean(x, axis=axis, keepdims=True)
    spread = xp.std(x, axis=axis, correction=1, keepdims=True)
    safe = xp.where(spread > xp.finfo(kind).eps, spread, xp.ones_like(spread))
    ranked = xp.take_along_axis(centred / safe, xp.argsort(centred, axis=axis), axis=axis)
    return xp.concat([ranked, xp.expand_dims(xp.linalg.vector_norm(ranked, axis=axis), axis=axis)], axis=axis)


def test_a_function_written_to_the_standard_runs_on_tensors_and_differentiates():
    x = np.random.default_rng(0).standard_normal((5, 3))
    np.testing.assert_allclose(_standardized(cr.tensor(x)).numpy(), _standardized(x), rtol=1e-14)
    cr.check_grads(_standardized, (x,), order=2, max_elements=6)


def test_it_runs_on_tensors_over_another_array_library():
    x = np.random.default_rng(0).standard_normal((5, 3))
    over_strict = cr.tensor(array_api_strict.asarray(x))
    result = _standardized(over_strict)
    assert type(result.data) is type(array_api_strict.asarray(x))
    np.testing.assert_allclose(np.from_dlpack(result), _standardized(x), rtol=1e-14)


@pytest.mark.parametrize(
    "name, args",
    [
        ("sin", (1.0,)), ("add", ([1, 2], 3)), ("sum", (np.ones(3),)), ("reshape", (np.ones(4), (2, 2))),
        ("diff", (np.arange(3.0),)), ("cov", (np.eye(3),)), ("isclose", (np.ones(2), 1.0)), ("sinc", (0.5,)),
        ("argsort", ([3, 1, 2],)), ("interp", (0.5, [0.0, 1.0], [1.0, 3.0])), ("unique", ([1, 1, 2],)),
    ],
)  # fmt: skip
def test_functions_of_the_namespace_return_tensors_also_for_plain_arrays(name, args):
    result = getattr(cnp, name)(*args)
    assert isinstance(result, cr.Tensor)
    np.testing.assert_allclose(result.numpy(), getattr(np, name)(*args))


# Creation ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda xp: xp.zeros((2, 3)), lambda xp: xp.ones(4, dtype=np.float32), lambda xp: xp.full((2,), 7),
        lambda xp: xp.zeros((2, 0), dtype=np.int64), lambda xp: xp.arange(5), lambda xp: xp.arange(1, 4, 0.5),
        lambda xp: xp.linspace(0, 1, 5), lambda xp: xp.linspace(0, 1, 4, endpoint=False, dtype=np.float32),
        lambda xp: xp.linspace(0, 1, 3, retstep=True)[1], lambda xp: xp.eye(3, 4, k=1), lambda xp: xp.identity(2),
        lambda xp: xp.tri(3, 4, 1), lambda xp: xp.asarray([[1, 2], [3, 4]]), lambda xp: xp.array(3),
        lambda xp: xp.array([1.5], ndmin=3), lambda xp: xp.asarray([True, False]),
        lambda xp: xp.asarray([1], dtype="f4"),
        lambda xp: xp.zeros_like(np.ones(3, np.float32)), lambda xp: xp.full_like(np.ones((2, 2)), 3, shape=(3,)),
        lambda xp: xp.ones_like(np.arange(3)), lambda xp: xp.meshgrid(np.arange(3), np.arange(2))[0],
        lambda xp: xp.tril(np.ones((3, 3))), lambda xp: xp.triu(np.ones((3, 3)), k=1),
    ],
)  # fmt: skip
def test_creation_makes_tensors_with_numpys_values_and_dtypes(call):
    made, wanted = call(cnp), np.asarray(call(np))
    assert isinstance(made, cr.Tensor)
    assert made.dtype == wanted.dtype
    np.testing.assert_array_equal(made.numpy(), wanted)


@pytest.mark.parametrize("make", [cnp.asarray, cnp.array, cnp.from_dlpack])
def test_a_tensor_never_shares_memory_with_the_callers_array(make):
    a = np.ones(3)
    t = make(a)
    a[0] = 5
    assert t.numpy().tolist() == [1, 1, 1]


def test_asarray_copies_only_where_it_must():
    t = cr.tensor([1.0], requires_grad=True)
    assert cnp.asarray(t) is t
    assert cnp.asarray(t, dtype=np.float64) is t
    copied = cnp.asarray(t, copy=True)
    copied += 1
    assert (t.item(), copied.item()) == (1, 2)
    with pytest.raises(ValueError, match="a tensor never shares memory"):
        cnp.asarray(np.ones(2), copy=False)
    with pytest.raises(TypeError, match="the argument device='cuda' is not supported"):
        cnp.asarray(1.0, device="cuda")


def test_asarray_stacks_nested_lists_of_tensors_and_numbers():
    a, b = cr.tensor(2.0, requires_grad=True), cr.tensor(3.0, requires_grad=True)
    m = cnp.asarray([[a, 1], [b * b, a]])
    assert m.detach().numpy().tolist() == [[2, 1], [9, 2]]
    m.sum().backward()
    assert (a.grad.item(), b.grad.item()) == (2, 6)


def test_integers_make_integer_tensors_and_complex_numbers_none():
    assert cnp.asarray(3).dtype == np.int64
    with pytest.raises(TypeError, match="complex"):
        cnp.asarray([1j])


# Exchange ------------------------------------------------------------------------------------------------------------


def test_dlpack_hands_out_a_copy():
    t = cr.tensor([1.0, 2.0])
    a = np.from_dlpack(t)
    np.testing.assert_array_equal(a, [1, 2])
    a[0] = 9
    assert t.numpy().tolist() == [1, 2]
    with pytest.raises(BufferError, match="never shared"):
        t.__dlpack__(copy=False)


def test_dlpack_refuses_a_recorded_tensor():
    with pytest.raises(cr.GradientError, match="would drop its gradient"):
        np.from_dlpack(cr.tensor([1.0], requires_grad=True))


def test_to_device_stays_where_it_is():
    t = cr.tensor([1.0])
    assert t.to_device(t.device) is t
    with pytest.raises(ValueError, match="cannot move a tensor from cpu to cuda"):
        t.to_device("cuda")


# Inspection ----------------------------------------------------------------------------------------------------------


def test_the_namespace_describes_itself():
    info = cnp.__array_namespace_info__()
    assert info.default_device() == "cpu"
    assert info.devices() == ["cpu"]
    assert info.capabilities()["boolean indexing"]
    assert info.default_dtypes()["real floating"] == np.float64
    assert set(info.dtypes(kind="real floating")) == {"float32", "float64"}
    assert not any("complex" in name for name in info.dtypes())


def test_questions_about_dtypes_take_tensors():
    t = cr.tensor([1.0], dtype=np.float32)
    assert cnp.result_type(t, 1.0) == np.float32
    assert cnp.result_type(t, np.float64) == np.float64
    assert cnp.isdtype(t.dtype, "real floating")
    assert cnp.finfo(t).eps == np.finfo(np.float32).eps
    assert cnp.iinfo(np.int8).max == 127
    assert cnp.can_cast(t, np.float64)
    assert not cnp.can_cast(np.float64, np.int64)


# Methods -------------------------------------------------------------------------------------------------------------

A = np.random.default_rng(1).standard_normal((2, 3, 4))


@pytest.mark.parametrize(
    "call",
    [
        lambda a: a.sum(axis=0), lambda a: a.mean(axis=(0, 2), keepdims=True), lambda a: a.std(axis=1, ddof=1),
        lambda a: a.var(), lambda a: a.max(axis=2), lambda a: a.prod(), lambda a: a.cumsum(axis=1),
        lambda a: a.clip(0, 1),
        lambda a: a.reshape(6, 4), lambda a: a.reshape((4, -1)), lambda a: a.ravel(), lambda a: a.flatten(),
        lambda a: a.T,
        lambda a: a.transpose(), lambda a: a.transpose(1, 0, 2), lambda a: a.swapaxes(0, 1), lambda a: a.squeeze(),
        lambda a: a.repeat(2, axis=0), lambda a: a.take([0, 2], axis=1), lambda a: a.diagonal(0, 1, 2),
        lambda a: a[0].trace(),
        lambda a: a.astype(np.float32), lambda a: a.copy(), lambda a: a.conj(), lambda a: a.real, lambda a: a.imag,
        lambda a: a.argmax(axis=1), lambda a: a.argsort(axis=0), lambda a: a.round(1), lambda a: a[0].dot(a[1].T),
        lambda a: a.any(axis=0), lambda a: abs(a), lambda a: divmod(a, 0.3)[1], lambda a: (a > 0).nonzero()[1],
        lambda a: 2 // a, lambda a: -a, lambda a: +a, lambda a: a @ a.transpose(0, 2, 1), lambda a: a.nbytes,
        lambda a: a.itemsize,
    ],
)  # fmt: skip
def test_methods_are_numpys(call):
    given, wanted = call(cr.tensor(A)), call(A)
    np.testing.assert_allclose(np.asarray(given), wanted, rtol=1e-13, atol=1e-15)
    assert np.asarray(given).dtype == np.asarray(wanted).dtype


def test_pytorchs_further_names_are_there():
    t = cr.tensor(A)
    assert t.view(6, 4).shape == (6, 4)
    assert t.permute(2, 0, 1).shape == (4, 2, 3)
    assert t.unsqueeze(1).shape == (2, 1, 3, 4)
    assert t.flatten(1).shape == (2, 12)
    assert (t.numel(), t.dim()) == (24, 3)


def test_iteration_gives_slices_that_carry_their_gradient():
    t = cr.tensor(A, requires_grad=True)
    first, second = t
    (first * second).sum().backward()
    np.testing.assert_array_equal(t.grad.numpy(), A[::-1])
    assert [int(i) for i in cr.tensor([1, 2])] == [1, 2]
    with pytest.raises(TypeError, match="0-d"):
        iter(cr.tensor(1.0))


def test_in_asks_for_an_element():
    assert 2.0 in cr.tensor([1.0, 2.0])
    assert 3.0 not in cr.tensor([1.0, 2.0])


def test_fill_moves_the_handle():
    t = cr.numpy.zeros(3)
    shared = t * 1
    t.fill(2.0)
    assert (t.tolist(), shared.tolist()) == ([2, 2, 2], [0, 0, 0])
