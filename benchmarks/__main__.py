"""The command `python -m benchmarks`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import cold, document, memory, report
from benchmarks.agreement import Disagreement
from benchmarks.cases import CASES, MLPS, Case, Deep
from benchmarks.contenders import BY_KEY, CONTENDERS, Contender
from benchmarks.crew import WorkerFailed, crew
from benchmarks.machine import description
from benchmarks.results import Results
from benchmarks.timing import measure
from benchmarks.turns import Effort

_RESULTS = Path(__file__).parent / "results"
_KINDS = list(dict.fromkeys(case.kind for case in CASES.values()))
_QUICK = Effort(rounds=3, seconds=0.1, trial=0.05, patience=2, compilation=30)

console = Console()
if not console.is_terminal:
    console = Console(width=120)  # a file has room


def main(
    rows: Annotated[
        list[str] | None,
        typer.Option(help=f"Only these rows: {', '.join(_KINDS)}, or part of a row's name. May be repeated."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help=f"Only these contenders: {', '.join(BY_KEY)}. May be repeated.")
    ] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Numbers of threads to try [1 and all cores].")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A rough look: few and short rounds.")] = False,
    first_calls: Annotated[
        bool | None,
        typer.Option(help="Time first calls in new processes too [unless rows, contenders or --quick are given]."),
    ] = None,
    show: Annotated[Path | None, typer.Option(help="Measure nothing; show a file of results.", exists=True)] = None,
    docs: Annotated[
        bool | None,
        typer.Option(help=f"Write docs/{document.DOCUMENT.name} [if everything was measured, undisturbed]."),
    ] = None,
) -> None:
    """Measure the speed and memory of chainrule beside its peers."""
    if show is not None:
        results = Results.read(show)
    else:
        cases, contenders = _chosen_cases(rows), _chosen_contenders(only)
        if first_calls is None:
            first_calls = not (rows or only or quick)
        effort = _QUICK if quick else Effort()
        results = _measured(cases, contenders, threads or sorted({1, os.cpu_count() or 1}), effort, first_calls)
        saved = _RESULTS / f"{results.date.replace(':', '').replace(' ', '-')}.json"
        results.write(saved)
        console.print(f"saved {saved.relative_to(Path.cwd()) if saved.is_relative_to(Path.cwd()) else saved.name}\n")
        docs = not (rows or only or threads or quick or results.warning) if docs is None else docs
    report.show(results, console)
    if results.warning:
        console.print(results.warning, style="red")
    if docs:
        document.write(results)
        console.print(f"wrote docs/{document.DOCUMENT.name}")


def _chosen_cases(rows: Sequence[str] | None) -> list[Case]:
    chosen = [case for case in CASES.values() if not rows or any(row == case.kind or row in case.name for row in rows)]
    if not chosen:
        raise typer.BadParameter(f"no row is called that; there are the kinds {_KINDS} and the names {list(CASES)}")
    return chosen


def _chosen_contenders(only: Sequence[str] | None) -> list[Contender]:
    unknown = set(only or ()) - set(BY_KEY)
    if unknown:
        raise typer.BadParameter(f"no contender is called {sorted(unknown)}; there are {list(BY_KEY)}")
    chosen = [contender for contender in CONTENDERS if not only or contender.key in only]
    reasons = {contender: contender.missing for contender in chosen}
    for contender, reason in reasons.items():
        if reason:
            console.print(f"{contender.label} is left out: {reason}", style="yellow", highlight=False)
    return [contender for contender in chosen if not reasons[contender]]


def _measured(
    cases: Sequence[Case], contenders: Sequence[Contender], threads: Sequence[int], effort: Effort, first_calls: bool
) -> Results:
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    results = Results(datetime.now(UTC).strftime("%Y-%m-%d %H:%M"), command, description())
    with console.status("starting the workers") as status:
        timed = [case for case in cases if not isinstance(case, Deep)]
        with crew(contenders if timed else (), threads) as members:
            for case in timed:
                playing = [member for member in members if case.kind in member.contender.kinds]
                if playing:
                    results.timed.append(measure(case, playing, effort, status.update))
        if first_calls:
            for row in results.timed:
                status.update(f"{row.case}: first calls")
                results.first_calls += cold.first_calls(row, effort.compilation)
        status.update("memory")
        deep = [case for case in cases if isinstance(case, Deep)]
        results.memory = [memory.kept(network, contenders) for network in deep]
        if deep:
            results.step_memory = [memory.of_step(MLPS[-1], contenders)]
            results.forward_mode = memory.forward_mode()
    return results


def _run(command: Callable[..., None]) -> None:
    try:
        typer.run(command)
    except (Disagreement, WorkerFailed) as error:
        console.print(f"{type(error).__name__}: {error}", style="red", markup=False)
        sys.exit(1)


if __name__ == "__main__":
    _run(main)
