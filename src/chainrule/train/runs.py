"""`start`, `resume` and `sample`: a whole run, from its options to its results, and what its network writes."""

from __future__ import annotations

import math
import shlex
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from chainrule.data import Vocabulary
from chainrule.train.build import build_model, build_problem
from chainrule.train.checkup import Checkup
from chainrule.train.config import TEXT_MODELS, Config, option
from chainrule.train.display import Display, LiveDisplay, PlainDisplay
from chainrule.train.errors import RunError
from chainrule.train.folder import RunFolder
from chainrule.train.loop import Loop
from chainrule.train.plot import plot
from chainrule.train.report import report_flow, report_quality
from chainrule.train.sampling import written
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
    doctor: bool = False,
    console: Console | None = None,
) -> Outcome:
    """Train a new network.

    Args:
        config: the options.
        path: the run folder; None for a new one below `runs`.
        overwrite: whether a run that is there already may be lost.
        quiet: plain lines, even in a terminal.
        doctor: watch the network as it trains, and print what is found.
        console: where to print; standard output by default.

    Returns:
        The finished run.

    Raises:
        RunError, DataError: the run cannot start.
        Interrupted: a signal stopped it; it is saved.
        Diverged: the loss is no finite number any more.
    """
    console = console or Console()
    training = Training(config, build_problem(config))
    folder = RunFolder.create(path, training.problem.name, overwrite=overwrite)
    folder.save(training.state_dict())
    folder.clear()
    folder.write_config(config.to_dict())
    return _run(Outcome(training, folder, []), console, quiet, doctor)


def resume(
    path: Path,
    given: Mapping[str, Any],
    *,
    quiet: bool = False,
    doctor: bool = False,
    console: Console | None = None,
) -> Outcome:
    """Go on with a run that was interrupted, to the result it would have had.

    Args:
        path: its folder.
        given: options that were given again; they must be what they were. None: not given.
        quiet, doctor, console: as for `start`.

    Returns:
        The finished run.

    Raises:
        RunError: the folder holds no run, the checkpoint is damaged, or options or data have changed.
        DataError, Interrupted, Diverged: as for `start`.
    """
    console = console or Console()
    folder = RunFolder.existing(path)
    state = folder.load()
    config = _config_of(state, path)
    changed = config.differences(given)
    if changed:
        raise RunError(
            f"{path} cannot go on with other options: {'; '.join(changed)}. Leave them out, or start a new run"
        )
    training = Training(config, build_problem(config))
    try:
        training.load_state_dict(state)
    except RunError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _unfitting(path, error) from error
    folder.sweep()
    return _run(Outcome(training, folder, folder.read_metrics(training.progress.epoch)), console, quiet, doctor)


def sample(
    path: Path, *, length: int = 500, temperature: float = 0.8, seed: int = 0, prompt: str = ""
) -> Iterator[str]:
    """Let the network of a run write.

    Args:
        path: the run's folder.
        length: characters to write.
        temperature: see `sampling.written`.
        seed: of the draws.
        prompt: what to go on from.

    Returns:
        The characters, one by one, as they are written.

    Raises:
        RunError: the folder holds no run of a network that writes, or an option is out of range.
        DataError: a character of the prompt did not occur in the text that was learned.
    """
    for name, value in {"length": length, "temperature": temperature, "seed": seed}.items():
        if not 0 <= value < math.inf:
            raise RunError(f"{option(name)} is a number not negative, got {value}")
    state = RunFolder.existing(path).load()
    config = _config_of(state, path)
    if config.model not in TEXT_MODELS:
        raise RunError(f"{path} is a run of --model {config.model}, which writes no text; sample one of a text")
    try:
        vocabulary = Vocabulary(str(state["data"]["characters"]))
        model = build_model(config, len(vocabulary), len(vocabulary))
        model.load_state_dict(state["model"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _unfitting(path, error) from error
    vocabulary.encode(prompt)
    return written(model, vocabulary, length, prompt=prompt, temperature=temperature, seed=seed)


def _config_of(state: Mapping[str, Any], path: Path) -> Config:
    try:
        return Config.from_dict(state["config"])
    except (RunError, TypeError, KeyError, AttributeError) as error:
        raise RunError(f"{path}: the checkpoint's options are damaged ({_in_one_line(error)})") from error


def _unfitting(path: Path, error: Exception) -> RunError:
    return RunError(f"{path}: the checkpoint does not fit its options ({_in_one_line(error)})")


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _run(run: Outcome, console: Console, quiet: bool, doctor: bool) -> Outcome:
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
    with suitable_threads(training.config, training.problem.inputs):
        with warnings.catch_warnings(record=True) as warned:
            checkup = Checkup(training, thorough=doctor)
        for warning in warned:
            console.print(str(warning.message), highlight=False, soft_wrap=True, markup=False)
        checkup.tell_before(console)
        checkup.save(folder)
        try:
            Loop(training, folder, history, display).run()
        finally:
            _draw(run)
            checkup.save(folder)
        _report(run, console)
        checkup.tell_after(console)
    return run


def _draw(run: Outcome) -> None:
    if run.history:
        run.folder.write_plot(plot(run.history, run.training.describe()))


def _report(run: Outcome, console: Console) -> None:
    report_quality(console, run.history[-1] if run.history else run.training.measure())
    if run.history:
        report_flow(console, run.history, run.training.layer_spans())
    console.print(
        f"\nSaved in {run.folder.path}: checkpoint, metrics, plot.png, doctor.html", highlight=False, soft_wrap=True
    )
    if run.training.config.model in TEXT_MODELS:
        console.print(
            f"Let it write: chainrule sample {shlex.quote(str(run.folder.path))}", highlight=False, soft_wrap=True
        )
