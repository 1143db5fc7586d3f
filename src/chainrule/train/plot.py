"""The picture of a run: loss, quality, and how large the gradients are, over the epochs and from layer to layer."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import MaxNLocator

TITLE_WIDTH = 130
"""Characters in a line of the title."""

COLOURS = "viridis"
FLOOR = 1e-45
"""The smallest float32; what is smaller has no place on a logarithmic axis."""


def plot(history: Sequence[Mapping[str, Any]], title: str) -> bytes:
    """Draw the metrics of a run.

    Args:
        history: the lines of metrics.jsonl, at least one.
        title: what stands above.

    Returns:
        A PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), dpi=110, layout="constrained")
    figure.suptitle(textwrap.fill(title, TITLE_WIDTH))
    (loss, quality), (over_epochs, over_layers) = figure.subplots(2, 2)
    _draw_loss(loss, history)
    _draw_quality(quality, history)
    _draw_gradients(over_epochs, _same_layers(history))
    _draw_flow(over_layers, _same_layers(history))
    for axes in (loss, quality, over_epochs, over_layers):
        axes.xaxis.set_major_locator(_whole_numbers())
    png = BytesIO()
    FigureCanvasAgg(figure).print_png(png)
    return png.getvalue()


def _draw_loss(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    axes.set(title="Loss", xlabel="epoch")
    _draw_both_parts(axes, history, "loss")
    _stretch(axes, history, "loss")


def _draw_quality(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    if "test_accuracy" in history[-1]:
        best = max(line["test_accuracy"] for line in history)
        axes.set(title=f"Accuracy (test: {history[-1]['test_accuracy']:.1%}, best {best:.1%})", xlabel="epoch")
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g}%")
        _draw_both_parts(axes, history, "accuracy")
        lowest = min(min(line["train_accuracy"], line["test_accuracy"]) for line in history)
        axes.set_ylim(lowest - 0.05, 1.01)
    elif "test_bpc" in history[-1]:
        best = min(line["test_bpc"] for line in history)
        axes.set(title=f"Bits per character (held out: {history[-1]['test_bpc']:.3f}, best {best:.3f})", xlabel="epoch")
        _draw_both_parts(axes, history, "bpc")
    else:
        axes.set(title="RMSE, in the target's units", xlabel="epoch")
        _draw_both_parts(axes, history, "rmse")
        _stretch(axes, history, "rmse")


def _draw_both_parts(axes: Axes, history: Sequence[Mapping[str, Any]], measure: str) -> None:
    epochs = _column(history, "epoch")
    marker = "o" if len(epochs) == 1 else None
    for part, style in (("train", "--"), ("test", "-")):
        axes.plot(epochs, _column(history, f"{part}_{measure}"), style, label=part, marker=marker)
    axes.legend()
    axes.grid(alpha=0.3)


def _stretch(axes: Axes, history: Sequence[Mapping[str, Any]], measure: str) -> None:
    """Make the axis logarithmic where the values span more than one order of magnitude."""
    values = np.concatenate([_column(history, f"{part}_{measure}") for part in ("train", "test")])
    if values.min() > 0 and values.max() > 10 * values.min():
        axes.set_yscale("log")


def _draw_gradients(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    """One line per layer over the epochs, coloured by depth."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    axes.set(title="Norm of each layer's gradient", xlabel="epoch", yscale="log")
    norms = _table(history, "gradient")
    layers = norms.shape[1]
    depth = ScalarMappable(Normalize(1, max(layers, 2)), COLOURS)
    marker = "o" if len(history) == 1 else None
    for layer in range(layers):
        axes.plot(
            _column(history, "epoch"),
            norms[:, layer],
            color=depth.to_rgba(np.array(layer + 1)),
            linewidth=max(0.5, 1.6 - layers / 100),
            marker=marker,
        )
    axes.grid(alpha=0.3)
    _note_if_nothing(axes, norms)
    axes.figure.colorbar(depth, ax=axes, ticks=_whole_numbers(), label="layer (1: next to the input)")


def _draw_flow(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    """The error signal from layer to layer, at the beginning, in the middle and at the end of the run."""
    axes.set(title="Norm of the error signal at each layer's output", xlabel="layer", yscale="log")
    signals = _table(history, "error_signal")
    layers = np.arange(1, signals.shape[1] + 1)
    for index in sorted({0, len(history) // 2, len(history) - 1}):
        marker = "." if len(layers) <= 50 else None
        axes.plot(layers, signals[index], marker=marker, label=f"epoch {history[index]['epoch']}")
    axes.legend()
    axes.grid(alpha=0.3)
    _note_if_nothing(axes, signals)


def _whole_numbers() -> MaxNLocator:
    """Ticks for epochs and layers, of which there is no half."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True, min_n_ticks=1)


def _note_if_nothing(axes: Axes, values: NDArray[np.float64]) -> None:
    """Say where a logarithmic axis leaves zeros out."""
    zeros = float(np.mean(np.isnan(values)))
    if zeros:
        axes.text(0.02, 0.03, f"{zeros:.0%} of the values are 0 and cannot be shown", transform=axes.transAxes)


def _column(history: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    return np.array([line[name] for line in history], dtype=np.float64)


def _same_layers(history: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The epochs with as many layers as the last: an older version may have begun the run."""
    return [line for line in history if len(line["error_signal"]) == len(history[-1]["error_signal"])]


def _table(history: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    """One row per epoch, one column per layer; NaN for what is 0."""
    values = np.array([line[name] for line in history], dtype=np.float64)
    return np.where(values < FLOOR, np.nan, values)
