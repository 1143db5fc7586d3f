"""Gradient flow: how the error signal, the gradient and the update fare from the last layer down to the first.

`FlowProbe` watches one training step; what it saw is a list of `LayerFlow`, first layer first. `verdict` puts it into
words. Nothing here changes the step it watches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from chainrule.core.tensor import Tensor, _raw
from chainrule.doctor.statistics import norm
from chainrule.nn import GRU, LSTM, Conv2d, Linear, Module, TransformerEncoderLayer

VANISHING, EXPLODING = 1e-3, 1e3
"""Ratios of the error signal at the first layer to that at the last beyond which learning is in danger."""


@dataclass(frozen=True)
class LayerFlow:
    """What one layer saw of a training step.

    Attributes:
        name: path of the layer in the network.
        error_signal: norm of the loss's gradient with respect to the layer's output.
        gradient: norm of the gradient of the layer's parameters, before clipping.
        update_ratio: how far the step moved the weights, as a share of their norm; 0 where that norm is 0.
    """

    name: str
    error_signal: float
    gradient: float
    update_ratio: float


class FlowProbe:
    """Watches the layers of a network during one training step.

    probe = FlowProbe(model)
    with probe.listening():
        train_step(x, y)        # forward, backward, clipping, update
    flow = probe.flow()
    """

    def __init__(self, model: Module) -> None:
        self._model = model
        self._layers = watched_layers(model)
        self._error_signals: dict[str, float] = {}
        self._gradients: dict[Tensor, float] = {}
        self._weights: dict[str, list[Any]] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside, error signals and gradients are measured as the backward pass goes by, before they are clipped."""
        self._weights = {name: _weights(layer) for name, layer in self._layers.items()}
        hooks: list[Any] = [
            layer.register_forward_hook(partial(self._attach, name)) for name, layer in self._layers.items()
        ]
        for parameter in self._model.parameters():
            hooks.append(parameter.register_hook(partial(_note, self._gradients, parameter)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _attach(self, name: str, layer: Module, inputs: tuple, output: Any) -> None:
        signal = output[0] if isinstance(output, tuple) else output  # a recurrent layer gives its state besides
        signal.register_hook(partial(_note, self._error_signals, name))

    @property
    def gradient_norm(self) -> float:
        """Norm of the gradient of all parameters together."""
        return self._gradient_of(self._model)

    def flow(self) -> list[LayerFlow]:
        """What was seen, first layer first."""
        return [
            LayerFlow(
                name, self._error_signals.get(name, 0.0), self._gradient_of(layer), self._update_ratio(name, layer)
            )
            for name, layer in self._layers.items()
        ]

    def _gradient_of(self, module: Module) -> float:
        return math.hypot(*(self._gradients.get(parameter, 0.0) for parameter in module.parameters()))

    def _update_ratio(self, name: str, layer: Module) -> float:
        before = self._weights[name]
        size = math.hypot(*map(norm, before))
        moves = [norm(new - old) for new, old in zip(_weights(layer), before, strict=True)]
        return math.hypot(*moves) / size if size else 0.0


def _note(norms: dict[Any, float], key: Any, gradient: Tensor) -> None:
    norms[key] = norm(_raw(gradient))


LAYERS = (Linear, Conv2d, LSTM, GRU, TransformerEncoderLayer)
"""What counts as a layer; what it is made of does not count again."""


def watched_layers(model: Module) -> dict[str, Module]:
    """The layers that are watched, by their paths, in the order in which they compute."""
    found: dict[str, Module] = {}
    for name, module in model.named_modules():
        if isinstance(module, LAYERS) and not any(name.startswith(f"{path}.") for path in found):
            found[name] = module
    return found


def layer_span(layer: Module) -> str:
    """How many numbers go into a layer and come out, as `64 → 256`; what is not linear is named."""
    if isinstance(layer, TransformerEncoderLayer):
        width = layer.self_attn.embed_dim
        return f"block {width} → {width}"
    if isinstance(layer, (LSTM, GRU)):
        return f"{type(layer).__name__} {layer.input_size} → {layer.hidden_size}"
    if isinstance(layer, Conv2d):
        height, width = layer.kernel_size
        return f"{height}×{width} conv {layer.in_channels} → {layer.out_channels}"
    assert isinstance(layer, Linear)
    return f"{layer.in_features} → {layer.out_features}"


def _weights(layer: Module) -> list[Any]:
    """Matrices and kernels; biases and scales are no weights."""
    return [parameter.data for parameter in layer.parameters() if parameter.ndim > 1]


# Reading it --------------------------------------------------------------------------------------------------------


def typical(flows: Sequence[Sequence[LayerFlow]]) -> list[LayerFlow]:
    """The median of several measurements, layer by layer and column by column."""
    return [
        LayerFlow(
            layer[0].name,
            median(seen.error_signal for seen in layer),
            median(seen.gradient for seen in layer),
            median(seen.update_ratio for seen in layer),
        )
        for layer in zip(*flows, strict=True)
    ]


def verdict(flow: Sequence[LayerFlow]) -> str:
    """One line in plain words: whether the error signal reaches the first layer, and what to try if not."""
    if len(flow) < 2:
        return "One layer: the error signal reaches it directly."
    first, last = flow[0], flow[-1]
    if last.error_signal == 0:
        return "No error signal: the loss has no gradient left, so nothing is learned any more."
    ratio = first.error_signal / last.error_signal
    if not math.isfinite(ratio):
        return "EXPLODING: the error signal overflows on its way down. Try a smaller --lr or --norm layer."
    way = f"from the last layer ({last.error_signal:.1e}) to the first ({first.error_signal:.1e}) the error signal"
    if ratio < VANISHING:
        shrinks = f"shrinks by {-math.log10(ratio):.0f} orders of magnitude" if ratio else "shrinks to nothing"
        moves = f"by {first.update_ratio:.0e} of their size" if first.update_ratio else "not at all"
        return (
            f"VANISHING: {way} {shrinks}; a step moves the first layer's weights {moves}. "
            "Try --activation relu, --residual or --norm layer."
        )
    if ratio > EXPLODING:
        return (
            f"EXPLODING: {way} grows by {math.log10(ratio):.0f} orders of magnitude. "
            "Try --init auto, --clip-norm 1, --residual or --norm layer."
        )
    return f"Healthy: the error signal at the first layer is {ratio:.2g} times that at the last."
