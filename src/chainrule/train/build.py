"""From a configuration to what trains: data, network, optimiser, schedule, clipping, and the step they make."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from chainrule import nn, optim
from chainrule.core.tensor import Tensor
from chainrule.optim import lr_scheduler
from chainrule.train.config import RECURRENT, TEXT_MODELS, Config
from chainrule.train.networks import ConvolutionalNetwork, RecurrentNetwork, Transformer
from chainrule.train.problem import Problem
from chainrule.train.row_problem import IMAGE_SHAPE, RowProblem
from chainrule.train.text_problem import TextProblem

Step = Callable[..., tuple[Tensor, tuple[Tensor, ...]]]

STEPS_DOWN = 3
"""How many times the "step" schedule divides the learning rate by ten."""


def build_problem(config: Config) -> Problem:
    """The data, read and divided.

    Raises:
        DataError: it cannot be used.
    """
    return TextProblem.load(config) if config.model in TEXT_MODELS else RowProblem.load(config)


def build_model(config: Config, inputs: int, outputs: int) -> nn.Module:
    """The network, its parameters drawn from the generator of `nn.random`.

    Args:
        config: the options.
        inputs, outputs: as of a `Problem`.
    """
    common: dict[str, Any] = {"depth": config.depth, "dropout": config.dropout, "dtype": np.dtype(config.dtype)}
    if config.model in RECURRENT:
        return RecurrentNetwork(config.model, outputs, width=config.width, **common)
    common["activation"] = config.activation
    if config.model == "transformer":
        common |= {"context": config.context, "heads": config.heads}
        return Transformer(outputs, width=config.width, **common)
    common |= {"norm": None if config.norm == "none" else config.norm, "residual": config.residual, "init": config.init}
    if config.model == "cnn":
        common["kernel"] = config.kernel
        return ConvolutionalNetwork(*IMAGE_SHAPE, outputs, filters=config.width, **common)
    return nn.MLP(inputs, config.width, outputs, **common)


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
) -> Step:
    """What one step of training does to the arrays: all of it, and nothing besides.

    Nothing here looks at a number that it computes, so the whole can be recorded once and compiled; whoever calls it
    reads the loss and sets the next learning rate.

    A recurrent network goes on from the state it is given. The state it comes to is detached: the gradients of the
    next step end where that one began, which is backpropagation through time, truncated.

    Returns:
        A function of a batch's inputs and targets, and a state if there is one, that moves the parameters. It gives
        the loss before they moved, and the state after the batch.
    """
    parameters = list(model.parameters())

    def train_step(inputs: Any, targets: Any, *state: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        outputs, *after = model(inputs, *state) if state else (model(inputs),)
        batch_loss = loss(outputs, targets)
        optimizer.zero_grad()
        batch_loss.backward()
        if clip is not None:
            clip(parameters)
        optimizer.step()
        return batch_loss, tuple(part.detach() for part in after)

    return train_step
