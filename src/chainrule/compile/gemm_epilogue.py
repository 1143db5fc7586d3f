"""What happens to a tile of a matrix product between the accumulators and memory: the body of a `Gemm`.

The instructions themselves are `scalars`'. Here is the choice between rows written out one after the other (results
never leave the registers) and a loop over the rows of a tile kept on the stack (long bodies).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from chainrule.compile import ir
from chainrule.compile.kernels import Access, Gemm
from chainrule.compile.scalars import POINTER, Point, emit_body, int64, intrinsic, load_pointers, memory_type

#: A body whose code for one vector is longer than this (see `_length`) becomes a loop over rows.
_LONGEST_UNROLLED = 8

#: Instructions that become one of the processor's, or close to it. Any other counts as many.
_SHORT = {"add", "subtract", "multiply", "negative", "abs", "square", "maximum", "minimum", "select", "greater", "less"}
_LENGTH_OF_OTHERS = 20


class Vector:
    """Where one vector of a tile is.

    Args:
        first: its first column in the tile.
        count: how many of its lanes are inside of the product.
        lanes: of a vector register.
    """

    __slots__ = ("first", "lanes", "mask")

    def __init__(self, first: int, count: int, lanes: int) -> None:
        self.first = first
        self.lanes = lanes
        self.mask = None if count == lanes else lanes_below(count, lanes)


def lanes_below(count: int, lanes: int) -> ir.Constant:
    """The mask of the first `count` lanes."""
    return ir.Constant(ir.VectorType(ir.IntType(1), lanes), [int(lane < count) for lane in range(lanes)])


def prefetch(builder: ir.IRBuilder, address: ir.Value, to_write: bool, level: int = 1) -> None:
    """Ask for a line of memory to be brought to the cache of a level; any address will do, a wrong one too."""
    hints = [ir.Constant(ir.IntType(32), hint) for hint in (int(to_write), 4 - level, 1)]  # the 1: it is data
    intrinsic(builder, "prefetch", ir.VoidType(), [address, *hints], [POINTER])


class Epilogue:
    """Emits a kernel's body for one tile.

    Args:
        builder: positioned at the start of the tile's function.
        kernel: the product.
        arguments: pointer to the kernel's pointer arguments.
        indices: of the tile's first element, one per axis of the grid (*batch, m, n).
    """

    def __init__(self, builder: ir.IRBuilder, kernel: Gemm, arguments: ir.Value, indices: list[ir.Value]) -> None:
        self.builder = builder
        self.kernel = kernel
        self.pointers = load_pointers(builder, arguments, len(kernel.arguments))
        self.first = Point(self.pointers, indices, len(indices) - 1)
        self.varies = list(_variation(kernel))
        self.product = next(i for i, step in enumerate(kernel.body) if step.op == "product")

    def prefetch(self, rows: int, vectors: list[Vector]) -> None:
        """Ask for the tile's elements of arrays that are read and written, long before they are needed."""
        builder = self.builder
        for access in _updated(self.kernel):
            element = memory_type(self.kernel.arguments[access.argument])
            for row, vector in itertools.product(range(rows), vectors):
                prefetch(builder, self._at(self.first, row, vector).address(builder, access, element), to_write=True)

    def emit(self, sums: list[list[ir.Value]], vectors: list[Vector]) -> None:
        """Apply the body to accumulators, by row and vector."""
        if len(sums) > 1 and _length(self.kernel, vectors[0].lanes) > _LONGEST_UNROLLED:
            self._loop_over_rows(sums, vectors)
            return
        known: dict[tuple[int, int, int], ir.Value] = {}
        for row, line in enumerate(sums):
            for vector, product in zip(vectors, line, strict=True):
                self._body(row, self._at(self.first, row, vector), product, known)

    def _loop_over_rows(self, sums: list[list[ir.Value]], vectors: list[Vector]) -> None:
        builder, kind = self.builder, sums[0][0].type
        with builder.goto_entry_block():
            tile = builder.alloca(kind, size=len(sums) * len(vectors))
        for number, value in enumerate(value for line in sums for value in line):
            builder.store(value, builder.gep(tile, [int64(number)], source_etype=kind))
        before, loop, after = builder.block, builder.append_basic_block("row"), builder.append_basic_block("stored")
        builder.branch(loop)
        builder.position_at_end(loop)
        row = builder.phi(int64(0).type)
        row.add_incoming(int64(0), before)
        known: dict[tuple[int, int, int], ir.Value] = {}
        *batch, first_row, first_column = self.first.indices
        first = Point(self.pointers, [*batch, builder.add(first_row, row), first_column], self.first.axis)
        for number, vector in enumerate(vectors):
            place = builder.add(builder.mul(row, int64(len(vectors))), int64(number))
            product = builder.load(builder.gep(tile, [place], source_etype=kind), typ=kind)
            self._body(0, self._at(first, 0, vector), product, known)
        following = builder.add(row, int64(1))
        row.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, int64(len(sums))), loop, after)
        builder.position_at_end(after)

    def _body(self, row: int, point: Point, product: ir.Value, known: dict[tuple[int, int, int], ir.Value]) -> None:
        """All instructions for one vector of a row; a result that several rows or vectors share is in `known`."""
        keys = [
            (step, row if by_row else -1, point.ahead[-1] if by_column else -1)
            for step, (by_row, by_column) in enumerate(self.varies)
        ]
        values = {step: known[key] for step, key in enumerate(keys) if key in known}
        values[self.product] = product
        emit_body(self.builder, self.kernel.body, values, point)
        known.update((keys[step], value) for step, value in values.items())

    def _at(self, first: Point, row: int, vector: Vector) -> Point:
        """The point of a vector, some rows below the first."""
        ahead = (*(0,) * len(self.kernel.batch), row, vector.first)
        return first.further(ahead, vector.lanes, vector.mask)


def _variation(kernel: Gemm) -> Iterator[tuple[bool, bool]]:
    """Whether each instruction's result differs between rows, and between columns."""
    axes = len(kernel.batch) + 2
    found: list[tuple[bool, bool]] = []
    for step in kernel.body:
        rows, columns = (step.op in ("product", "store", "accumulate"),) * 2
        if step.op == "index":
            rows, columns = step.value == axes - 2, step.value == axes - 1
        elif step.access is not None:
            rows |= step.access.strides[-2] != 0
            columns |= step.access.strides[-1] != 0
        rows |= any(found[i][0] for i in step.inputs)
        columns |= any(found[i][1] for i in step.inputs)
        found.append((rows, columns))
        yield rows, columns


def _length(kernel: Gemm, lanes: int) -> int:
    """How long the code of one vector of the body is, in the processor's instructions, roughly."""
    total = 0
    for step in kernel.body:
        if step.access is not None:
            plain = step.access.strides[-1] in (0, 1) and not (step.op == "load" and step.inputs)
            total += 1 if plain else lanes
        elif step.op not in ("product", "constant", "index"):
            total += 1 if step.op in _SHORT else _LENGTH_OF_OTHERS
    return total


def _updated(kernel: Gemm) -> Iterator[Access]:
    """Where contiguous rows are both read and written."""
    loaded = {step.access for step in kernel.body if step.op in ("load", "accumulate")}
    for step in kernel.body:
        if step.op in ("store", "accumulate") and step.access in loaded:
            assert step.access is not None
            if step.access.strides[-1] == 1:
                yield step.access
