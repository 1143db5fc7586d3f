"""`chainrule doctor`: a network from the user's own file, examined on the command line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from chainrule.commandline import Unusable, function_in
from chainrule.doctor.diagnosis import diagnose
from chainrule.doctor.report import Report
from chainrule.doctor.subjects import DoctorError

EXAMPLES = """
[bold]Examples[/bold]

chainrule doctor net.py:make                       what is wrong, in words
chainrule doctor net.py:make --repair              try the cures, and show the code of the best
chainrule doctor net.py:make --html report.html    with charts, for the browser
chainrule doctor net.py:make --quick --json -      for a CI job: seconds, exit status 0, 1 or 2

[bold]The function[/bold] takes no argument and returns (model, loss, batch), or more of
(model, loss, batch, optimizer, data), or a dict with these names and clip_norm. The model is a
chainrule.nn.Module or a torch.nn.Module; batch and data are (inputs, targets).
"""

HEALTHY, FINDINGS = 0, 1
_PARTS = ("model", "loss", "batch", "optimizer", "data", "clip_norm")


def command(
    place: Annotated[
        str,
        typer.Argument(metavar="FILE.py:FUNCTION", help="Where the network is made.", show_default=False),
    ],
    repair: Annotated[bool, typer.Option("--repair", help="Try the cures on copies and show the best.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="One batch, no long trial runs.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with charts.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all measurements; - to print them.")] = None,
    seed: Annotated[int, typer.Option(help="Of the network and of everything that is drawn.", min=0)] = 0,
) -> int:
    """Say what is wrong with a network, where and why. Exit status: 0 healthy, 1 findings, 2 could not be examined."""
    path, colon, name = place.rpartition(":")
    if not colon or not path.endswith(".py"):
        raise Unusable(f"expected FILE.py:FUNCTION, got {place!r}")
    sys.path.insert(0, str(Path(path).parent))  # for what the function imports when it is called
    made = parts_of(_made(function_in(Path(path), name), name, seed), name)
    loss, batch = made.pop("loss"), made.pop("batch")
    printed = str(json) == "-"
    with _Bar() as progress:
        try:
            report = diagnose(
                made["model"], loss, batch, optimizer=made.get("optimizer"), data=made.get("data"),
                clip_norm=made.get("clip_norm"), thorough=not quick, seed=seed, progress=progress,
            )  # fmt: skip
            treated = report.prescribe(seed=seed, progress=progress) if repair and not report.healthy else None
        except DoctorError as error:
            raise Unusable(str(error)) from None
    _write(report, html, None if printed else json)
    if printed:
        typer.echo(report.to_json())
    else:
        console = Console()
        console.print(report)
        if treated is not None:
            console.print()
            console.print(treated)
            if treated.best is not None:
                console.print("\nThe same as code, after that of your own:\n")
                typer.echo(treated.best.code)
    return HEALTHY if report.healthy else FINDINGS


def _made(function: Any, name: str, seed: int) -> Any:
    from chainrule import nn

    nn.random.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (the file may draw from it)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
    try:
        return function()
    except Exception as error:
        raise Unusable(f"{name}() fails: {type(error).__name__}: {error}") from None


def parts_of(made: Any, name: str) -> dict[str, Any]:
    """What the user's function returned, by name.

    Raises:
        Unusable: it is neither a row of 3 to 6 parts nor a dict of them.
    """
    if isinstance(made, Mapping):
        unknown = [str(key) for key in made if key not in _PARTS]
        missing = [key for key in _PARTS[:3] if key not in made]
        if unknown or missing:
            said = f"lacks {', '.join(missing)}" if missing else f"has unknown keys {', '.join(unknown)}"
            raise Unusable(f"the dict of {name}() {said}; its keys are {', '.join(_PARTS)}")
        return dict(made)
    if not isinstance(made, (tuple, list)) or not 3 <= len(made) <= len(_PARTS):
        what = f"{len(made)} values" if isinstance(made, (tuple, list)) else type(made).__name__
        raise Unusable(f"{name}() must return (model, loss, batch), or more of ({', '.join(_PARTS)}); got {what}")
    return dict(zip(_PARTS, made, strict=False))


def _write(report: Report, *paths: Path | None) -> None:
    for path in paths:
        if path is not None:
            try:
                report.save(path)
            except OSError as error:
                raise Unusable(f"cannot write {path}: {error.strerror}") from None


class _Bar(Progress):
    """A line on the terminal that says what is going on."""

    def __init__(self) -> None:
        super().__init__(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(),
            console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self._task = self.add_task("examining")

    def __call__(self, what: str, done: int, of: int) -> None:
        self.update(self._task, description=what, completed=done, total=of)
