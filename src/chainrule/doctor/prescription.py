"""`prescribe` and `repair`: remedies tried on copies, measured against the untreated network, and ranked.

A remedy counts only where it measurably helps: the treated copy must learn more than the untreated one in a training
run of the same length on the same batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from chainrule.doctor.bench import Outcome
from chainrule.doctor.cure import Cure
from chainrule.doctor.diagnosis import diagnose
from chainrule.doctor.finding import Finding, Severity
from chainrule.doctor.limits import Limits
from chainrule.doctor.pairing import Pairing, pairing
from chainrule.doctor.printing import as_text
from chainrule.doctor.remedies.cooldown import cooldown
from chainrule.doctor.remedies.tools import tools_for
from chainrule.doctor.report import Report
from chainrule.doctor.rules.words import number
from chainrule.doctor.search import Search
from chainrule.doctor.statistics import as_numpy
from chainrule.doctor.subjects import DoctorError, leaves, parts
from chainrule.doctor.training import Progress, length, silent, take
from chainrule.doctor.vocabulary import canonical

STEPS = 100
"""Of each training run."""


@dataclass(frozen=True)
class Prescription:
    """Remedies that were tried, the best first.

    Attributes:
        cures: those that could be applied; first those that helped.
        refused: names of remedies that could not be applied, and why.
        untreated: what the network came to without any.
        steps: how long each was trained.
        measured_on: "held-out data" or "the batch".
        best: the best one that helped; where none did because nothing is learned in so many steps, one that takes away
            what was found; else None, also where nothing was found and none is worth it.
    """

    cures: tuple[Cure, ...]
    refused: tuple[tuple[str, str], ...]
    untreated: Outcome
    steps: int
    measured_on: str
    best: Cure | None

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
        head = Text(f"Best: {self.best.name}")
        if not self.best.helped:
            head = Text(f"{_UNDECIDED}. With {self.best.name} nothing is found any more:", style="yellow")
        return Group(*parts, "", head, *words)


_UNDECIDED = "In so many steps nothing is learned with any remedy, nor without"


def _figures(outcome: Outcome) -> tuple[str, str, str]:
    quality = outcome.score
    written = "" if math.isnan(quality.value) else f"{quality.value:.1%}" if quality.name == "accuracy" else ""
    return (
        number(outcome.loss) if outcome.finite else "not finite",
        written or ("" if math.isnan(quality.value) else f"{quality.value:.3f}"),
        "" if outcome.flow is None else f"{outcome.flow:.1e}",
    )


# Trying -------------------------------------------------------------------------------------------------------------


def prescribe(report: Report, *, steps: int = STEPS, seed: int = 0, progress: Progress | None = None) -> Prescription:
    """Try every remedy that the findings ask for on a copy, put on top of the best one what helps further, and rank.

    Copies are trained for as many steps as the untreated network, on the same batches: of the data, of which a
    quarter is held out to measure on, or else of the report's batch again and again. Those that fall behind are given
    up early. At last the length of the steps is fitted to what has become of the network.

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
    search = Search.of(report, report.subject, steps, seed, progress or silent)
    search.run()
    on = "the batch" if search.bench.split is None else "held-out data"
    tried, refused = tuple(search.cures), tuple(search.refused.items())
    return Prescription(tried, refused, search.untreated.outcome, search.bench.steps, on, search.best)


