"""`LayerFlow`: how the error signal, the gradient and the update fared at one layer, in one step of training.

The part of an `Examination` that is worth keeping of every step that is looked at: a monitor's history and the metrics
of a training run are made of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from chainrule.doctor.measurements import Examination


@dataclass(frozen=True, slots=True)
class LayerFlow:
    """What one layer saw of a training step; see `measurements.Layer`.

    Attributes:
        name: path of the layer in the network.
        error_signal: norm of the loss's gradient with respect to the layer's output; None where none arrived.
        gradient: norm of the gradient of the layer's weights, before clipping; None where none arrived.
        update_ratio: how far the step moved the weights, as a share of their norm; None where that is not known.
    """

    name: str
    error_signal: float | None
    gradient: float | None
    update_ratio: float | None


def flow_of(exam: Examination) -> tuple[LayerFlow, ...]:
    """Of every layer, in the order in which they computed."""
    return tuple(
        LayerFlow(layer.path, layer.error_signal, layer.gradient_norm, layer.update_ratio) for layer in exam.layers
    )
