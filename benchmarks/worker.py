"""The process that runs one contender: it does what it is told, one line of JSON at a time, and sleeps in between.

Frameworks that share a process disturb each other (the threads of one keep spinning while the next computes, and
make it ten times slower), so each has a process of its own. `crew` is the other end of the pipe.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from dataclasses import replace
from typing import Any

from benchmarks.agreement import Digest, digest
from benchmarks.cases import CASES, Deep
from benchmarks.contenders import BY_KEY, Workload
from benchmarks.machine import peak_resident_bytes, resident_bytes
from benchmarks.networks import MLP

#: A block has at least this many repetitions, however long they take.
_FEWEST = 3


class Worker:
    """What the parent may ask for; every method takes and returns what JSON can carry."""

    def __init__(self, contender: str) -> None:
        began = time.perf_counter()
        self._module = BY_KEY[contender].module()
        self._import_seconds = time.perf_counter() - began
        self._workloads: dict[tuple[str, str], Workload] = {}
        self._entered: tuple[str, str] | None = None

    def _settings(self, case: str) -> Any:
        return getattr(self._module, CASES[case].kind)(CASES[case])

    def settings(self, case: str) -> list[str]:
        """The names of the ways to run a case."""
        return list(self._settings(case))

    def prepare(self, case: str, setting: str) -> Digest:
        """Set a workload up and run it once, which compiles what is to be compiled; returns the first result."""
        self._workloads[case, setting] = self._settings(case)[setting]()
        return _repeat(self._workload(case, setting))

    def imported(self) -> float:
        """Seconds it took to import the framework."""
        return self._import_seconds

    def first_call(self, case: str, setting: str) -> dict[str, float]:
        """Seconds to import the framework, and to run a case for the first and for the second time."""
        self._workloads[case, setting] = self._settings(case)[setting]()
        phases = self._workload(case, setting).phases.values()
        columns = _timed(list(phases), 0.0)
        first, second = (sum(column[repetition] for column in columns) for repetition in (0, 1))
        return {"imported": self._import_seconds, "first": first, "second": second}

    def results(self, case: str, setting: str, count: int) -> list[Digest]:
        """The results of further repetitions."""
        workload = self._workload(case, setting)
        return [_repeat(workload) for _ in range(count)]

    def block(self, case: str, setting: str, seconds: float) -> dict[str, list[float]]:
        """Seconds that each phase took in every repetition of a block, after a warm-up of a fifth of its time."""
        phases = self._workload(case, setting).phases
        _timed(list(phases.values()), seconds / 5)
        columns = _timed(list(phases.values()), seconds)
        return dict(zip(phases, columns, strict=True))

    def _workload(self, case: str, setting: str) -> Workload:
        """A workload that was prepared, the process set for it."""
        workload = self._workloads[case, setting]
        if self._entered != (case, setting):
            workload.enter()
            self._entered = case, setting
        return workload

    def forget(self, case: str) -> None:
        """Free everything that was prepared for a case."""
        self._workloads = {key: workload for key, workload in self._workloads.items() if key[0] != case}
        self._entered = None
        if hasattr(self._module, "reset"):
            self._module.reset()
        gc.collect()

    def memory(self, case: str) -> dict[str, int]:
        """Bytes kept after a forward pass, as the graph tells it, and by how much the process grew meanwhile."""
        network = CASES[case]
        assert isinstance(network, Deep)
        self._module.memory(replace(network, blocks=1))()  # loads what is loaded on first use
        run = self._module.memory(network)
        gc.collect()
        before = resident_bytes()
        result, kept = run()
        after = resident_bytes()
        del result
        return {"kept": sum(kept.values()), "blocks": len(kept), "grown": after - before}

    def step_memory(self, warm_up: str, case: str, setting: str) -> dict[str, int]:
        """Bytes by which the process grew, at most and for good, from before a network was made to a step of it.

        A small network is trained first, so that what a framework loads, or needs to compile, does not count.
        """
        for name in (warm_up, case):
            assert isinstance(CASES[name], MLP)
            if name == case:
                gc.collect()
                before = resident_bytes()
            self._workloads[name, setting] = self._settings(name)[setting]()
            for _ in range(3):
                _repeat(self._workload(name, setting))
        gc.collect()
        peak = peak_resident_bytes(lambda: _repeat(self._workload(case, setting)))
        return {"held": resident_bytes() - before, "peak": peak - before}

    def forward_mode_peak(self, depths: list[int]) -> list[int]:
        """Peak memory of forward mode through chains of these depths."""
        from benchmarks.forward_mode import peak_bytes

        return [peak_bytes(depth) for depth in depths]


def _repeat(workload: Workload) -> Digest:
    for phase in workload.phases.values():
        phase()
    return digest(workload.result())


def _timed(phases: list, seconds: float) -> list[list[float]]:
    """Run the phases in turn for some time; the seconds of each phase in each repetition."""
    clock = time.perf_counter
    columns: list[list[float]] = [[] for _ in phases]
    pairs = list(zip(phases, columns, strict=True))
    end = clock() + seconds
    repetitions = 0
    before = clock()
    while before < end or repetitions < _FEWEST:
        for phase, column in pairs:
            phase()
            after = clock()
            column.append(after - before)
            before = after
        repetitions += 1
        before = clock()
    return columns


def main(contender: str) -> None:
    """Answer requests until the pipe is closed."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a framework prints must not get between the answers

    def answer(**message: Any) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        worker = Worker(contender)
    except Exception:
        answer(error=traceback.format_exc())
        return
    answer(value="ready")
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer(value=getattr(worker, request["do"])(**request["with"]))
        except Exception:
            answer(error=traceback.format_exc())


if __name__ == "__main__":
    main(sys.argv[1])
