"""Data of sequences that are wrong, as those in `clinic.faults.data`."""

from __future__ import annotations

import numpy as np

from clinic.faults.data import Prepare
from clinic.problems import Problem


def one_sensor(place: int, factor: float, offset: float = 0.0) -> Prepare:
    """One of several columns in another unit."""

    def prepare(problem: Problem, rng: np.random.Generator) -> Problem:
        factors, offsets = np.ones(problem.features), np.zeros(problem.features)
        factors[place], offsets[place] = factor, offset
        return problem.with_inputs(lambda inputs: (inputs * factors + offsets).astype(np.float32))

    return prepare


def common_swing(share: float) -> Prepare:
    """Sensors that nearly say the same: `share` of the variance of each is that of their sum; nothing is lost."""

    def prepare(problem: Problem, rng: np.random.Generator) -> Problem:
        def mix(inputs: np.ndarray) -> np.ndarray:
            common = inputs.sum(2, keepdims=True) / np.sqrt(problem.features)
            return (np.sqrt(share) * common + np.sqrt(1 - share) * inputs).astype(np.float32)

        return problem.with_inputs(mix)

    return prepare


def unknown_tokens(problem: Problem, rng: np.random.Generator) -> Problem:
    """Words looked up in the vocabulary of another file: none is there, and all are the unknown one."""
    return problem.with_inputs(np.zeros_like)


def reversed_file(problem: Problem, rng: np.random.Generator) -> Problem:
    """Targets read from the end of their file, inputs from its beginning."""
    return problem.with_targets(lambda targets: targets[::-1].copy())
