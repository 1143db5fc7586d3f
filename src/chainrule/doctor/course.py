"""The course of a training that is watched: where its loss goes, whether it still does, and how noisy gradients are.

Nothing here is a fault by itself: a loss stands still where training is over, and successive gradients disagree
wherever batches are small. So the course is told and no finding is made of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from chainrule.doctor.measurements import Course

_BLOCKS = 64
"""Medians that the losses are reduced to."""

_WINDOW = 512
"""Last losses that oscillation is told from."""

_UNCERTAIN = 1.96
"""Standard deviations that chance alone stays within in 95 of 100 cases."""


def course_of(
    steps: Sequence[int], losses: Sequence[float], noise: Sequence[tuple[float, float]], batch: int
) -> Course | None:
    """What the losses and the gradients seen tell; None where there are under eight losses.

    Args:
        steps, losses: of each loss that was seen, the number of its step and its value.
        noise: of pairs of gradients of successive steps, their product g₁·g₂ and half their squared distance.
        batch: number of examples in a batch.
    """
    at, values = np.asarray(steps, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    finite = np.isfinite(values)
    at, values = at[finite], values[finite]
    if len(values) < 8:
        return None
    parts = np.array_split(np.arange(len(values)), min(_BLOCKS, len(values)))
    middles = np.array([np.median(at[part]) for part in parts])
    medians = np.array([np.median(values[part]) for part in parts])
    half = len(medians) // 2
    slope = robust_slope(middles[half:], medians[half:])
    scale = abs(float(np.median(medians[half:]))) or 1.0
    return Course(
        steps=int(at[-1]) + 1,
        first=float(medians[0]),
        last=float(medians[-1]),
        trend=100 * slope / scale,
        significance=trend_score(medians[half:]),
        plateau=_plateau(middles, medians),
        oscillation=_autocorrelation(values[-_WINDOW:]),
        noise_scale=noise_scale(noise),
        batch=batch,
    )


def robust_slope(x: np.ndarray, y: np.ndarray) -> float:
    """The median of the slopes between all pairs of points, which a quarter of them cannot spoil.

    Source: Sen 1968, "Estimates of the Regression Coefficient Based on Kendall's Tau".
    """
    one, other = np.triu_indices(len(x), 1)
    apart = x[other] - x[one]
    return float(np.median((y[other] - y[one])[apart > 0] / apart[apart > 0])) if np.any(apart > 0) else 0.0


def trend_score(y: np.ndarray) -> float:
    """Rises less falls among all pairs of points, in the standard deviations that chance alone would give.

    Source: Mann 1945, "Nonparametric Tests Against Trend".
    """
    one, other = np.triu_indices(len(y), 1)
    count = len(y)
    score = float(np.sum(np.sign(y[other] - y[one])))
    return score / math.sqrt(count * (count - 1) * (2 * count + 5) / 18) if count > 1 else 0.0


def _plateau(x: np.ndarray, y: np.ndarray) -> int | None:
    """From which step on the loss stands: no trend that chance would not give, and less than a twentieth of the fall
    until then by the slope there is; for a quarter of the course at least, and never above what comes late. None where
    it moves.
    """
    for begin in range(len(y) - max(len(y) // 4, 4) + 1):
        late_x, late_y = x[begin:], y[begin:]
        fall = max(float(y[0] - np.median(late_y)), 0.0) if begin else 0.0
        further = abs(robust_slope(late_x, late_y)) * float(late_x[-1] - late_x[0])
        arrived = y[begin] <= late_y[len(late_y) // 2 :].max()
        if arrived and abs(trend_score(late_y)) < _UNCERTAIN and (begin == 0 or further <= 0.05 * fall):
            return int(late_x[0])
    return None


def _autocorrelation(y: np.ndarray) -> float:
    """Of neighbouring losses, the trend aside: near 0 where batches differ by chance, near -1 where every step goes
    too far and the next one back.
    """
    x = np.arange(len(y), dtype=np.float64)
    rest = y - robust_line(x, y)
    square = float(rest @ rest)
    return float(rest[1:] @ rest[:-1]) / square if square else 0.0


def robust_line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The line of the robust slope, through the median of what is left."""
    line = robust_slope(x, y) * x
    return line + np.median(y - line)


def noise_scale(noise: Sequence[tuple[float, float]]) -> float | None:
    """How many batches must be averaged for the gradient's noise to be as large as the gradient: tr(Σ)/|G|².

    Of two gradients g₁, g₂ of batches that have nothing to do with each other, g₁·g₂ is |G|² on average, and
    |g₁ − g₂|²/2 the noise tr(Σ) of one batch. Both are averaged before they are divided. The step between the two
    changes the gradient as well, which counts as noise here: where batches are large, the number is an upper bound.

    Source: McCandlish et al. 2018, "An Empirical Model of Large-Batch Training", appendix A.1; with the two batches
    side by side instead of one inside the other.

    Returns:
        None where under four pairs were seen; infinity where successive gradients do not agree at all.
    """
    pairs = np.asarray(noise, dtype=np.float64).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    if len(pairs) < 4:
        return None
    signal, variance = pairs.mean(axis=0)
    return float(variance / signal) if signal > 0 else math.inf
