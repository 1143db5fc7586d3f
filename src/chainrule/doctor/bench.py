"""The bench that remedies are tried on: copies of a network that train side by side, on the same batches.

Copies that fall behind are given up early, so that most of the steps go to those that may be the best. Source:
Jamieson and Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import Any

import numpy as np

from chainrule.doctor.examination import examine
from chainrule.doctor.scores import NONE, Score, measured
from chainrule.doctor.subjects import DoctorError, Subject
from chainrule.doctor.through_time import through_time
from chainrule.doctor.training import Progress, Split, cooling, length, train, warming_up

LESS = 0.8
"""A loss of the same kind must fall to this share of another copy's to count as better."""

LEGS = (0.25, 0.5, 1.0)
"""Shares of a training run after which copies are compared."""

LOOKS = (0.8, 0.9, 1.0)
"""Shares of a leg after which a copy is measured; it has come to the worst of what is seen: a copy that swings has not
got there.
"""

LEFT = 3
"""So many copies go on after the first leg, one less after each further one."""

BEHIND, MOST_CLOSE = 1.3, 6
"""After the first leg, too short to tell close ones apart, those go on too whose loss is no more than this many times
the least, so many of them at most.
"""


@dataclass(frozen=True)
class Outcome:
    """A network after a short training run, and its gradient flow before it.

    Attributes:
        start, loss: before and after training, on held-out data where there are any, else on the batch; `loss` is NaN
            where training did not stay finite.
        score: of the answers on the same.
        flow: the error signal at the first layer over that at the last, before training; None where it is not known.
        steps: how long it was trained.
    """

    start: float
    loss: float
    score: Score
    flow: float | None
    steps: int = 0

    @property
    def finite(self) -> bool:
        """Whether training went through."""
        return math.isfinite(self.loss)

    @property
    def perfect(self) -> bool:
        """Whether nothing that could be measured is left to gain."""
        return self.finite and self.value + self.score.noise / 2 >= 1

    @property
    def value(self) -> float:
        """The score's; all answers that are no better than one for all examples are worth the same."""
        return -1.0 if math.isnan(self.score.value) else max(self.score.value, self.score.blind)

    @property
    def tells_nothing(self) -> bool:
        """Whether the answers are no better than one for all examples, where that one is mostly wrong."""
        return bool(self.score.name) and self.score.blind < 0.5 and self.value - self.score.blind <= self.score.noise

    @property
    def cost(self) -> float:
        """The loss, infinite where it is not finite."""
        return self.loss if self.finite else math.inf


def better(one: Outcome, other: Outcome, same_loss: bool = True, less: float = LESS, gain: float = 0.0) -> bool:
    """Whether an outcome is better than another one by more than chance: the score by so much `gain`, or the loss."""
    if not one.finite:
        return False
    if not other.finite:
        return one.loss < one.start
    noise = max(one.score.noise, other.score.noise)
    gained = one.value - other.value
    if one.score.name and gained > max(noise, gain):
        return True
    level = not one.score.name or gained >= -noise / 2
    return same_loss and level and one.loss < less * other.loss


@dataclass(eq=False)
class Trainee:
    """A copy on its way through training.

    Attributes:
        subject: the network that it is a copy of, untrained.
        copy: the copy; None where the network could not be copied or run.
        batches: those that it has not seen yet.
        outcome: what it has come to so far.
    """

    subject: Subject
    copy: Subject | None
    batches: Iterator[Any]
    outcome: Outcome = field(default_factory=lambda: Outcome(math.nan, math.nan, NONE, None))


