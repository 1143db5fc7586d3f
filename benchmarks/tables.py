"""The figures as tables of words, the same for the terminal and for the document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.contenders import BOUND, BY_KEY, COMPILED, CONTENDERS, PEERS, SUBJECT, Contender
from benchmarks.results import Column, FirstCall, KeptMemory, Results, StepMemory, TimedRow


@dataclass(frozen=True)
class Table:
    """A title, a sentence on how to read it, and the cells, first row the headings; a cell may have two lines."""

    title: str
    reading: str
    cells: list[list[str]]


def tables(results: Results) -> Iterator[Table]:
    """Every table that there are figures for."""
    if any(row.reference for row in results.timed):
        yield summary(results)
    for kinds, title, reading in _TIMED:
        rows = [row for row in results.timed if row.kind in kinds]
        if rows:
            yield Table(title, f"{reading} {_RATIOS}", _times(rows))
    steps = [row for row in results.timed if row.kind in (*_MLP, *_NETWORKS)]
    if results.first_calls:
        yield Table(
            "The first call",
            "What the user of a new process waits for: the import of the framework; the first call, which compiles, "
            "with nothing in any cache on disk; the first call when an earlier process has left there what it could. "
            "The call after that is what the tables above are about.",
            _first_calls(results.first_calls),
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
    if results.step_memory:
        yield Table(
            "Memory of a training step",
            "By how much the process grew from before the network was made to its fourth step: at most, and for good; "
            "with the parameters. A small network was trained before, so that what a framework loads does not count.",
            _step_memory(results),
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


_RATIOS = (
    "Below the median time: how many times longer than chainrule it took (compiled, where there is that column), "
    "median and quartiles over the rounds."
)

_MLP, _NETWORKS = ("mlp",), ("lstm", "cnn", "gpt")
_TIMED = (
    (_MLP, "One training step", "A step is forward, backward and the SGD update."),
    (_NETWORKS, "One training step of other networks", "Recurrence, convolution, attention; a step as above."),
    (("scalar",), "Gradient of a scalar function of a float", "A call, from float to gradient."),
    (("derivative",), "Derivatives of array functions", "In float64."),
    (
        ("loop",),
        "Loops over scalars",
        "The value and the gradient of a Python loop or recursion over floats, in float64.",
    ),
)


def summary(results: Results) -> Table:
    """chainrule's times beside the fastest peer's and the bound's: the table for whoever reads only one."""
    return Table(
        "In short",
        "Median times, and how many times longer than chainrule (compiled, where there is that column) the fastest "
        "peer took, each at its best setting, and the hand-written C.",
        [
            ["", COMPILED.label, SUBJECT.label, "fastest peer", "", BOUND.label],
            *(_summary_row(row) for row in results.timed if row.reference),
        ],
    )


def _summary_row(row: TimedRow) -> list[str]:
    own = [_median(row.column(contender.key)) for contender in (COMPILED, SUBJECT)]
    peer = row.fastest(PEERS)
    beside = ["–", ""] if peer is None else [_beside(row, BY_KEY[peer.contender]), BY_KEY[peer.contender].label]
    return [row.case, *own, *beside, _beside(row, BOUND)]


def _beside(row: TimedRow, contender: Contender) -> str:
    ratio = row.ratio(contender.key)
    return "–" if ratio is None else f"{_median(row.column(contender.key))}, {_times_longer(ratio.median)}"


def _median(column: Column | None) -> str:
    return "–" if column is None else seconds(column.seconds.median)


def seconds(value: float) -> str:
    """Three digits, in µs, ms or s."""
    if value < 1e-3:
        return f"{_digits(value * 1e6)} µs"
    return f"{_digits(value * 1e3)} ms" if value < 1 else f"{_digits(value)} s"


def _digits(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _times_longer(ratio: float) -> str:
    """Two decimals; of much less than one, the inverse says more."""
    return f"{ratio:.2f}×" if ratio >= 0.1 else f"1/{1 / ratio:,.{0 if ratio < 0.01 else 1}f}×"


def _bytes(count: int) -> str:
    return f"{count / 2**20:.2f} MiB"


def _present(rows: Sequence[TimedRow]) -> list[str]:
    found = {key for row in rows for key in (*row.missing, *(column.contender for column in row.columns))}
    return [contender.key for contender in CONTENDERS if contender.key in found]


def _times(rows: Sequence[TimedRow]) -> list[list[str]]:
    keys = _present(rows)
    return [
        ["", *(BY_KEY[key].label for key in keys)],
        *([row.case, *(_time(row, key) for key in keys)] for row in rows),
    ]


def _time(row: TimedRow, key: str) -> str:
    column, ratio = row.column(key), row.ratio(key)
    if column is None:
        return row.missing.get(key, "–")
    text = seconds(column.seconds.median)
    if column is row.reference or ratio is None:
        return text
    return f"{text}\n{_times_longer(ratio.median)}\n{_times_longer(ratio.lower)} – {_times_longer(ratio.upper)}"


def _first_calls(calls: Sequence[FirstCall]) -> list[list[str]]:
    rows = [["", "", "import", "first call, nothing cached", "first call, cached", "the call after"]]
    before = ""
    for call in calls:
        times = [
            "too long" if value is None else seconds(value)
            for value in (call.imported, call.cold, call.cached, call.again)
        ]
        rows.append([call.case if call.case != before else "", BY_KEY[call.contender].label, *times])
        before = call.case
    return rows


def _step_memory(results: Results) -> list[list[str]]:
    found = [{step.contender: step for step in row.steps} for row in results.step_memory]
    keys = [contender.key for contender in CONTENDERS if any(contender.key in steps for steps in found)]
    return [
        ["", "parameters", *(BY_KEY[key].label for key in keys)],
        *(
            [row.case, _bytes(row.parameters), *(_step(steps.get(key)) for key in keys)]
            for row, steps in zip(results.step_memory, found, strict=True)
        ),
    ]


def _step(memory: StepMemory | None) -> str:
    return "–" if memory is None else f"{_bytes(memory.peak)}\n({_bytes(memory.held)})"


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
