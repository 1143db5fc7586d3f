"""Experiments: what is suspected of a network is taken away from a copy, and both are trained on the same batches.

A number beyond its limit proves a fault. Nearer by, healthy networks have it too, and only what comes of it tells:
where the copy without it soon does better than the network itself does in four times as many steps, it is a fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from chainrule.doctor.bench import Bench, Outcome, Trainee, better
from chainrule.doctor.finding import Finding
from chainrule.doctor.limits import Limits
from chainrule.doctor.measurements import Examination, Experiment
from chainrule.doctor.rates import adam, own_optimizer
from chainrule.doctor.remedies import CannotApply, Treatment, apply
from chainrule.doctor.rules.experience import trial_of
from chainrule.doctor.scores import measured
from chainrule.doctor.subjects import DoctorError, Subject
from chainrule.doctor.training import Progress, falling, silent, split_of, warming_up

STEPS = 80
"""How long the copies are trained."""

LONGER = 4
"""So many times as long the untreated one is, where the treated one is ahead."""

MUCH = 0.3
"""So much more of the answers right, or of the variance explained, is proof even if the untreated one catches up,
unless it gets to good answers."""

NOTABLY = 0.05
"""So much more counts against an untreated one that was trained longer, if it is more than chance too."""

SEVERAL = 1.5
"""Times the noise of a score: of a dozen experiments one comes out ahead by more than twice the standard error."""

CLEARLY = 0.15
"""The same of another loss, which may be meant to answer otherwise, and of other steps, which may be meant to come."""

MISSING = 0.3
"""For other steps, so much of what is missing will do too."""

HALF = 0.5
"""The same of losses, where answers cannot be told right from wrong: what the treated one has left of the other's. And
so much of the treated one's R² an untreated one must have in the order of its answers, to be meant for something else.
"""

TESTS: dict[str, tuple[str, ...]] = {
    "wrong-initialization": ("initialization", "usual-initialization"),
    "symmetric-initialization": ("initialization",),
    "dying-relu": ("initialization",),
    "saturated-activation": ("initialization", "usual-initialization"),
    "vanishing-gradient": ("activation", "initialization"),
    "exploding-gradient": ("initialization",),
    "missing-normalization": ("normalization",),
    "bptt-vanishing": ("initialization", "forget-gate-bias"),
    "bptt-exploding": ("initialization",),
    "bottleneck": ("width",),
    "dead-batchnorm": ("batch-size", "batch-statistics", "normalization"),
    "unused-parameter": ("all-parameters",),
    "wrong-loss": ("loss",),
    "unscaled-input": ("input-scaling",),
    "ill-conditioned": ("input-whitening",),
    "always-clipped": ("clipping",),
    "learning-rate-too-high": ("a tenth", "a hundredth"),
    "learning-rate-too-low": ("tenfold", "a hundredfold", "tuned"),
    "slow-convergence": ("optimizer",),
    "oscillating-loss": ("momentum",),
    "cannot-overfit-batch": ("regularization", "activation"),
}
"""What takes each fault away, and nothing else as far as that can be: one that does proves it. Each is a remedy, but
for other learning rates (`PACES`) and "batch-statistics": the network as it is, going by the statistics of what it is
given, not by the running ones.
"""


PACES = {"a tenth": 0.1, "a hundredth": 0.01, "tenfold": 10.0, "a hundredfold": 100.0}
"""Learning rates to test with, as shares of the network's own."""

FURTHER = {"a hundredfold": "tenfold"}
"""What is only tested where something else helps already, but not enough to prove anything."""

OF_STEPS = frozenset({
    "always-clipped", "learning-rate-too-high", "learning-rate-too-low", "slow-convergence", "ill-conditioned",
    "cannot-overfit-batch", "unused-parameter", "oscillating-loss",
})  # fmt: skip
"""What is wrong with how the network's own optimiser gets on: no other one will do to test that."""

OF_SHORT_STEPS = frozenset({"learning-rate-too-low", "slow-convergence"})
"""What makes training slow, and is a fault where much is missing."""

OF_INPUTS = frozenset({"unscaled-input", "ill-conditioned"})
"""What slows training down all along: here the treated copy may be trained as long as the untreated one is at last.
So it may with other steps and with larger batches, and with these or more units where the untreated one never learns
anything.
"""

FEW = Limits().batchnorm_numbers
"""A batch normalisation that sees fewer examples is tested with more of them."""

