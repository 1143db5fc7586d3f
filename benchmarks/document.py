"""The tables as a page of the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.cases import Derivative
from benchmarks.machine import DISTURBED
from benchmarks.networks import Network
from benchmarks.results import Results, write_text
from benchmarks.tables import tables

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"

_HOW = f"""\
## How it is measured

Every contender does the same work from the same weights on the same data, written as its own documentation would
write it (`benchmarks/contenders/`). Before anything is timed, the losses of all of them over {Network.results}
steps must agree to a relative {Network.tolerance:.0e}, and values and derivatives in float64 to
{Derivative.tolerance:.0e} (an array by its products with random directions); the run stops if they do not.

Frameworks that share a process disturb each other: the threads of one keep spinning while the next computes. So each
contender has a process of its own, and they take turns: in every round, in a new order, each runs for a while and the
others sleep. A time is the median over all steps of all rounds; a ratio is taken within each round, and its median and
quartiles over the rounds are given. Every contender is shown with the number of threads and the setting with which it
was fastest; PyTorch may also count subnormal numbers as zero where gradients vanish. What does not compile in time is
stopped, and the table says so. A turn in which other processes took more than {DISTURBED:.0%} of the machine is
repeated.

The hand-written C (`benchmarks/contenders/c/`) is compiled with `-O3 -march=native` when the benchmark runs, and calls
the BLAS of NumPy's wheel. Its update is part of the product that makes a weight's gradient, which it never stores.

Absolute times move from machine to machine; ratios of one run are what to quote.
"""


def write(results: Results, path: Path = DOCUMENT) -> None:
    """Write the page, whole or not at all."""
    write_text(path, "\n".join(_page(results)))


def _page(results: Results) -> Iterator[str]:
    yield "# Benchmarks"
    yield ""
    yield f"Written by `{results.command}` on {results.date}; do not edit. Run it to see your own machine's figures."
    yield ""
    if results.warning:
        yield f"**{results.warning}**"
        yield ""
    for table in tables(results):
        yield f"## {table.title}"
        yield ""
        yield table.reading
        yield ""
        yield from _markdown(table.cells)
        yield ""
    yield _HOW
    yield "## The machine"
    yield ""
    yield from _markdown([["", ""], *([what, which] for what, which in results.machine.items())])
    yield ""


def _markdown(cells: Sequence[Sequence[str]]) -> Iterator[str]:
    head, *body = ([cell.replace("|", "\\|").replace("\n", "<br>") for cell in row] for row in cells)
    yield f"| {' | '.join(head)} |"
    yield f"|---|{'---:|' * (len(head) - 1)}"
    for row in body:
        yield f"| {' | '.join(row)} |"
