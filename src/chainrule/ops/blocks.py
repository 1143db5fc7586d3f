"""Elementwise formulas of many operations on NumPy arrays, a block at a time: what they pass on stays in the cache."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: How many elements a block has: of float32, a few of them fit into a core's own cache.
BLOCK = 32_768


def in_blocks(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """`function(x)`, an elementwise function that keeps the dtype, in the order in memory that `x` has."""
    if x.ndim == 0:
        return function(x.reshape(1)).reshape(())
    if x.size <= BLOCK:
        return function(x)
    order = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))  # the outermost axis first
    flat = np.transpose(x, order).reshape(-1)
    y = np.empty(flat.shape, x.dtype)
    for start in range(0, flat.size, BLOCK):
        y[start : start + BLOCK] = function(flat[start : start + BLOCK])
    return y.reshape([x.shape[axis] for axis in order]).transpose(sorted(range(x.ndim), key=order.__getitem__))
