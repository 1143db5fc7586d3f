"""NumPy's other functions on tensors: assignment, questions, arguments that are refused."""

import contextlib
import io
import re

import numpy as np
import pytest

import chainrule as cr
from chainrule.numpy.values import on_values

_rng = np.random.default_rng(3)
A = _rng.standard_normal((3, 4))
V = _rng.standard_normal(4)
MASK = A > 0


def recorded(array):
    return cr.tensor(array, requires_grad=True)


# Assignment ----------------------------------------------------------------------------------------------------------

ASSIGNMENTS = {
    "copyto": lambda a, v: np.copyto(a, v),
    "copyto where": lambda a, v: np.copyto(a, v, where=MASK),
    "put": lambda a, v: np.put(a, [0, 5, -1], v),
    "put wrap": lambda a, v: np.put(a, [1, 14], v[:2], mode="wrap"),
    "putmask": lambda a, v: np.putmask(a, MASK, v),
    "place": lambda a, v: np.place(a, MASK, v[:3]),
    "put_along_axis": lambda a, v: np.put_along_axis(a, np.array([[1], [0], [3]]), v[:3, None], axis=1),
    "fill_diagonal": lambda a, v: np.fill_diagonal(a, v[:3]),
}


@pytest.mark.parametrize("assign", ASSIGNMENTS.values(), ids=ASSIGNMENTS)
def test_numpys_assignments_move_the_handle_and_differentiate(assign):
    def assigned(a, v):
        y = a * 1
        assert assign(y, v) is None
        return y

    np.testing.assert_array_equal(assigned(cr.tensor(A), cr.tensor(V)).numpy(), assigned(A, V))
    cr.check_grads(assigned, (A, V), order=2)


@pytest.mark.parametrize("assign", ASSIGNMENTS.values(), ids=ASSIGNMENTS)
def test_assigning_a_recorded_tensor_to_an_array_is_refused(assign):
    a = A.copy()
    with pytest.raises(cr.GradientError, match=r"out is a NumPy array|would drop its gradient"):
        assign(a, recorded(V))
    np.testing.assert_array_equal(a, A)


def test_copyto_casts_as_numpy_does():
    i = cr.numpy.zeros(4, dtype=np.int64)
    with pytest.raises(TypeError, match="copyto: a result of dtype float64 cannot be stored"):
        np.copyto(i, cr.tensor(V))
    np.copyto(i, cr.tensor(V), casting="unsafe")
    np.testing.assert_array_equal(i.numpy(), V.astype(np.int64))


# Arrays that are changed later ---------------------------------------------------------------------------------------

