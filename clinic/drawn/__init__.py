"""Cases that are drawn by lot from a stated distribution: whoever wants untouched networks takes a new seed.

A case is a seed and a number: sick ones 0, 1, 2, …, whose faults take turns, and healthy ones h0, h1, h2, …. Either
decides all that is random, so that each can be made again alone. `healthy` are the plans, `signal`, `fitting` and
`wiring` what is done to them, a `change` each; `networks` and `problems` are what is of any size. `proof` trains what
was drawn, and the `record` keeps which draws are borne out: only these are cases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from clinic.case import Case, Half
from clinic.drawn import fitting, record, signal, wiring
from clinic.drawn.change import Change, Unfit
from clinic.drawn.healthy import plan
from clinic.drawn.lot import one_of
from clinic.drawn.record import key
from clinic.frameworks import NAMES
from clinic.sickness import Sickness

FAULTS = {**signal.FAULTS, **wiring.FAULTS, **fitting.FAULTS}
CODES = (*FAULTS,)

#: Seeds whose cases belong to the clinic; a doctor may be made on those of the first kind. Of 14 and 15 only healthy
#: ones were proved.
TUNING_SEEDS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
HELD_OUT_SEEDS = (12, 13, 14, 15)


@dataclass(frozen=True)
class Drawn:
    """A case that was drawn, and what proves it besides its harm."""

    case: Case
    change: Change | None


def half_of(seed: int) -> Half:
    """Whatever is not for tuning has not been looked at."""
    return "tuning" if seed in TUNING_SEEDS else "held-out"


def fault_of(number: int) -> str:
    """The fault of a sick number: they take turns."""
    return CODES[number % len(CODES)]


def framework_of(seed: int, number: int, *, sick: bool) -> str:
    """The framework of a number, by lot."""
    return one_of(np.random.default_rng([seed, 2 + sick, number]), *NAMES)


def sick(seed: int, number: int, attempt: int = 0) -> Drawn:
    """One draw of a sick case; where it is not borne out, the next attempt is another draw of the same fault."""
    rng = np.random.default_rng([seed, 1, number, attempt])
    change = _fitting(fault_of(number), rng)
    framework = framework_of(seed, number, sick=True)
    sickness = sickness_of(change, fault_of(number), key(seed, number, sick=True), framework)
    return Drawn(sickness.case(framework, half_of(seed), change.plan.data), change)


def healthy(seed: int, number: int) -> Drawn:
    """A healthy case."""
    it = plan(np.random.default_rng([seed, 0, number]))
    framework = framework_of(seed, number, sick=False)
    setting = it.setting(key(seed, number, sick=False))
    return Drawn(setting.case(framework, half_of(seed), it.data), None)


def sickness_of(change: Change, fault: str, name: str, framework: str) -> Sickness:
    """The change as other parts of the clinic have it."""
    setting = change.plan.setting(name)
    return Sickness(
        fault=fault,
        variant=change.variant,
        healthy=setting,
        setting=replace(setting, **change.fields),
        layers=change.layers,
        accepted=tuple(code for code in change.accepted if code != fault),
        frameworks=(framework,),
        harm=change.harm,
    )


def drawn(seed: int, sick: int, healthy: int) -> Iterator[Case]:
    """So many cases of a seed, of those that the record says are borne out."""
    proofs = record.read()
    for is_sick, count in ((True, sick), (False, healthy)):
        for number in numbers(seed, count, proofs, sick=is_sick):
            yield case_of(seed, number, proofs, sick=is_sick)


def numbers(seed: int, count: int, proofs: dict[str, record.Proof], *, sick: bool) -> Iterator[int]:
    """The first numbers that are borne out, each fault as often as the other; fewer where no more are known."""
    turns = len(CODES) if sick else 1
    for turn in range(turns):
        wanted = len(range(turn, count, turns))
        number = turn
        while wanted and (proof := proofs.get(key(seed, number, sick=sick))):
            if proof.attempt is not None:
                wanted -= 1
                yield number
            number += turns


def case_of(seed: int, number: int, proofs: dict[str, record.Proof], *, sick: bool) -> Case:
    """A case that the record knows."""
    proof = proofs[key(seed, number, sick=sick)]
    if proof.attempt is None:
        raise ValueError(f"number {number} of seed {seed} was refused: training did not bear out what was drawn")
    return _sick(seed, number, proof.attempt).case if sick else _healthy(seed, number).case


#: One draw is one setting, whose score is kept while the process runs.
_sick, _healthy = cache(sick), cache(healthy)


def _fitting(fault: str, rng: np.random.Generator) -> Change:
    """Healthy plans are drawn until the fault can be done to one."""
    while True:
        try:
            return FAULTS[fault](plan(rng), rng)
        except Unfit:
            continue


#: More than any record has.
_ALL = 10**6


def kept() -> Iterator[Case]:
    """The cases of the seeds that belong to the clinic."""
    for seed in (*TUNING_SEEDS, *HELD_OUT_SEEDS):
        yield from drawn(seed, _ALL, _ALL)
