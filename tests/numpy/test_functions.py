"""Every NumPy function that differentiates, on tensors: its value, its derivatives, its dtype, its arguments."""

import inspect
from functools import partial

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.tensor import _raw
from chainrule.numpy.definitions import TESTED
from chainrule.numpy.protocols import FUNCTIONS
from chainrule.numpy.ufuncs import OPERATIONS
from chainrule.numpy.values import NAMES

_rng = np.random.default_rng(0)
A = _rng.standard_normal((3, 4))
B = _rng.standard_normal((3, 4))
C = _rng.standard_normal((4, 2))
V = _rng.standard_normal(4)
W = _rng.standard_normal(3)
L = np.array([0.3, -1.2, 2.0, 0.7, -0.4])  # a vector without ties
T = _rng.standard_normal((2, 3, 4))
P = _rng.uniform(0.5, 1.5, (3, 4))
U = _rng.uniform(-0.8, 0.8, (3, 4))
Q = _rng.standard_normal((3, 3)) + 3 * np.eye(3)
S = Q @ Q.T
N = np.array([[1.0, np.nan, 3.0, 0.5], [0.2, 2.0, np.nan, -1.0], [1.5, 0.1, 0.4, 0.8]])
MASK = A > 0
I = np.array([2, 0, 1])


def cholesky_of_square(q):
    return np.linalg.cholesky(q @ q.T)  # central differences must not leave the symmetric matrices


def eigvalsh_of_square(q):
    return np.linalg.eigvalsh(q @ q.T)


def eigh_of_square(q):
    eigenvalues, eigenvectors = np.linalg.eigh(q @ q.T)
    return eigenvalues, eigenvectors**2  # their signs are a choice


def svd_of(a):
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    return u**2, s, vh**2


def case(function, *args, **options):
    """One call: arrays of floating point among `args` are differentiated, the rest is as it is."""
    shown = ",".join(f"{key}={value}" for key, value in options.items() if np.asarray(value).size < 3)
    module = "linalg." if "linalg" in getattr(function, "__module__", "") else ""
    return pytest.param(function, args, options, id=f"{module}{function.__name__}({shown})")


ELEMENTWISE = [
    *(case(f, A) for f in (np.sin, np.cos, np.tan, np.sinh, np.cosh, np.tanh, np.arcsinh, np.arctan, np.exp, np.exp2)),
    *(case(f, A) for f in (np.expm1, np.square, np.negative, np.positive, np.absolute, np.fabs, np.conjugate)),
    *(case(f, P) for f in (np.log, np.log2, np.log10, np.log1p, np.sqrt, np.cbrt, np.reciprocal)),
    *(case(f, U) for f in (np.arcsin, np.arccos, np.arctanh)),
    case(np.arccosh, 1 + P),
    *(case(f, A) for f in (np.deg2rad, np.rad2deg, np.radians, np.degrees)),
    *(case(f, A) for f in (np.sign, np.floor, np.ceil, np.trunc, np.rint, np.modf, np.frexp)),
    *(case(f, A, P) for f in (np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum, np.fmax, np.fmin)),
    *(case(f, A, P) for f in (np.hypot, np.arctan2, np.logaddexp, np.logaddexp2, np.copysign, np.heaviside)),
    *(case(f, P + 2, P) for f in (np.power, np.float_power, np.remainder, np.fmod, np.floor_divide, np.divmod)),
    *(case(f, A, V) for f in (np.add, np.multiply, np.divide)),
    *(case(f, 2.0, V) for f in (np.subtract, np.power, np.maximum)),
    case(np.ldexp, A, np.array([1, 2, 0, -1])),
    case(np.multiply, A, 3, dtype=np.float64),
    case(np.matvec, T, V), case(np.vecmat, W, T),
    case(np.matmul, A, C), case(np.matmul, V, C), case(np.matmul, A, V), case(np.matmul, T, C),
    case(np.vecdot, A, B), case(np.vecdot, A, V),
    case(np.clip, A, -0.5, 0.5), case(np.clip, A, W[:, None] - 1, None), case(np.clip, A, min=-0.5, max=0.4),
    case(np.round, A), case(np.round, A, decimals=1), case(np.around, A), case(np.fix, A),
    case(np.where, MASK, A, B), case(np.where, MASK, A, 0.0), case(np.where, MASK[0], A, V),
    case(np.nan_to_num, N), case(np.nan_to_num, N, nan=2.0), case(np.real, A), case(np.imag, A),
    case(np.sinc, A), case(np.i0, A), case(np.real_if_close, A), case(np.astype, A, np.float64), case(np.copy, A),
    case(np.unwrap, 4 * L), case(np.unwrap, 4 * A, axis=0),
    case(np.piecewise, L, [L < 0, L >= 0], [lambda x: x * x, lambda x: 3 * x]),
    case(np.select, [A > 0.5, A < -0.5], [A * A, B], 1.5),
]  # fmt: skip

