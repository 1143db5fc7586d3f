"""Ordering: sorting, searching, ranking, and what is read off a sorted array.

The derivative of a sort sends each cotangent back to the place its element came from; indices and counts
carry none. Equal elements keep their order everywhere, so that derivatives are deterministic.
"""

from __future__ import annotations

from operator import index
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.namespace import PYTHON_SCALARS, namespace_of
from chainrule.core.primitive import Primitive, as_operand, constant, general
from chainrule.core.tensor import _raw
from chainrule.ops.axes import normalize_axes, normalize_axis, reduced_size
from chainrule.ops.elementwise import isnan, where
from chainrule.ops.indexing import getitem, take, take_along_axis
from chainrule.ops.layout import astype, moveaxis, permute_dims, reshape

# Sorting ----------------------------------------------------------------------------------------------------


def _order(xp: Any, x: Any, axis: int, descending: bool) -> Any:
    """Indices that sort `x`, equal elements in their order."""
    if not descending:
        return xp.argsort(x, axis=axis, stable=True)
    last = x.shape[axis] - 1
    return last - xp.flip(xp.argsort(xp.flip(x, axis=axis), axis=axis, stable=True), axis=axis)


def _sort_value(xp: Any, x: Any, *, axis: int, descending: bool) -> Any:
    ascending = xp.sort(x, axis=axis, stable=False)  # equal values are equal, in whichever order
    return xp.flip(ascending, axis=axis) if descending else ascending


def _sort_rule(xp: Any, g: Any, x: Any, axis: int, descending: bool) -> Any:
    rank = xp.argsort(_order(xp, x, axis, descending), axis=axis)  # the inverse permutation
    return xp.take_along_axis(g, rank, axis=axis)


def _sort_push(xp: Any, primals: Any, tangents: Any, y: Any, *, axis: int, descending: bool) -> Any:
    return xp.take_along_axis(tangents[0], _order(xp, primals[0], axis, descending), axis=axis)


_sort = general(
    "sort", _sort_value, _sort_rule, push=_sort_push,
    text="sort($x)", latex=r"\operatorname{sort}($x)", local=[("unsort(g)", r"P^\top \delta")],
)  # fmt: skip
_argsort = constant("argsort", lambda xp, x, *, axis, descending: _order(xp, x, axis, descending))


def _along(primitive: Primitive, x: Any, axis: int | None, **params: Any) -> Any:
    x = as_operand(primitive.name, x)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    return primitive(x, axis=normalize_axis(axis, len(x.shape), primitive.name), **params)


def sort(x: Any, /, axis: int | None = -1, descending: bool = False, stable: bool = True) -> Any:
    """`x` in order along `axis` (flattened for None). NaNs count as largest; the sort is always stable."""
    return _along(_sort, x, axis, descending=bool(descending))


def argsort(x: Any, /, axis: int | None = -1, descending: bool = False, stable: bool = True) -> Any:
    """The indices that sort `x` along `axis` (flattened for None). The sort is always stable."""
    return _along(_argsort, x, axis, descending=bool(descending))


def topk(x: Any, k: int, /, axis: int = -1, largest: bool = True) -> tuple[Any, Any]:
    """The `k` largest (or smallest) elements along `axis`, best first, and their indices.

    Raises:
        ValueError: there are fewer than `k` elements.
    """
    x = as_operand("topk", x)
    axis = normalize_axis(axis, len(x.shape), "topk")
    if not 0 <= index(k) <= x.shape[axis]:
        raise ValueError(f"topk: k must be between 0 and the length {x.shape[axis]} of axis {axis}, got {k}")
    indices = getitem(argsort(x, axis, descending=largest), (slice(None),) * axis + (slice(0, k),))
    return take_along_axis(x, indices, axis=axis), indices


# Searching --------------------------------------------------------------------------------------------------

