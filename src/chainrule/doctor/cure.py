"""A cure: a remedy, or several, that was tried on a copy of a network, and how cures are ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chainrule.doctor.bench import Outcome, better
from chainrule.doctor.remedies import Treatment

EVEN = 1.02
"""Of cures whose losses differ by no larger factor, the simplest is taken."""


@dataclass(frozen=True)
class Cure:
    """A remedy, or several, that was tried.

    Attributes:
        remedies: their names.
        codes: of the findings that ask for them.
        treatment: the cured network, untrained, with words and code.
        before, after: what the untreated network and this one came to.
        place: of its first remedy among those the findings ask for, causes before effects.
    """

    remedies: tuple[str, ...]
    codes: tuple[str, ...]
    treatment: Treatment
    before: Outcome
    after: Outcome
    place: int = 0

    @property
    def helped(self) -> bool:
        """Whether the cured network learned measurably more than the untreated one."""
        return better(self.after, self.before, self.same_loss)

    @property
    def same_loss(self) -> bool:
        """Whether its loss can be compared with the untreated network's."""
        return "loss" not in self.remedies

    @property
    def name(self) -> str:
        """The remedies in one word."""
        return " + ".join(self.remedies)

    @property
    def words(self) -> tuple[str, ...]:
        """What was done, a sentence each."""
        return self.treatment.words

    @property
    def code(self) -> str:
        """The same as Python code to paste."""
        return self.treatment.code


def ranked(cures: Sequence[Cure]) -> list[Cure]:
    """The best answers first; of equally good ones the lowest loss is at the top, of equally low ones the simplest."""
    ranked = sorted(
        cures,
        key=lambda cure: (not cure.helped, -cure.after.steps, -round(cure.after.value, 2), cure.after.cost),
    )
    helped = [cure for cure in ranked if cure.helped and cure.after.steps == ranked[0].after.steps]
    if not helped:
        return ranked
    first = helped[0].after
    level = [cure for cure in helped if first.value - cure.after.value <= first.score.noise / 2]
    lowest = min(level, key=lambda cure: cure.after.cost) if all(cure.same_loss for cure in level) else level[0]
    simplest = min(
        (cure for cure in level if cure is lowest or cure.after.cost <= EVEN * lowest.after.cost),
        key=lambda cure: (len(cure.remedies), cure.place),
    )
    return [simplest, *(cure for cure in ranked if cure is not simplest)]


def joined(first: Treatment, second: Treatment) -> Treatment:
    """Two treatments, one after the other, as one."""
    return Treatment(
        second.subject,
        first.words + second.words,
        first.definitions + second.definitions,
        first.statements + second.statements,
    )
