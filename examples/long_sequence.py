"""A sequence longer than memory: an LSTM on 100,000 steps by truncated backpropagation through time.

    python examples/long_sequence.py

Eight streams, each a sum of three slow waves and some noise, lie in a file. The network predicts the next value of each
from all before. The file is mapped, not read; `nn.TruncatedBPTT` gives it 200 steps at a time, carries the state from
each chunk to the next and detaches it, so that only one chunk's graph is in memory. The largest memory so far is
printed as training goes on, and beside it what full backpropagation through time takes for a tenth of the steps.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

import chainrule as cr
from chainrule import nn, optim

F = nn.functional
STREAMS = 8


@dataclass(frozen=True)
class Stage:
    """What was seen until some step.

    Attributes:
        steps: how many of the sequence are done.
        error: mean squared error over the steps since the stage before.
        simple_error: that of predicting that the value stays as it is.
        peak_bytes: the largest memory of this process so far, as the system counts it.
        seconds: since the beginning.
    """

    steps: int
    error: float
    simple_error: float
    peak_bytes: int
    seconds: float


def write_streams(path: Path, steps: int, seed: int) -> None:
    """Values of shape (steps, STREAMS, 1) into a file, a thousand steps at a time."""
    rng = np.random.default_rng(seed)
    periods, phases = rng.uniform(20, 200, (3, STREAMS)), rng.uniform(0, 2 * np.pi, (3, STREAMS))
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(steps, STREAMS, 1))
    for start in range(0, steps, 1000):
        time = np.arange(start, min(start + 1000, steps))[:, None, None]
        waves = np.sin(2 * np.pi * time / periods + phases).sum(axis=1) / 2
        file[start : start + len(time), :, 0] = waves + 0.05 * rng.standard_normal(waves.shape)


def peak_bytes() -> int:
    """The largest memory of this process so far; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Predictor(nn.Module):
    """An LSTM that tells how the next value differs from this one."""

    def __init__(self, width: int) -> None:
        self.lstm = nn.LSTM(1, width)
        self.head = nn.Linear(width, 1)

    def forward(self, x: np.ndarray, state: object = None) -> tuple[cr.Tensor, object]:
        """The next values, shaped as `x`, and the state after it."""
        y, state = self.lstm(x, state)
        return x + self.head(y), state


def train(path: Path, k: int, width: int, seed: int, stages: int = 10) -> list[Stage]:
    """Go through the sequence once, a step of the optimizer for each chunk of `k` steps."""
    values = np.load(path, mmap_mode="r")
    nn.random.manual_seed(seed)
    model = Predictor(width)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    chunks = nn.TruncatedBPTT((values[:-1], values[1:]), k)
    done: list[Stage] = []
    errors: list[float] = []
    simple_errors: list[float] = []
    steps = 0
    began = perf_counter()
    for place, (x, y) in enumerate(track(chunks, "training", transient=True), 1):
        optimizer.zero_grad()
        predicted, chunks.state = model(x, chunks.state)
        loss = F.mse_loss(predicted, y)
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        steps += len(x)
        errors.append(loss.item())
        simple_errors.append(float(np.mean((y - x) ** 2)))
        if place * stages // len(chunks) > len(done):
            seconds = perf_counter() - began
            done.append(Stage(steps, float(np.mean(errors)), float(np.mean(simple_errors)), peak_bytes(), seconds))
            errors, simple_errors = [], []
    return done


def megabytes(count: int) -> str:
    """As a person reads it."""
    return f"{count / 1e6:.0f} MB" if count else "?"


def table(done: Sequence[Stage], k: int) -> Table:
    """A row for each stage."""
    shown = Table(title=f"In chunks of {k} steps", title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("steps", "squared error", "of no change", "largest memory", "seconds"):
        shown.add_column(heading, justify="right")
    for stage in done:
        errors = (f"{stage.error:.5f}", f"{stage.simple_error:.5f}")
        shown.add_row(f"{stage.steps:,}", *errors, megabytes(stage.peak_bytes), f"{stage.seconds:.1f}")
    return shown


def main(arguments: Sequence[str] | None = None) -> None:
    """Train on the whole sequence in chunks, then on a tenth of it in one, and print what both take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000, help="of the sequence (%(default)s)")
    parser.add_argument("--k", type=int, default=200, help="steps of a chunk (%(default)s)")
    parser.add_argument("--width", type=int, default=32, help="hidden units (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the streams and the weights (%(default)s)")
    given = parser.parse_args(arguments)
    if given.steps < 20 or given.k < 1 or given.width < 1 or given.seed < 0:
        parser.error("a sequence needs 20 steps, a chunk and a layer 1, and the seed must not be negative")
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "streams.npy"
        write_streams(path, given.steps, given.seed)
        done = train(path, given.k, given.width, given.seed)
        console.print(table(done, given.k))
        write_streams(path, given.steps // 10, given.seed)
        (whole,) = train(path, given.steps, given.width, given.seed)
    console.print(
        f"Full backpropagation through {whole.steps:,} steps, a tenth of them: {megabytes(whole.peak_bytes)}.",
        highlight=False,
    )


if __name__ == "__main__":
    main()