FOLLOWING = 10
"""In so many batches running statistics go two thirds of the way to the batches', with the usual momentum of 0.1."""

ENOUGH = 0.9
"""Where a treated copy answers so well, nothing further is tested."""


def experiments(
    subject: Subject,
    exam: Examination,
    suspected: Sequence[Finding],
    *,
    tuned: float | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[Experiment, ...]:
    """Put suspicions to the test; of those that are borne out only those count whose copy does best, within chance.

    Args:
        subject: the network; left as it was.
        exam: what was measured of it.
        suspected: findings that are not proved yet, causes before effects.
        tuned: a learning rate for Adam, where the network's own optimiser is known to be at fault or there is none.
        seed: of whatever is drawn.
        progress: told of every step.
    """
    bench = Bench(subject, split_of(subject, seed=seed), STEPS, seed, progress)
    own = _Laboratory(bench, exam, None)
    with_adam = own if tuned is None else _Laboratory(bench, exam, tuned)
    made: list[Experiment] = []
    for finding in sorted(suspected, key=lambda finding: finding.code in OF_SHORT_STEPS):  # the others are causes of it
        of_steps, proved = finding.code in OF_STEPS, any(experiment.proves for experiment in made)
        if finding.code in OF_INPUTS and "warm_up" in exam.optimizer:
            continue  # slow steps are meant at first
        if (of_steps and subject.optimizer is None) or (proved and finding.code in OF_SHORT_STEPS):
            continue  # another rate or optimiser does better than most, whatever the cause
        made += (own if of_steps else with_adam).tests_of(finding)
        if made and made[-1].proves and made[-1].measure != "loss" and made[-1].treated > ENOUGH:
            break
    return tuple(_best(made))


def _best(made: Sequence[Experiment]) -> Iterator[Experiment]:
    """The same, where only those prove anything that come as far as the best of them."""
    proofs = [experiment for experiment in made if experiment.proves]
    sign = -1 if any(proof.measure == "loss" for proof in proofs) else 1
    most = max((sign * proof.treated for proof in proofs), default=0.0)
    for experiment in made:
        yield replace(experiment, proves=experiment.proves and sign * experiment.treated >= most - experiment.noise)


@dataclass
class _Laboratory:
    """Where experiments are made; the untreated network is trained once for all of them.

    Attributes:
        bench: where copies are trained.
        exam: what was measured of the network.
        tuned: see `experiments`.
    """

    bench: Bench
    exam: Examination
    tuned: float | None

    def __post_init__(self) -> None:
        self._untreated = self._trainee(self.bench.subject)
        self._first: Outcome | None = None
        self._later: Outcome | None = None
        self._helped: set[str] = set()

    def tests_of(self, finding: Finding) -> Iterator[Experiment]:
        """The experiments on one suspicion, up to the first that bears it out."""
        if self.untreated.value > 1 - NOTABLY:
            yield self._spared(finding)
            return
        for remedy in TESTS.get(finding.code, ()):
            if remedy in FURTHER and FURTHER[remedy] not in self._helped:
                continue
            try:
                experiment = self._tested(remedy, finding)
            except (CannotApply, DoctorError):
                continue
            yield experiment
            if experiment.proves:
                return

    def _spared(self, finding: Finding) -> Experiment:
        """What is known without an experiment of a network that does as well as can be."""
        own = self.untreated
        return _experiment(finding, "", ("it does as well as can be",), (own, own, own), proves=False)

    def _tested(self, remedy: str, finding: Finding) -> Experiment:
        if remedy == "batch-statistics":
            return self._with_batch_statistics(finding)
        return self._compared(finding, remedy, self._treated(remedy, finding))

    def _treated(self, remedy: str, finding: Finding) -> Treatment:
        bench = self.bench
        if remedy in PACES:
            return _paced(bench.subject, remedy, PACES[remedy])
        if remedy == "tuned":
            return _paced(bench.subject, "tuned on one batch, instead", self._factor_of_tuned())
        if remedy == "batch-size" and self.exam.examples >= FEW:
            raise CannotApply("larger batches make steps steadier, whatever is wrong")
        if finding.code == "cannot-overfit-batch" and remedy == "activation" and self.exam.activations:
            raise CannotApply("there are non-linearities")
        return apply(
            remedy,
            bench.subject,
            self.exam,
            code=finding.code,
            where=finding.layers,
            training_steps=STEPS,
            batches=bench.batches,
            seed=bench.seed,
            progress=bench.progress,
        )

    def _factor_of_tuned(self) -> float:
        """By how much the rate is higher with which a copy learned the batch, where both are Adam's."""
        trial, own = trial_of(self.exam, "same"), self.exam.optimizer.get("lr")
        rate = None if trial is None else trial.best_rate
        adam_like = str(self.exam.optimizer.get("name")).startswith("Adam")
        if not (adam_like and rate and isinstance(own, float) and rate > 2 * PACES["a hundredfold"] * own > 0):
            raise CannotApply("the tuned rate is another optimiser's, or is about one of those tested before")
        return float(rate) / own

    def _compared(self, finding: Finding, remedy: str, treatment: Treatment) -> Experiment:
        trainee = self._trainee(treatment.subject)
        self.bench.train(trainee, STEPS)
        treated, untreated, steps = trainee.outcome, self.untreated, STEPS
        helps = better(treated, untreated)
        self._helped |= {remedy} if helps else set()
        later = self.later if helps else untreated
        proves = _proves(finding.code, treated, untreated, later)
        if proves and finding.code not in OF_STEPS and _falls_back(untreated, later):
            self.bench.train(trainee, steps := LONGER * STEPS)
            treated = trainee.outcome
            proves = _ahead(treated, later)
        if not proves and self._goes_on(finding, remedy, treated):
            steps, later = LONGER * STEPS, self.later
            self.bench.train(trainee, steps)
            treated = trainee.outcome
            proves = _ahead(treated, later) and (finding.code not in OF_SHORT_STEPS or _faster(treated, later))
        return _experiment(finding, remedy, treatment.words, (untreated, treated, later), proves, steps)

    def _goes_on(self, finding: Finding, remedy: str, treated: Outcome) -> bool:
        """Whether a treated copy is trained as long as the untreated one is at last."""
        if remedy in ("width", "batch-size") and _knows_nothing(self.untreated) and _knows_nothing(self.later):
            return True  # a treated one may start slowly, where this one never starts
        if (finding.code, remedy) == ("cannot-overfit-batch", "activation"):  # then there is more to be learned
            return True
        if remedy == "momentum":  # swings of more of it are as slow as it forgets: in 80 steps they only begin
            return True
        if finding.code in OF_SHORT_STEPS:  # what is slower than it could be is no fault, unless it is several times so
            return treated.finite and better(treated, self.untreated) and treated.value > self.later.value
        all_along = finding.code in OF_INPUTS or remedy == "batch-size"
        return all_along and better(treated, self.untreated)

    def _with_batch_statistics(self, finding: Finding) -> Experiment:
        """The network's answers by the running statistics and by the batch's, after either time."""
        if self.bench.split is None or not self.untreated.finite:
            raise CannotApply("there is no held-out data to go by running statistics on")
        untreated, treated = self._answers(by_batch=False), self._answers(by_batch=True)
        later, as_late = untreated, treated
        if (proves := _ahead(treated, untreated)) and self.later.finite:
            later, as_late = self._answers(by_batch=False), self._answers(by_batch=True)
            proves = _ahead(as_late, later)
        words = ("it goes by the statistics of the batch in evaluation, too",)
        return _experiment(finding, "batch-statistics", words, (untreated, treated, later), proves)

    def _answers(self, by_batch: bool) -> Outcome:
        """As the untreated copy stands: by the batch's statistics, or by running ones that had the time to follow.

        While weights move fast the running ones are behind, and a little longer training mends that.
        """
        copy, split = self._untreated.copy, self.bench.split
        assert copy is not None
        assert split is not None
        with copy.undisturbed(), copy.quietly(), np.errstate(all="ignore"):
            copy.model.train()
            for batch in () if by_batch else islice(self.bench.batches(), FOLLOWING):
                copy.output(batch)
            copy.model.train(by_batch)
            loss, score = measured(copy, split.held_out)
        return replace(self._untreated.outcome, loss=loss, score=score)

    def _trainee(self, subject: Subject) -> Trainee:
        """A copy of a network, and of its schedule as far as that is known."""
        trainee = self.bench.trainee(subject if self.tuned is None else adam(subject.copy(), self.tuned))
        if trainee.copy is not None:
            falling(trainee.copy, LONGER * STEPS)
        return trainee

    @property
    def untreated(self) -> Outcome:
        """What the network itself comes to."""
        if self._first is None:
            self.bench.train(self._untreated, STEPS)
            self._first = self._untreated.outcome
        return self._first

    @property
    def later(self) -> Outcome:
        """What it comes to in four times as many steps."""
        if self._later is None and self.untreated.finite:
            self.bench.train(self._untreated, LONGER * STEPS)
            self._later = self._untreated.outcome
        return self._later or self.untreated


def _paced(subject: Subject, pace: str, factor: float) -> Treatment:
    """The network with another learning rate of its own optimiser, and the warm-up of its schedule."""
    copy, warm_up = subject.copy(), float(subject.optimizer_options.get("warm_up", 1.0))
    rate = factor * float(copy.optimizer.param_groups[0]["lr"])
    paced = warming_up(own_optimizer(copy, rate), warm_up)
    return Treatment(paced, (f"learning rate {rate:.3g}, {pace} of it",), (), ())


def _proves(code: str, treated: Outcome, untreated: Outcome, later: Outcome) -> bool:
    """Whether a treated network is so far ahead that it must be that.

    Another loss may be meant to answer otherwise, as one that counts rare classes more, or for something that goes with
    the targets, such as their logarithm; longer or shorter steps, and others than the network's own, show where four
    times as many of them do not come to the same.
    """
    if code == "wrong-loss":
        worse = treated.score.value - later.score.value > CLEARLY  # it may lead to worse answers than one for all
        return (worse or _clearly(treated, later)) and not _answers_otherwise(later, treated)
    if code in OF_SHORT_STEPS and treated.score.name:
        return _ahead(treated, later) and _far_ahead(treated, later)
    slow = code not in OF_STEPS and _by_far(treated, untreated) and not _good(later)
    return slow or _ahead(treated, later)


def _experiment(
    finding: Finding,
    remedy: str,
    words: tuple[str, ...],
    outcomes: tuple[Outcome, Outcome, Outcome],
    proves: bool,
    steps: int = STEPS,
) -> Experiment:
    """What is kept of the outcomes: untreated, treated, and untreated after more steps."""
    scored = bool(outcomes[1].score.name)
    untreated, treated, later = (outcome.value if scored else outcome.cost for outcome in outcomes)
    noise = max(outcome.score.noise for outcome in outcomes)
    named = outcomes[1].score.name or "loss"
    return Experiment(
        finding.code, finding.layers, remedy, words, steps, named, untreated, treated, later, noise, proves
    )


def _clearly(treated: Outcome, other: Outcome) -> bool:
    return treated.finite and bool(treated.score.name) and treated.value - other.value > CLEARLY


def _far_ahead(treated: Outcome, other: Outcome) -> bool:
    """Whether what a treated network has ahead is much, or much of what the other one misses."""
    return _clearly(treated, other) or treated.value - other.value > MISSING * (1 - other.value)


def _faster(treated: Outcome, other: Outcome) -> bool:
    """The same of one that had as many steps: much of what it knows will do, for some data nobody gets right."""
    ahead, known = treated.value - other.value, treated.value - treated.score.blind
    return bool(treated.score.name) and (_far_ahead(treated, other) or ahead > MISSING * known)


def _answers_otherwise(one: Outcome, other: Outcome) -> bool:
    """Whether answers that are not as good as others are so for what they may be meant for."""
    if one.score.name == "R²":
        return one.score.otherwise > HALF * other.value
    return other.value - one.score.otherwise <= CLEARLY


def _by_far(treated: Outcome, untreated: Outcome) -> bool:
    return treated.finite and bool(treated.score.name) and treated.value - max(untreated.value, 0.0) > MUCH


def _falls_back(first: Outcome, later: Outcome) -> bool:
    """Whether a network loses again what it had learned: its steps may be at fault, whatever else is suspected."""
    return first.finite and (not later.finite or _ahead(first, later))


def _knows_nothing(outcome: Outcome) -> bool:
    """Whether its answers are better than one for all examples by no more than one of a dozen looks is by chance."""
    score = outcome.score
    return outcome.finite and bool(score.name) and outcome.value - score.blind <= SEVERAL * score.noise


def _good(outcome: Outcome) -> bool:
    return outcome.finite and bool(outcome.score.name) and outcome.value > ENOUGH


def _ahead(treated: Outcome, other: Outcome) -> bool:
    """Whether the treated network is better by more than chance, in its answers where these can be judged."""
    if not treated.score.name or not other.finite:
        return better(treated, other, less=HALF)
    noise = SEVERAL * max(treated.score.noise, other.score.noise)
    return treated.finite and treated.value - other.value > max(noise, NOTABLY)
