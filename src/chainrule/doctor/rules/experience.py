"""What a network has seen: the trials, whether it was trained before, and whether there is anything to see."""

from __future__ import annotations

import math

from chainrule.doctor.limits import Limits
from chainrule.doctor.measurements import Examination, Loss, Trial


def trial_of(exam: Examination, *kinds: str) -> Trial | None:
    """The first trial of one of these kinds."""
    return next((trial for kind in kinds for trial in exam.trials if trial.kind == kind), None)


def knows_its_batch(exam: Examination, limits: Limits) -> bool:
    """Whether the network, as it comes, tells the examples of its batch apart: it was trained, and it can learn."""
    loss = exam.loss
    if loss is None or loss.dealt is None or not 0 <= loss.value < limits.known * loss.dealt:
        return False
    if loss.value >= _of_the_same_answer(loss):
        return False  # chance alone makes the large answers of large weights fit some targets better than others
    return loss.dealt - loss.value > limits.related * loss.dealt_spread


A_LITTLE = 0.02
"""Share of the loss: examples that are alike are lucky together."""


def knows_something(exam: Examination, limits: Limits) -> bool:
    """Whether the network, as it comes, fits the examples of its batch better than luck, and by more than a little:
    most of the loss that is left may be noise.
    """
    loss = exam.loss
    if loss is None or loss.dealt is None:
        return False
    return loss.dealt - loss.value > max(limits.lucky * loss.dealt_spread, A_LITTLE * abs(loss.dealt))


def _of_the_same_answer(loss: Loss) -> float:
    """The loss of the best answer that is the same for all examples, or a bound above it; infinite where unknown."""
    if loss.name == "cross_entropy" and loss.classes:
        return math.log(loss.classes)
    if loss.name == "binary_cross_entropy_with_logits":
        return math.log(2)
    if loss.targets is None:
        return math.inf
    deviation = loss.targets.std
    return {"mse_loss": deviation**2, "l1_loss": deviation, "huber_loss": deviation**2 / 2}.get(loss.name, math.inf)


def inputs_are_all_alike(exam: Examination) -> bool:
    """Whether every number of every input of a batch of several examples is the same."""
    return (
        exam.examples > 1 and bool(exam.inputs) and all(x.spread.std == 0 and x.spread.count > 1 for x in exam.inputs)
    )
