"""A long memory: an LSTM learns to add two numbers of a long sequence, a plain recurrent network does not.

    python examples/long_memory.py

The adding problem: each step brings a random number from 0 to 1 and a mark, which is 1 at two steps and 0 at all
others. After the last step the network is to tell the sum of the two marked numbers. One mark is in the first half of
the sequence, so it has to be kept for half the sequence or more. Always answering 1 gives a squared error
of 1/6 on average.

The gradient in time says why the plain network fails: each step back multiplies the gradient by tanh′ and by the
recurrent matrix, and what is left of it after a hundred steps teaches nothing. In an LSTM there is also the way through
the cell, which only the forget gate scales.

Source: Hochreiter and Schmidhuber 1997, "Long Short-Term Memory", experiment 4; with one sequence length and a mark in
each half, as in Le, Jaitly and Hinton 2015, "A Simple Way to Initialize Recurrent Networks of Rectified Linear Units".
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import chainrule as cr
from chainrule import nn, optim

F = nn.functional
BATCH = 32
CHANCE = 1 / 6
SOLVED = 0.01
"""The mean squared error of the last 50 steps at which training stops."""


@dataclass(frozen=True)
class Sizes:
    """How much is done.

    Attributes:
        length: steps of a sequence.
        width: hidden units.
        steps: training steps, each with a new batch of 32 sequences, at most.
        lr: Adam's learning rate.
    """

    length: int = 100
    width: int = 32
    steps: int = 2000
    lr: float = 0.01


@dataclass(frozen=True)
class Result:
    """What came of one network with one seed.

    Attributes:
        losses: of each step.
        error: mean squared error on new sequences.
        solved_after: the step at which the error had fallen below `SOLVED`; None if it never did.
        before, after: the gradient in time, before and after training.
        seconds: of training.
    """

    losses: list[float]
    error: float
    solved_after: int | None
    before: nn.TimeReport
    after: nn.TimeReport
    seconds: float


def sequences(rng: np.random.Generator, length: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of shape (length, count, 2), and the sums of shape (count,)."""
    x = np.zeros((length, count, 2), np.float32)
    x[..., 0] = rng.random((length, count))
    everyone = np.arange(count)
    x[rng.integers(0, length // 2, count), everyone, 1] = 1
    x[rng.integers(length // 2, length, count), everyone, 1] = 1
    return x, (x[..., 0] * x[..., 1]).sum(axis=0)


def new_sequences(sizes: Sizes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches that no network is trained on, the same for all."""
    rng = np.random.default_rng(2**40)  # larger than any seed
    return [sequences(rng, sizes.length, BATCH) for _ in range(64)]


class Adder(nn.Module):
    """A recurrent layer, and a linear one that reads its last state."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        self.layer = layer
        self.head = nn.Linear(width, 1)

    def forward(self, x: np.ndarray) -> cr.Tensor:
        """The answers, shape (count,), to inputs of shape (length, count, 2)."""
        states, _ = self.layer(x)
        return self.head(states[-1])[:, 0]


def plain(width: int) -> nn.Module:
    """PyTorch's start."""
    return nn.RNN(2, width)


def orthogonal(width: int) -> nn.Module:
    """The recurrent matrix neither shrinks nor stretches; only tanh does."""
    layer = nn.RNN(2, width)
    layer.reset_recurrent_orthogonal()
    return layer


def lstm(width: int) -> nn.Module:
    """PyTorch's start."""
    return nn.LSTM(2, width)


def open_lstm(width: int) -> nn.Module:
    """The forget gate starts at σ(1) = 0.73 or so, rather than 0.5."""
    layer = nn.LSTM(2, width)
    layer.reset_forget_bias(1.0)
    return layer


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "RNN": plain,
    "RNN, orthogonal": orthogonal,
    "LSTM": lstm,
    "LSTM, forget bias 1": open_lstm,
}


def run(name: str, sizes: Sizes, seed: int) -> Result:
    """Train one network with one seed, and measure it."""
    nn.random.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = Adder(NETWORKS[name](sizes.width), sizes.width)
    unseen = new_sequences(sizes)
    before = gradient(model, *unseen[0])
    began = perf_counter()
    losses, solved_after = train(model, rng, sizes)
    seconds = perf_counter() - began
    with cr.no_grad():
        error = float(np.mean([F.mse_loss(model(x), y).item() for x, y in unseen]))
    return Result(losses, error, solved_after, before, gradient(model, *unseen[0]), seconds)


def gradient(model: Adder, x: np.ndarray, y: np.ndarray) -> nn.TimeReport:
    """How large the loss's gradient is at each step back."""
    return nn.gradient_through_time(model, lambda: F.mse_loss(model(x), y))


def train(model: Adder, rng: np.random.Generator, sizes: Sizes) -> tuple[list[float], int | None]:
    """Losses of all steps, and after how many the problem was solved, if it was."""
    optimizer = optim.Adam(model.parameters(), lr=sizes.lr)

    @cr.compile
    def step(x: np.ndarray, y: np.ndarray) -> cr.Tensor:
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    losses: list[float] = []
    while len(losses) < sizes.steps:
        losses.append(step(*sequences(rng, sizes.length, BATCH)).item())
        if len(losses) >= 50 and np.mean(losses[-50:]) < SOLVED:
            return losses, len(losses)
    return losses, None


def compare(sizes: Sizes, seeds: Sequence[int]) -> dict[str, list[Result]]:
    """All networks with all seeds."""
    results: dict[str, list[Result]] = {name: [] for name in NETWORKS}
    with Progress(transient=True) as progress:
        task = progress.add_task("training", total=len(NETWORKS) * len(seeds))
        for seed in seeds:
            for name in NETWORKS:
                progress.update(task, description=f"{name}, seed {seed}")
                results[name].append(run(name, sizes, seed))
                progress.advance(task)
    return results


# What came of it -----------------------------------------------------------------------------------------------------


def table(results: dict[str, list[Result]], sizes: Sizes) -> Table:
    """A row for each network, an entry for each seed or their median."""
    title = f"Adding two of {sizes.length} numbers: squared error, by seed"
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    shown.add_column("network")
    for heading in ("error", "solved after", "left before", "left after", "seconds"):
        shown.add_column(heading, justify="right")
    for name, runs in results.items():
        shown.add_row(
            name,
            "\n".join(f"{result.error:.4f}" for result in runs),
            "\n".join(f"{result.solved_after} steps" if result.solved_after else "never" for result in runs),
            "\n".join(f"{result.before.layers[0].remaining[-1]:.0e}" for result in runs),
            "\n".join(f"{result.after.layers[0].remaining[-1]:.0e}" for result in runs),
            "\n".join(f"{result.seconds:.1f}" for result in runs),
        )
    always_one = np.mean([np.mean((y - 1) ** 2) for _, y in new_sequences(sizes)])
    shown.add_row("always 1", f"{always_one:.4f}", "never", "", "", "")
    return shown


def draw(results: dict[str, list[Result]], path: Path) -> None:
    """The loss in training, and the gradient in time before it and after, one colour for each network."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 5), dpi=110, layout="constrained")
    loss, before, after = figure.subplots(1, 3)
    for number, (name, runs) in enumerate(results.items()):
        for place, result in enumerate(runs):
            style = {"color": f"C{number}", "alpha": 0.7, "label": name if place == 0 else None}
            loss.plot(np.convolve(result.losses, np.full(20, 1 / 20), "valid"), **style)
            for axes, report in ((before, result.before), (after, result.after)):
                axes.plot(np.where(report.layers[0].hidden > 0, report.layers[0].hidden, np.nan), **style)
    loss.axhline(CHANCE, color="grey", linewidth=0.8)
    loss.set(title="Error in training (grey: chance)", xlabel="step", yscale="log")
    before.set(title="‖∂L/∂h‖ before training", xlabel="steps back", yscale="log")
    after.set(title="‖∂L/∂h‖ after training", xlabel="steps back", yscale="log")
    for axes in (loss, before, after):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, print the table and the gradients of one seed, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = Sizes()
    parser.add_argument("--length", type=int, default=usual.length, help="steps of a sequence (%(default)s)")
    parser.add_argument("--width", type=int, default=usual.width, help="hidden units (%(default)s)")
    parser.add_argument("--steps", type=int, default=usual.steps, help="training steps at most (%(default)s)")
    parser.add_argument("--lr", type=float, default=usual.lr, help="learning rate (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds (%(default)s)")
    parser.add_argument("--png", type=Path, default=Path("long_memory.png"), help="the picture (%(default)s)")
    given = parser.parse_args(arguments)
    if min(given.length - 1, given.width, given.steps, given.seeds) < 1 or given.seed < 0:
        parser.error("a sequence needs 2 steps, other sizes must be at least 1, and the seed not negative")
    sizes = Sizes(given.length, given.width, given.steps, given.lr)
    results = compare(sizes, range(given.seed, given.seed + given.seeds))
    draw(results, given.png)
    console = Console()
    for name in ("RNN", "LSTM"):
        console.print(f"{name} before training, seed {given.seed}", style="bold underline", highlight=False)
        console.print(results[name][0].before)
        console.print()
    console.print(table(results, sizes))
    console.print(
        f"Left: share of the gradient that is left {sizes.length - 1} steps back, before and after training. Picture: "
        f"{given.png}",
        highlight=False,
    )


if __name__ == "__main__":
    main()
