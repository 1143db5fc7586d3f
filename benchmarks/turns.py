"""Taking turns: one contender runs for a while, the others sleep; a turn that another process disturbed is repeated."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from benchmarks.cases import Timed
from benchmarks.crew import Member
from benchmarks.machine import DISTURBED, Neighbours

#: Seconds that the threads of one contender are given to fall asleep before the next begins.
_SETTLE = 0.05


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        rounds: how often each contender gets its turn.
        seconds: the length of a turn.
        trial: the length of the two turns in which a setting is tried.
        patience: seconds that may be spent on repeating disturbed turns, for each case.
        compilation: seconds after which a first call, which compiles, is given up.
    """

    rounds: int = 8
    seconds: float = 0.3
    trial: float = 0.15
    patience: float = 15.0
    compilation: float = 180.0


class Entry(NamedTuple):
    """One way to run a case: a worker (so a contender and its threads) and one of its settings."""

    member: Member
    setting: str

    def __str__(self) -> str:
        return f"{self.member.name}{', ' * bool(self.setting)}{self.setting}"


class Turn(NamedTuple):
    """What came of one turn.

    Attributes:
        phases: seconds of each phase in each repetition.
        others: share of the machine that other processes took meanwhile, if known.
    """

    phases: dict[str, list[float]]
    others: float | None

    def totals(self) -> list[float]:
        """Seconds of each repetition."""
        return [sum(phases) for phases in zip(*self.phases.values(), strict=True)]

    def median(self) -> float:
        """Seconds of the middle repetition."""
        return median(self.totals())


@dataclass
class Turns:
    """The turns of one case."""

    case: Timed
    effort: Effort
    members: Sequence[Member]
    patience: float = field(init=False)
    random: random.Random = field(default_factory=lambda: random.Random(0))

    def __post_init__(self) -> None:
        self.patience = self.effort.patience

    def trials(self, entries: Sequence[Entry]) -> dict[Entry, float]:
        """The better of two medians of each entry, in seconds."""
        medians: dict[Entry, list[float]] = {entry: [] for entry in entries}
        for _ in range(2):
            for entry in self._shuffled(entries):
                medians[entry].append(self._turn(entry, self.effort.trial).median())
        return {entry: min(values) for entry, values in medians.items()}

    def rounds(self, entries: Sequence[Entry]) -> dict[Entry, list[Turn]]:
        """The turns of every entry, one in each round; each round is in an order of its own."""
        turns: dict[Entry, list[Turn]] = {entry: [] for entry in entries}
        for _ in range(self.effort.rounds):
            for entry in self._shuffled(entries):
                turns[entry].append(self._undisturbed(entry, self.effort.seconds))
        return turns

    def _shuffled(self, entries: Sequence[Entry]) -> list[Entry]:
        return self.random.sample(entries, len(entries))

    def _undisturbed(self, entry: Entry, seconds: float) -> Turn:
        """A turn that nobody disturbed, if there is one while the patience lasts."""
        turn = self._turn(entry, seconds)
        while turn.others is not None and turn.others > DISTURBED and self.patience > 0:
            began = time.monotonic()
            turn = min(turn, self._turn(entry, seconds), key=lambda turn: turn.others or 0.0)
            self.patience -= time.monotonic() - began
        return turn

    def _turn(self, entry: Entry, seconds: float) -> Turn:
        time.sleep(_SETTLE)
        neighbours = Neighbours([os.getpid(), *(member.process.pid for member in self.members)])
        phases = entry.member.ask("block", case=self.case.name, setting=entry.setting, seconds=seconds)
        return Turn(phases, neighbours.share())
