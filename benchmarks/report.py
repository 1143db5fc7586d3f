"""The tables in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.results import Results
from benchmarks.tables import tables


def show(results: Results, console: Console) -> None:
    """Print every table, and the machine they were measured on."""
    for table in tables(results):
        head, *body = table.cells
        shown = RichTable(title=table.title, caption=table.reading.replace("`", ""), title_justify="left",
                          caption_justify="left")  # fmt: skip
        for place, heading in enumerate(head):
            shown.add_column(heading, justify="right" if place else "left", overflow="fold")
        for row in body:
            shown.add_row(*row)
        console.print(shown)
        console.print()
    console.print(", ".join(f"{what}: {which}" for what, which in results.machine.items()), style="dim")
