"""What is known of the numbers of a seed: which draw was proved, or that none was.

The file has a line for each number of each seed, so that cases are known without training them again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from clinic.records import write_lines

RECORD = Path(__file__).parent / "proved.json"


@dataclass(frozen=True)
class Proof:
    """What came of a number.

    Attributes:
        attempt: which of its draws was proved; None if the number is refused.
        name: of the case.
        score, healthy, seconds: as in `Measured`, of the draw that was proved.
    """

    attempt: int | None
    name: str = ""
    score: float = 0.0
    healthy: float = 0.0
    seconds: float = 0.0


def key(seed: int, number: int, *, sick: bool) -> str:
    """A number's name in the record and in that of its case."""
    return f"{seed}.{number}" if sick else f"{seed}.h{number}"


@cache
def _read(path: Path, modified: int) -> dict[str, Proof]:
    return {name: Proof(**proof) for name, proof in json.loads(path.read_text()).items()}


def read() -> dict[str, Proof]:
    """All that is known, by key."""
    return dict(_read(RECORD, RECORD.stat().st_mtime_ns)) if RECORD.exists() else {}


def _order(name: str) -> tuple[int, bool, int]:
    seed, number = name.split(".")
    return int(seed), number.startswith("h"), int(number.removeprefix("h"))


def write(proofs: dict[str, Proof]) -> None:
    """Put new proofs among those that were there."""
    together = {**read(), **proofs}
    write_lines(RECORD, {name: asdict(together[name]) for name in sorted(together, key=_order)})
