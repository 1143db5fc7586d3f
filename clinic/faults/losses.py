"""Losses that are wrong. Each function takes the framework and gives a loss, as in a `Setting`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from clinic.frameworks import Framework
from clinic.setting import Loss


def squared_distance_to_index(f: Framework) -> Loss:
    """Every output is drawn to the number of the class."""

    def loss(output: Any, target: Any) -> Any:
        return ((output - target.reshape(-1, 1)) ** 2).mean()

    return loss


def absolute_distance_to_index(f: Framework) -> Loss:
    """The same with the absolute distance, as a module of the framework."""
    distance = f.nn.L1Loss()

    def loss(output: Any, target: Any) -> Any:
        wanted = f.numpy(target)[:, None].astype(np.float32).repeat(output.shape[1], axis=1)
        return distance(output, f.array(wanted))

    return loss


def column_against_row(f: Framework) -> Loss:
    """A column less a row is a table: every prediction is drawn to every target."""

    def loss(output: Any, target: Any) -> Any:
        return ((output - target.reshape(-1)) ** 2).mean()

    return loss


def confidence(f: Framework) -> Loss:
    """How sure the network is, of whatever: the targets are not looked at."""

    def loss(output: Any, target: Any) -> Any:
        log_probabilities = f.functional.log_softmax(output, dim=1)
        return -(log_probabilities.exp() * log_probabilities).sum(1).mean()

    return loss


def wrong_sign(f: Framework) -> Loss:
    """A log likelihood that ought to be made large, and is made small."""

    def loss(output: Any, target: Any) -> Any:
        chosen = output[np.arange(len(target)), target]
        return chosen.mean() - output.mean()

    return loss


def without_softmax(f: Framework) -> Loss:
    """The negative log likelihood of what are no log-probabilities."""
    return f.nn.NLLLoss()


def logarithm_of_softmax(f: Framework) -> Loss:
    """Cross-entropy by hand: exp overflows, or a probability rounds to 0."""

    def loss(output: Any, target: Any) -> Any:
        exponentials = output.exp()
        probabilities = exponentials / exponentials.sum(1).reshape(-1, 1)
        return -(probabilities[np.arange(len(target)), target]).log().mean()

    return loss


def relative_error(f: Framework) -> Loss:
    """The error as a share of the target, which may be 0."""

    def loss(output: Any, target: Any) -> Any:
        return (((output - target) / target) ** 2).mean()

    return loss


def classes_only(f: Framework) -> Loss:
    """The first of two heads; the second is forgotten."""

    def loss(output: Any, target: Any) -> Any:
        return f.functional.cross_entropy(output[0], target)

    return loss


def squared_difference_of_logarithms(f: Framework) -> Loss:
    """As people compare prices, though the network may well say less than 0."""

    def loss(output: Any, target: Any) -> Any:
        return ((output.log() - f.tensor(target).log()) ** 2).mean()

    return loss


def difference_of_means(f: Framework) -> Loss:
    """The mean is taken too early: a network is right that is right on average."""

    def loss(output: Any, target: Any) -> Any:
        return (output.mean() - target.mean()) ** 2

    return loss


def hinge_of_zeros_and_ones(f: Framework) -> Loss:
    """A hinge wants classes -1 and 1; a class 0 costs the same whatever the output."""

    def loss(output: Any, target: Any) -> Any:
        return f.functional.relu(1 - output * target).mean()

    return loss


def negative(loss: Callable[[Framework], Loss]) -> Callable[[Framework], Loss]:
    """A score that ought to be made large, and is made small; or the other way about."""

    def made(f: Framework) -> Loss:
        error = loss(f)
        return lambda output, target: -error(output, target)

    return made
