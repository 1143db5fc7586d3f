"""Optimisers, schedules and clipping against PyTorch's: the same trajectories from the same gradients."""

import inspect
import math

import numpy as np
import pytest
import torch

from chainrule import nn, optim

SHAPES = [(4, 3), (3,), ()]

OPTIONS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.05, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.05, "momentum": 0.8}),
    ("RMSprop", {"lr": 0.05, "centered": True, "momentum": 0.8}),
    ("Adam", {}),
    ("Adam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.05, "amsgrad": True}),
    ("Adam", {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.5, "amsgrad": True}),
]


def values(seed):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in SHAPES]


class Both:
    """The same parameters here and in PyTorch, given the same gradients."""

    def __init__(self, dtype=np.float64):
        self.dtype = dtype
        self.ours = [nn.Parameter(value.astype(dtype)) for value in values(0)]
        self.theirs = [torch.nn.Parameter(torch.tensor(value.astype(dtype))) for value in values(0)]

    def set_gradients(self, step, scale=1.0):
        for p, q, g in zip(self.ours, self.theirs, values(step + 1), strict=True):
            g = (scale * (g + 0.3 * p.data)).astype(self.dtype)
            p.grad, q.grad = g, torch.tensor(g)

    def assert_same(self, rtol=1e-11):
        for p, q in zip(self.ours, self.theirs, strict=True):
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("dtype, rtol", [(np.float64, 1e-11), (np.float32, 3e-5)])
@pytest.mark.parametrize("name, options", OPTIONS)
def test_twenty_steps_take_pytorchs_trajectory(name, options, dtype, rtol):
    both = Both(dtype)
    ours, theirs = getattr(optim, name)(both.ours, **options), getattr(torch.optim, name)(both.theirs, **options)
    for step in range(20):
        both.set_gradients(step)
        ours.step(), theirs.step()
        both.assert_same(rtol)


@pytest.mark.parametrize("name, options", OPTIONS)
def test_the_state_of_pytorchs_optimiser_loads_and_the_trajectory_goes_on(name, options):
    both = Both()
    theirs = getattr(torch.optim, name)(both.theirs, **options)
    for step in range(3):
        both.set_gradients(step)
        theirs.step()
    for p, q in zip(both.ours, both.theirs, strict=True):
        p.data = q.detach().numpy()
    ours = getattr(optim, name)(both.ours)
    ours.load_state_dict(theirs.state_dict())
    for step in range(3, 6):
        both.set_gradients(step)
        ours.step(), theirs.step()
        both.assert_same()


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW"])
def test_the_arguments_of_an_optimiser_have_pytorchs_names_order_and_defaults(name):
    ours = list(inspect.signature(getattr(optim, name).__init__).parameters.values())
    theirs = inspect.signature(getattr(torch.optim, name).__init__).parameters
    common = [p for p in theirs.values() if p.name in {q.name for q in ours}]
    assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in common]


SCHEDULES = [
    lambda n, o: n.StepLR(o, 3, gamma=0.5),
    lambda n, o: n.MultiStepLR(o, [2, 5, 5], gamma=0.5),
    lambda n, o: n.ExponentialLR(o, 0.8),
    lambda n, o: n.LambdaLR(o, lambda epoch: 1 / (1 + epoch)),
    lambda n, o: n.LinearLR(o),
    lambda n, o: n.LinearLR(o, start_factor=0.01, end_factor=0.5, total_iters=7),
    lambda n, o: n.CosineAnnealingLR(o, 10, eta_min=0.01),
    lambda n, o: n.SequentialLR(
        o, [n.LinearLR(o, 0.1, total_iters=4), n.CosineAnnealingLR(o, 12), n.StepLR(o, 2)], milestones=[4, 16]
    ),
]


@pytest.mark.filterwarnings("ignore:The epoch parameter")  # PyTorch's SequentialLR warns about itself
@pytest.mark.parametrize("make", SCHEDULES)
def test_a_schedule_gives_pytorchs_rates(make):
    both = Both()
    groups = [{"params": [0], "lr": 0.3}, {"params": [1, 2]}]
    ours, theirs = (
        kind([{**group, "params": [parameters[i] for i in group["params"]]} for group in groups], lr=0.1)
        for kind, parameters in ((optim.SGD, both.ours), (torch.optim.SGD, both.theirs))
    )
    schedule, other = make(optim.lr_scheduler, ours), make(torch.optim.lr_scheduler, theirs)
    for _ in range(25):
        rates = [group["lr"] for group in ours.param_groups]
        np.testing.assert_allclose(rates, [group["lr"] for group in theirs.param_groups], rtol=1e-10, atol=1e-14)
        assert schedule.get_last_lr() == rates
        theirs.step()
        schedule.step(), other.step()


@pytest.mark.parametrize("scale", [0.01, 100.0])
@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
def test_clipping_by_norm_gives_pytorchs_gradients_and_norm(norm_type, scale):
    both = Both()
    both.set_gradients(0, scale)
    ours = optim.clip_grad_norm_(both.ours, 1.5, norm_type)
    theirs = torch.nn.utils.clip_grad_norm_(both.theirs, 1.5, norm_type)
    np.testing.assert_allclose(ours, theirs.item(), rtol=1e-12)
    for p, q in zip(both.ours, both.theirs, strict=True):
        np.testing.assert_allclose(p.grad.data, q.grad.numpy(), rtol=1e-12)


def test_clipping_by_value_gives_pytorchs_gradients():
    both = Both()
    both.set_gradients(0)
    optim.clip_grad_value_(both.ours, 0.5)
    torch.nn.utils.clip_grad_value_(both.theirs, 0.5)
    for p, q in zip(both.ours, both.theirs, strict=True):
        np.testing.assert_array_equal(p.grad.data, q.grad.numpy())


@pytest.mark.parametrize("name, options", [("SGD", {"lr": 0.1, "momentum": 0.9}), ("AdamW", {"lr": 0.02})])
def test_a_network_trains_along_pytorchs_losses(name, options):
    theirs = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Tanh(), torch.nn.Linear(8, 3)
    ).double()
    ours = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()
    ours.load_state_dict(theirs.state_dict())
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((16, 4)), rng.integers(0, 3, 16)
    first, second = (
        getattr(optim, name)(ours.parameters(), **options),
        getattr(torch.optim, name)(theirs.parameters(), **options),
    )
    for _ in range(20):
        first.zero_grad(), second.zero_grad()
        loss = nn.functional.cross_entropy(ours(x), t)
        other = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(t))
        loss.backward(), other.backward()
        first.step(), second.step()
        assert loss.item() == pytest.approx(other.item(), rel=1e-10)
