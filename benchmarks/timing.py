"""One row of the timed tables: prepare, see that all compute the same, choose settings by trial, time in rounds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import mean, median

from benchmarks.agreement import Agreement, Digest, agree
from benchmarks.cases import Timed
from benchmarks.crew import Member, TooSlow, WorkerFailed
from benchmarks.results import Column, TimedRow, quartiles
from benchmarks.turns import Effort, Entry, Turn, Turns

#: What took this much longer than the best in its trial will not turn out to be the best.
_HOPELESS = 1.5


def measure(case: Timed, members: Sequence[Member], effort: Effort, note: Callable[[str], None]) -> TimedRow:
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
    entries, reasons, agreement = prepare(case, members, effort.compilation)
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
    missing = {key: reason for key, reason in reasons.items() if key not in columns}
    return TimedRow(case.name, case.kind, agreement, list(columns.values()), mean(known) if known else None, missing)


def prepare(case: Timed, members: Sequence[Member], within: float) -> tuple[list[Entry], dict[str, str], Agreement]:
    """Set up every setting of every worker, and check that the first results of all agree.

    Args:
        case: the row.
        members: the workers that take part.
        within: seconds that a first call may take.

    Returns:
        What is ready; in words why something of a contender is not, by its key; the agreement.

    Raises:
        Disagreement: the contenders do not compute the same thing.
        WorkerFailed: none of them can do it at all.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # some compile for a long time
        prepared = list(pool.map(lambda member: _first_results(case, member, within), members))
    ready = {entry: results for found, _ in prepared for entry, results in found.items()}
    reasons = {member.contender.key: why for member, (_, why) in zip(members, prepared, strict=True) if why}
    if not ready:
        raise WorkerFailed(f"{case.name}: nobody can do it: {reasons}")
    rows = {str(entry): results for entry, results in ready.items()}
    return list(ready), reasons, agree(case.name, rows, case.tolerance)


def _first_results(case: Timed, member: Member, within: float) -> tuple[dict[Entry, list[Digest]], str]:
    """The first results of the settings that are ready in time, and why the last of the others is not."""
    waiting = member.ask("settings", case=case.name)
    why = ""
    ready: dict[Entry, list[Digest]] = {}
    while waiting:
        name = waiting.pop(0)
        try:
            first = member.ask("prepare", within, case=case.name, setting=name)
            ready[Entry(member, name)] = [first]
        except TooSlow:
            why = f"did not compile\nin {within:.0f} s"
            waiting = [entry.setting for entry in ready] + waiting  # the worker has forgotten them
            ready.clear()
        except WorkerFailed as error:
            why = _failure(error)
    for entry, results in list(ready.items()):
        try:
            results += member.ask("results", case=case.name, setting=entry.setting, count=case.results - 1)
        except WorkerFailed as error:
            why = _failure(error)
            del ready[entry]
    return ready, why


def _failure(error: WorkerFailed) -> str:
    print(error, file=sys.stderr)
    return f"failed:\n{error.kind}"


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
