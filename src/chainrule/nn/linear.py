"""The affine layer, and the reshaping that often comes before it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.core.gated import Gated
from chainrule.nn import init
from chainrule.nn.module import Module
from chainrule.nn.parameter import Parameter
from chainrule.nn.sizes import as_size, matching
from chainrule.ops.layout import reshape
from chainrule.ops.network import relu
from chainrule.ops.products import linear_map, linear_step

_linear_relu = Gated(linear_step, relu)


class Linear(Module):
    """y = x·Wᵀ + b.

    Both are drawn evenly from ±1/√in_features, as in PyTorch; `nn.init` has other choices.

    Args:
        in_features: length of the input's last axis.
        out_features: length of the output's last axis.
        bias: whether there is a b.
        dtype: of the parameters, and so of the inputs; float32 by default.

    Attributes:
        weight: shape (out_features, in_features).
        bias: shape (out_features,), or None.

    Raises:
        ValueError: a number of features is less than 1; when called, if the input does not fit.
        TypeError: when called, if the input is of another dtype.
    """

    bias: Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, dtype: Any = np.float32) -> None:
        self.in_features = as_size("Linear: in_features", in_features)
        self.out_features = as_size("Linear: out_features", out_features)
        self.weight = Parameter(np.empty((self.out_features, self.in_features), dtype))
        self.bias = Parameter(np.empty(self.out_features, dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters afresh."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Any) -> Any:
        weight = self.weight
        if getattr(x, "dtype", None) is not weight._value.dtype:
            x = matching("Linear", x, weight)
        return linear_map(x, weight, self.bias)

    def activated(self, x: Any) -> Any:
        """relu(x·Wᵀ + b) as one call; None where `forward` and `relu` have to be called one after the other."""
        weight, bias = self.weight, self.bias
        if bias is None or getattr(x, "dtype", None) is not weight._value.dtype:
            return None
        return _linear_relu(x, weight, bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Flatten(Module):
    """Axes `start_dim` to `end_dim` made one; by default all but the first, the batch.

    Raises:
        IndexError: when called, if the input has no such axes.
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x: Any) -> Any:
        shape = tuple(x.shape)
        start, end = (dim + len(shape) if dim < 0 else dim for dim in (self.start_dim, self.end_dim))
        if not 0 <= start <= end < len(shape):
            raise IndexError(
                f"Flatten: an input of shape {shape} has no axes {self.start_dim} to {self.end_dim} to make one of"
            )
        return reshape(x, (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
