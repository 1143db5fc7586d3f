"""Networks as functions: PyTorch's `torch.nn.functional` names and argument order over `chainrule.ops`.

Nothing here has a derivative rule of its own; losses are in `loss_functions` and given here too. Arguments that
PyTorch has only for changing values in place or for compatibility with its past are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.core.namespace import namespace_of
from chainrule.core.primitive import as_operand
from chainrule.core.state import ask, note_assignment
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
from chainrule.ops import attention, network
from chainrule.ops.convolution import conv1d, conv2d, conv_transpose1d, conv_transpose2d
from chainrule.ops.elementwise import maximum, sqrt, tanh, where
from chainrule.ops.layout import expand_dims
from chainrule.ops.linalg import vector_norm
from chainrule.ops.network import elu, gelu, leaky_relu, relu, sigmoid, silu, softplus
from chainrule.ops.pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    avg_pool1d,
    avg_pool2d,
    max_pool1d,
    max_pool2d,
)
from chainrule.ops.products import linear_map as linear
from chainrule.ops.products import matmul

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
    _check_channels("batch_norm", shape, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
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


def _check_channels(operation: str, shape: tuple[int, ...], **parameters: Any) -> None:
    for name, parameter in parameters.items():
        if parameter is not None and tuple(parameter.shape) != shape[1:2]:
            raise ValueError(
                f"{operation}: an input of shape {shape} has {shape[1]} channels (axis 1), but {name} has shape "
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
    moved = (1 - momentum) * old + (momentum * correction) * _raw(batch)
    note_assignment(running)
    running._value = moved if moved.dtype == old.dtype else namespace_of(moved).astype(moved, old.dtype)


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
    x, wanted = _ending_in("layer_norm", input, normalized_shape, weight=weight, bias=bias)
    return network.layer_norm(x, _or_constant(weight, 1, wanted, x), _or_constant(bias, 0, wanted, x), eps=eps)


def rms_norm(input: Any, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Any:
    """The last axes, of lengths `normalized_shape`, scaled to a mean square of 1.

    Args:
        input: shape (..., *normalized_shape).
        normalized_shape: lengths of the axes to normalise over.
        weight: of that shape, or None for 1.
        eps: added to the mean square; None for the spacing of the dtype's numbers at 1.

    Raises:
        ValueError: the input does not end in `normalized_shape`.

    Source: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization", equation 4.
    """
    x, wanted = _ending_in("rms_norm", input, normalized_shape, weight=weight)
    eps = float(namespace_of(_raw(x)).finfo(x.dtype).eps) if eps is None else eps
    return network.rms_norm(x, _or_constant(weight, 1, wanted, x), eps=eps)


def _ending_in(
    name: str, input: Any, normalized_shape: Sequence[int], **parameters: Any
) -> tuple[Any, tuple[int, ...]]:
    """The input, checked to end in `normalized_shape`, and that shape, which the parameters must have too."""
    x = as_operand(name, input)
    wanted = tuple(normalized_shape)
    if not wanted or tuple(x.shape)[-len(wanted) :] != wanted:
        raise ValueError(f"{name}: an input of shape {tuple(x.shape)} does not end in the shape {wanted}")
    for which, parameter in parameters.items():
        if parameter is not None and tuple(parameter.shape) != wanted:
            raise ValueError(f"{name}: {which} has shape {tuple(parameter.shape)}, it must be {wanted}")
    return x, wanted


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Groups of channels of each sample shifted and scaled to mean 0 and variance 1, then by `weight` and `bias`.

    Args:
        input: shape (batch, channels, ...).
        num_groups: into how many groups the channels are split.
        weight, bias: shape (channels,), or None for 1 and 0.
        eps: added to the variance.

    Raises:
        ValueError: the input has no channels, or the groups do not divide them.

    Source: Wu and He 2018, "Group Normalization", equations 1, 2 and 7.
    """
    x = as_operand("group_norm", input)
    shape = tuple(x.shape)
    if len(shape) < 2 or num_groups < 1 or shape[1] % num_groups or 0 in shape[1:]:
        raise ValueError(
            f"group_norm: needs an input of shape (batch, channels, ...) whose channels divide into {num_groups} "
            f"groups, got {shape}"
        )
    _check_channels("group_norm", shape, weight=weight, bias=bias)
    weight, bias = _or_constant(weight, 1, shape[1:2], x), _or_constant(bias, 0, shape[1:2], x)
    return network.group_norm(x, weight, bias, num_groups=num_groups, eps=eps)


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
    mask = ask(lambda: generator().random(tuple(x.shape), dtype=np.float32) >= p, generator())
    return network.dropout_step(x, mask, scale=1 / (1 - p) if p < 1 else 0.0)


