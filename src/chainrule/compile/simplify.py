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

from chainrule.compile.fuse import is_pointwise
from chainrule.compile.graph import LAYOUT, Graph, Region, Value, are_disjoint, base, is_inside, overlap, reachable
from chainrule.compile.hoist import hoisted
from chainrule.compile.sums import inner_sums, product_in_parts, reduced, sum_of_products

#: A constant is computed at once where it has at most this many elements.
_FOLDED_SIZE = 4096
#: Elementwise functions after a product that are looked through.
_FOLLOWED = 16


def simplify(graph: Graph, outputs: Sequence[Value]) -> tuple[Graph, list[Value], dict[Value, Value]]:
    """A smaller graph, its outputs, and what became of each value of the old one."""
    new = Graph()
    became: dict[Value, Value] = {}
    roots = [*outputs, *(holds for holds, _ in graph.checks)]
    values = reachable(roots)
    users = _user_counts(values, roots)
    inner = inner_sums(values, users)
    for value in values:
        found = sum_of_products(new, value, became, inner, users) if value.op == "add" else None
        became[value] = found or _rebuilt(new, graph, value, [became[x] for x in value.inputs], users)
    new.checks = [(became[holds], message) for holds, message in graph.checks]
    return new, [became[value] for value in outputs], became


def _user_counts(values: Sequence[Value], outputs: Sequence[Value]) -> dict[Value, int]:
    counts: dict[Value, int] = dict.fromkeys(outputs, 2)  # an output is used by somebody else
    for value in values:
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
    if op == "astype" and inputs[0].dtype == value.dtype:
        return inputs[0]
    rule = _RULES.get(op)
    found = None if rule is None else rule(new, value, *inputs)
    if found is None:
        found = hoisted(new, value, inputs)
    if found is None and is_pointwise(value) and op != "gather":
        found = _before_reshape(new, value, inputs)
    if found is not None:
        return found
    if op.startswith("reduce_"):
        return reduced(new, op, inputs[0], value.params, value.shape)
    return new.add(op, inputs, value.params, value.shape, value.dtype)


# Constants -----------------------------------------------------------------------------------------------------------


def number_of(value: Value) -> Any:
    """The number that is everywhere in `value`, or None where there is no such number."""
    value = base(value)
    return value.params.value if value.op == "full" else None


def _folded(new: Graph, value: Value, inputs: list[Value]) -> Value | None:
    """An elementwise function of numbers, or of small constant arrays."""
    arrays = []
    for x in inputs:
        number = number_of(x)
        array = new.arrays.get(x) if number is None else np.asarray(number, x.dtype)
        if array is None:
            return None
        arrays.append(array)
    function = getattr(np, value.op, None)
    if not inputs or not isinstance(function, np.ufunc) or function.signature or value.size > _FOLDED_SIZE:
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
    return _sliced(new, x, starts, steps, value.shape)


def _sliced(new: Graph, x: Value, starts: tuple[int, ...], steps: tuple[int, ...], shape: tuple[int, ...]) -> Value:
    if x.op == "slice":
        inner, by = x.params
        starts = tuple(i + s * k for i, s, k in zip(inner, starts, by, strict=True))
        steps = tuple(s * k for s, k in zip(steps, by, strict=True))
        x = x.inputs[0]
    if 0 in shape:
        return new.slice(x, starts, steps, shape)
    return _piece(new, x, Region(starts, steps), shape) or new.slice(x, starts, steps, shape)


def _piece(new: Graph, x: Value, region: Region, shape: tuple[int, ...]) -> Value | None:
    """A region of an assembled array, from the one part that it is in; None where there is no such part."""
    if x.op == "permute_dims":
        order = sorted(range(len(shape)), key=x.params.__getitem__)
        inner = Region(*(tuple([row[i] for i in order]) for row in region))
        found = _piece(new, x.inputs[0], inner, tuple([shape[i] for i in order]))
        return None if found is None else new.permute_dims(found, x.params)
    if x.op == "reshape":
        inside = _without_reshape(x, region, shape)
        found = None if inside is None else _piece(new, x.inputs[0], *inside)
        return None if found is None else new.reshape(found, shape)
    if x.op == "assemble":
        for number in new.parts_at(x, region, shape):
            part, (starts, steps) = x.inputs[number], x.params[number]
            if not overlap(x.params[number], part.shape, region, shape):
                continue
            first = tuple([a - b for a, b in zip(region.starts, starts, strict=True)])
            if any(s != 1 for s in steps) or not is_inside(Region(first, region.steps), shape, part.shape):
                return None
            return _sliced(new, part, first, region.steps, shape)
        return new.full(shape, 0, x.dtype)
    return None


