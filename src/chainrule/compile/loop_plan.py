"""How a `Loop` kernel will be run: the order of its axes, which one is vectorised, in how many passes.

What lives here is decided from the description alone; `loops` turns the decisions into LLVM code.

An instruction sits at the deepest loop whose index it depends on, so what does not change in a loop is computed before
it. Instructions that depend on inner axes are computed in each pass that needs them; expensive ones are kept in a row
on the stack instead, where that is small.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from chainrule.compile.kernels import Access, Instruction, Loop
from chainrule.compile.machine import Machine

#: Bytes of stack that the kept rows of one kernel may take.
ROW_BYTES = 32 << 10

_EXPENSIVE = {
    **dict.fromkeys(("divide", "sqrt"), 8),
    **dict.fromkeys(("exp", "exp2", "log", "log2", "log10", "sin", "cos", "tanh", "cbrt"), 16),
    **dict.fromkeys(("expm1", "log1p", "atan", "asin", "acos", "hypot", "erf", "sinh", "cosh"), 25),
    **dict.fromkeys(("tan", "atan2", "erfc", "asinh", "acosh", "atanh", "logaddexp"), 30),
    **dict.fromkeys(("pow", "floor_divide", "remainder"), 40),
}
_WRITES = ("store", "accumulate")


def is_reduction(step: Instruction) -> bool:
    """Whether an instruction folds its input over the inner axes."""
    return step.op.startswith("reduce_")


# Axes --------------------------------------------------------------------------------------------------------


def _accesses(body: Sequence[Instruction]) -> Iterator[Access]:
    return (step.access for step in body if step.access is not None)


def _with_axes(loop: Loop, outer: list[int], inner: list[int]) -> Loop:
    """The kernel with only the numbered axes, in that order."""
    order = outer + inner
    lengths = loop.outer + loop.inner
    if order == list(range(len(lengths))):
        return loop
    body = tuple(
        step._replace(
            access=None if step.access is None else step.access._replace(strides=_pick(step.access.strides, order)),
            value=order.index(step.value) if step.op == "index" else step.value,
        )
        for step in loop.body
    )
    return loop._replace(outer=_pick(lengths, outer), inner=_pick(lengths, inner), body=body)


def _pick(row: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    return tuple(row[i] for i in order)


def _without_single(loop: Loop) -> Loop:
    """The kernel without axes of length 1."""
    lengths = loop.outer + loop.inner
    if 1 not in lengths:
        return loop
    zero = tuple(
        step._replace(op="constant", value=0) if step.op == "index" and lengths[step.value] == 1 else step
        for step in loop.body
    )
    long = [i for i, n in enumerate(lengths) if n != 1]
    split = len(loop.outer)
    return _with_axes(loop._replace(body=zero), [i for i in long if i < split], [i for i in long if i >= split])


def _by_stride(loop: Loop) -> Loop:
    """The kernel with its axes sorted from far to near in memory, what is written first."""
    written = [step.access for step in loop.body if step.op in _WRITES and step.access is not None]
    accesses = written + [step.access for step in loop.body if step.op == "load" and step.access is not None]

    def distance(axis: int) -> list[int]:
        return [-abs(access.strides[axis]) for access in accesses]

    split = len(loop.outer)
    axes = range(split + len(loop.inner))
    return _with_axes(loop, sorted(axes[:split], key=distance), sorted(axes[split:], key=distance))


def _merged(loop: Loop) -> Loop:
    """The kernel with neighbouring axes made one where every access steps through both as through one."""
    lengths = list(loop.outer + loop.inner)
    indexed = {step.value for step in loop.body if step.op == "index"}
    accesses = list(_accesses(loop.body))
    split = len(loop.outer)
    kept: list[int] = []
    for axis in range(len(lengths)):
        before = kept[-1] if kept else None
        if (
            before is not None
            and (before < split) == (axis < split)
            and not {before, axis} & indexed
            and all(a.strides[before] == a.strides[axis] * lengths[axis] for a in accesses)
        ):
            lengths[axis] *= lengths[before]
            kept.pop()
        kept.append(axis)
    merged = loop._replace(outer=tuple(lengths[:split]), inner=tuple(lengths[split:]))
    return _with_axes(merged, [i for i in kept if i < split], [i for i in kept if i >= split])


def _forwarded(loop: Loop) -> Loop:
    """The kernel with loads of what was just stored to the same place replaced by the value itself."""
    stored: dict[tuple[Access | None, np.dtype], int] = {}
    same: dict[int, int] = {}
    body = []
    for number, step in enumerate(loop.body):
        if same:
            step = step._replace(inputs=tuple(same.get(i, i) for i in step.inputs))
        if step.op in _WRITES and step.access is not None:
            argument = step.access.argument
            stored = {key: value for key, value in stored.items() if key[0] and key[0].argument != argument}
            if step.op == "store" and len(step.inputs) == 1:
                stored[step.access, step.dtype] = step.inputs[0]
        elif step.op == "load" and not step.inputs and (step.access, step.dtype) in stored:
            same[number] = stored[step.access, step.dtype]
        body.append(step)
    return loop._replace(body=tuple(body))


def normalized(loop: Loop) -> Loop:
    """An equal kernel with as few axes as possible, ordered from far to near in memory (a serial one as it was)."""
    loop = _without_single(_forwarded(loop))
    return _merged(loop if loop.serial else _by_stride(loop))


# Variation and cost ------------------------------------------------------------------------------------------


def variation(loop: Loop) -> list[frozenset[int]]:
    """The axes that each instruction depends on."""
    split, count = len(loop.outer), len(loop.outer) + len(loop.inner)
    inner = frozenset(range(split, count))
    result: list[frozenset[int]] = []
    for step in loop.body:
        axes = frozenset().union(*(result[i] for i in step.inputs))
        if step.op == "index":
            axes = frozenset([step.value])
        if step.access is not None:
            axes |= {axis for axis, stride in enumerate(step.access.strides) if stride}
        if step.op == "accumulate":  # counts each time
            axes |= set(range(split)) | (inner if axes & inner else frozenset())
        result.append(axes - inner if is_reduction(step) else axes)
    return result


def cost(step: Instruction) -> int:
    """Roughly the cycles that an instruction takes on a vector."""
    return _EXPENSIVE.get(step.op, 1)


def _cost_along(loop: Loop, axes: list[frozenset[int]], axis: int, lanes: int) -> float:
    """Roughly the cycles a point takes where `axis` is vectorised."""
    lengths = loop.outer + loop.inner
    total = 0.0
    reductions = 0
    for step, varies in zip(loop.body, axes, strict=True):
        if is_reduction(step):
            reductions += 1
        if step.access is not None:
            shifted = step.inputs[0 if step.op == "load" else 1 :]
            scattered = any(axis in axes[i] for i in shifted) or step.access.strides[axis] not in (0, 1, -1)
            total += 1.5 * lanes if scattered else 1.0 if step.access.strides[axis] else 0.3
        else:
            total += cost(step) if axis in varies else 0.3
    n = lengths[axis]
    total *= math.ceil(n / lanes) / n
    if axis >= len(loop.outer):
        total += 12 * reductions / math.prod(loop.inner)
    return total


def _can_vectorize(loop: Loop, axes: list[frozenset[int]], axis: int) -> bool:
    """Whether points along `axis` may be computed together: no, where one must see what another has stored."""
    written = [step.access.argument for step in loop.body if step.op in _WRITES and step.access is not None]
    if not loop.serial:
        return True
    read = {step.access.argument for step in loop.body if step.op == "load" and step.access is not None}
    if axis != len(loop.outer) + len(loop.inner) - 1 or len(set(written)) < len(written) or read & set(written):
        return False
    shifts = [i for step in loop.body if step.op == "accumulate" for i in step.inputs[1:]]
    return not any(axis in axes[i] for i in shifts)


def _native_lanes(loop: Loop, machine: Machine) -> int:
    """Lanes of the widest float dtype computed with, or of the widest dtype in memory if there is no float."""
    floats = [step.dtype.itemsize for step in loop.body if step.dtype.kind == "f"]
    sizes = floats or [step.dtype.itemsize for step in loop.body if step.access is not None] or [8]
    return max(machine.vector_bits // (8 * max(sizes)), 1)


def power_of_two(n: int) -> int:
    """The least power of two that is not below n."""
    return 1 << (n - 1).bit_length()


def _lanes(loop: Loop, axis: int, native: int) -> int:
    """How many lanes to compute at once: several registers, where there is little to do with each.

    Several registers are several accumulators too, which hide the time that one addition waits for the last.
    """
    n = (loop.outer + loop.inner)[axis]
    if n <= native:
        return power_of_two(n)
    work = sum(cost(step) for step in loop.body if step.op not in ("constant", "index"))
    reduces = any(map(is_reduction, loop.body))
    registers = 4 if work <= (12 if reduces else 6) else 2 if work <= (60 if reduces else 20) else 1
    if axis >= len(loop.outer) and n <= 4 * native and work <= 60:
        return power_of_two(n)  # a whole row at once: no loop, and all passes share its values
    return native * min(registers, 1 << ((n // native).bit_length() - 1))


# Passes ------------------------------------------------------------------------------------------------------


@dataclass
class Plan:
    """What `loops` needs to know of a kernel.

    Attributes:
        loop: the kernel, normalised, its vectorised axis the last of the outer or of the inner ones (but for a tile).
        axis: the vectorised axis; None if there is none.
        lanes: how many points along it are computed at once.
        registers: how many vector registers that takes.
        split: the outer axis that is shared among threads; None if one thread does all.
        axes: of each instruction, the axes it depends on.
        level: of each instruction, how many loops are around it.
        stage: of each instruction, how many passes must have been made before it.
        passes: of each pass, the numbers of the instructions with inner axes that are computed in it.
        kept: numbers of the instructions whose values are kept for later passes, and the pass that computes them.
    """

    loop: Loop
    axis: int | None
    lanes: int
    registers: int
    split: int | None
    axes: list[frozenset[int]]
    level: list[int]
    stage: list[int] = field(default_factory=list)
    passes: list[list[int]] = field(default_factory=list)
    kept: dict[int, int] = field(default_factory=dict)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Lengths of all axes."""
        return self.loop.outer + self.loop.inner

    @property
    def depth(self) -> int:
        """How many outer loops there are."""
        return len(self.loop.outer)

    @property
    def row_lanes(self) -> int:
        """How many values of one instruction a point of the inner axes has."""
        return self.lanes if self.axis is not None and self.axis < self.depth else 1

    def varies(self, number: int) -> bool:
        """Whether the value of an instruction differs from lane to lane."""
        return self.axis in self.axes[number]

    def inner_strides(self) -> tuple[int, ...]:
        """Strides of the inner axes in a kept row."""
        inner = self.loop.inner
        return tuple(self.row_lanes * math.prod(inner[i + 1 :]) for i in range(len(inner)))


