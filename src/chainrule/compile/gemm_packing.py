"""Copies of a product's factors in the order its microkernel reads them.

A panel of b is `width` columns: row after row of k, each a whole number of vectors. A strip of a is the rows of one
tile, either along k or along m, whichever way they are contiguous in memory. A b that is contiguous along n and near
is not copied here but by the microkernel, when it first passes. When to pack is decided in `gemm_plan`.
"""

from __future__ import annotations

import numpy as np

from chainrule.compile import ir
from chainrule.compile.gemm_epilogue import lanes_below, prefetch
from chainrule.compile.gemm_microkernel import STEPS_AHEAD, load_vector, offset
from chainrule.compile.gemm_strides import distance
from chainrule.compile.kernels import Gemm
from chainrule.compile.scalars import INT64, POINTER, int64, scalar_type, with_lanes

_PIECE_BITS = 128  # shuffles within such pieces are cheap; whole pieces are put in place by loads


def emit_pack_panels(module: ir.Module, kernel: Gemm, name: str, width: int, lanes: int) -> ir.Function:
    """`void (ptr to, ptr from, i64 panels)`: full panels of a b that is contiguous along n, all of them row by row.

    So each page is visited once. Rows further on are asked for ahead, which the processor would not do by itself for
    rows that are far apart.
    """
    function, builder = _new_function(module, name, INT64)
    to, source, panels = function.args
    element, along_k = scalar_type(kernel.dtype), kernel.b.strides[-2]
    with Counted(builder, int64(0), int64(kernel.k)) as step:
        row = offset(builder, source, builder.mul(step, int64(along_k)), element)
        into = offset(builder, to, builder.mul(step, int64(width)), element)
        with Counted(builder, int64(0), panels) as panel:
            piece = offset(builder, row, builder.mul(panel, int64(width)), element)
            target = offset(builder, into, builder.mul(panel, int64(width * kernel.k)), element)
            for first in range(0, width, lanes):
                prefetch(builder, offset(builder, piece, STEPS_AHEAD * along_k + first, element), to_write=False)
                value = load_vector(builder, offset(builder, piece, first, element), 1, element, lanes, None)
                builder.store(value, offset(builder, target, first, element), align=kernel.dtype.itemsize)
    builder.ret_void()
    return function


def emit_pack_columns(module: ir.Module, kernel: Gemm, name: str, count: int, width: int, lanes: int) -> ir.Function:
    """`void (ptr to, ptr from)`: `count` columns of b, at most a vector, into a panel `width` wide.

    Where they are contiguous along k, that is a transposition.
    """
    function, builder = _new_function(module, name)
    to, source = function.args
    along_k, along_n = kernel.b.strides[-2:]
    if along_k == 1 != along_n and kernel.k >= lanes:
        _transpose_blocks(builder, kernel, to, source, count, width, lanes)
    else:
        element, size = scalar_type(kernel.dtype), kernel.dtype.itemsize
        with Counted(builder, int64(0), int64(kernel.k)) as step:
            address = offset(builder, source, distance(builder, step, along_k), element)
            mask = None if count == lanes else lanes_below(count, lanes)
            value = load_vector(builder, address, along_n, element, lanes, mask)
            builder.store(value, offset(builder, to, builder.mul(step, int64(width)), element), align=size)
    builder.ret_void()
    return function


def emit_pack_short_rows(module: ir.Module, kernel: Gemm, name: str, rows: int, lanes: int) -> ir.Function:
    """`void (ptr to, ptr from)`: `rows` rows of an a that is contiguous along m, as `packed_strides` tells."""
    function, builder = _new_function(module, name)
    to, source = function.args
    element, size = scalar_type(kernel.dtype), kernel.dtype.itemsize
    _, to_step = packed_strides(kernel, rows, lanes)
    with Counted(builder, int64(0), int64(kernel.k)) as step:
        _copy(
            builder,
            offset(builder, to, builder.mul(step, int64(to_step)), element),
            offset(builder, source, distance(builder, step, kernel.a.strides[-1]), element),
            rows,
            (element, size, lanes),
        )
    builder.ret_void()
    return function


