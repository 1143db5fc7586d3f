"""Convolution, and its transpose: matrix products over gathered windows.

With the windows of the input as the columns of a matrix X and the kernels as the rows of W, convolution is y = W·X,
and what backpropagation needs is dW = δ·Xᵀ and dX = Wᵀ·δ added up where windows overlap. X is gathered anew for dW:
keeping it would cost as many times the input's memory as a window has elements.
"""

from __future__ import annotations

import math
from typing import Any

from chainrule.core.namespace import fast_numpy
from chainrule.core.native import FEWEST_ELEMENTS
from chainrule.core.primitive import Primitive, as_operand, composed, linear
from chainrule.ops.layout import reshape
from chainrule.ops.windows import (
    Grid,
    batch_first,
    batch_last,
    extent,
    has_views,
    overlap_add,
    per_axis,
    windows,
    with_zeros,
)

# In this section x is the side that windows are taken of and g the side with one column per window: input and
# output of a convolution, output and input of a transposed one.


def _columns(xp: Any, x: Any, grid: Grid, groups: int) -> Any:
    """The windows of x as columns, a matrix for each group: (groups, channels/groups · elements, windows · batch)."""
    rows = x.shape[1] * math.prod(grid.kernel) // groups
    gathered = windows.on(xp, batch_last(xp, x), grid=grid)
    return xp.reshape(gathered, (groups, rows, math.prod(grid.count) * x.shape[0]))


