"""Losses that are wrong in other ways than those of `clinic.faults.losses`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from clinic.frameworks import Framework
from clinic.setting import Loss

Made = Callable[[Framework], Loss]


def times(factor: float, loss: Made) -> Made:
    """A loss that is summed where its mean was meant, or divided twice: the steps are as much longer or shorter."""

    def made(f: Framework) -> Loss:
        usual = loss(f)
        return lambda output, target: usual(output, target) * factor

    return made


def other_way_round(f: Framework) -> Loss:
    """1 stands for no here, and for yes where the targets come from."""
    loss = f.nn.BCEWithLogitsLoss()
    return lambda output, target: loss(output, 1 - target)


def without_square(f: Framework) -> Loss:
    """The mean of the errors, not of their squares, which falls for ever as the output does."""
    return lambda output, target: (output - target).mean()


def positives_weigh(weight: float) -> Made:
    """A weight for the positives where they are as many as the negatives."""
    return lambda f: f.nn.BCEWithLogitsLoss(pos_weight=f.tensor(np.array([weight], np.float32)))


def mean_over_batch_first(f: Framework) -> Loss:
    """The mean of what comes out against the mean of what is wanted."""
    return lambda output, target: ((output.mean(0) - target.mean(0)) ** 2).mean()


def rate_for_count(f: Framework) -> Loss:
    """Poisson's likelihood with its arguments swapped: the rate is judged as a count."""

    def loss(rate: Any, count: Any) -> Any:
        return (f.tensor(count) - rate * (f.tensor(count) + 1e-6).log()).mean()

    return loss


def deviance(f: Framework) -> Loss:
    """Poisson's deviance as in the books: 0·log 0 is not a number."""

    def loss(rate: Any, count: Any) -> Any:
        count = f.tensor(count)
        return 2 * (count * (count / (rate + 1e-6)).log() - (count - rate)).mean()

    return loss


def brightness(f: Framework) -> Loss:
    """Whether each image is as bright as it should be as a whole."""
    return lambda output, target: ((output.mean((1, 2, 3)) - target.mean((1, 2, 3))) ** 2).mean()


def class_of_first(f: Framework) -> Loss:
    """A slip in the index: all examples of a batch are asked for the class of the first one."""
    cross_entropy = f.nn.CrossEntropyLoss()
    return lambda output, target: cross_entropy(output, f.array(f.numpy(target)[:1].repeat(len(target))))
