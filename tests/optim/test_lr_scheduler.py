"""Schedules follow their formulas and go on from one number."""

import json
import math

import numpy as np
import pytest

from chainrule import nn, optim
from chainrule.optim import lr_scheduler as lrs


def optimizer(*rates):
    return optim.SGD([{"params": nn.Parameter(1.0), "lr": lr} for lr in rates or (1.0,)])


def rates(schedule, epochs):
    seen = []
    for _ in range(epochs):
        seen.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.step()
    return seen


@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda o: lrs.LambdaLR(o, lambda epoch: 1 / (1 + epoch)), [1, 1 / 2, 1 / 3, 1 / 4]),
        (lambda o: lrs.StepLR(o, 2, gamma=0.5), [1, 1, 0.5, 0.5, 0.25]),
        (lambda o: lrs.MultiStepLR(o, [1, 3, 3], gamma=0.5), [1, 0.5, 0.5, 0.125, 0.125]),
        (lambda o: lrs.ExponentialLR(o, 0.5), [1, 0.5, 0.25]),
        (lambda o: lrs.LinearLR(o, 0.25, total_iters=3), [0.25, 0.5, 0.75, 1, 1]),
        (lambda o: lrs.CosineAnnealingLR(o, 4), [1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125), 0]),
        (lambda o: lrs.CosineAnnealingLR(o, 2, eta_min=0.2), [1, 0.6, 0.2]),
        (
            lambda o: lrs.SequentialLR(
                o, [lrs.LinearLR(o, 0.5, total_iters=2), lrs.CosineAnnealingLR(o, 2)], milestones=[2]
            ),
            [0.5, 0.75, 1, 0.5, 0],
        ),
    ],
)  # fmt: skip
def test_a_schedule_is_its_formula(make, expected):
    np.testing.assert_allclose(rates(make(optimizer()), len(expected)), expected, atol=1e-15)


def test_every_group_is_scheduled_from_its_own_rate():
    o = optimizer(1.0, 0.2)
    schedule = lrs.LambdaLR(o, [lambda epoch: 0.5**epoch, lambda epoch: 1.0])
    schedule.step()
    assert schedule.get_last_lr() == [0.5, 0.2] == [group["lr"] for group in o.param_groups]


@pytest.mark.parametrize(
    "make",
    [
        lambda o: lrs.StepLR(o, 3),
        lambda o: lrs.SequentialLR(o, [lrs.LinearLR(o, 0.1, total_iters=4), lrs.CosineAnnealingLR(o, 9)], [4]),
    ],
)
def test_a_schedule_goes_on_from_its_state_or_from_the_last_epoch(make):
    whole = rates(make(optimizer(0.3)), 12)
    first = make(optimizer(0.3))
    rates(first, 5)
    second = make(optimizer(0.7))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    np.testing.assert_array_equal(rates(second, 7), whole[5:])


def test_the_state_of_an_optimiser_keeps_the_rate_its_schedule_started_from():
    first = optimizer(0.3)
    rates(lrs.StepLR(first, 1), 4)
    second = optimizer(0.7)
    second.load_state_dict(first.state_dict())
    assert lrs.StepLR(second, 1, last_epoch=3).get_last_lr() == first.param_groups[0]["lr"] * np.ones(1)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda o: lrs.StepLR(o, 0), "StepLR: step_size must be at least 1"),
        (lambda o: lrs.CosineAnnealingLR(o, 0), "T_max must be at least 1"),
        (lambda o: lrs.LinearLR(o, start_factor=0.0), r"start_factor must be in \(0, 1\]"),
        (lambda o: lrs.LambdaLR(o, [abs, abs]), "2 functions for 1 groups"),
        (lambda o: lrs.SequentialLR(o, [lrs.StepLR(o, 1)], [3]), "one milestone between each two"),
        (lambda o: lrs.SequentialLR(o, [lrs.StepLR(o, 1)] * 3, [3, 2]), "milestones must be positive and increasing"),
        (lambda o: lrs.SequentialLR(o, [lrs.StepLR(optimizer(), 1)], []), "of the optimiser it is made for"),
        (lambda o: lrs.StepLR(o, 1).load_state_dict({}), "StepLR: not the state dict of a schedule"),
        (lambda o: lrs.StepLR(o, 1).load_state_dict({"last_epoch": 1, "base_lrs": [1, 2]}), "state is of 2 groups"),
    ],
)
def test_a_schedule_says_what_does_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make(optimizer())
