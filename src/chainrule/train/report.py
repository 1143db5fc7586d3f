"""What a run says when it is over: how good the network is, and how the gradient flows through it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from chainrule.train.display import spread
from chainrule.train.flow import LayerFlow, verdict

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


def report_flow(console: Console, flow: Sequence[LayerFlow], spans: Mapping[str, str], when: str) -> None:
    """Print the table of gradient flow and what it means.

    Args:
        console: where to.
        flow: what was measured, first layer first.
        spans: what goes into each layer and comes out, by layer name.
        when: the moment or span the numbers are of.
    """
    shown = spread(len(flow), len(flow) if len(flow) <= ALL_SHOWN else SOME_SHOWN)
    some = f" ({len(shown)} of {len(flow)} layers)" if len(shown) < len(flow) else ""
    console.print(f"\nGradient flow, {when}{some}", style="bold", highlight=False)
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for heading in ("layer", "in → out", "error signal", "gradient", "update/weight"):
        table.add_column(heading, justify="right")
    for place in shown:
        layer = flow[place]
        numbers = (layer.error_signal, layer.gradient, layer.update_ratio)
        table.add_row(str(place + 1), spans[layer.name], *(f"{x:.2e}" if x else "0" for x in numbers))
    console.print(table)
    console.print(verdict(flow), style="bold", highlight=False, soft_wrap=not console.is_terminal)
