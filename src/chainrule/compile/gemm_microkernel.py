"""The innermost function of a matrix product: one register tile over the whole of k, then the epilogue.

A tile is `rows × (vectors·lanes)` accumulators. Each step of k loads one row of b as vectors and broadcasts one
column of a. The loops over tiles and the packing of factors are in `gemm` and `gemm_packing`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from chainrule.compile import ir
from chainrule.compile.gemm_epilogue import Epilogue, Vector, lanes_below, prefetch
from chainrule.compile.gemm_strides import digits, distance, is_even
from chainrule.compile.kernels import Gemm, Stride
from chainrule.compile.lanes import Short
from chainrule.compile.scalars import INT64, POINTER, count_up, int64, intrinsic, scalar_type, spread, with_lanes

STEPS_AHEAD = 16  # steps of k of which rows are asked for early; the processor foresees no such distances

_LINE = 64  # bytes that a cache fetches at once


class Tile(NamedTuple):
    """The shape of one microkernel.

    Attributes:
        rows: of a and of the product.
        width: columns of b and of the product.
        a_row, a_step: strides of a along m and along k, in elements.
        b_step, b_column: strides of b along k and along n. Strides along k may be uneven, and so may that along n if
            vectors run along k; then b is the address of column 0 of the product.
        padded: whether b may be read up to a whole number of vectors.
        inner: whether vectors run along k, where both factors are contiguous.
        keep: stride along k of a packed copy of b that is made in passing; 0 for none.
        fetches: whether the strip of a that follows in memory is asked for meanwhile.
        is_cut: whether only some turns of an uneven k are made, which the last two arguments tell. What the tile has
            so far is then in `kept`, a vector a row.
    """

    rows: int
    width: int
    a_row: int
    a_step: Stride
    b_step: Stride
    b_column: Stride
    padded: bool
    inner: bool
    keep: int
    fetches: bool = False
    is_cut: bool = False


def emit_tile(module: ir.Module, kernel: Gemm, name: str, tile: Tile, lanes: int) -> ir.Function:
    """One tile of the product: `void (ptr arguments, ptr a, ptr b, ptr kept, i64 row, i64 column, i64 batch...)`.

    If k is cut, the first turn and the one after the last follow.
    """
    function = ir.Function(module, tile_type(len(kernel.batch) + 2 * tile.is_cut), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    arguments, a, b, kept, row, column, *batch = function.args
    turns = tuple(batch[len(kernel.batch) :])
    del batch[len(kernel.batch) :]
    for pointer in (arguments, a, b, kept):
        pointer.add_attribute("noalias")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    vectors = [Vector(first, min(lanes, tile.width - first), lanes) for first in range(0, tile.width, lanes)]
    epilogue = Epilogue(builder, kernel, arguments, [*batch, row, column])
    epilogue.prefetch(tile.rows, vectors)
    if tile.inner:
        sums = _inner_products(builder, kernel, tile, lanes, a, _columns(builder, kernel, tile, b, column), turns)
        if tile.is_cut:
            sums = _with_partial(builder, kernel, kept, turns[0], sums)
            with builder.if_else(builder.icmp_signed("==", turns[1], int64(_turns(tile)))) as (then, otherwise):
                with then:
                    epilogue.emit(sums, vectors)
                with otherwise:
                    _keep_partial(builder, kernel, kept, sums)
            builder.ret_void()
            return function
    else:
        sums = _multiply(builder, kernel, tile, vectors, (a, b, kept))
    epilogue.emit(sums, vectors)
    builder.ret_void()
    return function


def tile_type(batch_axes: int) -> ir.FunctionType:
    """The type of a microkernel."""
    return ir.FunctionType(ir.VoidType(), [POINTER] * 4 + [INT64] * (2 + batch_axes))


def _multiply(
    builder: ir.IRBuilder,
    kernel: Gemm,
    tile: Tile,
    vectors: list[Vector],
    pointers: tuple[ir.Value, ir.Value, ir.Value],
) -> list[list[ir.Value]]:
    """The accumulators after all of k, by row and vector: each step adds a column of a times a row of b."""
    a, b, kept = pointers
    along_n = tile.b_column
    assert isinstance(along_n, int)
    element, lanes, size = scalar_type(kernel.dtype), vectors[0].lanes, kernel.dtype.itemsize

    def add(step: ir.Value, sums: list[list[ir.Value]]) -> list[list[ir.Value]]:
        row = offset(builder, b, distance(builder, step, tile.b_step), element)
        column = offset(builder, a, distance(builder, step, tile.a_step), element)
        rights = []
        for vector in vectors:
            address = offset(builder, row, vector.first * along_n, element)
            mask = None if tile.padded else vector.mask
            rights.append(load_vector(builder, address, along_n, element, lanes, mask))
            if tile.keep:
                if isinstance(tile.b_step, int):
                    prefetch(builder, offset(builder, address, STEPS_AHEAD * tile.b_step, element), to_write=False)
                to = offset(builder, kept, builder.mul(step, int64(tile.keep)), element)
                builder.store(rights[-1], offset(builder, to, vector.first, element), align=size)
        _fetch_column(builder, tile, column, kernel.dtype)
        _fetch_next_strip(builder, tile, a, step, kernel)
        results = []
        for i, line in enumerate(sums):
            factor = builder.load(offset(builder, column, i * tile.a_row, element), typ=element, align=size)
            left = spread(builder, factor, lanes)
            results.append([_multiply_add(builder, left, right, x) for right, x in zip(rights, line, strict=True)])
        return results

    zero = Short(with_lanes(element, lanes), "zeroinitializer")
    zeros: list[list[ir.Value]] = [[zero for _ in vectors] for _ in range(tile.rows)]
    return _summed(builder, zeros, 0, kernel.k, 1, add)


def _fetch_column(builder: ir.IRBuilder, tile: Tile, column: ir.Value, dtype: np.dtype) -> None:
    """Ask for the column of a that comes some steps later, where it is contiguous and in other lines than this one."""
    if not isinstance(tile.a_step, int) or tile.a_row != 1 or abs(tile.a_step) * dtype.itemsize < _LINE:
        return
    for row in {0, tile.rows - 1}:
        place = STEPS_AHEAD * tile.a_step + row
        prefetch(builder, offset(builder, column, place, scalar_type(dtype)), to_write=False)


def _fetch_next_strip(builder: ir.IRBuilder, tile: Tile, a: ir.Value, step: ir.Value, kernel: Gemm) -> None:
    """With each step of k, ask the second-level cache for as much of the rows below this tile, if rows lie closely."""
    if not tile.fetches or tile.a_step != 1 or not kernel.k <= tile.a_row <= 2 * kernel.k:
        return
    strip = tile.rows * tile.a_row
    share = strip // kernel.k
    place = builder.add(builder.mul(step, int64(share)), int64(strip))
    for line in range(0, share, _LINE // kernel.dtype.itemsize):
        address = offset(builder, a, builder.add(place, int64(line)), scalar_type(kernel.dtype))
        prefetch(builder, address, to_write=False, level=2)


def _columns(
    builder: ir.IRBuilder, kernel: Gemm, tile: Tile, b: ir.Value, first: ir.Value
) -> Callable[[int], ir.Value]:
    """The address of a tile's columns of b, by their number."""
    element, stride = scalar_type(kernel.dtype), tile.b_column
    if isinstance(stride, int):
        return lambda column: offset(builder, b, column * stride, element)
    places = [distance(builder, builder.add(first, int64(j)), stride) for j in range(tile.width)]
    addresses = [offset(builder, b, place, element) for place in places]
    return addresses.__getitem__


