"""Where values are in memory: in memory of their own, or at their place in an array they are put together into.

A part of an assembled array (the states of all time steps as one array, the gates beside each other) is written to
its place there by the kernel that computes it, and read there by all others. So nothing is computed in one place to be
copied to another. Neither is what is wanted with its axes in another order, if its rows stay rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from chainrule.compile.graph import LAYOUT, Region, Value, are_disjoint
from chainrule.compile.graph import whole as everything
from chainrule.compile.places import Affine, Map, combined, flat, strides

#: Values that no kernel writes, or none that could write them to any place.
_NEVER_PARTS = LAYOUT | {"input", "constant", "full", "index", "copy", "scatter_add", "scatter"}


class Home(NamedTuple):
    """Where a value is in memory.

    Attributes:
        memory: the value whose memory it is: its own, or that of the array it is a part of.
        offset: of its first element there.
        strides: along each of its axes. Both in elements.
        is_contiguous: whether its elements lie next to each other in C order.
    """

    memory: Value
    offset: int
    strides: tuple[int, ...]
    is_contiguous: bool

    def place(self, map: Map, rank: int) -> Affine:
        """The element that a point of a grid of `rank` axes means."""
        offset, along = combined(map, self.strides, rank)
        return offset + self.offset, along

    def flat_place(self, map: Map, shape: Sequence[int], rank: int) -> Affine:
        """The same for the map of a reshape of the value, which must be contiguous, to `shape`."""
        offset, along = flat(map, shape, rank)
        return offset + self.offset, along


class Roots(set[Value]):
    """The values that are computed once and kept in memory, and where each is."""

    def __init__(self, values: Iterable[Value]) -> None:
        super().__init__(values)
        self._homes: dict[Value, Home] = {}
        self._parts: dict[Value, dict[int, Value]] = {}
        self._reordered: set[Value] = set()

    def home(self, value: Value) -> Home:
        """Where a root, an input or a constant is."""
        home = self._homes.get(value)
        if home is None:
            home = self._homes[value] = Home(value, 0, strides(value.shape), True)
        return home

    def parts(self, whole: Value) -> Mapping[int, Value]:
        """Which inputs of an assembled array are written to their place by the kernels that compute them: by number.

        A result that is a reshape of what is computed counts as a part.
        """
        return self._parts.get(whole, {})

    def place_parts(self, values: Sequence[Value], outputs: Iterable[Value]) -> None:
        """Give the parts of assembled arrays among `values` (inputs first) their homes there, where that can be."""
        self._homes.clear()
        self._parts.clear()
        taken = set(outputs)
        readers = _readers(values)
        for whole in reversed(values):  # arrays that are parts themselves after those they are parts of
            for number, (part, region) in enumerate(self._parts_of(whole)):
                placed = self._place(part, region, self._around(whole), taken, readers)
                if placed is not None:
                    self._parts.setdefault(whole, {})[number] = placed

    def reorders(self, values: Sequence[Value]) -> bool:
        """Whether there are roots in another order of axes than what they are made of, to be parts of them from now on.

        What a product reads as well, such as the state of a step that the next one begins with, stays in one piece.
        """
        readers = _readers(values)
        self._reordered = {
            value
            for value in values
            if value.op == "permute_dims"
            and value in self
            and value.params[-1] == len(value.shape) - 1
            and value.inputs[0] in self
            and not any(_is_factor(x, value, readers) for x in _parts_below(value.inputs[0]))
        }
        return bool(self._reordered)

    def _around(self, whole: Value) -> Home:
        """Where an array is, seen with the axes of its parts."""
        home = self.home(whole)
        if whole not in self._reordered:
            return home
        by_axis = dict(zip(whole.params, home.strides, strict=True))
        return home._replace(strides=tuple([by_axis[axis] for axis in range(len(home.strides))]))

    def _parts_of(self, whole: Value) -> Iterable[tuple[Value, Region]]:
        if whole.op == "assemble" and _is_filled(whole):
            return zip(whole.inputs, whole.params, strict=True)
        if whole.op == "reshape" and whole in self:  # what is wanted in another shape
            return [(whole, everything(len(whole.shape)))]
        if whole in self._reordered:
            return [(whole.inputs[0], everything(len(whole.shape)))]
        return []

    def _place(
        self, part: Value, region: Region, outer: Home, taken: set[Value], readers: Mapping[Value, list[Value]]
    ) -> Value | None:
        """Give what a part is a reshape of its home there, if that can be; what was given one."""
        offset = outer.offset + sum(start * by for start, by in zip(region.starts, outer.strides, strict=True))
        along = tuple([step * by for step, by in zip(region.steps, outer.strides, strict=True)])
        contiguous = _are_strides_of(part.shape, along)
        value = part
        while value.op == "reshape":
            value = value.inputs[0]
        if value.op in _NEVER_PARTS or value in taken or value.size == 1:
            return None
        if value.op == "assemble" and not _is_filled(value):
            return None
        if not contiguous:
            if _wide(value.shape) != _wide(part.shape) or any(_needs_c_order(x, readers) for x in readers[value]):
                return None
            rest = iter([by for by, n in zip(along, part.shape, strict=True) if n != 1])
            own = strides(value.shape)  # no matter what, along axes of length 1, but never 0
            along = tuple([step if n == 1 else next(rest) for n, step in zip(value.shape, own, strict=True)])
        taken.add(value)
        self.add(value)
        self._homes[value] = Home(outer.memory, offset, strides(value.shape) if contiguous else along, contiguous)
        return value


def _readers(values: Iterable[Value]) -> dict[Value, list[Value]]:
    readers: dict[Value, list[Value]] = {}
    for value in values:
        for x in value.inputs:
            readers.setdefault(x, []).append(value)
    return readers


def _parts_below(value: Value) -> list[Value]:
    """A value, and those it is put together from."""
    return [value, *(value.inputs if value.op == "assemble" else ())]


def _is_factor(value: Value, apart_from: Value, readers: Mapping[Value, list[Value]]) -> bool:
    """Whether a product reads a value, through layout operations or not, apart from one of these."""
    return any(
        reader.op == "matmul" or (reader.op in LAYOUT and _is_factor(reader, apart_from, readers))
        for reader in readers.get(value, ())
        if reader is not apart_from
    )


def _is_filled(value: Value) -> bool:
    """Whether the parts of an assembled array fill it, each place once."""
    return sum(x.size for x in value.inputs) == value.size and are_disjoint(value)


def _wide(shape: Sequence[int]) -> list[int]:
    return [n for n in shape if n != 1]


def _are_strides_of(shape: Sequence[int], along: Sequence[int]) -> bool:
    """Whether an array of a shape is in C order with these strides."""
    return all(n == 1 or by == step for n, by, step in zip(shape, along, strides(shape), strict=True))


def _needs_c_order(reader: Value, readers: Mapping[Value, list[Value]]) -> bool:
    """Whether what a reader reads is found by its number in C order."""
    if reader.op == "reshape":
        same = _wide(reader.shape) == _wide(reader.inputs[0].shape)
        return not same or any(_needs_c_order(x, readers) for x in readers.get(reader, ()))
    return reader.op == "gather"
