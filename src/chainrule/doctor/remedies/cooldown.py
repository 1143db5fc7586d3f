"""The cooldown: at the end of a training the rate falls to nothing, so that a network that swings comes to rest.

Source: Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", section 3: a
rate that stays as it is until then comes to what one does that falls all along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

PARTS = 3
"""The last one of so many parts of a training is the cooldown."""


def cooldown(steps: int) -> Callable[[int], float]:
    """What the rate is multiplied by at a step: 1 until the last third of the steps, then evenly less, 0 after them."""
    return lambda step: max(0.0, min(1.0, PARTS * (1 - step / steps)))


def cooldown_code(groups: Sequence[Mapping[str, Any]]) -> str:
    """How to do it, as a comment; empty where an optimiser's groups have a schedule already, or no learning rate."""
    if not groups or any("lr" not in group or "initial_lr" in group for group in groups):
        return ""
    return (
        "# over a training of `steps` steps, with scheduler.step() after each optimizer.step():  scheduler = \\\n"
        f"#     optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, min(1.0, {PARTS} * (1 - step / steps))))"
    )
