"""The first call in a new process: with nothing in any cache on disk, and with what an earlier process left there."""

from __future__ import annotations

import tempfile

from benchmarks.contenders import BY_KEY
from benchmarks.crew import TooSlow, crew
from benchmarks.results import Column, FirstCall, TimedRow


def first_calls(row: TimedRow, within: float) -> list[FirstCall]:
    """Those of every contender in a row whose users wait for them."""
    return [_first_call(row.case, column, within) for column in row.columns if BY_KEY[column.contender].cold]


def _first_call(case: str, column: Column, within: float) -> FirstCall:
    """Both first calls of a contender with the threads and the setting it was fastest with.

    Args:
        case: the name of the row.
        column: the contender in that row.
        within: seconds that a first call may take.
    """
    with tempfile.TemporaryDirectory(prefix="chainrule-benchmark-") as folder:
        answers = []
        for _ in range(2):
            with crew([BY_KEY[column.contender]], [column.threads], **_caches_in(folder)) as (member,):
                try:
                    answers.append(member.ask("first_call", within, case=case, setting=column.setting))
                except TooSlow:
                    return FirstCall(case, column.contender, member.ask("imported"), None, None, None)
    cold, cached = answers
    return FirstCall(case, column.contender, cached["imported"], cold["first"], cached["first"], cached["second"])


def _caches_in(folder: str) -> dict[str, str]:
    """Where chainrule, PyTorch and JAX look for what was compiled before; JAX is told to keep everything."""
    return {
        "CHAINRULE_CACHE": folder,
        "TORCHINDUCTOR_CACHE_DIR": folder,
        "JAX_COMPILATION_CACHE_DIR": folder,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
