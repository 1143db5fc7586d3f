"""How numbers are written in findings."""

from __future__ import annotations

import math


def number(x: float | None) -> str:
    """Three significant digits, in the shorter notation."""
    if x is None:
        return "nothing"
    if not math.isfinite(x):
        return "NaN" if math.isnan(x) else "infinity"
    return f"{x:.3g}"


def percent(share: float) -> str:
    """A share as a percentage; never rounded to all or nothing."""
    if 0 < share < 0.005:
        return "under 1%"
    if 0.995 <= share < 1:
        return "over 99%"
    return f"{100 * share:.0f}%"
