"""How a matrix product is computed: tile shape, packing, order of loops, shares of threads. No code is generated here.

The plan is the cheapest of some hundred by a model of the processor's cycles: a step of k in a tile takes as long as
its multiply-adds (two a cycle), its loads (two a cycle) or the latency of one multiply-add, whichever is longest, and
then some for lines that come from the second-level cache or from scattered pages.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

from chainrule.compile.gemm_packing import can_pack_rows, packed_strides
from chainrule.compile.gemm_strides import digits, is_even, near, with_even_columns, with_even_rows
from chainrule.compile.kernels import Access, Gemm
from chainrule.compile.machine import Machine

#: Bytes that packed panels of b and a packed strip of a may take on a thread's stack, where there is no workspace.
_STACK_BYTES = 224 << 10

#: Bytes from which on pages are too many to be visited more than once.
_NEAR = 4 << 20

#: From how many tiles along m on a panel is packed before the first of them.
_MANY_TILES = 32

#: From how many elements on k may be cut, and how long one turn of it may be then.
_LONG, _LONGEST_RUN = 8192, 1024

#: Bytes that all strips of a may take in a thread's part of the workspace.
_MOST_BYTES_OF_STRIPS = 3 << 20

# Cycles, as measured on processors with 512-bit vectors; those with fewer bits differ little in the ratios.
_LATENCY = 4.0  # of a multiply-add
_TILE_OVERHEAD = 40.0  # of a call of the microkernel
_LINE_FROM_L2 = 0.5  # of a line that is read in order
_LINE_FROM_L3 = 4.0  # of a line that is in neither of the nearer caches
_LINE_SCATTERED = 1.5  # of a line that is far from the line before, where few are
_LINE_LOST = 12.0  # of such a line, where they are too many to be in the second-level cache
_LINE_OF_OTHERS = 2.0  # of a line that another thread has written, asked for early for the most part
_LINE_AHEAD = 4.5  # at most, of a line that was asked for ahead
_SCATTERED_LANE = 2.5  # of one lane of a gathered or scattered vector
_PACK_VECTOR = 8.0  # of copying one vector
_PACK_CONTIGUOUS = 1.5  # of storing one vector, besides reading it
_PACK_TRANSPOSED = 6.0  # of one vector of a transposed square
_PACK_GATHERED = 16.0  # of one gathered vector
_LOAD = 0.6  # of a load; two a cycle, but the cache has other things to do as well
_SUM_OF_LANES = 3.0  # of summing the lanes of one vector, with others
_MOST_VECTORS = 8
_WAIT = 1500.0  # of waiting for the other threads, which is often spared where each has its rows
_AS_GOOD = 1.1  # of a plan by rows, whatever the others, by its cost over the best one's
_TURN = 20.0  # of beginning anew where k is uneven
_LINE = 64  # bytes
_SAME_SET = 4096  # bytes from line to line of one set of the first-level cache
_FAR = 1024  # bytes from line to line that the processor does not foresee


class Plan(NamedTuple):
    """What the generator follows.

    Attributes:
        kernel: the product, or its transpose (b·a with m and n exchanged) where that is cheaper.
        lanes: of a vector.
        width: columns of a full tile; a panel of b is as wide.
        inner: whether vectors run along k, so that each accumulator is one element of the product (an inner product
            of a row of a and a column of b). Otherwise they run along n.
        tiles: number of tiles along m; their rows differ by at most one.
        strips: how many packed strips of a are kept: none, one (packed anew for every block of panels) or all.
        pack_b: whether panels are copied.
        block: panels that are packed at a time.
        split: the axis that threads share: "batch", "m" or "n".
        cost: estimated cycles of the slowest thread.
        cut: how many turns of the outer axes of an uneven k are made for all tiles before the next ones; partial sums
            are kept meanwhile. 0 where each tile is done at once.
    """

    kernel: Gemm
    lanes: int
    width: int
    inner: bool
    tiles: int
    strips: int
    pack_b: bool
    block: int
    split: str
    cost: float
    cut: int = 0

    @property
    def panels(self) -> int:
        """Number of panels, with the narrower last one."""
        return -(-self.kernel.n // self.width)

    @property
    def tail(self) -> int:
        """Columns of the last panel if it is narrower than the others, else 0."""
        return self.kernel.n % self.width

    def padded(self, columns: int) -> int:
        """Columns up to a whole number of vectors."""
        return -(-columns // self.lanes) * self.lanes

    @property
    def packs_in_passing(self) -> bool:
        """Whether panels are packed by the first tile that reads them: those that are contiguous and near.

        That takes a microkernel of its own, which is not worth its code where many tiles follow.
        """
        along_k, along_n = self.kernel.b.strides[-2:]
        if not self.pack_b or along_n != 1:
            return False
        is_near = self.kernel.k * near(along_k) * self.kernel.dtype.itemsize <= _NEAR
        return not is_even(along_k) or (is_near and self.tiles < _MANY_TILES)

    def packs(self, width: int) -> bool:
        """Whether a panel of that width is packed; a narrower last one only if it must be, to save code."""
        return self.pack_b and (width == self.width or self.kernel.b.strides[-1] != 1)

    @property
    def b_bytes(self) -> int:
        """Size of the buffer of packed panels."""
        widest = self.padded(min(self.width, self.kernel.n))
        return self.block * self.kernel.k * widest * self.kernel.dtype.itemsize if self.pack_b else 0

    @property
    def buffer_bytes(self) -> int:
        """Size of the buffers of one thread, each a whole number of cache lines."""
        return _lines(self.a_bytes) + _lines(self.b_bytes) + self.partial_bytes

    @property
    def partial_bytes(self) -> int:
        """Size of the partial sums of all tiles."""
        return self.tiles * self.panels * self.tile_bytes if self.cut else 0

    @property
    def tile_bytes(self) -> int:
        """Size of the partial sums of one tile: a vector for each row."""
        return _lines(-(-self.kernel.m // self.tiles) * self.lanes * self.kernel.dtype.itemsize)

    @property
    def a_bytes(self) -> int:
        """Size of the buffer of packed strips."""
        return self.strips * self.strip_bytes

    @property
    def strip_bytes(self) -> int:
        """Size of one packed strip."""
        rows = -(-self.kernel.m // self.tiles)
        along_m, along_k = packed_strides(self.kernel, rows, self.lanes)
        return _lines((max(rows * along_m, self.kernel.k * along_k) + self.lanes) * self.kernel.dtype.itemsize)


def plan(kernel: Gemm, machine: Machine) -> Plan:
    """The cheapest plan for a product on a machine."""
    plain = kernel._replace(workspace=0, arguments=())
    best = _cheapest(plain, machine)
    if kernel.workspace is None and not (_fits_stack(best) and best.strips <= 1):
        best = _cheapest(plain._replace(workspace=None), machine)
    return best._replace(kernel=best.kernel._replace(workspace=kernel.workspace, arguments=kernel.arguments))


def workspace_bytes(kernel: Gemm, machine: Machine, threads: int) -> int:
    """How large a workspace is worth having for a product without one; 0 where the threads' stacks do as well."""
    if 0 in (kernel.m, kernel.n, *kernel.batch):
        return 0
    best = plan(kernel._replace(workspace=0), machine)
    return 0 if _fits_stack(best) else threads * best.buffer_bytes


