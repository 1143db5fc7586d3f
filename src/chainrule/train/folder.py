"""`RunFolder`: where a run keeps its files, and how they are written so that a kill at any instant spoils none.

    checkpoint.safetensors   everything needed to go on, in one file that is replaced in one step
    metrics.jsonl            one line per epoch; may be ahead of the checkpoint, and is cut back to it on resuming
    config.json              the run's configuration, for people
    plot.png                 the picture, for people
    doctor.html, .json       what the doctor says of the network

What a checkpoint holds is `Training`'s business.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from chainrule.doctor import Report
from chainrule.nn.checkpoint import CheckpointError, load, save, write_atomically
from chainrule.train.errors import RunError

DEFAULT_PARENT = Path("runs")
CHECKPOINT, METRICS, CONFIG, PLOT = "checkpoint.safetensors", "metrics.jsonl", "config.json", "plot.png"
REPORTS = "doctor.html", "doctor.json"

KIND = "chainrule training run"
FORMAT = 1


class RunFolder:
    """A folder of one run.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    # Taking a folder -------------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path | None, name: str, *, overwrite: bool = False) -> RunFolder:
        """A folder for a new run.

        Args:
            path: where; None for a new folder below `runs` with the time and `name` in its name.
            name: what the run is about.
            overwrite: whether a run that is in `path` may be lost.

        Raises:
            RunError: the folder cannot be made, holds a run already, or holds something else.
        """
        if path is None:
            return cls(_new_folder(datetime.now().strftime("%Y-%m-%d-%H%M%S-") + name))
        folder = cls(path)
        with folder._written():
            path.mkdir(parents=True, exist_ok=True)
            there = {entry.name for entry in path.iterdir()} - {part.name for part in folder._half_written()}
        if CHECKPOINT in there and not overwrite:
            raise RunError(
                f"{path} holds a run already. Go on with it (--resume), give it up (--overwrite), "
                "or choose another folder"
            )
        if there and CHECKPOINT not in there:
            shown = ", ".join(sorted(there)[:3]) + (", ..." if len(there) > 3 else "")
            raise RunError(f"{path} is not empty and holds no run ({shown}). Choose a new or empty folder with --run")
        return folder

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """The folder of a run that was started before.

        Raises:
            RunError: there is no such folder, or no checkpoint in it.
        """
        if not path.exists():
            raise RunError(f"{path}: there is no such run folder")
        if not (path / CHECKPOINT).exists():
            raise RunError(f"{path} is no run folder: there is no {CHECKPOINT} in it")
        return cls(path)

    # The checkpoint --------------------------------------------------------------------------------------------------

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint; a reader finds the old one or this one.

        Args:
            state: a tree of arrays and of what JSON can hold.

        Raises:
            RunError: it cannot be written; the old one is as it was.
        """
        with self._written():
            with suppress(FileNotFoundError), (self.path / METRICS).open("rb") as metrics:
                os.fsync(metrics.fileno())  # epochs that the checkpoint counts are on the disk before it
            save({"kind": KIND, "format": FORMAT, **state}, self.path / CHECKPOINT)

    def load(self) -> dict[str, Any]:
        """What `save` was given last; arrays are tensors.

        Raises:
            RunError: the checkpoint is damaged, or of something else.
        """
        path = self.path / CHECKPOINT
        try:
            state = load(path)
        except OSError as error:
            raise RunError(f"{path}: cannot be read: {error.strerror or error}") from error
        except CheckpointError as error:
            raise RunError(str(error)) from error
        if state.get("kind") != KIND:
            raise RunError(f"{path}: a safetensors file, but no checkpoint of `chainrule train`")
        if state.get("format") != FORMAT:
            raise RunError(f"{path}: has format {state.get('format')!r}, and this chainrule reads format {FORMAT}")
        return state

    # Metrics ---------------------------------------------------------------------------------------------------------

    def append_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Add the line of one epoch; numbers that are not finite become null, as JSON has no others.

        Raises:
            RunError: it cannot be written.
        """
        line = json.dumps(_with_null(metrics), allow_nan=False) + "\n"
        with self._written(), (self.path / METRICS).open("ab") as file:
            file.write(line.encode())

    def read_metrics(self, epochs: int) -> list[dict[str, Any]]:
        """The lines of the first `epochs` epochs; what comes after them, or is no whole line, is cut off the file.

        Raises:
            RunError: the file cannot be read or written.
        """
        kept: list[dict[str, Any]] = []
        with self._written(), suppress(FileNotFoundError), (self.path / METRICS).open("r+b") as file:
            end = 0
            for line in file:
                metrics = _parsed(line)
                if metrics is None or metrics["epoch"] > epochs:
                    break
                kept.append(metrics)
                end += len(line)
            file.truncate(end)
        return kept

    # For people ------------------------------------------------------------------------------------------------------

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.json.

        Raises:
            RunError: it cannot be written.
        """
        text = json.dumps(config, indent=2) + "\n"
        with self._written():
            write_atomically(self.path / CONFIG, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def write_plot(self, png: bytes) -> Path:
        """Write plot.png and return its path.

        Raises:
            RunError: it cannot be written.
        """
        with self._written():
            write_atomically(self.path / PLOT, lambda temporary: temporary.write_bytes(png))
        return self.path / PLOT

    def write_report(self, report: Report) -> None:
        """Write doctor.html and doctor.json.

        Raises:
            RunError: they cannot be written.
        """
        with self._written():
            for name in REPORTS:
                report.save(self.path / name)

    def clear(self) -> None:
        """Remove what an earlier run left here besides the checkpoint.

        Raises:
            RunError: it cannot be removed.
        """
        self.sweep()
        with self._written():
            for leftover in (METRICS, PLOT, *REPORTS):
                (self.path / leftover).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove files that a kill left half written.

        Raises:
            RunError: they cannot be removed.
        """
        with self._written():
            for leftover in self._half_written():
                leftover.unlink(missing_ok=True)

    def _half_written(self) -> list[Path]:
        return [path for name in (CHECKPOINT, CONFIG, PLOT, *REPORTS) for path in self.path.glob(f".{name}.*.tmp")]

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise RunError(f"{self.path}: cannot write this run folder: {reason}. Choose one with --run DIR") from error


def _new_folder(name: str) -> Path:
    """Make `runs/<name>`, with a number behind it if another run has taken that name in the same second."""
    number = 1
    while True:
        path = DEFAULT_PARENT / (name if number == 1 else f"{name}-{number}")
        with RunFolder(path)._written():
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                if not DEFAULT_PARENT.is_dir():
                    raise
                number += 1
            else:
                return path


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The metrics of one line, with NaN for null; None if it is only a part of one."""
    try:
        metrics = json.loads(line)
    except ValueError:
        return None
    if not (line.endswith(b"\n") and isinstance(metrics, dict) and isinstance(metrics.get("epoch"), int)):
        return None
    return _with_nan(metrics)


def _with_null(value: Any) -> Any:
    return _replaced(value, lambda x: isinstance(x, float) and not math.isfinite(x), None)


def _with_nan(value: Any) -> Any:
    return _replaced(value, lambda x: x is None, math.nan)


def _replaced(value: Any, unwanted: Callable[[Any], bool], by: Any) -> Any:
    """A tree of dicts and lists with every unwanted leaf replaced."""
    if isinstance(value, Mapping):
        return {key: _replaced(element, unwanted, by) for key, element in value.items()}
    if isinstance(value, list):
        return [_replaced(element, unwanted, by) for element in value]
    return by if unwanted(value) else value
