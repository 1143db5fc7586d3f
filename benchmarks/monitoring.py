"""What watching a training loop costs: `python -m benchmarks.monitoring`.

One training goes on in turns of fifty steps, every second of them inside `cr.monitor(every=50)`. Processor time of
every step, on one thread. Where arrays come to lie in memory changes the time of all steps of a process by a percent,
so each training runs in several processes, one after the other.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # read when the libraries are loaded, so before all other imports

import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from itertools import pairwise  # noqa: E402
from multiprocessing import get_context  # noqa: E402
from statistics import median  # noqa: E402
from typing import Annotated, Any  # noqa: E402

import numpy as np  # noqa: E402
import typer  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

import chainrule as cr  # noqa: E402
from benchmarks.cases import CASES  # noqa: E402
from benchmarks.contenders import modules  # noqa: E402
from benchmarks.networks import Network  # noqa: E402
from chainrule.doctor.watch import OVERHEAD  # noqa: E402

_EVERY = 50
_NETWORKS = ("MLP 784-512-512-10", "CNN 1×28×28, conv16-pool-conv32-pool-10, batch 64")
_FRAMEWORKS = ("chainrule", "chainrule compiled", "PyTorch")


@dataclass(frozen=True)
class Training:
    """A network in training: what a monitor is told of it, and one step."""

    model: Any
    optimizer: Any
    step: Callable[[], None]


def training(case: Network, framework: str) -> Training:
    """The same training in either framework: zero_grad, softmax cross-entropy, backward, SGD."""
    if framework == "PyTorch":
        import torch
        from torch import nn, optim

        torch.set_num_threads(1)
        as_tensor: Callable[[np.ndarray], Any] = torch.from_numpy
    else:
        from chainrule import nn, optim

        as_tensor = cr.tensor
    model = modules.network(nn, case)
    model.load_state_dict({path: as_tensor(value) for path, value in case.state_dict().items()})
    optimizer = optim.SGD(model.parameters(), lr=case.learning_rate)
    inputs, targets = map(as_tensor, case.data())

    def advance(inputs: Any, targets: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss

    step = cr.compile(advance, strict=True, threads=1) if framework == "chainrule compiled" else advance
    return Training(model, optimizer, lambda: step(inputs, targets))


def seconds(step: Callable[[], None], count: int) -> list[float]:
    """Processor time of each of so many steps."""
    times = [time.process_time()]
    for _ in range(count):
        step()
        times.append(time.process_time())
    return [after - before for before, after in pairwise(times)]


@dataclass(frozen=True)
class Overhead:
    """What watching costs.

    Attributes:
        share: processor time with a monitor over that without, less one.
        sample: how many plain steps a watched step takes beyond its own, with what the next one takes where its
            gradients are compared.
        other: share by which the other steps are slower.
        apart: steps from one that was watched to the next, on average.
        step: seconds of a plain step.
    """

    share: float
    sample: float
    other: float
    apart: float
    step: float


def overhead(name: str, framework: str, turns: int) -> Overhead:
    """Measure one network in one framework: medians over all steps of a kind, which a busy machine moves least."""
    trained = training(CASES[name], framework)  # type: ignore[arg-type]
    alone: list[float] = []
    looked_at: list[float] = []
    following: dict[bool, list[float]] = {True: [], False: []}  # by whether gradients were compared
    others: list[float] = []
    seconds(trained.step, 5)
    # To the monitor the turns without it are time that passes too, so it gets half the share.
    monitor = cr.monitor(trained.model, optimizer=trained.optimizer, every=_EVERY, warn=False, overhead=OVERHEAD / 2)
    for _ in range(turns):
        alone += seconds(trained.step, _EVERY)
        with monitor:
            first, second, *rest = seconds(trained.step, _EVERY)
        due = monitor.history[-1].step == monitor.step - _EVERY
        others += rest if due else [first, second, *rest]
        if due:
            looked_at.append(first)
            following[monitor.history[-1].noise is not None].append(second)
    each, other = median(alone), median(others)
    after = sum(len(times) * median(times) for times in following.values() if times) / len(looked_at)
    sample = median(looked_at) + after - each
    total = len(others) + 2 * len(looked_at)
    share = (len(looked_at) * (sample + each) + len(others) * other) / total / each - 1
    return Overhead(share, sample / each - 1, other / each - 1, total / len(looked_at), each)


def in_processes(count: int, name: str, framework: str, turns: int) -> list[Overhead]:
    """The same in so many processes of their own, those with the smallest shares first."""
    alone = get_context("spawn")
    found = []
    for _ in range(count):
        with alone.Pool(1) as pool:
            found.append(pool.apply(overhead, (name, framework, turns)))
    return sorted(found, key=lambda overhead: overhead.share)


def main(
    turns: Annotated[int, typer.Option(help="How often it trains for fifty steps with a monitor, and without.")] = 40,
    processes: Annotated[int, typer.Option(help="How many processes do so, one after the other.")] = 5,
    only: Annotated[str, typer.Option(help="Only networks and frameworks with this in their names.")] = "",
) -> None:
    """Print the table: medians over the processes, and of the shares the least and the largest."""
    table = Table("network", "", "step", "monitor(every=50)", "a look takes", "every", "other steps",
                  box=None, padding=(0, 2))  # fmt: skip
    console = Console(width=120)
    for name in _NETWORKS:
        for framework in _FRAMEWORKS:
            if only not in f"{name} {framework}":
                continue
            console.print(f"{name}, {framework}", style="dim")
            found = in_processes(processes, name, framework, turns)
            middle = {part: median(getattr(one, part) for one in found) for part in Overhead.__annotations__}
            table.add_row(
                name.split(",")[0], framework, f"{middle['step'] * 1e3:.2f} ms",
                f"{middle['share']:+.1%} ({found[0].share:+.1%} to {found[-1].share:+.1%})",
                f"{middle['sample']:.2f} steps", f"{middle['apart']:.0f}", f"{middle['other']:+.1%}",
            )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
