"""The loop around a training: it saves now and then, shows where it is, and stops when it is asked to."""

from __future__ import annotations

import shlex
from time import perf_counter
from typing import Any

import numpy as np

from chainrule.train.display import Display, Position
from chainrule.train.errors import Diverged, Interrupted
from chainrule.train.folder import RunFolder
from chainrule.train.interrupts import StopRequest
from chainrule.train.training import Training

SECONDS_BETWEEN_VIEWS = 0.1
SECONDS_BETWEEN_SAVES = 2.0

SHARE_OF_TIME_FOR_SAVES = 0.05
"""Where writing a checkpoint takes long, it is written less often, so that it takes no more of the time than this."""


class Loop:
    """Runs a training to its end in a run folder.

    Args:
        training: what to run; it may be anywhere in its course.
        folder: where it is saved.
        history: metrics of the epochs that are over; lengthened epoch by epoch.
        display: what is told of it.
    """

    def __init__(self, training: Training, folder: RunFolder, history: list[dict[str, Any]], display: Display) -> None:
        self.training = training
        self.folder = folder
        self.history = history
        self.display = display
        self._rate = 0.0
        self._next_view = self._next_save = 0.0

    def run(self) -> None:
        """Train until all epochs are over; the state after the last is saved.

        Raises:
            Interrupted: a signal asked to stop; the state after the last step is saved.
            Diverged: the loss is no finite number; the last state that was saved stays.
            RunError: the folder cannot be written.
        """
        # Overflow is looked for in the loss, once a step, and reported with its place.
        with StopRequest() as stop, self.display, np.errstate(all="ignore"):
            self.display.waiting("Compiling the step" if self.training.config.compile else "Starting")
            for line in self.training.compile():
                self.display.note(line)
            try:
                while not self.training.finished:
                    self._run_epoch(stop)
            except Diverged as error:
                raise Diverged(f"{error}. {self.folder.path} keeps the last state before that.") from None
            self._save()

    def _run_epoch(self, stop: StopRequest) -> None:
        for _ in self.training.steps_of_epoch():
            now = perf_counter()
            if now >= self._next_view:
                self._next_view = now + SECONDS_BETWEEN_VIEWS
                self.display.at(self._position())
            if now >= self._next_save:
                self._save()
            if stop.signal:
                self._stop(stop)
        position = self._position()
        metrics = self.training.finish_epoch()
        self._rate = metrics["steps_per_second"]
        self.folder.append_metrics(metrics)
        self.history.append(metrics)
        self.display.epoch_done(metrics, position)
        if "sample" in metrics:
            self.display.sample(metrics["sample"], position)

    def _position(self) -> Position:
        progress, training = self.training.progress, self.training
        rate = progress.batch / progress.seconds if progress.seconds else self._rate
        return Position(progress.epoch + 1, training.config.epochs, progress.step, training.steps, rate)

    def _save(self) -> None:
        start = perf_counter()
        self.folder.save(self.training.state_dict())
        now = perf_counter()
        self._next_save = now + max(SECONDS_BETWEEN_SAVES, (now - start) / SHARE_OF_TIME_FOR_SAVES)

    def _stop(self, stop: StopRequest) -> None:
        self._save()
        progress = self.training.progress
        raise Interrupted(
            f"Interrupted in epoch {progress.epoch + 1} after step {progress.step} of {self.training.steps}; saved. "
            f"Go on with: chainrule train --resume {shlex.quote(str(self.folder.path))}",
            stop.signal,
        )