def _fits_stack(best: Plan) -> bool:
    return best.a_bytes + best.b_bytes + best.partial_bytes <= _STACK_BYTES


@functools.lru_cache(maxsize=1000)
def _cheapest(kernel: Gemm, machine: Machine) -> Plan:
    budget = _STACK_BYTES if kernel.workspace is None else machine.l2_bytes * 3 // 8
    by_cost = functools.partial(min, key=lambda found: found.cost)
    upright = list(_plans(kernel, machine, budget))
    best = by_cost([*upright, *_plans(transposed(kernel), machine, budget)])
    by_rows = by_cost([found for found in upright if found.split == "m"], default=best)
    spared = _WAIT + _spared_by_rows(kernel, machine)
    return by_rows if by_rows.cost <= min(best.cost + spared, best.cost * _AS_GOOD) else best


def _spared_by_rows(kernel: Gemm, machine: Machine) -> float:
    """What threads are spared by rows: fetching what other threads have written.

    Where a has rows in memory, each thread has most likely made the rows that it needs of a, and so it will be with the
    product. Where a has columns there (in the gradient of a weight), each needs something of all rows, of the longer
    ones at least only its part.
    """
    along_m, along_k = (abs(near(stride)) for stride in kernel.a.strides[-2:])
    elements = kernel.m * (kernel.k + kernel.n) if along_m >= along_k else (kernel.m - kernel.n) * kernel.k
    lines = math.prod(kernel.batch) * elements * kernel.dtype.itemsize / _LINE * (1 - 1 / machine.cores)
    return max(lines, 0.0) * _LINE_OF_OTHERS


