"""Losses as modules. What they compute is said in `loss_functions`."""

from __future__ import annotations

from typing import Any

from chainrule.core.tensor import Tensor, tensor
from chainrule.nn import loss_functions as functions
from chainrule.nn.module import Module


class _Loss(Module):
    """A loss with its `reduction`: "mean", "sum", or "none" for one value per element or row."""

    def __init__(self, reduction: str = "mean") -> None:
        functions.check_reduction(type(self).__name__, reduction)
        self.reduction = reduction

    def extra_repr(self) -> str:
        return "" if self.reduction == "mean" else f"reduction={self.reduction!r}"


class _WeightedLoss(_Loss):
    """A loss with factors for its elements or classes: buffers that are saved with the module's state."""

    weight: Tensor | None

    def __init__(self, reduction: str, **factors: Any) -> None:
        super().__init__(reduction)
        for name, factor in factors.items():
            self.register_buffer(name, None if factor is None else tensor(factor))


class MSELoss(_Loss):
    """Mean of (input − target)²."""

    def forward(self, input: Any, target: Any) -> Any:
        return functions.mse_loss(input, target, self.reduction)


class L1Loss(_Loss):
    """Mean of |input − target|."""

    def forward(self, input: Any, target: Any) -> Any:
        return functions.l1_loss(input, target, self.reduction)


class SmoothL1Loss(_Loss):
    """d²/(2·beta) near the target and |d| − beta/2 beyond `beta`."""

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def forward(self, input: Any, target: Any) -> Any:
        return functions.smooth_l1_loss(input, target, self.reduction, self.beta)


class HuberLoss(_Loss):
    """d²/2 near the target and delta·(|d| − delta/2) beyond `delta`."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta

    def forward(self, input: Any, target: Any) -> Any:
        return functions.huber_loss(input, target, self.reduction, self.delta)


class BCELoss(_WeightedLoss):
    """Binary cross-entropy of probabilities."""

    def __init__(self, weight: Any = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction, weight=weight)

    def forward(self, input: Any, target: Any) -> Any:
        return functions.binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(_WeightedLoss):
    """Binary cross-entropy of logits; `pos_weight` makes up for rare positives."""

    pos_weight: Tensor | None

    def __init__(self, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(reduction, weight=weight, pos_weight=pos_weight)

    def forward(self, input: Any, target: Any) -> Any:
        return functions.binary_cross_entropy_with_logits(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )


class NLLLoss(_WeightedLoss):
    """Negative log-likelihood of log-probabilities."""

    def __init__(self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction, weight=weight)
        self.ignore_index = ignore_index

    def forward(self, input: Any, target: Any) -> Any:
        return functions.nll_loss(input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class CrossEntropyLoss(_WeightedLoss):
    """Cross-entropy of logits with class indices or class probabilities."""

    def __init__(
        self,
        weight: Any = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction, weight=weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input: Any, target: Any) -> Any:
        return functions.cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )
