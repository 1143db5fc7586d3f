"""`Loop` kernels as LLVM functions.

The nest of loops that `loop_plan` has decided on is built here: outer axes, their share for a thread, one pass over
the inner axes for each reduction, vectors and what is left over beside them. What an instruction computes is in
`scalars`.

A reduction has a partial result at every level of its nest: an inner loop starts afresh and is added to the loop
around it, and a long innermost loop is cut into blocks. So the rounding error of a sum grows with the number of blocks
and the length of one rather than with their product, as it does in NumPy's pairwise sum.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule.compile import ir, loop_plan, scalars
from chainrule.compile.kernels import Instruction, Loop
from chainrule.compile.lanes import Short, everywhere
from chainrule.compile.loop_plan import Plan
from chainrule.compile.machine import Machine
from chainrule.compile.scalars import FUNCTIONS, INT64, POINTER, Point, int64

#: Iterations of an innermost summing loop after which it is added to a total.
BLOCK = 128

#: A body with more instructions than this is not written twice for the sake of what is left over beside the vectors.
LARGE = 150

#: So little work for a vector is done before the accumulator is there again.
_QUICK = 4

_VOID = ir.VoidType()
_LINE = 64  # bytes that a cache fetches at once
_AHEAD = 8192  # bytes from what is computed to what is asked for meanwhile, where the processor is slow to foresee it
_AHEAD_IN_ROW = 2048  # the same for what is written, in rows of more than `_AHEAD` bytes


class _Fold(NamedTuple):
    """How a reduction combines two values, by the name of an elementwise function, and what it starts from."""

    function: str
    identity: Callable[[np.dtype], Any]


def _least(dtype: np.dtype) -> Any:
    return -math.inf if dtype.kind == "f" else False if dtype.kind == "b" else np.iinfo(dtype).min


def _greatest(dtype: np.dtype) -> Any:
    return math.inf if dtype.kind == "f" else True if dtype.kind == "b" else np.iinfo(dtype).max


_FOLDS = {
    "reduce_sum": _Fold("add", lambda dtype: 0),
    "reduce_prod": _Fold("multiply", lambda dtype: 1),
    "reduce_max": _Fold("maximum", _least),
    "reduce_min": _Fold("minimum", _greatest),
    "reduce_any": _Fold("logical_or", lambda dtype: False),
    "reduce_all": _Fold("logical_and", lambda dtype: True),
}

#: Which value is taken by the folds that compare.
_EXTREMES = {"reduce_max": ">", "reduce_min": "<"}


def emit_loop(module: ir.Module, kernel: Loop, name: str, machine: Machine) -> ir.Function:
    """Add to a module the function that runs a kernel.

    Args:
        kernel: what to compute.
        name: of the function, `void (ptr arguments, i64 thread, i64 threads)`.
        machine: what it will run on.
    """
    function = ir.Function(module, ir.FunctionType(_VOID, [POINTER, INT64, INT64]), name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    plan = loop_plan.make_plan(kernel, machine)
    if 0 not in plan.loop.outer:
        _Nest(plan, builder, machine, function).emit()
    builder.ret_void()
    return function


class _Site(NamedTuple):
    """How far into the nest we are: the index along every axis (0 along those still closed), lanes and their mask."""

    indices: tuple[ir.Value, ...]
    lanes: int = 1
    mask: ir.Value | None = None

    def at(self, axis: int, index: ir.Value, lanes: int | None = None, mask: ir.Value | None = None) -> _Site:
        """One loop further in."""
        indices = (*self.indices[:axis], index, *self.indices[axis + 1 :])
        return _Site(indices, self.lanes, self.mask) if lanes is None else _Site(indices, lanes, mask)


#: Emits what is inside a loop: given the site and what is known there, the partial result of each reduction.
_Inside = Callable[[_Site, dict[int, ir.Value]], list[ir.Value]]


#: The same for one axis, given the index along it.
_AtIndex = Callable[[ir.Value], list[ir.Value]]


class _Nest:
    """The loops of one kernel, being built."""

    def __init__(self, plan: Plan, builder: ir.IRBuilder, machine: Machine, function: ir.Function) -> None:
        self.plan = plan
        self.builder = builder
        self.body = plan.loop.body
        self.arguments, self.thread, self.threads = function.args
        self.pointers = scalars.load_pointers(builder, self.arguments, len(plan.loop.arguments))
        self.rows = {number: self._row(self.body[number]) for number in plan.kept}
        self.masks = _has_masks(plan, machine)
        self.machine = machine
        self.begin: ir.Value = int64(0)
        self.end: ir.Value = int64(0)

    def emit(self) -> None:
        """All of it, at the builder's place."""
        plan, builder = self.plan, self.builder
        site = _Site((int64(0),) * len(plan.lengths))
        if plan.split is None:
            with builder.if_then(builder.icmp_unsigned("==", self.thread, int64(0))):
                self._outer(0, site, {})
            return
        chunks = plan.lengths[plan.split]
        if plan.split == plan.axis:
            chunks = -(-chunks // plan.lanes)
        self.begin = self._share(chunks, self.thread)
        self.end = self._share(chunks, builder.add(self.thread, int64(1)))
        with builder.if_then(builder.icmp_unsigned("<", self.begin, self.end)):
            self._outer(0, site, {})

    def _share(self, chunks: int, thread: ir.Value) -> ir.Value:
        """The first chunk of a thread. 32 bits are divided several times faster than 64."""
        builder, narrow = self.builder, ir.IntType(32)
        product = builder.mul(thread, int64(chunks))
        if chunks >= 1 << 20:  # with 2048 threads, more than 32 bits
            return builder.udiv(product, self.threads)
        quotient = builder.udiv(builder.trunc(product, narrow), builder.trunc(self.threads, narrow))
        return builder.zext(quotient, INT64)

    def _row(self, step: Instruction) -> ir.Value:
        """Stack memory for the values of an instruction at all points of the inner axes, and one vector more."""
        count = self.plan.row_lanes * math.prod(self.plan.loop.inner) + self.plan.lanes
        return self.builder.alloca(ir.ArrayType(scalars.memory_type(step.dtype), count), align=64)

    def _emit(self, numbers: Sequence[int], values: dict[int, ir.Value], site: _Site) -> None:
        if numbers:
            point = Point(self.pointers, site.indices, self.plan.axis or 0, site.lanes, site.mask)
            scalars.emit_body(self.builder, self.body, values, point, numbers)

    # The outer loops ---------------------------------------------------------------------------------------------

    def _outer(self, level: int, site: _Site, values: dict[int, ir.Value]) -> None:
        plan = self.plan
        if level == plan.depth:
            self._fetch_ahead(site)
            self._passes(site, values)
            return
        self._emit([i for i, n in enumerate(plan.level) if n == level], values, site)

        def inside(site: _Site, values: dict[int, ir.Value]) -> list[ir.Value]:
            self._outer(level + 1, site, values)
            return []

        self._along(level, site, values, [], inside)

    def _passes(self, site: _Site, values: dict[int, ir.Value]) -> None:
        """Everything for one point of the outer axes (or one vector of them)."""
        plan = self.plan
        last = max(
            (stage for stage, level in zip(plan.stage, plan.level, strict=True) if level <= plan.depth), default=0
        )
        for stage in range(max(last + 1, len(plan.passes))):
            self._emit(self._outside(stage), values, site)
            if stage < len(plan.passes):
                self._pass(stage, site, values)

    def _outside(self, stage: int) -> list[int]:
        """The instructions between two passes."""
        plan = self.plan
        return [
            i
            for i, step in enumerate(self.body)
            if plan.level[i] == plan.depth and plan.stage[i] == stage and not loop_plan.is_reduction(step)
        ]

    def _pass(self, number: int, site: _Site, values: dict[int, ir.Value]) -> None:
        reductions = [i for i in self.plan.passes[number] if loop_plan.is_reduction(self.body[i])]
        if 0 in self.plan.loop.inner:
            for i in reductions:
                values[i] = self._identity(i)
            return
        partials = self._inner(self.plan.depth, number, reductions, site, values)
        in_lanes = self.plan.row_lanes > 1  # each lane is an outer point of its own
        for i, partial in zip(reductions, partials, strict=True):
            values[i] = partial if in_lanes else scalars.fold_lanes(self.builder, partial, self._combine(i))

    # The inner loops ---------------------------------------------------------------------------------------------

    def _inner(
        self, level: int, number: int, reductions: list[int], site: _Site, values: dict[int, ir.Value]
    ) -> list[ir.Value]:
        """Pass `number` from an inner axis inwards: the partial results of its reductions."""
        plan = self.plan
        if level > plan.depth:
            steps = [i for i in plan.passes[number] if plan.level[i] == level and i not in reductions]
            self._emit_kept(number, steps, values, site)
        if level == len(plan.lengths):
            self._fetch_next_row(number, site)
            return [self._contribution(i, site, values) for i in reductions]

        def inside(site: _Site, values: dict[int, ir.Value]) -> list[ir.Value]:
            return self._inner(level + 1, number, reductions, site, values)

        return self._along(level, site, values, reductions, inside)

    def _fetch_next_row(self, number: int, site: _Site) -> None:
        """In the last of several passes over a row, ask for what the first one reads and this one writes in the next.

        The first pass is often short (a maximum), and would wait for memory; the last one has work to do meanwhile.
        Where both of two rows are too much for the nearest cache, it asks later for what it writes.
        """
        plan = self.plan
        if number == 0 or number < len(plan.passes) - 1 or plan.axis != 1 or len(plan.lengths) != 2:
            return
        count, length = plan.lengths
        read = [self.body[i] for i in plan.passes[0] if self.body[i].op == "load"]
        written = [self.body[i] for i in plan.passes[number] if self.body[i].op == "store"]
        for step in read + written:
            size, access = step.dtype.itemsize, step.access
            shifted = len(step.inputs) > (step.op == "store")
            if access is None or shifted or access.strides != (length, 1):
                continue
            if 2 * length * size > self.machine.l1_bytes or count * length * size < self.machine.l2_bytes:
                continue
            is_long = step.op == "store" and length * size > _AHEAD
            self._fetch(step, site, _AHEAD_IN_ROW // size if is_long else length)

    def _fetch_ahead(self, site: _Site) -> None:
        """In a kernel that runs backwards, ask for what it will read and write in place soon."""
        plan = self.plan
        if not plan.loop.backward or plan.split is None:
            return
        for step in self.body:
            if step.op != "store" or step.access is None or step.access.strides[-1] != 1 or len(step.inputs) > 1:
                continue
            back, ahead = step.access.strides[plan.split], _AHEAD // step.dtype.itemsize
            if 0 < back <= 2 * ahead:
                self._fetch(step, site, -max(ahead // back, 1) * back)
            else:  # rows so long that what follows in this one comes first
                self._fetch(step, site, ahead)

    def _fetch(self, step: Instruction, site: _Site, further: int) -> None:
        """Ask for the memory that an instruction will reach, so many elements further than here."""
        builder, access = self.builder, step.access
        assert access is not None
        place, element = Point((), site.indices).offset(builder, access.strides), scalars.memory_type(step.dtype)
        for line in range(0, site.lanes, max(_LINE // step.dtype.itemsize, 1)):
            offset = builder.add(place, int64(access.offset + further + line))
            address = builder.gep(self.pointers[access.argument], [offset], source_etype=element)
            _prefetch(builder, address, step.op == "store")

    def _emit_kept(self, number: int, steps: list[int], values: dict[int, ir.Value], site: _Site) -> None:
        """Instructions of a pass; what an earlier pass has kept is read back, what later ones need is kept."""
        plan, builder = self.plan, self.builder
        fresh = [i for i in steps if i not in values]
        for i in fresh:
            if plan.kept.get(i, number) < number:
                dtype = self.body[i].dtype
                kind = scalars.with_lanes(scalars.scalar_type(dtype), site.lanes if plan.varies(i) else 1)
                values[i] = builder.load(self._kept(i, site), typ=kind, align=dtype.itemsize)
        self._emit(steps, values, site)
        for i in fresh:
            if plan.kept.get(i) == number:
                builder.store(values[i], self._kept(i, site), align=self.body[i].dtype.itemsize)

    def _kept(self, number: int, site: _Site) -> ir.Value:
        """The address at which the value of an instruction is kept for this point of the inner axes."""
        point = Point((), site.indices[self.plan.depth :])
        offset = point.offset(self.builder, self.plan.inner_strides()) or int64(0)
        element = scalars.memory_type(self.body[number].dtype)
        return self.builder.gep(self.rows[number], [offset], source_etype=element)

    def _contribution(self, number: int, site: _Site, values: dict[int, ir.Value]) -> ir.Value:
        """What a point (or a vector of points) adds to a reduction: nothing, where the lane is outside the grid."""
        value = values[self.body[number].inputs[0]]
        if self.plan.row_lanes > 1:
            return value
        value = scalars.spread(self.builder, value, site.lanes)
        if site.mask is None:
            return value
        return self.builder.select(site.mask, value, scalars.spread(self.builder, self._identity(number), site.lanes))

    def _identity(self, number: int) -> ir.Constant:
        step = self.body[number]
        return scalars.constant(step.dtype, _FOLDS[step.op].identity(step.dtype))

    def _combine(self, number: int) -> Callable[[ir.Value, ir.Value], ir.Value]:
        step = self.body[number]
        emit = FUNCTIONS[_FOLDS[step.op].function].emit
        return lambda x, y: emit(self.builder, step.dtype, x, y)

    def _joined(self, reductions: list[int], first: list[ir.Value], second: list[ir.Value]) -> list[ir.Value]:
        """Partial results of two parts of an axis as one."""
        result = []
        for i, x, y in zip(reductions, first, second, strict=True):
            combine = self._combine(i)
            lanes = min(scalars.lanes_of(x), scalars.lanes_of(y))
            x, y = (scalars.fold_lanes(self.builder, value, combine, lanes) for value in (x, y))
            result.append(combine(x, y))
        return result

    # One axis ----------------------------------------------------------------------------------------------------

    def _along(
        self, axis: int, site: _Site, values: dict[int, ir.Value], reductions: list[int], inside: _Inside
    ) -> list[ir.Value]:
        """What `inside` emits, at every index of an axis (of this thread's share, if it is the axis that is shared)."""
        n = self.plan.lengths[axis]
        shared = axis == self.plan.split
        if axis == self.plan.axis and self.plan.lanes > 1:
            return self._vectors(axis, n, site, values, reductions, inside)
        begin, end = (self.begin, self.end) if shared else (int64(0), int64(n))

        def at(index: ir.Value) -> list[ir.Value]:
            return inside(site.at(axis, index), dict(values))

        return self._loop(
            begin, end, 1, reductions, self._directed(axis, begin, end, 1, at), self._copies(axis, reductions)
        )

    def _directed(self, axis: int, begin: ir.Value, end: ir.Value, step: int, at: _AtIndex) -> _AtIndex:
        """`at`, from the last index to the first where the kernel is to run backwards along this axis."""
        if not self.plan.loop.backward or axis != self.plan.split:
            return at
        builder = self.builder
        both = builder.sub(builder.add(begin, end), int64(step))
        return lambda index: at(builder.sub(both, index))

    def _vectors(
        self, axis: int, n: int, site: _Site, values: dict[int, ir.Value], reductions: list[int], inside: _Inside
    ) -> list[ir.Value]:
        """Vectors along an axis, then one that is not full, or single points where the machine has no masks."""
        builder, lanes = self.builder, self.plan.lanes
        full, rest = divmod(n, lanes)
        if full == 0 and self.masks:
            return inside(site.at(axis, int64(0), lanes, _first(rest, lanes)), values)
        if n == lanes:
            return inside(site.at(axis, int64(0), lanes), values)
        masked = rest > 0 and self.masks and len(self.body) > LARGE

        def vector(index: ir.Value) -> list[ir.Value]:
            mask = self._mask(index, n) if masked else None
            return inside(site.at(axis, index, lanes, mask), dict(values))

        def left_over() -> list[ir.Value]:
            start, narrow = int64(full * lanes), loop_plan.power_of_two(rest)
            if self.masks or rest == narrow:
                return inside(site.at(axis, start, narrow, _first(rest, narrow)), dict(values))
            return self._loop(
                start, int64(n), 1, reductions, lambda index: inside(site.at(axis, index, 1), dict(values))
            )

        if axis == self.plan.split:
            begin, end = (builder.mul(chunk, int64(lanes)) for chunk in (self.begin, self.end))
            last = end if masked else self._least(end, full * lanes)
            with builder.if_then(builder.icmp_unsigned("<", begin, last)):
                self._loop(begin, last, lanes, [], self._directed(axis, begin, last, lanes, vector))
            if rest and not masked:
                with builder.if_then(builder.icmp_unsigned(">", end, int64(full * lanes))):
                    left_over()
            return []
        if masked:
            return self._loop(int64(0), int64(n), lanes, reductions, vector)
        if full == 0:
            return left_over()
        copies = self._copies(axis, reductions) if self.plan.registers == 2 else 1
        partials = self._loop(int64(0), int64(full * lanes), lanes, reductions, vector, copies)
        return self._joined(reductions, partials, left_over()) if rest else partials

    def _least(self, x: ir.Value, limit: int) -> ir.Value:
        return self.builder.select(self.builder.icmp_unsigned("<", x, int64(limit)), x, int64(limit))

    def _mask(self, index: ir.Value, n: int) -> ir.Value:
        """Which lanes from `index` on are below `n`."""
        lanes = self.plan.lanes
        narrow = ir.IntType(32)
        left = self.builder.trunc(self._least(self.builder.sub(int64(n), index), lanes), narrow)
        numbers = ir.Constant(ir.VectorType(narrow, lanes), list(range(lanes)))
        return self.builder.icmp_unsigned("<", numbers, scalars.spread(self.builder, left, lanes))

    def _copies(self, axis: int, reductions: Sequence[int]) -> int:
        """How many points of an axis have accumulators of their own, so that one need not wait for the other."""
        plan = self.plan
        if not reductions or axis != len(plan.lengths) - 1 or plan.lengths[axis] < 8:
            return 1
        (steps,) = (steps for steps in plan.passes if reductions[0] in steps)
        work = sum(loop_plan.cost(self.body[i]) for i in steps)
        return 4 if plan.registers == 1 and work <= 30 else 2 if plan.registers == 2 and work <= _QUICK else 1

    def _loop(
        self,
        begin: ir.Value,
        end: ir.Value,
        step: int,
        reductions: list[int],
        inside: _AtIndex,
        copies: int = 1,
    ) -> list[ir.Value]:
        """A loop that makes at least one turn; the partial results of its turns are combined."""
        if reductions and isinstance(begin, ir.Constant) and isinstance(end, ir.Constant):
            turns = -(-(end.constant - begin.constant) // step)
            if turns >= 2 * copies > 2:
                return self._in_copies(begin.constant, turns, step, reductions, inside, copies)
            if turns > 2 * BLOCK:
                return self._in_blocks(begin, end, step, reductions, inside)
        return self._turns(begin, end, step, reductions, inside)

    def _in_copies(
        self, begin: int, turns: int, step: int, reductions: list[int], inside: _AtIndex, copies: int
    ) -> list[ir.Value]:
        """A loop that makes several turns in one, each with accumulators of its own."""
        count, rest = len(reductions), turns % copies
        middle, end = begin + (turns - rest) * step, begin + turns * step

        def several(index: ir.Value) -> list[ir.Value]:
            indices = [index] + [self.builder.add(index, int64(i * step)) for i in range(1, copies)]
            return [partial for index in indices for partial in inside(index)]

        totals = self._loop(int64(begin), int64(middle), step * copies, reductions * copies, several)
        parts = [totals[i : i + count] for i in range(0, len(totals), count)]
        if rest:
            parts.append(self._turns(int64(middle), int64(end), step, reductions, inside))
        return functools.reduce(functools.partial(self._joined, reductions), parts)

    def _in_blocks(
        self, begin: ir.Constant, end: ir.Constant, step: int, reductions: list[int], inside: _AtIndex
    ) -> list[ir.Value]:
        """A long loop as a loop over blocks, or over blocks of blocks."""
        length = step * BLOCK

        def block(start: ir.Value) -> list[ir.Value]:
            stop = self._least(self.builder.add(start, int64(length)), end.constant)
            return self._turns(start, stop, step, reductions, inside)

        return self._loop(begin, end, length, reductions, block)

    def _turns(
        self, begin: ir.Value, end: ir.Value, step: int, reductions: list[int], inside: _AtIndex
    ) -> list[ir.Value]:
        builder = self.builder
        before, block, done = builder.block, *(builder.append_basic_block(name) for name in ("loop", "done"))
        builder.branch(block)
        builder.position_at_end(block)
        index = builder.phi(INT64)
        partials = inside(index)
        latch = builder.block
        builder.position_at_start(block)
        folds = [self._folding(i, partial) for i, partial in zip(reductions, partials, strict=True)]
        accumulators = [[builder.phi(start.type) for start in fold.starts] for fold in folds]
        builder.position_at_end(latch)
        totals = []
        for fold, before_it, partial in zip(folds, accumulators, partials, strict=True):
            after_it = fold.joined([*before_it], partial)
            for phi, start, after in zip(before_it, fold.starts, after_it, strict=True):
                phi.add_incoming(start, before)
                phi.add_incoming(after, builder.block)
            totals.append((fold, after_it))
        following = builder.add(index, int64(step), flags=("nuw", "nsw"))
        index.add_incoming(begin, before)
        index.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_unsigned("<", following, end), block, done)
        builder.position_at_end(done)
        return [fold.total(values) for fold, values in totals]

    def _folding(self, number: int, partial: ir.Value) -> _Folding:
        """How a loop folds a reduction whose turns give such values."""
        step, start = self.body[number], _everywhere(self._identity(number), partial)
        if step.op in _EXTREMES and step.dtype.kind == "f" and scalars.lanes_of(partial) > 1:
            return _extreme(self.builder, _EXTREMES[step.op], start, self.plan.row_lanes == 1)
        combine = self._combine(number)
        return _Folding((start,), lambda before, value: [combine(before[0], value)], lambda values: values[0])


class _Folding(NamedTuple):
    """How a loop folds values: the accumulators' first values, what a value makes of them, and the result at last."""

    starts: tuple[ir.Constant, ...]
    joined: Callable[[list[ir.Value], ir.Value], list[ir.Value]]
    total: Callable[[list[ir.Value]], ir.Value]


def _extreme(builder: ir.IRBuilder, better: str, start: ir.Constant, as_one: bool) -> _Folding:
    """The largest or smallest of vectors, in two or three instructions on each rather than four.

    The extreme of all that is a number is one accumulator. The other tells where something was not a number: two
    numbers that cannot be compared. If all lanes are folded into one `as_one`, a comparison is of both halves' lanes.
    """
    count = scalars.lanes_of(start)
    half = count // 2 if as_one else count
    none = Short(ir.VectorType(ir.IntType(1), half), "zeroinitializer")

    def joined(before: list[ir.Value], value: ir.Value) -> list[ir.Value]:
        extreme, unordered = before
        first, second = (scalars.take_lanes(builder, value, range(at, at + half)) for at in (0, count - half))
        is_better = builder.fcmp_ordered(better, value, extreme)
        return [
            builder.select(is_better, value, extreme),
            builder.or_(unordered, builder.fcmp_unordered("uno", first, second)),
        ]

    def total(values: list[ir.Value]) -> ir.Value:
        extreme, unordered = values
        nan = everywhere(start.type, ir.Constant(start.type.element, math.nan))
        return builder.select(scalars.take_lanes(builder, unordered, [i % half for i in range(count)]), nan, extreme)

    return _Folding((start, none), joined, total)


def _prefetch(builder: ir.IRBuilder, address: ir.Value, to_write: bool) -> None:
    name, narrow = "llvm.prefetch.p0", ir.IntType(32)
    function = builder.module.globals.get(name)
    if function is None:
        kind = ir.FunctionType(_VOID, [POINTER, narrow, narrow, narrow])
        function = ir.Function(builder.module, kind, name)
    access, into_the_nearest, data = (ir.Constant(narrow, number) for number in (int(to_write), 3, 1))
    builder.call(function, [address, access, into_the_nearest, data])


def _everywhere(value: ir.Constant, like: ir.Value) -> ir.Constant:
    lanes = scalars.lanes_of(like)
    return value if lanes == 1 else everywhere(like.type, value)


def _first(count: int, lanes: int) -> ir.Constant | None:
    """The mask of the first `count` of some lanes; None if that is all of them."""
    return (
        None if count == lanes else ir.Constant(ir.VectorType(ir.IntType(1), lanes), [i < count for i in range(lanes)])
    )


def _has_masks(plan: Plan, machine: Machine) -> bool:
    """Whether the machine loads and stores some lanes of a vector in one instruction, for all dtypes in memory."""
    if machine.vector_bits == 512:
        return True
    sizes = {step.dtype.itemsize for step in plan.loop.body if step.access is not None}
    return machine.vector_bits == 256 and sizes <= {4, 8}
