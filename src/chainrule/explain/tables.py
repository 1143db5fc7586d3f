"""The tables of an explanation: what the text, Markdown, LaTeX and HTML renderings all show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from chainrule.explain import notation, numbers
from chainrule.explain.explanation import Explanation
from chainrule.explain.gradients import Gradient, Path
from chainrule.explain.notation import Formula
from chainrule.explain.repeats import Repeat
from chainrule.explain.steps import GATES, Step
from chainrule.explain.verdict import TOGETHER

#: Inputs that get a row of their own among the gradients, and a formula of their own.
MOST_INPUTS, MOST_FORMULAS, MOST_JACOBIANS = 40, 12, 8

BLANK = Formula("", "")


def words(text: str) -> Formula:
    """Plain words as a cell."""
    return Formula(text, rf"\text{{{notation.plain_latex(text)}}}" if text else "")


_SIDES = ["gradient", "is"]


@dataclass
class Table:
    """A titled table of formulas, with a note in plain words."""

    title: str
    columns: list[str]
    rows: list[list[Formula]] = field(default_factory=list)
    note: str = ""
    right: tuple[int, ...] = ()  # columns of numbers

    @property
    def is_list(self) -> bool:
        """Whether each row is an equation: its two sides."""
        return self.columns == _SIDES


def tables_of(explanation: Explanation) -> list[Table]:
    """Every table there is something to put into."""
    if explanation.mode == "forward":
        found = [_tangent_table(explanation), _verdict_table(explanation)]
    else:
        found = [
            _forward_table(explanation),
            _backward_table(explanation),
            _derivation_table(explanation),
            _formula_table(explanation),
            _jacobian_table(explanation),
            _factor_table(explanation),
            _gradient_table(explanation),
        ]
    return [table for table in found if table.rows]


def value_cell(value: Any, explanation: Explanation) -> Formula:
    """A value with the explanation's number of digits."""
    return Formula(numbers.array(value, explanation.digits), numbers.array_latex(value, explanation.digits))


def _more(repeat: Repeat, columns: int) -> list[Formula]:
    return [BLANK, words(f"⋮ {repeat.told}"), *[BLANK] * (columns - 2)]


def _shown(explanation: Explanation) -> tuple[list[Step | Repeat], set]:
    """The steps to show, and the nodes that are hidden in repeated blocks."""
    items = explanation.view()
    return items, {step.node for item in items if isinstance(item, Repeat) for step in item.hidden}


def _all_steps(item: Step | Repeat) -> list[Step]:
    return item.steps if isinstance(item, Repeat) else [item]


# Forward -----------------------------------------------------------------------------------------------------------


def _forward_table(explanation: Explanation) -> Table:
    columns = ["step", "expression", "value", "shape", "kept for the backward pass"]
    table = Table("Forward", columns, right=(0,))
    for item in _shown(explanation)[0]:
        steps = item.first if isinstance(item, Repeat) else [item]
        table.rows += [_forward_row(step, explanation) for step in steps]
        if isinstance(item, Repeat):
            table.rows.append(_more(item, len(columns)))
    return table


def _forward_row(step: Step, explanation: Explanation) -> list[Formula]:
    name, made = step.name, step.expression
    equation = Formula(f"{name.text} = {made.text}", f"{name.latex} = {made.latex}") if made else name
    return [
        words(str(step.number)),
        equation,
        words(f"{len(step.shape)} outputs") if step.is_row else value_cell(step.value, explanation),
        words(numbers.shape(step.shape)),
        words("input") if step.is_input else _kept_cell(step),
    ]


def _kept_cell(step: Step) -> Formula:
    if not step.kept:
        return words("nothing")
    text = ", ".join(f"{k.what.text} (for {', '.join(r.text for r in k.read_for)})" for k in step.kept)
    latex = r",\ ".join(rf"{k.what.latex}\ (\text{{for }} {', '.join(r.latex for r in k.read_for)})" for k in step.kept)
    return Formula(text, latex)


def _tangent_table(explanation: Explanation) -> Table:
    table = Table("Forward mode: value and tangent, carried together", ["step", "expression", "value", "tangent", "is"])
    table.right = (0,)
    hidden = _shown(explanation)[1]
    for row in explanation.tangents:
        if row.step.node in hidden:
            continue
        rule = row.formula
        tangent = (
            Formula(f"{row.symbol.text} = {rule.text}", f"{row.symbol.latex} = {rule.latex}") if rule else row.symbol
        )
        cells = _forward_row(row.step, explanation)
        table.rows.append([cells[0], cells[1], cells[2], tangent, value_cell(row.value, explanation)])
    return table


