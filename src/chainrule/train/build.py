"""From a configuration to what trains: network, loss, optimiser, schedule, clipping, and the step they make."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from chainrule import nn, optim
from chainrule.core.tensor import Tensor
from chainrule.optim import lr_scheduler
from chainrule.train.config import Config
from chainrule.train.problem import Problem

STEPS_DOWN = 3
"""How many times the "step" schedule divides the learning rate by ten."""


def build_model(config: Config, in_features: int, out_features: int) -> nn.MLP:
    """The network, its parameters drawn from the generator of `nn.random`."""
    return nn.MLP(
        in_features,
        config.width,
        out_features,
        depth=config.depth,
        activation=config.activation,
        norm=None if config.norm == "none" else config.norm,
        residual=config.residual,
        init=config.init,
        dropout=config.dropout,
        dtype=np.dtype(config.dtype),
    )


def build_loss(problem: Problem) -> Callable[[Any, Any], Any]:
    """Cross-entropy for classes, the mean square for numbers."""
    return nn.functional.cross_entropy if problem.classes else nn.functional.mse_loss


def build_optimizer(config: Config, model: nn.Module) -> optim.Optimizer:
    """The optimiser of the network's parameters."""
    kinds: dict[str, Callable[..., optim.Optimizer]] = {
        "adam": optim.Adam,
        "adamw": optim.AdamW,
        "sgd": optim.SGD,
        "rmsprop": optim.RMSprop,
    }
    momentum = {} if config.momentum is None else {"momentum": config.momentum}
    return kinds[config.optimizer](model.parameters(), lr=config.lr, weight_decay=config.weight_decay, **momentum)


def build_schedule(config: Config, optimizer: optim.Optimizer, batches_per_epoch: int) -> lr_scheduler.LRScheduler:
    """The learning rate from step to step: a linear warm-up if there is one, then the schedule over the rest."""
    warmup = round(config.warmup * batches_per_epoch)
    rest = config.epochs * batches_per_epoch - warmup
    falling: lr_scheduler.LRScheduler
    if config.schedule == "cosine":
        falling = lr_scheduler.CosineAnnealingLR(optimizer, rest)
    elif config.schedule == "step":
        falling = lr_scheduler.StepLR(optimizer, max(1, rest // (STEPS_DOWN + 1)))
    else:
        falling = lr_scheduler.StepLR(optimizer, rest, gamma=1.0)
    if not warmup:
        return falling
    rising = lr_scheduler.LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return lr_scheduler.SequentialLR(optimizer, [rising, falling], [warmup])


def build_clip(config: Config) -> Callable[[Iterable[Any]], Any] | None:
    """What limits the gradients of parameters before a step; None for nothing."""
    if config.clip_norm is not None:
        return partial(optim.clip_grad_norm_, max_norm=config.clip_norm)
    if config.clip_value is not None:
        return partial(optim.clip_grad_value_, clip_value=config.clip_value)
    return None


def build_step(
    model: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    optimizer: optim.Optimizer,
    clip: Callable[[Iterable[Any]], Any] | None,
) -> Callable[[Any, Any], Tensor]:
    """What one step of training does to the arrays: all of it, and nothing besides.

    Nothing here looks at a number that it computes, so the whole can be recorded once and compiled; whoever calls it
    reads the loss and sets the next learning rate.

    Returns:
        A function of a batch's inputs and targets that moves the parameters, and gives the loss before they moved.
    """
    parameters = list(model.parameters())

    def train_step(inputs: Any, targets: Any) -> Tensor:
        batch_loss = loss(model(inputs), targets)
        optimizer.zero_grad()
        batch_loss.backward()
        if clip is not None:
            clip(parameters)
        optimizer.step()
        return batch_loss

    return train_step
