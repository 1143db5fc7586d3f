"""What a run says when it is over: how good the network is, and how the gradient flows through it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from chainrule.doctor import LayerFlow
from chainrule.train.display import spread
from chainrule.train.flow import course, verdict

ALL_SHOWN, SOME_SHOWN = 40, 16
"""Up to how many layers the table shows them all, and how many, spread over the depth, of a deeper network."""


def report_quality(console: Console, metrics: Mapping[str, Any]) -> None:
    """Print the result on the held-out rows."""
    if "test_accuracy" in metrics:
        line = f"Test accuracy: {metrics['test_accuracy']:.2%}   (training rows: {metrics['train_accuracy']:.2%})"
    elif "test_bpc" in metrics:
        line = (
            f"Held-out text: {metrics['test_bpc']:.3f} bits per character, "
            f"perplexity {metrics['test_perplexity']:.3f}   "
            f"(training: {metrics['train_bpc']:.3f})"
        )
    else:
        line = (
            f"Test RMSE: {metrics['test_rmse']:.4g}, R²: {_share(metrics['test_r2'])}   "
            f"(training rows: {metrics['train_rmse']:.4g}, {_share(metrics['train_r2'])})"
        )
    console.print("\n" + line, style="bold", highlight=False)


def _share(r2: float) -> str:
    return "undefined, the target is constant there" if math.isnan(r2) else f"{r2:.4f}"


def report_flow(console: Console, history: Sequence[Mapping[str, Any]], spans: Mapping[str, str]) -> None:
    """Print the table of gradient flow in the last epoch and what it means, in the doctor's judgement.

    Args:
        console: where to.
        history: the lines of metrics.jsonl, at least one.
        spans: what goes into each layer and comes out, by layer name.
    """
    flow, epochs = flow_of(history[-1]), [metrics.get("findings", {}) for metrics in history]
    shown = spread(len(flow), len(flow) if len(flow) <= ALL_SHOWN else SOME_SHOWN)
    some = f" ({len(shown)} of {len(flow)} layers)" if len(shown) < len(flow) else ""
    console.print(f"\nGradient flow, first step of epoch {history[-1]['epoch']}{some}", style="bold", highlight=False)
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for heading in ("layer", "in → out", "error signal", "gradient", "update/weight"):
        table.add_column(heading, justify="right")
    for place in shown:
        layer = flow[place]
        numbers = (layer.error_signal, layer.gradient, layer.update_ratio)
        span = spans.get(layer.name, layer.name)
        table.add_row(str(place + 1), span, *(f"{x:.2e}" if x else "0" for x in numbers))
    console.print(table)
    for line in (verdict(flow, epochs[-1]), course(epochs)):
        if line:
            console.print(line, style="bold", highlight=False, soft_wrap=not console.is_terminal, markup=False)


def flow_of(metrics: Mapping[str, Any]) -> list[LayerFlow]:
    """The gradient flow that a line of metrics.jsonl tells of."""
    numbers = zip(metrics["layers"], metrics["error_signal"], metrics["gradient"], metrics["update_ratio"], strict=True)
    return [LayerFlow(*layer) for layer in numbers]
