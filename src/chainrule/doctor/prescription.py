"""`prescribe` and `repair`: remedies tried on copies, measured against the untreated network, and ranked.

A remedy counts only where it measurably helps: the treated copy must learn more than the untreated one in a training
run of the same length on the same batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from chainrule.doctor.diagnosis import diagnose
from chainrule.doctor.examination import examine
from chainrule.doctor.finding import Finding, Severity
from chainrule.doctor.limits import Limits
from chainrule.doctor.measurements import Examination
from chainrule.doctor.printing import as_text
from chainrule.doctor.remedies import REMEDIES, CannotApply, Treatment, apply
from chainrule.doctor.report import Report
from chainrule.doctor.rules.words import number
from chainrule.doctor.scores import NONE, Score, score
from chainrule.doctor.subjects import DoctorError, Subject
from chainrule.doctor.through_time import through_time
from chainrule.doctor.training import Progress, Split, held_out_loss, loss_of, rehearsal, silent, split_of, train

STEPS = 100
"""Of each training run."""

LONGER = 4
"""If nothing helps in so many steps, all of it is tried once more with this many times as many."""

EVEN = 1.05
"""Of cures whose losses differ by no larger factor, the simplest is taken."""

LESS = 0.8
"""A loss of the same kind must fall to this share of the untreated copy's to count as better."""


@dataclass(frozen=True)
class Outcome:
    """A network after a short training run, and its gradient flow before it.

    Attributes:
        start, loss: before and after training, on held-out data where there are any, else on the batch; `loss` is NaN
            where training did not stay finite.
        score: of the answers on the same.
        flow: the error signal at the first layer over that at the last, before training; None where it is not known.
    """

    start: float
    loss: float
    score: Score
    flow: float | None

    @property
    def finite(self) -> bool:
        """Whether training went through."""
        return math.isfinite(self.loss)


@dataclass(frozen=True)
class Cure:
    """A remedy, or several, that was tried.

    Attributes:
        remedies: their names.
        codes: of the findings that ask for them.
        treatment: the cured network, untrained, with words and code.
        before, after: what the untreated network and this one came to.
        place: of its first remedy among those the findings ask for, causes before effects.
    """

    remedies: tuple[str, ...]
    codes: tuple[str, ...]
    treatment: Treatment
    before: Outcome
    after: Outcome
    place: int = 0

    @property
    def helped(self) -> bool:
        """Whether the cured network learned measurably more than the untreated one."""
        return better(self.after, self.before, self.same_loss)

    @property
    def same_loss(self) -> bool:
        """Whether its loss can be compared with the untreated network's."""
        return "loss" not in self.remedies

    @property
    def name(self) -> str:
        """The remedies in one word."""
        return " + ".join(self.remedies)

    @property
    def words(self) -> tuple[str, ...]:
        """What was done, a sentence each."""
        return self.treatment.words

    @property
    def code(self) -> str:
        """The same as Python code to paste."""
        return self.treatment.code


def better(one: Outcome, other: Outcome, same_loss: bool = True) -> bool:
    """Whether an outcome is better than another one by more than chance."""
    if not one.finite:
        return False
    if not other.finite:
        return one.loss < one.start
    noise = max(one.score.noise, other.score.noise)
    gain = _value(one) - _value(other)
    if one.score.name and gain > noise:
        return True
    level = not one.score.name or gain >= -noise / 2
    return same_loss and level and one.loss < LESS * other.loss


def _value(outcome: Outcome) -> float:
    return -1.0 if math.isnan(outcome.score.value) else outcome.score.value


