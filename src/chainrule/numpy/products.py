"""NumPy's products, sliding products and piecewise linear interpolation.

The derivatives are in `chainrule.ops.products`; convolution and interpolation are spelled in other operations.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.primitive import as_operand
from chainrule.core.tensor import Tensor, _raw
from chainrule.numpy.arguments import in_dtype, into, is_default, named, refuse
from chainrule.ops import elementwise, indexing, joining, layout, linalg, ordering, products

# Products ----------------------------------------------------------------------------------------------------------


def dot(a: Any, b: Any, out: Any = None) -> Any:
    """The product with a scalar, else the sum of products over the last axis of `a` and the second last of `b`."""
    return into(out, products.dot(a, b), "dot")


def inner(a: Any, b: Any, /) -> Any:
    """The sum of products over the last axis of both; the product if one is a scalar."""
    a, b = as_operand("inner", a), as_operand("inner", b)
    if not a.shape or not b.shape:
        return elementwise.multiply(a, b)
    return products.tensordot(a, b, axes=(-1, -1))


def vdot(a: Any, b: Any, /) -> Any:
    """The sum of products of all elements."""
    return products.dot(layout.ravel(a), layout.ravel(b))


def outer(a: Any, b: Any, out: Any = None) -> Any:
    """The product of every element of `a` with every element of `b`."""
    return into(out, linalg.outer(layout.ravel(a), layout.ravel(b)), "outer")


tensordot = named(products.tensordot, np.tensordot)


def einsum(*operands: Any, out: Any = None, optimize: Any = False, **options: Any) -> Any:
    """Einstein's summation; the labels as a string, or as a list after each operand."""
    refuse("einsum", **{name: value for name, value in options.items() if name not in ("order", "casting")})
    if not isinstance(operands[0], str):
        operands = _labels_as_text(operands)
    return into(out, products.einsum(*operands), "einsum")


def _labels_as_text(operands: tuple) -> tuple:
    """`einsum(a, [0, 1], b, [1, 2], [0, 2])` as `einsum("ab,bc->ac", a, b)`."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

    def text(labels: Any) -> str:
        return "".join("..." if label is Ellipsis else letters[label] for label in labels)

    arrays, labels = operands[: len(operands) // 2 * 2 : 2], operands[1::2]
    subscripts = ",".join(map(text, labels))
    if len(operands) % 2:
        subscripts += "->" + text(operands[-1])
    return (subscripts, *arrays)


def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    """The vector product of vectors of length 3 along an axis of each."""
    if axis is not None:
        axisa = axisb = axisc = axis
    return layout.moveaxis(linalg.cross(layout.moveaxis(a, axisa, -1), layout.moveaxis(b, axisb, -1)), -1, axisc)


def kron(a: Any, b: Any) -> Any:
    """Every element of `a` times all of `b`, in the places of `a`'s elements (the Kronecker product)."""
    a, b = as_operand("kron", a), as_operand("kron", b)
    ndim = max(len(a.shape), len(b.shape))
    m, n = ((1,) * (ndim - len(x.shape)) + tuple(x.shape) for x in (a, b))
    blocks = elementwise.multiply(
        layout.reshape(a, [length for i in m for length in (i, 1)]),
        layout.reshape(b, [length for j in n for length in (1, j)]),
    )
    return layout.reshape(blocks, [i * j for i, j in zip(m, n, strict=True)])


# Sliding products --------------------------------------------------------------------------------------------------


def convolve(a: Any, v: Any, mode: str = "full") -> Any:
    """The discrete convolution of two vectors."""
    a, v = layout.atleast_1d(a), layout.atleast_1d(v)
    if len(v.shape) == 1 and len(a.shape) == 1 and v.shape[0] > a.shape[0]:
        a, v = v, a
    return _sliding("convolve", a, layout.flip(v), mode)


def correlate(a: Any, v: Any, mode: str = "valid") -> Any:
    """The sums of products of `v` and the elements of `a` beside it, for each shift of `v` along `a`."""
    a, v = layout.atleast_1d(a), layout.atleast_1d(v)
    if len(v.shape) == 1 and len(a.shape) == 1 and v.shape[0] > a.shape[0]:
        return layout.flip(_sliding("correlate", v, a, mode))
    return _sliding("correlate", a, v, mode)


