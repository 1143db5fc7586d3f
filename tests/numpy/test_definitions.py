"""NumPy's own definitions on tensors: what they may do, what they must not, and what is said where they cannot run."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.numpy import definitions

_rng = np.random.default_rng(2)
A = _rng.standard_normal((3, 4))
L = np.array([0.3, -1.2, 2.0, 0.7, -0.4])


def recorded(array):
    return cr.tensor(array, requires_grad=True)


def run(function, *args):
    """A definition of our own, run as NumPy's are."""
    return definitions._settled(definitions._rebuilt(function)(*args))


# What definitions may do ---------------------------------------------------------------------------------------------
# Definitions are found in modules of NumPy; these are stand-ins with the names that NumPy's own use.


def _fill_through_a_view(x):
    y = np.zeros(np.shape(x))
    row = y[0]
    row[1:] = np.asarray(x)[1, 1:]
    row *= 2
    np.multiply(x[2], 3, out=y[1])
    y[2] = row
    return y


def test_filling_a_slice_of_an_array_that_a_definition_made_fills_the_array():
    wanted = _fill_through_a_view(A)
    np.testing.assert_array_equal(run(_fill_through_a_view, recorded(A)).detach().numpy(), wanted)
    cr.check_grads(lambda x: run(_fill_through_a_view, x), (A,), order=2, max_elements=6)


def _read_a_view_after_its_array_changed(x):
    y = np.empty(3)
    first = y[:1]
    y[0] = x[0, 0]
    return first + 1


def test_a_view_of_an_array_that_a_definition_made_follows_the_array():
    np.testing.assert_array_equal(run(_read_a_view_after_its_array_changed, recorded(A)).detach().numpy(), A[0, :1] + 1)


def _change_a_copy(x):
    y = np.array(x)
    y -= y.mean()
    y[0] = 0
    return y


def test_a_definition_that_changes_a_copy_leaves_the_callers_tensor_alone():
    x = recorded(A)
    y = run(_change_a_copy, x)
    np.testing.assert_array_equal(x.detach().numpy(), A)
    np.testing.assert_array_equal(y.detach().numpy(), _change_a_copy(A))


@pytest.mark.parametrize("function", [np.cov, np.corrcoef, np.nan_to_num, np.unwrap, np.nanvar, np.average])
def test_numpys_definitions_leave_the_callers_tensor_alone(function):
    x = recorded(A)
    function(x)
    np.testing.assert_array_equal(x.detach().numpy(), A)
    assert x.is_leaf


def test_a_definition_is_rebuilt_once():
    assert definitions._rebuilt(np.diff._implementation) is definitions._rebuilt(np.diff._implementation)


def test_the_function_itself_is_not_changed():
    np.diff(recorded(L))
    assert isinstance(np.diff(L), np.ndarray)
    assert isinstance(np.vander(L), np.ndarray)


@pytest.mark.parametrize("function", [np.diff, np.gradient, np.cov, np.unwrap, np.vander, np.ediff1d])
def test_definitions_nest_in_any_order_of_modes(function):
    def scalar(x):
        return (function(x) ** 2).sum()

    tangent = np.linspace(-1, 1, L.size)
    reverse = cr.jvp(cr.grad(scalar), (L,), (tangent,))[1]
    twice = cr.grad(lambda x: cr.jvp(scalar, (x,), (tangent,))[1])(L)
    np.testing.assert_allclose(reverse, twice, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(reverse, cr.hessian(scalar)(L) @ tangent, rtol=1e-10, atol=1e-12)


def test_the_functions_given_to_a_definition_get_tensors():
    seen = []
    np.apply_along_axis(lambda row: seen.append(row) or row.sum(), 1, recorded(A))
    assert [type(row) for row in seen] == [cr.Tensor] * 3


def test_an_integer_result_is_a_constant():
    assert np.apply_along_axis(lambda row: row.argmax(), 1, recorded(A)).numpy().tolist() == A.argmax(1).tolist()


# What they must not do -----------------------------------------------------------------------------------------------


def _through_a_number(x):
    return np.zeros(2) + np.asarray(x)[0].item()


def test_a_result_that_lost_its_gradient_is_refused(monkeypatch):
    with pytest.raises(cr.GradientError, match=r"np\.lossy has no derivative here"):
        definitions._compare("np.lossy", run(_through_a_number, recorded(L)), _through_a_number, (recorded(L),), {})


def test_a_value_that_is_not_numpys_is_refused():
    with pytest.raises(TypeError, match=r"np\.wrong on tensors: .* gives another value"):
        definitions._compare("np.wrong", recorded(L) * 2, lambda x: x, (recorded(L),), {})


def test_a_definition_that_no_test_looks_at_is_compared_on_every_call(monkeypatch):
    monkeypatch.setattr(definitions, "TESTED", frozenset())
    compared = []
    monkeypatch.setattr(definitions, "_compare", lambda name, *rest: compared.append(name))
    np.diff(recorded(L))
    assert compared == ["np.diff"]


# What is said where they cannot run ----------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [lambda t: np.linalg.eig(t[:, :3]), lambda t: np.roots(t[0])])
def test_compiled_code_that_would_drop_a_gradient_is_refused_by_the_functions_name(call):
    with pytest.raises(cr.GradientError, match=r"np\.(linalg\.eig|roots) has no derivative here.*t\.detach\(\)"):
        call(recorded(A))


def test_a_definition_that_needs_arrays_is_named():
    with pytest.raises(TypeError, match=r"np\.sort_complex on tensors: "):
        np.sort_complex(recorded(L))


def test_fourier_transforms_are_refused_and_their_shifts_are_not():
    with pytest.raises(TypeError, match=r"np\.fft\.rfft is not supported on tensors: Fourier transforms are complex"):
        np.fft.rfft(recorded(L))
    np.testing.assert_array_equal(np.fft.fftshift(recorded(L)).detach().numpy(), np.fft.fftshift(L))


def test_a_wrong_argument_raises_numpys_error():
    with pytest.raises(ValueError, match="diff requires input that is at least one dimensional"):
        np.diff(recorded(np.array(1.0)))
    with pytest.raises(TypeError, match=r"diff\(\) got an unexpected keyword argument 'axes'"):
        np.diff(recorded(L), axes=0)