def make_plan(loop: Loop, machine: Machine) -> Plan:
    """Decide how a kernel is run on a machine."""
    loop = normalized(loop)
    axes = variation(loop)
    native = _native_lanes(loop, machine)
    axis = _best_axis(loop, axes, native)
    if axis is not None:
        split = len(loop.outer)
        outer = [i for i in range(split) if i != axis] + [axis] * (axis < split)
        inner = [i for i in range(split, split + len(loop.inner)) if i != axis] + [axis] * (axis >= split)
        loop = _with_axes(loop, outer, inner)
        axes = variation(loop)
        axis = (outer + inner).index(axis)
        loop, axis = _tiled(loop, axis)
        axes = variation(loop)
    lanes = 1 if axis is None else _lanes(loop, axis, native)
    level = [1 + max(varies, default=-1) for varies in axes]
    plan = Plan(loop, axis, lanes, max(lanes // native, 1), None, axes, level)
    plan.split = _split(plan)
    _schedule(plan)
    return plan


def _best_axis(loop: Loop, axes: list[frozenset[int]], native: int) -> int | None:
    candidates = [a for a in range(len(loop.outer) + len(loop.inner)) if _can_vectorize(loop, axes, a)]
    if native == 1 or not candidates or 0 in loop.outer + loop.inner:
        return None
    costs = {axis: _cost_along(loop, axes, axis, native) for axis in reversed(candidates)}
    best = min(costs, key=costs.__getitem__)
    scalar = float(sum(cost(step) for step in loop.body if step.op not in ("constant", "index")))
    return best if costs[best] < scalar else None


def _tiled(loop: Loop, axis: int) -> tuple[Loop, int]:
    """The kernel with a few steps of another axis inside the vectorised one, and that one's new number.

    Where an array lies across the vectors, as in a transposition, each lane is in a cache line of its own; the steps
    inside use up these lines while they are near.
    """
    across = [access for access in _accesses(loop.body) if access.strides[axis] not in (0, 1, -1)]
    indexed = {step.value for step in loop.body if step.op == "index"}
    for other in range(len(loop.outer)):
        near = other not in indexed and other != axis and any(access.strides[other] == 1 for access in across)
        tile = max((n for n in range(4, 17) if loop.outer[other] % n == 0), default=0)
        if near and tile and not loop.inner and not loop.serial and loop.outer[other] > tile:
            return _cut(loop, other, tile), axis
    return loop, axis


def _cut(loop: Loop, axis: int, length: int) -> Loop:
    """The kernel, without inner axes, with the last steps of an axis as a new last axis of some length."""
    outer = tuple(n // length if i == axis else n for i, n in enumerate(loop.outer))

    def strides(access: Access) -> tuple[int, ...]:
        near = access.strides[axis]
        return (*(near * length if i == axis else stride for i, stride in enumerate(access.strides)), near)

    body = tuple(
        step if step.access is None else step._replace(access=step.access._replace(strides=strides(step.access)))
        for step in loop.body
    )
    return loop._replace(outer=(*outer, length), body=body)


def _split(plan: Plan) -> int | None:
    """The outermost axis that is long enough to be shared fairly, or else the one with most chunks."""
    if plan.loop.serial:
        return None
    chunks = [math.ceil(n / plan.lanes) if axis == plan.axis else n for axis, n in enumerate(plan.loop.outer)]
    fair = [axis for axis, n in enumerate(chunks) if n >= 16]
    return fair[0] if fair else max(range(len(chunks)), key=chunks.__getitem__, default=None)


def borders(plan: Plan, threads: int) -> tuple[int, ...]:
    """Where along the axis that is shared each thread's part begins, and the last one ends; (0,) if none is shared."""
    if plan.split is None:
        return (0,)
    n, step = plan.lengths[plan.split], plan.lanes if plan.split == plan.axis else 1
    chunks = -(-n // step)
    return tuple(min(thread * chunks // threads * step, n) for thread in range(threads + 1))


def _schedule(plan: Plan) -> None:
    """Find the stage of each instruction and what each pass computes.

    A store moves to a later pass if one before it still reads what it overwrites.

    Raises:
        ValueError: if that cannot be, because something is to be read back between the two.
    """
    body = plan.loop.body
    least = [0] * len(body)
    while True:
        if max(least, default=0) > len(body):
            raise ValueError("a kernel reads back what it has stored, and then what was there before: split it in two")
        plan.stage = _stages(plan, least)
        last = max((plan.stage[i] for i, step in enumerate(body) if _is_sink(plan, i)), default=-1)
        plan.kept = {}
        plan.passes = [_needed(plan, number) for number in range(last + 1)]
        if not plan.passes:  # straight-line code, thousands of instructions long
            break
        late = [(i, n) for i in range(len(body)) if body[i].op in _WRITES for n in [_last_reader(plan, i)]]
        late = [(i, n) for i, n in late if n > plan.stage[i]]
        if not late:
            break
        for i, n in late:
            least[i] = n
    for number, step in enumerate(body):
        if plan.level[number] <= plan.depth and (plan.stage[number] or is_reduction(step)):
            plan.level[number] = plan.depth  # there is no coming back to an outer loop after a pass
    _keep_rows(plan)


def _is_sink(plan: Plan, number: int) -> bool:
    """Whether an instruction is a reason to run through the inner axes."""
    step = plan.loop.body[number]
    return is_reduction(step) or (step.op in _WRITES and plan.level[number] > plan.depth)


def _one_argument(a: Instruction, b: Instruction) -> bool:
    """Whether two instructions reach for the same argument."""
    return a.access is not None and b.access is not None and a.access.argument == b.access.argument


def _same_memory(a: Instruction, b: Instruction) -> bool:
    """Whether two accesses may meet: in one argument, or in the same way in two (an update in place)."""
    return _one_argument(a, b) or (a.access is not None and b.access is not None and a.access[1:] == b.access[1:])


def _stages(plan: Plan, least: list[int]) -> list[int]:
    """How many passes come before each instruction (of a reduction: before the pass that folds it)."""
    body, stages = plan.loop.body, list(least)
    for number, step in enumerate(body):
        for i in step.inputs:
            stages[number] = max(stages[number], stages[i] + is_reduction(body[i]))
        if step.op == "load":
            for i in range(number):
                if body[i].op in _WRITES and _one_argument(body[i], step):
                    after = plan.level[i] > plan.depth
                    stages[number] = max(stages[number], stages[i] + after)
    return stages


def _needed(plan: Plan, number: int) -> list[int]:
    """What a pass computes: its sinks and what they are made of, as far as it is not there already."""
    body = plan.loop.body
    wanted: set[int] = set()
    stack = [i for i in range(len(body)) if _is_sink(plan, i) and plan.stage[i] == number]
    sinks = set(stack)
    while stack:
        i = stack.pop()
        if i in wanted or (i not in sinks and (is_reduction(body[i]) or plan.level[i] <= plan.depth)):
            continue
        wanted.add(i)
        if plan.kept.get(i, number) == number:
            stack += body[i].inputs
    return sorted(wanted)


def _last_reader(plan: Plan, store: int) -> int:
    """The last pass that loads, before the store in the body's order, what the store overwrites; -1 for none."""
    body = plan.loop.body
    read_back = any(step.op == "load" and _one_argument(step, body[store]) for step in body[store:])
    meets = _one_argument if read_back else _same_memory
    readers = [i for i in range(store) if body[i].op == "load" and meets(body[i], body[store])]
    return max((n for n, steps in enumerate(plan.passes) for i in readers if i in steps), default=-1)


def _keep_rows(plan: Plan) -> None:
    """Choose what is kept from one pass to later ones."""
    row = plan.row_lanes * math.prod(plan.loop.inner) + plan.lanes
    room = ROW_BYTES
    for number, step in enumerate(plan.loop.body):
        passes = [n for n, steps in enumerate(plan.passes) if number in steps]
        size = row * step.dtype.itemsize
        if len(passes) > 1 and cost(step) > 1 and step.dtype.kind == "f" and size <= room:
            plan.kept[number] = passes[0]
            room -= size
    if plan.kept:
        plan.passes = [_needed(plan, n) for n in range(len(plan.passes))]
