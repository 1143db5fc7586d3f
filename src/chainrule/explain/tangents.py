"""Forward mode over the recorded steps: the table of values and tangents.

Each step's tangent is the primitive's own Jacobian-vector product; here it is only carried from step to step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.errors import GradientError
from chainrule.core.node import Node
from chainrule.core.primitive import select_output
from chainrule.core.tensor import _raw
from chainrule.explain import notation
from chainrule.explain.notation import Formula
from chainrule.explain.numbers import as_array
from chainrule.explain.recording import Recording
from chainrule.explain.steps import Step


@dataclass
class TangentRow:
    """One row of the forward-mode table: a step's value and how fast it changes along the seed."""

    step: Step
    symbol: Formula
    formula: Formula | None
    value: np.ndarray | None


def tangents_of(recording: Recording, steps: Sequence[Step], seed: Mapping[str, Any]) -> list[TangentRow]:
    """Carry the seed, one tangent for each named input and zero for the others, through the steps.

    Raises:
        GradientError: values that are needed were not kept (a tensor is explained, not a function).
    """
    by_node = {leaf._node: name for name, leaf in recording.inputs.items()}
    tangents: dict[Node, Any] = {}
    rows = []
    for step in steps:
        node = step.node
        if node.primitive is None:
            given = seed.get(by_node.get(node, ""))
            value: Any = np.zeros(node.shape, node.dtype) if given is None else np.asarray(given, dtype=node.dtype)
            tangents[node] = value[()] if node.shape == () else value
            rows.append(TangentRow(step, notation.dotted(step.name), None, as_array(value)))
            continue
        tangents[node] = _pushed(recording, step, tangents)
        shown = tangents[node][0] if isinstance(tangents[node], tuple) else tangents[node]
        rows.append(TangentRow(step, notation.dotted(step.name), _formula(step), as_array(_raw(shown))))
    return rows


def _pushed(recording: Recording, step: Step, tangents: Mapping[Node, Any]) -> Any:
    node = step.node
    primitive = node.primitive
    params = node.params or {}
    arriving = [None if operand.node is None else tangents[operand.node] for operand in step.operands]
    if primitive is select_output:
        (row,) = arriving
        return row[params["index"]]  # type: ignore[index]
    if node not in recording.seen:
        raise GradientError("explain: forward mode needs the function itself, not a tensor that was recorded before")
    given, row = recording.seen[node]
    values, made = row[: len(given)], row[len(given) :]
    y = tuple(made) if primitive.outputs else made[0]  # type: ignore[union-attr]
    pushed = primitive.push(values, arriving, y, params)  # type: ignore[union-attr]
    return pushed[0] if primitive.has_residuals else pushed  # type: ignore[union-attr]


def _formula(step: Step) -> Formula | None:
    """The product rule for this step, over the user's names."""
    node = step.node
    primitive = node.primitive
    if primitive is None or primitive is select_output or primitive.variadic:
        return None
    names = dict(zip(primitive.inputs, (o.formula for o in step.operands), strict=False))
    moving = {name: o for name, o in zip(primitive.inputs, step.operands, strict=False) if o.node is not None}
    if primitive.elementwise:
        outputs = {(primitive.outputs or ("y",))[0]: step.name}
        terms = []
        for name, operand in moving.items():
            local = notation.local_formula(node, primitive.inputs.index(name), {**names, **outputs})
            if local is None:
                return None
            local = notation.scalar_products(local) if step.is_scalar else notation.array_products(local)
            terms.append(notation.times(notation.dotted(operand.formula), local, scalar=step.is_scalar))
        return notation.plus(terms)
    if primitive.linear == "joint":
        dotted = {
            name: notation.dotted(f) if name in moving else notation.Formula("0", "0") for name, f in names.items()
        }
        present = [f for f in dotted.values() if f.text != "0"]
        if primitive.inputs == ("a", "b") and len(present) == 1:  # a sum with a constant
            (only,) = present
            return (
                Formula(f"−{only.text}", f"-{only.latex}") if primitive.name == "subtract" and "b" in moving else only
            )
        return notation.expression(primitive, dotted, [], node.params)
    if primitive.linear == "each":
        return notation.plus(
            [
                notation.expression(primitive, {**names, name: notation.dotted(operand.formula)}, [], node.params)
                for name, operand in moving.items()
            ]
        )
    return None
