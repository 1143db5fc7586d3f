"""Networks as functions: PyTorch's `torch.nn.functional` names and argument order over `chainrule.ops`.

Nothing here has a derivative rule of its own; losses are in `loss_functions` and given here too. Arguments that
PyTorch has only for changing values in place or for compatibility with its past are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.core.namespace import namespace_of
from chainrule.core.primitive import as_operand
from chainrule.core.tensor import Tensor, _raw
from chainrule.nn.loss_functions import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)
from chainrule.nn.random import generator
from chainrule.nn.sizes import as_probability
from chainrule.ops import network
from chainrule.ops.elementwise import maximum, sqrt, tanh
from chainrule.ops.linalg import vector_norm
from chainrule.ops.network import elu, gelu, leaky_relu, relu, sigmoid, silu, softplus
from chainrule.ops.products import linear_map as linear

# Softmax ----------------------------------------------------------------------------------------------------


def softmax(input: Any, dim: int) -> Any:
    """exp(x)/Σexp(x) along axis `dim`. Which axis must be said; PyTorch's guess is deprecated."""
    return network.softmax(input, axis=dim)


def log_softmax(input: Any, dim: int) -> Any:
    """The logarithm of softmax along axis `dim`, without overflow."""
    return network.log_softmax(input, axis=dim)


# Normalisation ----------------------------------------------------------------------------------------------


def batch_norm(
    input: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Each channel shifted and scaled to mean 0 and variance 1, then by `weight` and `bias`.

    Args:
        input: shape (batch, channels, ...).
        running_mean, running_var: tensors of shape (channels,). While training they are moved towards the batch's
            statistics; otherwise they take their place. Both may be None while training.
        weight, bias: shape (channels,), or None for 1 and 0.
        training: normalise by the statistics of this batch.
        momentum: how far the running statistics move: running + momentum·(batch − running).
        eps: added to the variance.

    Raises:
        ValueError: the input does not fit, or has one value per channel only while training.

    Source: Ioffe and Szegedy 2015, "Batch Normalization", algorithm 1. The running variance is the unbiased one, as
    in PyTorch.
    """
    x = as_operand("batch_norm", input)
    shape = tuple(x.shape)
    if len(shape) < 2:
        raise ValueError(f"batch_norm: needs an input of shape (batch, channels, ...), got {shape}")
    _check_channels(shape, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm: outside training it needs running_mean and running_var")
        scale = 1 / sqrt(running_var + eps) if weight is None else weight / sqrt(running_var + eps)
        shift = -running_mean * scale if bias is None else bias - running_mean * scale
        if len(shape) > 2:
            along_channels = (-1, *(1,) * (len(shape) - 2))
            scale, shift = scale.reshape(along_channels), shift.reshape(along_channels)
        return x * scale + shift
    n = int(np.prod(shape)) // max(shape[1], 1)
    if n <= 1:
        raise ValueError(
            f"batch_norm: in training every channel needs more than one value, got shape {shape}: use a larger batch, "
            "or model.eval()"
        )
    weight, bias = _or_constant(weight, 1, shape[1:2], x), _or_constant(bias, 0, shape[1:2], x)
    y, mean, var = network.batch_norm(x, weight, bias, eps=eps)
    if running_mean is not None:
        _move(running_mean, mean, momentum, 1)
    if running_var is not None:
        _move(running_var, var, momentum, n / (n - 1))
    return y


def _check_channels(shape: tuple[int, ...], **parameters: Any) -> None:
    for name, parameter in parameters.items():
        if parameter is not None and tuple(parameter.shape) != shape[1:2]:
            raise ValueError(
                f"batch_norm: an input of shape {shape} has {shape[1]} channels (axis 1), but {name} has shape "
                f"{tuple(parameter.shape)}"
            )


def _or_constant(parameter: Any, value: float, shape: Sequence[int], x: Any) -> Any:
    """`parameter`, or an array of `value`s for None."""
    if parameter is not None:
        return parameter
    return namespace_of(_raw(x)).full(tuple(shape), value, dtype=x.dtype)


def _move(running: Tensor, batch: Tensor, momentum: float, correction: float) -> None:
    if not isinstance(running, Tensor):
        raise TypeError(f"batch_norm: running statistics must be tensors to be updated, got {type(running).__name__}")
    old = _raw(running)
    running._value = (1 - momentum) * old + (momentum * correction) * _raw(batch)


def layer_norm(
    input: Any, normalized_shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """The last axes, of lengths `normalized_shape`, shifted and scaled to mean 0 and variance 1.

    Args:
        input: shape (..., *normalized_shape).
        normalized_shape: lengths of the axes to normalise over.
        weight, bias: of that shape, or None for 1 and 0.
        eps: added to the variance.

    Raises:
        ValueError: the input does not end in `normalized_shape`.

    Source: Ba et al. 2016, "Layer Normalization", equation 4.
    """
    x = as_operand("layer_norm", input)
    wanted = tuple(normalized_shape)
    if not wanted or tuple(x.shape)[-len(wanted) :] != wanted:
        raise ValueError(f"layer_norm: an input of shape {tuple(x.shape)} does not end in the shape {wanted}")
    for name, parameter in (("weight", weight), ("bias", bias)):
        if parameter is not None and tuple(parameter.shape) != wanted:
            raise ValueError(f"layer_norm: {name} has shape {tuple(parameter.shape)}, it must be {wanted}")
    return network.layer_norm(x, _or_constant(weight, 1, wanted, x), _or_constant(bias, 0, wanted, x), eps=eps)


def normalize(input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Any:
    """x/max(‖x‖ₚ, eps) along axis `dim`."""
    return input / maximum(vector_norm(input, axis=dim, keepdims=True, ord=p), eps)


# Dropout ----------------------------------------------------------------------------------------------------


def dropout(input: Any, p: float = 0.5, training: bool = True) -> Any:
    """While training, each element set to 0 with probability `p` and the others scaled by 1/(1 − p).

    The mask comes from the generator of `nn.random`: the same seed gives the same result.

    Raises:
        ValueError: `p` is not a probability.

    Source: Srivastava et al. 2014, "Dropout".
    """
    p = as_probability("dropout: p", p)
    if not training or p == 0:
        return input
    x = as_operand("dropout", input)
    mask = generator().random(tuple(x.shape), dtype=np.float32) >= p
    return network.dropout_step(x, mask, scale=1 / (1 - p) if p < 1 else 0.0)


__all__ = [
    "linear",
    "relu",
    "leaky_relu",
    "elu",
    "gelu",
    "silu",
    "softplus",
    "sigmoid",
    "tanh",
    "softmax",
    "log_softmax",
    "batch_norm",
    "layer_norm",
    "normalize",
    "dropout",
    "cross_entropy",
    "nll_loss",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
]
