"""How many threads matrix products get: for small ones a second thread costs more than it gives.

A product of the size that digits need takes some ten to some hundred microseconds, and waking a thread about ten. Where
another program is using that core, each product waits for it, which has been seen to slow a run down a hundredfold.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from threadpoolctl import threadpool_limits

from chainrule.train.config import Config

SMALL_PRODUCT = 8_000_000
"""Multiplications in a matrix product below which a second thread gives little (measured with OpenBLAS, float32)."""


def suitable_threads(config: Config, features: int) -> AbstractContextManager[Any]:
    """Inside, matrix products run on one thread if all products of a step are small; otherwise nothing changes."""
    largest = config.batch_size * config.width * max(config.width if config.depth > 1 else 1, features)
    return threadpool_limits(1, user_api="blas") if largest < SMALL_PRODUCT else nullcontext()
