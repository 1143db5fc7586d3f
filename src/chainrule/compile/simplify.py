"""Simplification: the same numbers with less work.

A pass makes a new graph from what the outputs need, so dead values are left behind and equal ones are joined again
after each change. Rules keep the numbers: none of them changes the result by more than a rounding, and none changes
what happens to NaN, infinity or the sign of zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.compile.fuse import are_disjoint, overlap
from chainrule.compile.graph import LAYOUT, Graph, Value, reachable

#: A constant is computed at once where it has at most this many elements.
_FOLDED_SIZE = 4096
#: A reduction of at least this many elements to a few results is done in parts, which threads can share.
_SPLIT_SIZE = 32_768
_PARTS = 64


def simplify(graph: Graph, outputs: Sequence[Value]) -> tuple[Graph, list[Value], dict[Value, Value]]:
    """A smaller graph, its outputs, and what became of each value of the old one."""
    new = Graph()
    became: dict[Value, Value] = {}
    roots = [*outputs, *(holds for holds, _ in graph.checks)]
    users = _user_counts(roots)
    for value in reachable(roots):
        became[value] = _rebuilt(new, graph, value, [became[x] for x in value.inputs], users)
    new.checks = [(became[holds], message) for holds, message in graph.checks]
    return new, [became[value] for value in outputs], became


def _user_counts(outputs: Sequence[Value]) -> dict[Value, int]:
    counts: dict[Value, int] = dict.fromkeys(outputs, 2)  # an output is used by somebody else
    for value in reachable(outputs):
        for x in value.inputs:
            counts[x] = counts.get(x, 0) + 1
    return counts


def _rebuilt(new: Graph, old: Graph, value: Value, inputs: list[Value], users: dict[Value, int]) -> Value:
    op = value.op
    if op == "input":
        return new.input(value.shape, value.dtype, value.params)
    if op == "constant":
        return new.constant(old.arrays[value])
    folded = _folded(new, value, inputs)
    if folded is not None:
        return folded
    if op == "reshape":
        return new.reshape(inputs[0], value.shape)
    if op == "broadcast_to":
        return new.broadcast_to(inputs[0], value.shape)
    if op == "permute_dims":
        return _transposed(new, value, inputs[0], users)
    if op == "assemble":
        return new.assemble(list(zip(inputs, value.params, strict=True)), value.shape, value.dtype)
    if op == "astype":
        return new.astype(inputs[0], value.dtype)
    rule = _RULES.get(op)
    found = None if rule is None else rule(new, value, *inputs)
    if found is not None:
        return found
    if op.startswith("reduce_"):
        return _reduced(new, op, inputs[0], value.params, value.shape)
    return new.add(op, inputs, value.params, value.shape, value.dtype)


# Constants -----------------------------------------------------------------------------------------------------------


def number_of(value: Value) -> Any:
    """The number that is everywhere in `value`, or None where there is no such number."""
    while value.op in LAYOUT:
        value = value.inputs[0]
    return value.params.value if value.op == "full" else None


def _folded(new: Graph, value: Value, inputs: list[Value]) -> Value | None:
    """An elementwise function of numbers, or of small constant arrays."""
    function = getattr(np, value.op, None)
    if not inputs or not isinstance(function, np.ufunc) or function.signature or value.size > _FOLDED_SIZE:
        return None
    arrays = [new.arrays.get(x) if number_of(x) is None else np.asarray(number_of(x), x.dtype) for x in inputs]
    if any(array is None for array in arrays):
        return None
    with np.errstate(all="ignore"):
        result = np.asarray(function(*arrays)).astype(value.dtype)
    return new.broadcast_to(new.constant(result), value.shape)


# Algebra -------------------------------------------------------------------------------------------------------------


def _multiply(new: Graph, value: Value, a: Value, b: Value) -> Value | None:
    for x, other in ((a, b), (b, a)):
        if number_of(x) == 1 and x.dtype == value.dtype:
            return other
    return None


def _add(new: Graph, value: Value, a: Value, b: Value) -> Value | None:
    """Arrays that are zero but for some parts: the parts side by side, and added where they are in one place."""
    if a.op != "assemble" or b.op != "assemble" or not (are_disjoint(a) and are_disjoint(b)):
        return None
    parts = {(region, x.shape): x for x, region in zip(a.inputs, a.params, strict=True)}
    elements_only = all(x.size == 1 for x in (*a.inputs, *b.inputs))
    for x, region in zip(b.inputs, b.params, strict=True):
        place = (region, x.shape)
        if place in parts:
            parts[place] = new.add("add", (parts[place], x), None, x.shape, x.dtype)
        elif not elements_only and any(overlap(*place, *other) for other in parts):
            return None
        else:
            parts[place] = x
    return new.assemble([(x, region) for (region, _), x in parts.items()], value.shape, value.dtype)


def _divide(new: Graph, value: Value, a: Value, b: Value) -> Value | None:
    number = number_of(b)
    if number == 1:
        return a
    if number and math.isfinite(number) and abs(math.frexp(number)[0]) == 0.5:  # a power of two: exact
        return new.add("multiply", (a, new.full(b.shape, 1 / number, b.dtype)), None, value.shape, value.dtype)
    return None


def _pow(new: Graph, value: Value, a: Value, b: Value) -> Value | None:
    number = number_of(b)
    if number == 1:
        return a
    if number == 2:
        return new.add("multiply", (a, a), None, value.shape, value.dtype)
    return None


def _negative(new: Graph, value: Value, x: Value) -> Value | None:
    return x.inputs[0] if x.op == "negative" else None


def _square(new: Graph, value: Value, x: Value) -> Value:
    return new.add("multiply", (x, x), None, value.shape, value.dtype)


def _select(new: Graph, value: Value, condition: Value, a: Value, b: Value) -> Value | None:
    number = number_of(condition)
    if a is b:
        return a
    return None if number is None else a if number else b


def _slice(new: Graph, value: Value, x: Value) -> Value:
    starts, steps = value.params
    if x.op == "slice":
        inner, by = x.params
        starts = tuple(i + s * k for i, s, k in zip(inner, starts, by, strict=True))
        steps = tuple(s * k for s, k in zip(steps, by, strict=True))
        x = x.inputs[0]
    return new.slice(x, starts, steps, value.shape)


_RULES: dict[str, Callable[..., Value | None]] = {
    "add": _add, "multiply": _multiply, "divide": _divide, "pow": _pow, "negative": _negative, "square": _square,
    "select": _select, "slice": _slice, "positive": lambda new, value, x: x,
}  # fmt: skip


# Products and reductions ---------------------------------------------------------------------------------------------


def _transposed(new: Graph, value: Value, x: Value, users: dict[Value, int]) -> Value:
    """(A·B)ᵀ = Bᵀ·Aᵀ: what follows a product can then be computed while it is in registers."""
    n = len(x.shape)
    swapped = (*range(n - 2), n - 1, n - 2)
    if x.op == "matmul" and value.params == swapped and users[value.inputs[0]] == 1:
        a, b = (new.permute_dims(factor, swapped) for factor in x.inputs)
        return new.add("matmul", (b, a), None, value.shape, value.dtype)
    return new.permute_dims(x, value.params)


def _reduced(new: Graph, op: str, x: Value, axes: tuple[int, ...], shape: tuple[int, ...]) -> Value:
    """A reduction; one of many elements to few results is done in parts first."""
    if any(x.shape[i] == 1 for i in axes):  # one element is its own sum
        wide = tuple(i for i in axes if x.shape[i] != 1)
        kept = tuple(n for i, n in enumerate(x.shape) if i not in wide)
        folded = _reduced(new, op, x, wide, kept) if wide else x
        return new.reshape(folded, shape)
    if x.size < _SPLIT_SIZE or math.prod(shape) >= _PARTS:
        return new.add(op, (x,), axes, shape, x.dtype)
    axis = max(axes, key=lambda i: x.shape[i])
    n = x.shape[axis]
    parts = max((c for c in range(1, _PARTS + 1) if n % c == 0), default=1)
    if parts < 2:
        return new.add(op, (x,), axes, shape, x.dtype)
    split = new.reshape(x, (*x.shape[:axis], parts, n // parts, *x.shape[axis + 1 :]))
    inner = tuple(i + (i >= axis) for i in axes)
    rest = tuple(length for i, length in enumerate(split.shape) if i not in inner)
    place = axis - sum(i < axis for i in axes)
    partial = new.add(op, (split,), inner, rest, x.dtype)
    return new.add(op, (partial,), (place,), shape, x.dtype)
