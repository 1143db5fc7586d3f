"""Pooling: the largest element or the mean of each window, channel by channel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from chainrule.core.namespace import fast_numpy, tensor_namespace
from chainrule.core.native import FEWEST_ELEMENTS
from chainrule.core.primitive import as_operand, general, linear
from chainrule.ops.layout import reshape
from chainrule.ops.windows import (
    Grid,
    added_up,
    at_all_places,
    batch_first,
    batch_last,
    extent,
    has_views,
    overlap_add,
    per_axis,
    reached,
    with_zeros,
)


def _parts(xp: Any, x: Any, grid: Grid, margin: float) -> Iterator[Any]:
    """For each place in a window, the elements of (channels, *length, batch) there; `margin` outside of the array."""
    x = reached(xp, x, grid, margin)
    inside = replace(grid, length=tuple(x.shape[1:-1]), before=(0,) * len(grid.before))
    return (x[(slice(None), *elements, slice(None))] for _, _, elements in inside.meetings())


# Largest ------------------------------------------------------------------------------------------------------------
# The winner takes the gradient. At a tie it is the first in the window: the derivative is deterministic.


def _max_pool_value(xp: Any, x: Any, *, grid: Grid) -> Any:
    y: Any = None
    for place, part in enumerate(_parts(xp, batch_last(xp, x), grid, -math.inf)):
        if place > 1 and xp is fast_numpy:
            np.maximum(y, part, out=y)
        else:
            y = part if y is None else xp.maximum(y, part)
    return batch_first(xp, y)


def _winners(xp: Any, x: Any, y: Any, grid: Grid) -> Iterator[Any]:
    """For each place in a window, where the winner is there; a NaN wins, as in the value."""
    taken: Any = None
    last = math.prod(grid.kernel) - 1
    for place, part in enumerate(_parts(xp, x, grid, -math.inf)):
        if taken is None:
            hit = taken = (part == y) | (part != part)
        elif place == last:
            hit = ~taken  # one of them must be
        else:
            hit = ((part == y) | (part != part)) & ~taken
            taken = hit | taken
        yield hit


def _winner(xp: Any, x: Any, y: Any, grid: Grid) -> Any:
    """The number of the winner's place in each window."""
    last = math.prod(grid.kernel) - 1
    dtype = xp.int8 if last < 128 else xp.int32
    winner: Any = xp.full((), last, dtype=dtype)
    for place, part in reversed(list(enumerate(_parts(xp, x, grid, -math.inf)))[:-1]):
        winner = xp.where((part == y) | (part != part), xp.full((), place, dtype=dtype), winner)
    return xp.broadcast_to(winner, y.shape)


def _to_winners(xp: Any, g: Any, winner: Any, grid: Grid) -> Any:
    """What falls on the elements of (channels, *length, batch): each asks the windows that have it whether it won."""
    wide, sides = grid.widened()
    g, winner = (at_all_places(xp, with_zeros(xp, part, sides), grid) for part in (g, winner))
    places = xp.astype(xp.arange(math.prod(grid.kernel)), winner.dtype)
    places = xp.reshape(places, (*grid.kernel, *(1,) * (len(grid.kernel) + 1)))
    return overlap_add.on(xp, xp.where(winner == places, g, xp.zeros((), dtype=g.dtype)), grid=wide)


def _max_pool_rule(xp: Any, g: Any, x: Any, y: Any, grid: Grid) -> Any:
    g, x, y = batch_last(xp, g), batch_last(xp, x), batch_last(xp, y)
    if has_views(xp):
        return batch_first(xp, _to_winners(xp, g, _winner(xp, x, y, grid), grid))
    return batch_first(xp, added_up(xp, (g * xp.astype(hit, g.dtype) for hit in _winners(xp, x, y, grid)), grid))


def _max_pool_push(xp: Any, primals: Any, tangents: Any, y: Any, *, grid: Grid) -> Any:
    (x,), (t,) = primals, tangents
    x, t, y = batch_last(xp, x), batch_last(xp, t), batch_last(xp, y)
    total: Any = 0
    for hit, part in zip(_winners(xp, x, y, grid), _parts(xp, t, grid, 0.0), strict=True):
        total = total + part * xp.astype(hit, t.dtype)
    return batch_first(xp, total)


_max_pool = general(
    "max_pool", _max_pool_value, _max_pool_rule, push=_max_pool_push,
    native=FEWEST_ELEMENTS, text="max_pool($x)", latex=r"\operatorname{max\,pool}($x)",
    local=[("1[winner]", r"\mathbb{1}[$x = $y]")],
)  # fmt: skip

# Mean ---------------------------------------------------------------------------------------------------------------


