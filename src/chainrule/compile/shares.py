"""Which memory each thread's share of a call touches, and so which calls may follow one another without waiting.

A thread may go on with its share of the next call, while others are still busy with theirs of this one, if no share
reads or writes what another share writes. That is so in a recurrence over a batch: a thread has its rows of every
array, from the first step to the last. `Together` finds such calls; it knows nothing of what they compute.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from chainrule.compile import gemm_plan, loop_plan
from chainrule.compile.kernels import Access, Call, Gemm, Instruction, Kernel, Loop
from chainrule.compile.machine import Machine

_ANYWHERE = 1 << 62


class Rows(NamedTuple):
    """How memory is divided: rows lie `stride` bytes apart, and share j has those from `borders[j]` on.

    Attributes:
        low, high: where row 0 begins and ends, in bytes; `high - low` is at most `stride`.
    """

    low: int
    high: int
    stride: int
    borders: tuple[int, ...]

    def joined(self, other: Rows | None) -> Rows | None:
        """The rows with those of another division, if every row of one lies in the row of the other with its number."""
        if other is None or (self.stride, self.borders) != (other.stride, other.borders):
            return None
        low, high = min(self.low, other.low), max(self.high, other.high)
        return Rows(low, high, self.stride, self.borders) if high - low <= self.stride else None


class Touched(NamedTuple):
    """Memory that a kernel reads or writes.

    Attributes:
        argument: number of the pointer argument.
        low, high: the first byte and the one after the last, from where the pointer points.
        rows: which of it each share touches; None where that is not known, or the same for all.
        writes: whether anything is written.
    """

    argument: int
    low: int
    high: int
    rows: Rows | None
    writes: bool

    def at(self, address: int) -> Touched:
        """The same for a pointer that points there."""
        rows = self.rows and self.rows._replace(low=self.rows.low + address, high=self.rows.high + address)
        return Touched(self.argument, self.low + address, self.high + address, rows, self.writes)


class _Extents:
    """Memory that some calls touch, in pieces that do not overlap."""

    def __init__(self) -> None:
        self.pieces: list[Touched] = []  # in order

    def meets(self, added: Touched) -> bool:
        """Whether one share would meet what another share writes."""
        return any(
            (added.writes or other.writes) and (added.rows is None or added.rows.joined(other.rows) is None)
            for other in self.pieces[self._overlapping(added)]
        )

    def insert(self, added: Touched) -> None:
        """Add what a call touches; it becomes one piece with what overlaps it."""
        place = self._overlapping(added)
        for other in self.pieces[place]:
            rows = added.rows and added.rows.joined(other.rows)
            low, high = min(added.low, other.low), max(added.high, other.high)
            added = Touched(added.argument, low, high, rows, added.writes or other.writes)
        self.pieces[place] = [added]

    def _overlapping(self, touched: Touched) -> slice:
        first = bisect_right(self.pieces, touched.low, key=_high)
        return slice(first, bisect_left(self.pieces, touched.high, first, key=_low))


_low, _high = attrgetter("low"), attrgetter("high")


class Together:
    """Calls that threads go through without waiting for each other, as many as are added.

    Args:
        scratch: byte offset of each slot that lives in the program's own memory. Any two of the other slots may be the
            same memory.
    """

    def __init__(self, scratch: Mapping[int, int]) -> None:
        self._scratch = scratch
        self._inside = _Extents()
        self._outside = self._writes_outside = False

    def add(self, call: Call, touched: Iterable[Touched]) -> bool:
        """Add a call if it may follow the others without waiting.

        Args:
            call: the call.
            touched: by its kernel, see `touched_by`.

        Returns:
            Whether it was added.
        """
        scratch, places = self._scratch, list(call.places())
        inside, outside, writes = [], False, False
        for each in touched:
            slot, offset = places[each.argument]
            if slot in scratch:
                inside.append(each.at(scratch[slot] + offset))
            else:
                outside, writes = True, writes or each.writes
        if (self._outside and writes) or (self._writes_outside and outside) or any(map(self._inside.meets, inside)):
            return False
        self._outside |= outside
        self._writes_outside |= writes
        for each in inside:
            self._inside.insert(each)
        return True


def touched_by(kernel: Kernel, machine: Machine, threads: int) -> list[Touched]:
    """All that a kernel's shares touch."""
    found = _touched_by_loop if isinstance(kernel, Loop) else _touched_by_gemm
    extents: dict[int, _Extents] = defaultdict(_Extents)
    for touched in found(kernel, machine, threads):  # type: ignore[arg-type]
        extents[touched.argument].insert(touched)
    return [piece for each in extents.values() for piece in each.pieces]


def _touched_by_loop(kernel: Loop, machine: Machine, threads: int) -> Iterator[Touched]:
    plan = loop_plan.make_plan(kernel, machine)
    borders = loop_plan.borders(plan, threads)
    for step in plan.loop.body:
        if step.access is not None:
            yield _touched(step.access, plan.lengths, plan.split, borders, step)


def _touched_by_gemm(kernel: Gemm, machine: Machine, threads: int) -> Iterator[Touched]:
    if 0 in (kernel.m, kernel.n, *kernel.batch):
        return
    plan = gemm_plan.plan(kernel, machine)
    kernel, borders, axes = plan.kernel, gemm_plan.borders(plan, threads), len(plan.kernel.batch)
    of_batch = 0 if plan.split == "batch" and axes == 1 else None
    of_a = axes if plan.split == "m" else of_batch
    of_b = axes + 1 if plan.split == "n" else of_batch
    factor = Instruction("load", kernel.dtype)
    yield _touched(kernel.a, (*kernel.batch, kernel.m, kernel.k), of_a, borders, factor)
    yield _touched(kernel.b, (*kernel.batch, kernel.k, kernel.n), of_b, borders, factor)
    for step in kernel.body:
        if step.access is not None:
            split = of_a if plan.split == "m" else of_b
            yield _touched(step.access, (*kernel.batch, kernel.m, kernel.n), split, borders, step)
    if kernel.workspace is not None:
        rows = Rows(0, plan.buffer_bytes, plan.buffer_bytes, tuple(range(threads + 1)))
        yield Touched(kernel.workspace, 0, threads * plan.buffer_bytes, rows, True)


def _touched(
    access: Access, lengths: Sequence[int], split: int | None, borders: tuple[int, ...], step: Instruction
) -> Touched:
    """What a memory instruction touches at all points of a grid whose axis `split` is shared."""
    writes, size = step.op in ("store", "accumulate"), step.dtype.itemsize
    if len(step.inputs) > writes:  # a gather or a scatter
        return Touched(access.argument, -_ANYWHERE, _ANYWHERE, None, writes)
    low, high, stride = access.offset, access.offset + 1, 0
    for axis, (n, along) in enumerate(zip(lengths, access.strides, strict=True)):
        if axis == split and isinstance(along, int) and along > 0:
            stride = along
            continue
        for count, further in ((n, along),) if isinstance(along, int) else along:
            low, high = low + min((count - 1) * further, 0), high + max((count - 1) * further, 0)
    rows = Rows(low * size, high * size, stride * size, borders) if 0 < high - low <= stride else None
    last = high + max(borders[-1] - 1, 0) * stride
    return Touched(access.argument, low * size, last * size, rows, writes)
