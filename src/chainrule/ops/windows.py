"""Windows of an array along its spatial axes, and their transpose, the overlapping add.

Convolution and pooling are made of these two. Their arrays have shape (channels, *spatial, batch): with the batch
last, long stretches of memory are copied whatever the window, and a matrix of windows is ready for a matrix product
as it lies (Chellapilla et al. 2006, "High Performance Convolutional Neural Networks for Document Processing").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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

    @property
    def is_side_by_side(self) -> bool:
        """Whether each window begins where the one before ends."""
        return self.kernel == self.stride and set(self.dilation) == {1}

    def widened(self) -> tuple[Grid, list[tuple[int, int]]]:
        """The grid with so many more windows that each element has every place of a window it can have.

        And how many windows were added before and after, along each axis. They lie partly or wholly outside.
        """
        sides: list[tuple[int, int]] = []
        if self.is_side_by_side:
            return self, [(0, 0)] * len(self.kernel)
        for n, kernel, stride, dilation, before, count in zip(
            self.length, self.kernel, self.stride, self.dilation, self.before, self.count, strict=True
        ):
            first, last = (before - (kernel - 1) * dilation) // stride, (n - 1 + before) // stride
            sides.append((max(-first, 0), max(last + 1 - count, 0)))
        return replace(
            self,
            before=tuple(b + ahead * s for b, (ahead, _), s in zip(self.before, sides, self.stride, strict=True)),
            count=tuple(n + sum(pair) for n, pair in zip(self.count, sides, strict=True)),
        ), sides

    def mirrored(self) -> Grid:
        """Of windows one step apart: those that, with their places in reverse order, are the transpose."""
        span = extent(self.kernel, self.dilation)
        before = tuple(s - 1 - b for s, b in zip(span, self.before, strict=True))
        return replace(self, length=self.count, count=self.length, before=before)

    @property
    def tiles(self) -> bool:
        """Whether every element is in one window and no other."""
        return all(
            s == k and d == 1 and b == 0 and n == k * count
            for n, k, s, d, b, count in zip(
                self.length, self.kernel, self.stride, self.dilation, self.before, self.count, strict=True
            )
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
    if has_views(xp):
        return _windows_viewed(xp, reached(xp, x, grid), shape, grid)
    pieces = []
    for _, windows, elements in grid.meetings():
        piece = x[(slice(None), *elements, slice(None))]
        pieces.append(with_zeros(xp, piece, [(w.start, n - w.stop) for w, n in zip(windows, grid.count, strict=True)]))
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


def has_views(xp: Any) -> bool:
    """Whether windows can be read where they lie in the array, so that it costs nothing to speak of them."""
    return hasattr(xp, "affine_view")


def reached(xp: Any, x: Any, grid: Grid, margin: float = 0) -> Any:
    """What windows reach of (channels, *length, batch), from their start on; `margin` outside of the array."""
    inside: list[slice] = []
    sides: list[tuple[int, int]] = []
    spans = extent(grid.kernel, grid.dilation)
    for n, count, stride, span, before in zip(grid.length, grid.count, grid.stride, spans, grid.before, strict=True):
        inside.append(slice(max(-before, 0), n))
        sides.append((max(before, 0), max((count - 1) * stride + span - before - n, 0)))
    if any(part.start for part in inside):
        x = x[(slice(None), *inside, slice(None))]
    return with_zeros(xp, x, sides, margin)


def _windows_viewed(xp: Any, x: Any, shape: tuple[int, ...], grid: Grid) -> Any:
    """The windows as a view of all that they reach."""
    rank, axes = len(shape), len(grid.kernel)
    spatial = [
        (0, _factors(rank, {1 + i: dilation, 1 + axes + i: stride}))
        for i, (dilation, stride) in enumerate(zip(grid.dilation, grid.stride, strict=True))
    ]
    return xp.affine_view(x, shape, ((0, _factors(rank, {0: 1})), *spatial, (0, _factors(rank, {rank - 1: 1}))))


def at_all_places(xp: Any, x: Any, grid: Grid) -> Any:
    """(channels, *count, batch) with axes of length 1 for the places in a window."""
    return xp.reshape(x, (x.shape[0], *(1,) * len(grid.kernel), *x.shape[1:]))


def _factors(rank: int, by_axis: dict[int, int]) -> tuple[int, ...]:
    return tuple(by_axis.get(axis, 0) for axis in range(rank))


def _overlap_add(xp: Any, g: Any, *, grid: Grid) -> Any:
    """(channels, *kernel, *count, batch) to (channels, *length, batch): what falls on one element is added up."""
    if grid.is_identity:
        return xp.reshape(g, (g.shape[0], *grid.length, g.shape[-1]))
    if has_views(xp):
        return _overlap_add_viewed(xp, g, grid)
    every = product(*map(range, grid.kernel))
    return added_up(xp, (g[(slice(None), *places, ...)] for places in every), grid)


# The same with views: each element asks which windows have it, so that it is written once.


def _overlap_add_viewed(xp: Any, g: Any, grid: Grid) -> Any:
    if grid.is_side_by_side:
        return _side_by_side(xp, g, grid)
    wide, sides = grid.widened()
    g = with_zeros(xp, g, [(0, 0)] * len(grid.kernel) + sides)
    total: Any = None
    for phase in product(*map(range, grid.stride)):
        part = _phase(xp, g, wide, phase)
        if part is None:
            continue
        if set(grid.stride) == {1}:
            return part
        index = (slice(None), *(slice(r, None, stride) for r, stride in zip(phase, grid.stride, strict=True)))
        shape = (part.shape[0], *grid.length, part.shape[-1])
        total = (
            xp.scatter_add(part, shape=shape, index=index) if total is None else xp.updated(total, part, index=index)
        )
    return total


def _side_by_side(xp: Any, g: Any, grid: Grid) -> Any:
    """Windows that neither overlap nor leave anything out between them: their elements in another order."""
    axes = len(grid.kernel)
    pairs = [axis for i in range(axes) for axis in (1 + axes + i, 1 + i)]
    g = xp.permute_dims(g, (0, *pairs, 1 + 2 * axes))
    covered = [count * kernel for count, kernel in zip(grid.count, grid.kernel, strict=True)]
    g = xp.reshape(g, (g.shape[0], *covered, g.shape[-1]))
    g = g[(slice(None), *(slice(b, b + n) for b, n in zip(grid.before, grid.length, strict=True)), slice(None))]
    return with_zeros(xp, g, [(0, n - m) for n, m in zip(grid.length, g.shape[1:-1], strict=True)])


def _phase(xp: Any, g: Any, grid: Grid, phase: tuple[int, ...]) -> Any:
    """The elements number phase, phase + stride, ...: the same places of the same windows fall on all of them.

    None where none does.
    """
    axes, rank = len(grid.kernel), len(grid.kernel) + 2
    lengths = [-(-(n - r) // stride) for n, r, stride in zip(grid.length, phase, grid.stride, strict=True)]
    along = [
        [
            (place, (r + before - place * dilation) // stride)
            for place in range(kernel)
            if (r + before - place * dilation) % stride == 0
        ]
        for r, kernel, stride, dilation, before in zip(
            phase, grid.kernel, grid.stride, grid.dilation, grid.before, strict=True
        )
    ]
    total: Any = None
    for choice in product(*along):
        places = [(place, (0,) * rank) for place, _ in choice]
        windows = [(first, _factors(rank, {1 + i: 1})) for i, (_, first) in enumerate(choice)]
        ends = (0, _factors(rank, {0: 1})), (0, _factors(rank, {1 + axes: 1}))
        part = xp.affine_view(g, (g.shape[0], *lengths, g.shape[-1]), (ends[0], *places, *windows, ends[1]))
        total = part if total is None else total + part
    return total


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
            total = (np.empty if grid.tiles else np.zeros)((len(piece), *grid.length, piece.shape[-1]), piece.dtype)
        if grid.tiles:  # nothing else falls there
            total[(slice(None), *elements)] = piece
        else:
            total[(slice(None), *elements)] += piece
    return total


def _at(xp: Any, piece: Any, elements: tuple[slice, ...], length: tuple[int, ...]) -> Any:
    """`piece` at `elements` of an array that is zero elsewhere."""
    widths = []
    for axis, (places, n) in enumerate(zip(elements, length, strict=True), start=1):
        stride, m = places.step or 1, piece.shape[axis]
        if stride > 1 and m > 1:  # zeros between neighbours
            ahead, behind = piece.shape[:axis], piece.shape[axis + 1 :]
            apart = with_zeros(xp, xp.expand_dims(piece, axis=axis + 1), [(0, 0)] * axis + [(0, stride - 1)])
            flat = xp.reshape(apart, (*ahead, m * stride, *behind))
            piece = flat[(*(slice(None),) * axis, slice((m - 1) * stride + 1), *(slice(None),) * len(behind))]
        widths.append((places.start, n - places.stop))
    return with_zeros(xp, piece, widths)


def with_zeros(xp: Any, x: Any, widths: Sequence[tuple[int, int]], margin: float = 0) -> Any:
    """`x` with zeros (or another number) before and after along the axes that follow the first."""
    pairs = [(0, 0), *widths, *[(0, 0)] * (len(x.shape) - 1 - len(widths))]
    if not has_views(xp) or not any(map(any, pairs)):
        return padded(xp, x, pairs, [(margin, margin)] * len(pairs))
    shape = tuple(n + sum(pair) for n, pair in zip(x.shape, pairs, strict=True))
    inside = tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, pairs, strict=True))
    return xp.updated(xp.full(shape, margin, dtype=x.dtype), x, index=inside)


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