def _shares(xp: Any, like: Any, grid: Grid, margins_count: bool, divisor: int | None) -> Any:
    """What each element of a window contributes to its mean: a number, or (1, *count, 1) where windows differ."""
    if divisor is not None:
        return 1 / divisor
    sizes = np.ones(())
    for n, k, s, before, count in zip(grid.length, grid.kernel, grid.stride, grid.before, grid.count, strict=True):
        first = np.arange(count) * s - before
        last = np.minimum(first + k, n + before)
        if not margins_count:
            first, last = np.maximum(first, 0), np.minimum(last, n)
        sizes = sizes[..., None] * (last - first)
    if (sizes == sizes.flat[0]).all():
        return 1 / float(sizes.flat[0])
    shares = (1 / sizes)[None, ..., None]
    plain = xp is fast_numpy or xp is tensor_namespace
    return xp.astype(shares if plain else xp.asarray(shares), like.dtype)


def _avg_pool_value(xp: Any, x: Any, *, grid: Grid, margins_count: bool, divisor: int | None) -> Any:
    total: Any = None
    for place, part in enumerate(_parts(xp, batch_last(xp, x), grid, 0.0)):
        if place > 1 and xp is fast_numpy:
            total += part
        else:
            total = part if total is None else total + part
    return batch_first(xp, total * _shares(xp, x, grid, margins_count, divisor))


def _avg_pool_transpose(xp: Any, g: Any, grid: Grid, margins_count: bool, divisor: int | None) -> Any:
    g = batch_last(xp, g) * _shares(xp, g, grid, margins_count, divisor)
    if has_views(xp):
        wide, sides = grid.widened()
        g = at_all_places(xp, with_zeros(xp, g, sides), grid)
        g = xp.broadcast_to(g, (g.shape[0], *grid.kernel, *wide.count, g.shape[-1]))
        return batch_first(xp, overlap_add.on(xp, g, grid=wide))
    return batch_first(xp, added_up(xp, (g for _ in range(math.prod(grid.kernel))), grid))


_avg_pool = linear(
    "avg_pool", _avg_pool_value, _avg_pool_transpose,
    native=FEWEST_ELEMENTS, text="avg_pool($x)", latex=r"\operatorname{avg\,pool}($x)", local=[("1/n", r"\frac{1}{n}")],
)  # fmt: skip


def _means(xp: Any, x: Any, matrices: list[np.ndarray]) -> Any:
    """Along each spatial axis, the product with its matrix."""
    for axis, matrix in enumerate(matrices, start=2):
        plain = xp is fast_numpy or xp is tensor_namespace
        matrix = xp.astype(matrix if plain else xp.asarray(matrix), x.dtype)
        x = xp.moveaxis(xp.matmul(xp.moveaxis(x, axis, -1), matrix.mT), -1, axis)
    return x


def _bins(n: int, size: int) -> np.ndarray:
    """A matrix (size, n) that takes means over bins from ⌊i·n/size⌋ to ⌈(i + 1)·n/size⌉."""
    i, j = np.arange(size)[:, None], np.arange(n)[None, :]
    first, last = i * n // size, -(-(i + 1) * n // size)
    return ((j >= first) & (j < last)) / (last - first)


_adaptive_avg_pool = linear(
    "adaptive_avg_pool",
    lambda xp, x, *, size: _means(xp, x, [_bins(n, m) for n, m in zip(x.shape[2:], size, strict=True)]),
    lambda xp, g, x_shape, size: _means(xp, g, [_bins(n, m).T for n, m in zip(x_shape[2:], size, strict=True)]),
    text="adaptive_avg_pool($x)", latex=r"\operatorname{avg\,pool}($x)", local=[("1/n", r"\frac{1}{n}")],
)  # fmt: skip

# Public functions ---------------------------------------------------------------------------------------------------


