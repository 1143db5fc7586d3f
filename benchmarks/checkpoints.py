"""What checkpoints save and cost, beside the theory: `python -m benchmarks.checkpoints`.

One process, one thread; memory is Python's own account of it, times are processor times of steps in turn.
"""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

import chainrule as cr
from chainrule import nn
from chainrule.core.quantities import bytes_text

_DEPTH = 256
_WIDTH = 128
_BATCH = 1024
_TURNS = 5


def layers(checkpoint: Any) -> nn.Module:
    """A network of `_DEPTH` layers: a product and a tanh each; "halves" has checkpoints in `halved` ones."""
    nn.random.manual_seed(0)
    if checkpoint == "halves":
        return halved(_DEPTH)
    parts = [part for _ in range(_DEPTH) for part in (nn.Linear(_WIDTH, _WIDTH), nn.Tanh())]
    return nn.Sequential(*parts, checkpoint=checkpoint)


def residual(checkpoint: Any) -> nn.Module:
    """A residual network of 1000 layers."""
    nn.random.manual_seed(0)
    return nn.MLP(_WIDTH, 64, _WIDTH, depth=1000, residual=True, norm="layer", checkpoint=checkpoint)


def halved(count: int) -> nn.Module:
    """So many layers, halved again and again, with a checkpoint around the first of each two halves."""
    if count == 1:
        return nn.Sequential(nn.Linear(_WIDTH, _WIDTH), nn.Tanh())
    halves = halved(count // 2), halved(count - count // 2)
    return nn.Sequential(*halves, checkpoint=1)


def traced(run: Callable[[], Any]) -> tuple[int, int]:
    """Bytes that a call leaves behind with its result, and the most at any moment."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    result = run()
    after, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del result
    return after - before, most - before


def step(model: nn.Module, x: Any) -> None:
    """A forward and a backward pass; gradients are left."""
    model.zero_grad()
    (model(x) ** 2).mean().backward()


def seconds(run: Callable[[], Any]) -> float:
    """Processor time of a call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def same_bits(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have equal gradients, to the last bit."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(p.grad is not None and q.grad is not None and (p.grad._value == q.grad._value).all() for p, q in pairs)


def measure(make: Callable[[Any], nn.Module], choices: dict[str, Any]) -> Table:
    """A row for each choice of checkpoints: what is kept, the most at a time, the time of a step."""
    x = np.random.default_rng(0).standard_normal((_BATCH, _WIDTH)).astype(np.float32)
    plain, rows = make(None), []
    for name, checkpoint in choices.items():
        model = make(checkpoint)
        for each in (plain, model):
            step(each, x)
        same = same_bits(plain, model)
        ratios = []
        for _ in range(_TURNS):
            before = seconds(partial(step, plain, x))
            ratios.append(seconds(partial(step, model, x)) / before)
        model.zero_grad()
        kept, _ = traced(partial(model, x))
        _, most = traced(partial(step, model, x))
        rows.append((name, kept, most, statistics.median(ratios), same))
    table = Table("checkpoint", "kept", "share", "most at a time", "time", "same bits", box=None, padding=(0, 2))
    for name, kept, most, ratio, same in rows:
        share = f"{kept / rows[0][1]:.1%}"
        table.add_row(name, bytes_text(kept), share, bytes_text(most), f"{ratio:.2f}", "yes" if same else "no")
    return table


def forward_share() -> float:
    """How much of a step without checkpoints is its forward pass."""
    x = np.random.default_rng(0).standard_normal((_BATCH, _WIDTH)).astype(np.float32)
    model = layers(None)
    step(model, x)
    shares = [seconds(partial(model, x)) / seconds(partial(step, model, x)) for _ in range(_TURNS)]
    return statistics.median(shares)


def main() -> None:
    """Print the tables."""
    console = Console(width=110)
    whole = cr.memory(layers(None)).estimate((_BATCH, _WIDTH)).nbytes
    with threadpool_limits(1):
        console.print(f"{_DEPTH} layers of width {_WIDTH}, batch {_BATCH}; estimated: {bytes_text(whole)}")
        budgets = {f"MemoryBudget, {share:.0%}": cr.MemoryBudget(int(share * whole)) for share in (0.1, 0.15, 0.3, 0.5)}
        choices = {"None": None, '"sqrt"': "sqrt", "8": 8, "64": 64, **budgets, "halves of halves": "halves"}
        console.print(measure(layers, choices))
        console.print(f"the forward pass is {forward_share():.0%} of a step without checkpoints")
        console.print("\n1000 residual layers of width 64")
        console.print(measure(residual, {"None": None, '"sqrt"': "sqrt"}))


if __name__ == "__main__":
    main()
