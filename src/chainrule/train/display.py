"""What a run shows while it goes on: a live table and bar in a terminal, plain lines elsewhere.

Both displays are told the same things; results after the run are in `report`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

LINES_IN_ALL = 20
"""About how many lines a whole run prints where they are not rewritten in place."""

SECONDS_OF_SILENCE = 30.0
"""After so long without a line, one says how far an epoch has come."""

SAMPLE_WIDTH = 76
"""Characters in a line of a sample."""

LINES_AT_ONCE = 10
"""How many epochs the live table shows: the last ones, and when the run is over, some spread over it."""


@dataclass(frozen=True)
class Position:
    """How far a run is.

    Attributes:
        epoch, epochs: the epoch that is running, from 1, and how many there are.
        step, steps: steps done and to do, over all epochs.
        rate: steps per second.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    rate: float


class Display(Protocol):
    """What the loop tells; a context manager around the run."""

    def __enter__(self) -> Display: ...
    def __exit__(self, *error: object) -> None: ...

    def note(self, line: str) -> None:
        """Something to know about the run."""

    def waiting(self, what: str) -> None:
        """Something that comes before the next step takes its time."""

    def at(self, position: Position) -> None:
        """Somewhere within an epoch, a few times a second."""

    def epoch_done(self, metrics: Mapping[str, Any], position: Position) -> None:
        """An epoch is over and was measured."""

    def sample(self, text: str, position: Position) -> None:
        """Something the network has made after this epoch."""


# What stands in a line ---------------------------------------------------------------------------------------------


def columns_of(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Headings and entries of one epoch."""
    if "test_accuracy" in metrics:
        quality = {part: f"{metrics[f'{part}_accuracy']:.1%}" for part in ("train", "test")}
    elif "test_bpc" in metrics:
        quality = {f"{part} bpc": f"{metrics[f'{part}_bpc']:.3f}" for part in ("train", "test")}
        quality["perplexity"] = f"{metrics['test_perplexity']:.4g}"
    else:
        quality = {f"{part} RMSE": f"{metrics[f'{part}_rmse']:.4g}" for part in ("train", "test")}
    return {
        "epoch": str(metrics["epoch"]),
        "loss": f"{metrics['loss']:.4f}",
        **quality,
        "grad norm": f"{metrics['gradient_norm']:.2e}",
        "steps/s": steps_per_second(metrics["steps_per_second"]),
    }


def steps_per_second(rate: float) -> str:
    """A speed, with a decimal where it is slow."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def duration(seconds: float) -> str:
    """Seconds as `m:ss`, or `h:mm:ss`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def spread(count: int, most: int) -> list[int]:
    """At most `most` places among `count`, evenly spread, with the first and the last."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def wrapped(text: str) -> list[str]:
    """A network's text as lines that stand out from the table, the breaks of its own kept."""
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, SAMPLE_WIDTH, drop_whitespace=False)]
    return [f"  │ {''.join(c if c.isprintable() else ' ' for c in line)}" for line in lines if line.strip()]


class _Clock:
    """Time left, from how long the steps since the start of this process took, measurements included."""

    def __init__(self) -> None:
        self._start: tuple[float, int] | None = None

    def left(self, position: Position) -> str:
        now = perf_counter()
        if self._start is None:
            self._start = (now, position.step)
        began, first = self._start
        done = position.step - first
        return duration((position.steps - position.step) * (now - began) / done) if done else "?"


# Plain lines -------------------------------------------------------------------------------------------------------


class PlainDisplay:
    """Lines for a file, a pipe or a quiet terminal: about twenty for the whole run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._clock = _Clock()
        self._headed = False
        self._last_line = perf_counter()

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *error: object) -> None: ...

    def note(self, line: str) -> None:
        self._last_line = perf_counter()
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def waiting(self, what: str) -> None: ...

    def at(self, position: Position) -> None:
        left = self._clock.left(position)
        if perf_counter() - self._last_line > SECONDS_OF_SILENCE:
            self.note(
                f"{f'epoch {position.epoch}':>11}: step {position.step:,} of {position.steps:,}, "
                f"{steps_per_second(position.rate)} steps/s, {left} left"
            )

    def epoch_done(self, metrics: Mapping[str, Any], position: Position) -> None:
        left = self._clock.left(position)
        apart = max(1, position.epochs // LINES_IN_ALL)
        if position.epoch % apart and position.epoch not in (1, position.epochs):
            return
        columns = columns_of(metrics) | {"left": left}
        if not self._headed:
            self._print(list(columns))
            self._headed = True
        self._print(list(columns.values()))

    def sample(self, text: str, position: Position) -> None:
        if position.epoch.bit_count() == 1 or position.epoch == position.epochs:  # 1, 2, 4, 8: most changes at first
            for line in wrapped(text):
                self.note(line)

    def _print(self, entries: Sequence[str]) -> None:
        self.note("".join(f"{entry:>11}" for entry in entries))


# Live --------------------------------------------------------------------------------------------------------------


class LiveDisplay:
    """A table of the last epochs above a bar, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._clock = _Clock()
        self._lines: list[dict[str, str]] = []
        self._sample = Text()
        # Redrawn by the loop and by no thread, so that drawing never competes with a step.
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def note(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False)

    def waiting(self, what: str) -> None:
        self._live.update(Text(f"{what} ..."), refresh=True)

    def at(self, position: Position) -> None:
        self._draw(self._lines[-LINES_AT_ONCE:], position)

    def epoch_done(self, metrics: Mapping[str, Any], position: Position) -> None:
        self._lines.append(columns_of(metrics))
        if position.step == position.steps:
            self._draw([self._lines[place] for place in spread(len(self._lines), LINES_AT_ONCE)], position)

    def sample(self, text: str, position: Position) -> None:
        self._sample = Text("\n".join(wrapped(text)), style="italic")
        lines = spread(len(self._lines), LINES_AT_ONCE) if position.step == position.steps else None
        self._draw([self._lines[i] for i in lines] if lines else self._lines[-LINES_AT_ONCE:], position)

    def _draw(self, lines: Sequence[Mapping[str, str]], position: Position) -> None:
        self._live.update(Group(self._table(lines), self._sample, self._bar(position)), refresh=True)

    def _table(self, lines: Sequence[Mapping[str, str]]) -> Table:
        table = Table(box=None, padding=(0, 2), header_style="bold")
        for heading in lines[-1] if lines else ():
            table.add_column(heading, justify="right")
        for line in lines:
            table.add_row(*line.values())
        return table

    def _bar(self, position: Position) -> Table:
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            Text(f"epoch {position.epoch}/{position.epochs}", style="bold"),
            ProgressBar(total=position.steps, completed=position.step, width=30),
            f"{position.step / position.steps:4.0%}",
            f"{steps_per_second(position.rate)} steps/s",
            f"{self._clock.left(position)} left",
        )
        return bar
