"""The explanation as one HTML page that works offline: the picture to step through, and every table.

`page.css` and `page.js` beside this file are put into it. Formulas become MathML, which browsers typeset themselves,
by `latex2mathml`.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from html import escape
from importlib.resources import files
from typing import Any

from latex2mathml.converter import convert

from chainrule.explain import drawing
from chainrule.explain.explanation import Explanation
from chainrule.explain.notation import Formula
from chainrule.explain.steps import GATES, Step
from chainrule.explain.tables import Table, tables_of, value_cell

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(explanation: Explanation) -> str:
    """The whole page; it loads nothing from anywhere."""
    drawn = drawing.picture(explanation)
    title = drawing.title_of(explanation)
    frames = _frames(explanation, drawn)
    data = json.dumps(frames, ensure_ascii=False).replace("</", "<\\/")
    tables = "\n".join(_table(table) for table in tables_of(explanation))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{drawing.STYLE}{_resource("page.css")}</style>
</head>
<body>
<header><h1>{_math(_headline(explanation))}</h1></header>
<main>
<section class="stage" aria-label="The graph, step by step">
<div class="controls" role="toolbar" aria-label="Steps">
<button id="first" aria-label="To the start">|◀</button>
<button id="previous" aria-label="Step back">◀</button>
<button id="next" aria-label="Step on">▶</button>
<button id="last" aria-label="To the end">▶|</button>
<label class="slider"><span class="hidden">Step</span><input id="place" type="range" min="0" value="0"></label>
<span id="count"></span>
<button id="fit" aria-label="Fit the picture to the width" aria-pressed="false">↔</button>
<button id="theme" aria-label="Light or dark">◐</button>
</div>
<p class="hint">Arrow keys step; click a box, or press Enter on it, for its formulas.</p>
<div class="scroll" tabindex="0" role="group" aria-label="Picture of the graph">
<svg xmlns="http://www.w3.org/2000/svg" class="graph" {_size(drawn)}>
{drawing.inner_svg(drawn)}
</svg>
</div>
<div class="panel" id="panel" role="status" aria-live="polite"></div>
</section>
{tables}
</main>
<script type="application/json" id="frames">{data}</script>
<script>{_resource("page.js")}</script>
</body>
</html>
"""


def _size(drawn: drawing.Picture) -> str:
    return f'viewBox="0 0 {drawn.width:.0f} {drawn.height:.0f}" style="width: {drawn.width:.0f}px"'


def embedded(explanation: Explanation) -> str:
    """The page inside a notebook's cell."""
    source, title = escape(page(explanation), quote=True), escape(drawing.title_of(explanation), quote=True)
    return f'<iframe srcdoc="{source}" title="{title}" style="width: 100%; height: 720px; border: 0"></iframe>'


def _headline(explanation: Explanation) -> Formula:
    result = explanation.result
    made = result.expression or result.name
    return Formula(f"{result.name.text} = {made.text}", f"{result.name.latex} = {made.latex}")


def _resource(name: str) -> str:
    return files("chainrule.explain").joinpath(name).read_text(encoding="utf-8")


# Formulas ----------------------------------------------------------------------------------------------------------


def _math(formula: Formula) -> str:
    """A formula as MathML; plain words stay words."""
    if re.fullmatch(r"\\text\{.*\}", formula.latex) or not formula.latex:
        return escape(formula.text)
    return _mathml(formula.latex)


#: What `latex2mathml` would pass on, or read as LaTeX, inside words; it goes around it as letters of no alphabet.
_GUARDED = {c: chr(0xE100 + k) for k, c in enumerate("<>&\"'\\{}$#%^_~")}
_RESTORED = {ord(guard): escape(c, quote=True) for c, guard in _GUARDED.items()}
_WORDS = re.compile(r"\\(?:text|mathtt|mathit)\{((?:[^{}\\]|\\[^a-z]|\\text[a-z]+\{\})*)\}")


@lru_cache(maxsize=4096)
def _mathml(latex: str) -> str:
    """MathML. Browsers know no typewriter in it, and an indicator's 1 only as a letter of its own."""
    made: str = convert(_WORDS.sub(_guarded, latex).replace(r"\mathbb{1}", "\N{MATHEMATICAL DOUBLE-STRUCK DIGIT ONE}"))
    return made.translate(_RESTORED)