def _without_reshape(x: Value, region: Region, shape: tuple[int, ...]) -> tuple[Region, tuple[int, ...]] | None:
    """A region of a reshape of an array, and its shape, as a region of the array; only axes of length 1 may differ."""
    source = x.inputs[0].shape
    wide = [i for i, n in enumerate(x.shape) if n != 1]
    if [x.shape[i] for i in wide] != [n for n in source if n != 1]:
        return None
    axes = iter(wide)
    rows = [(0, 1, 1) if n == 1 else (region.starts[i := next(axes)], region.steps[i], shape[i]) for n in source]
    starts, steps, lengths = zip(*rows, strict=True) if rows else ((), (), ())
    return Region(starts, steps), lengths


_RULES: dict[str, Callable[..., Value | None]] = {
    "matmul": product_in_parts,
    "add": _add, "multiply": _multiply, "divide": _divide, "pow": _pow, "negative": _negative, "square": _square,
    "select": _select, "slice": _slice, "positive": lambda new, value, x: x,
}  # fmt: skip


def _before_reshape(new: Graph, value: Value, inputs: Sequence[Value]) -> Value | None:
    """An elementwise function of a reshaped product as a reshape of the function of the product, where that is as easy.

    What follows a product can then be computed while it is in registers.
    """
    shape = next((x.inputs[0].shape for x in inputs if x.op == "reshape" and _follows_product(x.inputs[0])), None)
    if shape is None:
        return None
    seen = [_reshaped(new, x, shape) for x in inputs]
    if any(x is None for x in seen):
        return None
    return new.reshape(new.add(value.op, seen, value.params, shape, value.dtype), value.shape)  # type: ignore[arg-type]


def _follows_product(x: Value) -> bool:
    """Whether `x` is a product, or elementwise what has been made of one (as a chain of first inputs shows)."""
    below: Value | None = x if len(x.shape) > 1 else None
    for _ in range(_FOLLOWED):
        if below is None:
            return False
        if below.op == "matmul":
            return True
        below = next((y for y in below.inputs if y.shape == x.shape and y.op not in LAYOUT), None)
    return False


def _reshaped(new: Graph, x: Value, shape: tuple[int, ...]) -> Value | None:
    """`x` in another shape, if it is made by a reshape from that, or does not vary along the axes that differ."""
    if x.op == "reshape" and x.inputs[0].shape == shape:
        return x.inputs[0]
    number = number_of(x)
    if number is not None:
        return new.full(shape, number, x.dtype)
    if x.op != "broadcast_to":
        return None
    wide = x.inputs[0]
    kept = wide.shape
    while kept and kept[0] == 1:
        kept = kept[1:]
    if x.shape[len(x.shape) - len(kept) :] != kept or shape[len(shape) - len(kept) :] != kept:
        return None
    return new.broadcast_to(new.reshape(wide, kept), shape)


# Products -------------------------------------------------------------------------------------------------------------


def _transposed(new: Graph, value: Value, x: Value, users: dict[Value, int]) -> Value:
    """(A·B)ᵀ = Bᵀ·Aᵀ: what follows a product can then be computed while it is in registers."""
    n = len(x.shape)
    swapped = (*range(n - 2), n - 1, n - 2)
    if x.op == "matmul" and value.params == swapped and users[value.inputs[0]] == 1:
        a, b = (new.permute_dims(factor, swapped) for factor in x.inputs)
        return new.add("matmul", (b, a), None, value.shape, value.dtype)
    return new.permute_dims(x, value.params)
