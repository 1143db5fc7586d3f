"""The report as one HTML page that works offline: findings, gradient flow, histograms, and the network drawn."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from typing import Any

from chainrule.doctor import charts
from chainrule.doctor.finding import CODES, Finding, Severity
from chainrule.doctor.measurements import Layer
from chainrule.doctor.report import Report, headline, table_columns, table_row, told_course
from chainrule.doctor.rules.words import number

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(report: Report) -> str:
    """The whole page; it loads nothing from anywhere and runs no script."""
    style = files("chainrule.doctor").joinpath("page.css").read_text(encoding="utf-8")
    title = f"{report.examination.model}: {'healthy' if report.healthy else 'what is wrong'}"
    body = [
        f"<header><h1>{escape(report.examination.model)}</h1><p>{escape(headline(report.examination))}</p>"
        f"<p class='{'healthy' if report.healthy else 'sick'} verdict'>{escape(report.verdict)}</p></header>",
        "<main>",
        *map(_finding, report.findings),
        _section(
            "Gradient flow", charts.flow_chart(report), "Sick layers are shaded." if charts.sick_paths(report) else ""
        )
        if report.examination.layers
        else "",
        _section("Over the steps", charts.course(report), _course(report)),
        _section("The network", _network(report)),
        _section("Activations and gradients", charts.histograms(report), "How often each value occurs."),
        _section("Layer by layer", _table(report)),
        *(f"<p class='note'>Not measured: {escape(note)}</p>" for note in report.examination.notes),
        "</main>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{chr(10).join(body)}\n</body>\n</html>\n"
    )


def _course(report: Report) -> str:
    course = report.examination.course
    return "" if course is None else " ".join(told_course(course))


def _section(title: str, content: str, note: str = "") -> str:
    if not content:
        return ""
    said = f"<p class='note'>{escape(note)}</p>" if note else ""
    return f"<section><h2>{escape(title)}</h2><div class='scroll' tabindex='0'>{content}</div>{said}</section>"


def _finding(finding: Finding) -> str:
    where = f" in <code>{escape(finding.layer)}</code>" if finding.layer else ""
    evidence = "".join(
        f"<tr><th scope='row'>{escape(name.replace('_', ' '))}</th><td>{escape(_shown(value))}</td></tr>"
        for name, value in finding.evidence.items()
        if value is not None
    )
    if finding.follows_from:
        act = f"<p class='note'>Follows from <code>{escape(finding.follows_from)}</code>.</p>"
    elif finding.remedies:
        act = f"<p>Try: {escape(', '.join(finding.remedies))}.</p>"
    else:
        act = ""
    kind = finding.severity.name.lower()
    return (
        f"<article class='finding {kind}'><h2><span class='badge'>{kind}</span> {escape(finding.code)}{where}</h2>"
        f"<p class='title'>{escape(CODES[finding.code].title)}.</p><p>{escape(finding.cause)}</p>{act}"
        f"<details><summary>Evidence</summary><table>{evidence}</table></details>"
        f"<p class='note'>{escape(finding.reference)}</p></article>"
    )


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    return number(value) if isinstance(value, float) else str(value)


def _network(report: Report) -> str:
    """The layers in the order in which they compute, as boxes joined by arrows."""
    worst: dict[str, Finding] = {}
    for finding in reversed(report.findings):
        worst.update(dict.fromkeys(finding.layers, finding))
    boxes = [_box(layer, worst.get(layer.path)) for layer in report.examination.layers]
    return f"<ol class='network'>{''.join(boxes)}</ol>"


def _box(layer: Layer, finding: Finding | None) -> str:
    kind = "" if finding is None else f" {finding.severity.name.lower()}"
    then = [
        "normalised" if layer.normalization else "",
        layer.activation.name if layer.activation else "",
        "a path leads around it" if layer.skipped else "",
    ]
    lines = [
        f"<b>{escape(layer.path)}</b>",
        escape(f"{layer.kind} {layer.fan_in} → {layer.units}"),
        escape(", ".join(word for word in then if word)),
        f"<em>{escape(finding.code)}</em>" if finding is not None and finding.severity > Severity.NOTE else "",
    ]
    return f"<li class='box{kind}'>{'<br>'.join(line for line in lines if line)}</li>"


def _table(report: Report) -> str:
    if not report.examination.layers:
        return ""
    sick = charts.sick_paths(report)
    head = "".join(f"<th scope='col'>{escape(title)}</th>" for title in table_columns)
    rows = "".join(
        f"<tr{' class=sick' if layer.path in sick else ''}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in table_row(layer))
        + "</tr>"
        for layer in report.examination.layers
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
