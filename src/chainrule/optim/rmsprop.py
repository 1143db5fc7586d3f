"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from chainrule.optim.optimizer import Optimizer


class RMSprop(Optimizer):
    """The gradient over the root of a running mean of its square.

    With g the gradient plus weight_decay·p:

        v ← alpha·v + (1 − alpha)·g²
        d = g/(√v + eps), or with `centered` g/(√(v − m²) + eps) where m ← alpha·m + (1 − alpha)·g
        p ← p − lr·d, or with momentum b ← momentum·b + d and p ← p − lr·b

    Args:
        params: parameters, or dicts of them with options of their own.
        lr: learning rate.
        alpha: share of the running means that is kept in each step.
        eps: added to the root.
        weight_decay: factor of the L2 penalty's gradient.
        momentum: share of the running sum of steps that is kept.
        centered: divide by an estimate of the standard deviation instead.

    Source: Hinton 2012, lecture 6e of "Neural Networks for Machine Learning"; centered: Graves 2013, "Generating
    Sequences With Recurrent Neural Networks", equations 38 to 41, with eps outside of the root as in PyTorch.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "alpha": alpha,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "centered": centered,
            },
        )

    def check_options(self, options: Mapping[str, Any]) -> None:
        super().check_options(options)
        if not 0 <= options["alpha"] < 1:
            raise ValueError(f"RMSprop: alpha must be in [0, 1), got {options['alpha']}")

    def state_names(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        wanted = {"square_avg": True, "grad_avg": options["centered"], "momentum_buffer": options["momentum"]}
        return tuple(name for name, is_kept in wanted.items() if is_kept)

    def scalars(self, group: Mapping[str, Any], step: int) -> tuple[float, ...]:
        alpha = group["alpha"]
        return alpha, 1 - alpha, group["eps"], -group["lr"], group["momentum"], group["weight_decay"]

    @staticmethod
    def update(
        xp: Any, parameter: Any, gradient: Any, state: Mapping[str, Any], scalars: Any, options: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        alpha, rest, eps, minus_lr, momentum, weight_decay = scalars
        if options["weight_decay"]:
            gradient = gradient + weight_decay * parameter
        square = alpha * state["square_avg"] + rest * (gradient * gradient)
        kept = {"square_avg": square}
        if options["centered"]:
            kept["grad_avg"] = mean = alpha * state["grad_avg"] + rest * gradient
            square = square - mean * mean
        direction = gradient / (xp.sqrt(square) + eps)
        if options["momentum"]:
            kept["momentum_buffer"] = direction = momentum * state["momentum_buffer"] + direction
        return parameter + minus_lr * direction, kept
