"""Joining and taking apart: concatenating, stacking, splitting, repeating, padding, diagonals.

Everything here is linear (padding with a constant other than zero aside). Changes of shape and order are in
`layout`, elements picked by index in `indexing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from operator import index
from typing import Any

import numpy as np

from chainrule.core.primitive import Primitive, as_operand, general, linear
from chainrule.core.tensor import Tensor, _raw
from chainrule.ops.axes import normalize_axis
from chainrule.ops.indexing import getitem, scatter_add, take
from chainrule.ops.layout import (
    atleast_1d,
    atleast_2d,
    atleast_3d,
    broadcast_to,
    expand_dims,
    matrix_transpose,
    reshape,
)


def _between(axis: int, start: int, stop: int) -> tuple:
    return (*(slice(None),) * axis, slice(start, stop), ...)


def _extent(shapes: Sequence[tuple[int, ...]], axis: int, k: int) -> tuple[int, int]:
    start = sum(shape[axis] for shape in shapes[:k])
    return start, start + shapes[k][axis]


_concat = linear(
    "concat",
    lambda xp, *arrays, axis: xp.concat(arrays, axis=axis),
    lambda g, k, axis, shapes: g[_between(axis, *_extent(shapes, axis, k))],
    text="concat", latex=r"\operatorname{concat}", local=[("its part of g", r"\text{its part of } \delta")],
)  # fmt: skip
_stack = linear(
    "stack",
    lambda xp, *arrays, axis: xp.stack(arrays, axis=axis),
    lambda g, k, axis: g[(*(slice(None),) * axis, k, ...)],
    text="stack", latex=r"\operatorname{stack}", local=[("its part of g", r"\text{its part of } \delta")],
)  # fmt: skip

# Joining ----------------------------------------------------------------------------------------------------


def concat(arrays: Sequence[Any], /, axis: int | None = 0) -> Any:
    """Arrays joined along an existing axis (flattened first for None)."""
    operands = _operands("concat", arrays)
    if axis is None:
        operands, axis = [reshape(x, (-1,)) for x in operands], 0
    axis = normalize_axis(axis, len(operands[0].shape), "concat")
    _check_lengths(operands, axis)
    return _concat(*operands, axis=axis)


def _operands(name: str, arrays: Sequence[Any]) -> list[Any]:
    operands = [as_operand(name, x) for x in arrays]
    if not operands:
        raise ValueError(f"{name}: needs at least one array")
    return operands


def _check_lengths(arrays: Sequence[Any], axis: int) -> None:
    def rest(x: Any) -> tuple:
        return tuple(n for i, n in enumerate(x.shape) if i != axis)

    if any(len(x.shape) != len(arrays[0].shape) or rest(x) != rest(arrays[0]) for x in arrays):
        shapes = ", ".join(str(tuple(x.shape)) for x in arrays)
        raise ValueError(f"concat: shapes {shapes} differ outside axis {axis}")


def stack(arrays: Sequence[Any], /, axis: int = 0) -> Any:
    """Arrays of one shape joined along a new axis."""
    operands = _operands("stack", arrays)
    shapes = {tuple(x.shape) for x in operands}
    if len(shapes) > 1:
        raise ValueError(f"stack: all shapes must be equal, got {', '.join(map(str, sorted(shapes)))}")
    return _stack(*operands, axis=normalize_axis(axis, len(operands[0].shape) + 1, "stack"))


def hstack(arrays: Sequence[Any], /) -> Any:
    """Arrays joined along the second axis; vectors end to end."""
    operands = [atleast_1d(x) for x in _operands("hstack", arrays)]
    return concat(operands, axis=0 if len(operands[0].shape) == 1 else 1)


def vstack(arrays: Sequence[Any], /) -> Any:
    """Arrays joined along the first axis, vectors as rows."""
    return concat([atleast_2d(x) for x in _operands("vstack", arrays)], axis=0)


def dstack(arrays: Sequence[Any], /) -> Any:
    """Arrays joined along the third axis, vectors as (1, n, 1)."""
    return concat([atleast_3d(x) for x in _operands("dstack", arrays)], axis=2)


def column_stack(arrays: Sequence[Any], /) -> Any:
    """Matrices and vectors joined side by side, vectors as columns."""
    operands = _operands("column_stack", arrays)
    return concat([x if len(x.shape) > 1 else matrix_transpose(atleast_2d(x)) for x in operands], axis=1)


# Splitting --------------------------------------------------------------------------------------------------


def _pieces(x: Any, cuts: tuple[int, ...], axis: int) -> tuple:
    return tuple(x[_between(axis, start, stop)] for start, stop in pairwise(cuts))


@cache
def _split_into(count: int) -> Primitive:
    """Splitting into `count` pieces: one node, so that its transpose is one concatenation.

    `cuts` are the places where pieces begin, and where the last one ends.
    """
    return general(
        "split",
        lambda xp, x, *, cuts, axis: _pieces(x, cuts, axis),
        lambda xp, g, axis: xp.concat(g, axis=axis),
        push=lambda xp, primals, tangents, y, *, cuts, axis: _pieces(tangents[0], cuts, axis),
        local=[("concat(g)", r"\operatorname{concat}(\delta)")],
        outputs=[f"piece{i}" for i in range(count)],
    )


def split(x: Any, indices_or_sections: Any, /, axis: int = 0) -> tuple[Any, ...]:
    """`x` cut along `axis`, as in `np.split`.

    Args:
        x: the array.
        indices_or_sections: the number of equal pieces, or the places to cut at.
        axis: to cut along.

    Raises:
        ValueError: the axis does not divide into that many equal pieces (`array_split` allows that).
    """
    x = as_operand("split", x)
    axis = normalize_axis(axis, len(x.shape), "split")
    if np.ndim(indices_or_sections) == 0:
        sections = index(indices_or_sections)
        if sections < 1 or x.shape[axis] % sections:
            raise ValueError(f"split: axis {axis} of shape {tuple(x.shape)} has no {sections} equal pieces")
    return array_split(x, indices_or_sections, axis)


def array_split(x: Any, indices_or_sections: Any, /, axis: int = 0) -> tuple[Any, ...]:
    """`x` cut along `axis` as by `split`, in pieces that differ in length by at most one."""
    x = as_operand("array_split", x)
    axis = normalize_axis(axis, len(x.shape), "array_split")
    n = x.shape[axis]
    if np.ndim(indices_or_sections) == 0:
        sections = index(indices_or_sections)
        if sections < 1:
            raise ValueError(f"array_split: the number of pieces must be at least 1, got {sections}")
        size, longer = divmod(n, sections)
        cuts = [i * size + min(i, longer) for i in range(sections + 1)]
        return _split_into(sections)(x, cuts=tuple(cuts), axis=axis)
    places = [slice(index(i)).indices(n)[1] for i in indices_or_sections]
    if all(start <= stop for start, stop in pairwise(places)):
        return _split_into(len(places) + 1)(x, cuts=(0, *places, n), axis=axis)
    # Places out of order: pieces that overlap, or are empty, as in NumPy.
    return tuple(getitem(x, _between(axis, start, stop)) for start, stop in pairwise((0, *places, n)))


def _slices(x: Any, axis: int) -> tuple:
    return tuple(x[(*(slice(None),) * axis, i, ...)] for i in range(x.shape[axis]))


@cache
def _unstack_into(count: int) -> Primitive:
    """Taking `count` slices apart: one node, so that its transpose is one stack."""
    return general(
        "unstack",
        lambda xp, x, *, axis: _slices(x, axis),
        lambda xp, g, axis: xp.stack(g, axis=axis),
        push=lambda xp, primals, tangents, y, *, axis: _slices(tangents[0], axis),
        local=[("stack(g)", r"\operatorname{stack}(\delta)")],
        outputs=[f"slice{i}" for i in range(count)],
    )


def unstack(x: Any, /, axis: int = 0) -> tuple[Any, ...]:
    """The slices of `x` along `axis`, without that axis."""
    x = as_operand("unstack", x)
    axis = normalize_axis(axis, len(x.shape), "unstack")
    return _unstack_into(x.shape[axis])(x, axis=axis) if x.shape[axis] else ()


# Repeating --------------------------------------------------------------------------------------------------


def tile(x: Any, repetitions: Any, /) -> Any:
    """Copies of `x` side by side, `repetitions` of them along each axis."""
    x = as_operand("tile", x)
    counts = tuple(index(r) for r in repetitions) if np.ndim(repetitions) else (index(repetitions),)
    if any(count < 0 for count in counts):
        raise ValueError(f"tile: repetitions must not be negative, got {counts}")
    ndim = max(len(counts), len(x.shape))
    counts = (1,) * (ndim - len(counts)) + counts
    shape = (1,) * (ndim - len(x.shape)) + tuple(x.shape)
    copies = reshape(x, tuple(length for n in shape for length in (1, n)))
    copies = broadcast_to(copies, tuple(length for r, n in zip(counts, shape, strict=True) for length in (r, n)))
    return reshape(copies, tuple(r * n for r, n in zip(counts, shape, strict=True)))


def repeat(x: Any, repeats: Any, /, axis: int | None = None) -> Any:
    """Every element of `x` along `axis` (of the flattened array for None) `repeats` times in a row.

    Args:
        x: the array.
        repeats: one count for all elements, or one for each along `axis`.
        axis: to repeat along.
    """
    x = as_operand("repeat", x)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    axis = normalize_axis(axis, len(x.shape), "repeat")
    n = x.shape[axis]
    counts = np.asarray(_raw(repeats))
    if counts.dtype.kind not in "iu" or counts.ndim > 1 or counts.size not in (1, n) or (counts < 0).any():
        raise ValueError(
            f"repeat: repeats must be one count or {n} of them (for the elements along axis {axis}), not "
            f"negative; got {counts.dtype} of shape {counts.shape}"
        )
    if counts.size != 1:
        return take(x, np.repeat(np.arange(n), counts), axis=axis)
    count = int(counts.reshape(()))
    shape = tuple(x.shape)
    copies = broadcast_to(expand_dims(x, axis + 1), (*shape[: axis + 1], count, *shape[axis + 1 :]))
    return reshape(copies, (*shape[:axis], n * count, *shape[axis + 1 :]))


# Padding ----------------------------------------------------------------------------------------------------


def padded(xp: Any, x: Any, widths: Any, constants: Any) -> Any:
    """`x` with constant slabs around it, axis by axis: the corners belong to the later axis, as in NumPy."""
    for axis, (before, after) in enumerate(widths):
        slabs = [
            xp.full((*x.shape[:axis], n, *x.shape[axis + 1 :]), constant, dtype=x.dtype, device=x.device)
            for n, constant in zip((before, after), constants[axis], strict=True)
        ]
        if before or after:
            x = xp.concat([slabs[0], x, slabs[1]], axis=axis)
    return x


_pad = general(
    "pad",
    lambda xp, x, *, widths, constants: padded(xp, x, widths, constants),
    lambda g, x_shape, widths: g[tuple(slice(w, w + n) for (w, _), n in zip(widths, x_shape, strict=True))],
    push=lambda xp, primals, tangents, y, *, widths, constants: padded(
        xp, tangents[0], widths, [(0, 0)] * len(widths)
    ),
    local=[("g without the padding", r"\delta \text{ without the padding}")],
)  # fmt: skip

_PAD_MODES = ("edge", "reflect", "symmetric", "wrap")


def pad(x: Any, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Any:
    """`x` with elements added before and after along each axis, as in `np.pad`.

    Args:
        x: the array.
        pad_width: how many: one number for all sides, (before, after) for all axes, one such pair for each
            axis, or a dictionary from axis to number or pair.
        mode: "constant" adds `constant_values`; "edge", "reflect", "symmetric" and "wrap" copy elements.
        constant_values: what "constant" adds, in the same forms as `pad_width`.

    Raises:
        ValueError: the widths do not fit `x` or are negative, or the mode is another one.
    """
    x = as_operand("pad", x)
    widths = _pad_widths(pad_width, tuple(x.shape))
    if mode == "constant":
        constants = _pairs("constant_values", constant_values, len(widths))
        return _pad(x, widths=widths, constants=constants)
    if mode not in _PAD_MODES:
        raise ValueError(f"pad: mode {mode!r} is not supported; use 'constant', {', '.join(map(repr, _PAD_MODES))}")
    for axis, pair in enumerate(widths):
        if pair == (0, 0):
            continue
        if x.shape[axis] == 0:
            raise ValueError(f"pad: mode {mode!r} has nothing to copy along axis {axis} of shape {tuple(x.shape)}")
        copied = np.pad(np.arange(x.shape[axis]), pair, mode=mode)  # type: ignore[call-overload]
        x = take(x, copied, axis=axis)
    return x if isinstance(x, Tensor) else Tensor(x)


def _pad_widths(pad_width: Any, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    if isinstance(pad_width, dict):
        by_axis = {normalize_axis(axis, len(shape), "pad"): width for axis, width in pad_width.items()}
        pad_width = [_pairs("pad_width", by_axis.get(i, 0), 1)[0] for i in range(len(shape))]
    pairs = _pairs("pad_width", pad_width, len(shape))
    if any(index(width) < 0 for pair in pairs for width in pair):
        raise ValueError(f"pad: widths must not be negative, got {pad_width}")
    return pairs


def _pairs(name: str, given: Any, ndim: int) -> tuple[tuple[Any, Any], ...]:
    """A (before, after) pair for each axis, from the forms that `np.pad` takes."""
    try:
        pairs = np.broadcast_to(np.asarray(given), (ndim, 2)) if np.size(given) else np.zeros((ndim, 2), int)
    except ValueError:
        raise ValueError(f"pad: {name} {given} does not fit an array of {ndim} dimensions") from None
    return tuple((before, after) for before, after in pairs.tolist())


# Diagonals --------------------------------------------------------------------------------------------------


def diag(x: Any, /, k: int = 0) -> Any:
    """The matrix with the vector `x` on diagonal `k`, or that diagonal of the matrix `x`."""
    x = as_operand("diag", x)
    k = index(k)
    if len(x.shape) == 1:
        side = x.shape[0] + abs(k)
        return scatter_add(x, shape=(side, side), index=_diagonal((side, side), k))
    if len(x.shape) == 2:
        return getitem(x, _diagonal(tuple(x.shape), k))
    raise ValueError(f"diag: needs a vector or a matrix, got shape {tuple(x.shape)}")


def _diagonal(shape: tuple[int, ...], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the elements on diagonal `k`."""
    row, column = max(-k, 0), max(k, 0)
    steps = np.arange(max(min(shape[0] - row, shape[1] - column), 0))
    return row + steps, column + steps
