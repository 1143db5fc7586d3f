"""The graph as a picture: values on the edges forward, gradients backward, wider where they are larger.

The layout is Sugiyama's layered one, by `fast_sugiyama`; this file turns places into SVG. The page in `page` puts the
same picture into a document one can step through.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import Any

import fast_sugiyama
import numpy as np

from chainrule.explain import numbers
from chainrule.explain.explanation import Explanation
from chainrule.explain.repeats import Repeat

_CHARACTER, _HEIGHT, _GAP, _COLUMN_GAP = 7.4, 46.0, 62.0, 34.0
_BOX_LABEL, _LINE_LABEL = 26, 18

STYLE = """
.graph { --ink: #1b1f24; --paper: #ffffff; --box: #f4f6f8; --line: #57606a; --value: #0a6b2d; --gradient: #b3261e;
  --input: #e7f0fb; font: 12px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
@media (prefers-color-scheme: dark) { .graph { --ink: #e6edf3; --paper: #0d1117; --box: #1c232c; --line: #8b949e;
  --value: #7ee2a0; --gradient: #ff9a8f; --input: #13263d; } }
.graph .box { fill: var(--box); stroke: var(--line); }
.graph .input .box { fill: var(--input); }
.graph .result .box { stroke-width: 2.5; }
.graph text { fill: var(--ink); }
.graph .edge path { fill: none; stroke: var(--line); }
.graph .edge .back { stroke: var(--gradient); opacity: .35; }
.graph text.value { fill: var(--value); }
.graph text.gradient { fill: var(--gradient); }
.graph .halo { stroke: var(--paper); stroke-width: 4px; paint-order: stroke; }
"""


@dataclass
class Box:
    """One node of the picture: a step, or the hidden rest of a repeated block."""

    key: str
    title: str
    value: str
    gradient: str
    kind: str
    x: float = 0.0
    y: float = 0.0

    @property
    def width(self) -> float:
        longest = max(len(self.title), len(self.value) + len(self.gradient) + 3)
        return max(64.0, longest * _CHARACTER + 18)


@dataclass
class Line:
    """One edge: the value that goes forward along it and the gradient that comes back."""

    start: str
    end: str
    value: str
    gradient: str
    size: float  # of the gradient, 0 to 1
    points: list[tuple[float, float]] = field(default_factory=list)
    number: int = 0


@dataclass
class Picture:
    """Boxes and lines in place, and the size of the whole."""

    boxes: dict[str, Box]
    lines: list[Line]
    width: float
    height: float


def svg(explanation: Explanation) -> str:
    """The picture as an SVG document of its own."""
    drawn = picture(explanation)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {drawn.width:.0f} {drawn.height:.0f}" '
        f'width="{drawn.width:.0f}" height="{drawn.height:.0f}" role="img" class="graph">\n'
        f"<title>{escape(title_of(explanation))}</title>\n<style>{STYLE}</style>\n"
        f'<rect width="100%" height="100%" style="fill: var(--paper)"/>\n{inner_svg(drawn)}\n</svg>\n'
    )


def title_of(explanation: Explanation) -> str:
    """What the picture shows, in words."""
    kind = "forward mode" if explanation.mode == "forward" else "backpropagation"
    return f"{kind} through {explanation.result.name.text} = {explanation.result.expression}"


def inner_svg(drawn: Picture) -> str:
    """The elements of the picture, without the `svg` around them."""
    parts = [_defs()]
    parts += [_line_svg(line) for line in drawn.lines]
    parts += [_box_svg(box) for box in drawn.boxes.values()]
    return "\n".join(parts)


def _defs() -> str:
    return (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 8 4 0 8z" style="fill: var(--line)"/></marker></defs>'
    )


def _box_svg(box: Box) -> str:
    x, y, w = box.x, box.y, box.width
    label = escape(f"{box.title}: {box.value}" + (f", gradient {box.gradient}" if box.gradient else ""), quote=True)
    below = (
        _text(x - w / 2 + 9, y + 13, box.value, "value v", "start")
        if box.gradient
        else _text(x, y + 13, box.value, "value v")
    )
    if box.gradient:
        below += _text(x + w / 2 - 9, y + 13, box.gradient, "gradient g", "end")
    return (
        f'<g class="node {box.kind}" id="{box.key}" role="img" aria-label="{label}">'
        f'<rect class="box" x="{x - w / 2:.1f}" y="{y - _HEIGHT / 2:.1f}" width="{w:.1f}" height="{_HEIGHT}" rx="7"/>'
        f"{_text(x, y - 5, box.title, 'title')}{below}</g>"
    )


def _line_svg(line: Line) -> str:
    path = _smooth(line.points)
    x, y = _label_place(line.points)
    labels = _text(x + 7, y - 5, line.value, "value halo", "start") + _text(
        x + 7, y + 9, line.gradient, "gradient halo", "start"
    )
    back = f'<path class="back" d="{path}" stroke-width="{1 + 7 * line.size:.1f}"/>' if line.gradient else ""
    return (
        f'<g class="edge" id="e{line.number}" data-from="{line.start}" data-to="{line.end}" aria-hidden="true">'
        f'{back}<path class="forth" d="{path}" marker-end="url(#arrow)"/>{labels}</g>'
    )


def _text(x: float, y: float, text: str, kind: str, anchor: str = "middle") -> str:
    if not text:
        return ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" style="text-anchor: {anchor}">{escape(text)}</text>'


def _smooth(points: Sequence[tuple[float, float]]) -> str:
    """A curve through the points that leaves and arrives downwards."""
    text = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in pairwise(points):
        bend = (y1 - y0) / 2
        text += f"C{x0:.1f} {y0 + bend:.1f} {x1:.1f} {y1 - bend:.1f} {x1:.1f} {y1:.1f}"
    return text


def _label_place(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """On the curve, nearer to where it leaves: there, edges that meet in one box are still apart."""
    (x0, y0), (x1, y1) = points[0], points[1]
    t = 0.42
    across = 3 * t * t * (1 - t) + t**3  # of a Bézier curve whose handles are straight above and below its ends
    down = 1.5 * t * (1 - t) ** 2 + 1.5 * t * t * (1 - t) + t**3
    return x0 + (x1 - x0) * across, y0 + (y1 - y0) * down + 4


# Reading the explanation -------------------------------------------------------------------------------------------


def picture(explanation: Explanation) -> Picture:
    """The visible steps as boxes in place, and what flows between them as lines."""
    owners: dict[Any, str] = {}
    boxes: dict[str, Box] = {}
    totals = {g.of.node: _short(g.value) for g in explanation.gradients}
    totals |= {row.step.node: _short(row.value) for row in explanation.tangents}
    for item in explanation.view():
        for step in item.first if isinstance(item, Repeat) else [item]:
            key = f"s{step.number}"
            owners[step.node] = key
            made = f" = {step.expression}" if step.expression else ""
            title = step.name.text + made
            kind = "input" if step.is_input else "result" if step is explanation.result else "step"
            shown = title if len(title) <= 34 else f"{step.name.text} = {step.operation}"
            boxes[key] = Box(key, shown, _short(step.value), totals.get(step.node, ""), kind)
        if isinstance(item, Repeat):
            key = f"r{item.steps[-1].number}"
            owners |= dict.fromkeys((s.node for s in item.hidden), key)
            boxes[key] = Box(key, f"{item.count - 1} more such blocks" if item.first else item.told, "", "", "repeat")
    lines = _lines(explanation, owners)
    return _placed(boxes, lines)


def _lines(explanation: Explanation, owners: Mapping[Any, str]) -> list[Line]:
    contributions: dict[tuple, list] = {}
    for path in explanation.paths:
        contributions.setdefault((path.to.node, path.step.node), []).append(path.contribution)
    drawn: list[list[Any]] = []  # start, end, value, contribution
    merged: dict[tuple[str, str], list[Any]] = {}
    for step in explanation.steps:
        for operand in step.operands:
            end = owners[step.node]
            start = end if operand.node is None else owners[operand.node]
            if start == end:
                continue
            found = contributions.get((operand.node, step.node), [])
            line = [start, end, operand.value, found.pop() if found else None]
            earlier = merged.get((start, end))
            if earlier is not None:  # all edges into or out of a block that is left out are one
                if earlier[3] is not None and np.shape(earlier[3]) == np.shape(line[3]):
                    earlier[3] = earlier[3] + line[3]
                continue
            if "r" in (start[0], end[0]):
                merged[start, end] = line
            drawn.append(line)
    lengths = [0.0 if contribution is None else _length(contribution) for *_, contribution in drawn]
    largest = max(lengths, default=0.0)
    return [
        Line(
            start,
            end,
            _short(value, _LINE_LABEL),
            _short(contribution, _LINE_LABEL),
            _relative(length, largest),
            number=n,
        )
        for n, ((start, end, value, contribution), length) in enumerate(zip(drawn, lengths, strict=True))
    ]


def _short(value: Any, most: int = _BOX_LABEL) -> str:
    """A value in few characters: whole if it fits, else its norm."""
    value = numbers.as_array(value)
    if value is None:
        return ""
    text = numbers.array(value, 4)
    return text if len(text) <= most and numbers.is_small(value) else f"‖{numbers.number(_length(value), 3)}‖"


def _length(value: Any) -> float:
    return float(np.linalg.norm(np.asarray(value, dtype=np.float64).reshape(-1)))


def _relative(length: float, largest: float) -> float:
    """0 to 1 on a logarithmic scale over six decades."""
    if not length or not largest or not math.isfinite(length):
        return 0.0
    return max(0.0, 1 + math.log10(length / largest) / 6)


# Layout ------------------------------------------------------------------------------------------------------------


def _placed(boxes: dict[str, Box], lines: list[Line]) -> Picture:
    """Put boxes and lines where the layered layout wants them, columns as wide as the widest box."""
    if len(boxes) == 1:
        (only,) = boxes.values()
        only.x, only.y = only.width / 2 + 12, _HEIGHT / 2 + 12
        return Picture(boxes, lines, only.width + 24, _HEIGHT + 24)
    numbered = {key: k for k, key in enumerate(boxes)}
    keys = list(boxes)
    edges = list(dict.fromkeys((numbered[line.start], numbered[line.end]) for line in lines))
    column = max(box.width for box in boxes.values()) + _COLUMN_GAP
    laid: Any = fast_sugiyama.from_edges(edges, vertex_spacing=100, dummy_vertices=True, check_layout=False)
    places: dict[int, tuple[float, float]] = {}
    chains: list[tuple[int, int]] = []
    left = 0.0
    for positions, width, height, routed in laid:
        for k, (x, y) in positions:
            places[k] = (left + x / 100 * column, (height - y) / 100 * (_HEIGHT + _GAP))
        chains += routed
        left += (width / 100 + 1) * column
    _closer(places, keys, [_room(box, lines) for box in boxes.values()])
    for k, key in enumerate(keys):
        boxes[key].x, boxes[key].y = places[k]
    nexts: dict[int, list[int]] = {}
    for a, b in chains:
        nexts.setdefault(a, []).append(b)
    twins = Counter((line.start, line.end) for line in lines)
    used: Counter = Counter()
    for line in lines:
        pair = (line.start, line.end)
        aside = 56.0 * (used[pair] - (twins[pair] - 1) / 2)
        used[pair] += 1
        line.points = _route(numbered[line.start], numbered[line.end], nexts, places, len(keys), aside)
    return _framed(boxes, lines)


def _room(box: Box, lines: Sequence[Line]) -> float:
    """How wide a box is together with what is written on the edges that leave it."""
    return max(box.width, *[1.5 * _label_width(line) for line in lines if line.start == box.key], 0.0)


def _label_width(line: Line) -> float:
    return _CHARACTER * max(len(line.value), len(line.gradient))


def _closer(places: dict[int, tuple[float, float]], keys: list[str], widths: Sequence[float]) -> None:
    """Take out the room that a row does not need: a layered layout gives every vertex the widest box's."""
    rows: dict[float, list[int]] = {}
    for k, (_, y) in places.items():
        rows.setdefault(y, []).append(k)
    if max(len(row) for row in rows.values()) == 1:
        return
    columns = sorted({x for x, _ in places.values()})
    needed = {
        x: max((widths[k] for k, (px, _) in places.items() if px == x and k < len(keys)), default=20.0) for x in columns
    }
    moved: dict[float, float] = {}
    for place, x in enumerate(columns):
        if place == 0:
            moved[x] = 0.0
            continue
        before = columns[place - 1]
        room = (needed[before] + needed[x]) / 2 + _COLUMN_GAP
        moved[x] = moved[before] + min(x - before, room)
    for k, (x, y) in places.items():
        places[k] = (moved[x], y)


def _route(
    start: int,
    end: int,
    nexts: Mapping[int, list[int]],
    places: Mapping[int, tuple[float, float]],
    real: int,
    aside: float,
) -> list[tuple[float, float]]:
    """From box to box, through the places the layout keeps free for a long edge."""
    stack: list[list[int]] = [[start]]
    chain = [start, end]
    while stack:
        walked = stack.pop()
        for k in nexts.get(walked[-1], []):
            if k == end:
                chain = [*walked, end]
                stack.clear()
                break
            if k >= real:
                stack.append([*walked, k])
    points = [places[k] for k in chain]
    (x0, y0), (x1, y1) = points[0], points[-1]
    inner = [(x + aside, y) for x, y in points[1:-1]]
    return [(x0 + aside, y0 + _HEIGHT / 2), *inner, (x1 + aside, y1 - _HEIGHT / 2 - 1)]


def _framed(boxes: dict[str, Box], lines: list[Line]) -> Picture:
    """Everything moved into view, with a margin."""
    margin = 14.0
    labels = [(_label_place(line.points)[0], line) for line in lines]
    low_x = min([b.x - b.width / 2 for b in boxes.values()] + [x for line in lines for x, _ in line.points])
    high_x = max([b.x + b.width / 2 for b in boxes.values()] + [x + 10 + _label_width(line) for x, line in labels])
    low_y = min(b.y for b in boxes.values()) - _HEIGHT / 2
    high_y = max(b.y for b in boxes.values()) + _HEIGHT / 2
    dx, dy = margin - low_x, margin - low_y
    for box in boxes.values():
        box.x, box.y = box.x + dx, box.y + dy
    for line in lines:
        line.points = [(x + dx, y + dy) for x, y in line.points]
    return Picture(boxes, lines, high_x - low_x + 2 * margin, high_y - low_y + 2 * margin)
