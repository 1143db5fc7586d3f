"""Losses as functions, with PyTorch's names and argument order. `losses` has them as modules.

Every loss takes `reduction`: "mean" (the default), "sum", or "none" for one value per element or row. Predictions
and targets must have the same shape: a column against a row would broadcast to a matrix, and train towards nonsense.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.core.namespace import namespace_of
from chainrule.core.primitive import as_operand
from chainrule.core.state import tracer
from chainrule.core.tensor import _raw
from chainrule.ops import network, reductions
from chainrule.ops.elementwise import absolute, clip, log, log1p, minimum, square, where
from chainrule.ops.indexing import take_along_axis
from chainrule.ops.layout import astype, expand_dims, moveaxis, squeeze

REDUCTIONS = ("mean", "sum", "none")


def check_reduction(name: str, reduction: str) -> None:
    """Raise a ValueError where `reduction` is not one of `REDUCTIONS`."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"{name}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")


def _reduced(name: str, losses: Any, reduction: str) -> Any:
    check_reduction(name, reduction)
    if reduction == "none":
        return losses
    return reductions.mean(losses) if reduction == "mean" else reductions.sum(losses)


def _pair(name: str, input: Any, target: Any) -> tuple[Any, Any]:
    """Predictions and targets as arrays of one shape; targets get the dtype of the predictions."""
    input, target = as_operand(name, input), as_operand(name, target)
    if tuple(input.shape) != tuple(target.shape):
        raise ValueError(
            f"{name}: the input has shape {tuple(input.shape)}, the target {tuple(target.shape)}; they must be equal. "
            "Reshape one of them, for example target.reshape(input.shape) for a column against a vector"
        )
    return input, _in_dtype_of(input, target)


def _in_dtype_of(input: Any, x: Any) -> Any:
    """`x` in the dtype of the predictions, so that integer labels or float64 weights do not promote the loss."""
    x = as_operand("loss", x)
    return astype(x, input.dtype) if x.dtype != input.dtype and _is_floating(input) else x


def _is_floating(x: Any) -> bool:
    dtype = x.dtype
    return dtype.kind == "f" if isinstance(dtype, np.dtype) else "float" in str(dtype)


# Distances --------------------------------------------------------------------------------------------------


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """(input − target)²."""
    input, target = _pair("mse_loss", input, target)
    return _reduced("mse_loss", square(input - target), reduction)


def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """|input − target|."""
    input, target = _pair("l1_loss", input, target)
    return _reduced("l1_loss", absolute(input - target), reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Any:
    """d²/2 where d = |input − target| is below `delta`, delta·(d − delta/2) beyond (Huber 1964)."""
    if delta <= 0:
        raise ValueError(f"huber_loss: delta must be positive, got {delta}")
    input, target = _pair("huber_loss", input, target)
    d = absolute(input - target)
    near = minimum(d, delta)
    return _reduced("huber_loss", near * (d - 0.5 * near), reduction)


def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Any:
    """`huber_loss` with delta = beta, divided by beta; `l1_loss` for beta = 0."""
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    if beta == 0:
        return l1_loss(input, target, reduction)
    return huber_loss(input, target, reduction, delta=beta) / beta


# Two classes ------------------------------------------------------------------------------------------------


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None
) -> Any:
    """−t·ln σ(z) − (1 − t)·ln(1 − σ(z)), without overflow.

    Args:
        input: logits z of any shape.
        target: probabilities t of the same shape.
        weight: a factor for each element's loss; broadcast.
        reduction: "mean", "sum" or "none".
        pos_weight: a factor for the first term, to make up for rare positives; broadcast.

    Raises:
        ValueError: the shapes differ.
    """
    input, target = _pair("binary_cross_entropy_with_logits", input, target)
    if pos_weight is None:
        losses = network.binary_cross_entropy_with_logits(input, target)
    else:  # −ln σ(z) = softplus(−z) and −ln(1 − σ(z)) = z + softplus(−z)
        pos_weight = _in_dtype_of(input, pos_weight)
        losses = (1 - target) * input + (1 + (pos_weight - 1) * target) * network.softplus(-input)
    if weight is not None:
        losses = losses * _in_dtype_of(input, weight)
    return _reduced("binary_cross_entropy_with_logits", losses, reduction)


#: The logarithm of a probability is taken to be no less than this, as in PyTorch.
_LEAST_LOG = -100.0


def binary_cross_entropy(input: Any, target: Any, weight: Any = None, *, reduction: str = "mean") -> Any:
    """−t·ln p − (1 − t)·ln(1 − p), each logarithm at least −100.

    Where a logarithm is cut off so is its gradient: prefer `binary_cross_entropy_with_logits`, which has no such
    end.

    Args:
        input: probabilities p of any shape.
        target: probabilities t of the same shape.
        weight: a factor for each element's loss; broadcast.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: the shapes differ, or the input is not between 0 and 1.
    """
    p, t = _pair("binary_cross_entropy", input, target)
    raw, xp = _raw(p), namespace_of(_raw(p))
    message = (
        "binary_cross_entropy: the input must be probabilities, from 0 to 1; "
        "for logits use binary_cross_entropy_with_logits"
    )
    inside = (raw >= 0) & (raw <= 1)
    if hasattr(xp, "verify"):  # looked at in every run of a compiled program
        xp.verify(inside, message)
    elif not bool(xp.all(inside, axis=None)):
        raise ValueError(message)
    log_p = where(p > 0, log(where(p > 0, p, 1.0)), _LEAST_LOG)
    log_q = where(p < 1, log1p(-where(p < 1, p, 0.0)), _LEAST_LOG)
    losses = -(t * clip(log_p, _LEAST_LOG) + (1 - t) * clip(log_q, _LEAST_LOG))
    if weight is not None:
        losses = losses * _in_dtype_of(input, weight)
    return _reduced("binary_cross_entropy", losses, reduction)


