"""How long the contenders take: the best setting of each by trial, then blocks in turns, round after round."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from benchmarks.agreement import Agreement, agree
from benchmarks.cases import MLP, Scalar
from benchmarks.crew import Member
from benchmarks.machine import Neighbours
from benchmarks.results import Column, TimedRow, quartiles

#: Results that are compared: twenty training steps.
_RESULTS = 20

#: Seconds that the threads of one contender are given to fall asleep before the next begins.
_SETTLE = 0.05


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        rounds: how often each contender gets its turn.
        seconds: the length of a turn.
        trial: the length of the two turns in which a setting is tried.
    """

    rounds: int = 8
    seconds: float = 0.4
    trial: float = 0.15


class Entry(NamedTuple):
    """One way to run a case: a worker (so a contender and its threads) and one of its settings."""

    member: Member
    setting: str

    def __str__(self) -> str:
        return f"{self.member.name}{', ' * bool(self.setting)}{self.setting}"


def measure(case: MLP | Scalar, members: Sequence[Member], effort: Effort, note: Callable[[str], None]) -> TimedRow:
    """All of one row: prepare, check that the results agree, choose settings, time in rounds.

    Args:
        case: the row.
        members: the workers that take part.
        effort: how long to measure.
        note: told what is going on.

    Raises:
        Disagreement: the contenders do not compute the same thing; nothing was timed.
        WorkerFailed: one of them raised.
    """
    note(f"{case.name}: preparing")
    entries, agreement = prepare(case, members)
    turns = _Turns(case, effort)
    note(f"{case.name}: trying {len(entries)} settings")
    tried = turns.trials(entries)
    chosen = [_fastest(tried, key) for key in dict.fromkeys(entry.member.contender.key for entry in entries)]
    note(f"{case.name}: {effort.rounds} rounds")
    neighbours = Neighbours([os.getpid(), *(member.process.pid for member in members)])
    blocks = turns.rounds(chosen)
    busy = neighbours.share()
    for member in members:
        member.ask("forget", case=case.name)
    columns = [_column(entry, blocks[entry], tried) for entry in chosen]
    return TimedRow(case.name, case.kind, agreement, columns, busy)


def prepare(case: MLP | Scalar, members: Sequence[Member]) -> tuple[list[Entry], Agreement]:
    """Set up every setting of every worker, and check that the first results of all agree."""

    def first_results(member: Member) -> list[tuple[Entry, float]]:
        settings = member.ask("settings", case=case.name)
        return [(Entry(member, name), member.ask("prepare", case=case.name, setting=name)) for name in settings]

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # some compile for a long time
        first = dict(pair for pairs in pool.map(first_results, members) for pair in pairs)
    rows = {}
    for entry, result in first.items():
        arguments = {"case": case.name, "setting": entry.setting, "count": _RESULTS - 1}
        rows[str(entry)] = [result, *entry.member.ask("results", **arguments)]
    return list(first), agree(case.name, rows)


@dataclass
class _Turns:
    case: MLP | Scalar
    effort: Effort
    random: random.Random = field(default_factory=lambda: random.Random(0))

    def trials(self, entries: Sequence[Entry]) -> dict[Entry, float]:
        """The better of two medians of each entry, in seconds."""
        medians: dict[Entry, list[float]] = {entry: [] for entry in entries}
        for _ in range(2):
            for entry in self._shuffled(entries):
                medians[entry].append(median(_totals(self._turn(entry, self.effort.trial))))
        return {entry: min(values) for entry, values in medians.items()}

    def rounds(self, entries: Sequence[Entry]) -> dict[Entry, list[dict[str, list[float]]]]:
        """The blocks of every entry; each round is in an order of its own."""
        blocks: dict[Entry, list[dict[str, list[float]]]] = {entry: [] for entry in entries}
        for _ in range(self.effort.rounds):
            for entry in self._shuffled(entries):
                blocks[entry].append(self._turn(entry, self.effort.seconds))
        return blocks

    def _shuffled(self, entries: Sequence[Entry]) -> list[Entry]:
        return self.random.sample(entries, len(entries))

    def _turn(self, entry: Entry, seconds: float) -> dict[str, list[float]]:
        time.sleep(_SETTLE)
        return entry.member.ask("block", case=self.case.name, setting=entry.setting, seconds=seconds)


def _totals(block: dict[str, list[float]]) -> list[float]:
    return [sum(phases) for phases in zip(*block.values(), strict=True)]


def _fastest(tried: dict[Entry, float], key: str) -> Entry:
    return min((entry for entry in tried if entry.member.contender.key == key), key=tried.__getitem__)


def _column(entry: Entry, blocks: list[dict[str, list[float]]], tried: dict[Entry, float]) -> Column:
    contender = entry.member.contender
    totals = [_totals(block) for block in blocks]
    return Column(
        contender=contender.key,
        threads=entry.member.threads,
        setting=entry.setting,
        seconds=quartiles([second for block in totals for second in block]),
        repetitions=sum(map(len, totals)),
        rounds=[median(block) for block in totals],
        phases={
            name: median([second for block in blocks for second in block[name]])
            for name in (blocks[0] if len(blocks[0]) > 1 else ())
        },
        tried={str(other): second for other, second in tried.items() if other.member.contender is contender},
    )