# Repairing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Repair:
    """What `repair` made of a network.

    Attributes:
        model: the cured network, untrained; the user's own where nothing was done.
        optimizer: over its parameters.
        loss_fn: the loss to train it with.
        clip_norm: the norm to clip gradients to in each step; None for no clipping.
        batch_size: how many examples to train it on in each step.
        cured: whether a remedy helped measurably, or nothing was wrong.
        by_hand: what must be changed in the user's code or data, and where; empty if nothing must.
        summary: the outcome in a sentence.
        words: what was done, a sentence each.
        code: the same as Python code to paste.
        report: what was found.
        prescription: what was tried; None where there was nothing to try.
        pairing: makes pairs that belong together of inputs and targets that do not, of these data or further ones in
            the order of their file; None where nothing is wrong with them.
    """

    model: Any
    optimizer: Any
    loss_fn: Callable
    clip_norm: float | None
    batch_size: int
    cured: bool
    by_hand: str
    summary: str
    words: tuple[str, ...]
    code: str
    report: Report
    prescription: Prescription | None
    pairing: Pairing | None = None

    def scheduler(self, steps: int) -> Any:
        """A schedule for the training to come: a `LambdaLR` that leaves the optimizer's learning rate as it is until
        the last third of the steps, and then lets it fall evenly to 0.

            scheduler = repaired.scheduler(epochs * batches)  # with scheduler.step() after each optimizer.step()

        As the steps get shorter the weights come to rest: a repaired network ends higher, and less by chance (Hägele et
        al. 2024, section 3; measured in docs/clinic.md). A schedule of your own can go on instead: make it anew, of
        this optimizer.

        Args:
            steps: of the whole training.

        Raises:
            DoctorError: there is no optimizer, or it has no learning rate.
            ValueError: there is no step.
        """
        if steps < 1:
            raise ValueError(f"scheduler: a training has one step or more, not {steps}")
        if self.optimizer is None:
            raise DoctorError("scheduler: there is no optimizer: give yours to repair")
        if any("lr" not in group for group in self.optimizer.param_groups):
            raise DoctorError(f"scheduler: {type(self.optimizer).__name__} has no learning rate")
        assert self.report.subject is not None
        return tools_for(self.report.subject).optim.lr_scheduler.LambdaLR(self.optimizer, cooldown(steps))

    def __str__(self) -> str:
        return as_text(self)

    def __rich__(self) -> RenderableType:
        parts: list[RenderableType] = [Text(self.summary, style="green" if self.cured else "yellow")]
        parts += [Padding(Text(f"{line}."), (0, 0, 0, 2)) for line in self.words]
        if self.prescription is not None:
            parts += ["", self.prescription]
        if self.code:
            parts += ["", Syntax(self.code, "python", background_color="default")]
        return Group(*parts)


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
        scheduler = repaired.scheduler(steps)  # of the training to come

    What can only be mended in the user's code or data is not tried: `by_hand` says what and where. The user's network
    is left as it was.

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
    report = diagnose(model, loss_fn, batch, **options, progress=told)
    if report.healthy:  # what only shows in a longer training run
        report = diagnose(model, loss_fn, batch, **options, progress=told, thorough=True)
    by_hand = _beyond_remedies(report)
    if by_hand.startswith("shuffled-labels") and report.subject is not None:
        found = pairing(report.subject, report.limits, seed=seed, progress=told)
        if found is not None:
            paired = found(data)
            batch = take(paired, np.random.default_rng(seed).permutation(length(paired))[: length(batch)])
            further = {**options, "data": paired, "steps": steps, "progress": progress}
            return _with_pairing(repair(model, loss_fn, batch, **further), found, report)
    tried = None
    if not by_hand:
        tried = prescribe(report, steps=steps, seed=seed, progress=progress)
    best = None if tried is None else tried.best
    if tried is None or best is None:
        by_hand = by_hand or _in_the_forward(report) or _out_of_reach(report, tried)
        summary = _not_repaired(report, tried, by_hand)
        own = (model, optimizer, loss_fn, clip_norm, length(batch))
        return Repair(*own, report.healthy, by_hand, summary, (), "", report, tried)
    cured = best.treatment.subject
    made = (cured.model, cured.optimizer, cured.loss_fn, cured.clip_norm, length(cured.batch))
    by_hand = _out_of_reach(report, tried)
    done = f"Repaired {_named(report)}: {_gain(tried, best)}."
    if not best.helped:
        done = f"Not proved: {_UNDECIDED.lower()}; with {best.name} {_named(report)} is found no more."
    summary = done + (f" Still to be done by hand: {by_hand}" if by_hand else "")
    return Repair(*made, best.helped, by_hand, summary, best.words, best.code, report, tried)


def _with_pairing(repaired: Repair, found: Pairing, report: Report) -> Repair:
    """A repair of the network on pairs that belong together, and how they were made."""
    rest = "" if not repaired.words else f" {repaired.summary}"
    return replace(
        repaired,
        cured=True,
        summary=f"Repaired shuffled-labels: {found.words}.{rest}",
        words=(found.words, *repaired.words),
        code=found.code + repaired.code,
        report=report,
        pairing=found,
    )


