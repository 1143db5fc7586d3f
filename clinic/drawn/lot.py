"""What is drawn, and how: the few shapes of distributions that all draws are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

import numpy as np

Option = TypeVar("Option")


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """Log-uniform from `low` to `high`, to three digits, so that a case can be told in words."""
    return float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.3g}")


def whole(rng: np.random.Generator, low: int, high: int) -> int:
    """A whole number, each from `low` to `high` as likely as the other."""
    return int(rng.integers(low, high + 1))


def one_of(rng: np.random.Generator, *options: Option) -> Option:
    """Any of the options, each as likely as the other."""
    return options[int(rng.integers(len(options)))]


def by_share(rng: np.random.Generator, shares: Mapping[Option, float]) -> Option:
    """One of the keys, as often as its share of their sum says."""
    point = rng.uniform(0, sum(shares.values()))
    for option, share in shares.items():
        point -= share
        if point < 0:
            return option
    return option


def happens(rng: np.random.Generator, share: float) -> bool:
    """Yes, as often as the share says."""
    return bool(rng.uniform() < share)
