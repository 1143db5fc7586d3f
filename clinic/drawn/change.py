"""A `Change`: what a fault does to a healthy plan, and what the right answer to it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clinic.case import Patient
from clinic.drawn.healthy import Plan


class Unfit(Exception):
    """The fault cannot be done to this network; another one is drawn."""


@dataclass(frozen=True)
class Change:
    """One thing that is made wrong.

    Attributes:
        plan: the healthy one, whose twin the sick network is.
        variant: what was done, in kebab-case.
        fields: of the setting, with their new values.
        layers, accepted, harm: as in `Case`.
        evident: whether a patient shows the fault itself, where harm alone would not tell it from another.
    """

    plan: Plan
    variant: str
    fields: dict[str, Any]
    layers: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    harm: bool = True
    evident: Callable[[Patient], bool] | None = None


def only(fits: Any) -> None:
    """Go on with this plan if it fits."""
    if not fits:
        raise Unfit
