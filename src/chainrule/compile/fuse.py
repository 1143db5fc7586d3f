"""Fusion: which values are computed together, and which of them are written to memory.

A value that one other value needs is computed where it is needed. The rest are `roots`: each is placed in a group, and
a group becomes one kernel. A root joins the group of the latest of its inputs if it runs over the same grid and reads
what is computed there at the same point; so the steps of a softmax, a normalisation or an optimiser's update become
one loop, and what follows a matrix product is done while the product is in registers. What no other group reads is
never written.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence

import numpy as np

from chainrule.compile.factors import is_worth_reading, place_of_factor, product_axes
from chainrule.compile.graph import LAYOUT, Graph, Region, Value, are_disjoint, base, reachable, whole
from chainrule.compile.homes import Roots
from chainrule.compile.kernels import Access, Instruction
from chainrule.compile.places import Affine, Map, combined, identity, input_map

#: Values that are in memory before the program starts.
SOURCES = frozenset({"input", "constant"})
#: Values that every kernel makes for itself.
_FREE = frozenset({"full", "index"})
#: Values that are made in memory, by a kernel of their own or several.
_IN_MEMORY = frozenset({"matmul", "assemble", "scatter_add", "scatter"})
#: Functions that cost no more than the load of their result would.
_CHEAP = frozenset(
    [
        "astype",
        "negative",
        "positive",
        "add",
        "subtract",
        "multiply",
        "maximum",
        "minimum",
        "abs",
        "select",
        "equal",
        "not_equal",
        "less",
        "less_equal",
        "greater",
        "greater_equal",
        "logical_and",
        "logical_or",
        "logical_not",
        "bitwise_invert",
        "bitwise_and",
        "bitwise_or",
        "bitwise_xor",
    ]
)
_INT64 = np.dtype(np.int64)
_DEEPEST = 40
_MOST_ARGUMENTS = 24
_MOST_INSTRUCTIONS = 400
_LOOKED_AT = 16
_FEW = 4
#: Elements of an array that is worth being spared.
_LARGE = 1 << 14
#: A transposed factor of so many products is put into the order they read it in once for all of them.
_MANY_PRODUCTS = 8


class DoesNotFit(Exception):
    """A root cannot be computed in a group."""


def is_pointwise(value: Value) -> bool:
    """Whether each element is computed from elements, by an elementwise function or a gather."""
    return _is_pointwise(value.op)


@functools.cache
def _is_pointwise(op: str) -> bool:
    return not (op in SOURCES or op in _FREE or op in _IN_MEMORY or op in LAYOUT or _is_reduction(op))


def is_reduction(value: Value) -> bool:
    """Whether axes are folded."""
    return _is_reduction(value.op)


@functools.cache
def _is_reduction(op: str) -> bool:
    return op.startswith("reduce_")


# Roots ---------------------------------------------------------------------------------------------------------------


def choose_roots(values: Sequence[Value], outputs: Sequence[Value], early: Iterable[Value] = ()) -> Roots:
    """The values that are computed once and looked up, rather than computed again by each that needs them.

    Args:
        values: all of them, inputs first.
        outputs: what is wanted in memory.
        early: what is to be looked up although only one value needs it.
    """
    roots = Roots([*outputs, *early])
    users = _users(values)
    depth: dict[Value, int] = {}
    viewed = {base(value) for value in values if value.op == "view"}
    for value in values:
        depth[value] = 1 + max([0 if x in roots else depth[x] for x in value.inputs], default=0)
        if (
            value.op in _IN_MEMORY
            or is_reduction(value)
            or (
                is_pointwise(value)
                and not (value in viewed and _is_small_below(value, roots))
                and _is_shared(value, users, roots)
            )
            or (is_pointwise(value) and depth[value] >= _DEEPEST)
            or (value.op == "permute_dims" and _factors(value, users) >= _MANY_PRODUCTS)
        ):
            roots.add(value)
    roots.place_parts(values, outputs)
    for value in values:
        _make_readable(value, roots)
    if roots.reorders(values):
        roots.place_parts(values, outputs)
        for value in values:
            _make_readable(value, roots)
    return roots


def _users(values: Sequence[Value]) -> dict[Value, list[tuple[Value, bool]]]:
    """Who reads each value, seen through layout operations, and whether these stretch it on the way."""
    users: dict[Value, list[tuple[Value, bool]]] = {value: [] for value in values}
    for value in reversed(values):
        if value.op in LAYOUT:
            (x,) = value.inputs
            users[x] += [(user, stretched or value.size > x.size) for user, stretched in users[value]]
        else:
            for x in value.inputs:
                users[x].append((value, False))
    return users


def _factors(value: Value, users: dict[Value, list[tuple[Value, bool]]]) -> int:
    """How often a value is a factor of a product as it is."""
    return sum(reader.op == "matmul" and value in reader.inputs for reader, _ in users[value])


def _is_shared(value: Value, users: dict[Value, list[tuple[Value, bool]]], roots: Roots) -> bool:
    readers = users[value]
    if len(readers) != 1:
        return not _is_cheap(value, roots)
    ((reader, stretched),) = readers
    return stretched or reader.op == "matmul" or (reader.op == "gather" and base(reader.inputs[0]) is value)


def _is_small_below(value: Value, roots: Roots) -> bool:
    """Whether it follows by a few quick instructions from values that are much smaller: as a window asks who won it."""
    below: set[Value] = set()
    stack, steps = [value], 0
    while stack:
        x = stack.pop()
        if x in roots or x.op in SOURCES:
            below.add(x)
        elif x.op not in _FREE:
            steps += 1
            if x.op not in _CHEAP or steps > _FEW:
                return False
            stack += map(base, x.inputs)
    return 2 * sum(x.size for x in below) <= value.size


def _is_cheap(value: Value, roots: Roots) -> bool:
    """Whether it follows by one quick instruction from one value in memory."""
    if value.op not in _CHEAP:
        return False
    bases = {below for x in value.inputs if (below := base(x)).op not in _FREE}
    return len(bases) <= 1 and all(below in roots or below.op in SOURCES for below in bases)


def unshaped(value: Value, roots: Roots) -> Value:
    """The array in memory that has the elements of `value` in the same order."""
    while value.op == "reshape" and value not in roots:
        value = value.inputs[0]
    return value


def _make_readable(value: Value, roots: Roots) -> None:
    """Make roots of values that could not be read in place otherwise, through the layout operations above them."""
    if value.op in LAYOUT:
        if value in roots:  # others are seen from the operation that reads them
            roots.remove(value)
            _walk(value, roots, False)
            roots.add(value)
        return
    for number, x in enumerate(value.inputs):
        if value.op == "gather" and number == 0:
            source = unshaped(x, roots)
            if source.op not in SOURCES:
                roots.add(source)
            x = source
        if value.op != "matmul" or not _is_read_in_place(value, number, roots):
            _walk(x, roots, value.op == "matmul")


def _is_read_in_place(product: Value, number: int, roots: Roots) -> bool:
    """Whether a factor is read from an array that is not the matrix itself; if so, that array is made a root."""
    axes = product_axes(product)
    for memory in ([], _rearranged_below_view(product.inputs[number], roots)):
        found = place_of_factor(product, number, axes, roots, SOURCES, memory)
        if found is None:
            return False
        source, place = found
        if source.op not in _FREE and is_worth_reading(product.inputs[number], source, place, axes.of_factor(number)):
            if source.op not in SOURCES and source not in roots:
                roots.add(source)
                _make_readable(source, roots)
            return True
    return False


def _rearranged_below_view(value: Value, roots: Roots) -> list[Value]:
    """What a view is taken of, if that is a layout: it may be worth putting in order once, not in every window."""
    while value.op in LAYOUT and value not in roots:
        (below,) = value.inputs
        if value.op == "view":
            return [below] if below.op in LAYOUT and below not in roots else []
        value = below
    return []


def _walk(value: Value, roots: Roots, in_memory: bool) -> None:
    if value.op not in LAYOUT and not in_memory:
        return
    top, map = value, identity(value.shape, range(len(value.shape)), len(value.shape))
    while value.op in LAYOUT and value not in roots:
        x = value.inputs[0]
        if value.op == "reshape" and (x in roots or x.op in SOURCES):
            return
        found = input_map(value, map, top.shape)
        if found is None:
            roots.add(x)
            _make_readable(x, roots)
            return
        map, value = found, x
    if in_memory and value not in roots and value.op not in SOURCES:
        roots.add(top if value.op in _FREE else value)


# Bodies --------------------------------------------------------------------------------------------------------------


class Body:
    """The instructions of a kernel while it is being put together.

    Attributes:
        grid: lengths of the axes that maps refer to.
        instructions: so far; accesses have one stride per axis of `grid`.
        arguments: the value in memory that each pointer argument is.
        computed: the roots computed here, with the map of each.
    """

    def __init__(self, grid: Sequence[int], roots: Roots) -> None:
        self.grid = tuple(grid)
        self.roots = roots
        self.instructions: list[Instruction] = []
        self.arguments: list[Value] = []
        self.computed: dict[Value, Map] = {}
        self.loads: dict[Value, list[Affine]] = {}
        self._numbers: dict[tuple, int] = {}
        self._places: dict[Value, int] = {}

    def mark(self) -> tuple:
        """The state to go back to with `reset`."""
        loads = {value: len(places) for value, places in self.loads.items()}
        return len(self.instructions), len(self.arguments), len(self._numbers), loads

    def reset(self, mark: tuple) -> None:
        """Forget what was added since `mark`."""
        instructions, arguments, numbers, loads = mark
        del self.instructions[instructions:]
        for value in self.arguments[arguments:]:
            del self._places[value]
        del self.arguments[arguments:]
        while len(self._numbers) > numbers:
            self._numbers.popitem()
        self.loads = {value: self.loads[value][:count] for value, count in loads.items()}

    def argument(self, value: Value) -> int:
        """The number of the pointer argument for `value`."""
        place = self._places.get(value)
        if place is None:
            place = self._places[value] = len(self.arguments)
            self.arguments.append(value)
        return place

    def add(self, op: str, dtype: object, inputs: tuple[int, ...] = (), access: Access | None = None,
            value: object = None) -> int:  # fmt: skip
        """The number of an instruction; equal ones are one."""
        key = (op, dtype, inputs, access, None if value is None else (type(value), str(value)))
        number = self._numbers.get(key)
        if number is None or op in ("store", "accumulate"):
            number = self._numbers[key] = len(self.instructions)
            self.instructions.append(Instruction(op, dtype, inputs, access, value))  # type: ignore[arg-type]
        return number

    def define(self, value: Value, map: Map, number: int) -> None:
        """Let instruction `number` stand for the root `value`."""
        self.computed[value] = map
        self._numbers[value, map] = number

    def number(self, value: Value, map: Map) -> int:
        """The instruction that is `value` at the point `map` names.

        Raises:
            DoesNotFit: it is computed here, but at another point.
        """
        known = self._numbers.get((value, map))
        if known is None:
            if value in self.computed:
                raise DoesNotFit
            stored = value in self.roots or value.op in SOURCES
            known = self.load(value, map) if stored else self.compute(value, map)
            self._numbers[value, map] = known
        return known

    def load(self, value: Value, map: Map) -> int:
        """The element of an array in memory."""
        return self._load(value, self.roots.home(value).place(map, len(self.grid)))

    def _load(self, value: Value, place: Affine, further: tuple[int, ...] = ()) -> int:
        self.loads.setdefault(value, []).append(place)
        return self.add("load", value.dtype, further, Access(self.argument(self.roots.home(value).memory), *place))

    def compute(self, value: Value, map: Map) -> int:
        """A value that is not in memory, from its inputs at the same point."""
        if value.op == "full":
            return self.add("constant", value.dtype, value=value.params.value)
        if value.op == "index":
            return self._index(map[value.params])
        if value.op in LAYOUT:
            return self._through(value, map)
        if value.op == "copy":
            return self.number(value.inputs[0], map)
        if value.op == "gather":
            return self._gather(value, map)
        return self.add(value.op, value.dtype, tuple([self.number(x, map) for x in value.inputs]))

    def _through(self, value: Value, map: Map) -> int:
        (x,) = value.inputs
        if value.op == "reshape" and x not in self.computed and (x in self.roots or x.op in SOURCES):
            home = self.roots.home(x)
            if home.is_contiguous:
                return self._load(x, home.flat_place(map, value.shape, len(self.grid)))
        found = input_map(value, map, self.grid)
        if found is None:
            raise DoesNotFit
        return self.number(x, found)

    def _index(self, place: Affine) -> int:
        total = self.add("constant", _INT64, value=place[0])
        for axis, factor in enumerate(place[1]):
            if factor:
                term = self.add("index", _INT64, value=axis)
                if factor != 1:
                    term = self.add("multiply", _INT64, (term, self.add("constant", _INT64, value=factor)))
                total = self.add("add", _INT64, (total, term))
        return total

    def _gather(self, value: Value, map: Map) -> int:
        source, offset = value.inputs
        base, along = value.params
        nothing = (0, (0,) * len(self.grid))
        narrow = tuple(part if n != 1 else nothing for part, n in zip(map, offset.shape, strict=True))
        further = self.number(offset, narrow)
        start, factors = combined(map, along, len(self.grid))
        source = unshaped(source, self.roots)
        if source in self.computed:
            raise DoesNotFit
        return self._load(source, (start + base + self.roots.home(source).offset, factors), (further,))

    def store(self, value: Value, number: int, map: Map) -> None:
        """Write instruction `number` to where `value` is."""
        self.write("store", value, (number,), self.roots.home(value).place(map, len(self.grid)))

    def write(self, op: str, value: Value, inputs: tuple[int, ...], place: Affine) -> None:
        """Write to a place in the memory that `value` is in."""
        self.add(op, value.dtype, inputs, Access(self.argument(self.roots.home(value).memory), *place))


# Groups --------------------------------------------------------------------------------------------------------------


class Group:
    """Roots that are computed together.

    Attributes:
        body: their instructions. For a loop, over the grid of the axes longer than 1 of its roots.
        folded: the axes of the grid that reductions fold; the same for all reductions of the group.
        product: the matrix product that the group begins with, if it does; the grid is then of all axes that its
            factors' rows and columns are made of.
        in_memory: whether its value is put together in memory, by `steps` and by the kernels of its parts.
        steps: then the bodies in order, and whether each is serial.
    """

    def __init__(
        self, grid: Sequence[int], roots: Roots, product: Value | None = None, in_memory: bool = False
    ) -> None:
        self.body = Body(grid, roots)
        self.folded: frozenset[int] = frozenset()
        self.product = product
        self.in_memory = in_memory
        self.steps: list[tuple[Body, bool]] = []
        self.made: list[Value] = []

    def accept(self, values: Sequence[Value]) -> bool:
        """Compute all of `values` here too, if they fit."""
        body = self.body
        if self.in_memory or len(body.instructions) > (_MOST_INSTRUCTIONS if body.grid else 1_000_000):
            return False
        mark, folded = body.mark(), self.folded
        try:
            for value in values:
                self._add(value)
            if self.made and len(body.arguments) > _MOST_ARGUMENTS and body.grid:
                raise DoesNotFit
        except DoesNotFit:
            for value in values:
                body.computed.pop(value, None)
            body.reset(mark)
            self.folded = folded
            return False
        self.made += values
        return True

    def _add(self, value: Value) -> None:
        body, rank = self.body, len(self.body.grid)
        if is_reduction(value):
            (x,) = value.inputs
            if tuple(n for n in x.shape if n != 1) != body.grid:
                raise DoesNotFit
            axes = self._along(x.shape, range(rank))
            folded = frozenset(axis for i in value.params if (axis := axes[i]) is not None)
            if self.product is not None or (self.folded and self.folded != folded):
                raise DoesNotFit
            self.folded = folded
            number = body.add(value.op, value.dtype, (body.number(x, identity(x.shape, axes, rank)),))
            body.define(value, self._own_map(value.shape), number)
            return
        map = self._map_of(value)
        body.define(value, map, body.compute(value, map))

    def _map_of(self, value: Value) -> Map:
        if self.product is not None:
            if value.shape == self.product.shape:
                return product_axes(self.product).result_map()
            grid = self.body.grid
            wide = [axis for axis, n in enumerate(grid) if n != 1]
            if tuple(n for n in value.shape if n != 1) != tuple(grid[axis] for axis in wide):
                raise DoesNotFit
            return identity(value.shape, self._along(value.shape, wide), len(grid))
        if tuple(n for n in value.shape if n != 1) == self.body.grid:
            return identity(value.shape, self._along(value.shape, range(len(self.body.grid))), len(self.body.grid))
        return self._own_map(value.shape)

    def _own_map(self, shape: Sequence[int]) -> Map:
        """The map of a value that is the same along the folded axes."""
        outer = [i for i in range(len(self.body.grid)) if i not in self.folded]
        if tuple(n for n in shape if n != 1) != tuple(self.body.grid[i] for i in outer):
            raise DoesNotFit
        return identity(shape, self._along(shape, outer), len(self.body.grid))

    def _along(self, shape: Sequence[int], axes: Iterable[int]) -> list[int | None]:
        rest = iter(axes)
        if len([n for n in shape if n != 1]) > len(self.body.grid):
            raise DoesNotFit
        return [None if n == 1 else next(rest) for n in shape]


def _grid(value: Value) -> tuple[int, ...]:
    """The axes longer than 1 that a root runs over."""
    return tuple(n for n in (value.inputs[0].shape if is_reduction(value) else value.shape) if n != 1)


def fused(graph: Graph, outputs: Sequence[Value]) -> Fusion:
    """The groups of a graph; what a group keeps for a later one is a formula of several arrays rather than these.

    The derivative of an activation is computed with the activation: then one array is kept for the way back, where two
    or three would be that the derivative is made of.
    """
    fusion = Fusion(graph, outputs)
    if fusion.early:
        again = Fusion(graph, outputs, fusion.early)
        if all(again.is_made_with(value, kept) for value, kept in fusion.early.items()):
            return again
    return fusion


class Fusion:
    """The groups of a graph, in an order in which they can be computed.

    Args:
        graph: what is computed.
        outputs: what of it is wanted in memory.
        early: values to be computed with what they are made of, rather than where they are needed.

    Attributes:
        values: all that the outputs need, inputs first.
        roots: see `choose_roots`.
        groups: in order.
        outputs: the values wanted in memory.
        early: values that should be computed early, and the arrays that would not be kept then.
    """

    def __init__(self, graph: Graph, outputs: Sequence[Value], early: Iterable[Value] = ()) -> None:
        self.graph = graph
        self.outputs = list(outputs)
        self.values = reachable(outputs)
        self.roots = choose_roots(self.values, [value for value in outputs if value.op not in SOURCES], early)
        self._wanted = set(outputs)
        self.groups: list[Group] = []
        self._early: list[Group] = []
        self._group_of: dict[Value, int] = {}
        self._needs: dict[Value, frozenset[Value]] = {}
        self._by_grid: dict[tuple[int, ...], list[int]] = {}
        for value in self.values:
            self._needs[value] = self._needed(value)
            if value in self.roots:
                self._place(value)
        self.early = self._better_early()
        self.groups = self._early + self.groups

    def _better_early(self) -> dict[Value, list[Value]]:
        found: dict[Value, list[Value]] = {}
        readers: dict[Value, list[Value]] = {}
        if any(value.size >= _LARGE for value in self.roots):
            for value in self.values:
                for x in value.inputs:
                    readers.setdefault(x, []).append(value)
        for root in self.roots:
            stack = list(root.inputs) if root.size >= _LARGE and is_pointwise(root) else []
            while stack:
                value = stack.pop()
                if value in self.roots or not is_pointwise(value) or value.size != root.size:
                    continue
                kept = [x for x in self._needs[value] if x.size >= value.size and x in self.roots]
                if len(kept) > 1 and self._is_all_that_needs(value, kept, readers):
                    found[value] = kept
                else:
                    stack += value.inputs
        return found

    def _is_all_that_needs(self, value: Value, kept: list[Value], readers: dict[Value, list[Value]]) -> bool:
        """Whether arrays of one group are written for the sake of a value alone, which could be computed there."""
        place = self._earliest(value)
        if place < 0 or any(x in self._wanted or self._group_of.get(x) != place for x in kept):
            return False
        stack = [reader for x in kept for reader in readers[x]]
        while stack:
            reader = stack.pop()
            if reader in self.roots:
                if self._group_of.get(reader) != place:
                    return False
            elif reader is not value:
                stack += readers[reader]
        return True

    def is_made_with(self, value: Value, others: Iterable[Value]) -> bool:
        """Whether a value is computed in the group of others."""
        return {self._group_of.get(x) for x in others} == {self._group_of.get(value)}

    def _needed(self, value: Value) -> frozenset[Value]:
        """The roots and sources that computing `value` reads."""
        needed: set[Value] = set()
        for x in value.inputs:
            if x in self.roots or x.op in SOURCES:
                needed.add(x)
            else:
                needed |= self._needs[x]
        return frozenset(needed)

    def _place(self, value: Value) -> None:
        """Compute `value` in some group. What reads nothing but sources waits for the first that wants it."""
        if value.op in _IN_MEMORY or self.roots.parts(value):
            for x in self._waiting(value):
                self._compute_early(x)
            self._group_of[value] = self._in_memory(value)
        elif self._earliest(value) >= 0 or value in self._wanted or is_reduction(value):
            self._join([*self._waiting(value), value])

    def _earliest(self, value: Value) -> int:
        return max((self._group_of.get(x, -1) for x in self._needs[value]), default=-1)

    def _waiting(self, value: Value) -> list[Value]:
        """The roots that `value` needs and that have not been placed, inputs first."""
        found: set[Value] = set()
        stack = [value]
        while stack:
            for x in self._needs[stack.pop()]:
                if x in self.roots and x not in self._group_of and x not in found:
                    found.add(x)
                    stack.append(x)
        return sorted(found, key=lambda x: x.number)

    def _join(self, values: list[Value]) -> None:
        """Compute the last of `values`, and before it those that waited for it, in one group if that is possible."""
        value = values[-1]
        place = next((p for p in self._candidates(value) if self.groups[p].accept(values)), None)
        if place is None:
            group = Group(_grid(value), self.roots)
            if not group.accept(values):
                if len(values) == 1:
                    raise AssertionError(f"no kernel can compute {value}")
                for x in values[:-1]:
                    self._compute_early(x)
                self._join([value])
                return
            place = len(self.groups)
            self._by_grid.setdefault(_grid(value), []).append(place)
            self.groups.append(group)
        self._group_of.update(dict.fromkeys(values, place))

    def _compute_early(self, value: Value) -> None:
        """Compute what reads nothing but sources before everything else, so that it holds up no one."""
        group = Group(_grid(value), self.roots)
        if not group.accept([value]):
            raise AssertionError(f"no kernel can compute {value}")
        self._group_of[value] = -1
        self._early.append(group)

    def _candidates(self, value: Value) -> Iterable[int]:
        """The group of the latest input; then later ones over the same grid that read the same array."""
        earliest = self._earliest(value)
        if earliest >= 0:
            yield earliest
        grid = _grid(value)
        for place in self._by_grid.get(grid, [])[-_LOOKED_AT:]:
            body = self.groups[place].body
            if place > earliest and (
                not grid or any(x in body.loads or x in body.computed for x in self._needs[value] if x.size > 1)
            ):
                yield place

    def _in_memory(self, value: Value) -> int:
        if value.op == "matmul":
            axes = product_axes(value)
            group = Group(axes.grid, self.roots, value)
            group.body.define(value, axes.result_map(), group.body.add("product", value.dtype))
        else:
            group = Group((), self.roots, in_memory=True)
            group.steps = _steps(value, self.roots)
        group.made.append(value)
        self.groups.append(group)
        return len(self.groups) - 1

    def read_by(self, group: Group) -> set[Value]:
        """The values a group reads from memory."""
        read = set(group.body.loads)
        for body, _ in group.steps:
            read |= body.loads.keys()
        if group.in_memory:
            read |= set(self.roots.parts(group.made[0]).values())
        if group.product is not None:
            read |= {self.factor(group.product, number)[0] for number in (0, 1)}
        return read

    def factor(self, product: Value, number: int) -> tuple[Value, Affine]:
        """The root or source that a factor of a matrix product is read from, and where, over the factor's `Axes`."""
        found = place_of_factor(product, number, product_axes(product), self.roots, SOURCES)
        assert found is not None, product.inputs[number]
        return found


