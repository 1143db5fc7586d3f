"""Stochastic gradient descent, with momentum and weight decay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from chainrule.optim.optimizer import Optimizer


class SGD(Optimizer):
    """p ← p − lr·d, where d is the gradient or, with momentum, its running sum.

    With g the gradient plus weight_decay·p:

        v ← momentum·v + (1 − dampening)·g        (v = g in the first step)
        d = v, or g + momentum·v with `nesterov`

    Args:
        params: parameters, or dicts of them with options of their own.
        lr: learning rate.
        momentum: share of the running sum that is kept in each step.
        dampening: share of the gradient that is left out of it.
        weight_decay: factor of the L2 penalty's gradient.
        nesterov: look ahead along v (needs momentum and no dampening).

    Source: Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning", in the form
    PyTorch gives it, where the learning rate is outside of v.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
            },
        )

    def check_options(self, options: Mapping[str, Any]) -> None:
        super().check_options(options)
        if options["nesterov"] and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise ValueError("SGD: nesterov needs a positive momentum and no dampening")

    def state_names(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if options["momentum"] else ()

    def scalars(self, group: Mapping[str, Any], step: int) -> tuple[float, ...]:
        share = 1.0 if step == 1 else 1.0 - group["dampening"]
        return -group["lr"], group["momentum"], share, group["weight_decay"]

    @staticmethod
    def update(
        xp: Any, parameter: Any, gradient: Any, state: Mapping[str, Any], scalars: Any, options: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        minus_lr, momentum, share, weight_decay = scalars
        kept = {}
        if options["weight_decay"]:
            gradient = gradient + weight_decay * parameter
        if options["momentum"]:
            added = share * gradient if options["dampening"] else gradient
            kept["momentum_buffer"] = velocity = momentum * state["momentum_buffer"] + added
            gradient = gradient + momentum * velocity if options["nesterov"] else velocity
        return parameter + minus_lr * gradient, kept