REDUCTIONS = [
    *(
        case(f, A, **options)
        for f in (np.sum, np.prod, np.mean, np.var, np.std, np.max, np.min, np.ptp, np.median)
        for options in ({}, {"axis": 0}, {"axis": -1, "keepdims": True}, {"axis": (0, 1)})
    ),
    case(np.amax, A, axis=1), case(np.amin, A, axis=1),
    *(case(f, A, where=MASK, axis=0) for f in (np.sum, np.prod, np.mean)),
    *(case(f, A, where=MASK) for f in (np.var, np.std)),
    *(case(f, A, where=MASK, initial=-0.1) for f in (np.max, np.min)),
    *(case(f, A, initial=0.7) for f in (np.sum, np.prod, np.max, np.min)),
    *(case(f, A, axis=1, ddof=1) for f in (np.var, np.std)), case(np.var, A, correction=1.0),
    *(case(f, A, dtype=np.float64) for f in (np.sum, np.prod, np.mean, np.var)),
    *(case(f, A, **o) for f in (np.cumsum, np.cumprod) for o in ({}, {"axis": 0}, {"axis": 1})),
    *(case(f, A, axis=1, include_initial=True) for f in (np.cumulative_sum, np.cumulative_prod)),
    case(np.quantile, A, 0.3), case(np.quantile, A, [0.25, 0.75], axis=1), case(np.percentile, A, 40, axis=0),
    case(np.average, A, axis=0), case(np.average, A, axis=1, weights=V * V), case(np.average, A, weights=P),
    *(case(f, N, **o) for f in (np.nansum, np.nanprod, np.nanmean, np.nanvar, np.nanstd, np.nanmax, np.nanmin)
      for o in ({}, {"axis": 1})),
    case(np.nancumsum, N, axis=0), case(np.nancumprod, N, axis=1),
    case(np.trace, Q), case(np.trace, T, offset=1, axis1=1, axis2=2),
    case(np.linalg.norm, A), case(np.linalg.norm, V), case(np.linalg.norm, V, ord=3),
    case(np.linalg.norm, A, axis=1),
    case(np.linalg.norm, A, ord=1), case(np.linalg.norm, A, ord=2), case(np.linalg.norm, A, ord="nuc"),
    case(np.linalg.norm, A, ord=np.inf), case(np.linalg.vector_norm, A, axis=0), case(np.linalg.matrix_norm, T),
    case(np.apply_over_axes, np.sum, T, [0, 2]),
]  # fmt: skip