_argmax = constant("argmax", lambda xp, x, *, axis, keepdims: xp.argmax(x, axis=axis, keepdims=keepdims))
_argmin = constant("argmin", lambda xp, x, *, axis, keepdims: xp.argmin(x, axis=axis, keepdims=keepdims))
_nonzero = constant("nonzero", lambda xp, x: xp.nonzero(x), outputs=["indices"])
_searchsorted = constant(
    "searchsorted", lambda xp, sequence, values, *, side: xp.searchsorted(sequence, values, side=side)
)


def argmax(x: Any, /, axis: int | None = None, keepdims: bool = False) -> Any:
    """The index of the (first) largest element along `axis`, or in the flattened array for None."""
    return _arg_extreme(_argmax, x, axis, keepdims)


def argmin(x: Any, /, axis: int | None = None, keepdims: bool = False) -> Any:
    """The index of the (first) smallest element along `axis`, or in the flattened array for None."""
    return _arg_extreme(_argmin, x, axis, keepdims)


def _arg_extreme(primitive: Primitive, x: Any, axis: int | None, keepdims: bool) -> Any:
    x = as_operand(primitive.name, x)
    if axis is not None:
        axis = normalize_axis(axis, len(x.shape), primitive.name)
    if reduced_size(x.shape, normalize_axes(axis, len(x.shape), primitive.name)) == 0:
        raise ValueError(f"{primitive.name}: there is no extreme among no elements (shape {tuple(x.shape)})")
    return primitive(x, axis=axis, keepdims=bool(keepdims))


def nonzero(x: Any, /) -> tuple[Any, ...]:
    """The indices of the elements that are not zero, one vector for each axis."""
    x = as_operand("nonzero", x)
    if not x.shape:
        raise ValueError("nonzero: needs at least one dimension; use atleast_1d(x) on a single number")
    return _nonzero(x)


def searchsorted(x1: Any, x2: Any, /, side: str = "left", sorter: Any = None) -> Any:
    """Where the elements of `x2` would go in the sorted vector `x1`.

    Args:
        x1: a vector, in order (or put in order by `sorter`).
        x2: values to find places for, of any shape.
        side: "left" puts them before equal elements, "right" after.
        sorter: indices that sort `x1`.
    """
    if side not in ("left", "right"):
        raise ValueError(f"searchsorted: side must be 'left' or 'right', got {side!r}")
    x1 = as_operand("searchsorted", x1)
    if len(x1.shape) != 1:
        raise ValueError(f"searchsorted: needs a vector to search in, got shape {tuple(x1.shape)}")
    if sorter is not None:
        x1 = take(x1, sorter)
    if type(x2) in PYTHON_SCALARS:
        x2 = namespace_of(_raw(x1)).asarray(x2)
    return _searchsorted(x1, x2, side=side)


# Distinct values --------------------------------------------------------------------------------------------


class UniqueAll(NamedTuple):
    """Distinct values in order, where each is first found, the place in them of each element, how often."""

    values: Any
    indices: Any
    inverse_indices: Any
    counts: Any


class UniqueCounts(NamedTuple):
    """Distinct values in order, and how often each is found."""

    values: Any
    counts: Any


class UniqueInverse(NamedTuple):
    """Distinct values in order, and the place in them of each element."""

    values: Any
    inverse_indices: Any


def _unique_value(xp: Any, x: Any) -> tuple[Any, ...]:
    """Spelled out, as not every library has all four parts. Every NaN is distinct, as in the standard."""
    flat = xp.reshape(x, (-1,))
    order = xp.argsort(flat, stable=True)
    ranked = xp.take(flat, order)
    first = xp.astype(xp.ones_like(order[:1]), xp.bool)
    begins = xp.concat([first, ranked[1:] != ranked[:-1]])
    (starts,) = xp.nonzero(begins)
    group = xp.cumulative_sum(xp.astype(begins, xp.int64)) - 1
    end = xp.full_like(starts[:1], flat.shape[0])
    return (
        xp.take(ranked, starts),
        xp.take(order, starts),
        xp.reshape(xp.take(group, xp.argsort(order)), x.shape),
        xp.concat([starts[1:], end]) - starts,
    )


_unique = constant("unique", _unique_value, outputs=UniqueAll._fields)