# Backward ----------------------------------------------------------------------------------------------------------


def _backward_table(explanation: Explanation) -> Table:
    columns = ["from", "to", "gate", "local derivative", "upstream", "contribution"]
    table = Table("Backward", columns)
    items, hidden = _shown(explanation)
    before = {}  # the step that a block is shown before, on the way back
    for place, item in enumerate(items):
        if isinstance(item, Repeat):
            shown = item.first[-1:] or [s for other in items[:place] for s in _all_steps(other)][-1:]
            before[shown[0].node] = item
    gradients = {g.of.node: g for g in explanation.gradients}
    done: dict[Any, int] = {}
    for step in reversed(explanation.steps):
        if step.node in before:
            table.rows.append(_more(before[step.node], len(columns)))
        if step.node in hidden or step.node not in gradients:
            continue
        for path in explanation.walk.paths.get(step.node, ()):  # type: ignore[union-attr]
            table.rows.append(_path_row(path, explanation))
            done[path.to.node] = done.get(path.to.node, 0) + 1
            target = gradients[path.to.node]
            if target.is_sum and done[path.to.node] == len(target.paths):
                table.rows.append(_sum_row(target, explanation))
    used = [gate for gate in GATES if any(row[2].text == gate for row in table.rows)]
    table.note = "; ".join(f"{gate}: {GATES[gate]}" for gate in used)
    if any(re.search(r"(?<![A-Za-z0-9_])g(?![A-Za-z0-9_′])", row[3].text) for row in table.rows):
        table.note += "; g, in typeset formulas δ: the upstream gradient"
    return table


def _path_row(path: Path, explanation: Explanation) -> list[Formula]:
    local = path.local or words("1" if path.to.is_row else "not written")
    if path.local_value is not None:
        number = value_cell(path.local_value, explanation)
        if number.text != local.text:
            local = Formula(f"{local.text} = {number.text}", f"{local.latex} = {number.latex}")
    return [
        path.step.name,
        path.to.name,
        words(path.step.gate),
        local,
        words(f"of {len(path.step.shape)} outputs") if path.step.is_row else value_cell(path.upstream, explanation),
        value_cell(path.contribution, explanation),
    ]


def _sum_row(gradient: Gradient, explanation: Explanation) -> list[Formula]:
    terms = [value_cell(path.contribution, explanation) for path in gradient.paths]
    total = value_cell(gradient.value, explanation)
    if any(path.contribution is not None and not numbers.is_small(path.contribution) for path in gradient.paths):
        equation = total
    else:
        text = " + ".join(f"({t.text})" if t.text.startswith("−") else t.text for t in terms)
        latex = " + ".join(rf"({t.latex})" if t.latex.startswith("-") else t.latex for t in terms)
        equation = Formula(f"{text} = {total.text}", f"{latex} = {total.latex}")
    paths = words(f"{len(terms)} paths")
    return [paths, gradient.of.name, words("sums"), gradient.symbol, BLANK, equation]


# Formulas ----------------------------------------------------------------------------------------------------------


def _derivation_table(explanation: Explanation) -> Table:
    table = Table("Derivation, by the chain rule", _SIDES)
    hidden = _shown(explanation)[1]
    for gradient in explanation.gradients:
        if gradient.paths and not gradient.is_alias and gradient.of.node not in hidden:
            table.rows.append([gradient.symbol, gradient.formula])
    return table


def _formula_table(explanation: Explanation) -> Table:
    table = Table("Put together", _SIDES)
    for gradient in explanation.inputs[:MOST_FORMULAS] if len(explanation.steps) <= 200 else []:
        table.rows.append([gradient.symbol, explanation.formula(gradient.of.name.text)])
    return table


def _jacobian_table(explanation: Explanation) -> Table:
    table = Table("Local Jacobians", ["Jacobian", "matrix", "upstream·Jacobian"])
    table.note = (
        "They are never formed to propagate: the rule gives the product directly, and a Jacobian between two values of "
        "n elements has n² entries, mostly zeros for an elementwise step"
    )
    hidden = _shown(explanation)[1]
    for path in explanation.paths:
        if len(table.rows) == MOST_JACOBIANS:
            break
        jacobian = None if path.step.node in hidden or path.step.gate == "copies" else path.jacobian()
        if jacobian is not None:
            symbol = Formula(
                f"∂{path.step.name.text}/∂{path.to.name.text}",
                rf"\frac{{\partial {path.step.name.latex}}}{{\partial {path.to.name.latex}}}",
            )
            cells = [value_cell(jacobian, explanation), value_cell(path.contribution, explanation)]
            table.rows.append([symbol, *cells])
    return table


