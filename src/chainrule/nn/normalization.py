"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.core.tensor import Tensor, _raw, tensor
from chainrule.nn import functional as F
from chainrule.nn.module import Module
from chainrule.nn.parameter import Parameter
from chainrule.nn.sizes import as_size, matching


class _BatchNorm(Module):
    """What batch normalisation is for inputs of any shape (batch, num_features, ...).

    In training the statistics are the batch's own, and the running ones follow them; in evaluation the running ones
    are used. With `track_running_stats=False` there are none, and the batch's own are used always.
    """

    #: What may follow (batch, num_features) in the shape of an input.
    _further: tuple[str, ...]
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: Any = np.float32,
    ) -> None:
        self.num_features = as_size(f"{type(self).__name__}: num_features", num_features)
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.weight = Parameter(np.ones(self.num_features, dtype)) if affine else None
        self.bias = Parameter(np.zeros(self.num_features, dtype)) if affine else None
        start = {"running_mean": np.zeros(num_features, dtype), "running_var": np.ones(num_features, dtype)}
        for name, value in {**start, "num_batches_tracked": 0}.items():
            self.register_buffer(name, tensor(value) if track_running_stats else None)

    def reset_running_stats(self) -> None:
        """Forget the running statistics: mean 0 and variance 1."""
        for buffer, start in ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0)):
            if buffer is not None:
                buffer.data = np.full(buffer.shape, start)

    def forward(self, x: Any) -> Any:
        like = self.weight if self.weight is not None else self.running_mean
        x = x if like is None else matching(type(self).__name__, x, like)
        if len(x.shape) - 2 not in [further.count(",") for further in self._further]:
            shapes = " or ".join(f"(batch, {self.num_features}{further})" for further in self._further)
            raise ValueError(f"{type(self).__name__}: needs an input of shape {shapes}, got {tuple(x.shape)}")
        tracked = self.num_batches_tracked if self.training else None
        seen = 1 if tracked is None else _raw(tracked) + 1
        y = F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=self.training or self.running_mean is None,
            momentum=1 / seen if self.momentum is None else self.momentum,
            eps=self.eps,
        )
        if tracked is not None:
            tracked.data = seen
        return y

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Each feature shifted and scaled to mean 0 and variance 1 over the batch, then by `weight` and `bias`.

    In training the statistics are the batch's own, and the running ones follow them; in evaluation the running ones
    are used. With `track_running_stats=False` there are none, and the batch's own are used always.

    Args:
        num_features: length of axis 1 of the input, shape (batch, num_features) or (batch, num_features, length).
        eps: added to the variance.
        momentum: how far the running statistics move towards the batch's; None for the plain average of all batches.
        affine: whether there are `weight` (ones at first) and `bias` (zeros at first).
        track_running_stats: whether to keep running statistics.
        dtype: of parameters and statistics.

    Attributes:
        weight, bias: shape (num_features,), or None.
        running_mean, running_var: shape (num_features,); the variance is the unbiased one.
        num_batches_tracked: how many batches the running statistics have seen.

    Raises:
        ValueError: when called, if the input does not fit or has one value per feature only while training.
        TypeError: when called, if the input is of another dtype.
    """

    _further = ("", ", length")


class BatchNorm2d(_BatchNorm):
    """Each channel of images shifted and scaled to mean 0 and variance 1 over the batch: see `BatchNorm1d`.

    Args:
        num_features: length of axis 1 of the input, shape (batch, num_features, height, width).
        eps, momentum, affine, track_running_stats, dtype: as in `BatchNorm1d`, and so its attributes.

    Raises:
        ValueError: when called, if the input does not fit or has one value per feature only while training.
        TypeError: when called, if the input is of another dtype.
    """

    _further = (", height, width",)


class LayerNorm(Module):
    """The last axes of each sample shifted and scaled to mean 0 and variance 1, then by `weight` and `bias`.

    Args:
        normalized_shape: lengths of the axes to normalise over; an integer for the last axis alone.
        eps: added to the variance.
        elementwise_affine: whether there is a `weight` (ones at first).
        bias: whether, with `elementwise_affine`, there is a `bias` (zeros at first).
        dtype: of the parameters.

    Attributes:
        weight, bias: shape `normalized_shape`, or None.

    Raises:
        ValueError: when called, if the input does not end in `normalized_shape`.
        TypeError: when called, if the input is of another dtype.
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: Any = np.float32,
    ) -> None:
        lengths = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
        self.normalized_shape = tuple(as_size("LayerNorm: a length", length) for length in lengths)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight = Parameter(np.ones(self.normalized_shape, dtype)) if elementwise_affine else None
        self.bias = Parameter(np.zeros(self.normalized_shape, dtype)) if elementwise_affine and bias else None

    def forward(self, x: Any) -> Any:
        x = matching("LayerNorm", x, self.weight) if self.weight is not None else x
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """Groups of channels of each sample shifted and scaled to mean 0 and variance 1, then by `weight` and `bias`.

    Args:
        num_groups: into how many groups the channels are split.
        num_channels: length of axis 1 of the input, shape (batch, num_channels, ...).
        eps: added to the variance.
        affine: whether there are `weight` (ones at first) and `bias` (zeros at first).
        dtype: of the parameters.

    Attributes:
        weight, bias: shape (num_channels,), or None.

    Raises:
        ValueError: the groups do not divide the channels; when called, if the input does not fit.
        TypeError: when called, if the input is of another dtype.
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, *, dtype: Any = np.float32
    ) -> None:
        self.num_groups = as_size("GroupNorm: num_groups", num_groups)
        self.num_channels = as_size("GroupNorm: num_channels", num_channels)
        if self.num_channels % self.num_groups:
            raise ValueError(f"GroupNorm: {num_channels} channels do not divide into {num_groups} groups")
        self.eps = eps
        self.affine = affine
        self.weight = Parameter(np.ones(self.num_channels, dtype)) if affine else None
        self.bias = Parameter(np.zeros(self.num_channels, dtype)) if affine else None

    def forward(self, x: Any) -> Any:
        x = matching("GroupNorm", x, self.weight) if self.weight is not None else x
        if len(x.shape) < 2 or x.shape[1] != self.num_channels:
            raise ValueError(
                f"GroupNorm: needs an input of shape (batch, {self.num_channels}, ...), got {tuple(x.shape)}"
            )
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class RMSNorm(Module):
    """The last axes of each sample scaled to a mean square of 1, then by `weight`.

    Args:
        normalized_shape: lengths of the axes to normalise over; an integer for the last axis alone.
        eps: added to the mean square; None for the spacing of the dtype's numbers at 1.
        elementwise_affine: whether there is a `weight` (ones at first).
        dtype: of the parameter.

    Attributes:
        weight: shape `normalized_shape`, or None.

    Raises:
        ValueError: when called, if the input does not end in `normalized_shape`.
        TypeError: when called, if the input is of another dtype.
    """

    weight: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        dtype: Any = np.float32,
    ) -> None:
        lengths = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
        self.normalized_shape = tuple(as_size("RMSNorm: a length", length) for length in lengths)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight = Parameter(np.ones(self.normalized_shape, dtype)) if elementwise_affine else None

    def forward(self, x: Any) -> Any:
        x = matching("RMSNorm", x, self.weight) if self.weight is not None else x
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
