"""The pictures of a report, drawn by Matplotlib, as SVG that can stand inside a page.

Lines and words are grey where they must be read on light and on dark ground alike; what is sick is red.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.doctor.measurements import Histogram, Layer
from chainrule.doctor.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY, BLUE, RED, ORANGE = "#808890", "#3b82c4", "#d1453b", "#c98a1b"
_COLUMNS = 6
_MOST_HISTOGRAMS = 24


def flow_chart(report: Report) -> str:
    """Error signal, gradient and update of each layer, on a logarithmic axis; sick layers marked."""
    layers = report.examination.layers
    figure = _figure(9, 3.4)
    axes = figure.subplots()
    for label, colour, values in (
        ("error signal", BLUE, [layer.error_signal for layer in layers]),
        ("gradient", ORANGE, [layer.gradient_norm for layer in layers]),
        ("update / weight", GREY, [layer.update_ratio for layer in layers]),
    ):
        heights = [value if value and math.isfinite(value) else math.nan for value in values]
        if not all(map(math.isnan, heights)):
            axes.plot(range(len(layers)), heights, "o-", color=colour, label=label, markersize=4)
    axes.set_yscale("log")
    axes.set_ylabel("norm")
    sick = sick_paths(report)
    for place, layer in enumerate(layers):
        if layer.path in sick:
            axes.axvspan(place - 0.4, place + 0.4, color=RED, alpha=0.12, linewidth=0)
    step = max(1, len(layers) // 24)
    axes.set_xticks(range(0, len(layers), step), [_short(layer.path) for layer in layers[::step]], rotation=60)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, labelcolor=GREY)
    return _svg(figure, [axes])


def histograms(report: Report) -> str:
    """Activations (blue) and weight gradients (orange) of each layer; "" where none were counted."""
    shown = [layer for layer in report.examination.layers if layer.gradient is not None or layer.activation is not None]
    if len(shown) > _MOST_HISTOGRAMS:
        shown = shown[:: math.ceil(len(shown) / _MOST_HISTOGRAMS)]
    panels = [(layer, of) for of in ("activation", "gradient") for layer in shown if _counts(layer, of)]
    if not panels:
        return ""
    rows = math.ceil(len(panels) / _COLUMNS)
    figure = _figure(9, 1.3 * rows)
    grid = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    sick = sick_paths(report)
    for axes, (layer, of) in zip(grid, panels, strict=False):
        counted = _counts(layer, of)
        assert counted is not None
        axes.stairs(counted.counts, counted.edges, fill=True, color=BLUE if of == "activation" else ORANGE)
        named = layer.activation.name if of == "activation" and layer.activation else "gradient"
        axes.set_title(f"{_short(layer.path)} {named}", fontsize=7, color=RED if layer.path in sick else GREY)
        axes.set_yticks([])
        axes.tick_params(labelsize=6)
        axes.locator_params(axis="x", nbins=3)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    return _svg(figure, grid)


def course(report: Report) -> str:
    """Of a monitor: the loss, and the error signal of each layer, over the steps; "" where there is no history."""
    history = report.history
    if len(history) < 2:
        return ""
    figure = _figure(9, 3.2)
    left, right = figure.subplots(1, 2)
    steps = [sample.step for sample in history]
    left.plot(steps, [math.nan if sample.loss is None else sample.loss for sample in history], color=BLUE)
    left.set(title="loss", xlabel="step")
    seen = report.examination.course
    if seen is not None and seen.plateau is not None:
        left.axvline(seen.plateau, color=GREY, linestyle=":", label="it stands")
        left.legend(frameon=False, labelcolor=GREY)
    signals = [[layer.error_signal or math.nan for layer in sample.layers] for sample in history]
    width = min(map(len, signals))
    if width:
        with np.errstate(all="ignore"):
            values = np.log10(np.array([row[:width] for row in signals], dtype=float).T)
        image = right.imshow(
            values, aspect="auto", origin="upper", cmap="viridis", extent=(steps[0], steps[-1], width, 0)
        )
        bar = figure.colorbar(image, ax=right)
        bar.ax.tick_params(colors=GREY, labelsize=7)
        right.set(title="log10 of the error signal, layer by layer", xlabel="step", ylabel="layer")
    return _svg(figure, [left, right])


def sick_paths(report: Report) -> set[str]:
    """Paths of all modules that a finding concerns."""
    return {path for finding in report.findings for path in finding.layers}


def _counts(layer: Layer, of: str) -> Histogram | None:
    counted = layer.gradient if of == "gradient" else layer.activation.histogram if layer.activation else None
    return counted if counted is not None and len(counted.edges) > 1 and counted.edges[0] < counted.edges[-1] else None


def _short(path: str) -> str:
    return path if len(path) <= 18 else f"…{path[-17:]}"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Figure, panels: Sequence[Axes] | Any) -> str:
    """The figure without background, in grey, as an element of a page."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    for axes in panels:
        axes.patch.set_alpha(0)
        axes.title.set_color(axes.title.get_color() if axes.title.get_color() == RED else GREY)
        axes.tick_params(colors=GREY, which="both")
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set_color(GREY)
        for spine in axes.spines.values():
            spine.set_color(GREY)
    figure.patch.set_alpha(0)
    written = StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "chainrule", "font.size": 9}):
        FigureCanvasSVG(figure).print_svg(written, metadata={"Date": None, "Creator": None})
    element = written.getvalue()[written.getvalue().index("<svg") :]
    return re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1 style="max-width: 100%; height: auto"', element, count=1)