def pack_long_rows(
    builder: ir.IRBuilder, kernel: Gemm, to: ir.Value, source: ir.Value, rows: ir.Value, lanes: int
) -> None:
    """Pack rows of an a that is contiguous along k, as `packed_strides` tells: with one function for all products."""
    name = f"pack_rows_of_{kernel.dtype.name}"
    packer = builder.module.globals.get(name) or _emit_pack_long_rows(builder.module, kernel.dtype, name, lanes)
    to_row, _ = packed_strides(kernel, 0, lanes)
    builder.call(packer, [to, source, rows, int64(kernel.k), int64(kernel.a.strides[-2]), int64(to_row)])


def _emit_pack_long_rows(module: ir.Module, dtype: np.dtype, name: str, lanes: int) -> ir.Function:
    """`void (ptr to, ptr from, i64 rows, i64 k, i64 from_row, i64 to_row)`; k is a vector at least."""
    function, builder = _new_function(module, name, INT64, INT64, INT64, INT64)
    to, source, rows, k, from_row, to_row = function.args
    element = scalar_type(dtype)

    def copy(line: ir.Value, target: ir.Value, step: ir.Value) -> None:
        value = load_vector(builder, offset(builder, line, step, element), 1, element, lanes, None)
        builder.store(value, offset(builder, target, step, element), align=dtype.itemsize)

    last = builder.sub(k, int64(lanes))
    with Counted(builder, int64(0), rows) as row:
        line = offset(builder, source, builder.mul(row, from_row), element)
        target = offset(builder, to, builder.mul(row, to_row), element)
        with Counted(builder, int64(0), last, lanes) as step:
            copy(line, target, step)
        copy(line, target, last)
    builder.ret_void()
    return function


def can_pack_rows(kernel: Gemm, lanes: int) -> bool:
    """Whether a has a direction along which whole vectors can be copied."""
    along_m, along_k = kernel.a.strides[-2:]
    return along_m == 1 or (along_k == 1 and kernel.k >= lanes)


def packed_strides(kernel: Gemm, rows: int, lanes: int) -> tuple[int, int]:
    """Strides of a packed strip of a along m and along k."""
    if kernel.a.strides[-2] == 1:
        return 1, rows
    return -(-kernel.k // lanes) * lanes + lanes, 1  # one more vector, or rows would compete for one set of the cache


def smaller(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """The smaller of two signed integers."""
    return builder.select(builder.icmp_signed("<", x, y), x, y)


class Counted:
    """A loop over `range(start, stop, step)` as a context: inside is its body, the value is the index."""

    def __init__(self, builder: ir.IRBuilder, start: ir.Value, stop: ir.Value, step: int = 1) -> None:
        self.builder = builder
        self.start, self.stop, self.step = start, stop, step

    def __enter__(self) -> ir.Value:
        builder = self.builder
        self.head, body = builder.append_basic_block("head"), builder.append_basic_block("body")
        self.after = builder.append_basic_block("after")
        before = builder.block
        builder.branch(self.head)
        builder.position_at_end(self.head)
        self.index = builder.phi(self.start.type)
        self.index.add_incoming(self.start, before)
        builder.cbranch(builder.icmp_signed("<", self.index, self.stop), body, self.after)
        builder.position_at_end(body)
        return self.index

    def __exit__(self, *failure: object) -> None:
        builder = self.builder
        following = builder.add(self.index, int64(self.step))
        self.index.add_incoming(following, builder.block)
        builder.branch(self.head)
        builder.position_at_end(self.after)


def _new_function(module: ir.Module, name: str, *others: ir.Type) -> tuple[ir.Function, ir.IRBuilder]:
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER, POINTER, *others]), name)
    function.linkage = "internal"
    for attribute in ("noinline", "nounwind"):
        function.attributes.add(attribute)
    for pointer in function.args[:2]:
        pointer.add_attribute("noalias")
    return function, ir.IRBuilder(function.append_basic_block("entry"))


