"""Learning rate schedules. Each is a formula for the rate at a step, so going on after a break needs one number.

    schedule = SequentialLR(
        optimizer,
        [LinearLR(optimizer, start_factor=0.01, total_iters=100), CosineAnnealingLR(optimizer, T_max=900)],
        milestones=[100],
    )
    for ...:
        optimizer.step()
        schedule.step()

Names, arguments and values are PyTorch's. "Epoch" is whatever passes between two calls of `step`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from operator import index
from typing import Any

from chainrule.optim.optimizer import Optimizer


class LRScheduler:
    """Base class: sets the learning rate of every group of `optimizer`, now and at every `step`.

    A subclass has `rate`, the formula. The rate a group starts from is the one it has when the first schedule is made
    for it, kept in the group as "initial_lr".

    Args:
        optimizer: whose learning rates to set.
        last_epoch: −1 to start at the beginning, else the last epoch that is done.

    Attributes:
        last_epoch: the number of calls of `step` so far.
        base_lrs: the rates the groups start from.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", float(group["lr"]))
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = index(last_epoch)
        self.step()

    def rate(self, base_lr: float, epoch: int, group: int) -> float:
        """The learning rate at an epoch, counted from 0, of a group that starts from `base_lr`."""
        raise NotImplementedError

    def step(self) -> None:
        """Go on by one epoch."""
        self.last_epoch += 1
        self._set_rates()

    def _set_rates(self) -> None:
        for group, lr in zip(self.optimizer.param_groups, self.get_last_lr(), strict=True):
            group["lr"] = lr

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group at the present epoch."""
        return [self.rate(base_lr, self.last_epoch, place) for place, base_lr in enumerate(self.base_lrs)]

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on later, as plain numbers."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the schedule that gave `state_dict` was; the learning rates are set accordingly.

        Raises:
            ValueError: it is not of a schedule over as many groups.
        """
        try:
            last_epoch, base_lrs = index(state_dict["last_epoch"]), [float(lr) for lr in state_dict["base_lrs"]]
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{type(self).__name__}: not the state dict of a schedule: {error!r}") from None
        if len(base_lrs) != len(self.base_lrs):
            raise ValueError(
                f"{type(self).__name__}: the state is of {len(base_lrs)} groups, the optimiser has {len(self.base_lrs)}"
            )
        self._go_to(last_epoch, base_lrs)

    def _go_to(self, last_epoch: int, base_lrs: list[float]) -> None:
        self.last_epoch, self.base_lrs = last_epoch, base_lrs
        self._set_rates()


class LambdaLR(LRScheduler):
    """base_lr·lr_lambda(epoch).

    Args:
        lr_lambda: one function for all groups, or one for each.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(optimizer.param_groups)
        self.lr_lambdas = list(lr_lambda) if isinstance(lr_lambda, Sequence) else [lr_lambda] * groups
        if len(self.lr_lambdas) != groups:
            raise ValueError(f"LambdaLR: {len(self.lr_lambdas)} functions for {groups} groups of parameters")
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, epoch: int, group: int) -> float:
        return base_lr * self.lr_lambdas[group](epoch)


class StepLR(LRScheduler):
    """base_lr·gamma^⌊epoch/step_size⌋."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size = _positive("StepLR: step_size", step_size)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, epoch: int, group: int) -> float:
        return base_lr * self.gamma ** (epoch // self.step_size)


class MultiStepLR(LRScheduler):
    """base_lr·gamma^(number of milestones reached)."""

    def __init__(
        self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones = Counter(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, epoch: int, group: int) -> float:
        return base_lr * self.gamma ** bisect_right(sorted(self.milestones.elements()), epoch)


class ExponentialLR(LRScheduler):
    """base_lr·gamma^epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, epoch: int, group: int) -> float:
        return base_lr * self.gamma**epoch


class LinearLR(LRScheduler):
    """From base_lr·start_factor to base_lr·end_factor in a straight line over `total_iters` epochs: a warm-up."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not (0 < start_factor <= 1 and 0 <= end_factor <= 1):
            raise ValueError(
                "LinearLR: start_factor must be in (0, 1] and end_factor in [0, 1], "
                f"got {start_factor} and {end_factor}"
            )
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = _positive("LinearLR: total_iters", total_iters)
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, epoch: int, group: int) -> float:
        share = min(epoch, self.total_iters) / self.total_iters
        return base_lr * (self.start_factor + (self.end_factor - self.start_factor) * share)


class CosineAnnealingLR(LRScheduler):
    """eta_min + (base_lr − eta_min)·(1 + cos(π·epoch/T_max))/2: down to `eta_min` in `T_max` epochs.

    Source: Loshchilov and Hutter 2016, "SGDR", equation 5, without restarts.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max = _positive("CosineAnnealingLR: T_max", T_max)
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, epoch: int, group: int) -> float:
        return self.eta_min + (base_lr - self.eta_min) * (1 + math.cos(math.pi * epoch / self.T_max)) / 2


class SequentialLR(LRScheduler):
    """One schedule after the other; each counts its epochs from 0 when its turn comes.

    Args:
        schedulers: schedules of the same optimiser.
        milestones: the epochs at which the second, third, ... takes over, increasing.

    Raises:
        ValueError: the numbers do not fit, or the schedules are of different optimisers.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        if not schedulers or len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR: {len(schedulers)} schedules need one milestone between each two, got {list(milestones)}"
            )
        if any(scheduler.optimizer is not optimizer for scheduler in schedulers):
            raise ValueError("SequentialLR: all schedules must be of the optimiser it is made for")
        self.milestones = [index(milestone) for milestone in milestones]
        if self.milestones != sorted(set(self.milestones)) or min(self.milestones, default=1) < 1:
            raise ValueError(f"SequentialLR: milestones must be positive and increasing, got {self.milestones}")
        self.schedulers = list(schedulers)
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, epoch: int, group: int) -> float:
        turn = bisect_right(self.milestones, epoch)
        start = self.milestones[turn - 1] if turn else 0
        return self.schedulers[turn].rate(base_lr, epoch - start, group)


def _positive(name: str, number: Any) -> int:
    if index(number) < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")
    return index(number)
