"""Finding a learning rate: a range test, then short runs at the rates it suggests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from chainrule.doctor.subjects import Subject
from chainrule.doctor.training import Progress, rehearsal, silent, train

RANGE = (1e-6, 10.0)
RANGE_STEPS = 28

USUAL = (1e-3, 1e-2)
"""Rates that Adam is often started with: they are tried too, for where a loss starts flat a range test tells little."""

EVEN = 1.15
"""Losses that differ by no larger factor count as equal."""

Equip = Callable[[Subject, float], Subject]
"""Gives a copy an optimiser with a learning rate."""


def adam(subject: Subject, rate: float) -> Subject:
    """The subject with Adam, and nothing clipped."""
    return subject.with_(optimizer=subject.make_optimizer("Adam", lr=rate), clip_norm=None)


def own_optimizer(subject: Subject, rate: float) -> Subject:
    """The subject with its own optimiser, the first group's learning rate `rate`, the others' in proportion."""
    groups = subject.optimizer.param_groups
    factor = rate / float(groups[0]["lr"]) if groups[0]["lr"] else 0.0
    for group in groups:
        group["lr"] = float(group["lr"]) * factor if factor else rate
    return subject


def describe(subject: Subject) -> str:
    """The optimiser in words: "SGD, lr 0.1"."""
    options = subject.optimizer_options
    return f"{options['name']}, lr {options.get('lr', 0):.3g}" if options else "no optimiser"


def tune(
    subject: Subject,
    batches: Callable[[], Iterator[Any]],
    steps: int,
    seed: int = 0,
    progress: Progress = silent,
    equip: Equip = adam,
) -> float:
    """The learning rate with which a copy learns most in a number of steps.

    The range test finds the rate beyond which the loss grows; smaller ones, Adam's usual ones, and the one it has if
    it keeps its optimiser, are tried for half of the steps each. Of rates that do about as well the smallest is taken:
    what is fastest at first is often too fast later.

    Args:
        subject: the network; left as it was.
        batches: makes the batches to train on, from the first one on.
        steps: how many the rate is meant for.
        seed: of the random generators.
        progress: told of every step.
        equip: which optimiser.

    Raises:
        DoctorError: the network cannot be copied, or a step fails.
    """
    edge = range_test(subject, batches, seed, progress, equip)
    rates = [edge / 3, edge / 10, edge / 30, *(USUAL if equip is adam else ())]
    if equip is own_optimizer:
        rates.append(float(subject.optimizer.param_groups[0]["lr"]))
    tried = {rate: reached(subject, batches, max(steps // 2, 3), rate, seed, progress, equip) for rate in rates}
    best = min(tried.values())
    return min(rate for rate, loss in tried.items() if loss <= max(EVEN * best, best / EVEN))  # either sign


def range_test(
    subject: Subject, batches: Callable[[], Iterator[Any]], seed: int, progress: Progress = silent, equip: Equip = adam
) -> float:
    """The largest learning rate with which the loss still falls: it is raised with each step, until the loss grows.

    Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3; steps in equal ratios
    rather than equal differences, since rates matter by their order of magnitude.
    """
    rates = np.geomspace(*RANGE, RANGE_STEPS)
    losses: list[float] = []
    drawn = batches()
    with rehearsal(subject, seed) as copy:
        copy = equip(copy, float(rates[0]))
        for number, rate in enumerate(rates):
            copy = own_optimizer(copy, float(rate))
            run = train(copy, drawn, 1)
            losses += run.losses
            progress("range test of the learning rate", number + 1, RANGE_STEPS)
            if not run.finite or losses[-1] > 4 * min(losses) + 1e-6:
                break
    smooth = _smoothed([loss if math.isfinite(loss) else math.inf for loss in losses])
    # The loss before step k is the work of the rates before the k-th.
    return float(rates[max(int(np.argmin(smooth)) - 1, 0)])


def _smoothed(losses: list[float]) -> list[float]:
    """Each with its neighbours, so that one lucky batch does not decide."""
    return [float(np.mean(losses[max(k - 1, 0) : k + 2])) for k in range(len(losses))]


def reached(
    subject: Subject,
    batches: Callable[[], Iterator[Any]],
    steps: int,
    rate: float,
    seed: int = 0,
    progress: Progress = silent,
    equip: Equip = adam,
) -> float:
    """The loss at the end of a run on a copy: the mean over its last eighth, infinite where it did not stay finite."""
    with rehearsal(subject, seed) as copy:
        run = train(equip(copy, rate), batches(), steps, progress=progress, what="tuning the learning rate")
    last = run.losses[-max(steps // 8, 1) :]
    return float(np.mean(last)) if run.finite else math.inf
