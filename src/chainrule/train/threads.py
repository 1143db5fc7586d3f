"""How many threads matrix products get: for small ones a second thread costs more than it gives.

A product of the size that digits need takes some ten to some hundred microseconds, and waking a thread about ten. Where
another program is using that core, each product waits for it, which has been seen to slow a run down a hundredfold.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from threadpoolctl import threadpool_limits

from chainrule.train.config import RECURRENT, Config

SMALL_PRODUCT = 8_000_000
"""Multiplications in a matrix product below which a second thread gives little (measured with OpenBLAS, float32)."""


def suitable_threads(config: Config, features: int) -> AbstractContextManager[Any]:
    """Inside, matrix products run on one thread if all products of a step are small; otherwise nothing changes."""
    return threadpool_limits(1, user_api="blas") if _largest(config, features) < SMALL_PRODUCT else nullcontext()


def _largest(config: Config, features: int) -> int:
    """Multiplications in the largest of the products that follow upon each other."""
    rows, width = config.batch_size, config.width
    if config.model in RECURRENT:
        return rows * width * width  # at each time; the gates are products of their own
    if config.model == "transformer":
        return rows * (config.context or 1) * width * 4 * width
    if config.model == "cnn":
        return 0  # a step takes 14 ms on one thread; where others were busy, a second made that 25 times longer
    return rows * width * max(width if config.depth > 1 else 1, features)
