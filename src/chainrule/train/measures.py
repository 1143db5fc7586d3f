"""How well a network does on rows it is shown: loss and accuracy, or loss, RMSE and R²."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.core.state import no_grad
from chainrule.data import Standardizer
from chainrule.nn.module import Module

ROWS_AT_ONCE = 4096
"""Rows that go through the network together, so that memory does not grow with the table."""


def outputs_of(model: Module, inputs: NDArray[Any]) -> NDArray[Any]:
    """What the network, in evaluation mode, gives for `inputs` (rows, features): shape (rows, outputs)."""
    was_training = model.training
    model.eval()
    try:
        with no_grad():
            starts = range(0, len(inputs), ROWS_AT_ONCE)
            parts = [np.asarray(model(inputs[start : start + ROWS_AT_ONCE])) for start in starts]
    finally:
        model.train(was_training)
    return np.concatenate(parts)


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