PRODUCTS = [
    case(np.dot, A, C), case(np.dot, V, V + 1), case(np.dot, A, V), case(np.dot, T, C), case(np.dot, 2.0, A),
    case(np.inner, A, B), case(np.inner, V, V + 1), case(np.vdot, A, B), case(np.outer, V, W), case(np.outer, A, W),
    case(np.tensordot, A, C, axes=1), case(np.tensordot, A, B, axes=([0, 1], [0, 1])),
    case(np.tensordot, V, W, axes=0),
    case(np.einsum, "ij,jk->ik", A, C), case(np.einsum, "ii", Q), case(np.einsum, "...j,j", T, V),
    case(np.einsum, A, [0, 1], C, [1, 2], [0, 2]), case(np.einsum, "ij,ij,j->i", A, B, V, optimize=True),
    case(np.kron, A, C), case(np.kron, V, W), case(np.cross, Q, S), case(np.cross, W, Q),
    case(np.cross, Q, S, axis=0),
    case(np.convolve, L, W), case(np.convolve, W, L, mode="same"), case(np.convolve, L, W, mode="valid"),
    case(np.correlate, L, W), case(np.correlate, W, L, mode="full"), case(np.correlate, L, V, mode="same"),
    case(np.cov, A), case(np.cov, A, B, ddof=0), case(np.cov, A, rowvar=False),
    case(np.cov, A, aweights=np.array([1.0, 2, 1, 3])),
    case(np.corrcoef, A), case(np.vander, V), case(np.vander, W, 4, increasing=True),
    case(np.linalg.inv, Q), case(np.linalg.solve, Q, W), case(np.linalg.solve, Q, A), case(np.linalg.det, Q),
    case(np.linalg.slogdet, Q), case(cholesky_of_square, Q), case(np.linalg.qr, A.T), case(eigvalsh_of_square, Q),
    case(eigh_of_square, Q), case(svd_of, A),
    case(np.linalg.svdvals, A), case(np.linalg.svd, A, compute_uv=False), case(np.linalg.pinv, A),
    case(np.linalg.cond, Q), case(np.linalg.matrix_power, Q, 3), case(np.linalg.multi_dot, [A, C, C.T]),
    case(np.linalg.lstsq, A.T, V), case(np.linalg.outer, V, W), case(np.linalg.cross, Q, S),
    case(np.linalg.trace, T),
    case(np.linalg.diagonal, T, offset=1), case(np.linalg.tensordot, A, C, axes=1), case(np.linalg.vecdot, A, B),
    case(np.linalg.matmul, A, C), case(np.linalg.matrix_transpose, T),
    case(np.linalg.tensorsolve, Q[None].repeat(1, 0), W[None]), case(np.linalg.tensorinv, Q[:, :, None], ind=1),
]  # fmt: skip

LAYOUT = [
    case(np.reshape, A, (2, 6)), case(np.reshape, A, -1), case(np.reshape, A, (2, -1), order="F"),
    case(np.ravel, A),
    case(np.ravel, A, order="F"), case(np.transpose, T), case(np.transpose, T, axes=(1, 0, 2)),
    case(np.permute_dims, T, (2, 0, 1)),
    case(np.swapaxes, T, 0, 2), case(np.moveaxis, T, 0, -1), case(np.rollaxis, T, 2), case(np.matrix_transpose, T),
    case(np.expand_dims, A, 1), case(np.squeeze, A[:, None]), case(np.squeeze, A[None], axis=0),
    case(np.broadcast_to, V, (3, 4)), case(np.broadcast_arrays, A, V), case(np.atleast_1d, A),
    case(np.atleast_2d, V),
    case(np.atleast_3d, A), case(np.flip, A), case(np.flip, A, axis=1), case(np.fliplr, A), case(np.flipud, A),
    case(np.roll, A, 2), case(np.roll, A, (1, -1), axis=(0, 1)), case(np.rot90, A),
    case(np.rot90, T, 3, axes=(1, 2)),
    case(np.concatenate, [A, B]), case(np.concatenate, [A, B], axis=1), case(np.concatenate, [A, V], axis=None),
    case(np.concat, [A, B]), case(np.stack, [A, B], axis=1), case(np.hstack, [V, W]), case(np.vstack, [V, A]),
    case(np.dstack, [A, B]), case(np.column_stack, [W, A]), case(np.block, [[A, B], [B, A]]), case(np.append, A, V),
    case(np.append, A, B, axis=0), case(np.split, A, 2, axis=1), case(np.array_split, A, 3, axis=1),
    case(np.hsplit, A, 2),
    case(np.vsplit, A, [1]), case(np.dsplit, T, 2), case(np.unstack, A), case(np.tile, A, (2, 1)),
    case(np.tile, V, 3),
    case(np.repeat, A, 2), case(np.repeat, A, [1, 0, 2], axis=0), case(np.resize, A, (5, 3)),
    case(np.pad, A, 1), case(np.pad, A, ((1, 0), (0, 2)), mode="edge"), case(np.pad, A, 2, mode="reflect"),
    case(np.pad, A, 1, mode="wrap"),
    case(np.tril, A), case(np.triu, A, 1), case(np.diag, V), case(np.diag, A, 1), case(np.diagflat, A),
    case(np.diagonal, T, axis1=1, axis2=2),
    case(np.insert, L, 2, V[:1]), case(np.insert, A, 1, V, axis=0), case(np.delete, L, 2),
    case(np.delete, A, [0, 2], axis=1),
    case(np.meshgrid, V, W), case(np.meshgrid, V, W, indexing="ij"),
]  # fmt: skip

