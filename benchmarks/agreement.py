"""That all contenders compute the same thing, before anyone looks at a clock."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Largest relative deviation that counts as the same, for results computed in float32.
TOLERANCE = 1e-4


class Disagreement(AssertionError):
    """Contenders do not compute the same thing, so their times cannot be compared."""


@dataclass(frozen=True)
class Agreement:
    """What was compared: how many results, the first and last of them, and their largest relative deviation."""

    results: int
    first: float
    last: float
    deviation: float


def agree(case: str, rows: Mapping[str, Sequence[float]]) -> Agreement:
    """Compare the results of all contenders, step by step.

    Args:
        case: what was computed, for the message.
        rows: the results of each contender in each setting, by name.

    Raises:
        Disagreement: two of them are further apart than `TOLERANCE`, or one is not finite.
    """
    largest = 0.0
    for step, results in enumerate(zip(*rows.values(), strict=True)):
        low, high = min(results), max(results)
        middle = sorted(results)[len(results) // 2]
        deviation = (high - low) / abs(middle) if all(map(math.isfinite, results)) else math.inf
        if deviation > TOLERANCE:
            listed = "\n".join(f"  {name}: {result!r}" for name, result in zip(rows, results, strict=True))
            raise Disagreement(
                f"{case}: results of step {step + 1} differ by {deviation:.1e} (allowed {TOLERANCE:.0e}):\n{listed}"
            )
        largest = max(largest, deviation)
    one = next(iter(rows.values()))
    return Agreement(len(one), one[0], one[-1], largest)
