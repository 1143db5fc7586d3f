"""Convolutional layers, and their transposes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.nn import functional as F
from chainrule.nn import init
from chainrule.nn.module import Module
from chainrule.nn.parameter import Parameter
from chainrule.nn.sizes import as_size, matching
from chainrule.ops.joining import pad
from chainrule.ops.windows import per_axis

#: What `chainrule.ops.joining.pad` calls the ways to pad that PyTorch has besides zeros.
_PAD_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class _Convolutional(Module):
    """What all four layers share: geometry, parameters and their first values."""

    _ndim: int
    bias: Parameter | None

    def _set_up(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
        groups: int, bias: bool, padding_mode: str, dtype: Any, transposed: bool,
    ) -> None:  # fmt: skip
        name = type(self).__name__
        self.in_channels = as_size(f"{name}: in_channels", in_channels)
        self.out_channels = as_size(f"{name}: out_channels", out_channels)
        self.kernel_size = per_axis(f"{name}: kernel_size", kernel_size, self._ndim, 1)
        self.stride = per_axis(f"{name}: stride", stride, self._ndim, 1)
        self.padding = padding if isinstance(padding, str) else per_axis(f"{name}: padding", padding, self._ndim, 0)
        self.dilation = per_axis(f"{name}: dilation", dilation, self._ndim, 1)
        self.groups = as_size(f"{name}: groups", groups)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"{name}: groups must divide in_channels and out_channels, {in_channels} and {out_channels}; "
                f"got {groups}"
            )
        known = ("zeros",) if transposed else ("zeros", *_PAD_MODES)
        if padding_mode not in known:
            raise ValueError(f"{name}: padding_mode must be one of {', '.join(known)}, got {padding_mode!r}")
        if isinstance(padding, str) and (transposed or padding not in ("same", "valid") or padding_mode != "zeros"):
            allowed = "" if transposed else ", or 'same' or 'valid' with padding_mode 'zeros'"
            raise ValueError(f"{name}: padding must be a number or one for each axis{allowed}; got {padding!r}")
        if padding == "same" and any(s != 1 for s in self.stride):
            raise ValueError(f"{name}: padding='same' is for stride 1 only, got stride={stride}")
        self.padding_mode = padding_mode
        first, second = self.out_channels, self.in_channels // self.groups
        if transposed:
            first, second = self.in_channels, self.out_channels // self.groups
        self.weight = Parameter(np.empty((first, second, *self.kernel_size), dtype))
        self.bias = Parameter(np.empty(self.out_channels, dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters afresh."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        none = {"padding": 0, "output_padding": 0, "dilation": 1}
        for name, usual in none.items():
            value = getattr(self, name, (usual,) * self._ndim)
            if value != (usual,) * self._ndim:
                parts.append(f"{name}={value!r}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode!r}")
        return ", ".join(parts)


class _Conv(_Convolutional):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        dtype: Any = np.float32,
    ) -> None:
        self._set_up(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, dtype,
            transposed=False,
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        x = matching(type(self).__name__, x, self.weight)
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            sides = [(0, 0)] * (len(x.shape) - self._ndim) + [(n, n) for n in padding]
            x, padding = pad(x, sides, mode=_PAD_MODES[self.padding_mode]), 0
        convolve = F.conv1d if self._ndim == 1 else F.conv2d
        return convolve(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv1d(_Conv):
    """`Conv2d` with one spatial axis in place of two: inputs of shape (batch, in_channels, length)."""

    _ndim = 1


class Conv2d(_Conv):
    """Every kernel times every window of the input, summed, plus b: see `functional.conv2d`.

    Weights and bias are drawn evenly from ±1/√(in_channels/groups · elements of a kernel), as in PyTorch.

    Args:
        in_channels: length of axis 1 of the input, shape (batch, in_channels, height, width).
        out_channels: number of kernels.
        kernel_size: height and width of a kernel; one number for both, here and below.
        stride: from one window to the next.
        padding: added on both sides; "valid" for none; "same" for as much as keeps the size.
        dilation: from one element of a window to the next.
        groups: channels are split into so many groups that know nothing of each other.
        bias: whether there is a b.
        padding_mode: what is added: "zeros", or the input's own elements by "reflect", "replicate" or "circular".
        dtype: of the parameters, and so of the inputs; float32 by default.

    Attributes:
        weight: shape (out_channels, in_channels/groups, *kernel_size).
        bias: shape (out_channels,), or None.

    Raises:
        ValueError: a size is less than 1, or the groups do not divide; when called, if the input does not fit or the
            kernel is larger than the padded input.
        TypeError: when called, if the input is of another dtype.
    """

    _ndim = 2


class _ConvTranspose(_Convolutional):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        *,
        dtype: Any = np.float32,
    ) -> None:
        name = f"{type(self).__name__}: output_padding"
        self.output_padding = per_axis(name, output_padding, self._ndim, 0)
        self._set_up(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, dtype,
            transposed=True,
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        x = matching(type(self).__name__, x, self.weight)
        transpose = F.conv_transpose1d if self._ndim == 1 else F.conv_transpose2d
        return transpose(
            x, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )


class ConvTranspose1d(_ConvTranspose):
    """`ConvTranspose2d` with one spatial axis in place of two: inputs of shape (batch, in_channels, length)."""

    _ndim = 1


class ConvTranspose2d(_ConvTranspose):
    """Kernels scaled by the input, overlaps added, plus b: see `functional.conv_transpose2d`.

    Args:
        in_channels: length of axis 1 of the input, shape (batch, in_channels, height, width).
        out_channels: length of axis 1 of the output.
        kernel_size, stride, padding, dilation, groups: those of the convolution this is the transpose of.
        output_padding: how much longer the output is, where several lengths would be convolved to the input's.
        bias: whether there is a b.
        padding_mode: "zeros", the only one.
        dtype: of the parameters, and so of the inputs; float32 by default.

    Attributes:
        weight: shape (in_channels, out_channels/groups, *kernel_size).
        bias: shape (out_channels,), or None.

    Raises:
        ValueError: a size is less than 1, or the groups do not divide; when called, if the input does not fit.
        TypeError: when called, if the input is of another dtype.
    """

    _ndim = 2