# Verdicts ----------------------------------------------------------------------------------------------------------


def _gradient_table(explanation: Explanation) -> Table:
    table = Table("Gradients, against central differences", ["gradient", "value", "shape", "relative error", "grade"])
    hidden = _shown(explanation)[1]
    shown = [g for g in explanation.inputs if g.of.node not in hidden][:MOST_INPUTS]
    findings = explanation.verdict.findings
    for gradient in shown:
        name = gradient.of.name.text
        fits = f"{numbers.shape(gradient.of.shape)} {'✓' if gradient.shape_fits else 'does not fit'}"
        row = [gradient.symbol, value_cell(gradient.value, explanation), words(fits)]
        table.rows.append([*row, *_grade_cells(findings.get(name))])
    names = {g.of.name.text for g in shown}
    rest = [finding for name, finding in findings.items() if name not in names and name != TOGETHER]
    others = len(explanation.inputs) - len(shown)
    if others:
        worst = max(rest, key=lambda finding: finding.error, default=None)
        count = f"{others} more" + (
            f", {len(rest)} of them compared; the worst:" if len(rest) < others else "; the worst:"
        )
        table.rows.append([words(count), BLANK, BLANK, *_grade_cells(worst)])
    if TOGETHER in findings and len(findings) > 1:
        table.rows.append([words(TOGETHER), BLANK, BLANK, *_grade_cells(findings[TOGETHER])])
    table.note = _verdict_note(explanation)
    return table


def _verdict_table(explanation: Explanation) -> Table:
    table = Table("Against a central difference along the seed", ["tangent", "value", "relative error", "grade"])
    last = explanation.tangents[-1]
    for finding in explanation.verdict.findings.values():
        table.rows.append([last.symbol, value_cell(last.value, explanation), *_grade_cells(finding)])
    table.note = _verdict_note(explanation)
    return table


def _verdict_note(explanation: Explanation) -> str:
    left_out = explanation.verdict.left_out
    kinks = sum(finding.kinks for finding in explanation.verdict.findings.values())
    notes = (
        [f"Not compared: {left_out}"] if left_out and not explanation.verdict.findings else [left_out] * bool(left_out)
    )
    if any(finding.grade == "bug" for finding in explanation.verdict.findings.values()):
        notes.append("A gradient that is cut on purpose, by detach() or no_grad(), disagrees too")
    if kinks:
        notes.append(f"{kinks} elements are at a kink, where the derivative is a choice between two slopes")
    return "; ".join(notes)


def _grade_cells(finding: Any) -> list[Formula]:
    if finding is None:
        return [words("not compared"), BLANK]
    part = f" ({finding.checked} of {finding.size})" if finding.checked < finding.size else ""
    error = Formula(f"{finding.error:.1e}", numbers.number_latex(finding.error, 2))
    return [error, words(finding.grade + part)]


# Depth -------------------------------------------------------------------------------------------------------------


def _factor_table(explanation: Explanation) -> Table:
    table = Table("What the layers do to the length of the gradient, from the result back", [
        "layer", "activation", "weights", "factor", "at most", "product", "product at most"])  # fmt: skip
    table.right = (1, 2, 3, 4, 5, 6)
    for factor in explanation.factors:
        layer = " → ".join(step.operation for step in factor.layer)
        if len(layer) > 60:
            layer = f"{factor.layer[0].operation} → … → {factor.layer[-1].operation} ({len(factor.layer)} steps)"
        around = " (and a way around)" if factor.around else ""
        numbers_shown: Sequence[float | None] = (
            factor.activations, factor.weights, factor.factor, factor.bound, factor.product, factor.product_bound,
        )  # fmt: skip
        cells = [words("") if x is None else Formula(f"{x:.3g}", numbers.number_latex(x, 3)) for x in numbers_shown]
        table.rows.append([words(f"{factor.layer[-1].name}: {layer}{around}"), *cells])
    if len(table.rows) > 30:
        middle = [words(f"⋮ {len(table.rows) - 20} more layers"), *[BLANK] * 6]
        table.rows = [*table.rows[:10], middle, *table.rows[-10:]]
    table.note = (
        "factor: length of the gradient before the layer over that after it. At most: the steepest slope of the "
        "activation times the largest singular value of the weights, and 1 + that around a residual branch"
    )
    return table