def _serious(report: Report) -> list[Finding]:
    return [finding for finding in report.findings if finding.severity >= Severity.WARNING]


def _beyond_remedies(report: Report) -> str:
    """What is wrong that nothing but a change of the user's code or data mends; empty if there is no such thing."""
    constant = _constant_inputs(report)
    if constant:
        return f"constant inputs: {constant}. Look at how the data are made."
    beyond = next((f for f in _serious(report) if not f.remedies), None)
    if beyond is None:
        return ""
    return f"{beyond.code}: {_TO_DO.get(beyond.code, '')}{beyond.cause}"


_TO_DO = {
    "shuffled-labels": "Put each target beside its own input where the data are read: as they are, in reverse order "
    "and one row on or back, they have nothing to do with each other. ",
}
"""What the user can do, before the cause that shows it."""


def _constant_inputs(report: Report) -> str:
    """In what way all examples have the same inputs; empty where they differ, or there is one alone."""
    given = [entry.spread for entry in report.examination.inputs]
    if given and report.examination.examples > 1 and all(spread.smallest == spread.largest for spread in given):
        return f"every number that the network is given is {number(given[0].largest + 0.0)}"
    subject = report.subject
    if subject is None:
        return ""
    inputs = parts(subject.batch if subject.data is None else subject.data)[0]
    arrays = [as_numpy(subject.array(leaf)) for leaf in leaves(inputs)]
    if not arrays or any(array.ndim < 2 or len(array) < 2 for array in arrays):
        return ""
    if all(np.array_equal(array, np.broadcast_to(array[:1], array.shape)) for array in arrays):
        return f"all {len(arrays[0])} examples have the same {arrays[0][0].size} numbers as inputs"
    return ""


def _in_the_forward(report: Report) -> str:
    """The operation in the user's code that made a NaN or infinity which no remedy got rid of; empty for none."""
    broken = next((f for f in _serious(report) if f.code == "non-finite"), None)
    if broken is None:
        return ""
    origin = report.examination.origin
    kept = "" if origin is None else _KEPT_FROM.get(canonical(origin.operation), "")
    return f"{broken.code}: {broken.cause}{kept}"


_KEPT_FROM = {
    "divide": " Keep what it divides by away from 0.",
    "log": " Keep what it is given above 0.",
    "sqrt": " Keep what it is given above 0.",
    "power": " Keep what it is given above 0.",
    "exp": " Take the largest of what it is given from all of it first.",
    "softmax": " Leave something in each row that is not masked out.",
}
"""How an operation is kept from where it is not defined."""


def _out_of_reach(report: Report, tried: Prescription | None) -> str:
    """A cause none of whose remedies could be applied, and why; empty where there is none."""
    refused = {} if tried is None else dict(tried.refused)
    for finding in _serious(report):
        if not finding.follows_from and finding.remedies and all(name in refused for name in finding.remedies):
            why = "; ".join(refused[name] for name in finding.remedies)
            return f"{finding.code}: {finding.cause.rstrip('.')}. It cannot be mended from outside: {why}."
    return ""


def _named(report: Report) -> str:
    codes = dict.fromkeys(f.code for f in _serious(report) if not f.follows_from)
    return ", ".join(codes) or "a network in which nothing was found"


def _gain(tried: Prescription, best: Cure) -> str:
    before, after = tried.untreated, best.after
    name = after.score.name or "loss"
    shown = [
        "not finite" if not o.finite else f"{o.score.value:.1%}" if name == "accuracy" else number(o.score.value)
        for o in (before, after)
    ]
    if name == "loss":
        shown = [number(before.loss), number(after.loss)]
    return f"{name} {shown[1]} after {tried.steps} steps instead of {shown[0]}, on {tried.measured_on}"


def _not_repaired(report: Report, tried: Prescription | None, by_hand: str) -> str:
    if report.healthy:
        return "Nothing to repair: nothing was found that hinders learning."
    if by_hand:
        code, _, cause = by_hand.partition(": ")
        return f"Cannot repair {code}: it is in your code or your data. {cause}"
    if tried is not None and not tried.cures and tried.refused:
        return f"Cannot repair {_named(report)}: {'; '.join(f'{n}: {why}' for n, why in tried.refused)}."
    return f"Cannot repair {_named(report)}: no remedy that was tried helps measurably."