def _copy(builder: ir.IRBuilder, to: ir.Value, source: ir.Value, count: int, kind: tuple[ir.Type, int, int]) -> None:
    """`count` contiguous elements; what is written beyond them, up to a vector, is written over by the next copy."""
    element, size, lanes = kind
    for first in range(0, count, lanes):
        mask = None if first + lanes <= count else lanes_below(count - first, lanes)
        value = load_vector(builder, offset(builder, source, first, element), 1, element, lanes, mask)
        builder.store(value, offset(builder, to, first, element), align=size)


def _transpose_blocks(
    builder: ir.IRBuilder, kernel: Gemm, to: ir.Value, source: ir.Value, count: int, width: int, lanes: int
) -> None:
    """Columns that are contiguous along k: squares of `lanes` by `lanes` elements, the last one overlapping."""
    element, size = scalar_type(kernel.dtype), kernel.dtype.itemsize
    with Counted(builder, int64(0), int64(kernel.k), lanes) as step:
        start = smaller(builder, step, int64(kernel.k - lanes))
        corner = offset(builder, source, start, element)
        rows = _transposed(builder, corner, kernel.b.strides[-1], count, (element, size, lanes))
        target = offset(builder, to, builder.mul(start, int64(width)), element)
        for row, value in enumerate(rows):
            builder.store(value, offset(builder, target, row * width, element), align=size)


def _transposed(
    builder: ir.IRBuilder, corner: ir.Value, stride: int, count: int, kind: tuple[ir.Type, int, int]
) -> list[ir.Value]:
    """The columns of a square in memory, whose rows are `stride` apart; rows from `count` on are zero.

    A vector of the result has one element of each row. Loads put pieces of rows that are `piece` rows apart into one
    vector; what is left is to transpose small squares within pieces.
    """
    element, size, lanes = kind
    piece = min(lanes, _PIECE_BITS // (8 * size))
    columns: list[ir.Value] = []
    for first in range(0, lanes, piece):
        square = []
        for row in range(piece):
            parts = [
                _piece(builder, corner, at * stride + first, element, size, piece) if at < count else None
                for at in range(row, lanes, piece)
            ]
            square.append(_joined(builder, parts, with_lanes(element, piece)))
        columns += _transposed_pieces(builder, square, piece)
    return columns


def _piece(builder: ir.IRBuilder, corner: ir.Value, at: int, element: ir.Type, size: int, piece: int) -> ir.Value:
    return builder.load(offset(builder, corner, at, element), typ=with_lanes(element, piece), align=size)


def _joined(builder: ir.IRBuilder, parts: list[ir.Value | None], kind: ir.Type) -> ir.Value:
    """Parts one after the other in one vector; None is zero."""
    values = [ir.Constant(kind, None) if part is None else part for part in parts]
    while len(values) > 1:
        total = 2 * values[0].type.count
        pattern = ir.Constant(ir.VectorType(ir.IntType(32), total), list(range(total)))
        values = [builder.shuffle_vector(x, y, pattern) for x, y in zip(values[::2], values[1::2], strict=True)]
    return values[0]


def _transposed_pieces(builder: ir.IRBuilder, square: list[ir.Value], piece: int) -> list[ir.Value]:
    """Squares of `piece` by `piece` transposed, in each piece of the vectors, by swapping ever smaller quarters."""
    half = piece // 2
    lanes = square[0].type.count
    while half:
        swapped = list(square)
        for row in range(piece):
            if row & half:
                continue
            x, y = square[row], square[row + half]
            low = [lane if not lane & half else lanes + lane - half for lane in range(lanes)]
            high = [lane + half if not lane & half else lanes + lane for lane in range(lanes)]
            for target, lanes_taken in ((row, low), (row + half, high)):
                pattern = ir.Constant(ir.VectorType(ir.IntType(32), lanes), lanes_taken)
                swapped[target] = builder.shuffle_vector(x, y, pattern)
        square = swapped
        half //= 2
    return square