# Values put together in memory ---------------------------------------------------------------------------------------


def _steps(value: Value, roots: Roots) -> list[tuple[Body, bool]]:
    if value.op in LAYOUT:
        return []
    if value.op == "assemble":
        return _assembled(value, roots)
    if value.op == "scatter_add":
        return [
            (_zeros(value, roots), False),
            (_scattered(value, value.inputs[0], value.inputs[1], "accumulate", roots), True),
        ]
    x, v, offset = value.inputs
    return [(_copy(value, x, roots, whole(len(x.shape))), False), (_scattered(value, v, offset, "store", roots), True)]


def _assembled(value: Value, roots: Roots) -> list[tuple[Body, bool]]:
    """A loop for each part that is not written by its own kernel; single elements in order are written by one."""
    bodies: list[tuple[Body, bool]] = [] if _is_covered(value) else [(_zeros(value, roots), False)]
    elements: Body | None = None
    written = roots.parts(value)
    for number, (x, region) in enumerate(zip(value.inputs, value.params, strict=True)):
        if number in written:
            continue
        if x.size == 1:
            if elements is None:
                elements = Body((), roots)
                bodies.append((elements, False))
            _write(elements, value, x, region, identity(x.shape, [None] * len(x.shape), 0))
        else:
            elements = None
            bodies.append((_copy(value, x, roots, region), False))
    return bodies