def _inner_products(
    builder: ir.IRBuilder,
    kernel: Gemm,
    tile: Tile,
    lanes: int,
    a: ir.Value,
    column: Callable[[int], ir.Value],
    turns: tuple[ir.Value, ...],
) -> list[list[ir.Value]]:
    """One vector for each row of the tile: its lanes are inner products of that row of a and the columns of b."""
    element = scalar_type(kernel.dtype)
    zero = Short(with_lanes(element, lanes), "zeroinitializer")
    *outer_a, (run, _) = digits(tile.a_step, tile.b_step) if not _is_run(tile) else ((kernel.k, 1),)
    *outer_b, _ = digits(tile.b_step, tile.a_step)
    whole, rest = run // lanes * lanes, run % lanes

    def vector(base: ir.Value, step: ir.Value, mask: ir.Value | None) -> ir.Value:
        return load_vector(builder, offset(builder, base, step, element), 1, element, lanes, mask)

    def run_from(of_a: ir.Value, of_b: ir.Value, sums: list[list[ir.Value]]) -> list[list[ir.Value]]:
        rows = [offset(builder, offset(builder, a, i * tile.a_row, element), of_a, element) for i in range(tile.rows)]
        columns = [offset(builder, column(j), of_b, element) for j in range(tile.width)]

        def add(step: ir.Value, sums: list[list[ir.Value]], mask: ir.Value | None = None) -> list[list[ir.Value]]:
            if tile.rows < tile.width:  # the fewer are kept in registers, and the others pass by
                lefts = [vector(row, step, mask) for row in rows]
                by_column = []
                for j, base in enumerate(columns):
                    right = vector(base, step, mask)
                    by_column.append([_multiply_add(builder, left, right, sums[i][j]) for i, left in enumerate(lefts)])
                return [list(line) for line in zip(*by_column, strict=True)]
            rights = [vector(base, step, mask) for base in columns]
            results = []
            for row, line in zip(rows, sums, strict=True):
                left = vector(row, step, mask)
                results.append([_multiply_add(builder, left, right, x) for right, x in zip(rights, line, strict=True)])
            return results

        sums = _summed(builder, sums, 0, whole, lanes, add)
        return add(int64(whole), sums, lanes_below(rest, lanes)) if rest else sums

    zeros: list[list[ir.Value]] = [[zero] * tile.width for _ in range(tile.rows)]
    if not outer_a:
        sums = run_from(int64(0), int64(0), zeros)
    else:
        steps_a, steps_b = tuple(outer_a), tuple(outer_b)
        first, last = turns or (int64(0), int64(_turns(tile)))
        sums = _summed(
            builder, zeros, first, last, 1,
            lambda step, sums: run_from(distance(builder, step, steps_a), distance(builder, step, steps_b), sums),
            unrolls=False,
        )  # fmt: skip
    return [[_sums_of_lanes(builder, line)] for line in sums]


