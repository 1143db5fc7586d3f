"""The proof that labels are true: sick networks end well below their healthy twins, and healthy ones end well.

Everything is trained for its fixed number of steps from several seeds; what is kept is the worst of them. The figures
are in `measured.json`, which `python -m clinic --measure` writes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from threadpoolctl import threadpool_limits

from clinic.case import Case
from clinic.cases import WRITTEN
from clinic.frameworks import framework
from clinic.records import write_lines

FIGURES = Path(__file__).parent / "measured.json"
SEEDS = (0, 1)

#: How many points a fault costs at least.
HARM = 3.0
#: What a healthy network comes to at least. Always guessing the commonest class gives 10 for the digits, 20 for the
#: blobs, 50 for the circles and for recalling a character, and 17 for the text, whose next character nobody could tell
#: with certainty.
GOOD = {
    "digits": 85.0,
    "blobs": 90.0,
    "circles": 97.0,
    "regression": 90.0,
    "text": 28.0,
    "recall": 90.0,
    "pairs": 80.0,
    "images": 60.0,
    "imbalanced": 92.0,
    "overlapping": 60.0,
    "moons": 97.0,
    "spirals": 95.0,
    "noisy": 40.0,
    "ratings": 70.0,
    "waves": 90.0,
    "copy": 95.0,
    "scrambled": 75.0,
    "baskets": 80.0,
    "census": 88.0,
    "fraud": 97.0,
    "sales": 65.0,
    "parity": 97.0,
    "bags": 95.0,
    "questions": 80.0,
    "denoised": 75.0,
    "pulses": 95.0,
    "shapes": 90.0,
    "latch": 97.0,
    "adding": 97.0,
    "gestures": 95.0,
    "forecasts": 95.0,
    "counts": 95.0,
    "alarms": 94.0,
    "brackets": 85.0,
    "motifs": 95.0,
    "reversal": 95.0,
    "tags": 97.0,
}


@dataclass(frozen=True)
class Measured:
    """What came of training a case.

    Attributes:
        score: accuracy or explained variance of the held-out examples in %; where seeds differ, of the one that speaks
            most against the label.
        healthy: that of the healthy twin from the same seed.
        seconds: of processor time that the training took, of the longest run.
    """

    score: float
    healthy: float
    seconds: float

    @property
    def harm(self) -> float:
        """How many points the fault costs."""
        return self.healthy - self.score


def measure(case: Case, seeds: Iterable[int] = SEEDS) -> Measured:
    """Train a case and its healthy twin from each seed, on one thread."""
    framework(case.framework)  # threads can only be limited in libraries that are there
    with threadpool_limits(1):
        runs = [_run(case, seed) for seed in seeds]
    worst = min(runs, key=lambda run: run.score if case.fault is None else run.harm)
    return Measured(worst.score, worst.healthy, max(run.seconds for run in runs))


def _run(case: Case, seed: int) -> Measured:
    patient = case.make(seed)
    start = time.process_time()
    patient.train(case.steps)
    seconds = time.process_time() - start
    score = patient.score()
    healthy = score if case.fault is None else patient.healthy_score
    return Measured(round(score, 1), round(healthy, 1), round(seconds, 2))


def holds(case: Case, measured: Measured) -> bool:
    """Whether the figures bear the label out."""
    if case.fault is None:
        return measured.score >= GOOD[case.data]
    return measured.harm >= HARM or not case.harm


def read() -> dict[str, Measured]:
    """The figures that were measured last, by case."""
    if not FIGURES.exists():
        return {}
    return {name: Measured(**figures) for name, figures in json.loads(FIGURES.read_text()).items()}


def write(measured: Mapping[str, Measured]) -> None:
    """Put new figures among those that were there; what is no case any more goes, and so do those that were drawn."""
    together = {**read(), **measured}
    write_lines(FIGURES, {name: asdict(together[name]) for name in WRITTEN if name in together})
