"""The proof that what was drawn is what it is called: it is trained, and the record keeps what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from threadpoolctl import threadpool_limits

from clinic.case import Patient
from clinic.drawn import CODES, Drawn, framework_of, healthy, sick
from clinic.drawn.record import Proof, key, read, write
from clinic.frameworks import framework, missing
from clinic.measure import GOOD, HARM, SEEDS, Measured

#: How many draws of a number are tried, and how many points the first of them have to cost, so that most harm is plain.
ATTEMPTS = 7
AIM, AIMED = 6.0, 4
#: How many seconds of processor time a case may train, so that many can be examined.
LONGEST = 5.0
#: What other learning rates a healthy network is tried with, in shares of its own.
OTHER_RATES = (1 / 3, 3.0)
#: How many numbers of a fault are tried for each that is wanted, before the fault is given up.
PATIENCE = 6


def prove(seed: int, sick: int, healthy: int) -> Iterator[str]:
    """Draw and train until so many cases of a seed are borne out; gives the key of each as it is, or was before."""
    for is_sick, count in ((True, sick), (False, healthy)):
        turns = len(CODES) if is_sick else 1
        found = dict.fromkeys(range(turns), 0)
        last = -(-count // turns) * PATIENCE + 10
        for number in range(last * turns):
            turn = number % turns
            if found[turn] < len(range(turn, count, turns)):
                name = key(seed, number, sick=is_sick)
                if missing(framework_of(seed, number, sick=is_sick)):
                    continue
                if proved(seed, number, sick=is_sick).attempt is not None:
                    found[turn] += 1
                    yield name
            elif all(found[each] >= len(range(each, count, turns)) for each in found):
                break


def proved(seed: int, number: int, *, sick: bool) -> Proof:
    """What is known of a number, or what training it now tells."""
    name = key(seed, number, sick=sick)
    known = read().get(name)
    if known is None:
        known = _sick(seed, number) if sick else _healthy(seed, number)
        write({name: known})
    return known


def _sick(seed: int, number: int) -> Proof:
    for attempt in range(ATTEMPTS):
        it = sick(seed, number, attempt)
        if proof := _harmed(it, AIM if attempt < AIMED else HARM):
            return replace(proof, attempt=attempt)
    return Proof(None)


def _harmed(it: Drawn, least: float) -> Proof | None:
    """The worse of the two runs, if both cost so many points and their twins are as good as they should be."""
    case, change = it.case, it.change
    runs = []
    framework(case.framework)
    with threadpool_limits(1):
        for seed in SEEDS:
            patient = case.make(seed)
            if change and change.evident and not change.evident(case.make(seed)):
                return None
            seconds = _train(patient, case.steps)
            if seconds > LONGEST:
                return None
            score = patient.score()
            if case.harm and score > 100 - least:
                return None
            good = patient.healthy_score
            if good < GOOD[case.data] or (case.harm and good - score < least):
                return None
            runs.append((good - score, score, good, seconds))
    _, score, good, _ = min(runs)
    return Proof(0, case.name, round(score, 1), round(good, 1), round(max(run[3] for run in runs), 2))


def _healthy(seed: int, number: int) -> Proof:
    case = healthy(seed, number).case
    framework(case.framework)
    runs = []
    with threadpool_limits(1):
        for start in SEEDS:
            patient = case.make(start)
            seconds = _train(patient, case.steps)
            score = patient.score()
            if score < GOOD[case.data] or seconds > LONGEST:
                return Proof(None)
            runs.append((score, seconds))
        for rate in OTHER_RATES:
            if min(runs)[0] <= 100 - HARM and _at_rate(case.make(SEEDS[0]), rate, case.steps) > runs[0][0] + HARM:
                return Proof(None)
    worst = round(min(runs)[0], 1)
    return Proof(0, case.name, worst, worst, round(max(run[1] for run in runs), 2))


def figures() -> dict[str, Measured]:
    """What training every drawn case came to, by its name."""
    proofs = [proof for proof in read().values() if proof.attempt is not None]
    return {proof.name: Measured(proof.score, proof.healthy, proof.seconds) for proof in proofs}


def _train(patient: Patient, steps: int) -> float:
    """Processor time that it takes."""
    start = time.process_time()
    patient.train(steps)
    return time.process_time() - start


def _at_rate(patient: Patient, share: float, steps: int) -> float:
    """The score with a share of the learning rate."""
    for group in patient.optimizer.param_groups:
        group["lr"] *= share
    if patient.scheduler is not None:
        patient.scheduler.base_lrs = [rate * share for rate in patient.scheduler.base_lrs]
    patient.train(steps)
    return patient.score()
