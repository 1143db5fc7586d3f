"""How well a network does on what it is shown: loss and accuracy, or loss, RMSE and R²; or the loss on a text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.core.state import no_grad
from chainrule.data import Standardizer
from chainrule.nn import functional as F
from chainrule.nn.module import Module

ROWS_AT_ONCE = 512
"""Rows that go through the network together, so that memory does not grow with the table."""


def outputs_of(model: Module, inputs: NDArray[Any]) -> NDArray[Any]:
    """What the network, in evaluation mode, gives for `inputs` (rows, features): shape (rows, outputs)."""
    with evaluating(model):
        starts = range(0, len(inputs), ROWS_AT_ONCE)
        return np.concatenate([np.asarray(model(inputs[start : start + ROWS_AT_ONCE])) for start in starts])


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Inside, the network is in evaluation mode and nothing is recorded."""
    was_training = model.training
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        model.train(was_training)


def measure(
    model: Module,
    loss: Callable[[Any, Any], Any],
    inputs: NDArray[Any],
    targets: NDArray[Any],
    target_scale: Standardizer | None,
) -> dict[str, float]:
    """The quality of a network on the given rows.

    Args:
        model: the network.
        loss: of outputs and targets, averaged over rows.
        inputs: shape (rows, features).
        targets: class indices of shape (rows,), or standardised numbers of shape (rows, outputs).
        target_scale: how the numbers were standardised; None for classes.

    Returns:
        "loss"; and "accuracy", a share of the rows, or for regression "rmse", in the target's units, and "r2",
        the share of the variance that is explained (both over all columns together, R² averaged over them).
    """
    outputs = outputs_of(model, inputs)
    with no_grad():
        measures = {"loss": float(loss(outputs, targets).item())}
    if target_scale is None:
        return measures | {"accuracy": float(np.mean(outputs.argmax(axis=1) == targets))}
    errors = (outputs - targets).astype(np.float64)
    rmse = float(np.sqrt(np.mean((errors * target_scale.std) ** 2)))
    spread = np.mean((targets - targets.mean(axis=0, dtype=np.float64)) ** 2, axis=0)
    unexplained = np.mean(errors**2, axis=0) / np.where(spread == 0, 1, spread)
    return measures | {"rmse": rmse, "r2": float(np.mean(np.where(spread == 0, np.nan, 1 - unexplained)))}


def measure_text(model: Any, text: NDArray[Any]) -> float:
    """The mean cross-entropy of a text's characters, in nats, each given some of those before it.

    Args:
        model: a network that has `scored`, as `networks.RecurrentNetwork`.
        text: numbers of characters, shape (characters,), at least 2.
    """
    total, count = 0.0, 0
    with evaluating(model):
        for scores, targets in model.scored(text):
            summed = F.cross_entropy(scores.reshape(-1, scores.shape[-1]), targets.reshape(-1), reduction="sum")
            total, count = total + float(summed.item()), count + targets.size
    return total / count
