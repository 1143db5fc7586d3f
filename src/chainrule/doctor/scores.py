"""How good a network's answers are, whatever the loss: what remedies are compared by that change the loss too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.doctor import statistics
from chainrule.doctor.subjects import Subject, leaves, parts


@dataclass(frozen=True)
class Score:
    """How good answers are.

    Attributes:
        name: "accuracy", "R²", or "" where the targets do not say which fits.
        value: 1 is perfect; NaN where the answers are not finite or nothing fits.
        noise: how much of a difference may be chance: two standard errors.
    """

    name: str
    value: float
    noise: float


NONE = Score("", math.nan, 0.0)

_WORST = -1.0
"""R² has no lower bound; what is worse than this is equally bad."""


def score(subject: Subject, batch: Any) -> Score:
    """The accuracy of classes, or R² of numbers, on a batch, in the mode the network is in; nothing is recorded."""
    return measured(subject, batch)[1]


def measured(subject: Subject, batch: Any) -> tuple[float, Score]:
    """The loss and the score on a batch, in the mode the network is in; nothing is recorded."""
    with subject.quietly(), np.errstate(all="ignore"):
        output, loss = subject.run(batch)
    outputs, targets = leaves(output), leaves(parts(batch)[1])
    value = float(statistics.as_numpy(subject.array(loss)))
    if not outputs or len(targets) != 1:
        return value, NONE
    made = np.asarray(statistics.as_numpy(subject.array(outputs[0])), dtype=np.float64)
    return value, score_of(made, statistics.as_numpy(subject.array(targets[0])))


def score_of(output: np.ndarray, targets: np.ndarray) -> Score:
    """The same from arrays.

    Class numbers are compared with the largest output along axis 1, or along the last axis if the others are the
    targets'; zeros and ones with one output each, a logit or a probability; one-hot rows with the largest output.
    """
    if not np.isfinite(output).all() or not output.size:
        return NONE
    whole = bool(np.all(targets == np.round(targets)))
    answers, wanted = _classes(output, targets, whole)
    if answers is not None:
        right = float(np.mean(answers == wanted))
        return Score("accuracy", right, 2 * math.sqrt(max(right * (1 - right), 0.01) / wanted.size))
    if output.size != targets.size:
        return NONE
    spread = float(np.var(targets))
    error = float(np.mean((output.reshape(-1) - targets.reshape(-1)) ** 2))
    return Score("R²", max(1 - error / spread, _WORST), 0.02) if spread else NONE


def _classes(output: np.ndarray, targets: np.ndarray, whole: bool) -> tuple[np.ndarray | None, np.ndarray]:
    shape, given = output.shape, targets.shape
    if whole and targets.size and targets.min() >= 0:
        if shape == given and shape[-1] > 1 and output.ndim > 1 and np.all(targets.sum(axis=-1) == 1):
            return output.argmax(axis=-1), targets.argmax(axis=-1)
        if shape[:-1] == given and shape[-1] > targets.max():
            return output.argmax(axis=-1), targets
        if output.ndim == targets.ndim + 1 and (shape[0], *shape[2:]) == given and shape[1] > targets.max():
            return output.argmax(axis=1), targets
        if math.prod(shape[:-1]) == targets.size and shape[-1] > max(targets.max(), 1):
            return output.reshape(-1, shape[-1]).argmax(axis=-1), targets.reshape(-1)
        if output.size == targets.size and targets.max() <= 1:
            threshold = 0.5 if output.min() >= 0 and output.max() <= 1 else 0.0
            return output.reshape(-1) > threshold, targets.reshape(-1) > 0.5
        if output.size == targets.size and targets.dtype.kind in "iu":
            return np.round(output.reshape(-1)), targets.reshape(-1)
    return None, targets