@dataclass(frozen=True)
class Prescription:
    """Remedies that were tried, the best first.

    Attributes:
        cures: those that could be applied; first those that helped.
        refused: names of remedies that could not be applied, and why.
        untreated: what the network came to without any.
        steps: how long each was trained.
        measured_on: "held-out data" or "the batch".
    """

    cures: tuple[Cure, ...]
    refused: tuple[tuple[str, str], ...]
    untreated: Outcome
    steps: int
    measured_on: str

    @property
    def best(self) -> Cure | None:
        """The best one that helped; None where none did."""
        return next((cure for cure in self.cures if cure.helped), None)

    def __str__(self) -> str:
        return as_text(self)

    def __rich__(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        table.add_column("remedy", overflow="fold")
        for title in ("loss", self.untreated.score.name or "score", "gradient flow"):
            table.add_column(title, justify="right")
        table.add_column("helps")
        table.add_row("none", *_figures(self.untreated), "")
        for cure in self.cures:
            said = Text("yes", style="green") if cure.helped else Text("no", style="dim")
            table.add_row(cure.name, *_figures(cure.after), said)
        head = Text(f"After {self.steps} steps on a copy, measured on {self.measured_on}:")
        parts: list[RenderableType] = [head, "", table]
        for name, why in self.refused:
            parts.append(Text(f"{name} cannot be applied: {why}.", style="dim"))
        if self.best is None:
            return Group(*parts, "", Text("No remedy that was tried helps measurably.", style="yellow"))
        words = [Padding(Text(f"{line}."), (0, 0, 0, 2)) for line in self.best.words]
        return Group(*parts, "", Text(f"Best: {self.best.name}"), *words)


def _figures(outcome: Outcome) -> tuple[str, str, str]:
    quality = outcome.score
    written = "" if math.isnan(quality.value) else f"{quality.value:.1%}" if quality.name == "accuracy" else ""
    return (
        number(outcome.loss) if outcome.finite else "not finite",
        written or ("" if math.isnan(quality.value) else f"{quality.value:.3f}"),
        "" if outcome.flow is None else f"{outcome.flow:.1e}",
    )


# Trying -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bench:
    """Where remedies are tried: the same batches, seeds and held-out data for all."""

    subject: Subject
    split: Split | None
    steps: int
    seed: int
    progress: Progress

    def batches(self) -> Iterator[Any]:
        return cycle([self.subject.batch]) if self.split is None else self.split.batches(self.seed)

    def outcome(self, subject: Subject) -> Outcome:
        """Train a copy, measure it, and measure the gradient flow of the network before that."""
        flow = _flow(subject)
        try:
            with rehearsal(subject, self.seed) as copy:
                start = self._loss(copy)
                run = train(copy, self.batches(), self.steps, progress=self.progress)
                if not run.finite:
                    return Outcome(start, math.nan, NONE, flow)
                return Outcome(start, self._loss(copy), self._score(copy), flow)
        except DoctorError:
            return Outcome(math.nan, math.nan, NONE, flow)

    def _loss(self, copy: Subject) -> float:
        with copy.undisturbed():
            return loss_of(copy) if self.split is None else held_out_loss(copy, self.split.held_out)

    def _score(self, copy: Subject) -> Score:
        with copy.undisturbed():
            if self.split is None:
                return score(copy, copy.batch)
            copy.model.eval()
            return score(copy, self.split.held_out)

    def treated(self, name: str, subject: Subject, exam: Examination, findings: Sequence[Finding]) -> Treatment:
        """A remedy applied for findings, at the places they name."""
        everywhere = any(finding.code in _EVERYWHERE or not _places(finding) for finding in findings)
        where = () if everywhere else tuple(dict.fromkeys(path for f in findings for path in _places(f)))
        return apply(
            name,
            subject,
            exam,
            code=findings[0].code,
            where=where,
            training_steps=self.steps,
            batches=self.batches,
            seed=self.seed,
            progress=self.progress,
        )


_EVERYWHERE = frozenset({"vanishing-gradient", "exploding-gradient", "missing-normalization"})
"""Findings about the way through all layers: those named are only where it shows most."""


def _places(finding: Finding) -> tuple[str, ...]:
    return finding.layers or ((finding.layer,) if finding.layer else ())


def _flow(subject: Subject) -> float | None:
    """The error signal at the first layer, or the first time step, over that at the last."""
    try:
        in_time = [t.norms[0] / t.norms[-1] for t in through_time(subject)[0] if t.norms[-1]]
        signals = [layer.error_signal for layer in examine(subject).layers if layer.error_signal is not None]
    except DoctorError:
        return None
    through_layers = [signals[0] / signals[-1]] if len(signals) > 1 and signals[-1] else []
    return next(iter([*in_time, *through_layers]), None)


def _asked_for(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Remedies by name with the findings that ask for them: those of causes before those of effects, in their order."""
    serious = [f for f in findings if f.severity >= Severity.WARNING] or list(findings)
    asked: dict[str, list[Finding]] = {}
    for finding in sorted(serious, key=lambda f: bool(f.follows_from)):
        for name in finding.remedies:
            asked.setdefault(name, []).append(finding)
    return asked


def prescribe(report: Report, *, steps: int = STEPS, seed: int = 0, progress: Progress | None = None) -> Prescription:
    """Try every remedy that the findings ask for, each on a copy, then the best two together, and rank them.

    Each copy is trained for as many steps as the untreated network, on the same batches: of the data, of which a
    quarter is held out to measure on, or else of the report's batch again and again.

    Args:
        report: what was found; its network is left as it was.
        steps: of each training run.
        seed: of whatever is drawn.
        progress: `progress(what, done, of)`, told of every step.

    Raises:
        DoctorError: the report was read from a file, or the network cannot be copied.
    """
    if report.subject is None:
        raise DoctorError("this report was read from a file: there is no network in it to try remedies on")
    progress = progress or silent
    subject = _with_optimizer(report.subject)
    split = split_of(subject, seed=seed)
    exam = _timed(report.examination, subject)
    asked = _asked_for(report.findings)
    for length in (steps, LONGER * steps):
        bench = _Bench(subject, split, length, seed, progress)
        untreated = bench.outcome(subject)
        cures: list[Cure] = []
        refused: dict[str, str] = {}
        for done, (name, findings) in enumerate(asked.items()):
            progress(f"trying {name}", done, len(asked))
            _try(bench, name, subject, exam, findings, untreated, cures, refused)
        if not cures or any(cure.helped for cure in cures):
            break
    _combine(bench, asked, untreated, cures)
    on = "the batch" if split is None else "held-out data"
    return Prescription(tuple(_ranked(cures)), tuple(refused.items()), untreated, length, on)


def _with_optimizer(subject: Subject) -> Subject:
    """The subject itself, or, where no optimiser was given, a copy with Adam to try remedies with."""
    if subject.optimizer is not None:
        return subject
    copy = subject.copy()
    return copy.with_(optimizer=copy.make_optimizer("Adam", lr=1e-3))


def _timed(exam: Examination, subject: Subject) -> Examination:
    """With measurements through time, which remedies for recurrent layers go by."""
    return exam if exam.time else replace(exam, time=through_time(subject)[0])


def _try(
    bench: _Bench,
    name: str,
    subject: Subject,
    exam: Examination,
    findings: Sequence[Finding],
    untreated: Outcome,
    cures: list[Cure],
    refused: dict[str, str],
) -> None:
    try:
        treatment = bench.treated(name, subject, exam, findings)
    except (CannotApply, DoctorError) as error:
        refused[name] = str(error).rstrip(".")
        return
    codes = tuple(dict.fromkeys(finding.code for finding in findings))
    cures.append(Cure((name,), codes, treatment, untreated, bench.outcome(treatment.subject), len(cures)))


def _ranked(cures: Sequence[Cure]) -> list[Cure]:
    """The best answers first; of equally good ones the lowest loss is at the top, of equally low ones the simplest."""
    ranked = sorted(cures, key=lambda cure: (not cure.helped, -round(_value(cure.after), 2), _finite_loss(cure)))
    helped = [cure for cure in ranked if cure.helped]
    if not helped:
        return ranked
    first = helped[0].after
    level = [cure for cure in helped if _value(first) - _value(cure.after) <= first.score.noise / 2]
    lowest = min(level, key=_finite_loss) if all(cure.same_loss for cure in level) else level[0]
    simplest = min(
        (cure for cure in level if cure is lowest or _finite_loss(cure) <= EVEN * _finite_loss(lowest)),
        key=lambda cure: (len(cure.remedies), cure.place),
    )
    return [simplest, *(cure for cure in ranked if cure is not simplest)]


def _finite_loss(cure: Cure) -> float:
    return cure.after.loss if cure.after.finite else math.inf


_ALIKE = {"usual-initialization": "initialization", "optimizer": "learning-rate"}
"""Remedies that undo each other, by the one they are like."""


def _combine(bench: _Bench, asked: dict[str, list[Finding]], untreated: Outcome, cures: list[Cure]) -> None:
    """The best one that helped with the next one of another kind, and with a learning rate that fits it."""
    helped = [cure for cure in _ranked(cures) if cure.helped]
    if not helped:
        return
    first = helped[0]
    others = [cure.remedies[0] for cure in helped[1:] if not _alike(cure, first)][:1]
    if not _alike_name("learning-rate", first):
        others.append("learning-rate")
    for second in dict.fromkeys(others):
        together = _together(bench, asked, first, second)
        if together is not None:
            codes = tuple(dict.fromkeys([*first.codes, *(f.code for f in asked.get(second, []))]))
            names = tuple(sorted((*first.remedies, second), key=list(REMEDIES).index))
            cures.append(Cure(names, codes, together, untreated, bench.outcome(together.subject), first.place))


def _alike(one: Cure, other: Cure) -> bool:
    return any(_alike_name(name, other) for name in one.remedies)


def _alike_name(name: str, cure: Cure) -> bool:
    kind = _ALIKE.get(name, name)
    return any(_ALIKE.get(other, other) == kind for other in cure.remedies)


def _together(bench: _Bench, asked: dict[str, list[Finding]], cure: Cure, second: str) -> Treatment | None:
    """A remedy on top of another one, in the order of `REMEDIES`; None where they do not go together."""
    order = sorted((cure.remedies[0], second), key=list(REMEDIES).index)
    treatment = cure.treatment
    try:
        if order[0] != cure.remedies[0]:
            exam = _timed(examine(bench.subject), bench.subject)
            treatment = bench.treated(order[0], bench.subject, exam, _findings(asked, order[0]))
        exam = _timed(examine(treatment.subject), treatment.subject)
        after = bench.treated(order[1], treatment.subject, exam, _findings(asked, order[1]))
    except (CannotApply, DoctorError):
        return None
    return joined(treatment, after)


def _findings(asked: dict[str, list[Finding]], name: str) -> list[Finding]:
    return asked.get(name) or [Finding("slow-convergence", "", Severity.WARNING, {}, "")]


def joined(first: Treatment, second: Treatment) -> Treatment:
    """Two treatments, one after the other, as one."""
    return Treatment(
        second.subject,
        first.words + second.words,
        first.definitions + second.definitions,
        first.statements + second.statements,
    )


# Repairing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Repair:
    """What `repair` made of a network.

    Attributes:
        model: the cured network, untrained; the user's own where nothing was done.
        optimizer: over its parameters.
        loss_fn: the loss to train it with.
        clip_norm: the norm to clip gradients to in each step; None for no clipping.
        cured: whether a remedy helped, or nothing was wrong.
        summary: the outcome in a sentence.
        words: what was done, a sentence each.
        code: the same as Python code to paste.
        report: what was found.
        prescriptions: what was tried, round by round.
    """

    model: Any
    optimizer: Any
    loss_fn: Callable
    clip_norm: float | None
    cured: bool
    summary: str
    words: tuple[str, ...]
    code: str
    report: Report
    prescriptions: tuple[Prescription, ...]

    def __str__(self) -> str:
        return as_text(self)

    def __rich__(self) -> RenderableType:
        parts: list[RenderableType] = [Text(self.summary, style="green" if self.cured else "yellow")]
        parts += [Padding(Text(f"{line}."), (0, 0, 0, 2)) for line in self.words]
        for prescription in self.prescriptions:
            parts += ["", prescription]
        if self.code:
            parts += ["", Syntax(self.code, "python", background_color="default")]
        return Group(*parts)


ROUNDS = 3


def repair(
    model: Any,
    loss_fn: Callable,
    batch: Any,
    *,
    optimizer: Any = None,
    data: Any = None,
    clip_norm: float | None = None,
    limits: Limits | None = None,
    steps: int = STEPS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Repair:
    """Diagnose a network, try the remedies, and return the best cured copy with all that is needed to train it.

        repaired = cr.repair(model, nn.functional.cross_entropy, (x, y), optimizer=optimizer, data=(X, Y))
        print(repaired)
        model, optimizer, loss_fn = repaired.model, repaired.optimizer, repaired.loss_fn

    After the best remedy the cured network is diagnosed again, and treated again for what was hidden before, three
    times at most. The user's network is left as it was.

    Args:
        model, loss_fn, batch, optimizer, data, clip_norm, limits: as for `diagnose`.
        steps: of each training run on a copy.
        seed: of whatever is drawn.
        progress: `progress(what, done, of)`, told of every step.

    Raises:
        DoctorError: the network cannot be examined or copied.
    """
    told = progress or silent
    options = {"optimizer": optimizer, "data": data, "clip_norm": clip_norm, "limits": limits, "seed": seed}
    first = report = diagnose(model, loss_fn, batch, **options, progress=told)
    if report.healthy:  # what only shows in a longer training run
        first = report = diagnose(model, loss_fn, batch, **options, progress=told, thorough=True)
    done: Treatment | None = None
    tried: list[Prescription] = []
    known: set[str] = set()
    for _ in range(ROUNDS):
        serious = {finding.code for finding in report.findings if finding.severity >= Severity.WARNING}
        if not serious - known:
            break
        known |= serious
        prescription = prescribe(report, steps=steps, seed=seed, progress=progress)
        tried.append(prescription)
        best = prescription.best
        if best is None:
            break
        done = best.treatment if done is None else joined(done, best.treatment)
        report = _again(done.subject, limits)
    if done is None:
        return Repair(
            model,
            optimizer,
            loss_fn,
            clip_norm,
            first.healthy,
            _not_repaired(first, tried),
            (),
            "",
            first,
            tuple(tried),
        )
    cured = done.subject
    summary = f"Repaired {_named(first)}: {_gain(tried)}."
    return Repair(
        cured.model, cured.optimizer, cured.loss_fn, cured.clip_norm, True, summary, done.words, done.code, first,
        tuple(tried),
    )  # fmt: skip


def _again(subject: Subject, limits: Limits | None) -> Report:
    return diagnose(
        subject.model,
        subject.loss_fn,
        subject.batch,
        optimizer=subject.optimizer,
        data=subject.data,
        clip_norm=subject.clip_norm,
        limits=limits,
    )


def _named(report: Report) -> str:
    codes = dict.fromkeys(f.code for f in report.findings if f.severity >= Severity.WARNING and not f.follows_from)
    return ", ".join(codes) or "the network"


def _gain(tried: Sequence[Prescription]) -> str:
    last = next(p for p in reversed(tried) if p.best is not None)
    before, after = tried[0].untreated, last.best.after  # type: ignore[union-attr]
    name = after.score.name or "loss"
    shown = [
        "not finite" if not o.finite else f"{o.score.value:.1%}" if name == "accuracy" else number(o.score.value)
        for o in (before, after)
    ]
    if name == "loss":
        shown = [number(before.loss), number(after.loss)]
    return f"{name} {shown[1]} after {last.steps} steps instead of {shown[0]}, on {last.measured_on}"


def _not_repaired(report: Report, tried: Sequence[Prescription]) -> str:
    if report.healthy:
        return "Nothing to repair: nothing was found that hinders learning."
    helpless = [f for f in report.findings if f.severity >= Severity.WARNING and not f.remedies]
    if helpless:
        return f"Cannot repair {helpless[0].code}: it is in your code or your data. {helpless[0].cause}"
    if tried and not tried[0].cures and tried[0].refused:
        return f"Cannot repair {_named(report)}: {'; '.join(f'{n}: {why}' for n, why in tried[0].refused)}."
    return f"Cannot repair {_named(report)}: no remedy that was tried helps measurably."