def _guarded(match: re.Match) -> str:
    spelled = match[1]
    for long, plain in ((r"\textbackslash{}", "\\"), (r"\textasciitilde{}", "~"), (r"\textasciicircum{}", "^")):
        spelled = spelled.replace(long, plain if plain != "\\" else _GUARDED["\\"])
    plain = re.sub(r"\\([^a-z])", r"\1", spelled)
    return rf"\text{{{''.join(_GUARDED.get(c, c) for c in plain)}}}"


# Steps -------------------------------------------------------------------------------------------------------------


def _frames(explanation: Explanation, drawn: drawing.Picture) -> dict[str, Any]:
    """What the page steps through: first the values as they are made, then the gradients as they come back."""
    lines: dict[tuple[str, str], list[int]] = {}
    for line in drawn.lines:
        lines.setdefault((line.start, line.end), []).append(line.number)
    shown = [step for step in explanation.steps if f"s{step.number}" in drawn.boxes]
    details = {f"s{step.number}": _details(step, explanation) for step in shown}
    arriving: dict[str, list[int]] = {}
    for line in drawn.lines:
        arriving.setdefault(line.end, []).append(line.number)
    keys = [f"s{step.number}" for step in shown]
    forward = [{"kind": "forward", "node": key, "edges": arriving.get(key, [])} for key in keys]
    backward = []
    for gradient in explanation.gradients:
        key = f"s{gradient.of.number}"
        if key in drawn.boxes:
            edges = [n for p in gradient.paths for n in lines.get((key, f"s{p.step.number}"), [])]
            backward.append({"kind": "backward", "node": key, "edges": list(dict.fromkeys(edges))})
    return {"frames": forward + backward, "details": details}


def _details(step: Step, explanation: Explanation) -> dict[str, str]:
    """What the panel says of a step on the way forward, and of its gradient on the way back."""
    name, made = step.name, step.expression
    equation = Formula("", f"{name.latex} = {made.latex}") if made else name
    forward = f"<h2>{_math(equation)}</h2><p class='value'>{_math(value_cell(step.value, explanation))}</p>"
    if step.is_input:
        forward += "<p>An input.</p>"
    else:
        kept = (
            ", ".join(f"{_math(k.what)} (for {', '.join(_math(r) for r in k.read_for)})" for k in step.kept)
            or "nothing"
        )
        forward += f"<p>Kept for the backward pass: {kept}.</p>"
        if step.gate:
            forward += f"<p>On the way back it <b>{escape(step.gate)}</b>: it {escape(GATES[step.gate])}.</p>"
    gradient = explanation.walk.gradients.get(step.node) if explanation.walk else None
    tangent = next((row for row in explanation.tangents if row.step is step), None)
    backward = ""
    if gradient is not None:
        equation = Formula("", f"{gradient.symbol.latex} = {gradient.formula.latex}")
        backward = f"<h2>{_math(equation)}</h2><p class='gradient'>{_math(value_cell(gradient.value, explanation))}</p>"
        for path in gradient.paths:
            local = _math(path.local) if path.local else "its Jacobian"
            backward += (
                f"<p>From {_math(path.step.name)}: upstream {_math(value_cell(path.upstream, explanation))}, "
                f"local derivative {local}, contributes {_math(value_cell(path.contribution, explanation))}.</p>"
            )
        if gradient.is_sum:
            backward += f"<p>Used {len(gradient.paths)} times: the paths <b>sum</b>.</p>"
        fits = "fits" if gradient.shape_fits else "does not fit"
        backward += f"<p>Its shape {fits} that of the value.</p>"
    if tangent is not None:
        rule = f" = {tangent.formula.latex}" if tangent.formula else ""
        forward += f"<h2>{_math(Formula('', tangent.symbol.latex + rule))}</h2>"
        forward += f"<p class='gradient'>{_math(value_cell(tangent.value, explanation))}</p>"
    return {"forward": forward, "backward": backward}


# Tables ------------------------------------------------------------------------------------------------------------


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col"{_aligned(k, table)}>{escape(c)}</th>' for k, c in enumerate(table.columns))
    rows = "\n".join(
        "<tr>" + "".join(f"<td{_aligned(k, table)}>{_math(cell)}</td>" for k, cell in enumerate(row)) + "</tr>"
        for row in table.rows
    )
    note = f"<p class='note'>{escape(table.note)}.</p>" if table.note else ""
    title = escape(table.title, quote=True)
    return (
        f"<section><h2>{title}</h2><div class='scroll' tabindex='0' role='group' aria-label='{title}'>"
        f"<table><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div>{note}</section>"
    )


def _aligned(column: int, table: Table) -> str:
    return " class='right'" if column in table.right else ""