def _turns(tile: Tile) -> int:
    """How often the innermost of the axes that k is made of is run through."""
    return math.prod(n for n, _ in digits(tile.a_step, tile.b_step)[:-1])


def _with_partial(
    builder: ir.IRBuilder, kernel: Gemm, kept: ir.Value, first_turn: ir.Value, sums: list[list[ir.Value]]
) -> list[list[ir.Value]]:
    """The sums with what was kept of earlier turns, if there were any."""
    is_first = builder.icmp_signed("==", first_turn, int64(0))
    totals = []
    for row, (value,) in enumerate(sums):
        before = builder.load(_partial(builder, kernel, kept, row, value), typ=value.type, align=16)
        before = builder.select(is_first, Short(value.type, "zeroinitializer"), before)
        totals.append([builder.fadd(before, value)])
    return totals


def _keep_partial(builder: ir.IRBuilder, kernel: Gemm, kept: ir.Value, sums: list[list[ir.Value]]) -> None:
    for row, (value,) in enumerate(sums):
        builder.store(value, _partial(builder, kernel, kept, row, value), align=16)


def _partial(builder: ir.IRBuilder, kernel: Gemm, kept: ir.Value, row: int, like: ir.Value) -> ir.Value:
    return offset(builder, kept, row * like.type.count, scalar_type(kernel.dtype))


def _is_run(tile: Tile) -> bool:
    return is_even(tile.a_step) and is_even(tile.b_step)


