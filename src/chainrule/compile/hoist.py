"""Layout moved outwards: computing first, and then putting the results in another order.

A permutation of axes costs nothing where an array is read, and much where it is written, so it should be the last
thing that happens to a value: `f(permute(x))` becomes `permute(f(x))`, for elementwise functions and reductions. On
its way outwards it meets its inverse or a reader that does not mind. The same goes for a reshape that joins axes which
do not lie next to each other in memory: moved outwards, it is done once, where something has to be stored.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.compile.fuse import SOURCES, is_pointwise
from chainrule.compile.graph import Graph, Value, base


def hoisted(new: Graph, value: Value, inputs: Sequence[Value]) -> Value | None:
    """An elementwise function below the layout of its inputs, or None where they do not share one.

    Where an input of the program takes part nothing is moved: it is what is written over, and as it lies.
    """
    if not is_pointwise(value) or value.op in ("gather", "copy") or len(value.shape) < 2:
        return None
    for x in inputs:
        if x.shape == value.shape and _can_move(x):
            moved = [_below(new, other, x) for other in inputs]
            if None not in moved:
                return _again(new, x, _computed(new, value, moved, x.inputs[0].shape))  # type: ignore[arg-type]
    return None


def _computed(new: Graph, value: Value, inputs: list[Value], shape: tuple[int, ...]) -> Value:
    inner = new.add(value.op, inputs, value.params, shape, value.dtype)
    return hoisted(new, inner, inputs) or inner


def _can_move(x: Value) -> bool:
    if x.op == "reshape":
        return x.inputs[0].op == "permute_dims" and base(x).op not in SOURCES and _joined(x) is not None
    return x.op == "permute_dims" and base(x).op not in SOURCES


def _again(new: Graph, x: Value, inner: Value) -> Value:
    """The layout of x, of another value."""
    return new.permute_dims(inner, x.params) if x.op == "permute_dims" else new.reshape(inner, x.shape)


def _below(new: Graph, other: Value, x: Value) -> Value | None:
    """What `other`, of the shape of x, is below the layout of x."""
    shape = x.inputs[0].shape
    if other.op == x.op and other.params == x.params and other.inputs[0].shape == shape:
        return other.inputs[0]
    if base(other).op == "full":
        return new.broadcast_to(base(other), shape)
    if other.op == "broadcast_to" and other.inputs[0].size < other.size:
        (source,) = other.inputs
        lengths = (1,) * (len(other.shape) - len(source.shape)) + source.shape
        narrow = new.reshape(source, lengths)
        if x.op == "permute_dims":
            return new.broadcast_to(new.permute_dims(narrow, inverse(x.params)), shape)
        return new.broadcast_to(new.reshape(narrow, _narrowed(x, lengths)), shape)
    if x.op == "reshape" and base(other).op not in SOURCES:
        return new.reshape(other, shape)
    return None


def _narrowed(x: Value, lengths: Sequence[int]) -> tuple[int, ...]:
    """The shape below a reshape x of what it is stretched from, whose axes are of full length or 1."""
    fine = x.inputs[0].shape
    blocks = _joined(x) or []
    kept = {axis for axis, (n, m) in enumerate(zip(lengths, x.shape, strict=True)) if n == m}
    return tuple(n if axis in kept else 1 for axis, block in enumerate(blocks) for n in fine[slice(*block)])


def inverse(axes: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes one."""
    return tuple(axes.index(axis) for axis in range(len(axes)))


def _joined(x: Value) -> list[tuple[int, int]] | None:
    """For each axis of a reshape, from where to where the axes go that it joins; None if it does not only join."""
    fine = x.inputs[0].shape
    blocks = []
    start = 0
    for axis, n in enumerate(x.shape):
        stop, size = start, 1
        while stop < len(fine) and (size < n or (axis == len(x.shape) - 1) or fine[stop] == 1 != n):
            size *= fine[stop]
            stop += 1
        if size != n or stop == start:
            return None
        blocks.append((start, stop))
        start = stop
    return blocks if start == len(fine) else None


def reduced_below(new: Graph, x: Value, axes: Sequence[int]) -> tuple[Value, tuple[int, ...], tuple[int, ...]] | None:
    """What to fold, along which axes, and in which order the rest then lies, where x is a layout that can be moved."""
    if not _can_move(x):
        return None
    if x.op == "permute_dims":
        below = tuple(sorted(x.params[axis] for axis in axes))
        rest = [axis for i, axis in enumerate(x.params) if i not in axes]
        return x.inputs[0], below, tuple(sorted(rest).index(axis) for axis in rest)
    blocks = _joined(x) or []
    below = tuple(axis for i in axes for axis in range(*blocks[i]))
    return x.inputs[0], below, tuple(range(len(x.inputs[0].shape) - len(below)))
