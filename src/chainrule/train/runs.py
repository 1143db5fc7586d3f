"""`start` and `resume`: a whole run, from its options to its results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from chainrule.train.config import Config
from chainrule.train.display import Display, LiveDisplay, PlainDisplay
from chainrule.train.errors import Diverged, Interrupted, RunError
from chainrule.train.flow import LayerFlow, typical
from chainrule.train.folder import RunFolder
from chainrule.train.loop import Loop
from chainrule.train.plot import plot
from chainrule.train.problem import Problem
from chainrule.train.report import report_flow, report_quality
from chainrule.train.threads import suitable_threads
from chainrule.train.training import Training


@dataclass(frozen=True, eq=False)
class Outcome:
    """A finished run.

    Attributes:
        training: the network and what belongs to it.
        folder: where it is kept.
        history: the metrics of each epoch.
    """

    training: Training
    folder: RunFolder
    history: list[dict[str, Any]]


def start(
    config: Config,
    path: Path | None = None,
    *,
    overwrite: bool = False,
    quiet: bool = False,
    console: Console | None = None,
) -> Outcome:
    """Train a new network.

    Args:
        config: the options.
        path: the run folder; None for a new one below `runs`.
        overwrite: whether a run that is there already may be lost.
        quiet: plain lines, even in a terminal.
        console: where to print; standard output by default.

    Returns:
        The finished run.

    Raises:
        RunError, DataError: the run cannot start.
        Interrupted: a signal stopped it; it is saved.
        Diverged: the loss is no finite number any more.
    """
    console = console or Console()
    training = Training(config, Problem.load(config))
    folder = RunFolder.create(path, training.problem.name, overwrite=overwrite)
    folder.save(training.state_dict())
    folder.clear()
    folder.write_config(config.to_dict())
    return _run(Outcome(training, folder, []), console, quiet)


def resume(path: Path, given: Mapping[str, Any], *, quiet: bool = False, console: Console | None = None) -> Outcome:
    """Go on with a run that was interrupted, to the result it would have had.

    Args:
        path: its folder.
        given: options that were given again; they must be what they were. None: not given.
        quiet, console: as for `start`.

    Returns:
        The finished run.

    Raises:
        RunError: the folder holds no run, the checkpoint is damaged, or options or data have changed.
        DataError, Interrupted, Diverged: as for `start`.
    """
    console = console or Console()
    folder = RunFolder.existing(path)
    state = folder.load()
    try:
        config = Config.from_dict(state["config"])
    except (RunError, TypeError, KeyError, AttributeError) as error:
        raise RunError(f"{path}: the checkpoint's options are damaged ({_in_one_line(error)})") from error
    changed = config.differences(given)
    if changed:
        raise RunError(
            f"{path} cannot go on with other options: {'; '.join(changed)}. Leave them out, or start a new run"
        )
    training = Training(config, Problem.load(config))
    try:
        training.load_state_dict(state)
    except RunError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError(f"{path}: the checkpoint does not fit its options ({_in_one_line(error)})") from error
    folder.sweep()
    return _run(Outcome(training, folder, folder.read_metrics(training.progress.epoch)), console, quiet)


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _run(run: Outcome, console: Console, quiet: bool) -> Outcome:
    training, folder, history = run.training, run.folder, run.history
    progress = training.progress
    place = f"Run folder: {folder.path}"
    if progress.step:
        place += f", going on after step {progress.step} of {training.steps} (epoch {progress.epoch + 1})"
    if training.finished:
        place = f"Run folder: {folder.path}, where all {progress.epoch} epochs are over already"
    for line in (training.problem.describe(), training.describe(), place):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    live = console.is_terminal and not quiet
    display: Display = LiveDisplay(console) if live else PlainDisplay(console)
    with suitable_threads(training.config, len(training.problem.features)):
        try:
            Loop(training, folder, history, display).run()
        except (Interrupted, Diverged):
            _draw(run)
            raise
        _draw(run)
        _report(run, console)
    return run


def _draw(run: Outcome) -> None:
    if run.history:
        run.folder.write_plot(plot(run.history, run.training.describe()))


def _report(run: Outcome, console: Console) -> None:
    report_quality(console, run.history[-1] if run.history else run.training.measure())
    flows = [flow_of(metrics) for metrics in run.history]
    if flows:
        report_flow(console, typical(flows), run.training.layer_shapes(), f"median over {len(flows)} epochs")
    console.print(f"\nSaved in {run.folder.path}: checkpoint, metrics, plot.png", highlight=False, soft_wrap=True)


def flow_of(metrics: Mapping[str, Any]) -> list[LayerFlow]:
    """The gradient flow that a line of metrics.jsonl tells of."""
    numbers = zip(metrics["layers"], metrics["error_signal"], metrics["gradient"], metrics["update_ratio"], strict=True)
    return [LayerFlow(*layer) for layer in numbers]