def unique_all(x: Any, /) -> UniqueAll:
    """The distinct values of `x` in order, first indices, inverse indices and counts.

    The gradient of a value goes to the first element that has it.
    """
    x = as_operand("unique_all", x)
    _, first, *rest = _unique(x)
    return UniqueAll(take(x, first), first, *rest)


def unique_counts(x: Any, /) -> UniqueCounts:
    """The distinct values of `x` in order, and how often each is found."""
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x: Any, /) -> UniqueInverse:
    """The distinct values of `x` in order, and the place in them of each element of `x`."""
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: Any, /) -> Any:
    """The distinct values of `x`, in order."""
    return unique_all(x).values


def unique(x: Any, /, return_index: bool = False, return_inverse: bool = False, return_counts: bool = False) -> Any:
    """The distinct values of `x` in order, with the further parts asked for, as in `np.unique`."""
    values, *parts = unique_all(x)
    wanted = (return_index, return_inverse, return_counts)
    chosen = [part for part, asked in zip(parts, wanted, strict=True) if asked]
    return (values, *chosen) if chosen else values


# Quantiles --------------------------------------------------------------------------------------------------


def quantile(x: Any, q: Any, /, axis: Any = None, keepdims: bool = False) -> Any:
    """Quantiles of `x` over `axis`, linear between neighbours (definition 7 of Hyndman and Fan, 1996).

    Args:
        x: the array; integers are converted to float64.
        q: the quantile or quantiles, between 0 and 1. Those of an array come along new first axes.
        axis: an integer, a tuple, or None for all.
        keepdims: keep the reduced axes, with length 1.

    Raises:
        ValueError: a quantile outside [0, 1], or no elements.
        GradientError: `q` is recorded; there is no derivative with respect to it.
    """
    return _quantile("quantile", x, np.asarray(q, dtype=np.float64), axis, keepdims)


def percentile(x: Any, q: Any, /, axis: Any = None, keepdims: bool = False) -> Any:
    """As `quantile`, with `q` between 0 and 100."""
    return _quantile("percentile", x, np.asarray(q, dtype=np.float64) / 100, axis, keepdims)


def median(x: Any, /, axis: Any = None, keepdims: bool = False) -> Any:
    """The middle element over `axis`, or the mean of the middle two."""
    return _quantile("median", x, np.asarray(0.5), axis, keepdims)


def _quantile(name: str, x: Any, q: np.ndarray, axis: Any, keepdims: bool) -> Any:
    if not ((q >= 0) & (q <= 1)).all():
        raise ValueError(f"{name}: q must be between 0 and {100 if name == 'percentile' else 1}")
    x = as_operand(name, x)
    xp = namespace_of(_raw(x))
    if not xp.isdtype(x.dtype, "real floating"):
        x = astype(x, xp.float64)
    shape = tuple(x.shape)
    axes = normalize_axes(axis, len(shape), name)
    n = reduced_size(shape, axes)
    if n == 0:
        raise ValueError(f"{name}: there is none of no elements (shape {shape})")
    rest = tuple(i for i in range(len(shape)) if i not in axes)
    rows = reshape(permute_dims(x, rest + axes), (*(shape[i] for i in rest), n))
    between = _interpolated(xp, sort(rows), q.reshape(-1) * (n - 1))
    left = tuple(1 if i in axes else m for i, m in enumerate(shape)) if keepdims else rows.shape[:-1]
    return reshape(moveaxis(between, -1, 0), (*q.shape, *left))


def _interpolated(xp: Any, ranked: Any, places: np.ndarray) -> Any:
    """`ranked` along its last axis at fractional places; NaN where there is a NaN, which was ranked last."""
    below = np.floor(places).astype(np.intp)
    weight = places - below
    values = take(ranked, below, axis=-1)
    if weight.any():
        above = np.minimum(below + 1, ranked.shape[-1] - 1)
        values = values + (take(ranked, above, axis=-1) - values) * xp.asarray(weight, dtype=ranked.dtype)
    greatest = ranked[..., -1:]
    return where(isnan(greatest), greatest, values)
