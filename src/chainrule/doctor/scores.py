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
        noise: how much of a difference may be chance: two standard errors of an accuracy, one of R².
        otherwise: the value, where answers may be meant for something that goes with the targets only: logarithms of
            numbers, or a high quantile, by their order; classes that count alike, however rare, by the mean of their
            accuracies.
        blind: what the best answer comes to that is the same for all: the most frequent class, or the mean.
    """

    name: str
    value: float
    noise: float
    otherwise: float = math.nan
    blind: float = -math.inf


NONE = Score("", math.nan, 0.0)

_WORST = -1.0
"""R² has no lower bound; what is worse than this is equally bad."""

_LEAST_NOISE = 0.02
"""Of R²: two training runs differ by that much whatever the examples."""


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
    targets'; zeros and ones with one output each, a logit or a probability, minus ones and ones with its sign; one-hot
    rows with the largest output.
    """
    if not np.isfinite(output).all() or not output.size:
        return NONE
    whole = bool(np.all(targets == np.round(targets)))
    answers, wanted = _classes(output, targets, whole)
    if answers is not None:
        right = float(np.mean(answers == wanted))
        noise = 2 * math.sqrt(max(right * (1 - right), 0.01) / wanted.size)
        commonest = float(np.unique(wanted, return_counts=True)[1].max() / wanted.size)
        return Score("accuracy", right, noise, max(right, _of_each_class(answers, wanted)), commonest)
    if output.size != targets.size:
        return NONE
    spread = float(np.var(targets))
    if not spread:
        return NONE
    errors = (output.reshape(-1) - targets.reshape(-1)) ** 2
    explained = max(1 - float(np.mean(errors)) / spread, _WORST)
    noise = float(np.std(errors)) / spread / math.sqrt(errors.size) if explained > 0 else 0.0  # all bad ones are alike
    noise = max(noise, _LEAST_NOISE)
    return Score("R²", explained, min(noise, 1.0), max(explained, _in_order(output, targets)), 0.0)


def _of_each_class(answers: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.mean([np.mean(answers[wanted == kind] == kind) for kind in np.unique(wanted)]))


def _in_order(made: np.ndarray, wanted: np.ndarray) -> float:
    """The squared rank correlation, as a share of what it can be with that many alike: answers may be logarithms, or in
    another unit. Source: Spearman 1904; Kendall 1945 on ties.
    """
    first, second = _ranks(made), _ranks(wanted)
    if first.std() == 0 or second.std() == 0:
        return 0.0
    found, most = (float(np.mean(one * other)) for one, other in ((first, second), (np.sort(first), np.sort(second))))
    return max(found / most, 0.0) ** 2


def _ranks(x: np.ndarray) -> np.ndarray:
    """The place of each number among all, from their middle; the mean of the places of those that are alike."""
    _, which, counts = np.unique(x, return_inverse=True, return_counts=True)
    middles = np.cumsum(counts) - (counts + 1) / 2
    return (middles - (x.size - 1) / 2)[which.reshape(-1)]


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
    elif output.size == targets.size and np.all(np.abs(targets) == 1):
        return output.reshape(-1) > 0, targets.reshape(-1) > 0
    return None, targets
