"""Losses over sequences that are wrong, as those in `clinic.faults.losses`."""

from __future__ import annotations

from typing import Any

from clinic.frameworks import Framework
from clinic.setting import Loss


def shifted_again(f: Framework) -> Loss:
    """Targets that are the next tokens already, moved by one more step."""

    def loss(output: Any, target: Any) -> Any:
        said, wanted = output[:, :-1], target[:, 1:]
        return f.functional.cross_entropy(said.reshape(-1, output.shape[-1]), wanted.reshape(-1))

    return loss


def reshaped_not_swapped(f: Framework) -> Loss:
    """Classes brought to the second axis by `reshape`, which mixes them with the steps."""

    def loss(output: Any, target: Any) -> Any:
        batch, steps, classes = output.shape
        mixed = output.reshape(batch, classes, steps).swapaxes(1, 2)
        return f.functional.cross_entropy(mixed.reshape(-1, classes), target.reshape(-1))

    return loss


def first_step_only(f: Framework) -> Loss:
    """One of the steps that a network writes at; what it says at the others is not looked at."""

    def loss(output: Any, target: Any) -> Any:
        return f.functional.cross_entropy(output[:, 0], target[:, 0])

    return loss


def sorted_by_first_class(f: Framework) -> Loss:
    """Outputs of a batch in one order, targets in another, as after sorting by length and not back."""

    def loss(output: Any, target: Any) -> Any:
        order = f.numpy(output)[:, 0].argsort()
        return f.functional.cross_entropy(output[order], target)

    return loss


def mean_of_columns(f: Framework) -> Loss:
    """The squared error of the mean of all columns, of which each may then be anything."""

    def loss(output: Any, target: Any) -> Any:
        return ((output.mean(1) - target.mean(1)) ** 2).mean()

    return loss