SELECTION = [
    case(np.take, A, I), case(np.take, A, [[0, 2], [1, 1]], axis=0), case(np.take, A, [5, -1], axis=1, mode="wrap"),
    case(np.take_along_axis, A, np.argsort(A, axis=1), axis=1), case(np.compress, [True, False, True], A, axis=0),
    case(np.extract, MASK, A), case(np.choose, np.array([0, 1, 1, 0]), [V, V + 1]),
    case(np.choose, I, [W, 2.0, W * W]),
    case(np.sort, A), case(np.sort, A, axis=0), case(np.sort, A, axis=None), case(np.partition, L, 2),
    case(np.unique, L),
    case(np.unique, A, axis=0), case(np.union1d, L, V),
    case(np.apply_along_axis, lambda row: row * row.sum(), 1, A),
    case(np.apply_along_axis, np.prod, 0, A),
]  # fmt: skip

CALCULUS = [
    case(np.diff, A), case(np.diff, A, n=2, axis=0), case(np.diff, L, prepend=V[:1], append=W[:2]),
    case(np.ediff1d, L),
    case(np.ediff1d, L, to_begin=W[:1]), case(np.gradient, L), case(np.gradient, A), case(np.gradient, L, 0.5),
    case(np.gradient, L, np.array([0.0, 1.0, 1.5, 3.0, 3.5])), case(np.gradient, A, axis=1, edge_order=2),
    case(np.trapezoid, A),
    case(np.trapezoid, A, np.sort(V)), case(np.trapezoid, A, dx=0.5, axis=0),
    case(np.interp, np.array([-2.0, 0.25, 0.9, 3.0]), np.array([0.0, 0.5, 1.0]), W),
    case(np.interp, L, np.array([0.0, 0.5, 1.0]), W, left=0.1, right=-1.0),
    case(np.interp, L, np.array([0.7, 0.1, 0.4]), W, period=1.0), case(np.interp, 0.3, np.array([0.0, 1.0]), V[:2]),
    case(np.polyval, V, W), case(np.polyadd, V, W), case(np.polysub, V, W), case(np.polyder, V),
    case(np.polyint, V), case(np.poly, V),
    case(np.polyfit, np.arange(5.0), L, 2), case(np.bincount, np.array([0, 2, 2, 1]), V),
    case(np.linspace, V, V + 2, 5), case(np.linspace, W, 1.0, 4, axis=1, endpoint=False),
    case(np.logspace, V, V + 1, 3),
    case(np.geomspace, P[0], P[1], 4), case(np.full_like, A, 2.5), case(np.zeros_like, A), case(np.ones_like, A),
]  # fmt: skip

CASES = [*ELEMENTWISE, *REDUCTIONS, *PRODUCTS, *LAYOUT, *SELECTION, *CALCULUS]


def is_float(value):
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def leaves(value):
    """The numbers and arrays in a result."""
    if isinstance(value, (tuple, list)):
        return [leaf for part in value for leaf in leaves(part)]
    return [np.asarray(_raw(value))]


def flat(result):
    """The parts of a result as they are."""
    return [leaf for part in result for leaf in flat(part)] if isinstance(result, (tuple, list)) else [result]


def tensors_in(value):
    """The tensors in an argument."""
    return [leaf for leaf in flat(value) if isinstance(leaf, cr.Tensor)]


def map_arrays(change, value):
    """`value` with every array of floating point in it changed."""
    if isinstance(value, (tuple, list)):
        return type(value)([map_arrays(change, part) for part in value])
    return change(value) if is_float(value) else value


def arrays_in(value):
    """The arrays of floating point in an argument, in order."""
    found = []
    map_arrays(found.append, value)
    return found


def as_function_of_arrays(function, args, options):
    """The same call, as a function of the arrays of floating point among its arguments."""

    def called(*arrays):
        rest = iter(arrays)
        return function(*map_arrays(lambda _: next(rest), args), **options)

    called.__name__ = function.__name__
    return called


def assert_same(given, wanted, rtol=1e-12):
    given, wanted = leaves(given), leaves(wanted)
    assert len(given) == len(wanted)
    for one, other in zip(given, wanted, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol)


def float_outputs(result):
    return [leaf for leaf in leaves(result) if leaf.dtype.kind == "f"]


