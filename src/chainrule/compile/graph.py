"""The compiler's graph: what a traced run computed, as values that know how they follow from each other.

It has the small basis that every primitive's value code and rules come down to: elementwise functions, reductions,
matrix products, layout, gathering and scattering. `tracing` builds it, `simplify` and `fuse` read it. Equal values
are one value: asking for the same operation on the same inputs twice gives the value that is there.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

#: A whole number and one factor per axis of a grid: number + Σ factor·index.
Affine: TypeAlias = "tuple[int, tuple[int, ...]]"

#: One `Affine` per axis of a value: which of its elements a point of the grid means.
Map: TypeAlias = "tuple[Affine, ...]"

#: Operations that only say where elements are; a loop reads through them.
LAYOUT = frozenset({"reshape", "permute_dims", "broadcast_to", "slice", "view"})
#: Parts of an array, put together in no simple order, that are looked at one by one.
_FEW = 8


class Value:
    """One array of a program.

    Attributes:
        op: how it is made: "input", "constant" (an array of the caller's or of the trace), "full" (one number
            everywhere), "index" (the index along an axis), an elementwise function, "astype", "select", "reduce_sum"
            and its like, "matmul", one of `LAYOUT`, "assemble" (parts put side by side, or over one another),
            "gather", "scatter_add" or "scatter".
        inputs: the values it is made from.
        params: static parameters, hashable.
        shape, dtype: of the array.
        number: creation number; inputs have smaller ones.
    """

    __slots__ = ("dtype", "inputs", "number", "op", "params", "shape", "size")

    def __init__(
        self, op: str, inputs: tuple[Value, ...], params: Any, shape: tuple[int, ...], dtype: np.dtype, number: int
    ) -> None:
        self.op = op
        self.inputs = inputs
        self.params = params
        self.shape = shape
        self.dtype = dtype
        self.number = number
        self.size = math.prod(shape)

    def __repr__(self) -> str:
        inputs = ", ".join(f"%{value.number}" for value in self.inputs)
        params = "" if self.params is None else f" {self.params}"
        return f"%{self.number} = {self.op}({inputs}){params}: {self.dtype}{list(self.shape)}"


class Graph:
    """Values in the order of their creation, equal ones joined.

    Attributes:
        values: all of them.
        arrays: what is in each "constant".
        checks: pairs of a 0-d bool that says whether something is wrong with a run's inputs, and what to say then.
    """

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.arrays: dict[Value, np.ndarray] = {}
        self.checks: list[tuple[Value, str]] = []
        self._known: dict[tuple, Value] = {}
        self._rows: dict[Value, tuple[int, list[int]] | None] = {}

    def add(self, op: str, inputs: Sequence[Value], params: Any, shape: Sequence[int], dtype: Any) -> Value:
        """The value of `op` on `inputs`: a new one, or the one that is known."""
        key = (op, tuple([value.number for value in inputs]), params, tuple(shape), dtype)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._new(op, tuple(inputs), params, tuple(shape), dtype)
        return known

    def _new(self, op: str, inputs: tuple, params: Any, shape: tuple[int, ...], dtype: Any) -> Value:
        value = Value(op, inputs, params, shape, np.dtype(dtype), len(self.values))
        self.values.append(value)
        return value

    def input(self, shape: Sequence[int], dtype: Any, name: str) -> Value:
        """An array that is given anew to every call."""
        return self._new("input", (), name, tuple(shape), dtype)

    def constant(self, array: np.ndarray) -> Value:
        """The elements of `array` as they are now."""
        if array.size and (array.ndim == 0 or (array.size <= 64 and (array == array.flat[0]).all())):
            return self.full(array.shape, array.flat[0], array.dtype)
        content = np.array(array, order="C")
        value = self.add("constant", (), content.tobytes() if content.nbytes <= 4096 else id(content), content.shape,
                         content.dtype)  # fmt: skip
        self.arrays.setdefault(value, content)
        return value

    def full(self, shape: Sequence[int], number: Any, dtype: Any) -> Value:
        """One number in every place. The sign of a zero and what is in a NaN count as parts of the number."""
        number = np.dtype(dtype).type(number)
        value = self.add("full", (), _Number(number.item(), number.tobytes()), (), dtype)
        return value if not shape else self.broadcast_to(value, tuple(shape))

    def copy(self, value: Value) -> Value:
        """The same elements in memory of their own; never joined with another value."""
        return self._new("copy", (value,), None, value.shape, value.dtype)

    # What every builder needs ----------------------------------------------------------------------------------------

    def astype(self, value: Value, dtype: Any) -> Value:
        """`value` converted to `dtype`."""
        dtype = np.dtype(dtype)
        return value if value.dtype == dtype else self.add("astype", (value,), None, value.shape, dtype)

    def reshape(self, value: Value, shape: Sequence[int]) -> Value:
        """The same elements in C order in another shape."""
        shape = tuple(shape)
        if value.op == "reshape":
            value = value.inputs[0]
        return value if value.shape == shape else self.add("reshape", (value,), None, shape, value.dtype)

    def permute_dims(self, value: Value, axes: Sequence[int]) -> Value:
        """Axes in another order."""
        axes = tuple(axes)
        if value.op == "permute_dims":
            axes, value = tuple(value.params[i] for i in axes), value.inputs[0]
        if axes == tuple(range(len(axes))):
            return value
        return self.add("permute_dims", (value,), axes, [value.shape[i] for i in axes], value.dtype)

    def broadcast_to(self, value: Value, shape: Sequence[int]) -> Value:
        """Stretched as NumPy does."""
        shape = tuple(shape)
        if value.op == "broadcast_to" and len(value.inputs[0].shape) == len(value.shape):
            value = value.inputs[0]
        return value if value.shape == shape else self.add("broadcast_to", (value,), None, shape, value.dtype)

    def slice(self, value: Value, starts: Sequence[int], steps: Sequence[int], shape: Sequence[int]) -> Value:
        """Along each axis, `shape` elements from `starts` on, `steps` apart (negative steps allowed)."""
        starts, steps, shape = tuple(starts), tuple(steps), tuple(shape)
        if value.shape == shape and all(s == 1 for s in steps) and not any(starts):
            return value
        return self.add("slice", (value,), (starts, steps), shape, value.dtype)

    def view(self, value: Value, places: Map, shape: Sequence[int]) -> Value:
        """Elements of `value` that may repeat or overlap: `places` says which indices a point of the result means."""
        return self.add("view", (value,), places, shape, value.dtype)

    def assemble(self, parts: Sequence[tuple[Value, Region]], shape: Sequence[int], dtype: Any) -> Value:
        """Each part where its region says, later ones over earlier ones; zeros where there is none."""
        flattened: list[tuple[Value, Region]] = []
        for value, region in parts:
            if value.op == "assemble" and not flattened and value.shape == tuple(shape):
                flattened += zip(value.inputs, value.params, strict=True)  # it is the whole of what others go into
            elif value.size:
                flattened.append((value, region))
        if not flattened:  # all parts were empty
            return self.full(shape, 0, dtype)
        return self.add(
            "assemble", [value for value, _ in flattened], tuple(region for _, region in flattened), shape, dtype
        )

    def parts_at(self, value: Value, region: Region, shape: Sequence[int]) -> Iterable[int]:
        """Numbers of the parts of an assembled array that a region may lie in, those on top first."""
        if value not in self._rows:
            self._rows[value] = _row(value)
        row = self._rows[value]
        if row is None:
            return reversed(range(len(value.inputs))) if len(value.inputs) <= _FEW else ()
        axis, starts = row
        first = region.starts[axis]
        last = first + region.steps[axis] * (shape[axis] - 1)
        return (bisect_right(starts, min(first, last)) - 1,)


def _row(value: Value) -> tuple[int, list[int]] | None:
    """The axis along which the parts of an assembled array follow each other and fill it, and where each starts."""
    axes = {i for x in value.inputs for i, n in enumerate(x.shape) if n != value.shape[i]} or {0}
    if len(axes) != 1 or not value.shape:
        return None
    (axis,) = axes
    starts, following = [], 0
    for x, region in zip(value.inputs, value.params, strict=True):
        if region.starts[axis] != following or any(step != 1 for step in region.steps):
            return None
        starts.append(following)
        following += x.shape[axis]
    return (axis, starts) if following == value.shape[axis] else None


class Region(NamedTuple):
    """Where a part of an array is: along each axis, from `starts` on, `steps` apart."""

    starts: tuple[int, ...]
    steps: tuple[int, ...]


def whole(rank: int) -> Region:
    """The region of a part that is everything."""
    return Region((0,) * rank, (1,) * rank)


class _Number:
    """A constant's number, compared by its bits: 0.0 is not −0.0, and a NaN equals itself."""

    __slots__ = ("bits", "value")

    def __init__(self, value: Any, bits: bytes) -> None:
        self.value = value
        self.bits = bits

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Number) and self.bits == other.bits

    def __hash__(self) -> int:
        return hash(self.bits)

    def __repr__(self) -> str:
        return repr(self.value)


