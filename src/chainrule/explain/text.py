"""The explanation as text for a terminal, by `rich`."""

from __future__ import annotations

import io
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table as RichTable
from rich.text import Text

from chainrule.explain.explanation import Explanation
from chainrule.explain.tables import Table, tables_of

#: Columns of plain text.
_WIDTH = 120


def renderable(explanation: Explanation) -> Any:
    """What `rich` prints."""
    parts: list[Any] = []
    for table in tables_of(explanation):
        parts += [Text(""), Text(table.title, style="bold"), _equations(table) if table.is_list else _grid(table)]
        if table.note:
            parts.append(Text(table.note, style="dim"))
    return Group(*parts[1:])


def text(explanation: Explanation) -> str:
    """Plain text."""
    console = Console(file=io.StringIO(), width=_WIDTH, color_system=None, legacy_windows=False)
    console.print(renderable(explanation))
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"  # type: ignore[attr-defined]


def _equations(table: Table) -> Any:
    grid = RichTable(box=None, show_header=False, padding=(0, 1), pad_edge=False)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for left, right in table.rows:
        grid.add_row(Text(left.text), Text("="), Text(right.text))
    return grid


def _grid(table: Table) -> Any:
    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", padding=(0, 1))
    for place, column in enumerate(table.columns):
        grid.add_column(column, justify="right" if place in table.right else "left", overflow="fold")
    for row in table.rows:
        grid.add_row(*[Text(cell.text, style="dim" if cell.text.startswith("⋮") else "") for cell in row])
    return grid
