"""The figures of a run, as data: what the tables are made of and what the JSON file holds."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple

from benchmarks.agreement import Agreement
from benchmarks.contenders import COMPILED, SUBJECT, Contender
from benchmarks.machine import DISTURBED


class Quartiles(NamedTuple):
    """The middle half of some figures."""

    lower: float
    median: float
    upper: float


def quartiles(values: Sequence[float]) -> Quartiles:
    """Lower quartile, median and upper quartile of at least two values."""
    return Quartiles(*quantiles(values, n=4, method="inclusive"))


@dataclass
class Column:
    """What one contender took for one row.

    Attributes:
        contender: its key.
        threads, setting: with which it was fastest.
        seconds: of one repetition, over all that were timed.
        repetitions: how many that were.
        rounds: the median of each round, in seconds.
        phases: the median of each phase, in seconds; empty where it has only one.
        tried: the medians of the trial by setting, in seconds.
    """

    contender: str
    threads: int
    setting: str
    seconds: Quartiles
    repetitions: int
    rounds: list[float]
    phases: dict[str, float]
    tried: dict[str, float]


@dataclass
class TimedRow:
    """One case, timed.

    Attributes:
        case, kind: its name and what sort of row it is.
        agreement: that all compute the same.
        columns: the contenders.
        others: share of the machine that other processes took meanwhile, if known.
        missing: why a contender has no column, in words.
    """

    case: str
    kind: str
    agreement: Agreement
    columns: list[Column]
    others: float | None
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def disturbed(self) -> bool:
        """Whether other processes took so much of the machine that the figures say little."""
        return self.others is not None and self.others > DISTURBED

    def column(self, contender: str) -> Column | None:
        return next((column for column in self.columns if column.contender == contender), None)

    @property
    def reference(self) -> Column | None:
        """What the others are compared with: chainrule, compiled if it can be."""
        return self.column(COMPILED.key) or self.column(SUBJECT.key)

    def ratio(self, contender: str) -> Quartiles | None:
        """How many times longer than the reference a contender took, round by round; None if one is missing."""
        column, own = self.column(contender), self.reference
        if column is None or own is None:
            return None
        return quartiles([theirs / ours for theirs, ours in zip(column.rounds, own.rounds, strict=True)])

    def fastest(self, contenders: Sequence[Contender]) -> Column | None:
        """The column with the least median among some contenders."""
        keys = {contender.key for contender in contenders}
        columns = [column for column in self.columns if column.contender in keys]
        return min(columns, key=lambda column: column.seconds.median, default=None)


@dataclass
class FirstCall:
    """What the user of a contender waits for in a new process, in seconds.

    Attributes:
        case, contender: the row and the column.
        imported: to import the framework.
        cold: the first call, which compiles, with nothing in any cache on disk; None if it was given up.
        cached: the first call in a second process, which finds what the first one left on disk.
        again: the call after that.
    """

    case: str
    contender: str
    imported: float
    cold: float | None
    cached: float | None
    again: float | None


@dataclass
class StepMemory:
    """By how many bytes the process grew for a training step: at most, and for good; with the network's parameters."""

    contender: str
    peak: int
    held: int


@dataclass
class StepMemoryRow:
    """One network, by the memory of a training step; `parameters` is how many bytes those have."""

    case: str
    parameters: int
    steps: list[StepMemory]


@dataclass
class KeptMemory:
    """What a forward pass keeps for the backward pass.

    Attributes:
        contender: its key.
        kept: bytes, parameters and buffers not counted.
        blocks: in how many blocks of memory.
        grown: bytes by which the process grew meanwhile, as seen from outside; includes the result.
    """

    contender: str
    kept: int
    blocks: int
    grown: int


@dataclass
class MemoryRow:
    """One network, by what its forward pass keeps."""

    case: str
    kept: list[KeptMemory]


@dataclass
class Results:
    """Everything one run found. `forward_mode` is the peak memory of forward mode in bytes, by depth."""

    date: str
    command: str
    machine: dict[str, str]
    timed: list[TimedRow] = field(default_factory=list)
    memory: list[MemoryRow] = field(default_factory=list)
    forward_mode: dict[int, int] = field(default_factory=dict)
    first_calls: list[FirstCall] = field(default_factory=list)
    step_memory: list[StepMemoryRow] = field(default_factory=list)

    @property
    def warning(self) -> str:
        """What to say of cases that other processes disturbed; empty if there are none."""
        disturbed = [row.case for row in self.timed if row.disturbed]
        if not disturbed:
            return ""
        return (
            f"Other processes took more than {DISTURBED:.0%} of the machine while these were timed, so their times say "
            f"little; measure again when it is idle: {'; '.join(disturbed)}."
        )

    def write(self, path: Path) -> None:
        """Save as JSON."""
        write_text(path, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Load what `write` saved."""
        raw: dict[str, Any] = json.loads(path.read_text())
        for row in raw["timed"]:
            row["agreement"] = Agreement(**row["agreement"])
            for column in row["columns"]:
                column["seconds"] = Quartiles(*column["seconds"])
            row["columns"] = [Column(**column) for column in row["columns"]]
        raw["timed"] = [TimedRow(**row) for row in raw["timed"]]
        raw["memory"] = [MemoryRow(row["case"], [KeptMemory(**kept) for kept in row["kept"]]) for row in raw["memory"]]
        raw["first_calls"] = [FirstCall(**call) for call in raw.get("first_calls", [])]
        raw["step_memory"] = [
            StepMemoryRow(row["case"], row["parameters"], [StepMemory(**step) for step in row["steps"]])
            for row in raw.get("step_memory", [])
        ]
        raw["forward_mode"] = {int(depth): peak for depth, peak in raw["forward_mode"].items()}
        return cls(**raw)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
