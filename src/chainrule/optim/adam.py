"""Adam, with weight decay as part of the gradient (`Adam`) or apart from it (`AdamW`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from chainrule.optim.optimizer import Optimizer


class Adam(Optimizer):
    """Steps of about `lr` in each direction, from running means of the gradient and of its square.

    With g the gradient plus weight_decay·p, in step t:

        m ← β₁·m + (1 − β₁)·g
        v ← β₂·v + (1 − β₂)·g²
        p ← p − lr·m̂/(√v̂ + eps),   m̂ = m/(1 − β₁ᵗ),  v̂ = v/(1 − β₂ᵗ)

    Args:
        params: parameters, or dicts of them with options of their own.
        lr: learning rate.
        betas: β₁ and β₂, the share of each mean that is kept in each step.
        eps: added to the root.
        weight_decay: factor of the L2 penalty's gradient.
        amsgrad: divide by the largest v so far (Reddi et al. 2018, "On the Convergence of Adam and Beyond").
        decoupled_weight_decay: shrink the parameter instead, as `AdamW` does.

    Source: Kingma and Ba 2014, "Adam", algorithm 1, computed in the order its section 2 recommends: the corrections
    go into the step size and eps.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def check_options(self, options: Mapping[str, Any]) -> None:
        super().check_options(options)
        if len(options["betas"]) != 2 or not all(0 <= beta < 1 for beta in options["betas"]):
            raise ValueError(f"{self._name}: betas must be two numbers in [0, 1), got {options['betas']}")

    def state_names(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if options["amsgrad"] else ("exp_avg", "exp_avg_sq")

    def scalars(self, group: Mapping[str, Any], step: int) -> tuple[float, ...]:
        lr, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
        root = math.sqrt(1 - beta2**step)
        step_size = lr * root / (1 - beta1**step)
        decay = 1 - lr * decay if group["decoupled_weight_decay"] else decay
        return beta1, 1 - beta1, beta2, 1 - beta2, -step_size, group["eps"] * root, decay

    @staticmethod
    def update(
        xp: Any, parameter: Any, gradient: Any, state: Mapping[str, Any], scalars: Any, options: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        beta1, rest1, beta2, rest2, minus_step_size, eps, decay = scalars
        if options["weight_decay"]:
            if options["decoupled_weight_decay"]:
                parameter = decay * parameter
            else:
                gradient = gradient + decay * parameter
        mean = beta1 * state["exp_avg"] + rest1 * gradient
        square = beta2 * state["exp_avg_sq"] + rest2 * (gradient * gradient)
        kept = {"exp_avg": mean, "exp_avg_sq": square}
        if options["amsgrad"]:
            kept["max_exp_avg_sq"] = square = xp.maximum(state["max_exp_avg_sq"], square)
        return parameter + minus_step_size * (mean / (xp.sqrt(square) + eps)), kept


class AdamW(Adam):
    """`Adam` whose weight decay shrinks the parameter by lr·weight_decay, whatever its gradients were.

    Args:
        params, lr, betas, eps, amsgrad: as for `Adam`.
        weight_decay: shrinkage per step, in units of `lr`.

    Source: Loshchilov and Hutter 2017, "Decoupled Weight Decay Regularization", algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, decoupled_weight_decay=True)
