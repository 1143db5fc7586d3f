"""Linear algebra, all over the last two axes and batched over the rest: the functions of `numpy.linalg`.

Here are the public functions, which check their arguments, and what is spelled in other operations. What
LAPACK computes is declared in `lapack`, with its derivatives; matrix products are in `products`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from operator import index
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.namespace import namespace_of
from chainrule.core.primitive import as_operand, general, linear
from chainrule.core.tensor import _raw
from chainrule.ops import lapack, reductions
from chainrule.ops.axes import normalize_axes, normalize_axis
from chainrule.ops.creation import eye
from chainrule.ops.elementwise import absolute, multiply
from chainrule.ops.layout import astype, broadcast_to, expand_dims, matrix_transpose, moveaxis, roll, squeeze
from chainrule.ops.products import matmul, tensordot, vecdot
from chainrule.ops.ratio import ratio


class EighResult(NamedTuple):
    """Of `eigh`."""

    eigenvalues: Any
    eigenvectors: Any


class QRResult(NamedTuple):
    """Of `qr`."""

    Q: Any
    R: Any


class SlogdetResult(NamedTuple):
    """Of `slogdet`."""

    sign: Any
    logabsdet: Any


class SVDResult(NamedTuple):
    """Of `svd`."""

    U: Any
    S: Any
    Vh: Any


# Parts of a matrix ------------------------------------------------------------------------------------------


def _diagonal_rule(xp: Any, g: Any, x_shape: tuple[int, ...], offset: int) -> Any:
    """`g` on diagonal `offset` of zeros of `x_shape`: spread over rows (or columns), the rest cut away."""
    length = x_shape[-2] if offset >= 0 else x_shape[-1]
    one = xp.sum(g, axis=-1, keepdims=True)
    padding = xp.zeros_like(xp.broadcast_to(one, (*x_shape[:-2], length - g.shape[-1])))
    along = xp.expand_dims(xp.concat([g, padding], axis=-1), axis=-1 if offset >= 0 else -2)
    return xp.tril(xp.triu(xp.broadcast_to(along, x_shape), k=offset), k=offset)


_diagonal = linear(
    "diagonal", lambda xp, x, *, offset: xp.linalg.diagonal(x, offset=offset), _diagonal_rule,
    text="diag($x)", latex=r"\operatorname{diag}($x)", local=[("diag(g)", r"\operatorname{diag}(\delta)")],
)  # fmt: skip

# Systems, determinants, factorisations ----------------------------------------------------------------------


def _matrix(name: str, x: Any) -> Any:
    x = as_operand(name, x)
    if len(x.shape) < 2:
        raise ValueError(f"{name}: needs a matrix or a stack of them, shape (..., m, n), got shape {tuple(x.shape)}")
    return x


def _square(name: str, x: Any) -> Any:
    x = _matrix(name, x)
    if x.shape[-1] != x.shape[-2]:
        raise ValueError(f"{name}: needs square matrices, shape (..., n, n), got shape {tuple(x.shape)}")
    return x


def diagonal(x: Any, /, *, offset: int = 0) -> Any:
    """The diagonals, shape (..., k); with `offset` above (positive) or below (negative) the main one."""
    return _diagonal(_matrix("diagonal", x), offset=index(offset))


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    """The sum of a diagonal, shape (...)."""
    return reductions.sum(diagonal(_matrix("trace", x), offset=offset), axis=-1, dtype=dtype)


def inv(x: Any, /) -> Any:
    """The inverse of square matrices.

    Raises:
        ValueError: the matrices are not square.
        numpy.linalg.LinAlgError: one is singular.
    """
    return lapack.inv(_square("inv", x))


def solve(a: Any, b: Any, /) -> Any:
    """The solution x of a·x = b.

    Args:
        a: shape (..., n, n).
        b: shape (n,), or (..., n, k), broadcast against `a`.

    Raises:
        ValueError: the shapes do not fit.
        numpy.linalg.LinAlgError: a matrix of `a` is singular.
    """
    a, b = _square("solve", a), as_operand("solve", b)
    rows = b.shape[0 if len(b.shape) == 1 else -2] if b.shape else None
    if rows != a.shape[-1]:
        raise ValueError(
            f"solve: shapes {tuple(a.shape)} and {tuple(b.shape)} do not fit: the right side must have shape "
            f"({a.shape[-1]},) or (..., {a.shape[-1]}, k)"
        )
    try:
        np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise ValueError(
            f"solve: the leading axes of shapes {tuple(a.shape)} and {tuple(b.shape)} do not broadcast"
        ) from None
    if len(b.shape) == 1:
        return squeeze(lapack.solve(a, expand_dims(b, axis=-1)), axis=-1)
    return lapack.solve(a, b)


def pinv(x: Any, /, rcond: Any = None, *, rtol: Any = None) -> Any:
    """The Moore–Penrose pseudo-inverse, shape (..., n, m) for (..., m, n).

    Singular values up to `rtol` (or, by NumPy's older name, `rcond`) times the largest are taken for zero; by
    default max(m, n) times the dtype's epsilon. The derivative is the one along changes that keep the rank.
    """
    return lapack.pinv(_matrix("pinv", x), rtol=rtol if rcond is None else rcond)


def lstsq(a: Any, b: Any, /, rcond: Any = None) -> tuple[Any, Any, int, Any]:
    """Least squares by the pseudo-inverse: (solution, residuals, rank, singular values), as in NumPy.

    Args:
        a: shape (m, n).
        b: shape (m,) or (m, k).
        rcond: as in `pinv`.

    Returns:
        The x of least norm among those that make ‖a·x − b‖ least; those squared distances, an empty
        array where the rank is below n or m ≤ n; the rank; the singular values.

    Raises:
        ValueError: the shapes do not fit.
    """
    a, b = as_operand("lstsq", a), as_operand("lstsq", b)
    if len(a.shape) != 2 or len(b.shape) not in (1, 2) or a.shape[0] != b.shape[0]:
        raise ValueError(
            f"lstsq: shapes {tuple(a.shape)} and {tuple(b.shape)} do not fit; give (m, n) and (m,) or (m, k)"
        )
    solution = matmul(pinv(a, rcond), b)
    rank = int(_raw(matrix_rank(a, rtol=rcond)))
    distance = matmul(a, solution) - b
    squares = reductions.sum(distance * distance, axis=0, keepdims=len(b.shape) == 1)
    determined = rank == a.shape[1] < a.shape[0]
    return solution, squares if determined else squares[:0], rank, svdvals(a)


def det(x: Any, /) -> Any:
    """The determinant, shape (...). First and second derivatives are right for singular matrices too."""
    return lapack.det(_square("det", x))


def slogdet(x: Any, /) -> SlogdetResult:
    """The sign of the determinant and the logarithm of its absolute value, each of shape (...).

    The derivative at a singular matrix, where the logarithm is −∞, raises `numpy.linalg.LinAlgError`.
    """
    return SlogdetResult(*lapack.slogdet(_square("slogdet", x)))


def cholesky(x: Any, /, *, upper: bool = False) -> Any:
    """The lower triangular L with L·Lᵀ = x, or with `upper` its transpose.

    Only one triangle of `x` is read. The derivative is that of symmetric matrices: the gradient is symmetric.

    Raises:
        ValueError: the matrices are not square.
        numpy.linalg.LinAlgError: one is not positive definite.
    """
    y = lapack.cholesky(_symmetric("cholesky", x, "U" if upper else "L"))
    return matrix_transpose(y) if upper else y


def qr(x: Any, /, mode: str = "reduced") -> Any:
    """Q with orthonormal columns and upper triangular R with Q·R = x.

    Args:
        x: shape (..., m, n), of full rank where a derivative is asked for.
        mode: "reduced" (Q of shape (..., m, k), k = min(m, n)); "complete" (Q of shape (..., m, m)), which
            has no derivative where m > n; "r" for R alone.

    Raises:
        GradientError: a gradient is asked of a complete Q with more rows than columns of `x`.
        numpy.linalg.LinAlgError: a gradient is asked where the first k columns of `x` are dependent.
    """
    x = _matrix("qr", x)
    if mode not in ("reduced", "complete", "r"):
        raise ValueError(f"qr: mode must be 'reduced', 'complete' or 'r', got {mode!r}")
    not_unique = mode == "complete" and x.shape[-2] > x.shape[-1]
    factors = QRResult(*(lapack.qr_complete(x) if not_unique else lapack.qr(x)))
    return factors.R if mode == "r" else factors


def _symmetric(name: str, x: Any, UPLO: str) -> Any:
    """`x` with the triangle to read below the diagonal, where the operations read it."""
    x = _square(name, x)
    if UPLO.upper() not in ("L", "U"):
        raise ValueError(f"{name}: UPLO must be 'L' or 'U', got {UPLO!r}")
    return matrix_transpose(x) if UPLO.upper() == "U" else x


def eigh(x: Any, /, UPLO: str = "L") -> EighResult:
    """Eigenvalues in ascending order, shape (..., n), and eigenvectors as columns, of symmetric matrices.

    Only the triangle `UPLO` is read. The derivative is that of symmetric matrices: a tangent counts by its
    symmetric part and the gradient is symmetric, so it is right for every function that makes its matrices
    symmetric. Gradients of eigenvectors at equal eigenvalues do not exist and come out NaN.

    Raises:
        ValueError: the matrices are not square.
    """
    return EighResult(*lapack.eigh(_symmetric("eigh", x, UPLO)))


def eigvalsh(x: Any, /, UPLO: str = "L") -> Any:
    """The eigenvalues alone, as of `eigh`.

    At equal eigenvalues the gradient is right for functions that treat them alike, such as their sum.
    """
    return lapack.eigvalsh(_symmetric("eigvalsh", x, UPLO))


def svd(x: Any, /, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """Singular value decomposition x = U·diag(S)·Vh, the values in descending order.

    Args:
        x: shape (..., m, n); k = min(m, n).
        full_matrices: U of shape (..., m, m) and Vh of shape (..., n, n), which have a derivative only where
            m = n; otherwise (..., m, k) and (..., k, n).
        compute_uv: if not, return S alone.

    Gradients of singular vectors do not exist at equal singular values (nor, unless m = n, at zero ones) and
    come out NaN.

    Raises:
        GradientError: a gradient is asked of full matrices that are not square.
    """
    x = _matrix("svd", x)
    if not compute_uv:
        return svdvals(x)
    not_unique = full_matrices and x.shape[-1] != x.shape[-2]
    return SVDResult(*(lapack.svd_full(x) if not_unique else lapack.svd(x)))


def svdvals(x: Any, /) -> Any:
    """The singular values in descending order, shape (..., min(m, n))."""
    return lapack.svdvals(_matrix("svdvals", x))


def matrix_rank(x: Any, /, tol: Any = None, *, rtol: Any = None) -> Any:
    """How many singular values exceed `tol`, or `rtol` times the largest. An integer, without a gradient.

    By default `rtol` is max(m, n) times the dtype's epsilon.
    """
    s = svdvals(_raw(_matrix("matrix_rank", x)))
    if tol is None:
        epsilon = namespace_of(_raw(s)).finfo(s.dtype).eps
        tol = s[..., :1] * (max(x.shape[-2:]) * float(epsilon) if rtol is None else rtol)
    return reductions.count_nonzero(s > tol, axis=-1)


def matrix_power(x: Any, n: int, /) -> Any:
    """The product of `n` factors `x`; of `-n` factors `inv(x)` for negative `n`.

    Raises:
        numpy.linalg.LinAlgError: `n` is negative and a matrix singular.
    """
    x, n = _square("matrix_power", x), index(n)
    if n < 0:
        x, n = inv(x), -n
    y = None
    while n:
        n, odd = divmod(n, 2)
        if odd:
            y = x if y is None else matmul(y, x)
        x = matmul(x, x) if n else x
    return y if y is not None else broadcast_to(eye(x.shape[-1], dtype=x.dtype), x.shape)


def multi_dot(arrays: Sequence[Any], /) -> Any:
    """The product of two or more matrices, in the order of fewest multiplications.

    The first and the last may be vectors, as in `np.linalg.multi_dot`.

    Raises:
        ValueError: there are fewer than two, or the shapes do not fit.
    """
    arrays = [as_operand("multi_dot", x) for x in arrays]
    shapes = [tuple(x.shape) for x in arrays]
    written = ", ".join(map(str, shapes))
    if len(arrays) < 2:
        raise ValueError(f"multi_dot: needs at least two arrays, got {len(arrays)}")
    if any(len(n) != 2 for n in shapes[1:-1]) or not {len(shapes[0]), len(shapes[-1])} <= {1, 2}:
        raise ValueError(f"multi_dot: needs matrices, of which the first and last may be vectors; got shapes {written}")
    from_row, to_column = len(shapes[0]) == 1, len(shapes[-1]) == 1
    if from_row:
        arrays[0] = expand_dims(arrays[0], axis=0)
    if to_column:
        arrays[-1] = expand_dims(arrays[-1], axis=1)
    sizes = [*(x.shape[0] for x in arrays), arrays[-1].shape[1]]
    if any(x.shape[1] != n for x, n in zip(arrays, sizes[1:], strict=True)):
        raise ValueError(f"multi_dot: shapes {written} do not fit: columns of each must equal rows of the next")
    y = _multiply_chain(arrays, sizes)
    y = squeeze(y, axis=1) if to_column else y
    return squeeze(y, axis=0) if from_row else y


def _multiply_chain(arrays: Sequence[Any], sizes: Sequence[int]) -> Any:
    """Dynamic programming over stretches of the chain: Cormen et al., "Introduction to Algorithms", 14.2."""

    @lru_cache(None)
    def best(i: int, j: int) -> tuple[int, int]:
        """The number of multiplications for arrays i to j, and after which one to split."""
        if i == j:
            return 0, i
        return min((best(i, k)[0] + best(k + 1, j)[0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j))

    def product(i: int, j: int) -> Any:
        k = best(i, j)[1]
        return arrays[i] if i == j else matmul(product(i, k), product(k + 1, j))

    return product(0, len(arrays) - 1)


def outer(a: Any, b: Any, /) -> Any:
    """All products of an element of `a` and one of `b`, both vectors: shape (m, n)."""
    a, b = as_operand("outer", a), as_operand("outer", b)
    if len(a.shape) != 1 or len(b.shape) != 1:
        raise ValueError(f"outer: needs two vectors, got shapes {tuple(a.shape)} and {tuple(b.shape)}")
    return multiply(expand_dims(a, axis=1), expand_dims(b, axis=0))


def cross(a: Any, b: Any, /, *, axis: int = -1) -> Any:
    """The vector product along `axis`, of length 3; the other axes broadcast."""
    a, b = as_operand("cross", a), as_operand("cross", b)
    a, b = (moveaxis(x, normalize_axis(axis, len(x.shape), "cross"), -1) for x in (a, b))
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise ValueError(f"cross: needs 3 components along axis {axis}, got {a.shape[-1]} and {b.shape[-1]}")
    y = roll(a, -1, -1) * roll(b, -2, -1) - roll(a, -2, -1) * roll(b, -1, -1)
    return moveaxis(y, -1, axis)


# Norms ------------------------------------------------------------------------------------------------------


def _norm_value(xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool, ord: float) -> Any:
    if ord == 2:
        return xp.sqrt(xp.sum(x * x, axis=axis, keepdims=keepdims))
    return xp.sum(xp.abs(x) ** ord, axis=axis, keepdims=keepdims) ** (1 / ord)


def _norm_local(xp: Any, x: Any, y: Any, axis: tuple[int, ...], keepdims: bool, ord: float) -> Any:
    """sign(x)·(|x|/y)^(ord − 1), and 0 at a vector of zeros."""
    y = y if keepdims else reductions._keep(xp, y, x.shape, axis)
    return ratio.on(xp, x, y) if ord == 2 else xp.sign(x) * ratio.on(xp, xp.abs(x), y) ** (ord - 1)


def _norm_rule(xp: Any, g: Any, x: Any, y: Any, axis: tuple[int, ...], keepdims: bool, ord: float) -> Any:
    return reductions._spread(xp, g, x.shape, axis, keepdims) * _norm_local(xp, x, y, axis, keepdims, ord)


def _norm_push(xp: Any, primals: Any, tangents: Any, y: Any, *, axis: Any, keepdims: bool, ord: float) -> Any:
    return xp.sum(tangents[0] * _norm_local(xp, primals[0], y, axis, keepdims, ord), axis=axis, keepdims=keepdims)


_vector_norm = general(
    "vector_norm", _norm_value, _norm_rule, push=_norm_push,
    text="‖$x‖", latex=r"\lVert $x \rVert", local=[("$x/$y", r"\frac{$x}{$y}")],
)  # fmt: skip


def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: float = 2) -> Any:
    """(Σ|x|^ord)^(1/ord) over `axis` (an integer, a tuple, or None for all).

    `ord` may also be `inf` (the largest |x|; the first of equal ones takes the gradient), `-inf` (the
    smallest) or 0 (how many are not zero, without a gradient). At a vector of zeros the norm has a kink for
    `ord` of 1 or more; the gradient there is 0, one of its subgradients.
    """
    x = as_operand("vector_norm", x)
    if isinstance(ord, str):
        raise ValueError(f"vector_norm: ord must be a number, got {ord!r}; the norms with names are of matrices")
    axes = normalize_axes(axis, len(x.shape), "vector_norm")
    if "float" not in str(x.dtype):
        x = x * 1.0  # a norm is not an integer
    if ord == 0:
        return astype(reductions.count_nonzero(x, axis=axes, keepdims=keepdims), x.dtype)
    if math.isinf(ord):
        return (reductions.max if ord > 0 else reductions.min)(absolute(x), axis=axes, keepdims=keepdims)
    if ord == 1:
        return reductions.sum(absolute(x), axis=axes, keepdims=keepdims)
    return _vector_norm(x, axis=axes, keepdims=bool(keepdims), ord=float(ord))


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    """A norm of each matrix of `x`, shape (...).

    `ord` is "fro" (the root of the sum of squares), "nuc" (the sum of singular values), 2 or -2 (the largest
    or smallest singular value), 1 or -1 (the largest or smallest sum of a column's |x|), `inf` or `-inf` (of
    a row's).
    """
    x = _matrix("matrix_norm", x)
    if ord in ("fro", None):
        return vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    if ord not in ("nuc", 1, -1, 2, -2, math.inf, -math.inf):
        raise ValueError(f"matrix_norm: ord must be 'fro', 'nuc', 1, -1, 2, -2, inf or -inf, got {ord!r}")
    summed = -2 if ord in (1, -1) else -1
    values = svdvals(x) if ord in ("nuc", 2, -2) else vector_norm(x, axis=summed, ord=1)
    reduce = reductions.sum if ord == "nuc" else reductions.max if ord > 0 else reductions.min
    y = reduce(values, axis=-1)
    return expand_dims(y, axis=(-2, -1)) if keepdims else y


def norm(x: Any, /, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """`np.linalg.norm`: of vectors along one axis, of matrices along two.

    Args:
        x: any shape.
        ord: None for the root of the sum of squares, else as in `vector_norm` or `matrix_norm`.
        axis: an integer, a pair (rows, columns), or None: all of `x`, which with an `ord` must then be a
            vector or a matrix.
        keepdims: keep the reduced axes as length 1.

    Raises:
        ValueError: `ord` is not a norm of that many axes.
    """
    x = as_operand("norm", x)
    axes = normalize_axes(axis, len(x.shape), "norm")
    if len(axes) > 2 and (axis is not None or ord is not None):
        raise ValueError(f"norm: there is no norm of order {ord} over {len(axes)} axes; name one or two of them")
    if ord is None:
        return vector_norm(x, axis=axes, keepdims=keepdims)
    if len(axes) == 1:
        return vector_norm(x, axis=axes, keepdims=keepdims, ord=ord)
    if len(axes) == 0:
        raise ValueError(f"norm: there is no norm of order {ord} of a single number; leave ord out")
    y = matrix_norm(moveaxis(x, axes, (-2, -1)), ord=ord)
    return expand_dims(y, axis=axes) if keepdims else y


def cond(x: Any, /, p: Any = None) -> Any:
    """The condition number ‖x‖·‖x⁻¹‖ in the norm `p` (as `ord` of `matrix_norm`; None for 2), shape (...).

    Raises:
        numpy.linalg.LinAlgError: a matrix is singular and `p` is not 2 or -2.
    """
    x = _matrix("cond", x)
    if p not in (None, 2, -2):
        return matrix_norm(x, ord=p) * matrix_norm(inv(x), ord=p)
    s = svdvals(x)
    return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]


__all__ = [
    "EighResult", "QRResult", "SVDResult", "SlogdetResult",
    "inv", "solve", "pinv", "lstsq", "matrix_power", "multi_dot", "outer", "cross",
    "det", "slogdet", "trace", "diagonal", "matrix_rank", "cond",
    "cholesky", "qr", "eigh", "eigvalsh", "svd", "svdvals",
    "norm", "matrix_norm", "vector_norm",
    "matmul", "matrix_transpose", "tensordot", "vecdot",  # of `products` and `layout`, as in numpy.linalg
]  # fmt: skip
