"""Gradient flow in words: what the doctor saw of a training step, as a run tells it.

The doctor measures (`doctor.flow_monitor`) and judges; here are the names of the layers and the line below the table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from chainrule.doctor import LayerFlow
from chainrule.nn import GRU, LSTM, Conv2d, Embedding, Linear, Module, MultiheadAttention


def layer_spans(model: Module) -> dict[str, str]:
    """How many numbers go into each layer and come out, by path, as `64 → 256`; what is not linear is named."""
    return {path: span for path, module in model.named_modules() if (span := _span(module))}


def _span(layer: Module) -> str:
    if isinstance(layer, MultiheadAttention):
        return f"attention {layer.embed_dim} → {layer.embed_dim}"
    if isinstance(layer, (LSTM, GRU)):
        return f"{type(layer).__name__} {layer.input_size} → {layer.hidden_size}"
    if isinstance(layer, Embedding):
        return f"embedding {layer.num_embeddings} → {layer.embedding_dim}"
    if isinstance(layer, Conv2d):
        height, width = layer.kernel_size
        return f"{height}×{width} conv {layer.in_channels} → {layer.out_channels}"
    return f"{layer.in_features} → {layer.out_features}" if isinstance(layer, Linear) else ""


REMEDIES = {
    "vanishing-gradient": "Try --activation relu, --residual or --norm layer.",
    "exploding-gradient": "Try --init auto, --clip-norm 1, --residual or --norm layer.",
}
"""What options may help, by the code of the doctor's finding."""


def verdict(flow: Sequence[LayerFlow], findings: Mapping[str, str]) -> str:
    """In plain words: whether the error signal reaches the first layer, and what to try if not.

    Args:
        flow: of one step, first layer first.
        findings: what the doctor found of that step: causes by code.
    """
    signals = [layer.error_signal for layer in flow if layer.error_signal is not None]
    if findings:
        moved = flow[0].update_ratio
        moves = f" A step moves the first layer's weights {f'by {moved:.0e} of their size' if moved else 'not at all'}."
        return "\n".join(
            f"{code.partition('-')[0].upper()}: {cause}{moves} {REMEDIES[code]}" for code, cause in findings.items()
        )
    if not any(signals):
        return "No error signal: the loss has no gradient left, so nothing is learned any more."
    if not all(map(math.isfinite, signals)):
        return "EXPLODING: the error signal overflows on its way down. Try a smaller --lr or --norm layer."
    if len(signals) < 2:
        return "One layer: the error signal reaches it directly."
    ratio = f" is {signals[0] / signals[-1]:.2g} times that at the last" if signals[-1] else ""
    return f"Healthy: the error signal at the first layer{ratio or f' is {signals[0]:.1e}'}."


def course(epochs: Sequence[Mapping[str, str]]) -> str:
    """What was found in earlier epochs and is not in the last: one line, or "" if there is nothing.

    Args:
        epochs: findings of each, as for `verdict`.
    """
    gone = {code for findings in epochs for code in findings} - set(epochs[-1] if epochs else ())
    told = []
    for code in sorted(gone):
        places = [place for place, findings in enumerate(epochs, 1) if code in findings]
        told.append(f"{code} in {len(places)} of {len(epochs)} epochs, the last of them {places[-1]}")
    return f"Earlier it was otherwise: {'; '.join(told)}." if told else ""
