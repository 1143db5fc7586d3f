"""One row of the timed tables: prepare, see that all compute the same, choose settings by trial, time in rounds."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import mean, median

from benchmarks.agreement import Agreement, agree
from benchmarks.cases import MLP, Scalar
from benchmarks.crew import Member
from benchmarks.results import Column, TimedRow, quartiles
from benchmarks.turns import Effort, Entry, Turn, Turns

#: Results that are compared: twenty training steps.
_RESULTS = 20

#: What took this much longer than the best in its trial will not turn out to be the best.
_HOPELESS = 1.5


def measure(case: MLP | Scalar, members: Sequence[Member], effort: Effort, note: Callable[[str], None]) -> TimedRow:
    """All of one row.

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
    turns = Turns(case, effort, members)
    note(f"{case.name}: trying {len(entries)} settings")
    tried = turns.trials(entries)
    finalists = _finalists(tried)
    note(f"{case.name}: {effort.rounds} rounds of {len(finalists)}")
    taken = turns.rounds(finalists)
    for member in members:
        member.ask("forget", case=case.name)
    columns: dict[str, Column] = {}
    for entry in finalists:
        column = _column(entry, taken[entry], tried)
        best = columns.get(column.contender)
        if best is None or column.seconds.median < best.seconds.median:
            columns[column.contender] = column
    known = [turn.others for all_turns in taken.values() for turn in all_turns if turn.others is not None]
    return TimedRow(case.name, case.kind, agreement, list(columns.values()), mean(known) if known else None)


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


def _finalists(tried: dict[Entry, float]) -> list[Entry]:
    """Of each worker its best setting, unless the contender did far better with other threads.

    More than one may stay, because a trial is short: two threads look good until something else needs a core.
    """
    best_of_member: dict[Member, Entry] = {}
    best_of_contender: dict[str, float] = {}
    for entry, seconds in tried.items():
        member, key = entry.member, entry.member.contender.key
        if member not in best_of_member or seconds < tried[best_of_member[member]]:
            best_of_member[member] = entry
        best_of_contender[key] = min(seconds, best_of_contender.get(key, seconds))
    return [
        entry
        for entry in best_of_member.values()
        if tried[entry] < _HOPELESS * best_of_contender[entry.member.contender.key]
    ]


def _column(entry: Entry, turns: Sequence[Turn], tried: dict[Entry, float]) -> Column:
    contender = entry.member.contender
    totals = [second for turn in turns for second in turn.totals()]
    names = turns[0].phases if len(turns[0].phases) > 1 else ()
    return Column(
        contender=contender.key,
        threads=entry.member.threads,
        setting=entry.setting,
        seconds=quartiles(totals),
        repetitions=len(totals),
        rounds=[turn.median() for turn in turns],
        phases={name: median([second for turn in turns for second in turn.phases[name]]) for name in names},
        tried={str(other): second for other, second in tried.items() if other.member.contender is contender},
    )