READERS = {
    "tensordot": lambda a, w: np.tensordot(a, w, 1),
    "einsum": lambda a, w: np.einsum("ij,jk->ik", a, w),
    "vecdot": lambda a, w: np.vecdot(a, w),
    "outer": lambda a, w: np.outer(a, w),
    "kron": lambda a, w: np.kron(a, w),
    "cross": lambda a, w: np.cross(a, w),
    "solve": lambda a, w: np.linalg.solve(w, a),
    "reshape": lambda a, w: cr.numpy.reshape(a, (9,)) * w.ravel(),
    "broadcast_arrays": lambda a, w: np.multiply(*np.broadcast_arrays(a, w)),
    "split": lambda a, w: cr.numpy.split(a, 3)[1] * w,
    "pad": lambda a, w: cr.numpy.pad(a, 0) * w,
    "where": lambda a, w: np.multiply(a, w, where=a > 0),
    "rollaxis": lambda a, w: cr.numpy.rollaxis(a, 1) * w,
    "real_if_close": lambda a, w: cr.numpy.real_if_close(a) * w,
    "copyto": lambda a, w: np.copyto(d := cr.numpy.zeros((3, 3)), a) or d * w,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_changing_an_array_after_it_was_used_changes_no_gradient(read):
    a, w = _rng.uniform(1, 2, (3, 3)), recorded(_rng.standard_normal((3, 3)) + 3 * np.eye(3))
    (wanted,) = cr.grad(lambda w: read(a.copy(), w).sum(), (0,))(w.data)
    y = read(a, w).sum()
    with contextlib.suppress(ValueError):  # read-only while the graph needs it
        a[...] = 100.0
    y.backward()
    np.testing.assert_allclose(w.grad.numpy(), wanted, rtol=1e-12)


# Questions -----------------------------------------------------------------------------------------------------------


def test_questions_about_recorded_tensors_have_plain_answers():
    t = recorded(A)
    assert np.shape(t) == (3, 4)
    assert np.ndim(t) == 2
    assert np.size(t) == 12
    assert np.size(t, axis=1) == 4
    assert np.result_type(t, np.float32) == np.float64
    assert np.can_cast(t, np.float32, "same_kind")
    assert np.allclose(t, A)
    assert np.array_equal(t, A)
    assert not np.array_equal(t, A + 1)
    assert np.isclose(t, A).numpy().all()
    assert np.iscomplexobj(t) is False
    assert np.broadcast_shapes(t.shape, (1, 4)) == (3, 4)


CONSTANTS = {
    "argmax": lambda a: np.argmax(a, axis=1),
    "argmin": lambda a: np.argmin(a),
    "argsort": lambda a: np.argsort(a, axis=0),
    "argpartition": lambda a: np.argpartition(a, 1, axis=1)[:, 1],
    "argwhere": lambda a: np.argwhere(a > 0),
    "flatnonzero": lambda a: np.flatnonzero(a > 0),
    "nonzero": lambda a: np.nonzero(a > 0),
    "where": lambda a: np.where(a > 0),
    "count_nonzero": lambda a: np.count_nonzero(a > 0, axis=1),
    "any": lambda a: np.any(a > 1, axis=0),
    "all": lambda a: np.all(a > -1, axis=0, where=MASK),
    "searchsorted": lambda a: np.searchsorted(np.sort(V), a),
    "digitize": lambda a: np.digitize(a, [-1.0, 0.0, 1.0]),
    "isin": lambda a: np.isin(a, a[0]),
    "lexsort": lambda a: np.lexsort((a[0], a[1])),
    "nanargmax": lambda a: np.nanargmax(a, axis=1),
    "isnan": lambda a: np.isnan(a),
}


@pytest.mark.parametrize("question", CONSTANTS.values(), ids=CONSTANTS)
def test_indices_and_truth_values_are_constants(question):
    answer, wanted = question(recorded(A)), question(A)
    answer, wanted = (x if isinstance(x, tuple) else (x,) for x in (answer, wanted))
    assert not any(part.requires_grad for part in answer)
    for part, other in zip(answer, wanted, strict=True):
        np.testing.assert_array_equal(part.numpy(), other)


def test_saving_and_printing_take_the_values():
    file = io.BytesIO()
    np.save(file, recorded(A))
    file.seek(0)
    np.testing.assert_array_equal(np.load(file, allow_pickle=False), A)
    assert np.array2string(recorded(V)) == np.array2string(V)


def test_numpys_assertions_take_constant_tensors_and_refuse_to_look_through_recorded_ones():
    np.testing.assert_allclose(cr.tensor(A), A)
    with pytest.raises(cr.GradientError, match="would drop its gradient"):
        np.testing.assert_allclose(recorded(A), A)


def test_a_function_of_values_cannot_write_into_a_tensor():
    t = cr.tensor(V)
    with pytest.raises(ValueError, match="read-only"):
        on_values(np.random.default_rng().shuffle)(t)
    np.testing.assert_array_equal(t.numpy(), V)


# Arguments that are refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda t: np.var(t, mean=0.0), "var: the argument mean=0.0 is not supported"),
        (lambda t: np.quantile(t, 0.5, method="nearest"), "quantile: the argument method='nearest' is not supported"),
        (lambda t: np.quantile(t, 0.5, weights=A), "quantile: the argument weights="),
        (lambda t: np.sort(t, order="name"), "sort: the argument order='name' is not supported"),
        (lambda t: np.concatenate([t], casting="no"), "concatenate: the argument casting='no' is not supported"),
        (lambda t: np.meshgrid(t[0], sparse=True), "meshgrid: the argument sparse=True is not supported"),
        (lambda t: np.linalg.svd(t, hermitian=True), "linalg.svd: the argument hermitian=True is not supported"),
        (lambda t: np.pad(t, 1, mode="reflect", reflect_type="odd"), "pad: the argument reflect_type='odd'"),
        (lambda t: np.reshape(t, 12, axis=0), "unexpected keyword argument 'axis'"),
    ],
)
def test_an_argument_that_is_not_supported_is_named_with_its_function(call, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        call(recorded(A))


def test_a_gradient_that_does_not_exist_is_refused_not_dropped():
    with pytest.raises(cr.GradientError, match="quantile: there is no derivative with respect to 'q'"):
        np.quantile(A, recorded(np.array(0.5)))
    with pytest.raises(cr.GradientError, match="out is a NumPy array"):
        np.sum(recorded(A), axis=0, out=np.zeros(4))


def test_max_with_where_needs_an_initial_value():
    with pytest.raises(ValueError, match=r"max: with where= .* give initial="):
        np.max(recorded(A), where=MASK)
    np.testing.assert_array_equal(np.max(cr.numpy.zeros((0, 2)), axis=0, initial=-1.0).numpy(), [-1.0, -1.0])


def test_out_of_a_reduction_moves_a_tensor():
    x, out = recorded(A), cr.numpy.zeros(4)
    assert np.sum(x, axis=0, out=out) is out
    (out * V).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.broadcast_to(V, A.shape))
