"""Data that are drawn: clouds, rings and smooth functions of any size, beside those of `clinic.problems`."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from clinic.problems import Problem, friedman, signals, split


@cache
def clouds(seed: int, classes: int, features: int) -> Problem:
    """Clouds of spread 1 around points that are 4 to 6 apart, whatever the dimension."""
    rng = np.random.default_rng(seed)
    centres = np.zeros((classes, features))
    for place in range(classes):  # drawn again until it is far enough from those before it
        reach = 4.0
        while place and np.linalg.norm(centres[:place] - centres[place], axis=1).min() < 4:
            centres[place] = rng.normal(size=features) * reach / np.sqrt(features)
            reach *= 1.1
    labels = rng.integers(0, classes, 1200)
    points = centres[labels] - centres.mean(0) + rng.normal(0, 1, (1200, features))
    return split("blobs", points / points.std(), labels, classes, 850)


@cache
def rings(seed: int, count: int, one_output: bool) -> Problem:
    """Points on rings about the origin; with one output, two rings as 0.0 and 1.0 in a column."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, count, 1200)
    angle = rng.uniform(0, 2 * np.pi, 1200)
    radius = 0.6 + 0.65 * labels + rng.normal(0, 0.07, 1200)
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    problem = split("circles", points, labels, count, 850)
    if not one_output:
        return problem
    return replace(problem.with_targets(lambda labels: labels[:, None].astype(np.float32)), outputs=1)


@cache
def smooth(seed: int, features: int, noise: float) -> Problem:
    """A sum of waves of one and products of two features; all standardised, `noise` is a share of the spread."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (1500, features))
    first, second = rng.integers(0, features, (2, 2))
    y = np.sin(x * rng.uniform(0.5, 2, features) + rng.uniform(-1, 1, features)) @ rng.normal(size=features)
    y += (x[:, first] * x[:, second]).sum(1)
    y = y / y.std() + rng.normal(0, noise, 1500)
    return split("regression", x * np.sqrt(3), ((y - y.mean()) / y.std())[:, None], 1, 1100)


@cache
def noisy_friedman(seed: int, noise: float) -> Problem:
    """Friedman's function with more noise, in shares of its spread."""
    rng = np.random.default_rng(seed)
    return friedman().with_targets(lambda y: (y + rng.normal(0, noise, y.shape)).astype(np.float32))


def signal_channels() -> Problem:
    """The noisy waves as convolutions want them, (1, 24)."""
    return signals().with_inputs(lambda inputs: inputs.reshape(len(inputs), 1, 24))