def borders(plan: Plan, threads: int) -> tuple[int, ...]:
    """Where along the axis that is shared each thread's part begins, and the last one ends; batch axes count as one."""
    kernel = plan.kernel
    count = {"batch": math.prod(kernel.batch), "m": plan.tiles, "n": plan.panels}[plan.split]
    found = [thread * count // threads for thread in range(threads + 1)]
    if plan.split == "m":
        return tuple(tile * kernel.m // plan.tiles for tile in found)
    return tuple(min(panel * plan.width, kernel.n) for panel in found) if plan.split == "n" else tuple(found)


def transposed(kernel: Gemm) -> Gemm:
    """The same work with the roles of m and n exchanged."""

    def exchanged(access: Access) -> Access:
        *batch, first, second = access.strides
        return access._replace(strides=(*batch, second, first))

    axes = len(kernel.batch)
    swap = {axes: axes + 1, axes + 1: axes}
    body = tuple(
        step._replace(
            access=exchanged(step.access) if step.access is not None else None,
            value=swap.get(step.value, step.value) if step.op == "index" else step.value,
        )
        for step in kernel.body
    )
    return kernel._replace(m=kernel.n, n=kernel.m, a=exchanged(kernel.b), b=exchanged(kernel.a), body=body)


def _plans(kernel: Gemm, machine: Machine, budget: int) -> Iterator[Plan]:
    """Plans that keep to the registers and to `budget` bytes of packed factors."""
    lanes = machine.lanes(kernel.dtype)
    kernel = with_even_rows(kernel)
    if near(kernel.a.strides[-1]) == near(kernel.b.strides[-2]) == 1:
        for columns in range(1, min(kernel.n, lanes) + 1):
            for tiles in _numbers_of_tiles(kernel, machine, columns, True):
                tried = Plan(kernel, lanes, columns, True, tiles, 0, False, 1, "m", math.inf)
                for each in (tried, *(cut for cut in _cut(tried, machine) if cut.partial_bytes <= budget)):
                    yield from _shared(each, machine, 0)
    kernel = with_even_columns(kernel)
    for vectors in range(1, min(-(-kernel.n // lanes), _MOST_VECTORS) + 1):
        for tiles in _numbers_of_tiles(kernel, machine, vectors):
            for strips, pack_b in itertools.product(
                {0, 1, tiles} if can_pack_rows(kernel, lanes) else {0}, (False, True)
            ):
                tried = Plan(kernel, lanes, vectors * lanes, False, tiles, strips, pack_b, 1, "m", math.inf)
                if tried.strips > 1 and (kernel.workspace is None or tried.a_bytes > _MOST_BYTES_OF_STRIPS):
                    continue
                if min(tried.strips, 1) * tried.strip_bytes + tried.b_bytes <= budget:
                    yield from _shared(tried, machine, budget)


def _cut(tried: Plan, machine: Machine) -> Iterator[Plan]:
    """The plan with a long k in blocks, so that what they take of both factors stays near while all tiles are done."""
    kernel = tried.kernel
    if not _is_far(kernel, machine):
        return
    size = kernel.dtype.itemsize
    near_by = machine.l2_bytes * 3 // 4 // ((kernel.m + kernel.n) * size)
    longest = min(near_by, _LONGEST_RUN)
    length = max((n for n in range(tried.lanes, longest + 1, tried.lanes) if kernel.k % n == 0), default=0)
    if length < _LONGEST_RUN // 4:
        return

    def in_turns(access: Access, axis: int) -> Access:
        strides = list(access.strides)
        strides[axis] = ((kernel.k // length, length), (length, 1))
        return access._replace(strides=tuple(strides))

    yield tried._replace(
        kernel=kernel._replace(a=in_turns(kernel.a, -1), b=in_turns(kernel.b, -2)), cut=max(_LONGEST_RUN // length, 1)
    )


def _is_far(kernel: Gemm, machine: Machine) -> bool:
    """Whether k is long and even, and the factors are too large to be read again and again."""
    a_step, b_step, along_n = kernel.a.strides[-1], *kernel.b.strides[-2:]
    is_long = kernel.k >= _LONG and is_even(a_step) and is_even(b_step) and is_even(along_n)
    return is_long and min(kernel.m, kernel.n) > 1 and kernel.n * kernel.k * kernel.dtype.itemsize > machine.l2_bytes


def _numbers_of_tiles(kernel: Gemm, machine: Machine, vectors: int, inner: bool = False) -> set[int]:
    """The fewest tiles along m that keep to the registers, with `vectors` to a row; and as many for each core."""
    rows = (machine.vector_registers - 1 - vectors) // vectors
    if inner and rows < vectors:
        rows = (machine.vector_registers - 1) // (vectors + 1)
    if rows < 1:
        return set()
    fewest = -(-kernel.m // rows)
    return {fewest, min(-(-fewest // machine.cores) * machine.cores, kernel.m)}


def _shared(tried: Plan, machine: Machine, budget: int) -> Iterator[Plan]:
    """The plan with as many panels in a block as the budget allows, for each axis that may be shared."""
    block = tried.panels
    if tried.pack_b:
        block = min(block, (budget - min(tried.strips, 1) * tried.strip_bytes) // max(tried.b_bytes, 1)) or 1
    tried = tried._replace(block=block)
    batches, cores = math.prod(tried.kernel.batch), machine.cores
    cycles = _inner_tile_cycles if tried.inner else _tile_cycles
    tiles = (
        cycles(tried, machine, min(tried.width, tried.kernel.n)),
        cycles(tried, machine, tried.tail) if tried.tail else 0.0,
    )
    if batches >= cores:
        yield tried._replace(split="batch", cost=_cost(tried, machine, 1, 1, tiles) * -(-batches // cores))
        return
    yield tried._replace(split="m", cost=_cost(tried, machine, cores, 1, tiles) * batches)
    yield tried._replace(split="n", cost=_cost(tried, machine, 1, cores, tiles) * batches)


def _lines(size: int) -> int:
    """A size in bytes up to a whole number of cache lines."""
    return -(-size // _LINE) * _LINE


def _cost(plan: Plan, machine: Machine, by_m: int, by_n: int, tile_cycles: tuple[float, float]) -> float:
    """Cycles of one of `by_m × by_n` threads, by those of a tile of a full panel and of one of the last."""
    kernel, (full, last) = plan.kernel, tile_cycles
    tiles, panels = -(-plan.tiles // by_m), -(-plan.panels // by_n)
    narrow = 1 if plan.tail and by_n == 1 else 0
    product = (panels - narrow) * full + narrow * last
    packing = 0.0
    if plan.pack_b:
        packing += kernel.k * plan.padded(kernel.n) / by_n / plan.lanes * _pack_cycles(kernel, machine)
    if plan.strips:
        times = -(-panels // plan.block) if plan.strips == 1 else 1
        packing += kernel.k * kernel.m / by_m / plan.lanes * _PACK_VECTOR * times
    return tiles * product + packing


def _tile_cycles(plan: Plan, machine: Machine, width: int) -> float:
    rows, vectors = plan.kernel.m / plan.tiles, -(-width // plan.lanes)
    step = max(rows * vectors / 2, (rows + vectors) * _LOAD, _LATENCY)
    step += _cycles_of_a(plan, machine, rows) + _cycles_of_b(plan, machine, vectors)
    return plan.kernel.k * step + rows * vectors * _epilogue_cycles(plan.kernel, plan.lanes) + _TILE_OVERHEAD


def _inner_tile_cycles(plan: Plan, machine: Machine, columns: int) -> float:
    kernel, rows = plan.kernel, plan.kernel.m / plan.tiles
    step = max(rows * columns / 2, (rows + columns) * _LOAD, _LATENCY)
    strip, panel = (count * kernel.k * kernel.dtype.itemsize for count in (rows, columns))
    step += rows * _LINE_FROM_L2
    if strip + panel > machine.l1_bytes // 2:
        step += _lines_of_columns(kernel, columns) * _LINE_FROM_L2
    if _is_far(kernel, machine):
        step += (rows + columns) * _LINE_FROM_L3
    last = rows * columns * _SUM_OF_LANES + rows * _epilogue_cycles(kernel, plan.lanes)
    if plan.cut:
        return _cut_tile_cycles(plan, step, rows * columns * _SUM_OF_LANES + 2 * rows + _TILE_OVERHEAD) + last
    a_step, b_step = kernel.a.strides[-1], kernel.b.strides[-2]
    run = kernel.k if is_even(a_step) and is_even(b_step) else digits(a_step, b_step)[-1][0]
    return kernel.k // max(run, 1) * (-(-run // plan.lanes) * step + _TURN) + last + _TILE_OVERHEAD


def _cut_tile_cycles(plan: Plan, step: float, around: float) -> float:
    """The same where k is cut: `around` is what each block takes besides its steps."""
    ((turns, _), (run, _)) = digits(plan.kernel.a.strides[-1], plan.kernel.b.strides[-2])
    return turns * (-(-run // plan.lanes) * step + _TURN) + -(-turns // plan.cut) * around


def _lines_of_columns(kernel: Gemm, columns: int) -> float:
    """How many new lines a vector of each of the columns takes: windows that overlap have them in common."""
    along_n = kernel.b.strides[-1]
    if is_even(along_n):
        return columns
    windows, _ = along_n[-1]
    return columns / windows if columns % windows == 0 else columns


def _pack_cycles(kernel: Gemm, machine: Machine) -> float:
    """What packing one vector of b takes."""
    along_k, along_n = near(kernel.b.strides[-2]), kernel.b.strides[-1]
    if along_n == 1:
        read = _line_cycles(kernel.k, along_k * kernel.dtype.itemsize, machine)
        return _PACK_CONTIGUOUS + min(read, _LINE_AHEAD)
    return _PACK_TRANSPOSED if along_k == 1 else _PACK_GATHERED


def _line_cycles(count: int, stride: int, machine: Machine) -> float:
    """What reading one line takes, of `count` lines that are `stride` bytes apart and read more than once."""
    stride = abs(stride)
    if stride < _FAR:
        return _LINE_FROM_L2
    span = count * stride
    return _LINE_SCATTERED * (1 if span <= machine.l2_bytes // 2 else 2) if span <= machine.l2_bytes else _LINE_LOST


def _cycles_of_a(plan: Plan, machine: Machine, rows: float) -> float:
    """What bringing one column of a strip nearer takes."""
    kernel, size = plan.kernel, plan.kernel.dtype.itemsize
    along_m, along_k = (abs(near(stride)) * size for stride in kernel.a.strides[-2:])
    if kernel.m * kernel.k * size <= machine.l1_bytes:
        return 0.0
    if not plan.strips and along_m > along_k and along_m % _SAME_SET == 0:
        return rows * _LINE_FROM_L2 / 4  # rows drive each other out of the first-level cache
    if plan.strips or along_m > along_k:
        return rows * size / _LINE * _LINE_FROM_L2
    return max(1.0, rows * along_m / _LINE) * _line_cycles(kernel.k, along_k, machine)


def _cycles_of_b(plan: Plan, machine: Machine, vectors: int) -> float:
    """What bringing one row of a panel nearer takes."""
    kernel, size = plan.kernel, plan.kernel.dtype.itemsize
    along_k, along_n = (abs(near(stride)) * size for stride in kernel.b.strides[-2:])
    if not plan.pack_b and along_n != size and kernel.n > 1:
        return vectors * _PACK_GATHERED
    if kernel.k * kernel.n * size <= machine.l1_bytes // 2:
        return 0.0
    if plan.pack_b or kernel.k * vectors * _LINE <= machine.l1_bytes // 2:
        return vectors * _LINE_FROM_L2
    return vectors * _line_cycles(kernel.k, along_k, machine)


def _epilogue_cycles(kernel: Gemm, lanes: int) -> float:
    """Cycles for one vector of the body: what differs between plans is how memory is reached."""
    total = 1.0
    for step in kernel.body:
        if step.access is not None:
            total += 1 if step.access.strides[-1] in (0, 1) else _SCATTERED_LANE * lanes
    return total