# Several classes --------------------------------------------------------------------------------------------


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """−Σ q·ln softmax(z) over classes, where q is the target's distribution: one class, or probabilities.

    Args:
        input: logits z of shape (classes,), (batch, classes) or (batch, classes, ...).
        target: class indices, integers of the input's shape without its classes; or probabilities, floats of the
            input's shape.
        weight: a factor for each class, shape (classes,). With class indices, "mean" divides by the sum of the
            factors of the targets.
        ignore_index: rows with this class index count nothing.
        reduction: "mean", "sum" or "none".
        label_smoothing: the share of q that is spread evenly over all classes, in [0, 1] (Szegedy et al. 2015,
            "Rethinking the Inception Architecture", section 7).

    Raises:
        TypeError, ValueError: shapes or dtypes do not fit, or a target is no class; the message says which.
    """
    logits, target = _classes_last(as_operand("cross_entropy", input)), as_operand("cross_entropy", target)
    check_reduction("cross_entropy", reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing must be from 0 to 1, got {label_smoothing}")
    if _is_floating(target):
        return _soft_cross_entropy(logits, _classes_last(target), weight, reduction, label_smoothing)
    if weight is None and not label_smoothing and ignore_index < 0:
        try:
            return network.cross_entropy_with_logits(logits, target, reduction)
        except ValueError:  # a row to ignore is no class: looked for only now, because mostly there is none
            if not bool((_raw(target) == ignore_index).any()):
                raise
    target = _raw(target)
    rows = _Rows("cross_entropy", logits, target, weight, ignore_index, reduction)
    log_p = network.log_softmax(logits)
    loss = rows.reduced(rows.at_target(log_p))
    if not label_smoothing:
        return loss
    spread = -reductions.sum(log_p if rows.weight is None else log_p * rows.weight, axis=-1)
    return (1 - label_smoothing) * loss + (label_smoothing / logits.shape[-1]) * rows.reduced(spread)


def nll_loss(input: Any, target: Any, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean") -> Any:
    """−input[target] for each row: `cross_entropy` where the input is log-probabilities already.

    Args:
        input: log-probabilities of shape (classes,), (batch, classes) or (batch, classes, ...).
        target, weight, ignore_index, reduction: as in `cross_entropy`, class indices only.

    Raises:
        TypeError, ValueError: shapes or dtypes do not fit, or a target is no class; the message says which.
    """
    log_p, target = _classes_last(as_operand("nll_loss", input)), _raw(as_operand("nll_loss", target))
    check_reduction("nll_loss", reduction)
    rows = _Rows("nll_loss", log_p, target, weight, ignore_index, reduction)
    return rows.reduced(rows.at_target(log_p))


class _Rows:
    """The rows of a classification loss: their classes, their weights, which are ignored, and how they add up."""

    def __init__(self, name: str, scores: Any, target: Any, weight: Any, ignore_index: int, reduction: str) -> None:
        self.reduction = reduction
        ignored = target == ignore_index
        self.ignored = ignored if tracer.get() is not None or bool(ignored.any()) else None  # a program cannot look
        self.target = target if self.ignored is None else namespace_of(target).where(self.ignored, 0, target)
        network.check_targets(name, scores, self.target)
        self.weight = None if weight is None else _raw(_in_dtype_of(scores, weight))
        if self.weight is not None and tuple(self.weight.shape) != tuple(scores.shape)[-1:]:
            raise ValueError(
                f"{name}: weight has shape {tuple(self.weight.shape)}, it needs one factor for each of the "
                f"{scores.shape[-1]} classes"
            )

    def at_target(self, log_p: Any) -> Any:
        """Minus the log-probability of each row's class, times the weight of that class."""
        losses = -squeeze(take_along_axis(log_p, expand_dims(self.target, axis=-1), axis=-1), axis=-1)
        return losses if self.weight is None else losses * self.weight[self.target]

    def reduced(self, losses: Any) -> Any:
        """The rows' losses without the ignored ones, as they are, summed, or over the sum of their weights."""
        if self.ignored is not None:
            losses = where(self.ignored, 0.0, losses)
        if self.reduction == "none":
            return losses
        total = reductions.sum(losses)
        return total if self.reduction == "sum" else total / self._sum_of_weights(total.dtype)

    def _sum_of_weights(self, dtype: Any) -> Any:
        if self.ignored is None:
            return float(math.prod(self.target.shape)) if self.weight is None else self.weight[self.target].sum()
        xp = namespace_of(self.target)
        of_rows = xp.ones(self.target.shape, dtype=dtype) if self.weight is None else self.weight[self.target]
        return xp.sum(xp.where(self.ignored, 0.0, of_rows), axis=None)


def _classes_last(x: Any) -> Any:
    """(batch, classes, ...) as (batch, ..., classes)."""
    return moveaxis(x, 1, -1) if len(x.shape) > 2 else x


def _soft_cross_entropy(logits: Any, target: Any, weight: Any, reduction: str, label_smoothing: float) -> Any:
    if tuple(target.shape) != tuple(logits.shape):
        raise ValueError(
            f"cross_entropy: targets given as probabilities must have the shape of the logits, {tuple(logits.shape)} "
            f"(classes last), got {tuple(target.shape)}; class indices must be integers"
        )
    target = _in_dtype_of(logits, target)
    if label_smoothing:
        target = (1 - label_smoothing) * target + label_smoothing / logits.shape[-1]
    if weight is not None:
        target = target * _in_dtype_of(logits, weight)
    losses = -reductions.sum(network.log_softmax(logits) * target, axis=-1)
    return _reduced("cross_entropy", losses, reduction)
