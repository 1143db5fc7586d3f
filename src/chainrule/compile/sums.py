"""Sums: products and reductions over long axes in parts, and sums of many products as one product.

A sum may be added up in any order. Here is the choice of one in which each part has its numbers near, threads find
shares to do, and nothing is written only to be added to something else.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

from chainrule.compile.graph import Graph, Region, Value
from chainrule.compile.hoist import reduced_below

#: A reduction of at least this many elements to a few results is done in parts, which threads can share.
_SPLIT_SIZE = 32_768
_PARTS = 64
#: So deep are the parts of a product over a long axis.
_DEPTH = 256
#: Products with less to sum are not done in parts, nor narrower ones, nor those whose parts would take so much memory.
_SPLIT_PRODUCT = 1 << 22
_NARROW = 8
_MOST_PARTIAL_BYTES = 4 << 20
#: So many products, or sums over rows, that are added up are computed as one.
_MANY_TERMS = 4
#: Products of fewer elements stay alone: they cost less than moving their factors.
_SMALL = 64


# In parts ------------------------------------------------------------------------------------------------------------


def product_in_parts(new: Graph, value: Value, a: Value, b: Value) -> Value | None:
    """A product that sums over a long axis is done in parts: each has its factors near, and threads can share them."""
    if len(value.shape) != 2:
        return None
    (m, k), n = a.shape, b.shape[1]
    if min(m, n) < _NARROW or m * n * k < _SPLIT_PRODUCT:
        return None
    parts = next((c for c in range(k // _DEPTH, k // (2 * _DEPTH), -1) if k % c == 0), 1) if k >= 8 * _DEPTH else 1
    if parts == 1 or parts * value.size * value.dtype.itemsize > _MOST_PARTIAL_BYTES:
        return None
    left = new.permute_dims(new.reshape(a, (m, parts, k // parts)), (1, 0, 2))
    right = new.reshape(b, (parts, k // parts, n))
    partial = new.add("matmul", (left, right), None, (parts, m, n), value.dtype)
    return new.add("reduce_sum", (partial,), (0,), value.shape, value.dtype)


def reduced(new: Graph, op: str, x: Value, axes: tuple[int, ...], shape: tuple[int, ...]) -> Value:
    """A reduction; one of many elements to few results is done in parts first."""
    below = reduced_below(new, x, axes)
    if below is not None:
        x, axes, order = below
        rest = tuple(n for i, n in enumerate(x.shape) if i not in axes)
        return new.reshape(new.permute_dims(reduced(new, op, x, axes, rest), order), shape)
    if any(x.shape[i] == 1 for i in axes):  # one element is its own sum
        wide = tuple(i for i in axes if x.shape[i] != 1)
        kept = tuple(n for i, n in enumerate(x.shape) if i not in wide)
        folded = reduced(new, op, x, wide, kept) if wide else x
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


# As one --------------------------------------------------------------------------------------------------------------


def inner_sums(values: Sequence[Value], users: dict[Value, int]) -> set[Value]:
    """The sums that are nothing but a term of another sum."""
    return {x for value in values if value.op == "add" for x in value.inputs if x.op == "add" and users[x] == 1}


def sum_of_products(
    new: Graph, value: Value, became: dict[Value, Value], inner: set[Value], users: dict[Value, int]
) -> Value | None:
    """Σ Aᵢ·Bᵢ as one product (A₁ A₂ …)·(B₁ B₂ …)ᵀ, and Σ of sums over rows as one sum over the rows of all.

    So the gradient of a weight that a loop uses at every step is computed at once. None where there are few terms.
    """
    if value in inner:
        return None
    alike: dict[Any, list[Value]] = {}
    for term in _terms(value, inner):
        found = became[term]
        key = _kind_of_term(found) if users[term] == 1 else None
        alike.setdefault(found if key is None else key, []).append(found)
    if not any(len(terms) >= _MANY_TERMS and isinstance(key, tuple) for key, terms in alike.items()):
        return None
    sums = []
    for key, terms in alike.items():
        together = isinstance(key, tuple) and len(terms) >= _MANY_TERMS
        sums += [_TOGETHER[key[0]](new, terms)] if together else terms
    return functools.reduce(lambda a, b: new.add("add", (a, b), None, value.shape, value.dtype), sums)


def _terms(value: Value, inner: set[Value]) -> list[Value]:
    """What a sum of sums adds up, in order."""
    found, stack = [], [value]
    while stack:
        x = stack.pop()
        if x is value or x in inner:
            stack.extend(reversed(x.inputs))
        else:
            found.append(x)
    return found


def _kind_of_term(x: Value) -> tuple | None:
    """What terms must have in common to be computed together; None for those that stay alone."""
    if x.op == "matmul" and len(x.shape) == 2 and x.size >= _SMALL:
        return ("matmul", *(factor.op == "permute_dims" for factor in x.inputs))
    if x.op == "reduce_sum" and x.params == (0,):
        return ("reduce_sum",)
    return None


def _product_of_all(new: Graph, terms: Sequence[Value]) -> Value:
    left = _side_by_side(new, [x.inputs[0] for x in terms], 1)
    right = _side_by_side(new, [x.inputs[1] for x in terms], 0)
    like = terms[0]
    return product_in_parts(new, like, left, right) or new.add("matmul", (left, right), None, like.shape, like.dtype)


def _sum_of_all(new: Graph, terms: Sequence[Value]) -> Value:
    rows = _side_by_side(new, [x.inputs[0] for x in terms], 0)
    return reduced(new, "reduce_sum", rows, (0,), terms[0].shape)


_TOGETHER = {"matmul": _product_of_all, "reduce_sum": _sum_of_all}


def _side_by_side(new: Graph, parts: Sequence[Value], axis: int) -> Value:
    """Arrays one after the other along an axis; of transposed matrices, the matrices are."""
    if all(x.op == "permute_dims" and len(x.shape) == 2 for x in parts):
        return new.permute_dims(_side_by_side(new, [x.inputs[0] for x in parts], 1 - axis), (1, 0))
    ends = list(itertools.accumulate(x.shape[axis] for x in parts))
    rank = len(parts[0].shape)
    placed = [
        (x, Region(tuple(end - x.shape[axis] if i == axis else 0 for i in range(rank)), (1,) * rank))
        for x, end in zip(parts, ends, strict=True)
    ]
    shape = tuple(ends[-1] if i == axis else n for i, n in enumerate(parts[0].shape))
    return new.assemble(placed, shape, parts[0].dtype)
