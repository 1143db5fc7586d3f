"""The command `python -m clinic`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clinic import drawn
from clinic import examine as examining
from clinic import measure as measuring
from clinic.case import Case
from clinic.cases import CASES
from clinic.drawn import proof as drawing
from clinic.examine import Examined, figures
from clinic.frameworks import NAMES, missing
from clinic.table import examined_columns, label_columns, measured_columns, summary, table

COLUMNS = (MofNCompleteColumn(), BarColumn(30), TimeRemainingColumn(), TextColumn("{task.description}"))
console = Console()
if not console.is_terminal:
    console = Console(width=200)  # a file has room


def main(
    list_: Annotated[bool, typer.Option("--list", help="Show the cases, with what was measured last.")] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Train all sick networks and their healthy twins, and keep the figures.")
    ] = False,
    no_repair: Annotated[
        bool, typer.Option("--no-repair", help="Only examine; do not cure and train the sick.")
    ] = False,
    half: Annotated[
        Literal["tuning", "held-out"] | None, typer.Option(help="Only this half [both].", show_default=False)
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only cases with this in their name. May be repeated.")] = None,
    draw: Annotated[
        int | None, typer.Option(help="Draw cases with this seed instead, prove them by training, and examine them.")
    ] = None,
    count: Annotated[int, typer.Option(help="How many cases to draw.", min=1)] = 50,
) -> None:
    """Examine the doctor on sick and healthy networks with known diagnoses: what it finds, and whether its cures work.

    Prints each answer and, for either half, how many faults were found, how often at the right layer, how many healthy
    networks were accused, and how many sick ones do as well as their healthy twin after repair.
    """
    cases = _chosen(CASES if draw is None else _drawn(draw, count), half, only)
    if list_:
        measured = {**drawing.figures(), **measuring.read()}
        columns = label_columns() + measured_columns(measured) + examined_columns(examining.read())
        console.print(table(cases, columns))
    elif measure:
        raise typer.Exit(0 if _measured(cases) else 1)
    else:
        _examined(cases, cure=not no_repair)


def _chosen(cases: Mapping[str, Case], half: str | None, only: Collection[str] | None) -> list[Case]:
    chosen = [
        case
        for case in cases.values()
        if half in (None, case.half) and (not only or any(part in case.name for part in only))
    ]
    if not chosen:
        raise typer.BadParameter(f"no case has {' or '.join(only or ())} in its name; --list shows them all")
    absent = [name for name in NAMES if missing(name)]
    for name in absent:
        console.print(f"the cases in {name} are left out: it is not installed", style="yellow")
    return [case for case in chosen if case.framework not in absent]


def _drawn(seed: int, count: int) -> dict[str, Case]:
    """Cases of a seed, of which five in seven are sick; those that are not known yet are trained first."""
    sick = round(count * 5 / 7)
    with Progress(*COLUMNS, console=console, transient=True) as progress:
        task = progress.add_task(f"drawn with seed {seed} and proved", total=count)
        for _ in drawing.prove(seed, sick, count - sick):
            progress.advance(task)
    return {case.name: case for case in drawn.drawn(seed, sick, count - sick)}


def _examined(cases: Collection[Case], *, cure: bool) -> None:
    """The doctor's answers, and how good they are."""
    answers: dict[str, Examined] = {}
    with _each(cases, lambda: examining.write(answers)) as running:
        for case in running:
            answers[case.name] = examining.examine(case, cure=cure)
    console.print(table(cases, label_columns() + examined_columns(answers)))
    halves = dict.fromkeys(case.half for case in cases)
    console.print(summary({half: figures([case for case in cases if case.half == half], answers) for half in halves}))


def _measured(cases: Collection[Case]) -> bool:
    """Whether all labels are true."""
    figures: dict[str, measuring.Measured] = {}
    with _each(cases, lambda: measuring.write(figures)) as running:
        for case in running:
            figures[case.name] = measuring.measure(case)
    console.print(table(cases, label_columns() + measured_columns(figures)))
    untrue = [case.name for case in cases if not measuring.holds(case, figures[case.name])]
    for name in untrue:
        console.print(f"the label is not borne out: {name}", style="red", highlight=False)
    return not untrue


@contextmanager
def _each(cases: Collection[Case], keep: Callable[[], None]) -> Iterator[Iterator[Case]]:
    """The cases one by one, with a bar that shows how far it is; what came of each is kept at once."""

    def one_by_one() -> Iterator[Case]:
        for case in cases:
            progress.update(task, description=case.name)
            yield case
            keep()
            progress.advance(task)

    with Progress(*COLUMNS, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(cases))
        yield one_by_one()


if __name__ == "__main__":
    try:
        typer.run(main)
    except KeyboardInterrupt:
        sys.exit(130)