@dataclass(frozen=True)
class Bench:
    """Where remedies are tried: the same batches, seeds and held-out data for all.

    Attributes:
        subject: the untreated network; left as it was.
        split: its data in two parts, or None for its batch alone.
        steps: of a whole training run.
        seed: of whatever is drawn.
        progress: told of every step.
    """

    subject: Subject
    split: Split | None
    steps: int
    seed: int
    progress: Progress

    def batches(self, subject: Subject | None = None) -> Iterator[Any]:
        """The batches to train a network on, as long as its own, without end."""
        subject = subject or self.subject
        return cycle([subject.batch]) if self.split is None else self.split.batches(self.seed, length(subject.batch))

    def trainee(self, subject: Subject) -> Trainee:
        """A copy of a network, to be trained."""
        with self.subject.undisturbed():
            self.subject.seed(self.seed)
            try:
                copy = self._warming_up(subject.copy())
                start = self._measured(copy)[0]
            except DoctorError:
                return Trainee(subject, None, iter(()))
        return Trainee(subject, copy, self.batches(subject), Outcome(start, start, NONE, None))

    def _warming_up(self, copy: Subject) -> Subject:
        """The copy, whose rate goes on as the schedule of the network's own has it, if it is still the same."""
        own, rates = self.subject.optimizer_options, (self.subject.optimizer_options, copy.optimizer_options)
        same = len({options.get("lr") for options in rates}) == 1
        return warming_up(copy, float(own.get("warm_up", 1.0))) if same else copy

    def train(self, trainee: Trainee, steps: int) -> None:
        """Train a copy on, until it has had so many steps."""
        before = trainee.outcome
        done = before.steps
        if trainee.copy is None or not before.finite or done >= steps:
            return
        seen: list[tuple[float, Score]] = []
        for until in sorted({max(int(share * steps), done + 1) for share in LOOKS}):
            with self.subject.undisturbed():
                self.subject.seed(self.seed + done)
                if not self._trained(trainee.copy, trainee.batches, until - done):
                    seen = [(math.nan, NONE)]
                    break
                seen.append(self._measured(trainee.copy))
                done = until
        reached = replace(seen[-1][1], value=float(np.min([score.value for _, score in seen])))
        trainee.outcome = Outcome(before.start, float(np.max([x for x, _ in seen])), reached, before.flow, steps)

    def cool(self, trainee: Trainee, steps: int) -> None:
        """Train a copy on with shorter and shorter steps, until it has had so many: as a training ends."""
        if trainee.copy is not None:
            cooling(trainee.copy, max(steps - trainee.outcome.steps, 1))
        self.train(trainee, steps)

    def _trained(self, copy: Subject, batches: Iterator[Any], steps: int) -> bool:
        """Whether all steps could be made and stayed finite."""
        try:
            return train(copy, batches, steps, progress=self.progress).finite
        except DoctorError:
            return False

    def race(self, trainees: Sequence[Trainee], same_loss: bool = True) -> None:
        """Train copies, those that fall behind not to the end."""
        running = [*trainees]
        for leg, share in enumerate(LEGS):
            if leg:
                ahead = front(running, LEFT + 1 - leg, same_loss)
                least = min((t.outcome.cost for t in running), default=0.0)
                close = [t for t in running if leg == 1 and same_loss and t.outcome.cost <= BEHIND * least]
                close = sorted(close, key=lambda t: t.outcome.cost)[:MOST_CLOSE]
                running = ahead + [t for t in close if t not in ahead]
            for trainee in running:
                self.train(trainee, max(int(share * self.steps), 1))

    def outcome(self, subject: Subject) -> Outcome:
        """Train a copy to the end, and measure the gradient flow of the network before that."""
        trainee = self.trainee(subject)
        self.train(trainee, self.steps)
        return with_flow(trainee)

    def _measured(self, copy: Subject) -> tuple[float, Score]:
        with copy.undisturbed():
            if self.split is None:
                return measured(copy, copy.batch)
            copy.model.eval()
            return measured(copy, self.split.held_out)


def order(outcome: Outcome, same_loss: bool = True) -> tuple[float, float]:
    """Outcomes sorted by it have the best first: by the answers in steps of half the noise, then by the loss."""
    coarse = outcome.score.noise / 2 or 1.0
    value = round(outcome.value / coarse) if outcome.finite else -math.inf
    return -value, outcome.cost if same_loss else 0.0


def front(trainees: Sequence[Trainee], count: int, same_loss: bool = True) -> list[Trainee]:
    """Those that may be the best: the one with the best answers, and those with the least losses.

    The loss shows first that a network begins to learn; the answers show that large losses are but those of a few.
    """
    answers = sorted(trainees, key=lambda t: order(t.outcome, same_loss))
    losses = sorted(trainees, key=lambda t: t.outcome.cost) if same_loss else answers
    chosen = [*losses[: count - 1], *answers[:1], *losses[count - 1 :]]
    return list({id(t): t for t in chosen}.values())[:count]


def with_flow(trainee: Trainee) -> Outcome:
    """The outcome, with the gradient flow of the network before training."""
    known = trainee.outcome.flow
    return replace(trainee.outcome, flow=_flow(trainee.subject) if known is None else known)


def _flow(subject: Subject) -> float | None:
    """The error signal at the first layer, or the first time step, over that at the last."""
    try:
        in_time = [t.norms[0] / t.norms[-1] for t in through_time(subject)[0] if t.norms[-1]]
        signals = [layer.error_signal for layer in examine(subject).layers if layer.error_signal is not None]
    except DoctorError:
        return None
    through_layers = [signals[0] / signals[-1]] if len(signals) > 1 and signals[-1] else []
    return next(iter([*in_time, *through_layers]), None)
