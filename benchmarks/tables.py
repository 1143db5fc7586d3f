"""The figures as tables of words, the same for the terminal and for the document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.contenders import BY_KEY, CONTENDERS, SUBJECT
from benchmarks.results import Column, KeptMemory, Results, TimedRow


@dataclass(frozen=True)
class Table:
    """A title, a sentence on how to read it, and the cells, first row the headings; a cell may have two lines."""

    title: str
    reading: str
    cells: list[list[str]]


def tables(results: Results) -> Iterator[Table]:
    """Every table that there are figures for."""
    steps = [row for row in results.timed if row.kind == "mlp"]
    if steps:
        yield Table(
            "One training step",
            "Median time of a step (forward, backward, SGD update), and how many times longer than chainrule it took: "
            "median and quartiles over the rounds.",
            _times(steps),
        )
    scalar = [row for row in results.timed if row.kind == "scalar"]
    if scalar:
        yield Table(
            "Gradient of a scalar function of a float",
            "Median time of a call, from float to gradient, and how many times longer than chainrule's.",
            _times(scalar),
        )
    phases = _phases(steps)
    if phases:
        yield Table(
            "Where a step goes",
            "Median time of each phase, and backward over forward; `zero_grad` counts as backward.",
            phases,
        )
    if results.memory:
        yield Table(
            "Memory kept after the forward pass",
            "What is kept for the backward pass, parameters not counted, by the frameworks' own account (the edges of "
            "chainrule's graph, PyTorch's saved tensors); in brackets, by how much the process grew meanwhile, which "
            "includes the result.",
            _memory(results),
        )
    if results.forward_mode:
        yield Table(
            "Peak memory of forward mode",
            "`cr.jvp` through a chain of tanh(x·W), x of 256×256 in float64, beyond the inputs. It must not grow.",
            [["depth", *map(str, results.forward_mode)], ["peak", *map(_bytes, results.forward_mode.values())]],
        )
    if results.timed:
        yield Table("How each was fastest", "Threads and setting of the times above.", _settings(results.timed))
        yield Table(
            "That they compute the same",
            "Results of all contenders in all settings, compared before anything was timed; and the share of the "
            "machine that other processes took during the turns, which should be near 0.",
            _agreements(results.timed),
        )


def seconds(value: float) -> str:
    """Three digits, in µs or ms."""
    return f"{_digits(value * 1e6)} µs" if value < 1e-3 else f"{_digits(value * 1e3)} ms"


def _digits(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _bytes(count: int) -> str:
    return f"{count / 2**20:.2f} MiB"


def _present(rows: Sequence[TimedRow]) -> list[str]:
    return [contender.key for contender in CONTENDERS if any(row.column(contender.key) for row in rows)]


def _times(rows: Sequence[TimedRow]) -> list[list[str]]:
    keys = _present(rows)
    return [
        ["", *(BY_KEY[key].label for key in keys)],
        *([row.case, *(_time(row, key) for key in keys)] for row in rows),
    ]


def _time(row: TimedRow, key: str) -> str:
    column, ratio = row.column(key), row.ratio(key)
    if column is None:
        return "–"
    text = seconds(column.seconds.median)
    if key == SUBJECT.key or ratio is None:
        return text
    return f"{text}\n{ratio.median:.2f}×\n{ratio.lower:.2f}–{ratio.upper:.2f}"


def _phases(rows: Sequence[TimedRow]) -> list[list[str]]:
    divided = [(row, column) for row in rows for column in row.columns if len(column.phases) > 1]
    if not divided:
        return []
    names = list(divided[0][1].phases)
    return [["", "", *names, "backward / forward"], *(_phase_row(row, column) for row, column in divided)]


def _phase_row(row: TimedRow, column: Column) -> list[str]:
    ratio = column.phases["backward"] / column.phases["forward"]
    first = column is next(other for other in row.columns if len(other.phases) > 1)
    return [row.case * first, BY_KEY[column.contender].label, *map(seconds, column.phases.values()), f"{ratio:.2f}"]


def _memory(results: Results) -> list[list[str]]:
    keys = [contender.key for contender in CONTENDERS if "memory" in contender.kinds]
    found = [{kept.contender: kept for kept in row.kept} for row in results.memory]
    keys = [key for key in keys if any(key in row for row in found)]
    body = [
        [row.case, *(_kept(kept.get(key)) for key in keys)] for row, kept in zip(results.memory, found, strict=True)
    ]
    return [["", *(BY_KEY[key].label for key in keys)], *body]


def _kept(memory: KeptMemory | None) -> str:
    return "–" if memory is None else f"{_bytes(memory.kept)}\n({_bytes(memory.grown)})"


def _settings(rows: Sequence[TimedRow]) -> list[list[str]]:
    keys = _present(rows)
    return [
        ["", *(BY_KEY[key].label for key in keys)],
        *([row.case, *(_setting(row.column(key)) for key in keys)] for row in rows),
    ]


def _setting(column: Column | None) -> str:
    if column is None:
        return "–"
    threads = f"{column.threads} thread{'s' * (column.threads > 1)}"
    return f"{threads}\n{column.setting}" if column.setting else threads


def _agreements(rows: Sequence[TimedRow]) -> list[list[str]]:
    return [
        ["", "compared", "first", "last", "largest relative deviation", "other processes"],
        *(
            [
                row.case,
                f"{row.agreement.results} results",
                f"{row.agreement.first:.6g}",
                f"{row.agreement.last:.6g}",
                f"{row.agreement.deviation:.1e}",
                "unknown" if row.others is None else f"{row.others:.0%}",
            ]
            for row in rows
        ),
    ]
