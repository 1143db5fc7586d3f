"""How the gradient in time looks: as a table with a bar for each step back, in a sentence, and as a picture."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from chainrule.nn.through_time import LayerThroughTime, TimeReport

_WIDTH = 120
_MOST_ROWS = 17
_WIDEST_BAR = 24
_BESIDE_COLUMNS = 24
"""Characters that the first column, the last and the margins take."""
_EIGHTHS = " ▏▎▍▌▋▊▉█"
VANISHING, EXPLODING = 1e-3, 1e3
"""Shares of the gradient left at the first step beyond which the verdict is not "reaches"."""


def text(report: TimeReport) -> str:
    """Plain text."""
    console = Console(file=io.StringIO(), width=_WIDTH, color_system=None, legacy_windows=False)
    console.print(renderable(report, _WIDTH))
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


def renderable(report: TimeReport, width: int) -> Any:
    """What `rich` prints in `width` columns."""
    parts: list[Any] = []
    for layer in report.layers:
        parts += [Text(f"{layer.name} ({_kind(layer)}): {_radii(layer)}", style="bold"), _table(layer, width)]
        parts += [Text(verdict(layer)), Text("")]
    return Group(*parts[:-1])


def verdict(layer: LayerThroughTime) -> str:
    """One line in plain words: how much of the gradient is left at the first step, and where it was lost."""
    steps = len(layer) - 1
    if steps == 0:
        return "One step: there is no way back in time."
    if not layer.hidden.any() and not (layer.cell is not None and layer.cell.any()):
        return "No gradient: the loss does not depend on this layer's states."
    left = float(layer.remaining[-1])
    way = f"{steps} step{'s' * (steps > 1)} back"
    if not math.isfinite(left):
        return f"EXPLODING: the gradient overflows within {way}."
    pace = f"{layer.mean_gain:.3g} times as large with each step"
    if left > EXPLODING:
        return f"EXPLODING: {way} the gradient is {left:.1e} times as large as at the last step, {pace}."
    if left < VANISHING:
        reach = layer.reach(VANISHING)
        return (
            f"VANISHING: {way} {f'{left:.1e}' if left else 'nothing'} of the gradient is left, {pace}; less than a "
            f"thousandth from {reach} steps on."
        )
    return f"Reaches: {way} the gradient is {left:.2g} times as large as at the last step, {pace}."


def spread(count: int, most: int) -> list[int]:
    """At most `most` places among `count`, evenly spread, with the first and the last."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})


def _kind(layer: LayerThroughTime) -> str:
    return layer.kind.upper() if layer.kind in ("lstm", "gru") else f"RNN, {layer.kind.removeprefix('rnn_')}"


def _radii(layer: LayerThroughTime) -> str:
    radii = layer.spectral_radius
    if len(radii) == 1:
        return f"spectral radius {next(iter(radii.values())):.3f}"
    return "spectral radii " + ", ".join(f"{gate} {radius:.3f}" for gate, radius in radii.items())


def _columns(layer: LayerThroughTime) -> dict[str, NDArray[np.float64]]:
    """What there is to show of a layer, by heading."""
    columns = {"‖∂L/∂h‖": layer.hidden}
    if layer.cell is not None:
        columns["‖∂L/∂c‖"] = layer.cell
    if layer.direct is not None:
        columns[f"through {'c' if layer.cell is not None else 'z'} alone"] = layer.direct
    return columns


def _table(layer: LayerThroughTime, width: int) -> Table:
    columns = _columns(layer)
    heights = _heights(list(columns.values()))
    bar = (width - _BESIDE_COLUMNS - sum(max(len(heading), 8) + 4 for heading in columns)) // len(columns)
    bar = min(max(bar, 3), _WIDEST_BAR)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("steps back", justify="right")
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("", min_width=bar, no_wrap=True)
    table.add_column("gain", justify="right", no_wrap=True)
    for place in spread(len(layer), _MOST_ROWS):
        row: list[Any] = [str(place)]
        for values, height in zip(columns.values(), heights, strict=True):
            row += [f"{values[place]:.2e}", Text(_bar(height[place], bar), style="cyan")]
        gain = layer.gain[place]
        table.add_row(*row, f"{gain:.3f}" if 1e-3 <= gain < 1e3 else f"{gain:.1e}")
    return table


def _heights(columns: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Lengths of bars, from 0 to 1, on one logarithmic scale of three orders of magnitude or more."""
    values = np.concatenate(columns)
    positive = values[(values > 0) & np.isfinite(values)]
    if not positive.size:
        return [np.zeros_like(column) for column in columns]
    high = math.log10(positive.max())
    low = min(math.log10(positive.min()), high - 3)
    with np.errstate(divide="ignore"):
        return [np.clip(1 + (np.log10(column) - high) / (high - low + 1), 0, 1) for column in columns]


def _bar(height: float, width: int) -> str:
    eighths = round(float(height) * width * 8) if math.isfinite(height) else 0
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


# Drawn ---------------------------------------------------------------------------------------------------------------


def png(report: TimeReport) -> bytes:
    """Norms and gains over the steps back, one colour for each layer, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(12, 5), dpi=110, layout="constrained")
    norms, gains = figure.subplots(1, 2)
    norms.set(title="Norm of the gradient", xlabel="steps back", yscale="log")
    gains.set(title="Gain of each step", xlabel="steps back", yscale="log")
    gains.axhline(1.0, color="grey", linewidth=0.8)
    for number, layer in enumerate(report.layers):
        colour = f"C{number % 10}"
        for heading, values in _columns(layer).items():
            style = ":" if "alone" in heading else "--" if "∂c" in heading else "-"
            norms.plot(_positive(values), style, color=colour, label=f"{layer.name}: {heading}")
        gains.plot(_positive(layer.gain), color=colour, label=f"{layer.name}: {_radii(layer)}")
    for axes in (norms, gains):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    return picture.getvalue()


def _positive(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN for what has no place on a logarithmic axis."""
    return np.where((values > 0) & np.isfinite(values), values, np.nan)
