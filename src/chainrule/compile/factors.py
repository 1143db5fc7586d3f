"""Factors of matrix products, read where they lie.

A factor is often a reshape: rows and columns of the matrix are several axes of an array, or of its overlapping windows,
made one. Seen from those axes each element is at an affine place, so the product can read it there and no matrix has
to be written. This file finds the axes that a product's m, n and k are made of, and the places of a factor's elements.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Sequence
from itertools import accumulate, pairwise
from operator import mul
from typing import NamedTuple

from chainrule.compile.graph import LAYOUT, Affine, Map, Value
from chainrule.compile.homes import Roots
from chainrule.compile.kernels import Gemm, Instruction, Stride
from chainrule.compile.places import input_map, strides

#: Bytes that must lie next to each other for a vector to be read from there.
_LEAST_RUN = 64


class Axes(NamedTuple):
    """What the axes of a product are made of: lengths, outermost first."""

    batch: tuple[int, ...]
    m: tuple[int, ...]
    n: tuple[int, ...]
    k: tuple[int, ...]

    @property
    def grid(self) -> tuple[int, ...]:
        """All axes of the result."""
        return (*self.batch, *self.m, *self.n)

    def result_map(self) -> Map:
        """The product's own indices, seen from all axes of the result."""
        return _result_map(self)

    def of_factor(self, number: int) -> list[tuple[int, ...]]:
        """For each axis of a factor, what it is made of."""
        return [*((n,) for n in self.batch), *((self.k, self.n) if number else (self.m, self.k))]


@functools.lru_cache(maxsize=1000)
def _result_map(axes: Axes) -> Map:
    nothing = (0, (0,) * len(axes.grid))
    parts = (*((n,) for n in axes.batch), axes.m, axes.n)
    places = zip(parts, _joined(parts), strict=True)
    return tuple(nothing if math.prod(lengths) == 1 else place for lengths, place in places)


def product_axes(product: Value) -> Axes:
    """The axes that the factors of a product suggest."""
    a, b = (_parts(x) for x in product.inputs)
    return Axes(product.shape[:-2], a[-2], b[-1], _common(a[-1], b[-2]))


def _parts(value: Value) -> list[tuple[int, ...]]:
    """For each axis of a value, the axes below the reshape it comes from."""
    whole: list[tuple[int, ...]] = [(n,) for n in value.shape]
    if value.op == "permute_dims":
        parts = _parts(value.inputs[0])
        return [parts[axis] for axis in value.params]
    if value.op != "reshape" or 0 in value.shape:
        return whole
    fine, start = value.inputs[0].shape, 0
    found: list[tuple[int, ...]] = []
    for n in value.shape:
        stop, size = start, 1
        while size < n and stop < len(fine):
            size *= fine[stop]
            stop += 1
        if size != n:
            return whole
        found.append(tuple(length for length in fine[start:stop] if length != 1) or (1,))
        while stop < len(fine) and fine[stop] == 1:
            stop += 1
        start = stop
    return found