def max_pool1d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    """The largest element of each window along one axis: `max_pool2d` with one spatial axis in place of two."""
    return _pooled_by_max("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    """The largest element of each window, channel by channel. The gradient goes to the first of equal winners.

    Args:
        input: shape (batch, channels, height, width), or (channels, height, width).
        kernel_size: of a window; one number for all axes, or one for each, here and below.
        stride: from one window to the next; None for `kernel_size`.
        padding: how far windows may reach beyond the input, at most half of their size; nothing out there wins.
        dilation: from one element of a window to the next.
        ceil_mode: whether what a last window that is cut off has is pooled too, rather than left out.

    Raises:
        TypeError: the input is not of floating point numbers.
        ValueError: the input has another number of axes, or is smaller than a window.
    """
    return _pooled_by_max("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode)


def avg_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """The mean of each window along one axis: `avg_pool2d` with one spatial axis in place of two."""
    return _pooled_by_mean("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The mean of each window, channel by channel.

    Args:
        input: shape (batch, channels, height, width), or (channels, height, width).
        kernel_size: of a window; one number for all axes, or one for each, here and below.
        stride: from one window to the next; None for `kernel_size`.
        padding: zeros added on both sides, at most half of a window.
        ceil_mode: whether what a last window that is cut off has is pooled too, rather than left out.
        count_include_pad: whether the zeros count as elements.
        divisor_override: divides the sum in place of the number of elements.

    Raises:
        TypeError: the input is not of floating point numbers.
        ValueError: the input has another number of axes, or is smaller than a window.
    """
    return _pooled_by_mean(
        "avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def adaptive_avg_pool1d(input: Any, output_size: Any) -> Any:
    """`adaptive_avg_pool2d` with one spatial axis in place of two."""
    return _pooled_to_size("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input: Any, output_size: Any) -> Any:
    """Means over as many bins as the output is to have elements, whatever the input's size.

    Args:
        input: shape (batch, channels, height, width), or (channels, height, width).
        output_size: height and width; one number for both; None in a place keeps the input's.

    Raises:
        TypeError: the input is not of floating point numbers.
        ValueError: the input has another number of axes, or is empty.
    """
    return _pooled_to_size("adaptive_avg_pool2d", 2, input, output_size)


def _pooled_by_max(
    name: str, ndim: int, x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> Any:
    x, batched = _operand(name, ndim, x)
    y = _max_pool(x, grid=_pool_grid(name, x, ndim, kernel, stride, padding, dilation, ceil_mode))
    return y if batched else reshape(y, tuple(y.shape[1:]))


def _pooled_by_mean(
    name: str,
    ndim: int,
    x: Any,
    kernel: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    margins_count: bool,
    divisor: int | None,
) -> Any:
    if divisor == 0:
        raise ValueError(f"{name}: divisor_override must not be zero")
    x, batched = _operand(name, ndim, x)
    grid = _pool_grid(name, x, ndim, kernel, stride, padding, 1, ceil_mode)
    y = _avg_pool(x, grid=grid, margins_count=bool(margins_count), divisor=divisor)
    return y if batched else reshape(y, tuple(y.shape[1:]))


def _pooled_to_size(name: str, ndim: int, x: Any, output_size: Any) -> Any:
    x, batched = _operand(name, ndim, x)
    length = tuple(x.shape[2:])
    wanted = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * ndim
    if len(wanted) != ndim or 0 in length:
        raise ValueError(f"{name}: cannot pool an input of size {length} to the size {output_size}")
    size = per_axis(
        f"{name}: output_size", tuple(n if m is None else m for n, m in zip(length, wanted, strict=True)), ndim, 1
    )
    if all(n % m == 0 for n, m in zip(length, size, strict=True)):
        kernel = tuple(n // m for n, m in zip(length, size, strict=True))
        grid = Grid(length, kernel, kernel, (1,) * ndim, (0,) * ndim, size)
        y = _avg_pool(x, grid=grid, margins_count=True, divisor=None)
    else:
        y = _adaptive_avg_pool(x, size=size)
    return y if batched else reshape(y, tuple(y.shape[1:]))


def _operand(name: str, ndim: int, x: Any) -> tuple[Any, bool]:
    """The input with a batch axis, and whether it came with one."""
    x = as_operand(name, x)
    if len(x.shape) not in (ndim + 1, ndim + 2):
        spatial = "length" if ndim == 1 else "height, width"
        raise ValueError(
            f"{name}: needs an input of shape (batch, channels, {spatial}), or one without the batch, got "
            f"{tuple(x.shape)}"
        )
    if "float" not in str(x.dtype):
        raise TypeError(f"{name}: needs floating point numbers, got {x.dtype}")
    batched = len(x.shape) == ndim + 2
    return x if batched else reshape(x, (1, *x.shape)), batched


def _pool_grid(
    name: str, x: Any, ndim: int, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> Grid:
    kernel = per_axis(f"{name}: kernel_size", kernel, ndim, 1)
    stride = kernel if stride is None else per_axis(f"{name}: stride", stride, ndim, 1)
    before = per_axis(f"{name}: padding", padding, ndim, 0)
    dilation = per_axis(f"{name}: dilation", dilation, ndim, 1)
    span, length = extent(kernel, dilation), tuple(x.shape[2:])
    if any(2 * b > s for b, s in zip(before, span, strict=True)):
        raise ValueError(f"{name}: padding must be at most half of the window, got {before} for windows of {span}")
    count = []
    for n, s, step, b in zip(length, span, stride, before, strict=True):
        room = n + 2 * b - s
        windows = (room + (step - 1 if ceil_mode else 0)) // step + 1
        if ceil_mode and (windows - 1) * step >= n + b:  # it would begin beyond the input
            windows -= 1
        count.append(windows)
    if any(n < 1 for n in count) or 0 in length:
        raise ValueError(
            f"{name}: the window is larger than the padded input: it spans {span} (kernel_size {kernel}, dilation "
            f"{dilation}), the input has size {length} and padding {before}"
        )
    return Grid(length, kernel, stride, dilation, before, tuple(count))


__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "max_pool1d",
    "max_pool2d",
]
