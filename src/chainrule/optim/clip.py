"""Gradient clipping, against steps that one steep batch makes too long."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import reduce
from typing import Any

import numpy as np

from chainrule.core.namespace import namespace_of
from chainrule.core.state import tracer
from chainrule.core.tensor import Tensor, _raw


def get_total_norm(tensors: Iterable[Any], norm_type: float = 2.0) -> float:
    """The norm of all elements of `tensors` taken as one vector.

    Computed without overflow or underflow: a float32 gradient of size 1e-30 or 1e30 has its true norm.

    Args:
        tensors: gradients; None counts as zero.
        norm_type: 2 for the Euclidean norm, `math.inf` for the largest |element|, or another positive number.

    Raises:
        ValueError: `norm_type` is not positive.
    """
    if not norm_type > 0:
        raise ValueError(f"get_total_norm: norm_type must be positive, got {norm_type}")
    given = [_raw(tensor) for tensor in tensors if tensor is not None]
    if tracer.get() is not None and given:
        return _norm_unread(namespace_of(*given), given, norm_type)
    with np.errstate(over="ignore", under="ignore"):
        norms = [_norm(array, norm_type) for array in given]
    if math.isinf(norm_type) or len(norms) < 2:
        return math.nan if any(map(math.isnan, norms)) else max(norms, default=0.0)
    if norm_type == 2:
        return math.hypot(*norms)
    largest = max(norms)
    if not 0 < largest < math.inf:
        return sum(norms)
    return largest * sum((norm / largest) ** norm_type for norm in norms) ** (1 / norm_type)


def _norm(x: Any, p: float) -> float:
    xp = namespace_of(x)
    if p == 2:
        total = float(xp.sum(x * x, axis=None))
        if 1e-30 < total < 1e38:
            return math.sqrt(total)
    if not math.prod(x.shape):
        return 0.0
    magnitudes = xp.abs(x)
    largest = float(xp.max(magnitudes, axis=None))
    if math.isinf(p) or not 0 < largest < math.inf:
        return largest
    return largest * float(xp.sum((magnitudes / largest) ** p, axis=None)) ** (1 / p)


def _norm_unread(xp: Any, arrays: list[Any], p: float) -> Any:
    """The same without asking for any number: a float64 array of one element."""
    wide = [xp.astype(x, xp.float64) for x in arrays]
    largest = reduce(xp.maximum, [xp.max(xp.abs(x), axis=None) for x in wide if x.size])
    if math.isinf(p):
        return largest
    scale = xp.where((largest > 0) & xp.isfinite(largest), largest, 1.0)
    powers = [(x / scale) * (x / scale) if p == 2 else xp.abs(x / scale) ** p for x in wide]
    total = sum(xp.sum(power, axis=None) for power in powers)
    return scale * (xp.sqrt(total) if p == 2 else total ** (1 / p))


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> float:
    """Scale all gradients down together where their total norm is above `max_norm`; the direction stays.

    Args:
        parameters: tensors with gradients; those without are passed over.
        max_norm: the largest norm allowed.
        norm_type: as in `get_total_norm`.
        error_if_nonfinite: raise instead of scaling by a norm that is NaN or infinite.

    Returns:
        The total norm before clipping.

    Raises:
        ValueError: `max_norm` is negative.
        RuntimeError: the norm is not finite, with `error_if_nonfinite`.

    Source: Pascanu et al. 2013, "On the difficulty of training recurrent neural networks", algorithm 1, with the
    1e-6 that PyTorch adds to the norm.
    """
    if not max_norm >= 0:
        raise ValueError(f"clip_grad_norm_: max_norm must not be negative, got {max_norm}")
    clipped = _with_gradients(parameters)
    total = get_total_norm([p.grad for p in clipped], norm_type)
    if tracer.get() is not None and clipped:
        return _clip_unread(clipped, total, max_norm, error_if_nonfinite)
    if error_if_nonfinite and not math.isfinite(total):
        raise RuntimeError(f"clip_grad_norm_: the norm of the gradients is {total}, so they cannot be scaled")
    factor = max_norm / (total + 1e-6)
    if not factor >= 1:  # NaN too
        for parameter in clipped:
            parameter._grad = Tensor(_raw(parameter._grad) * factor)
    return np.float64(total)  # a float that also has PyTorch's item()


def _clip_unread(clipped: list[Tensor], total: Any, max_norm: float, error_if_nonfinite: bool) -> Any:
    """Scale by a factor that nobody looks at: 1 where the norm is within bounds."""
    xp = namespace_of(total)
    if error_if_nonfinite:
        xp.verify(xp.isfinite(total), "clip_grad_norm_: the norm of the gradients is not finite")
    factor = max_norm / (total + 1e-6)
    factor = xp.where(factor >= 1, 1.0, factor)
    for parameter in clipped:
        grad = _raw(parameter._grad)
        parameter._grad = Tensor(grad * xp.astype(factor, grad.dtype))
    return Tensor(total)


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Cut every element of every gradient off at ±`clip_value`.

    Raises:
        ValueError: `clip_value` is negative.
    """
    if not clip_value >= 0:
        raise ValueError(f"clip_grad_value_: clip_value must not be negative, got {clip_value}")
    for parameter in _with_gradients(parameters):
        grad = _raw(parameter._grad)
        parameter._grad = Tensor(namespace_of(grad).clip(grad, -clip_value, clip_value))


def _with_gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    several: Iterable[Tensor] = [parameters] if isinstance(parameters, Tensor) else parameters
    return [parameter for parameter in several if parameter.grad is not None]
