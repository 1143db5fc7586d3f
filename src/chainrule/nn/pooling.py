"""Pooling layers."""

from __future__ import annotations

from typing import Any

from chainrule.nn import functional as F
from chainrule.nn.module import Module


class MaxPool2d(Module):
    """The largest element of each window, channel by channel: see `functional.max_pool2d`.

    Args:
        kernel_size: height and width of a window; one number for both, here and below.
        stride: from one window to the next; None for `kernel_size`.
        padding: how far windows may reach beyond the input, at most half of their size.
        dilation: from one element of a window to the next.
        ceil_mode: whether what a last window that is cut off has is pooled too.

    Raises:
        ValueError: when called, if the input does not fit or is smaller than a window.
    """

    _pool = staticmethod(F.max_pool2d)

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode

    def forward(self, x: Any) -> Any:
        return self._pool(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(MaxPool2d):
    """`MaxPool2d` with one spatial axis in place of two."""

    _pool = staticmethod(F.max_pool1d)


class AvgPool1d(Module):
    """`AvgPool2d` with one spatial axis in place of two."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, x: Any) -> Any:
        return F.avg_pool1d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(AvgPool1d):
    """The mean of each window, channel by channel: see `functional.avg_pool2d`.

    Args:
        kernel_size: height and width of a window; one number for both, here and below.
        stride: from one window to the next; None for `kernel_size`.
        padding: zeros added on both sides, at most half of a window.
        ceil_mode: whether what a last window that is cut off has is pooled too.
        count_include_pad: whether the zeros count as elements.
        divisor_override: divides the sum in place of the number of elements.

    Raises:
        ValueError: when called, if the input does not fit or is smaller than a window.
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)
        self.divisor_override = divisor_override

    def forward(self, x: Any) -> Any:
        return F.avg_pool2d(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )


class AdaptiveAvgPool2d(Module):
    """Means over as many bins as the output is to have elements, whatever the input's size.

    Args:
        output_size: height and width; one number for both; None in a place keeps the input's.

    Raises:
        ValueError: when called, if the input does not fit.
    """

    _pool = staticmethod(F.adaptive_avg_pool2d)

    def __init__(self, output_size: Any) -> None:
        self.output_size = output_size

    def forward(self, x: Any) -> Any:
        return self._pool(x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(AdaptiveAvgPool2d):
    """`AdaptiveAvgPool2d` with one spatial axis in place of two."""

    _pool = staticmethod(F.adaptive_avg_pool1d)
