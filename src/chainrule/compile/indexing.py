"""NumPy's indexing, brought down to slices, gathers and scatters of the graph.

An index of slices and integers is a slice. One with arrays is a gather: the place of an element in the flat array is
a part that runs along the axes by fixed strides, and a part that is computed from the arrays.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from chainrule.compile.errors import Unsupported
from chainrule.compile.graph import Graph, Region, Value, whole


def concrete(index: Any) -> Any:
    """An index as it is in the recorded run."""
    if isinstance(index, tuple):
        return tuple(concrete(part) for part in index)
    return getattr(index, "concrete", index)


class _Axis(NamedTuple):
    """How one axis of the indexed array is read: a range of it, or places named by an array (then `length` is None)."""

    axis: int
    start: int
    step: int
    length: int | None
    array: Any = None


def _parts(index: Any, shape: tuple[int, ...]) -> list[_Axis | None]:
    """One entry per axis of the array, and None for each new axis, in the order of the index."""
    given = index if isinstance(index, tuple) else (index,)
    spread: list[Any] = []
    for part in given:
        is_mask = getattr(part, "dtype", None) == np.bool_ and getattr(part, "ndim", 0) > 0
        if is_mask and not isinstance(part, np.ndarray):
            raise Unsupported(
                "indexing by a boolean array, whose values are read at each call, has a result of unknown shape; "
                "write np.where(mask, x, 0), or index by mask.nonzero() taken outside"
            )
        spread.extend(part.nonzero() if is_mask else [part])
    used = sum(part is not None and part is not Ellipsis for part in spread)
    everything = [slice(None)] * (len(shape) - used)
    place = next((i for i, part in enumerate(spread) if part is Ellipsis), len(spread))
    spread[place : place + 1] = everything
    parts: list[_Axis | None] = []
    axes = iter(range(len(shape)))
    for part in spread:
        if part is None:
            parts.append(None)
            continue
        axis = next(axes)
        n = shape[axis]
        if isinstance(part, slice):
            start, _, step = part.indices(n)
            parts.append(_Axis(axis, start, step, len(range(*part.indices(n)))))
        elif hasattr(part, "shape") and (part.shape or hasattr(part, "value")):
            parts.append(_Axis(axis, 0, 1, None, part))
        else:
            parts.append(_Axis(axis, int(part) % n if n else 0, 1, None))
    return parts


def read(graph: Graph, x: Value, index: Any, shape: tuple[int, ...]) -> Value:
    """The value of `x[index]`, whose shape is known to be `shape`."""
    parts = _parts(index, x.shape)
    if not _has_arrays(parts):
        starts, steps, lengths = _ranges(parts)
        return graph.reshape(graph.slice(x, starts, steps, lengths), shape)
    base, strides, offset = _places(graph, parts, x.shape, shape)
    return graph.add("gather", (x, offset), (base, strides), shape, x.dtype)


def add_into_zeros(graph: Graph, g: Value, shape: tuple[int, ...], index: Any) -> Value:
    """Zeros of `shape` with `g` added at `index`."""
    parts = _parts(index, shape)
    if not _has_arrays(parts):
        starts, steps, lengths = _ranges(parts)
        return graph.assemble([(graph.reshape(g, lengths), Region(starts, steps))], shape, g.dtype)
    base, strides, offset = _places(graph, parts, shape, g.shape)
    return graph.add("scatter_add", (g, offset), (base, strides), shape, g.dtype)


def write(graph: Graph, x: Value, v: Value, index: Any) -> Value:
    """A copy of `x` with `v` at `index`."""
    parts = _parts(index, x.shape)
    if not _has_arrays(parts):
        return _insert(graph, x, v, parts)
    base, strides, offset = _places(graph, parts, x.shape, v.shape)
    return graph.add("scatter", (x, v, offset), (base, strides), x.shape, x.dtype)


def _insert(graph: Graph, x: Value, v: Value, parts: list[_Axis | None]) -> Value:
    starts, steps, lengths = _ranges(parts)
    region = Region(starts, steps)
    return graph.assemble([(x, whole(len(x.shape))), (graph.reshape(v, lengths), region)], x.shape, x.dtype)


def _has_arrays(parts: list[_Axis | None]) -> bool:
    return any(part is not None and part.array is not None for part in parts)


def _ranges(parts: list[_Axis | None]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    axes = [part for part in parts if part is not None]
    return (
        tuple(part.start for part in axes),
        tuple(part.step for part in axes),
        tuple(1 if part.length is None else part.length for part in axes),
    )


def _places(
    graph: Graph, parts: list[_Axis | None], shape: tuple[int, ...], result: tuple[int, ...]
) -> tuple[int, tuple[int, ...], Value]:
    """Where the elements are in the flat array: a constant, a stride per axis of the result, and a computed part.

    The computed part has the result's number of dimensions, and length 1 along the axes it does not depend on.
    """
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    chosen = [i for i, part in enumerate(parts) if part is not None and part.length is None]
    arrays = [part for part in parts if part is not None and part.array is not None]
    common = np.broadcast_shapes(*(part.array.shape for part in arrays))
    adjacent = chosen == list(range(chosen[0], chosen[-1] + 1))
    before = chosen[0] if adjacent else 0  # NumPy puts the arrays' axes first where a slice is between them
    along = [
        0 if part is None else part.step * strides[part.axis]
        for i, part in enumerate(parts) if i not in chosen
    ]  # fmt: skip
    along[before:before] = [0] * len(common)
    base = sum(part.start * strides[part.axis] for part in parts if part is not None)
    lengths = [1] * before + list(common) + [1] * (len(result) - before - len(common))
    offset = graph.full(common, 0, np.int64)
    for part in arrays:
        wrapped = _wrapped(graph, part.array, shape[part.axis])
        term = graph.broadcast_to(_apply(graph, "multiply", wrapped, strides[part.axis]), common)
        offset = graph.add("add", (offset, term), None, common, np.int64)
    return base, tuple(along), graph.reshape(offset, lengths)


def _wrapped(graph: Graph, array: Any, n: int) -> Value:
    """Indices counted from the start, int64. Those that come with a run are checked and kept inside in every run."""
    if isinstance(array, np.ndarray):
        return graph.constant(np.where(array < 0, array + n, array).astype(np.int64))
    index = graph.astype(array.value, np.int64)
    negative = _apply(graph, "less", index, 0)
    index = graph.add("select", (negative, _apply(graph, "add", index, n), index), None, index.shape, np.int64)
    outside = [_apply(graph, "greater_equal", index, 0), _apply(graph, "less", index, n)]
    inside = graph.add("logical_and", outside, None, index.shape, bool)
    check(graph, inside, f"an index is out of bounds for an axis of length {n}")
    return _apply(graph, "minimum", _apply(graph, "maximum", index, 0), max(n - 1, 0))


def check(graph: Graph, holds: Value, message: str) -> None:
    """Let every run raise an IndexError with `message` where not all of `holds` is true."""
    if holds.shape:
        holds = graph.add("reduce_all", (holds,), tuple(range(len(holds.shape))), (), bool)
    graph.checks.append((holds, message))


def _apply(graph: Graph, op: str, x: Value, number: int) -> Value:
    dtype = bool if op in ("less", "greater_equal") else x.dtype
    return graph.add(op, (x, graph.full(x.shape, number, x.dtype)), None, x.shape, dtype)
