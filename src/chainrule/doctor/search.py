"""The search for a cure: from the remedies that findings ask for to the best combination of them.

Greedy: the best remedy is kept, and others are put on top of it for as long as that measurably helps. At last the
length of the steps is fitted to what has become of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from chainrule.doctor.bench import LEGS, Bench, Outcome, Trainee, better, front, order, with_flow
from chainrule.doctor.cure import EVEN, Cure, joined, ranked
from chainrule.doctor.examination import examine
from chainrule.doctor.finding import Finding, Severity
from chainrule.doctor.limits import Limits
from chainrule.doctor.measurements import Examination
from chainrule.doctor.remedies import CannotApply, Treatment, apply
from chainrule.doctor.remedies.steps import paces
from chainrule.doctor.report import Report
from chainrule.doctor.rules import judge
from chainrule.doctor.subjects import DoctorError, Subject
from chainrule.doctor.through_time import through_time
from chainrule.doctor.training import Progress, split_of

LONGER = 4
"""If nothing helps, the best ones are trained on to this many times as many steps."""

MOST = 4
"""So many remedies are put on top of each other at most, before the length of the steps is looked at."""

TWICE, FITTED = 2, 3
"""Other learning rates and optimisers are judged after so many times the steps: what is fastest at first is often too
fast later. So many of them are trained as long as that.
"""

MUCH_LESS, WORTH = 0.5, 0.03
"""What nothing asked for must bring the loss to this share, or gain this much of the score."""

NAMED = 2
"""So many of the remedies that findings ask for get these further steps whatever their first ones brought."""

FAR_AHEAD = 0.1
"""A cure whose score is so much higher than the untreated network's is not overtaken by it in the next steps."""

FAR_BEHIND = 0.5
"""A network whose score is so much lower than a cured one's is on a plateau, and nobody knows how long it lasts."""

PACE = ("momentum", "learning-rate", "optimizer")
"""What fits the length of the steps; it comes last."""

ADAM = 3e-3
"""The learning rate of Adam for networks that diverge with the optimiser they have."""

FEW = 4
"""So many are tried at most on top of one that helped."""

GENERAL = (
    "loss", "usual-normalization", "normalization", "initialization", "usual-initialization", "activation", "residual",
    "regularization", "leaving-out", "width", "lasting-state", "input-scaling", "input-whitening",
    "input-logarithm", "forget-gate-bias", "bounded-state", "clipping", "batch-size",
)  # fmt: skip
"""What is tried beside other learning rates where nothing is found, or nothing that the findings ask for helps enough.
"""


@dataclass
class _Tried:
    """A cure, and the copy it was tried on."""

    cure: Cure
    trainee: Trainee


