"""Large numbers as people read them: 309 GB, 1.2 GFLOP."""

from __future__ import annotations

from collections.abc import Sequence


def scaled(number: float, units: Sequence[str]) -> str:
    """A number in the largest of `units`, each a thousand of the one before, that leaves at least 1."""
    for unit in units[:-1]:
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.4g} {units[-1]}"


def bytes_text(number: float) -> str:
    """A number of bytes, as in "3.22 GB": decimal units."""
    return scaled(number, ("B", "kB", "MB", "GB"))
