"""Data that are wrong in other ways than those of `clinic.faults.data`. Each function gives what is done first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clinic.faults.data import Prepare
from clinic.problems import Problem


def column_scaled(place: int, factor: float, offset: float = 0.0) -> Prepare:
    """One feature in another unit, the others as they were."""

    def scaled(inputs: np.ndarray) -> np.ndarray:
        inputs = inputs.copy()
        inputs[..., place] = inputs[..., place] * factor + offset
        return inputs

    return lambda problem, rng: problem.with_inputs(scaled)


def exponentials(rate: float) -> Prepare:
    """Amounts whose logarithm was meant: most are small, a few are enormous."""
    return lambda problem, rng: problem.with_inputs(lambda inputs: np.exp(rate * inputs + 4).astype(np.float32))


def running_sums(problem: Problem, rng: np.random.Generator) -> Problem:
    """Each feature is the total of all up to it, as in tables of months; nothing is lost but neighbours are alike."""
    return problem.with_inputs(lambda inputs: _standardized(problem.inputs.cumsum(1), inputs.cumsum(1)))


def blurred(radius: float) -> Prepare:
    """Neighbouring features mixed by a Gaussian, which can be undone, and standardised again."""

    def prepare(problem: Problem, rng: np.random.Generator) -> Problem:
        place = np.arange(problem.features)
        kernel = np.exp(-0.5 * ((place[:, None] - place) / radius) ** 2)
        return problem.with_inputs(lambda inputs: _standardized(problem.inputs @ kernel, inputs @ kernel))

    return prepare


def with_common_part(size: float) -> Prepare:
    """Each example has something of its own that all of its features share and that says nothing."""

    def prepare(problem: Problem, rng: np.random.Generator) -> Problem:
        spread = (1 + size**2) ** 0.5

        def shared(inputs: np.ndarray) -> np.ndarray:
            return ((inputs + size * rng.normal(size=(len(inputs), 1))) / spread).astype(np.float32)

        return problem.with_inputs(shared)

    return prepare


def _standardized(train: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    return ((inputs - train.mean(0)) / train.std(0)).astype(np.float32)


def reversed_targets(problem: Problem, rng: np.random.Generator) -> Problem:
    """One file was read from its end."""
    return problem.with_targets(lambda targets: np.ascontiguousarray(targets[::-1]))


def transposed_targets(rows: int) -> Prepare:
    """Targets laid out by columns and read by rows."""

    def read(targets: np.ndarray) -> np.ndarray:
        whole = len(targets) // rows * rows
        order = np.arange(whole).reshape(rows, -1).T.ravel()
        return targets[np.concatenate([order, np.arange(whole, len(targets))])]

    return lambda problem, rng: problem.with_targets(read)


def late_targets(steps: int) -> Prepare:
    """A queue that gives targets so many examples late."""
    return lambda problem, rng: problem.with_targets(lambda targets: np.roll(targets, steps, axis=0))


def columns_by_themselves(problem: Problem, rng: np.random.Generator) -> Problem:
    """Each column of the targets was sorted by another key."""
    return problem.with_targets(lambda targets: rng.permuted(targets, axis=0))


def cut_to_whole_numbers(problem: Problem, rng: np.random.Generator) -> Problem:
    """Measurements divided by ten, as somebody thought they were percentages, and kept as whole numbers: zeros."""
    return problem.with_inputs(lambda inputs: np.trunc(inputs / 10).astype(np.float32))


def emptied(share: float) -> Prepare:
    """Some examples have nothing in them."""

    def prepare(problem: Problem, rng: np.random.Generator) -> Problem:
        def without(inputs: np.ndarray) -> np.ndarray:
            return inputs * (rng.uniform(size=(len(inputs), 1)) >= share).astype(np.float32)

        return replace(problem, inputs=without(problem.inputs))

    return prepare
