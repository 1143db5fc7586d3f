"""That all contenders compute the same thing, before anyone looks at a clock."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

#: What is compared of a result: a few numbers for each number or array of it.
Digest: TypeAlias = list[list[float]]

#: How many products with random directions stand for an array. If two arrays are further apart than a tolerance, one
#: such product is not much less apart but for one case in ten, and all of these but for one in ten thousand.
_DIRECTIONS = 4


class Disagreement(AssertionError):
    """Contenders do not compute the same thing, so their times cannot be compared."""


@dataclass(frozen=True)
class Agreement:
    """What was compared: how many results, the first and last of them, and their largest relative deviation."""

    results: int
    first: float
    last: float
    deviation: float


def digest(result: float | Sequence[np.ndarray]) -> Digest:
    """A number itself; of arrays, the products of each with the same random directions."""
    if isinstance(result, float):
        return [[result]]
    return [_digest_of_array(np.asarray(array, np.float64)) for array in result]


def _digest_of_array(array: np.ndarray) -> list[float]:
    if array.size == 1:
        return [array.item()]
    random = np.random.default_rng(array.size)
    return [float(random.standard_normal(array.size) @ array.ravel()) for _ in range(_DIRECTIONS)]


def agree(case: str, rows: Mapping[str, Sequence[Digest]], tolerance: float) -> Agreement:
    """Compare the results of all contenders, step by step.

    Args:
        case: what was computed, for the message.
        rows: the results of each contender in each setting, by name.
        tolerance: the largest relative deviation that counts as the same.

    Raises:
        Disagreement: two of them are further apart than `tolerance`, or one is not finite.
    """
    largest = 0.0
    for step, results in enumerate(zip(*rows.values(), strict=True)):
        deviation = _deviation(results)
        if deviation > tolerance:
            listed = "\n".join(f"  {name}: {_shown(result)}" for name, result in zip(rows, results, strict=True))
            raise Disagreement(
                f"{case}: results of step {step + 1} differ by {deviation:.1e} (allowed {tolerance:.0e}):\n{listed}"
            )
        largest = max(largest, deviation)
    one = next(iter(rows.values()))
    return Agreement(len(one), one[0][0][0], one[-1][0][0], largest)


def _deviation(results: Sequence[Digest]) -> float:
    """The largest difference within a part of the results, relative to the size of that part."""
    if len({tuple(map(len, result)) for result in results}) > 1:
        return math.inf
    largest = 0.0
    for parts in zip(*results, strict=True):
        numbers = np.array(parts)
        if not np.isfinite(numbers).all():
            return math.inf
        size = float(np.abs(np.median(numbers, axis=0)).max())
        difference = float(np.ptp(numbers, axis=0).max())
        largest = max(largest, difference / size if difference else 0.0) if size or not difference else math.inf
    return largest


def _shown(result: Digest) -> str:
    return "; ".join(", ".join(map(repr, part)) for part in result)