@dataclass
class Search:
    """The way from an untreated network to a cured one.

    Attributes:
        bench: where remedies are tried.
        limits: for the judgement of networks that are half cured.
        exam: what was measured of the untreated network.
        asked: the remedies that the findings ask for, by name.
        silent: whether nothing was found that hinders learning.
        untreated: a copy without any remedy.
        tried: the cures so far.
        refused: names of remedies that could not be applied, and why.
        best: the best cure so far; None where none helped.
        stages: the best ones one after another, each with one remedy more.
    """

    bench: Bench
    limits: Limits
    exam: Examination
    asked: dict[str, list[Finding]]
    silent: bool
    untreated: Trainee
    tried: list[_Tried] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    best: Cure | None = None
    stages: list[Cure] = field(default_factory=list)

    @classmethod
    def of(cls, report: Report, subject: Subject, steps: int, seed: int, progress: Progress) -> Search:
        """A search for what cures a network that was reported on; the untreated one is trained."""
        subject = _with_optimizer(subject)
        bench = Bench(subject, split_of(subject, seed=seed), steps, seed, progress)
        untreated = bench.trainee(subject)
        bench.train(untreated, steps)
        untreated.outcome = with_flow(untreated)
        asked = {} if report.healthy else _asked_for(report.findings)
        return cls(bench, report.limits, _timed(report.examination, subject), asked, report.healthy, untreated)

    def run(self) -> None:
        """Find the best cure."""
        of_pace = next(iter(self.asked), "") in PACE
        found = not self.silent and self._improve([*self.asked], with_paces=of_pace)
        seeming = self.best
        if found and seeming is not None and seeming.after.tells_nothing:
            found, self.best = False, None  # however much less its answers cost
        if not found and not self.untreated.outcome.perfect and not self._in_general():
            self.best = self.best or self._relief() or seeming
            return
        for _ in range(MOST - 1):
            if self.best is None or self.best.after.perfect or not self._improve(self._companions(self.best)):
                break
        if found and (base := self.best) is not None and not base.after.perfect:
            lasts = self._improve(self._general()) and self._lasts(self.best, self._trainee(base), (TWICE,))
            self.best = self.best if lasts else base
        if self.best is not None:
            self.best = self._simplest()
            if not self.best.after.perfect:
                self._finish(self.best)
            self._stay_ahead(self.best)

    def _relief(self) -> Cure | None:
        """A cure after which nothing is found any more of what one look at the network shows, where neither has learned
        anything yet: how long that takes is not known, but no gradient that explodes or dies out makes it shorter.
        """
        if self.silent or not (self.untreated.outcome.tells_nothing or not self.untreated.outcome.finite):
            return None
        before = self._seen_of(self.bench.subject)
        alone = [e.cure for e in self.tried if len(e.cure.remedies) == 1 and e.cure.remedies[0] in self.asked]
        fit = [cure for cure in alone if cure.after.finite and not better(self.untreated.outcome, cure.after)]
        relieved = [cure for cure in fit if before and not self._seen_of(cure.treatment.subject)]
        return min(relieved, key=lambda cure: cure.after.cost, default=None)

    def _seen_of(self, subject: Subject) -> list[Finding]:
        """What one look at a network finds, without training it."""
        found = judge(_timed(examine(subject), subject), self.limits)
        return [finding for finding in found if finding.severity >= Severity.WARNING]

    def _stay_ahead(self, best: Cure) -> None:
        """Give up a cure that was a little ahead of the untreated network, and is so no more when both came to rest."""
        shown = self.untreated.outcome
        if not shown.finite or not best.same_loss or best.after.value > shown.value + FAR_AHEAD:
            return
        cured, untreated = (self._ended(trainee, TWICE) for trainee in (self._trainee(best), self.untreated))
        if not better(cured.outcome, untreated.outcome):
            self.best = None
        self.untreated.outcome = shown

    def _simplest(self) -> Cure:
        """The first stage that no later one is still better than after twice the steps."""
        assert self.best is not None
        stages = [stage for stage in self.stages if stage.remedies == self.best.remedies[: len(stage.remedies)]]
        trainees = [self._trainee(cure) for cure in stages]
        for trainee in trainees if len(stages) > 1 else ():
            self.bench.train(trainee, TWICE * self.bench.steps)
        for k, cure in enumerate(stages):
            further = [stage.remedies[len(cure.remedies) :] for stage in stages]
            outdone = [
                better(trainees[j].outcome, trainees[k].outcome, "loss" not in further[j])
                for j in range(k + 1, len(stages))
            ]
            if not any(outdone):
                return cure
        return self.best

    def _in_general(self) -> bool:
        """Try what often helps, in all layers, together with other lengths of the steps. Whether to go on from there:
        what only shows in a longer run costs too much to be improved on.
        """
        found = self._improve(self._general(), everywhere=True, with_paces=True)
        if found and self.best is not None and self.best.after.tells_nothing:
            found, self.best = False, None
        if not found:
            if self._longer() and self.best is not None and not self.best.after.perfect:
                self._finish(self.best, times=1)
            return False
        if self.silent and not self._lasts(self.best, self.bench.trainee(self.untreated.subject), (TWICE, LONGER)):
            self.best = None
        return self.best is not None

    def _general(self) -> list[str]:
        """General remedies that were not tried at all layers yet, and that do not undo the best cure so far."""
        placed = [name for name, findings in self.asked.items() if _where(findings)]
        untried = [name for name in GENERAL if name in placed or name not in self.asked]
        best = self.best
        return untried if best is None else [n for n in untried if not _alike(n, best) and n not in self.refused]

    def _lasts(self, cure: Cure | None, before: Trainee, times: Sequence[int]) -> bool:
        """Whether a cure that nothing asked for makes as much of a difference as a fault does, and still does later:
        most healthy networks learn a little faster with one remedy or other, and are none the better for it. One that
        is far behind may catch up as well, but is not waited for.
        """
        if cure is None:
            return False
        after = self._trainee(cure)
        for steps in (factor * self.bench.steps for factor in times):
            for trainee in (before, after):
                self.bench.train(trainee, steps)
            if not _worth(after.outcome, before.outcome, cure.remedies[-1] != "loss"):
                return False
            if after.outcome.value - before.outcome.value > FAR_BEHIND:
                return True
        return True

    def _trainee(self, cure: Cure) -> Trainee:
        """The copy that a cure was tried on."""
        return next(entry.trainee for entry in self.tried if entry.cure.treatment is cure.treatment)

    @property
    def cures(self) -> list[Cure]:
        """All that were tried, the best first; of several learning rates with the same remedies only the best."""
        seen = ranked([entry.cure for entry in self.tried])
        first = [] if self.best is None else [cure for cure in seen if cure.treatment is self.best.treatment]
        kept: dict[str, Cure] = {}
        for cure in [*first, *seen]:
            kept.setdefault(cure.name, cure)
        return list(kept.values())

    # One round ---------------------------------------------------------------------------------------------------

    def _improve(self, names: Sequence[str], everywhere: bool = False, with_paces: bool = False) -> bool:
        """Try remedies on top of the best cure so far, and keep the best that is better. Whether there is one."""
        base = self.best
        subject = self.bench.subject if base is None else base.treatment.subject
        exam = self.exam if base is None else _timed(examine(subject), subject)
        now = {} if base is None else _asked_for(judge(exam, self.limits))
        made = []
        for done, name in enumerate(names):
            self.bench.progress(f"trying {name}", done, len(names))
            findings = now.get(name) or self.asked.get(name) or []
            findings = [_STAND_INS.get(name, _IN_GENERAL)] if everywhere or not findings else findings
            try:
                treatment = self._treated(name, subject, exam, findings)
            except (CannotApply, DoctorError) as error:
                if base is None:
                    self.refused[name] = str(error).rstrip(".")
            else:
                made.append(self._entry(name, treatment, findings))
        if with_paces:
            made += [self._entry(name, treatment, []) for name, treatment in paces(subject, far=everywhere)]
        if everywhere:
            made += self._named_paced()
        self._race([*made, *(again := self._with_adam(made))])
        made += again
        before = self.untreated.outcome if base is None else base.after
        found = [e.cure for e in made if better(e.cure.after, before, e.cure.remedies[-1] != "loss")]
        if found:
            self.best = self._ahead(found)
            self.stages.append(self.best)
        return bool(found)

    def _named_paced(self) -> list[_Tried]:
        """What the first findings ask for, with other lengths of the steps: at the own one it may bring nothing."""
        return [
            self._entry(name, treatment, [], entry.cure)
            for entry in self._named()
            for name, treatment in paces(entry.cure.treatment.subject)
        ]

    def _named(self) -> list[_Tried]:
        """The first remedies that findings ask for, each by itself."""
        first = [name for name in self.asked if name not in self.refused][:NAMED]
        return [entry for name in first for entry in self.tried if entry.cure.remedies == (name,)]

    def _ahead(self, cures: Sequence[Cure]) -> Cure:
        """The best of several; where another one has the lowest loss, whichever is better after twice the steps."""
        first = ranked(cures)[0]
        rivals = [cure for cure in cures if cure.same_loss == first.same_loss and cure.after.steps == first.after.steps]
        lowest = min(rivals, key=lambda cure: cure.after.cost)
        if first.after.cost <= EVEN * lowest.after.cost:
            return first
        for cure in (first, lowest):
            self.bench.train(self._trainee(cure), TWICE * self.bench.steps)
        return min((first, lowest), key=lambda cure: order(self._trainee(cure).outcome))

    def _with_adam(self, entries: Sequence[_Tried]) -> list[_Tried]:
        """Those that diverge once more with Adam: the steps may be too long for what has become of the network."""
        made = []
        for entry in entries:
            self.bench.train(entry.trainee, int(LEGS[0] * self.bench.steps))
            outcome = entry.trainee.outcome
            if (outcome.finite and outcome.loss <= outcome.start) or entry.cure.remedies[-1] in PACE:
                continue
            for name, treatment in paces(entry.cure.treatment.subject, (ADAM,))[-1:]:
                again = self._entry(name, treatment, [], entry.cure)
                made += [again] if name == "optimizer" else []
        return made

    def _finish(self, base: Cure, times: int = TWICE) -> None:
        """Train on the best cure, those that came close to it, and it with other learning rates and with Adam, until
        they have had so many times the steps.

        If they are to have more, they come to rest in the last of them, as at the end of a training: what still swings
        may be ahead or behind by chance, and long steps come further.
        """
        trained = [entry for entry in self.tried if entry.cure.after.steps == self.bench.steps]
        rivals = [entry for entry in trained if self._rivals(entry.cure)]
        made = [self._entry(name, treatment, []) for name, treatment in paces(base.treatment.subject)]
        self._race(made)
        entries = [*made, *rivals]
        ahead = front([entry.trainee for entry in entries], FITTED)
        trainees = [self._trainee(base), *ahead]
        ended = [self._ended(trainee, times) for trainee in trainees]
        chosen = trainees[ended.index(_best(ended[1:], ended[0]))]
        self.best = next((entry.cure for entry in entries if entry.trainee is chosen), base)

    def _ended(self, trainee: Trainee, times: int) -> Trainee:
        """A copy of the same network that has come to rest after so many times the steps; itself after no more."""
        steps = self.bench.steps
        if times == 1:
            self.bench.train(trainee, steps)
            return trainee
        if trainee.outcome.steps != steps:
            trainee = self.bench.trainee(trainee.subject)
            self.bench.train(trainee, steps)
        self.bench.cool(trainee, times * steps)
        return trainee

    def _rivals(self, cure: Cure) -> bool:
        """Whether a cure helped too, can be compared with the best one, and was not clearly outdone by it."""
        best = self.best
        if best is None or cure is best or not cure.helped or cure.same_loss != best.same_loss:
            return False
        return not better(best.after, cure.after)

    def _entry(self, name: str, treatment: Treatment, findings: Sequence[Finding], base: Cure | None = None) -> _Tried:
        """A remedy on top of a cure, by default the best so far, ready to be trained."""
        base = base or self.best
        codes = [finding.code for finding in findings if finding.cause]
        trainee = self.bench.trainee(treatment.subject)
        cure = Cure((name,), tuple(codes), treatment, self.untreated.outcome, trainee.outcome, len(self.tried))
        if base is not None:
            cure = replace(
                cure,
                remedies=(*base.remedies, name),
                codes=tuple(dict.fromkeys([*base.codes, *codes])),
                treatment=joined(base.treatment, treatment),
                place=base.place,
            )
        self.tried.append(_Tried(cure, trainee))
        return self.tried[-1]

    def _treated(self, name: str, subject: Subject, exam: Examination, findings: Sequence[Finding]) -> Treatment:
        """A remedy applied for findings, at the places they name."""
        return apply(
            name,
            subject,
            exam,
            code=findings[0].code,
            where=_where(findings),
            training_steps=self.bench.steps,
            batches=lambda: self.bench.batches(subject),
            seed=self.bench.seed,
            progress=self.bench.progress,
        )

    def _race(self, entries: Sequence[_Tried]) -> None:
        """Train side by side those whose losses can be compared, and by themselves those that have another one."""
        others = [entry for entry in entries if entry.cure.remedies[-1] == "loss"]
        for together in ([entry for entry in entries if entry not in others], others):
            self.bench.race([entry.trainee for entry in together], same_loss=together is not others)
        self._note(entries)

    def _note(self, entries: Sequence[_Tried]) -> None:
        """What the copies came to becomes what the cures came to."""
        for entry in entries:
            if entry.trainee.outcome.steps == self.bench.steps:
                entry.trainee.outcome = with_flow(entry.trainee)
            entry.cure = replace(entry.cure, before=self.untreated.outcome, after=entry.trainee.outcome)

    def _longer(self) -> bool:
        """Train the best ones on, in case it only shows later that they help. Whether it does.

        What the first finding asks for is among them: a network that knows nothing yet cannot show by its loss which
        remedy will tell.
        """
        named = self._named()
        others = front([entry.trainee for entry in self.tried if entry not in named], FITTED)
        if not self.tried:
            return False
        for trainee in others:
            self.bench.train(trainee, TWICE * self.bench.steps)
        ahead = [*(entry.trainee for entry in named), *front(others, max(2 - len(named), 1))]
        self.bench = replace(self.bench, steps=LONGER * self.bench.steps)
        for trainee in (self.untreated, *ahead):
            self.bench.train(trainee, self.bench.steps)
        self._note(self.tried)
        before = self.untreated.outcome
        helped = [entry.cure for entry in self.tried if entry.trainee in ahead and entry.cure.helped]
        if self.silent:
            helped = [cure for cure in helped if _worth(cure.after, before, cure.same_loss)]
        helped = [cure for cure in helped if not cure.after.tells_nothing] or helped
        self.best = ranked(helped)[0] if helped else None
        return bool(helped)

    def _companions(self, best: Cure) -> list[str]:
        """What to try on top of a cure: what its network asks for now, what helped beside it, what else was asked."""
        now = _asked_for(judge(examine(best.treatment.subject), self.limits))
        beside = [cure.remedies[0] for cure in ranked([entry.cure for entry in self.tried]) if cure.helped]
        names = dict.fromkeys([*now, *beside, *self.asked])
        return [name for name in names if not _alike(name, best) and name not in (*PACE, *self.refused)][:FEW]


