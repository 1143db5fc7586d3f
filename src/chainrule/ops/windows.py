"""Windows of an array along its spatial axes, and their transpose, the overlapping add.

Convolution and pooling are made of these two. Their arrays have shape (channels, *spatial, batch): with the batch
last, long stretches of memory are copied whatever the window, and a matrix of windows is ready for a matrix product
as it lies (Chellapilla et al. 2006, "High Performance Convolutional Neural Networks for Document Processing").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from chainrule.core.namespace import fast_numpy
from chainrule.core.primitive import Primitive, linear
from chainrule.ops.joining import padded


@dataclass(frozen=True, slots=True)
class Grid:
    """Where windows lie, each field with one number per spatial axis.

    Element k of window o is element o·stride + k·dilation − before of the array; outside of it are zeros.

    Attributes:
        length: of the array.
        kernel: how many elements a window has.
        stride: from one window to the next.
        dilation: from one element of a window to the next.
        before: how far the first window begins before the array.
        count: how many windows there are.
    """

    length: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    count: tuple[int, ...]

    @property
    def is_identity(self) -> bool:
        """Whether every element is a window of its own."""
        return self.count == self.length and all(
            k == s == 1 and b == 0 for k, s, b in zip(self.kernel, self.stride, self.before, strict=True)
        )

    def meetings(self) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]]:
        """For each place in a window: the place, the windows that have it inside the array, and where it is there."""
        along = [
            [(place, *_meeting(place * dilation - before, *rest)) for place in range(kernel)]
            for kernel, dilation, before, *rest in zip(
                self.kernel, self.dilation, self.before, self.stride, self.length, self.count, strict=True
            )
        ]
        for choice in product(*along):
            places, windows, elements = zip(*choice, strict=True)
            yield places, windows, elements


def _meeting(start: int, stride: int, length: int, count: int) -> tuple[slice, slice]:
    """Of the `count` elements start, start + stride, ...: which are in [0, length), and where they are."""
    first = min(max(-(start // stride), 0), count)
    last = max(min((length - 1 - start) // stride + 1, count), first)
    if first == last:
        return slice(first, first), slice(0, 0)
    return slice(first, last), slice(start + first * stride, start + (last - 1) * stride + 1, stride)


def _windows(xp: Any, x: Any, *, grid: Grid) -> Any:
    """(channels, *length, batch) to (channels, *kernel, *count, batch)."""
    channels, *_, batch = x.shape
    shape = (channels, *grid.kernel, *grid.count, batch)
    if grid.is_identity:
        return xp.reshape(x, shape)
    if xp is fast_numpy:
        return _windows_copied(x, shape, grid)
    pieces = []
    for _, windows, elements in grid.meetings():
        piece = x[(slice(None), *elements, slice(None))]
        pieces.append(_with_zeros(xp, piece, [(w.start, n - w.stop) for w, n in zip(windows, grid.count, strict=True)]))
    return xp.reshape(xp.stack(pieces, axis=1), shape)


def _windows_copied(x: np.ndarray, shape: tuple[int, ...], grid: Grid) -> np.ndarray:
    x = np.ascontiguousarray(x)  # one copy that jumps about in memory instead of one per place
    y = np.empty(shape, x.dtype)
    for places, windows, elements in grid.meetings():
        target = y[(slice(None), *places)]  # type: ignore[arg-type]
        for axis, (window, count) in enumerate(zip(windows, grid.count, strict=True)):
            margin = (slice(None),) * (axis + 1)
            if window.start:
                target[(*margin, slice(window.start))] = 0
            if window.stop < count:
                target[(*margin, slice(window.stop, None))] = 0
        target[(slice(None), *windows)] = x[(slice(None), *elements)]
    return y


def _overlap_add(xp: Any, g: Any, *, grid: Grid) -> Any:
    """(channels, *kernel, *count, batch) to (channels, *length, batch): what falls on one element is added up."""
    if grid.is_identity:
        return xp.reshape(g, (g.shape[0], *grid.length, g.shape[-1]))
    every = product(*map(range, grid.kernel))
    return added_up(xp, (g[(slice(None), *places, ...)] for places in every), grid)


def added_up(xp: Any, pieces: Iterable[Any], grid: Grid) -> Any:
    """What falls on one element added up, given for each place in a window an array (channels, *count, batch)."""
    total: Any = None
    for piece, (_, windows, elements) in zip(pieces, grid.meetings(), strict=True):
        piece = piece[(slice(None), *windows, slice(None))]
        if xp is not fast_numpy:
            spread = _at(xp, piece, elements, grid.length)
            total = spread if total is None else total + spread
            continue
        if total is None:
            total = np.zeros((piece.shape[0], *grid.length, piece.shape[-1]), piece.dtype)
        total[(slice(None), *elements)] += piece
    return total


def _at(xp: Any, piece: Any, elements: tuple[slice, ...], length: tuple[int, ...]) -> Any:
    """`piece` at `elements` of an array that is zero elsewhere."""
    widths = []
    for axis, (places, n) in enumerate(zip(elements, length, strict=True), start=1):
        stride, m = places.step or 1, piece.shape[axis]
        if stride > 1 and m > 1:  # zeros between neighbours
            ahead, behind = piece.shape[:axis], piece.shape[axis + 1 :]
            apart = _with_zeros(xp, xp.expand_dims(piece, axis=axis + 1), [(0, 0)] * axis + [(0, stride - 1)])
            flat = xp.reshape(apart, (*ahead, m * stride, *behind))
            piece = flat[(*(slice(None),) * axis, slice((m - 1) * stride + 1), *(slice(None),) * len(behind))]
        widths.append((places.start, n - places.stop))
    return _with_zeros(xp, piece, widths)


def _with_zeros(xp: Any, x: Any, widths: Sequence[tuple[int, int]]) -> Any:
    """`x` with zeros before and after along the axes that follow the first."""
    pairs = [(0, 0), *widths, *[(0, 0)] * (len(x.shape) - 1 - len(widths))]
    return padded(xp, x, pairs, [(0, 0)] * len(pairs))


windows: Primitive = linear(
    "windows", _windows, lambda xp, g, grid: overlap_add.on(xp, g, grid=grid),
    text="windows($x)", latex=r"\operatorname{windows}($x)",
    local=[("overlap_add(g)", r"\operatorname{windows}^\top(\delta)")],
)  # fmt: skip
overlap_add: Primitive = linear(
    "overlap_add", _overlap_add, lambda xp, g, grid: windows.on(xp, g, grid=grid),
    text="overlap_add($g)", latex=r"\operatorname{windows}^\top($g)",
    local=[("windows(g)", r"\operatorname{windows}(\delta)")],
)  # fmt: skip


def per_axis(name: str, value: Any, ndim: int, least: int) -> tuple[int, ...]:
    """`value`, one integer for all spatial axes or one for each, as a tuple.

    Raises:
        TypeError: it is neither an integer nor several.
        ValueError: there are not `ndim` of them, or one is less than `least`.
    """
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * ndim
    if not all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in values):
        raise TypeError(f"{name} must be an integer, or {ndim} of them, got {value!r}")
    if len(values) != ndim:
        raise ValueError(f"{name} must be one integer or {ndim}, one for each spatial axis; got {value!r}")
    if any(v < least for v in values):
        raise ValueError(f"{name} must be at least {least}, got {value!r}")
    return tuple(int(v) for v in values)


def extent(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    """How many elements a window spans along each axis."""
    return tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))


def batch_last(xp: Any, x: Any) -> Any:
    """(batch, channels, *spatial) to (channels, *spatial, batch)."""
    return xp.permute_dims(x, (*range(1, len(x.shape)), 0))


def batch_first(xp: Any, x: Any) -> Any:
    """(channels, *spatial, batch) to (batch, channels, *spatial)."""
    last = len(x.shape) - 1
    return xp.permute_dims(x, (last, *range(last)))
