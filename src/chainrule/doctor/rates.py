"""Finding a learning rate: a range test, then short runs at the rates it suggests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.doctor.measurements import mean_at_end
from chainrule.doctor.subjects import Subject
from chainrule.doctor.training import Progress, rehearsal, silent, train

RANGE = (1e-6, 10.0)
RANGE_STEPS = 28

USUAL = (1e-3, 1e-2)
"""Rates that Adam is often started with: they are tried too, for where a loss starts flat a range test tells little."""

EVEN = 1.05
"""Losses that differ by no larger factor count as equal."""

Equip = Callable[[Subject, float], Subject]
"""Gives a copy an optimiser with a learning rate."""


def adam(subject: Subject, rate: float) -> Subject:
    """The subject with Adam, and nothing clipped."""
    return subject.with_(optimizer=subject.make_optimizer("Adam", lr=rate), clip_norm=None)


def own_optimizer(subject: Subject, rate: float) -> Subject:
    """The subject with its own optimiser, the first group's learning rate `rate`, the others' in proportion.

    A schedule, if there is one, starts from there: it is no step of a warm-up.
    """
    groups = subject.optimizer.param_groups
    factor = rate / float(groups[0]["lr"]) if groups[0]["lr"] else 0.0
    for group in groups:
        group["lr"] = float(group["lr"]) * factor if factor else rate
        if "initial_lr" in group:
            group["initial_lr"] = group["lr"]
    return subject


def full_rate(subject: Subject) -> float:
    """The learning rate of the first group, of a warm-up the one it leads to; 0 without an optimiser."""
    options = subject.optimizer_options
    return float(options.get("initial_lr" if "warm_up" in options else "lr", 0.0))


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
    it keeps its optimiser, are tried for half of the steps, those that fall behind for fewer. Of rates that do about as
    well the smallest is taken: what is fastest at first is often too fast later.

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
    edge, burst = range_test(subject, batches, seed, progress, equip)
    rates = [full_rate(subject)] if equip is own_optimizer else []
    rates += [edge / 3, edge / 10, edge / 30]
    if equip is adam or subject.optimizer_options["name"].startswith("Adam"):
        rates += USUAL
    else:
        rates += [burst / 10, burst / 100]
    runs = [_Run(rate, equip(subject.copy(), rate), batches()) for rate in _apart(rates)]
    for leg, share in enumerate(LEGS):
        runs = sorted(runs, key=lambda run: run.reached)[: len(runs) if not leg else LEFT + 1 - leg]
        for run in runs:
            run.train_to(max(int(share * steps), 3), subject, seed, progress)
    best = min(run.reached for run in runs)
    return min(run.rate for run in runs if run.reached <= max(EVEN * best, best / EVEN))  # either sign


def _apart(rates: Sequence[float]) -> list[float]:
    """Those that differ from all before them by a factor of 1.5 or more, rates of 0 left out."""
    kept: list[float] = []
    for rate in rates:
        if rate > 0 and all(max(rate / other, other / rate) >= 1.5 for other in kept):
            kept.append(rate)
    return kept


LEGS = (0.125, 0.25, 0.5)
"""Shares of the steps after which rates that fall behind are given up."""

LEFT = 3
"""So many rates go on after the first of them, one less after the next."""


@dataclass
class _Run:
    """A copy that trains with a rate.

    Attributes:
        rate: its learning rate.
        copy: the copy.
        batches: those that it has not seen yet.
        losses: before each step so far; infinite where one was not finite.
    """

    rate: float
    copy: Subject
    batches: Iterator[Any]
    losses: list[float] = field(default_factory=list)

    def train_to(self, steps: int, origin: Subject, seed: int, progress: Progress) -> None:
        """Train on, until there were so many steps or one was not finite."""
        if math.inf in self.losses:
            return
        with origin.undisturbed():
            origin.seed(seed + len(self.losses))
            more = steps - len(self.losses)
            run = train(self.copy, self.batches, more, progress=progress, what="tuning the learning rate")
        self.losses += run.losses if run.finite else [math.inf]

    @property
    def reached(self) -> float:
        """The mean over the last quarter of the steps so far; 0 before the first."""
        return float(np.mean(self.losses[-max(len(self.losses) // 4, 1) :])) if self.losses else 0.0


def range_test(
    subject: Subject, batches: Callable[[], Iterator[Any]], seed: int, progress: Progress = silent, equip: Equip = adam
) -> tuple[float, float]:
    """The largest learning rate with which the loss still falls, and the one with which it bursts: it is raised with
    each step, until the loss is four times the least.

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
    return float(rates[max(int(np.argmin(smooth)) - 1, 0)]), float(rates[max(len(losses) - 2, 0)])


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
    return mean_at_end(run.losses) if run.finite else math.inf
