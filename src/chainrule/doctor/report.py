"""`Report`: what the doctor found, to be read, stored and acted upon."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from chainrule.doctor.events import EventFiles
from chainrule.doctor.finding import CODES, Finding, Severity
from chainrule.doctor.limits import Limits
from chainrule.doctor.measurements import Course, Examination, Layer
from chainrule.doctor.printing import as_text
from chainrule.doctor.rules.words import number, percent
from chainrule.doctor.subjects import DoctorError, Subject
from chainrule.nn.checkpoint import write_atomically

_STYLES = {Severity.NOTE: "cyan", Severity.WARNING: "yellow", Severity.SEVERE: "bold red"}
_SHOWN = 40
"""Layers in the printed table; of more, those in the middle that nothing is wrong with are left out."""


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        findings: the most severe first; those that others bring about behind them.
        examination: everything that was measured.
        subject: the network, for the cures; None for a report that was read from a file.
        limits: the numbers beyond which something is called wrong.
        history: of a monitor, its samples (`doctor.watch.Sample`); else empty.
    """

    findings: tuple[Finding, ...]
    examination: Examination
    subject: Subject | None
    limits: Limits = dataclasses.field(default_factory=Limits)
    history: tuple[Any, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing was found that hinders learning; notes do not count."""
        return not any(finding.severity >= Severity.WARNING for finding in self.findings)

    # Reading ----------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        return as_text(self)

    def __rich__(self) -> RenderableType:
        exam = self.examination
        verdict = Text(self.verdict, style="green" if self.healthy else "")
        parts: list[RenderableType] = [Text(headline(exam)), verdict, *map(_told, self.findings)]
        if exam.layers:
            parts += ["", self._table()]
        if exam.course is not None:
            parts += ["", *map(Text, told_course(exam.course))]
        parts += [Text(f"Not measured: {note}", style="dim") for note in exam.notes]
        return Group(*parts)

    @property
    def verdict(self) -> str:
        """One line: healthy, or how much was found."""
        serious = [finding for finding in self.findings if finding.severity >= Severity.WARNING]
        if not serious:
            return "Healthy: nothing was found that hinders learning."
        causes = sum(not finding.follows_from for finding in serious)
        effects = len(serious) - causes
        said = f"{causes} {'finding' if causes == 1 else 'findings'}"
        return said + (f", and {effects} that {'follows' if effects == 1 else 'follow'}" if effects else "") + "."

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
        for place, title in enumerate(table_columns):
            table.add_column(title, justify="left" if place < 3 else "right", no_wrap=True)
        sick = {path for finding in self.findings for path in finding.layers}
        for layer in _chosen(self.examination.layers):
            if layer is None:
                table.add_row("...")
            else:
                table.add_row(*table_row(layer), style="yellow" if layer.path in sick else "")
        return table

    # Storing ----------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The findings and all measurements as JSON; numbers that are not finite as "NaN", "Infinity", "-Infinity"."""
        content = {
            "healthy": self.healthy,
            "findings": [
                {
                    **dataclasses.asdict(finding),
                    "severity": finding.severity.name.lower(),
                    "title": CODES[finding.code].title,
                    "remedies": finding.remedies,
                    "reference": finding.reference,
                }
                for finding in self.findings
            ],
            "limits": dataclasses.asdict(self.limits),
            "examination": dataclasses.asdict(self.examination),
            "history": [_course(sample) for sample in self.history],
        }
        return json.dumps(_plain(content), indent=1, allow_nan=False)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the report to a file, by its ending: `.html` (a page that needs nothing else), `.json` or text.

        Raises:
            OSError: the file cannot be written; what was there before stays.
        """
        path = Path(path)
        if path.suffix in (".html", ".htm"):
            from chainrule.doctor.page import page

            content = page(self)
        else:
            content = self.to_json() if path.suffix == ".json" else f"{self}\n"
        write_atomically(path, lambda temporary: temporary.write_text(content, encoding="utf-8"))
        return path

    def save_events(self, folder: str | os.PathLike[str]) -> None:
        """Write the history of a watched training to event files of TensorBoard.

        Raises:
            DoctorError: there is no history, tensorboardX is not installed, or the folder cannot be written.
        """
        if not self.history:
            raise DoctorError("save_events: only the report of a monitor has a history to draw curves of")
        files = EventFiles(folder)
        for sample in self.history:
            files.add(sample)
            files.add_noise(sample)
        files.close()

    # Acting -----------------------------------------------------------------------------------------------------

    def prescribe(self, **options: Any) -> Any:
        """Try the remedies that fit, each on a copy, and rank them; see `doctor.prescription.prescribe`."""
        from chainrule.doctor.prescription import prescribe

        return prescribe(self, **options)


def _course(sample: Any) -> dict[str, Any]:
    """A sample of a monitor."""
    return {
        "step": sample.step,
        "seconds": sample.seconds,
        "loss": sample.loss,
        "gradient_norm": sample.gradient_norm,
        "clipped": sample.clipped,
        "gradient_product": None if sample.noise is None else sample.noise[0],
        "gradient_noise": None if sample.noise is None else sample.noise[1],
        "error_signals": {layer.name: layer.error_signal for layer in sample.layers},
        "gradients": {layer.name: layer.gradient for layer in sample.layers},
        "update_ratios": {layer.name: layer.update_ratio for layer in sample.layers},
        "findings": [(finding.code, finding.layer) for finding in sample.findings],
    }


def told_course(course: Course) -> list[str]:
    """The course of a training in words."""
    moves = "falls" if course.significance < -2 else "rises" if course.significance > 2 else "has no trend"
    pace = f" by {percent(abs(course.trend))} in 100 steps" if abs(course.significance) > 2 else ""
    stands = "" if course.plateau is None else f"; it stands since step {course.plateau}"
    lines = [
        f"The loss went from {number(course.first)} to {number(course.last)} in {course.steps} steps, and {moves}"
        f"{pace} in the second half{stands}."
    ]
    if course.oscillation < -0.5:
        lines.append(
            f"It goes up and down from step to step (correlation of neighbours {course.oscillation:.2f}): a smaller "
            "learning rate would not overshoot."
        )
    if course.noise_scale is not None:
        scale = course.noise_scale
        lines.append(
            "Gradients of successive steps have nothing in common: what they do is noise."
            if not math.isfinite(scale)
            else f"In a batch of {course.batch} the gradient's noise is {number(scale)} times the gradient (squares of "
            f"norms); they are equal at {number(scale * course.batch)} examples (McCandlish et al. 2018)."
        )
    return lines


def headline(exam: Examination) -> str:
    """What was examined."""
    loss = f", loss {number(exam.loss.value)}" if exam.loss is not None else ""
    return f"{exam.model} ({exam.framework}), {len(exam.layers)} layers, batch of {exam.examples}{loss}"


def _told(finding: Finding) -> RenderableType:
    """A finding in words."""
    where = f" in {finding.layer}" if finding.layer else ""
    head = Text.assemble(
        (f"{finding.code}", _STYLES[finding.severity]), f"{where}: {CODES[finding.code].title.lower()}"
    )
    lines: list[RenderableType] = [Text(finding.cause)]
    if finding.follows_from:
        lines.append(Text(f"Follows from {finding.follows_from}.", style="dim"))
    elif finding.remedies:
        lines.append(Text(f"Try: {', '.join(finding.remedies)}.", style="dim"))
    lines.append(Text(f"See {finding.reference}.", style="dim"))
    return Group("", head, *(Padding(line, (0, 0, 0, 2)) for line in lines))


def _chosen(layers: tuple[Layer, ...]) -> list[Layer | None]:
    """The layers to print; None stands for some that are left out."""
    if len(layers) <= _SHOWN:
        return list(layers)
    half = _SHOWN // 2
    return [*layers[:half], None, *layers[-half:]]


table_columns = (
    "layer", "kind", "activation", "zero", "flat", "error", "× W", "× f′", "gradient", "update",
)  # fmt: skip
"""Share of units that are zero and of elements where the activation is flat; norm of the error signal, and what the
weights and the activation multiply it by on its way down; norm of the weights' gradient, and the share a step moves."""


def table_row(layer: Layer) -> list[str]:
    """What the table of layers says of one, column by column."""
    activation = layer.activation
    return [
        layer.path,
        layer.kind,
        activation.name if activation else "",
        percent(activation.zero_units) if activation else "",
        percent(activation.saturated) if activation else "",
        _size(layer.error_signal),
        _factor(layer.weight_gain),
        _factor(activation.gain if activation else None),
        _size(layer.gradient_norm),
        _size(layer.update_ratio),
    ]


def _size(x: float | None) -> str:
    return "" if x is None else f"{x:.0e}"


def _factor(x: float | None) -> str:
    return "" if x is None else f"{x:.2f}" if 0.01 <= abs(x) < 1000 else f"{x:.0e}"


def _plain(value: Any) -> Any:
    """`value` as JSON knows it."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return float(value) if hasattr(value, "__float__") else str(value)
