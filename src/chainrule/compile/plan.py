"""The plan: groups in their final order, each as a kernel, and where in memory everything is.

Results that replace an input (a parameter after its update) are written over it where no kernel can still want the
old value; kernels are moved back for that if nothing waits for them. What lives only between kernels shares one
scratch memory: a place is used again when its last reader is done.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from typing import NamedTuple, TypeVar

import numpy as np

from chainrule.compile.fuse import SOURCES, Body, Fusion, Group
from chainrule.compile.gemm import workspace_bytes
from chainrule.compile.graph import Graph, Value
from chainrule.compile.kernels import Access, Call, Gemm, Instruction, Kernel, Loop, Program
from chainrule.compile.machine import Machine
from chainrule.compile.places import flat

_ALIGNMENT = 64

K = TypeVar("K", bound=Kernel)


class Plan(NamedTuple):
    """A program, and what the caller has to connect to it.

    Attributes:
        program: the calls.
        sources: slot of each input and constant that is read.
        outputs: slot of each output, in order.
        in_place: numbers of the outputs that may be written over the input they replace.
        groups: the groups behind the calls, for inspection.
        values: the value that each slot is for, for inspection.
    """

    program: Program
    sources: dict[Value, int]
    outputs: list[int]
    in_place: set[int]
    groups: list[Group]
    values: dict[int, Value]


def plan(graph: Graph, outputs: Sequence[Value], replaced: Mapping[int, Value], threads: int) -> Plan:
    """A program that computes `outputs`.

    Args:
        graph: what they are made of.
        outputs: each is written to memory that the caller provides.
        replaced: the input whose place an output takes, by the output's number.
        threads: how many may share the work.
    """
    wanted = _distinct(graph, outputs)
    fusion = Fusion(graph, wanted)
    order = _Order(fusion)
    in_place = {number for number, source in replaced.items() if order.write_over(wanted[number], source)}
    groups = order.sorted()
    _store_what_is_read(fusion, groups)
    late = [number for number in replaced if number not in in_place]
    return _Memory(fusion, groups, wanted, in_place, late, threads).plan({n: replaced[n] for n in late})


def _distinct(graph: Graph, outputs: Sequence[Value]) -> list[Value]:
    """One value in memory for each output: copies of inputs, and of what is wanted twice."""
    seen: set[Value] = set()
    wanted = []
    for value in outputs:
        if value in seen or value.op in SOURCES:
            value = graph.copy(value)
        seen.add(value)
        wanted.append(value)
    return wanted


# Writing over inputs -------------------------------------------------------------------------------------------------


class _Order:
    """An order of the groups in which inputs are written over when all that wants their old content has run."""

    def __init__(self, fusion: Fusion) -> None:
        self.fusion = fusion
        self.groups = fusion.groups
        self.maker = {value: number for number, group in enumerate(self.groups) for value in group.made}
        self.readers: dict[Value, set[int]] = {}
        for number, group in enumerate(self.groups):
            for value in fusion.read_by(group):
                self.readers.setdefault(value, set()).add(number)
        self.later: list[set[int]] = [
            {reader for value in group.made for reader in self.readers.get(value, ())} for group in self.groups
        ]

    def write_over(self, output: Value, source: Value) -> bool:
        """Arrange for `output` to take the place of `source`, if that is possible."""
        own = self.maker[output]
        group = self.groups[own]
        if group.steps or not _reads_where_it_writes(self.fusion, group, output, source):
            return False
        readers = self.readers.get(source, set()) - {own}
        if readers & self._after(own):
            return False
        for reader in readers:
            self.later[reader].add(own)
        return True

    def _after(self, number: int) -> set[int]:
        """The groups that have to wait for one."""
        found: set[int] = set()
        stack = [number]
        while stack:
            for other in self.later[stack.pop()] - found:
                found.add(other)
                stack.append(other)
        return found

    def sorted(self) -> list[Group]:
        """The groups, each after those it waits for, and otherwise in the order they had."""
        waiting = [0] * len(self.groups)
        for others in self.later:
            for other in others:
                waiting[other] += 1
        ready = [number for number, count in enumerate(waiting) if not count]
        order = []
        while ready:
            number = heappop(ready)
            order.append(self.groups[number])
            for other in self.later[number]:
                waiting[other] -= 1
                if not waiting[other]:
                    heappush(ready, other)
        return order


def _reads_where_it_writes(fusion: Fusion, group: Group, output: Value, source: Value) -> bool:
    """Whether the group reads `source` only at the element of `output` it is about to write."""
    if group.product is not None and any(fusion.factor(x)[0] is source for x in group.product.inputs):
        return False
    loads = group.body.loads.get(source, [])
    map = group.body.computed[output]
    place = flat(map, output.shape, len(group.body.grid))
    if any(load != place for load in loads):
        return False
    passes = bool(group.folded) and any(along[axis] for _, along in map for axis in group.folded)
    return not (loads and passes)


# Stores --------------------------------------------------------------------------------------------------------------


def _store_what_is_read(fusion: Fusion, groups: Sequence[Group]) -> None:
    wanted = set(fusion.outputs)
    for group in groups:
        wanted |= fusion.read_by(group)
    for group in groups:
        body = group.body
        for value in group.made:
            if value in wanted and not group.steps:
                map = body.computed[value]
                body.store(value, body.number(value, map), flat(map, value.shape, len(body.grid)))


# Kernels -------------------------------------------------------------------------------------------------------------


def _without(places: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    return tuple(places[i] for i in order)


def _reordered(body: Sequence[Instruction], order: Sequence[int]) -> tuple[Instruction, ...]:
    """The body for a grid whose axes are in another order."""
    place = {axis: i for i, axis in enumerate(order)}
    changed = []
    for instruction in body:
        if instruction.access is not None:
            access = instruction.access
            instruction = instruction._replace(
                access=Access(access.argument, access.offset, _without(access.strides, order))
            )
        elif instruction.op == "index":
            instruction = instruction._replace(value=place[instruction.value])
        changed.append(instruction)
    return tuple(changed)


def _loop(body: Body, folded: frozenset[int] = frozenset(), serial: bool = False) -> Loop:
    outer = [i for i in range(len(body.grid)) if i not in folded]
    inner = sorted(folded)
    return Loop(
        _without(body.grid, outer),
        _without(body.grid, inner),
        _reordered(_live(body.instructions), [*outer, *inner]),
        tuple(value.dtype for value in body.arguments),
        serial,
    )


def _gemm(fusion: Fusion, group: Group) -> Gemm:
    product, body = group.product, group.body
    assert product is not None
    accesses = []
    for x in product.inputs:
        memory, (offset, along) = fusion.factor(x)
        accesses.append(Access(body.argument(memory), offset, along))
    *batch, m, n = product.shape
    return Gemm(
        tuple(batch), m, n, product.inputs[0].shape[-1], product.dtype, accesses[0], accesses[1],
        _live(body.instructions), tuple(value.dtype for value in body.arguments),
    )  # fmt: skip


def _live(instructions: Sequence[Instruction]) -> tuple[Instruction, ...]:
    """Only those that something stored depends on; trials of fusion may have left others."""
    needed: set[int] = set()
    for number in range(len(instructions) - 1, -1, -1):
        instruction = instructions[number]
        if instruction.op in ("store", "accumulate") or number in needed:
            needed.add(number)
            needed.update(instruction.inputs)
    numbers = {old: new for new, old in enumerate(sorted(needed))}
    return tuple(
        instructions[old]._replace(inputs=tuple(numbers[i] for i in instructions[old].inputs)) for old in numbers
    )


# Memory --------------------------------------------------------------------------------------------------------------


class _Memory:
    """Slots for values, and places in the scratch memory for those that live only inside."""

    def __init__(
        self,
        fusion: Fusion,
        groups: list[Group],
        wanted: list[Value],
        in_place: set[int],
        late: list[int],
        threads: int,
    ) -> None:
        self.threads = threads
        self.fusion, self.groups, self.wanted, self.in_place = fusion, groups, wanted, in_place
        self.late = {wanted[number] for number in late}
        self.calls: list[tuple[Kernel, list[Value]]] = []
        self.kernels: dict[tuple[Kernel, tuple[str, ...]], Kernel] = {}
        for group in groups:
            self._emit(group)

    def _emit(self, group: Group) -> None:
        if group.product is not None:
            kernel = _gemm(self.fusion, group)
            if any(instruction.op == "store" for instruction in kernel.body):
                self._call(*self._with_workspace(*_tidy(kernel, group.body.arguments)))
            return
        if group.steps:
            for body, serial in group.steps:
                self._call(_loop(body, serial=serial), body.arguments)
            return
        self._call(_loop(group.body, group.folded), group.body.arguments)

    def _with_workspace(self, kernel: Gemm, arguments: list[Value]) -> tuple[Gemm, list[Value]]:
        """The kernel with memory to rearrange its factors in, where it needs some."""
        size = workspace_bytes(kernel, Machine.host(), self.threads)
        if not size:
            return kernel, arguments
        memory = Value("workspace", (), None, (size,), np.dtype(np.uint8), -1)
        kernel = kernel._replace(workspace=len(arguments), arguments=(*kernel.arguments, memory.dtype))
        return kernel, [*arguments, memory]

    def _call(self, kernel: Kernel, arguments: list[Value]) -> None:
        kernel, arguments = _tidy(kernel, arguments)
        self.calls.append((self._known(kernel), arguments))

    def _known(self, kernel: Kernel) -> Kernel:
        """One object for all equal kernels. Constants are compared as they are written: 0.0 is not −0.0, nor 1 True."""
        constants = tuple(repr(i.value) for i in kernel.body if i.op == "constant")
        return self.kernels.setdefault((kernel, constants), kernel)

    def plan(self, replaced: Mapping[int, Value]) -> Plan:
        slots: dict[Value, int] = {}
        outputs = set(self.wanted) - self.late
        for _, arguments in self.calls:
            for value in arguments:
                slots.setdefault(value, len(slots))
        for value in self.wanted:
            slots.setdefault(value, len(slots))
        inside = [value for value in slots if value.op not in SOURCES and value not in outputs]
        final = self._copies_at_the_end(slots, replaced)
        scratch, size = self._scratch(inside, len(self.calls) + len(final))
        calls = tuple(Call(kernel, tuple(slots[value] for value in arguments)) for kernel, arguments in self.calls)
        program = Program(
            (*calls, *(call for call, _ in final)), {slots[value]: place for value, place in scratch.items()}, size,
            len(slots) + len(final), self.threads,
        )  # fmt: skip
        places = [slots[value] for value in self.wanted]
        for (_, slot), number in zip(final, replaced, strict=True):
            places[number] = slot
        sources = {value: slot for value, slot in slots.items() if value.op in SOURCES}
        values = {slot: value for value, slot in slots.items()}
        values |= {slot: self.wanted[number] for (_, slot), number in zip(final, replaced, strict=True)}
        return Plan(program, sources, places, self.in_place, self.groups, values)

    def _copies_at_the_end(self, slots: Mapping[Value, int], replaced: Mapping[int, Value]) -> list[tuple[Call, int]]:
        """Results that could not be written over their input at once are, when everything has been read."""
        final = []
        for place, number in enumerate(replaced):
            value = self.wanted[number]
            body = (
                Instruction("load", value.dtype, (), Access(0, 0, (1,))),
                Instruction("store", value.dtype, (0,), Access(1, 0, (1,))),
            )
            copy = Loop((value.size,), (), body, (value.dtype, value.dtype))
            slot = len(slots) + place
            final.append((Call(self._known(copy), (slots[value], slot)), slot))
        return final

    def _scratch(self, values: Sequence[Value], end: int) -> tuple[dict[Value, int], int]:
        """Byte offsets, first fit by first use: a place is free again after its value's last reader."""
        first: dict[Value, int] = {}
        last: dict[Value, int] = {}
        for number, (_, arguments) in enumerate(self.calls):
            for value in arguments:
                first.setdefault(value, number)
                last[value] = number
        for value in self.late:
            last[value] = end
        offsets: dict[Value, int] = {}
        busy: list[tuple[int, int, int]] = []  # offset, end, last reader
        size = 0
        for value in sorted((value for value in values if value in first), key=first.__getitem__):
            need = -(-max(value.size * value.dtype.itemsize, 1) // _ALIGNMENT) * _ALIGNMENT
            busy = [place for place in busy if place[2] >= first[value]]
            offset = 0
            for start, stop, _ in sorted(busy):
                if start - offset >= need:
                    break
                offset = max(offset, stop)
            offsets[value] = offset
            busy.append((offset, offset + need, last[value]))
            size = max(size, offset + need)
        return offsets, size


def _tidy(kernel: K, arguments: list[Value]) -> tuple[K, list[Value]]:
    """Without the arguments that only a dropped instruction read."""
    taken = {i.access.argument for i in kernel.body if i.access is not None}
    if isinstance(kernel, Gemm):
        taken |= {kernel.a.argument, kernel.b.argument}
        taken |= set() if kernel.workspace is None else {kernel.workspace}
    if len(taken) == len(arguments):
        return kernel, arguments
    used = sorted(taken)
    numbers = {old: new for new, old in enumerate(used)}

    def moved(access: Access | None) -> Access | None:
        return None if access is None else access._replace(argument=numbers[access.argument])

    changes: dict = {
        "body": tuple(i._replace(access=moved(i.access)) for i in kernel.body),
        "arguments": tuple(kernel.arguments[old] for old in used),
    }
    if isinstance(kernel, Gemm):
        changes |= {"a": moved(kernel.a), "b": moved(kernel.b)}
    return kernel._replace(**changes), [arguments[old] for old in used]  # type: ignore[return-value]


def flops(kernel: Kernel) -> int:
    """Arithmetic of a kernel: two for each product that is summed, one for each other instruction that computes."""
    work = sum(i.op not in ("load", "store", "constant", "index", "product") for i in kernel.body)
    if isinstance(kernel, Gemm):
        points = math.prod(kernel.batch) * kernel.m * kernel.n
        return points * (2 * kernel.k + work)
    return math.prod(kernel.outer) * math.prod(kernel.inner) * work


def bytes_moved(kernel: Kernel) -> int:
    """Bytes of all elements that a kernel reads and writes, each array once."""
    points = math.prod(kernel.outer) * math.prod(kernel.inner) if isinstance(kernel, Loop) else (
        math.prod(kernel.batch) * kernel.m * kernel.n
    )  # fmt: skip
    grid = kernel.outer + kernel.inner if isinstance(kernel, Loop) else (*kernel.batch, kernel.m, kernel.n)
    total = 0
    for argument, dtype in enumerate(kernel.arguments):
        touched = [i.access for i in kernel.body if i.access is not None and i.access.argument == argument]
        counts = [math.prod(n for n, s in zip(grid, a.strides, strict=True) if s) for a in touched]
        total += min(max(counts, default=0), points) * dtype.itemsize
    if isinstance(kernel, Gemm):
        total += math.prod(kernel.batch) * kernel.k * (kernel.m + kernel.n) * kernel.dtype.itemsize
    return total