def _is_covered(value: Value) -> bool:
    """Whether the parts leave no place free. (Parts that lie over one another come after one that is everything.)"""
    sizes = [x.size for x in value.inputs]
    return value.size in sizes or (sum(sizes) == value.size and are_disjoint(value))


def _copy(target: Value, x: Value, roots: Roots, region: Region) -> Body:
    """`x` written to a region of `target`."""
    rank = len(x.shape)
    body = Body(x.shape, roots)
    _write(body, target, x, region, identity(x.shape, range(rank), rank))
    return body


def _write(body: Body, target: Value, x: Value, region: Region, map: Map) -> None:
    inside = tuple(
        (start, tuple(step * factor for factor in along)) for start, step, (_, along) in zip(*region, map, strict=True)
    )
    body.store(target, body.number(x, map), inside)


def _zeros(value: Value, roots: Roots) -> Body:
    body = Body((math.prod(value.shape),), roots)
    body.write("store", value, (body.add("constant", value.dtype, value=0),), (0, (1,)))
    return body


def _scattered(target: Value, v: Value, offset: Value, op: str, roots: Roots) -> Body:
    rank = len(v.shape)
    base, along = target.params
    body = Body(v.shape, roots)
    map = identity(v.shape, range(rank), rank)
    nothing = (0, (0,) * rank)
    narrow = tuple(part if n != 1 else nothing for part, n in zip(map, offset.shape, strict=True))
    further = body.number(offset, narrow)
    start, factors = combined(map, along, rank)
    body.write(op, target, (body.number(v, map), further), (start + base, factors))
    return body