def _as_columns(xp: Any, g: Any, groups: int) -> Any:
    """g as columns, a matrix for each group: (groups, channels/groups, windows · batch)."""
    batch, channels, *count = g.shape
    return xp.reshape(batch_last(xp, g), (groups, channels // groups, math.prod(count) * batch))


def _kernels(xp: Any, weight: Any, groups: int) -> Any:
    """The kernels as rows, a matrix for each group."""
    return xp.reshape(weight, (groups, weight.shape[0] // groups, math.prod(weight.shape[1:])))


def _gather(xp: Any, x: Any, weight: Any, grid: Grid, groups: int) -> Any:
    """From x to g: every kernel times every window."""
    product = xp.matmul(_kernels(xp, weight, groups), _columns(xp, x, grid, groups))
    return batch_first(xp, xp.reshape(product, (weight.shape[0], *grid.count, x.shape[0])))


def _scatter(xp: Any, g: Any, weight: Any, grid: Grid, groups: int) -> Any:
    """From g to x, the transpose of `_gather`: kernels, each times an element of g, added where they overlap."""
    if has_views(xp):
        if set(grid.stride) == {1}:
            return _gather(xp, g, _mirrored(xp, weight, groups), grid.mirrored(), groups)
        g, grid = _widened(xp, g, grid)
    product = xp.matmul(_kernels(xp, weight, groups).mT, _as_columns(xp, g, groups))
    channels = groups * weight.shape[1]
    overlapping = xp.reshape(product, (channels, *grid.kernel, *grid.count, g.shape[0]))
    return batch_first(xp, overlap_add.on(xp, overlapping, grid=grid))


def _mirrored(xp: Any, weight: Any, groups: int) -> Any:
    """The kernels with which windows of g give x: from output to input channels, and back to front."""
    out, own, *kernel = weight.shape
    parts = xp.reshape(weight, (groups, out // groups, own, *kernel))
    swapped = xp.permute_dims(parts, (0, 2, 1, *range(3, len(parts.shape))))
    backwards = swapped[(..., *(slice(None, None, -1) for _ in kernel))]
    return xp.reshape(backwards, (groups * own, out // groups, *kernel))


def _widened(xp: Any, g: Any, grid: Grid) -> tuple[Any, Grid]:
    """g and its grid with windows of zeros around it: what they add is nothing, and need not be told from the rest."""
    wide, sides = grid.widened()
    return with_zeros(xp, g, [(0, 0), *sides]), wide


def _correlate(xp: Any, x: Any, g: Any, grid: Grid, groups: int) -> Any:
    """The gradient of the kernels: every channel of g times the windows of x."""
    product = xp.matmul(_columns(xp, x, grid, groups), _as_columns(xp, g, groups).mT)  # OpenBLAS likes this way round
    return xp.reshape(product.mT, (g.shape[1], x.shape[1] // groups, *grid.kernel))


def _sum_per_channel(xp: Any, g: Any) -> Any:
    return xp.sum(g, axis=(0, *range(2, len(g.shape))))


def _plus_bias(xp: Any, y: Any, bias: Any) -> Any:
    bias = xp.reshape(bias, (-1, *(1,) * (len(y.shape) - 2)))
    if xp is fast_numpy and y.dtype == bias.dtype:
        y += bias
        return y
    return y + bias


def _declared(name: str, sign: str, value: Any, x_rule: Any, weight_rule: Any) -> tuple[Primitive, Primitive]:
    """The operation without and with a bias, linear in input and weight either way."""
    local = [(f"$weight {sign}ᵀ g", rf"$weight {sign}^\top \delta"), ("g · windowsᵀ", r"\delta \cdot X^\top")]
    plain = linear(
        name, lambda xp, x, weight, *, grid, groups: value(xp, x, weight, grid, groups), x_rule, weight_rule,
        joint=False, native=FEWEST_ELEMENTS, text=f"$x {sign} $weight", latex=rf"$x {sign} $weight", local=local,
    )  # fmt: skip
    biased = composed(
        name,
        lambda xp, x, weight, bias, *, grid, groups: _plus_bias(xp, value(xp, x, weight, grid, groups), bias),
        x_rule, weight_rule, _sum_per_channel,
        native=FEWEST_ELEMENTS, text=f"$x {sign} $weight + $bias", latex=rf"$x {sign} $weight + $bias",
        local=[*local, ("Σ g", r"\textstyle\sum \delta")],
    )  # fmt: skip
    return plain, biased


_convolution, _biased_convolution = _declared(
    "convolution", "∗", _gather,
    lambda xp, g, weight, grid, groups: _scatter(xp, g, weight, grid, groups),
    lambda xp, g, x, grid, groups: _correlate(xp, x, g, grid, groups),
)  # fmt: skip
_transposed, _biased_transposed = _declared(
    "transposed_convolution", "∗ᵀ", _scatter,
    lambda xp, g, weight, grid, groups: _gather(xp, g, weight, grid, groups),
    lambda xp, g, x, grid, groups: _correlate(xp, g, x, grid, groups),
)  # fmt: skip

# Public functions ---------------------------------------------------------------------------------------------------


def conv1d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Convolution along one axis: `conv2d` with one spatial axis in place of two."""
    return _convolve("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Every kernel times every window of the input, summed: what networks call a convolution (no kernel is flipped).

    Args:
        input: shape (batch, in, height, width), or (in, height, width).
        weight: shape (out, in/groups, kernel height, kernel width).
        bias: shape (out,), or None.
        stride: from one window to the next; one number, or one for each axis, here and below.
        padding: zeros added on both sides; "valid" for none; "same" for as many as keep the input's size (stride 1).
        dilation: from one element of a window to the next.
        groups: channels are split into so many groups that know nothing of each other.

    Returns:
        Shape (batch, out, ...); of length ⌊(n + 2·padding − dilation·(kernel − 1) − 1)/stride⌋ + 1 along each axis.

    Raises:
        TypeError: the dtypes differ.
        ValueError: the shapes do not fit, the kernel is larger than the padded input, or the groups do not divide.

    Source: LeCun et al. 1989, "Backpropagation Applied to Handwritten Zip Code Recognition"; Dumoulin and Visin 2016,
    "A guide to convolution arithmetic for deep learning", for sizes.
    """
    return _convolve("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """Transposed convolution along one axis: `conv_transpose2d` with one spatial axis in place of two."""
    return _transpose(
        "conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )  # fmt: skip


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """What `conv2d` with this weight does to a gradient on its way back: kernels scaled by the input, overlaps added.

    Args:
        input: shape (batch, in, height, width), or (in, height, width).
        weight: shape (in, out/groups, kernel height, kernel width): that of the convolution from out to in.
        bias: shape (out,), or None.
        stride, padding, dilation, groups: those of that convolution.
        output_padding: how much longer the output is, where several lengths would be convolved to the input's.

    Returns:
        Shape (batch, out, ...); of length (n − 1)·stride − 2·padding + dilation·(kernel − 1) + output_padding + 1.

    Raises:
        TypeError: the dtypes differ.
        ValueError: the shapes do not fit, nothing is left of the output, or the groups do not divide.

    Source: Dumoulin and Visin 2016, "A guide to convolution arithmetic for deep learning", chapter 4.
    """
    return _transpose(
        "conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )  # fmt: skip


def _convolve(
    name: str, ndim: int, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any
) -> Any:
    x, weight, bias, batched = _operands(name, ndim, x, weight, bias)
    _check_groups(name, groups, x.shape[1], weight.shape[0])
    if x.shape[1] != weight.shape[1] * groups:
        raise ValueError(
            f"{name}: an input of shape {tuple(x.shape)} has {x.shape[1]} channels (axis 1); a weight of shape "
            f"{tuple(weight.shape)} (out, in/groups, ...) with groups={groups} takes {weight.shape[1] * groups}"
        )
    _check_bias(name, bias, weight.shape[0])
    kernel, length = tuple(weight.shape[2:]), tuple(x.shape[2:])
    stride, dilation = per_axis(f"{name}: stride", stride, ndim, 1), per_axis(f"{name}: dilation", dilation, ndim, 1)
    span = extent(kernel, dilation)
    before, added = _padding(name, padding, stride, span)
    padded = tuple(n + a for n, a in zip(length, added, strict=True))
    if any(s > n for s, n in zip(span, padded, strict=True)):
        raise ValueError(
            f"{name}: the kernel is larger than the padded input: it spans {span} (kernel {kernel}, dilation "
            f"{dilation}), the input {padded} (size {length}, padding {padding}). Pad more, or shrink the kernel"
        )
    count = tuple((n - k) // s + 1 for n, k, s in zip(padded, span, stride, strict=True))
    grid = Grid(length, kernel, stride, dilation, before, count)
    return _apply((_convolution, _biased_convolution), x, weight, bias, grid, groups, batched)


def _transpose(
    name: str,
    ndim: int,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
) -> Any:
    x, weight, bias, batched = _operands(name, ndim, x, weight, bias)
    _check_groups(name, groups, x.shape[1])
    if x.shape[1] != weight.shape[0]:
        raise ValueError(
            f"{name}: an input of shape {tuple(x.shape)} has {x.shape[1]} channels (axis 1); a weight of shape "
            f"{tuple(weight.shape)} (in, out/groups, ...) takes {weight.shape[0]}"
        )
    _check_bias(name, bias, weight.shape[1] * groups)
    kernel, count = tuple(weight.shape[2:]), tuple(x.shape[2:])
    stride, dilation = per_axis(f"{name}: stride", stride, ndim, 1), per_axis(f"{name}: dilation", dilation, ndim, 1)
    before = per_axis(f"{name}: padding", padding, ndim, 0)
    longer = per_axis(f"{name}: output_padding", output_padding, ndim, 0)
    if any(extra >= max(s, d) for extra, s, d in zip(longer, stride, dilation, strict=True)):
        raise ValueError(
            f"{name}: output_padding must be less than stride or dilation, got output_padding={output_padding}, "
            f"stride={stride}, dilation={dilation}"
        )
    length = tuple(
        (n - 1) * s - 2 * b + e + extra
        for n, s, b, e, extra in zip(count, stride, before, extent(kernel, dilation), longer, strict=True)
    )
    if any(n < 1 for n in length):
        raise ValueError(
            f"{name}: nothing is left of the output: an input of size {count}, kernel {kernel} and padding {before} "
            f"would give the size {length}"
        )
    grid = Grid(length, kernel, stride, dilation, before, count)
    return _apply((_transposed, _biased_transposed), x, weight, bias, grid, groups, batched)


def _apply(
    operation: tuple[Primitive, Primitive], x: Any, weight: Any, bias: Any, grid: Grid, groups: int, batched: bool
) -> Any:
    plain, biased = operation
    params = {"grid": grid, "groups": groups}
    y = plain(x, weight, **params) if bias is None else biased(x, weight, bias, **params)
    return y if batched else reshape(y, tuple(y.shape[1:]))


def _operands(name: str, ndim: int, x: Any, weight: Any, bias: Any) -> tuple[Any, Any, Any, bool]:
    """The operands as arrays, the input with a batch axis, and whether it came with one."""
    x, weight = as_operand(name, x), as_operand(name, weight)
    bias = None if bias is None else as_operand(name, bias)
    if len(weight.shape) != ndim + 2 or 0 in weight.shape:
        raise ValueError(f"{name}: needs a weight of {ndim + 2} axes, none empty, got shape {tuple(weight.shape)}")
    if len(x.shape) not in (ndim + 1, ndim + 2):
        raise ValueError(
            f"{name}: needs an input of shape (batch, channels, {_SPATIAL[ndim]}), or one without the batch, got "
            f"{tuple(x.shape)}"
        )
    if any(operand is not None and operand.dtype != x.dtype for operand in (weight, bias)):
        raise TypeError(
            f"{name}: input, weight and bias must have one dtype; got {x.dtype}, {weight.dtype}"
            + (f", {bias.dtype}" if bias is not None else "")
        )
    batched = len(x.shape) == ndim + 2
    return x if batched else reshape(x, (1, *x.shape)), weight, bias, batched


_SPATIAL = {1: "length", 2: "height, width"}


def _check_groups(name: str, groups: Any, *channels: int) -> None:
    if groups < 1 or any(n % groups for n in channels):
        of = " of the input and the output" if len(channels) > 1 else " of the input"
        raise ValueError(
            f"{name}: groups must divide the number of channels{of}, {' and '.join(map(str, channels))}; got {groups}"
        )


def _check_bias(name: str, bias: Any, channels: int) -> None:
    if bias is not None and tuple(bias.shape) != (channels,):
        raise ValueError(f"{name}: bias has shape {tuple(bias.shape)}, it must be ({channels},)")


def _padding(
    name: str, padding: Any, stride: tuple[int, ...], span: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Zeros before each axis, and zeros added to it on both sides together."""
    if padding == "same":
        if any(s != 1 for s in stride):
            raise ValueError(f"{name}: padding='same' is for stride 1 only, got stride={stride}")
        return tuple((n - 1) // 2 for n in span), tuple(n - 1 for n in span)
    if isinstance(padding, str) and padding != "valid":
        raise ValueError(f"{name}: padding must be a number, one for each axis, 'valid' or 'same', got {padding!r}")
    before = per_axis(f"{name}: padding", 0 if padding == "valid" else padding, len(stride), 0)
    return before, tuple(2 * b for b in before)


__all__ = ["conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"]
