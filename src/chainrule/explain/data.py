"""The explanation as JSON. `schema.json`, beside this file, is its schema."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from chainrule.explain import numbers
from chainrule.explain.explanation import Explanation
from chainrule.explain.gradients import Gradient, Path
from chainrule.explain.notation import Formula
from chainrule.explain.repeats import Repeat
from chainrule.explain.steps import Step
from chainrule.explain.verdict import Verdict

VERSION = 1

#: Arrays of up to this many elements are given whole.
WHOLE = 256


def as_json(explanation: Explanation) -> str:
    """The explanation as a JSON document."""
    return json.dumps(as_data(explanation), ensure_ascii=False, indent=1, allow_nan=False)


def as_data(explanation: Explanation) -> dict[str, Any]:
    """The explanation as dictionaries, lists, strings and numbers."""
    return {
        "format": "chainrule.explain",
        "version": VERSION,
        "mode": explanation.mode,
        "result": explanation.result.name.text,
        "steps": [_step(step) for step in explanation.steps],
        "blocks": [_block(item) for item in explanation.view() if isinstance(item, Repeat) and item.first],
        "paths": [_path(path) for path in explanation.paths],
        "gradients": [_gradient(gradient) for gradient in explanation.gradients],
        "tangents": [
            {"of": row.step.name.text, "formula": row.formula and _formula(row.formula), "value": value(row.value)}
            for row in explanation.tangents
        ],
        "factors": [
            {
                "layer": [step.name.text for step in f.layer],
                "factor": f.factor, "activations": f.activations, "weights": f.weights, "around": f.around,
                "bound": f.bound, "product": f.product, "product_bound": f.product_bound,
            }
            for f in explanation.factors
        ],
        "verdict": _verdict(explanation.verdict),
    }  # fmt: skip


def _step(step: Step) -> dict[str, Any]:
    return {
        "number": step.number,
        "name": _formula(step.name),
        "operation": step.operation,
        "expression": step.expression and _formula(step.expression),
        "reads": [operand.formula.text for operand in step.operands],
        "value": value(step.value),
        "shape": list(step.shape),
        "dtype": str(step.node.dtype),
        "gate": step.gate or None,
        "kept": [
            {"what": k.what.text, "for": [r.text for r in k.read_for], "value": value(k.value)} for k in step.kept
        ],
    }


def _block(repeat: Repeat) -> dict[str, Any]:
    return {"steps": [step.number for step in repeat.first], "count": repeat.count, "last": repeat.steps[-1].number}


def _path(path: Path) -> dict[str, Any]:
    return {
        "from": path.step.name.text,
        "to": path.to.name.text,
        "local": path.local and _formula(path.local),
        "local_value": value(path.local_value),
        "upstream": value(path.upstream),
        "contribution": value(path.contribution),
        "formula": _formula(path.formula),
    }


def _gradient(gradient: Gradient) -> dict[str, Any]:
    return {
        "of": gradient.of.name.text,
        "symbol": _formula(gradient.symbol),
        "formula": _formula(gradient.formula),
        "value": value(gradient.value),
        "paths": len(gradient.paths),
        "shape_fits": gradient.shape_fits,
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    findings = [
        {
            "of": name,
            "error": _number(f.error),
            "grade": f.grade,
            "kinks": f.kinks,
            "checked": f.checked,
            "size": f.size,
        }
        for name, f in verdict.findings.items()
    ]
    return {"ok": verdict.ok, "findings": findings, "left_out": verdict.left_out or None}


def _formula(formula: Formula) -> dict[str, str]:
    return {"text": formula.text, "latex": formula.latex}


def value(array: Any) -> Any:
    """A number, nested lists, or a summary of a large array; None for what is not known."""
    array = numbers.as_array(array)
    if array is None:
        return None
    if array.size > WHOLE:
        return {"summary": numbers.summary(array)}
    return _numbers(array.tolist())


def _numbers(tree: Any) -> Any:
    return [_numbers(part) for part in tree] if isinstance(tree, list) else _number(tree)


def _number(x: Any) -> Any:
    """JSON has no NaN and no infinity: they become strings."""
    return x if isinstance(x, (bool, int)) or np.isfinite(x) else str(float(x))
