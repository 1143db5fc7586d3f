"""What a network has seen: the trials, whether it was trained before, and whether there is anything to see."""

from __future__ import annotations

from chainrule.doctor.limits import Limits
from chainrule.doctor.measurements import Examination, Trial


def trial_of(exam: Examination, *kinds: str) -> Trial | None:
    """The first trial of one of these kinds."""
    return next((trial for kind in kinds for trial in exam.trials if trial.kind == kind), None)


def knows_its_batch(exam: Examination, limits: Limits) -> bool:
    """Whether the network, as it comes, tells the examples of its batch apart: it was trained, and it can learn."""
    loss = exam.loss
    if loss is None or loss.dealt is None or not 0 <= loss.value < limits.known * loss.dealt:
        return False
    return loss.dealt - loss.value > limits.related * loss.dealt_spread


def inputs_are_all_alike(exam: Examination) -> bool:
    """Whether every number of every input of a batch of several examples is the same."""
    return (
        exam.examples > 1 and bool(exam.inputs) and all(x.spread.std == 0 and x.spread.count > 1 for x in exam.inputs)
    )