def _best(others: Sequence[Trainee], base: Trainee) -> Trainee:
    """The best of several changes of the steps, or none where that is as good."""
    first = min([base, *others], key=lambda trainee: order(trainee.outcome))
    level = order(base.outcome)[0] == order(first.outcome)[0] and base.outcome.cost <= EVEN * first.outcome.cost
    return base if level else first


def _worth(after: Outcome, before: Outcome, same_loss: bool) -> bool:
    """Whether a gain is as large as what a fault costs."""
    return better(after, before, same_loss, less=MUCH_LESS, gain=WORTH)


# What findings ask for ----------------------------------------------------------------------------------------------

_EVERYWHERE = frozenset({"vanishing-gradient", "exploding-gradient", "missing-normalization"})
"""Findings about the way through all layers: those named are only where it shows most."""

_IN_GENERAL = Finding("slow-convergence", "", Severity.WARNING, {}, "")
"""Stands for the finding where a remedy is tried that none asks for."""

_STAND_INS = {
    "loss": replace(_IN_GENERAL, code="wrong-loss"),
    "activation": replace(_IN_GENERAL, code="cannot-overfit-batch"),
}
"""The same for remedies that do more for another finding."""

_KINDS = {
    "usual-initialization": "initialization",
    "usual-normalization": "normalization",
    "bounded-state": "initialization",
    "lasting-state": "width",
    "optimizer": "learning-rate",
    "input-whitening": "input-scaling",
    "input-logarithm": "input-scaling",
}
"""Remedies that undo each other, by the one they are like."""


