"""The doctor in the clinic: what it finds in each case, whether that is right, and whether its cure works.

What it said last is in `examined.json`, which `python -m clinic` writes.
"""

from __future__ import annotations

import json
import math
import os
import time
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

import chainrule as cr
from chainrule.doctor import Severity
from clinic.case import Case, Patient
from clinic.cases import CASES
from clinic.frameworks import framework
from clinic.records import write_lines

if TYPE_CHECKING:
    from chainrule.doctor.prescription import Repair

RECORD = Path(__file__).parent / "examined.json"

WITHIN = 3.0
"""A cure has worked where the score comes within so many points of the healthy twin's."""


@dataclass(frozen=True)
class Examined:
    """What the doctor says of a case.

    Attributes:
        findings: (code, places) of all findings that matter, in the doctor's order.
        seconds: of the thorough diagnosis.
        score, healthy: after training the repaired network, and of the healthy twin; None where nothing was repaired.
        repair: what the repair says of itself.
        by_hand: what the repair says that only the user can change, in the code or the data.
        error: why there is no diagnosis; empty if there is one.
    """

    findings: tuple[tuple[str, tuple[str, ...]], ...]
    seconds: float
    score: float | None = None
    healthy: float | None = None
    repair: str = ""
    by_hand: str = ""
    error: str = ""

    @property
    def code(self) -> str:
        """The first finding's: what the doctor takes for the cause."""
        return self.findings[0][0] if self.findings else ""

    def is_right(self, case: Case) -> bool:
        """Whether the first finding is a right one; for a healthy network, whether there is none."""
        return not self.error and (self.code in case.answers if case.fault else not self.findings)

    def is_right_place(self, case: Case) -> bool:
        """Whether the right finding names a right module first."""
        places = next((places for code, places in self.findings if code in case.answers), ())
        return not case.layers or any(_is_in(place, layer) for place in places[:1] for layer in case.layers)

    @property
    def is_cured(self) -> bool:
        """Whether the repaired network does as well as the healthy one."""
        return self.score is not None and self.healthy is not None and self.score >= self.healthy - WITHIN


def _is_in(place: str, layer: str) -> bool:
    """Whether a module is the one at a path or one of its parts: a part of what is named is named no worse."""
    return place == layer or (layer != "" and place.startswith(f"{layer}."))


def examine(case: Case, *, cure: bool, seed: int = 0) -> Examined:
    """Let the doctor see a case, on one thread; what it raises is part of the record."""
    framework(case.framework)  # threads can only be limited in libraries that are there
    started = time.perf_counter()
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        try:
            patient = case.make(seed)
            report = cr.diagnose(
                patient.model, patient.loss_fn, patient.batch, **_circumstances(patient), thorough=True
            )
            seconds = time.perf_counter() - started
            found = tuple(
                (finding.code, tuple(finding.layers) or (finding.layer,))
                for finding in report.findings
                if finding.severity >= Severity.WARNING
            )
            examined = Examined(found, seconds)
            return _cured(case, patient, examined, seed) if cure and case.fault and case.harm else examined
        except Exception as error:
            return Examined((), time.perf_counter() - started, error=f"{type(error).__name__}: {error}".split("\n")[0])


def _circumstances(patient: Patient) -> dict[str, Any]:
    return {"optimizer": patient.optimizer, "data": patient.data, "clip_norm": patient.clip}


def _cured(case: Case, patient: Patient, examined: Examined, seed: int) -> Examined:
    """The same case with its network repaired and trained like the healthy twin."""
    from chainrule.doctor.prescription import repair  # only where something is to be repaired

    repaired = repair(patient.model, patient.loss_fn, patient.batch, **_circumstances(patient), seed=seed)
    treated = replace(
        patient,
        model=repaired.model,
        optimizer=repaired.optimizer,
        loss_fn=repaired.loss_fn,
        clip=repaired.clip_norm,
        batch_size=repaired.batch_size,
        scheduler=_scheduled(patient, repaired, case.steps),
    )
    if repaired.pairing is not None:  # whose targets are beside the wrong inputs, has it so in all files
        treated = replace(treated, data=repaired.pairing(patient.data), held_out=repaired.pairing(patient.held_out))
    treated.train(case.steps)
    score = treated.score()
    return replace(
        examined,
        score=score if math.isfinite(score) else 0.0,
        healthy=patient.healthy_score,
        repair=_relative(repaired.summary),
        by_hand=_relative(repaired.by_hand),
    )


def _scheduled(patient: Patient, repaired: Repair, steps: int) -> Any:
    """The patient's own schedule, of the repaired network's optimiser, or the one that comes with the repair."""
    if patient.scheduler is None:
        return repaired.scheduler(steps)
    return patient.framework.optim.lr_scheduler.LambdaLR(repaired.optimizer, patient.scheduler.lr_lambdas[0])


def _relative(text: str) -> str:
    """Without the folder that the repository is in: the record is the same on every machine."""
    return text.replace(f"{RECORD.parent.parent}{os.sep}", "")


# The figures --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """How the doctor did on a number of cases, as shares; NaN where there are none.

    Attributes:
        repaired: of all that were to be repaired.
        by_hand: of the same, those where the repair says that only the user can.
        repaired_others: of those where it does not say so.
    """

    sick: int
    healthy: int
    detection: float
    false_alarms: float
    localisation: float
    repaired: float
    by_hand: float
    repaired_others: float


def figures(cases: Collection[Case], examined: Mapping[str, Examined]) -> Figures:
    """Over the cases that were examined."""
    seen = [(case, examined[case.name]) for case in cases if case.name in examined]
    sick = [(case, it) for case, it in seen if case.fault]
    healthy = [(case, it) for case, it in seen if not case.fault]
    treated = [pair for pair in sick if pair[1].score is not None]

    def share(of: Collection[tuple[Case, Examined]], holds: Callable[[Case, Examined], bool]) -> float:
        return float(np.mean([holds(case, it) for case, it in of])) if of else math.nan

    return Figures(
        len(sick),
        len(healthy),
        share(sick, lambda case, it: it.is_right(case)),
        share(healthy, lambda case, it: not it.is_right(case)),
        share([pair for pair in sick if pair[0].layers], lambda case, it: it.is_right_place(case)),
        share(treated, lambda case, it: it.is_cured),
        share(treated, lambda case, it: bool(it.by_hand)),
        share([pair for pair in treated if not pair[1].by_hand], lambda case, it: it.is_cured),
    )


# The record ---------------------------------------------------------------------------------------------------------


def read() -> dict[str, Examined]:
    """What the doctor said last, by case."""
    if not RECORD.exists():
        return {}
    return {name: _examined(kept) for name, kept in json.loads(RECORD.read_text()).items()}


def write(examined: Mapping[str, Examined]) -> None:
    """Put new answers among those that were there; what is no case any more goes."""
    together = {**read(), **examined}
    write_lines(RECORD, {name: asdict(together[name]) for name in CASES if name in together})


def _examined(kept: dict[str, Any]) -> Examined:
    found = tuple((code, tuple(places)) for code, places in kept["findings"])
    return Examined(**{**kept, "findings": found})
