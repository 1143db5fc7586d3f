"""The account as tables for people."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from chainrule.core.quantities import bytes_text
from chainrule.memory.account import Account

_MOST_ROWS = 40


def tables(account: Account) -> Iterator[Any]:
    """What is kept in all, by module, by operation, and what checkpoints would save."""
    how = "estimated from shapes" if account.estimated else "measured"
    yield (
        f"{account.name} keeps {bytes_text(account.nbytes)} for the backward pass ({how}), "
        f"{bytes_text(account.input_nbytes)} of them its inputs"
    )
    there = bytes_text(account.parameter_nbytes)
    yield f"its rules also read {there} of parameters and buffers, which are there anyway\n"
    yield _by_module(account)
    yield _by_operation(account)
    if account.savings:
        yield _savings(account)


def as_text(account: Account) -> str:
    """The tables as plain text."""
    out = io.StringIO()
    Console(file=out, width=120, color_system=None, highlight=False, markup=False).print(account)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _table(*columns: str, left: int = 1) -> Table:
    table = Table(box=None, padding=(0, 2), title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right", overflow="fold")
    return table


def _share(nbytes: int, account: Account) -> str:
    return f"{nbytes / account.nbytes:.1%}" if account.nbytes else ""


def _by_module(account: Account) -> Table:
    table = _table("module", "kind", "modules", "bytes", "share", left=2)
    rows = account.by_module
    shown = sorted(sorted(rows, key=lambda row: -row.nbytes)[:_MOST_ROWS], key=rows.index)
    for row in shown:
        share = _share(row.nbytes, account)
        table.add_row(row.module or "itself", row.kind, str(row.count), bytes_text(row.nbytes), share)
    if len(rows) > len(shown):
        rest = sum(row.nbytes for row in rows) - sum(row.nbytes for row in shown)
        table.add_row(f"{len(rows) - len(shown)} more", "", "", bytes_text(rest), _share(rest, account))
    table.add_section()
    return table


def _by_operation(account: Account) -> Table:
    table = _table("\noperation", "\npieces", "\nbytes", "\nshare", "\nwhat rules read")
    table.columns[-1].justify = "left"
    for row in account.by_operation:
        reads = ", ".join(row.reads)
        table.add_row(row.operation, str(row.pieces), bytes_text(row.nbytes), _share(row.nbytes, account), reads)
    return table


def _savings(account: Account) -> Table:
    table = _table(
        "\ncheckpoint", "\nhow", "\nkeeps now", "\nwould keep", "\nmost at a time", "\nleast possible", left=2
    )
    for row in account.savings[:_MOST_ROWS]:
        module = f"{row.module or 'itself'} ({row.kind}{f', {row.count} times' if row.count > 1 else ''})"
        least = "" if row.least is None else bytes_text(row.least)
        sizes = [bytes_text(n) for n in (row.before, row.after, row.most)]
        table.add_row(module, row.how, *sizes, least)
    return table