@pytest.mark.parametrize("function, args, options", CASES)
def test_the_value_on_tensors_is_the_value_on_arrays(function, args, options):
    wanted = function(*args, **options)
    given = function(*map_arrays(partial(cr.tensor, requires_grad=True), args), **options)
    assert_same(given, wanted)


@pytest.mark.parametrize("function, args, options", CASES)
def test_first_and_second_derivatives_agree_with_central_differences_in_both_modes(function, args, options):
    cr.check_grads(as_function_of_arrays(function, args, options), arrays_in(args), order=2, max_elements=6)


@pytest.mark.parametrize("function, args, options", [c for c in CASES if len(arrays_in(c.values[1])) > 1])
def test_each_argument_carries_its_gradient_with_plain_arrays_beside_it(function, args, options):
    called, arrays = as_function_of_arrays(function, args, options), arrays_in(args)
    weights = [_rng.standard_normal(y.shape) for y in float_outputs(called(*arrays))]

    def projected(*points):
        parts = [y for y in flat(called(*points)) if "float" in str(getattr(y, "dtype", ""))]
        return sum((w * y).sum() for w, y in zip(weights, parts, strict=True))

    together = cr.grad(projected, tuple(range(len(arrays))))(*arrays)
    for place, gradient in enumerate(together):
        np.testing.assert_allclose(cr.grad(projected, place)(*arrays), gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("function, args, options", [c for c in CASES if c.values[2].get("dtype") is None])
def test_float32_stays_where_numpy_keeps_it_and_so_does_the_gradient(function, args, options):
    args = map_arrays(lambda a: a.astype(np.float32), args)
    wanted = function(*args, **options)
    tensors = map_arrays(partial(cr.tensor, requires_grad=True), args)
    given = function(*tensors, **options)
    assert [y.dtype for y in float_outputs(given)] == [y.dtype for y in float_outputs(wanted)]
    recorded = [y for y in flat(given) if isinstance(y, cr.Tensor) and y.requires_grad]
    if recorded:
        sum(y.sum() for y in recorded).backward()
        assert {t.grad.dtype for t in tensors_in(tensors) if t.grad is not None} == {np.dtype(np.float32)}


def names_of(function, args):
    """NumPy's names of the positional arguments of a call, or None if it takes one of them by position only."""
    if isinstance(function, np.ufunc):
        return None
    parameters = list(inspect.signature(function).parameters.values())[: len(args)]
    by_name = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    return by_name if len(by_name) == len(args) else None


@pytest.mark.parametrize("function, args, options", [c for c in CASES if names_of(*c.values[:2])])
def test_arguments_may_be_given_by_numpys_names(function, args, options):
    tensors = map_arrays(cr.tensor, args)
    given = function(**dict(zip(names_of(function, args), tensors, strict=True)), **options)
    assert_same(given, function(*args, **options))


def test_every_function_with_a_derivative_is_in_the_tables_above():
    shown = {c.values[0] for c in CASES} | {np.linalg.cholesky, np.linalg.eigh, np.linalg.eigvalsh}
    without_derivative = {
        *(np.all, np.any, np.argmax, np.argmin, np.argsort, np.argpartition, np.count_nonzero, np.searchsorted),
        *(np.nonzero, np.unique_all, np.unique_counts, np.unique_inverse, np.unique_values, np.linalg.matrix_rank),
        *(np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.empty_like),
        *(np.copyto, np.put, np.putmask, np.place, np.put_along_axis, np.fill_diagonal),
    }
    values = {getattr(np, name) for name in NAMES if hasattr(np, name)}
    dispatched = {f for f in FUNCTIONS if type(f) is type(np.sum)}
    assert dispatched - shown - without_derivative - values == set()


def test_every_definition_that_is_trusted_is_in_the_tables_above():
    assert {c.values[0].__name__ for c in CASES} >= TESTED


def test_every_ufunc_of_numpy_with_a_derivative_is_in_the_table():
    shown = {c.values[0] for c in CASES}
    without_derivative = {
        *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal, np.isfinite, np.isinf),
        *(np.isnan, np.signbit, np.nextafter, np.logical_and, np.logical_or, np.logical_xor, np.logical_not),
        *(np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert, np.left_shift, np.right_shift),
    }
    ufuncs = {f for f in vars(np).values() if isinstance(f, np.ufunc) and f in OPERATIONS}
    assert ufuncs - shown - without_derivative == set()