def _sliding(name: str, a: Any, v: Any, mode: str) -> Any:
    """The products of `v` with the windows of its length in `a`, as one matrix product."""
    if len(a.shape) != 1 or len(v.shape) != 1 or 0 in (*a.shape, *v.shape):
        raise ValueError(
            f"{name}: needs two vectors that are not empty, got shapes {tuple(a.shape)} and {tuple(v.shape)}"
        )
    width = v.shape[0]
    around = {"valid": (0, 0), "same": (width // 2, (width - 1) // 2), "full": (width - 1, width - 1)}
    if mode not in around:
        raise ValueError(f"{name}: mode must be 'full', 'same' or 'valid', got {mode!r}")
    a = joining.pad(a, around[mode])
    windows = np.arange(a.shape[0] - width + 1)[:, None] + np.arange(width)
    return products.matmul(indexing.take(a, windows), v)


# Interpolation -----------------------------------------------------------------------------------------------------


def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    """The piecewise linear function through the points (`xp`, `fp`), at `x`.

    Args:
        x: where, any shape.
        xp: the points' places, a vector in increasing order (in any order with `period`).
        fp: the points' values, a vector of the same length.
        left: the value for x below the first place (default: the first value).
        right: the value for x above the last place (default: the last value).
        period: of the function; `left` and `right` are without effect then.

    The result is of float64, as NumPy's is. At a place where two pieces meet, the derivative is that of the piece
    to the right.
    """
    x, xp, fp = (as_operand("interp", in_dtype("interp", a, np.float64)) for a in (x, xp, fp))
    if len(xp.shape) != 1 or tuple(xp.shape) != tuple(fp.shape) or xp.shape[0] == 0:
        raise ValueError(
            f"interp: xp and fp must be vectors of one length, at least 1; got {tuple(xp.shape)} and {tuple(fp.shape)}"
        )
    if period is not None:
        x, xp, fp = _one_period(x, xp, fp, period)
        left = right = None
    n = xp.shape[0]
    below = np.asarray(_raw(ordering.searchsorted(xp, x, side="right"))) - 1
    piece = np.clip(below, 0, max(n - 2, 0))
    x0, x1 = indexing.take(xp, piece), indexing.take(xp, np.minimum(piece + 1, n - 1))
    y0, y1 = indexing.take(fp, piece), indexing.take(fp, np.minimum(piece + 1, n - 1))
    width = x1 - x0
    slope = (y1 - y0) / elementwise.where(width == 0, 1, width)
    y = slope * (x - x0) + y0
    y = elementwise.where(x >= xp[n - 1], fp[n - 1], y)
    if not is_default(right):
        y = elementwise.where(x > xp[n - 1], right, y)
    return elementwise.where(x < xp[0], fp[0] if is_default(left) else left, y)


def _one_period(x: Any, xp: Any, fp: Any, period: Any) -> tuple[Any, Any, Any]:
    """The points of one period in order, with the neighbouring period's last and first point around them."""
    if period == 0:
        raise ValueError("interp: period must not be 0")
    period = abs(period)
    x, xp = x % period, xp % period
    order = np.asarray(_raw(ordering.argsort(xp)))
    xp, fp = indexing.take(xp, order), indexing.take(fp, order)
    xp = joining.concat([xp[-1:] - period, xp, xp[:1] + period])
    return x, xp, joining.concat([fp[-1:], fp, fp[:1]])


def bincount(x: Any, /, weights: Any = None, minlength: int = 0) -> Any:
    """How often each of 0, 1, 2, ... is in the vector `x`, or the sums of the `weights` that stand beside it."""
    places = np.asarray(_raw(x))
    counts = np.bincount(places, minlength=minlength)
    if weights is None:
        return Tensor(counts)
    weights = as_operand("bincount", in_dtype("bincount", weights, np.float64))
    if tuple(weights.shape) != places.shape:
        raise ValueError(f"bincount: shapes {places.shape} of x and {tuple(weights.shape)} of weights differ")
    return indexing.scatter_add(weights, shape=counts.shape, index=(places,))


__all__ = [
    *("dot", "inner", "vdot", "outer", "tensordot", "einsum", "cross", "kron"),
    *("convolve", "correlate", "interp", "bincount"),
]