def _alike(name: str, cure: Cure) -> bool:
    kind = _KINDS.get(name, name)
    return any(_KINDS.get(other, other) == kind for other in cure.remedies)


def _where(findings: Sequence[Finding]) -> tuple[str, ...]:
    """The places that all of the findings name; empty for the whole network."""
    if any(finding.code in _EVERYWHERE or not _places(finding) for finding in findings):
        return ()
    return tuple(dict.fromkeys(path for finding in findings for path in _places(finding)))


def _places(finding: Finding) -> tuple[str, ...]:
    return finding.layers or ((finding.layer,) if finding.layer else ())


def _asked_for(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Remedies by name with the findings that ask for them: those of causes before those of effects, in their order."""
    serious = [f for f in findings if f.severity >= Severity.WARNING] or list(findings)
    asked: dict[str, list[Finding]] = {}
    for finding in sorted(serious, key=lambda f: bool(f.follows_from)):
        for name in finding.remedies:
            asked.setdefault(name, []).append(finding)
    return asked


def _with_optimizer(subject: Subject) -> Subject:
    """The subject itself, or, where no optimiser was given, a copy with Adam to try remedies with."""
    if subject.optimizer is not None:
        return subject
    copy = subject.copy()
    return copy.with_(optimizer=copy.make_optimizer("Adam", lr=1e-3))


def _timed(exam: Examination, subject: Subject) -> Examination:
    """With measurements through time, which remedies for recurrent layers go by."""
    return exam if exam.time else replace(exam, time=through_time(subject)[0])
