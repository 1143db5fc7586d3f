"""Where the elements of a value are, as seen from the points of a loop's grid.

Layout operations cost nothing when they only change which element a point reads. A `Map` says, for each axis of a
value, which index a point of the grid means: a constant plus a whole number times each of the grid's indices. This
file carries maps from the result of a layout operation to its input.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from chainrule.compile.graph import Affine, Map, Value


def identity(shape: Sequence[int], axes: Sequence[int | None], rank: int) -> Map:
    """The map of a value whose axis number i is axis number `axes[i]` of a grid of `rank` axes; None for length 1."""
    return _identity(tuple(axes), rank)


@functools.lru_cache(maxsize=1000)
def _identity(axes: tuple[int | None, ...], rank: int) -> Map:
    return tuple((0, tuple(int(axis == j) for j in range(rank))) for axis in axes)


def strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of an array in C order, in elements."""
    return _strides(tuple(shape))


@functools.lru_cache(maxsize=1000)
def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def flat(map: Map, shape: Sequence[int], rank: int) -> Affine:
    """Which element of an array of `shape`, in C order, a point means."""
    return combined(map, strides(shape), rank)


def combined(map: Map, factors: Sequence[int], rank: int) -> Affine:
    """The sum of the indices times `factors`."""
    return _combined(map, tuple(factors), rank)


# The steps of a loop, and its way back, ask for the same places over and over.
@functools.lru_cache(maxsize=10000)
def _combined(map: Map, factors: tuple[int, ...], rank: int) -> Affine:
    offset, along = 0, [0] * rank
    for (start, by), factor in zip(map, factors, strict=True):
        offset += start * factor
        for axis, step in enumerate(by):
            if step:
                along[axis] += step * factor
    return offset, tuple(along)


def input_map(value: Value, map: Map, grid: Sequence[int]) -> Map | None:
    """The map of the input of a layout operation, from that of its result.

    None where the input's indices are no whole multiples of the grid's: a reshape that joins axes, seen from a grid
    that does not separate them.
    """
    source = value.inputs[0].shape
    if value.op == "permute_dims":
        return tuple(map[value.params.index(i)] for i in range(len(source)))
    if value.op == "broadcast_to":
        nothing = (0, (0,) * len(grid))
        aligned = map[len(map) - len(source) :]
        lengths = value.shape[len(map) - len(source) :]
        return tuple(
            nothing if n == 1 != length else part for part, n, length in zip(aligned, source, lengths, strict=True)
        )
    if value.op == "slice":
        return tuple(
            (start + step * offset, tuple(step * factor for factor in along))
            for start, step, (offset, along) in zip(*value.params, map, strict=True)
        )
    if value.op == "view":
        return tuple(_shifted(combined(map, factors, len(grid)), start) for start, factors in value.params)
    return _through_reshape(source, value.shape, map, tuple(grid))


def _shifted(place: Affine, start: int) -> Affine:
    return place[0] + start, place[1]


@functools.lru_cache(maxsize=10000)
def _through_reshape(source: tuple[int, ...], shape: tuple[int, ...], map: Map, grid: tuple[int, ...]) -> Map | None:
    """Blocks of axes with the same number of elements on both sides are taken on their own."""
    if 0 in source:
        return ((0, (0,) * len(grid)),) * len(source)
    result: list[Affine] = []
    i = j = 0
    while i < len(source) or j < len(shape):
        first_i, first_j = i, j
        i, j = min(i + 1, len(source)), min(j + 1, len(shape))
        while (left := math.prod(source[first_i:i])) != (right := math.prod(shape[first_j:j])):
            if left < right:
                i += 1
            else:
                j += 1
        place = flat(map[first_j:j], shape[first_j:j], len(grid))
        block = _digits(place, source[first_i:i], grid)
        if block is None:
            return None
        result += block
    return tuple(result)


def _digits(place: Affine, lengths: Sequence[int], grid: Sequence[int]) -> list[Affine] | None:
    """The indices along axes of `lengths` that name element number `place`, where each is affine."""
    offset, along = place
    wide = [i for i, n in enumerate(lengths) if n != 1]
    if not wide:
        return [(0, (0,) * len(grid))] * len(lengths)
    by = strides(lengths)
    factors = [[0] * len(grid) for _ in lengths]
    for axis, step in enumerate(along):
        if step == 0 or grid[axis] == 1:
            continue
        owner = next((i for i in wide if abs(step) % by[i] == 0 and by[i] <= abs(step)), None)
        if owner is None:
            return None
        factors[owner][axis] = (abs(step) // by[owner]) * (1 if step > 0 else -1)
    result: list[Affine] = []
    for i, n in enumerate(lengths):
        start, offset = divmod(offset, by[i]) if n != 1 else (0, offset)
        ends = [factor * (grid[axis] - 1) for axis, factor in enumerate(factors[i])]
        if start + sum(min(end, 0) for end in ends) < 0 or start + sum(max(end, 0) for end in ends) >= n:
            return None
        result.append((start, tuple(factors[i])))
    return result
