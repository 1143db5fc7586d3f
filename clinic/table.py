"""The cases as a table.

Each column is a title and a function of the case.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from rich.table import Table

from clinic.case import Case
from clinic.examine import Examined, Figures
from clinic.measure import Measured, holds

Column = tuple[str, Callable[[Case], str]]


def label_columns() -> list[Column]:
    """What is known of a case beforehand."""
    return [
        ("case", lambda case: case.name),
        ("half", lambda case: case.half),
        ("fault", lambda case: case.fault or "[green]healthy[/]"),
        ("also right", lambda case: ", ".join(case.accepted)),
        ("place", _place),
    ]


def measured_columns(measured: Mapping[str, Measured]) -> list[Column]:
    """What training it came to."""

    def figure(form: Callable[[Case, Measured], str]) -> Callable[[Case], str]:
        return lambda case: form(case, measured[case.name]) if case.name in measured else ""

    return [
        ("score", figure(lambda case, it: f"{it.score:.1f}")),
        ("healthy", figure(lambda case, it: f"{it.healthy:.1f}" if case.fault else "")),
        ("harm", figure(lambda case, it: f"{it.harm:.1f}" if case.harm else "none" if case.fault else "")),
        ("cpu s", figure(lambda case, it: f"{it.seconds:.2f}")),
        ("", figure(lambda case, it: "[green]✓[/]" if holds(case, it) else "[bold red]✗[/]")),
    ]


def examined_columns(examined: Mapping[str, Examined]) -> list[Column]:
    """What the doctor says of it."""

    def answer(form: Callable[[Case, Examined], str]) -> Callable[[Case], str]:
        return lambda case: form(case, examined[case.name]) if case.name in examined else ""

    return [
        ("the doctor finds", answer(_found)),
        ("where", answer(_where)),
        ("right", answer(_right)),
        ("after repair", answer(_after)),
        ("s", answer(lambda case, it: f"{it.seconds:.1f}")),
    ]


def _found(case: Case, it: Examined) -> str:
    return f"[red]{it.error}[/]" if it.error else ", ".join(dict.fromkeys(code for code, _ in it.findings))


def _where(case: Case, it: Examined) -> str:
    return it.findings[0][1][0] or "the whole" if it.findings and case.layers else ""


def _right(case: Case, it: Examined) -> str:
    if not it.is_right(case):
        return "[bold red]✗[/]"
    return "[green]✓[/]" if not case.fault or it.is_right_place(case) else "[yellow]elsewhere[/]"


def _after(case: Case, it: Examined) -> str:
    if it.score is None:
        return ""
    colour = "green" if it.is_cured else "yellow" if it.by_hand else "bold red"
    hand = " by hand" if it.by_hand else ""
    return f"[{colour}]{it.score:.1f}[/] of {it.healthy or 0:.1f}{hand}"


def summary(rows: Mapping[str, Figures]) -> Table:
    """The figures of each half."""
    made = Table(title="The doctor in the clinic", title_justify="left", pad_edge=False)
    for title in ("half", "sick", "found", "right place", "cured", "by hand", "of the others", "healthy", "accused"):
        made.add_column(title, justify="left" if title == "half" else "right", no_wrap=True)
    for half, it in rows.items():
        shares = [_percent(x) for x in (it.detection, it.localisation, it.repaired, it.by_hand, it.repaired_others)]
        made.add_row(half, str(it.sick), *shares, str(it.healthy), _percent(it.false_alarms))
    return made


def _percent(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:.1f}%"


def table(cases: Collection[Case], columns: Sequence[Column]) -> Table:
    """One row for each case."""
    numbers = ("score", "healthy", "harm", "cpu s", "s")
    made = Table(title=_title(cases), title_justify="left", row_styles=["", "dim"], pad_edge=False)
    for title, _ in columns:
        made.add_column(
            title, justify="right" if title in numbers else "left", overflow="fold", no_wrap=title in numbers
        )
    for case in cases:
        made.add_row(*[show(case) for _, show in columns])
    return made


def _title(cases: Collection[Case]) -> str:
    sick = [case for case in cases if case.fault]
    faults = len({case.fault for case in sick})
    return f"sick networks: {len(sick)}, different faults: {faults}, healthy networks: {len(cases) - len(sick)}"


def _place(case: Case) -> str:
    if case.fault is None:
        return ""
    return " or ".join(layer or "the network" for layer in case.layers) or "the whole"
