"""Pairing: targets that have nothing to do with their inputs, and have all with those of another row.

A file that was reversed, a header that was read as an example, a row that is missing: each puts every target beside
the wrong input by a rule that can be undone. A rule is taken for the right one where undoing it makes near examples
agree, or a network trained on the pairs it makes tell held-out targets; labels that were shuffled stay so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chainrule.doctor.limits import Limits
from chainrule.doctor.neighbours import parting, relation
from chainrule.doctor.subjects import DoctorError, Subject, parts
from chainrule.doctor.training import Progress, length, silent, take
from chainrule.doctor.trial import CERTAIN, on_data

STEPS = (-1, 1)
"""By how many rows targets may be beside where they belong."""

FEW = 0.02
"""A step is from the first row on where no larger share of the rows seems to come before it."""

DOUBTFUL = 0.01
"""Where targets part from their inputs is known to so large a share of the rows; a wrong pair costs more than a lost
one.
"""


@dataclass(frozen=True)
class Pairing:
    """How inputs and targets become pairs; call it with data whose rows are in the order of their file.

    Attributes:
        subject: the network whose data these are.
        step: each input belongs to the target so many rows on; 0 for its own.
        backward: the targets are in reverse order.
        partly: the step is from some row on, to be found in each part of the data; the rows next to it are left out.
    """

    subject: Subject
    step: int = 0
    backward: bool = False
    partly: bool = False

    def __call__(self, data: Any) -> Any:
        """The data with those rows left out that have no partner."""
        inputs, targets = parts(data)
        count = length(data)
        rows = np.arange(count)
        place = parting(self.subject, data, self.step) if self.partly else 0
        partners = rows[::-1] if self.backward else rows + np.where(rows >= place, self.step, 0)
        kept = (partners >= 0) & (partners < count)
        if self.partly:
            kept &= np.abs(rows + 0.5 - place) > max(DOUBTFUL * count, 1.0)
        return take(inputs, rows[kept]), take(targets, partners[kept].copy())

    @property
    def words(self) -> str:
        """What it does."""
        if self.backward:
            return "the targets put in reverse order, in which they belong to the inputs"
        where, doubtful = ("from some row on, ", ", the rows next to that left out") if self.partly else ("", "")
        return f"{where}each input given the target of the {'next row' if self.step > 0 else 'row before'}{doubtful}"

    @property
    def code(self) -> str:
        """The same as Python code."""
        if self.backward:
            return "targets = targets[::-1]\n"
        ends = ("[:-1]", "[1:]") if self.step > 0 else ("[1:]", "[:-1]")
        where = "  # from where they part; without the rows next to it" if self.partly else ""
        return f"inputs, targets = inputs{ends[0]}, targets{ends[1]}{where}\n"


def _candidates(subject: Subject) -> Iterator[Pairing]:
    yield Pairing(subject, backward=True)
    for step in STEPS:
        before = parting(subject, subject.data, step) / length(subject.data)
        yield Pairing(subject, step, partly=FEW < before < 1)


def pairing(subject: Subject, limits: Limits, *, seed: int = 0, progress: Progress = silent) -> Pairing | None:
    """The pairing that proves to be right; None where none does.

    Args:
        subject: a network and data whose targets have nothing to do with their inputs.
        limits: what proves it.
        seed: of whatever is drawn.
        progress: told of every step.
    """
    if subject.data is None or length(subject.data) < 32:
        return None
    found: list[tuple[float, Pairing]] = []
    candidates = [*_candidates(subject)]
    for candidate in candidates:
        progress("looking for the order of the targets", len(found), len(candidates))
        related = relation(subject.with_(data=candidate(subject.data)), seed=seed)
        found.append((-1.0 if related is None else related.neighbours, candidate))
    best, first = max(found, key=lambda entry: entry[0])
    if best > limits.displaced:
        return first
    candidates = [replace(candidate, partly=False) for candidate in candidates]  # near examples did not tell the row
    for candidate in candidates:
        if _is_learned(subject.with_(data=candidate(subject.data)), seed, progress):
            return candidate
    return None


def _is_learned(subject: Subject, seed: int, progress: Progress) -> bool:
    """Whether a network trained on the data tells held-out targets better than by chance."""
    try:
        trial = on_data(subject, seed=seed, progress=progress)
    except DoctorError:
        return False
    return trial is not None and (trial.beyond_chance or 0.0) > 2 * CERTAIN
