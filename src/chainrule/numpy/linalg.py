"""`numpy.linalg` on tensors: NumPy's signatures over the operations of `chainrule.ops.linalg`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.core.primitive import as_operand
from chainrule.numpy.arguments import flag, into, named, plain, refuse
from chainrule.ops import layout, linalg, products

inv = named(linalg.inv, np.linalg.inv)
solve = named(linalg.solve, np.linalg.solve)
det = named(linalg.det, np.linalg.det)
slogdet = named(linalg.slogdet, np.linalg.slogdet)
cholesky = named(linalg.cholesky, np.linalg.cholesky)
qr = named(linalg.qr, np.linalg.qr)
eigh = named(linalg.eigh, np.linalg.eigh)
eigvalsh = named(linalg.eigvalsh, np.linalg.eigvalsh)
svdvals = named(linalg.svdvals, np.linalg.svdvals)
norm = named(linalg.norm, np.linalg.norm)
vector_norm = named(linalg.vector_norm, np.linalg.vector_norm)
matrix_norm = named(linalg.matrix_norm, np.linalg.matrix_norm)
cond = named(linalg.cond, np.linalg.cond)
matrix_power = named(linalg.matrix_power, np.linalg.matrix_power)
diagonal = named(linalg.diagonal, np.linalg.diagonal)
trace = named(linalg.trace, np.linalg.trace)
outer = named(linalg.outer, np.linalg.outer)
cross = named(linalg.cross, np.linalg.cross)
matmul = named(products.matmul, np.linalg.matmul)
tensordot = named(products.tensordot, np.linalg.tensordot)
vecdot = named(products.vecdot, np.linalg.vecdot)
matrix_transpose = named(linalg.matrix_transpose, np.linalg.matrix_transpose)


def svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    """U, the singular values and Vᵀ, or with `compute_uv=False` the singular values alone.

    The derivative needs `full_matrices=False` unless the matrix is square.
    """
    refuse("linalg.svd", hermitian=hermitian)
    return linalg.svd(a, full_matrices, compute_uv)


def pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    """The Moore–Penrose pseudo-inverse; singular values up to `rtol` times the largest are taken for zero."""
    refuse("linalg.pinv", hermitian=hermitian)
    rtol = None if rtol is np._NoValue else rtol
    return linalg.pinv(a, plain("linalg.pinv", "rcond", rcond), rtol=plain("linalg.pinv", "rtol", rtol))


def lstsq(a: Any, b: Any, rcond: Any = None) -> tuple[Any, Any, int, Any]:
    """Least squares: (solution, residuals, rank, singular values of `a`)."""
    return linalg.lstsq(a, b, plain("linalg.lstsq", "rcond", rcond))


def tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    """The x with tensordot(a, x, x.ndim) = b; `axes` of `a` are moved to its end first."""
    a, b = as_operand("linalg.tensorsolve", a), as_operand("linalg.tensorsolve", b)
    if axes is not None:
        a = layout.moveaxis(a, tuple(axes), tuple(range(-len(axes), 0)))
    shape = tuple(a.shape)[len(b.shape) :]
    rows, columns = math.prod(b.shape), math.prod(shape)
    if tuple(a.shape)[: len(b.shape)] != tuple(b.shape) or rows != columns:
        raise ValueError(f"linalg.tensorsolve: shapes {tuple(a.shape)} and {tuple(b.shape)} do not fit")
    x = linalg.solve(layout.reshape(a, (rows, columns)), layout.ravel(b))
    return layout.reshape(x, shape)


def matrix_rank(A: Any, tol: Any = None, hermitian: Any = False, *, rtol: Any = None) -> Any:
    """How many singular values are above the tolerance: an integer, without a gradient."""
    refuse("linalg.matrix_rank", hermitian=flag(hermitian))
    return linalg.matrix_rank(A, tol, rtol=rtol)


def multi_dot(arrays: Any, *, out: Any = None) -> Any:
    """The matrix product of several arrays, in the order that costs least."""
    return into(out, linalg.multi_dot(arrays), "linalg.multi_dot")


__all__ = [
    *("inv", "solve", "pinv", "lstsq", "tensorsolve", "matrix_power", "multi_dot", "outer", "cross"),
    *("det", "slogdet", "trace", "diagonal", "matrix_rank", "cond"),
    *("cholesky", "qr", "eigh", "eigvalsh", "svd", "svdvals"),
    *("norm", "matrix_norm", "vector_norm"),
    *("matmul", "matrix_transpose", "tensordot", "vecdot"),
]
