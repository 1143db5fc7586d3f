"""Data that are wrong. Each function gives what a `Setting` does to its problem first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clinic.problems import Problem

Prepare = Callable[[Problem, np.random.Generator], Problem]


def scaled(factor: float, offset: float = 0.0) -> Prepare:
    """Inputs in another unit."""
    return lambda problem, rng: problem.with_inputs(lambda inputs: (inputs * factor + offset).astype(np.float32))


def scales(smallest: float, largest: float) -> Prepare:
    """Each feature in a unit of its own: from `smallest` to `largest`, in equal ratios."""

    def prepare(problem: Problem, rng: np.random.Generator) -> Problem:
        units = rng.permutation(np.geomspace(smallest, largest, problem.features))
        return problem.with_inputs(lambda inputs: (inputs * units).astype(np.float32))

    return prepare


def correlated(share: float) -> Prepare:
    """Features that are nearly copies of each other: `share` of the variance of each is that of their mean.

    Nothing is lost, for the map can be inverted; but its condition number is √features·√(share/(1 − share)) or so.
    """

    def prepare(problem: Problem, rng: np.random.Generator) -> Problem:
        centre, spread = problem.inputs.mean(0), problem.inputs.std(0)

        def mix(inputs: np.ndarray) -> np.ndarray:
            own = (inputs - centre) / spread
            common = own.mean(1, keepdims=True) * np.sqrt(problem.features)
            return (np.sqrt(share) * common + np.sqrt(1 - share) * own).astype(np.float32)

        return problem.with_inputs(mix)

    return prepare


def zeroed(problem: Problem, rng: np.random.Generator) -> Problem:
    """Pixels divided by 255 as integers, a bug that leaves nothing but zeros."""
    return problem.with_inputs(lambda inputs: ((inputs * 254).astype(np.uint8) // 255).astype(np.float32))


def with_gaps(share: float) -> Prepare:
    """Missing values that are NaN, as tables have them."""

    def prepare(problem: Problem, rng: np.random.Generator) -> Problem:
        return problem.with_inputs(
            lambda inputs: np.where(rng.uniform(size=inputs.shape) < share, np.float32(np.nan), inputs)
        )

    return prepare


def shuffled(problem: Problem, rng: np.random.Generator) -> Problem:
    """Targets that belong to other examples, as after sorting or shuffling one file of two."""
    return problem.with_targets(rng.permutation)


def standardized_without_epsilon(problem: Problem, rng: np.random.Generator) -> Problem:
    """Each feature divided by its spread, also those that are the same in all examples: 0/0."""
    centre, spread = problem.inputs.mean(0), problem.inputs.std(0)

    def standardized(inputs: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (inputs - centre) / spread

    return problem.with_inputs(standardized)


def first_example(problem: Problem, rng: np.random.Generator) -> Problem:
    """A loader that gives the first example whatever it is asked for, though the right target."""
    return problem.with_inputs(lambda inputs: np.repeat(inputs[:1], len(inputs), 0))


def sorted_targets(problem: Problem, rng: np.random.Generator) -> Problem:
    """Targets of a file that was sorted, inputs of one that was not."""
    return problem.with_targets(lambda targets: np.sort(targets, axis=0))


def next_target(problem: Problem, rng: np.random.Generator) -> Problem:
    """The header was read as an example: each has the target of the one after it."""
    return problem.with_targets(lambda targets: np.roll(targets, -1, axis=0))


def lost_row(share: float) -> Prepare:
    """A row is missing among the targets: right ones before it, those of the next example after it."""

    def prepare(problem: Problem, rng: np.random.Generator) -> Problem:
        def lost(targets: np.ndarray) -> np.ndarray:
            place = int(share * len(targets))
            return np.concatenate([targets[:place], np.roll(targets[place:], -1, axis=0)])

        return problem.with_targets(lost)

    return prepare