def base(value: Value) -> Value:
    """What a value is below the layout operations."""
    while value.op in LAYOUT:
        value = value.inputs[0]
    return value


def reachable(outputs: Iterable[Value]) -> list[Value]:
    """Everything `outputs` are made from, inputs first."""
    seen: dict[int, Value] = {}
    stack = list(outputs)
    while stack:
        value = stack.pop()
        if value.number not in seen:
            seen[value.number] = value
            stack.extend(value.inputs)
    return [seen[number] for number in sorted(seen)]


def are_disjoint(value: Value) -> bool:
    """Whether no two parts of an assembled array share a place."""
    parts = list(zip(value.params, (x.shape for x in value.inputs), strict=True))
    if _row(value) is not None:
        return True
    if all(x.size == 1 for x in value.inputs):
        return len({region.starts for region, _ in parts}) == len(parts)
    return not any(overlap(*parts[i], *parts[j]) for i in range(len(parts)) for j in range(i))


def is_inside(region: Region, shape: Sequence[int], array: Sequence[int]) -> bool:
    """Whether a region lies within an array of some shape."""
    return all(
        0 <= start < length and 0 <= start + step * (n - 1) < length
        for start, step, n, length in zip(*region, shape, array, strict=True)
    )


def overlap(a: Region, a_shape: Sequence[int], b: Region, b_shape: Sequence[int]) -> bool:
    """Whether two regions may share a place."""
    for axis, (m, n) in enumerate(zip(a_shape, b_shape, strict=True)):
        first = range(a.starts[axis], a.starts[axis] + m * a.steps[axis], a.steps[axis])
        second = range(b.starts[axis], b.starts[axis] + n * b.steps[axis], b.steps[axis])
        ends = sorted((first[0], first[-1])), sorted((second[0], second[-1]))
        if ends[0][1] < ends[1][0] or ends[1][1] < ends[0][0]:
            return False
        if first.step == second.step and (first[0] - second[0]) % first.step:
            return False
    return True
