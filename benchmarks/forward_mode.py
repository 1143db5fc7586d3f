"""Peak memory of forward mode against depth: a tangent travels with the value, so it must not grow."""

from __future__ import annotations

import tracemalloc

import numpy as np

import chainrule as cr


def peak_bytes(depth: int, side: int = 256) -> int:
    """The most memory held at once, beyond the inputs, while `cr.jvp` runs through `depth` steps of tanh(x·W)."""
    rng = np.random.default_rng(0)
    x, v = rng.standard_normal((2, side, side))
    weight = rng.standard_normal((side, side)) / np.sqrt(side)

    def chain(x: cr.Tensor) -> cr.Tensor:
        for _ in range(depth):
            x = np.tanh(x @ weight)
        return x

    tracemalloc.start()
    try:
        cr.jvp(chain, (x,), (v,))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