def _summed(
    builder: ir.IRBuilder,
    zeros: list[list[ir.Value]],
    start: int | ir.Value,
    stop: int | ir.Value,
    stride: int,
    add: Callable[[ir.Value, list[list[ir.Value]]], list[list[ir.Value]]],
    unrolls: bool = True,
) -> list[list[ir.Value]]:
    """A loop over `range(start, stop, stride)` that carries accumulators, `add` being its body."""
    if stop == 0:
        return zeros
    unroll = _unroll(stop // stride, len(zeros) * len(zeros[0])) if unrolls and isinstance(stop, int) else 1
    start, stop = (int64(end) if isinstance(end, int) else end for end in (start, stop))
    before, loop, after = builder.block, builder.append_basic_block("k"), builder.append_basic_block("summed")
    builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(INT64)
    step.add_incoming(start, before)
    phis = [[builder.phi(zero.type) for zero in line] for line in zeros]
    sums: list[list[ir.Value]] = [[*line] for line in phis]
    for ahead in range(unroll):
        sums = add(builder.add(step, int64(ahead * stride)) if ahead else step, sums)
    for line, starts, results in zip(phis, zeros, sums, strict=True):
        for phi, zero, result in zip(line, starts, results, strict=True):
            phi.add_incoming(zero, before)
            phi.add_incoming(result, builder.block)
    following = builder.add(step, int64(unroll * stride))
    step.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, stop), loop, after)
    builder.position_at_end(after)
    return sums


def _sums_of_lanes(builder: ir.IRBuilder, vectors: list[ir.Value]) -> ir.Value:
    """A vector whose lane i is the sum of the lanes of vector i; lanes beyond are zero or repetitions.

    Vectors are merged two and two: of each segment (the lanes that belong to one vector) the upper half is added to
    the lower one, which leaves room for the other vector's segments.
    """
    lanes = vectors[0].type.count
    zero = Short(vectors[0].type, "zeroinitializer")
    segment = lanes
    while segment > 1:
        if len(vectors) % 2 and len(vectors) > 1:
            vectors = [*vectors, zero]
        lower = [lane for lane in range(lanes) if lane % segment < segment // 2]
        upper = [lane + segment // 2 for lane in lower]
        pairs = zip(vectors[::2], vectors[1::2], strict=True) if len(vectors) > 1 else [(vectors[0], vectors[0])]
        vectors = [
            builder.fadd(_lanes_of_two(builder, x, y, lower), _lanes_of_two(builder, x, y, upper)) for x, y in pairs
        ]
        segment //= 2
    return vectors[0]


def _lanes_of_two(builder: ir.IRBuilder, x: ir.Value, y: ir.Value, lanes: list[int]) -> ir.Value:
    """The named lanes of one vector, then those of another."""
    pattern = [*lanes, *(x.type.count + lane for lane in lanes)]
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), len(pattern)), pattern))


def _unroll(k: int, accumulators: int) -> int:
    """How many steps of k one turn of the loop makes: a divisor of k, so that nothing is left over."""
    wanted = max(1, 32 // accumulators)
    return next(count for count in (8, 4, 2, 1) if count <= wanted and k % count == 0)


def _multiply_add(builder: ir.IRBuilder, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
    return intrinsic(builder, "fmuladd", x.type, [x, y, z], [x.type])


def offset(builder: ir.IRBuilder, base: ir.Value, elements: ir.Value | int, element: ir.Type) -> ir.Value:
    """The address `elements` further than `base`."""
    if isinstance(elements, int):
        if elements == 0:
            return base
        elements = int64(elements)
    return builder.gep(base, [elements], source_etype=element)


def load_vector(
    builder: ir.IRBuilder, address: ir.Value, stride: int, element: ir.Type, lanes: int, mask: ir.Value | None
) -> ir.Value:
    """`lanes` elements from `address` on; zero where the mask is false, and nothing is touched there."""
    kind, size = with_lanes(element, lanes), 8 if isinstance(element, ir.DoubleType) else 4
    if mask is None and stride == 1:
        return builder.load(address, typ=kind, align=size)
    name = "masked.load"
    if stride != 1:
        name = "masked.gather"
        address = builder.gep(address, [count_up(lanes, stride)], source_etype=element)
        mask = mask or lanes_below(lanes, lanes)
    assert mask is not None
    inputs = [address, ir.Constant(ir.IntType(32), size), mask, Short(kind, "zeroinitializer")]
    return intrinsic(builder, name, kind, inputs, [kind, address.type])