@functools.lru_cache(maxsize=1000)
def _common(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The coarsest axes that both are made of; the whole, where there are none."""
    ends = sorted({*accumulate(reversed(a), mul), *accumulate(reversed(b), mul)})
    if any(last % first for first, last in pairwise(ends)):
        return (math.prod(a),)
    return tuple(last // first for first, last in zip([1, *ends], ends, strict=False))[::-1]


@functools.lru_cache(maxsize=1000)
def _joined(axes: tuple[tuple[int, ...], ...]) -> Map:
    """The map of a value each of whose axes is made of some of a grid's."""
    rank, start = sum(map(len, axes)), 0
    map_: list[Affine] = []
    for parts in axes:
        factors = [0] * rank
        factors[start : start + len(parts)] = strides(parts)
        map_.append((0, tuple(factors)))
        start += len(parts)
    return tuple(map_)


def place_of_factor(
    product: Value, number: int, axes: Axes, roots: Roots, sources: Collection[str], also: Collection[Value] = ()
) -> tuple[Value, Affine] | None:
    """The root, source, or value in `also` that a factor is read from, and where; None where that is no affine place.

    See `Fusion.factor`.
    """
    value = product.inputs[number]
    parts = axes.of_factor(number)
    grid = [n for lengths in parts for n in lengths]
    map_ = _joined(tuple(parts))
    while value.op in LAYOUT and value not in roots and value not in also:
        x = value.inputs[0]
        known = x in roots or x in also or x.op in sources
        if value.op == "reshape" and known and roots.home(x).is_contiguous:
            return x, roots.home(x).flat_place(map_, value.shape, len(grid))
        found = input_map(value, map_, grid)
        if found is None:
            return None
        value, map_ = x, found
    return value, roots.home(value).place(map_, len(grid))


def is_worth_reading(value: Value, memory: Value, place: Affine, parts: Sequence[tuple[int, ...]]) -> bool:
    """Whether to read a factor from `memory` where it lies: if it does so evenly, or if it is much larger than that.

    Anything else is rearranged first, once, into a matrix.
    """
    rows_and_columns = per_axis(place[1], parts)[-2:]
    if all(isinstance(stride, int) for stride in rows_and_columns):
        return True
    run = max(_run(stride, math.prod(lengths)) for lengths, stride in zip(parts[-2:], rows_and_columns, strict=True))
    return value.size > memory.size and run * value.dtype.itemsize >= _LEAST_RUN


def _run(stride: Stride, length: int) -> int:
    """How many elements along an axis lie next to each other in memory."""
    n, step = (length, stride) if isinstance(stride, int) else stride[-1]
    return n if step == 1 else 1


def per_axis(along: Sequence[int], parts: Sequence[tuple[int, ...]]) -> list[Stride]:
    """The stride of each axis that is made of parts, from theirs."""
    found: list[Stride] = []
    start = 0
    for lengths in parts:
        found.append(stride_of(lengths, along[start : start + len(lengths)]))
        start += len(lengths)
    return found


def stride_of(lengths: Sequence[int], steps: Sequence[int]) -> Stride:
    """One number where an axis is even, or else the axes it is made of, as few as possible."""
    merged = [list(pair) for pair in zip(lengths, steps, strict=True) if pair[0] != 1]
    for i in range(len(merged) - 1, 0, -1):
        if merged[i - 1][1] == merged[i][0] * merged[i][1]:
            merged[i - 1 : i + 1] = [[merged[i - 1][0] * merged[i][0], merged[i][1]]]
    if len(merged) < 2:
        return merged[0][1] if merged else steps[-1]
    return tuple((n, step) for n, step in merged)


# From all axes to those of a kernel -----------------------------------------------------------------------------------


def with_fewest_axes(kernel: Gemm, axes: Axes) -> Gemm:
    """A product whose accesses have strides for all of `axes`, as one with strides for (*batch, m, n, k).

    Axes that the result is not written through as through one become batch axes. Those that only a factor is not read
    through so are left to its strides.
    """
    start_m = len(axes.batch)
    start_n = start_m + len(axes.m)
    written = _strides_over(kernel.body, axes.grid)
    of_a, of_b = kernel.a.strides, kernel.b.strides
    m = _blocks(axes.m, [row[start_m:start_n] for row in written], of_a[start_m:start_n])
    n = _blocks(axes.n, [row[start_n:] for row in written], of_b[start_m + len(axes.k) :])
    k = _merged(axes.k, [of_a[start_n:], of_b[start_m : start_m + len(axes.k)]])
    batch = [axis for axis, n in enumerate(axes.batch) if n != 1]
    kept = [*batch, *(start_m + block[-1] for block in m[:-1]), *(start_n + block[-1] for block in n[:-1]),
            start_m + m[-1][-1], start_n + n[-1][-1]]  # fmt: skip
    ahead_m, ahead_n = len(m) - 1, len(n) - 1

    def along_k(row: Sequence[int]) -> Stride:
        even = stride_of(axes.k, row)
        return even if isinstance(even, int) else tuple((_size(axes.k, block), row[block[-1]]) for block in k)

    def last(block: Sequence[int], lengths: Sequence[int], row: Sequence[int]) -> Stride:
        return stride_of([lengths[i] for i in block], [row[i] for i in block])

    rows, columns = of_a[start_m:start_n], of_b[start_m + len(axes.k) :]
    a = (*(of_a[axis] for axis in batch), *(rows[block[-1]] for block in m[:-1]), *(0,) * ahead_n,
         last(m[-1], axes.m, rows), along_k(of_a[start_n:]))  # fmt: skip
    b = (*(of_b[axis] for axis in batch), *(0,) * ahead_m, *(columns[block[-1]] for block in n[:-1]),
         along_k(of_b[start_m : start_m + len(axes.k)]), last(n[-1], axes.n, columns))  # fmt: skip
    outer = (*(_size(axes.m, block) for block in m[:-1]), *(_size(axes.n, block) for block in n[:-1]))
    return kernel._replace(
        batch=(*(axes.batch[axis] for axis in batch), *outer),
        m=_size(axes.m, m[-1]),
        n=_size(axes.n, n[-1]),
        a=kernel.a._replace(strides=a),
        b=kernel.b._replace(strides=b),
        body=tuple(_over(step, kept) for step in kernel.body),
    )


def _strides_over(body: Sequence[Instruction], grid: Sequence[int]) -> list[Sequence[int]]:
    """Strides that tell which axes may be made one: of all accesses, and those of indices that are asked for."""
    rows: list[Sequence[int]] = [step.access.strides for step in body if step.access is not None]
    indexed = {step.value for step in body if step.op == "index"}
    return rows + [[int(axis == i) for axis in range(len(grid))] for i in indexed]


def _over(step: Instruction, kept: Sequence[int]) -> Instruction:
    if step.op == "index":
        return step._replace(value=kept.index(step.value)) if step.value in kept else (
            step._replace(op="constant", value=0)  # of length 1
        )  # fmt: skip
    if step.access is None:
        return step
    strides = tuple(step.access.strides[axis] for axis in kept)
    if step.op != "load":  # an axis of length 1, which no vector runs along
        strides = (*strides[:-2], *(stride or 1 for stride in strides[-2:]))
    return step._replace(access=step.access._replace(strides=strides))


def _blocks(lengths: Sequence[int], written: list[Sequence[int]], read: Sequence[int]) -> list[list[int]]:
    """Neighbouring axes that are made one; all blocks but the last are read through as through one too."""
    *outer, last = _merged(lengths, written)
    fine = _merged(lengths, [*written, read])
    return [*(block for block in fine if any(block[0] in wide for wide in outer)), last]


def _merged(lengths: Sequence[int], rows: list[Sequence[int]]) -> list[list[int]]:
    """Neighbouring axes in blocks, where each row of strides steps through a block as through one axis."""
    blocks: list[list[int]] = []
    for axis, n in enumerate(lengths):
        if n == 1:
            continue
        if blocks and all(row[blocks[-1][-1]] == n * row[axis] for row in rows):
            blocks[-1].append(axis)
        else:
            blocks.append([axis])
    return blocks or [[len(lengths) - 1]]


def _size(lengths: Sequence[int], block: Sequence[int]) -> int:
    return math.prod(lengths[axis] for axis in block)