# Sequences --------------------------------------------------------------------------------------------------


def embedding(input: Any, weight: Any, padding_idx: int | None = None) -> Any:
    """Rows of the table `weight`, one for each index.

    Args:
        input: indices, integers of any shape.
        weight: the table, shape (rows, width).
        padding_idx: a row that gets no gradient.

    Returns:
        Shape (*input.shape, width).

    Raises:
        TypeError: the indices are not integers.
        IndexError: an index is not that of a row.
    """
    y = attention.embedding(input, weight)
    if padding_idx is None or not isinstance(y, Tensor):
        return y
    padding = as_operand("embedding", input) == padding_idx % weight.shape[0]
    return where(expand_dims(padding, -1), y.detach(), y)


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Any:
    """softmax(q·kᵀ·scale + mask)·v: for each query, a mean of the values, weighted by how well their keys fit.

    Args:
        query: shape (..., queries, width).
        key: shape (..., keys, width).
        value: shape (..., keys, width of the values).
        attn_mask: shape that broadcasts to (..., queries, keys): booleans, True where a query may attend, or numbers to
            be added to the scores. A query that may attend to nothing gets zeros.
        dropout_p: the probability with which a weight is left out.
        is_causal: query i may attend to keys 0 to i only. Not together with `attn_mask`.
        scale: 1/√width if left out.

    Raises:
        TypeError: the dtypes differ, or the mask is neither of booleans nor of floating point numbers.
        ValueError: the shapes do not fit, or there is a mask and `is_causal` too.

    Source: Vaswani et al. 2017, "Attention Is All You Need", equation 1.
    """
    name = "scaled_dot_product_attention"
    query, key, value = as_operand(name, query), as_operand(name, key), as_operand(name, value)
    shapes = [tuple(x.shape) for x in (query, key, value)]
    batch = _leading_axes(shapes)
    if batch is None or shapes[0][-1] != shapes[1][-1] or shapes[1][-2] != shapes[2][-2]:
        raise ValueError(
            f"{name}: needs queries of shape (..., queries, width), keys (..., keys, width) and values (..., keys, any "
            f"width), whose leading axes broadcast; got {shapes[0]}, {shapes[1]}, {shapes[2]}"
        )
    mask: Any = None
    bias: Any = None
    if is_causal:
        if attn_mask is not None:
            raise ValueError(f"{name}: give either attn_mask or is_causal=True, not both")
        mask = attention.causal_mask(shapes[0][-2], shapes[1][-2])
    elif attn_mask is not None:
        mask, bias = attention.split_mask(name, attn_mask, (*batch, shapes[0][-2], shapes[1][-2]), query.dtype)
    scale = 1 / math.sqrt(shapes[0][-1]) if scale is None else scale
    return matmul(dropout(attention.weights_of(query, key, scale, mask, bias), dropout_p), value)


def _leading_axes(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...] | None:
    """What the axes before the last two broadcast to; None where they do not, or where there are no last two."""
    try:
        return np.broadcast_shapes(*(shape[:-2] for shape in shapes)) if min(map(len, shapes)) >= 2 else None
    except ValueError:
        return None


__all__ = [
    "linear",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "max_pool1d",
    "max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
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
    "group_norm",
    "rms_norm",
    "normalize",
    "dropout",
    "embedding",
    "scaled_dot_product_attention",
    "cross_entropy",
    "nll_loss",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
]
