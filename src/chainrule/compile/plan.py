"""The plan: groups in their final order, each as a kernel, and where in memory everything is.

Results that replace an input (a parameter after its update) are written over it where no kernel can still want the
old value; kernels are moved back for that if nothing waits for them. What lives only between kernels shares one
scratch memory: a place is used again when its last reader is done.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from typing import NamedTuple, TypeVar

import numpy as np

from chainrule.compile.factors import product_axes, with_fewest_axes
from chainrule.compile.fuse import SOURCES, Body, Fusion, Group, fused
from chainrule.compile.gemm import workspace_bytes
from chainrule.compile.graph import Graph, Value, reachable
from chainrule.compile.kernels import Access, Call, Gemm, Instruction, Kernel, Loop, Program
from chainrule.compile.machine import Machine
from chainrule.compile.places import flat

_ALIGNMENT = 64

K = TypeVar("K", bound=Kernel)


#: Below this many operations a program is done before a second thread could help.
_WORTH_THREADS = 400_000


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
    fusion = fused(graph, wanted)
    order = _Order(fusion)
    in_place = {number for number, source in replaced.items() if order.write_over(wanted[number], source)}
    groups = order.sorted()
    _store_what_is_read(fusion, groups)
    late = [number for number in replaced if number not in in_place]
    return _Memory(fusion, groups, wanted, in_place, late, threads).plan({n: replaced[n] for n in late})


def total_flops(planned: Plan) -> int:
    """How many arithmetic operations a run of the program takes."""
    return sum(flops(call.kernel) for call in planned.program.calls)


def is_short(outputs: Sequence[Value]) -> bool:
    """Whether what `outputs` are made by is most likely done before a second thread could help."""
    return sum(_least_flops(value) for value in reachable(outputs)) < _WORTH_THREADS


def _least_flops(value: Value) -> int:
    if value.op in SOURCES:
        return 0
    return value.size * 2 * value.inputs[0].shape[-1] if value.op == "matmul" else value.size


def unshared_if_short(planned: Plan) -> Plan:
    """The same on one thread, if that is done before a second one could help."""
    if total_flops(planned) >= _WORTH_THREADS:
        return planned
    return planned._replace(program=planned.program._replace(threads=1))


def _distinct(graph: Graph, outputs: Sequence[Value]) -> list[Value]:
    """One value in memory for each output: copies of inputs, and of what is wanted twice.

    What an output is a reshaped view of has its elements in its order, and is made where the output is wanted.
    """
    seen: set[Value] = set()
    wanted = []
    for value in outputs:
        while value.op == "reshape" and value.inputs[0].op not in SOURCES:
            value = value.inputs[0]
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
        if group.in_memory or not _reads_where_it_writes(self.fusion, group, output, source):
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
    if group.product is not None and any(fusion.factor(group.product, i)[0] is source for i in (0, 1)):
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
            if value in wanted and not group.in_memory:
                map = body.computed[value]
                body.store(value, body.number(value, map), map)


# Kernels -------------------------------------------------------------------------------------------------------------


def _without(places: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    return tuple(places[i] for i in order)


def _reordered(body: Sequence[Instruction], order: Sequence[int]) -> tuple[Instruction, ...]:
    """The body for a grid whose axes are in another order."""
    if order == sorted(order):
        return tuple(body)
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
    axes = product_axes(product)
    accesses = []
    for number in (0, 1):
        source, (offset, along) = fusion.factor(product, number)
        accesses.append(Access(body.argument(fusion.roots.home(source).memory), offset, along))
    m, n = product.shape[-2:]
    kernel = Gemm(
        axes.batch, m, n, product.inputs[0].shape[-1], product.dtype, accesses[0], accesses[1],
        _live(body.instructions), tuple(value.dtype for value in body.arguments),
    )  # fmt: skip
    return with_fewest_axes(kernel, axes)


def _live(instructions: Sequence[Instruction]) -> tuple[Instruction, ...]:
    """Only those that something stored depends on; trials of fusion may have left others."""
    needed: set[int] = set()
    for number in range(len(instructions) - 1, -1, -1):
        instruction = instructions[number]
        if instruction.op in ("store", "accumulate") or number in needed:
            needed.add(number)
            needed.update(instruction.inputs)
    if len(needed) == len(instructions):
        return tuple(instructions)
    numbers = {old: new for new, old in enumerate(sorted(needed))}
    return tuple(
        [instructions[old]._replace(inputs=tuple([numbers[i] for i in instructions[old].inputs])) for old in numbers]
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
        self.calls: list[tuple[Kernel, list[Value], tuple[int, ...]]] = []
        self.loops: list[tuple[int, Group]] = []
        self.kernels: dict[tuple[Kernel, tuple[str, ...]], Kernel] = {}
        for group in groups:
            self._emit(group)

    def _emit(self, group: Group) -> None:
        if group.product is not None:
            kernel = _gemm(self.fusion, group)
            if any(instruction.op == "store" for instruction in kernel.body):
                self._call(kernel, group.body.arguments)
            return
        if group.in_memory:
            for body, serial in group.steps:
                self._call(_loop(body, serial=serial), body.arguments)
            return
        self.loops.append((len(self.calls), group))
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
        kernel, offsets = _from_zero(kernel)
        if isinstance(kernel, Gemm):
            kernel, arguments = self._with_workspace(kernel, arguments)
        self.calls.append((self._known(kernel), arguments, offsets))

    def _known(self, kernel: Kernel) -> Kernel:
        """One object for all equal kernels. Constants are compared as they are written: 0.0 is not −0.0, nor 1 True."""
        constants = tuple(repr(i.value) for i in kernel.body if i.op == "constant")
        return self.kernels.setdefault((kernel, constants), kernel)

    def plan(self, replaced: Mapping[int, Value]) -> Plan:
        slots: dict[Value, int] = {}
        outputs = set(self.wanted) - self.late
        beneath = self._beneath(outputs)
        for value in [value for _, arguments, _ in self.calls for value in arguments] + self.wanted:
            slots.setdefault(beneath.get(value, value), len(slots))
        inside = [value for value in slots if value.op not in SOURCES and value not in outputs]
        slots |= {value: slots[output] for value, output in beneath.items()}
        final = self._copies_at_the_end(slots, replaced)
        scratch, size = self._scratch(inside, len(self.calls) + len(final))
        calls = tuple(
            Call(kernel, tuple([slots[value] for value in arguments]), offsets)
            for kernel, arguments, offsets in self.calls
        )
        program = Program(
            (*calls, *(call for call, _ in final)), {slots[value]: place for value, place in scratch.items()}, size,
            len(slots) - len(beneath) + len(final), self.threads,
        )  # fmt: skip
        places = [slots[value] for value in self.wanted]
        for (_, slot), number in zip(final, replaced, strict=True):
            places[number] = slot
        sources = {value: slot for value, slot in slots.items() if value.op in SOURCES}
        values = {slot: value for value, slot in slots.items() if value not in beneath}
        values |= {slot: self.wanted[number] for (_, slot), number in zip(final, replaced, strict=True)}
        return Plan(program, sources, places, self.in_place, self.groups, values)

    def _copies_at_the_end(self, slots: Mapping[Value, int], replaced: Mapping[int, Value]) -> list[tuple[Call, int]]:
        """Results that could not be written over their input at once are, when everything has been read."""
        final = []
        first = max(slots.values(), default=-1) + 1
        for place, number in enumerate(replaced):
            value = self.wanted[number]
            body = (
                Instruction("load", value.dtype, (), Access(0, 0, (1,))),
                Instruction("store", value.dtype, (0,), Access(1, 0, (1,))),
            )
            copy = Loop((value.size,), (), body, (value.dtype, value.dtype))
            slot = first + place
            final.append((Call(self._known(copy), (slots[value], slot)), slot))
        return final

    def _beneath(self, outputs: set[Value]) -> dict[Value, Value]:
        """Values that lie where an output will: the loop that reads them last writes it over them, element by element.

        What is in the caches already need not be fetched, and the program's own memory is smaller.
        """
        free = outputs - {self.wanted[number] for number in self.in_place}
        last = {value: number for number, (_, arguments, _) in enumerate(self.calls) for value in arguments}
        found: dict[Value, Value] = {}
        for number, group in self.loops:
            for output in free.intersection(group.made):
                for value in group.body.loads:
                    inside = value.op not in SOURCES and value not in outputs and value not in self.late
                    alone = all(self.fusion.roots.home(x).memory is x for x in (value, output))
                    same = value.size == output.size and value.dtype.itemsize == output.dtype.itemsize
                    if (
                        inside
                        and alone
                        and same
                        and last[value] == number
                        and value not in found
                        and _reads_where_it_writes(self.fusion, group, output, value)
                    ):
                        found[value] = output
                        self._run_backward(number, value)
                        break
        return found

    def _run_backward(self, number: int, value: Value) -> None:
        """Let a loop begin where the large array it reads was made last: that end of it is still in the caches."""
        kernel, arguments, offsets = self.calls[number]
        if isinstance(kernel, Loop) and value.size * value.dtype.itemsize > Machine.host().l2_bytes:
            self.calls[number] = (self._known(kernel._replace(backward=True)), arguments, offsets)

    def _scratch(self, values: Sequence[Value], end: int) -> tuple[dict[Value, int], int]:
        """Byte offsets, first fit by first use: a place is free again after its value's last reader."""
        first: dict[Value, int] = {}
        last: dict[Value, int] = {}
        for number, (_, arguments, _) in enumerate(self.calls):
            for value in arguments:
                first.setdefault(value, number)
                last[value] = number
        for value in self.late:
            last[value] = end
        offsets: dict[Value, int] = {}
        gaps = [(0, math.inf)]  # what is free, in order
        busy: list[tuple[int, int, int]] = []  # last reader, offset, end: the one to be free soonest first
        size = 0
        for value in sorted((value for value in values if value in first), key=first.__getitem__):
            while busy and busy[0][0] < first[value]:
                _, start, end = heappop(busy)
                _make_free(gaps, start, end)
            need = -(-max(value.size * value.dtype.itemsize, 1) // _ALIGNMENT) * _ALIGNMENT
            place, (offset, stop) = next((i, gap) for i, gap in enumerate(gaps) if gap[1] - gap[0] >= need)
            gaps[place : place + 1] = [(offset + need, stop)] if offset + need < stop else []
            offsets[value] = offset
            heappush(busy, (last[value], offset, offset + need))
            size = max(size, offset + need)
        return offsets, size


def _make_free(gaps: list[tuple[int, float]], start: int, end: float) -> None:
    """Add to free places, which are in order, one that was taken; neighbours become one."""
    place = bisect_left(gaps, (start, end))
    if place < len(gaps) and gaps[place][0] == end:
        end = gaps.pop(place)[1]
    if place and gaps[place - 1][1] == start:
        start = gaps.pop(place - 1)[0]
        place -= 1
    gaps.insert(place, (start, end))


def _accesses(kernel: Kernel) -> list[Access]:
    """All places that a kernel reads and writes."""
    factors = [kernel.a, kernel.b] if isinstance(kernel, Gemm) else []
    return factors + [i.access for i in kernel.body if i.access is not None]


def _with_accesses(kernel: K, change: Callable[[Access], Access]) -> K:
    """The kernel with every access changed."""
    body = tuple(
        [
            i if i.access is None else Instruction(i.op, i.dtype, i.inputs, change(i.access), i.value)
            for i in kernel.body
        ]
    )
    if isinstance(kernel, Gemm):
        return kernel._replace(body=body, a=change(kernel.a), b=change(kernel.b))
    return kernel._replace(body=body)


def _from_zero(kernel: K) -> tuple[K, tuple[int, ...]]:
    """The kernel with each argument's first offset taken away, and these offsets in bytes; () where all are 0."""
    first: dict[int, int] = {}
    for access in _accesses(kernel):
        first[access.argument] = min(access.offset, first.get(access.argument, access.offset))
    if not any(first.values()):
        return kernel, ()
    moved = _with_accesses(
        kernel, lambda access: Access(access.argument, access.offset - first[access.argument], access.strides)
    )
    return moved, tuple([first.get(number, 0) * dtype.itemsize for number, dtype in enumerate(kernel.arguments)])


def _tidy(kernel: K, arguments: list[Value]) -> tuple[K, list[Value]]:
    """Without the arguments that only a dropped instruction read."""
    used = sorted({access.argument for access in _accesses(kernel)})
    if len(used) == len(arguments):
        return kernel, arguments
    numbers = {old: new for new, old in enumerate(used)}
    moved = _with_accesses(kernel, lambda access: access._replace(argument=numbers[access.argument]))
    dtypes = tuple([kernel.arguments[old] for old in used])
    return moved._replace(arguments=dtypes), [arguments[old] for old in used]  # type: ignore[return-value]


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
