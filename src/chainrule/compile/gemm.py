"""Matrix products: one function per `Gemm`, generated for its sizes and strides.

The algorithm is that of Goto and van de Geijn (2008), with BLIS's division of labour: a microkernel keeps a tile of
the product in registers over all of k (`gemm_microkernel`) and stores it through the body of the kernel
(`gemm_epilogue`); around it are the loops over tiles, with factors packed where that pays (`gemm_packing`). A
`gemm_plan.Plan` says which tiles, which order and which packing. The body sees complete sums, and nothing but it writes
to the arrays: where a long k is cut into blocks, what the tiles have so far is in the thread's own memory.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

from chainrule.compile import ir
from chainrule.compile.gemm_microkernel import Tile, emit_tile, offset
from chainrule.compile.gemm_packing import (
    Counted,
    emit_pack_columns,
    emit_pack_panels,
    emit_pack_short_rows,
    pack_long_rows,
    packed_strides,
    smaller,
)
from chainrule.compile.gemm_plan import Plan, plan, workspace_bytes
from chainrule.compile.gemm_strides import is_even
from chainrule.compile.kernels import Gemm
from chainrule.compile.machine import Machine
from chainrule.compile.scalars import INT64, POINTER, int64, load_pointers, scalar_type

__all__ = ["emit_gemm", "workspace_bytes"]

#: Elements of a that are not asked for ahead: the second-level cache still has them from the tiles of the last panel.
_STAYS_NEAR = 1 << 14


def emit_gemm(module: ir.Module, kernel: Gemm, name: str, machine: Machine) -> ir.Function:
    """Generate the function of a matrix product.

    Args:
        module: gets the function and its helpers.
        kernel: the product.
        name: of the function; those of its helpers begin with it.
        machine: whose vectors, registers and caches it is made for.

    Returns:
        `void (ptr arguments, i64 thread, i64 threads)`, which does the share of one thread.
    """
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER, INT64, INT64]), name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    if 0 not in (kernel.m, kernel.n, *kernel.batch):
        _Generator(builder, plan(kernel, machine)).emit()
    builder.ret_void()
    return function


class _Strip(NamedTuple):
    """The number of a tile's first row, and the address of its rows of a."""

    row: ir.Value
    address: ir.Value


class _Generator:
    """Emits the loops around the microkernel."""

    def __init__(self, builder: ir.IRBuilder, chosen: Plan) -> None:
        self.builder = builder
        self.module = builder.module
        self.function = builder.function
        self.arguments = self.function.args[0]
        self.plan = chosen
        self.kernel = chosen.kernel
        self.element = scalar_type(self.kernel.dtype)
        self.helpers: dict[str, ir.Function] = {}
        self.turns: list[ir.Value] = []

    def emit(self) -> None:
        builder, kernel, chosen = self.builder, self.kernel, self.plan
        pointers = load_pointers(builder, self.arguments, len(kernel.arguments))
        a, b = (offset(builder, pointers[x.argument], x.offset, self.element) for x in (kernel.a, kernel.b))
        self.packed_b = self._buffers(pointers)
        self.packed_a = offset(builder, self.packed_b, chosen.buffer_bytes - chosen.a_bytes, ir.IntType(8))
        shares = {axis: self._share(axis, count) for axis, count in (("m", chosen.tiles), ("n", chosen.panels))}
        self._over_batch(a, b, shares)

    def _share(self, axis: str, count: int) -> tuple[ir.Value, ir.Value]:
        """The range of `count` pieces of an axis that this thread does."""
        if self.plan.split != axis:
            return int64(0), int64(count)
        builder = self.builder
        _, thread, threads = self.function.args
        start = builder.udiv(builder.mul(thread, int64(count)), threads)
        stop = builder.udiv(builder.mul(builder.add(thread, int64(1)), int64(count)), threads)
        return start, stop

    def _over_batch(self, a: ir.Value, b: ir.Value, shares: dict[str, tuple[ir.Value, ir.Value]]) -> None:
        builder, kernel = self.builder, self.kernel
        first, last = self._share("batch", math.prod(kernel.batch))
        with Counted(builder, first, last) as flat:
            rest: ir.Value = flat
            indices: list[ir.Value] = []
            for length in reversed(kernel.batch):
                indices.insert(0, builder.urem(rest, int64(length)))
                rest = builder.udiv(rest, int64(length))
            for index, of_a, of_b in zip(indices, kernel.a.strides, kernel.b.strides, strict=False):
                a = offset(builder, a, builder.mul(index, int64(of_a)), self.element)
                b = offset(builder, b, builder.mul(index, int64(of_b)), self.element)
            self.is_first_batch = None
            if not any(kernel.a.strides[:-2]):
                self.is_first_batch = builder.icmp_signed("==", flat, first)
            self._over_blocks(a, b, indices, shares)

    def _over_blocks(
        self, a: ir.Value, b: ir.Value, batch: list[ir.Value], shares: dict[str, tuple[ir.Value, ir.Value]]
    ) -> None:
        builder, chosen = self.builder, self.plan
        if not chosen.cut:
            self._over_panels(a, b, batch, shares)
            return
        ((turns, _), *_) = self.kernel.a.strides[-1]
        with Counted(builder, int64(0), int64(turns), chosen.cut) as first:
            self.turns = [first, smaller(builder, builder.add(first, int64(chosen.cut)), int64(turns))]
            self._over_panels(a, b, batch, shares)

    def _over_panels(
        self, a: ir.Value, b: ir.Value, batch: list[ir.Value], shares: dict[str, tuple[ir.Value, ir.Value]]
    ) -> None:
        builder, chosen = self.builder, self.plan
        first_panel, last_panel = shares["n"]
        with Counted(builder, first_panel, last_panel, chosen.block) as start:
            stop = smaller(builder, builder.add(start, int64(chosen.block)), last_panel)
            if chosen.pack_b and not chosen.packs_in_passing:
                self._pack_panels(b, start, stop)

            def tile_of(strip: _Strip, tile: ir.Value, panel: ir.Value) -> None:
                column = builder.mul(panel, int64(chosen.width))
                self._tile(strip.address, b, [*batch, strip.row, column], tile, shares["m"][0], panel, start)

            is_first = builder.icmp_signed("==", start, first_panel)
            if self.is_first_batch is not None:  # strips that were packed for one are there for all
                is_first = builder.and_(is_first, self.is_first_batch)
            if chosen.strips or chosen.block > 1:
                with Counted(builder, *shares["m"]) as tile:
                    strip = self._strip(a, tile, shares["m"][0], is_first)
                    with Counted(builder, start, stop) as panel:
                        tile_of(strip, tile, panel)
            else:
                with Counted(builder, start, stop) as panel, Counted(builder, *shares["m"]) as tile:
                    tile_of(self._strip(a, tile, shares["m"][0], is_first), tile, panel)

    def _strip(self, a: ir.Value, tile: ir.Value, first_tile: ir.Value, is_first_block: ir.Value) -> _Strip:
        """The rows of a that a tile needs, packed if the plan says so."""
        builder, kernel, chosen = self.builder, self.kernel, self.plan
        row = self._first_row(tile)
        rows = offset(builder, a, builder.mul(row, int64(kernel.a.strides[-2])), self.element)
        if not chosen.strips:
            return _Strip(row, rows)
        packed = self.packed_a
        if chosen.strips > 1:
            ahead = builder.mul(builder.sub(tile, first_tile), int64(chosen.strip_bytes))
            packed = offset(builder, packed, ahead, ir.IntType(8))

        def pack(count: int) -> None:
            packer = self._helper(
                f"pack_{count}_rows", lambda name: emit_pack_short_rows(self.module, kernel, name, count, chosen.lanes)
            )
            self.builder.call(packer, [packed, rows])

        with builder.if_then(is_first_block) if chosen.strips > 1 else contextlib.nullcontext():
            if kernel.a.strides[-2] == 1:
                self._by_rows(tile, pack)
            else:
                count = builder.sub(self._first_row(builder.add(tile, int64(1))), row)
                pack_long_rows(builder, kernel, packed, rows, count, chosen.lanes)
        return _Strip(row, packed)

    def _tile(
        self,
        strip: ir.Value,
        b: ir.Value,
        indices: list[ir.Value],
        tile: ir.Value,
        first_tile: ir.Value,
        panel: ir.Value,
        first_panel: ir.Value,
    ) -> None:
        """One call of the microkernel, with a packed panel of b if there is one."""
        builder, kernel, chosen = self.builder, self.kernel, self.plan
        along_n = kernel.b.strides[-1]
        unpacked = b
        if is_even(along_n):
            unpacked = offset(builder, b, builder.mul(panel, int64(chosen.width * along_n)), self.element)
        ahead = builder.mul(builder.sub(panel, first_panel), int64(kernel.k * chosen.width))
        packed = offset(builder, self.packed_b, ahead, self.element)

        def call(rows: int, width: int, keeps: bool) -> None:
            reads_packed = chosen.packs(width) and not keeps
            a_row, a_step = packed_strides(kernel, rows, chosen.lanes) if chosen.strips else kernel.a.strides[-2:]
            b_step, b_column = (chosen.padded(width), 1) if reads_packed else kernel.b.strides[-2:]
            keep = chosen.padded(width) if keeps and chosen.packs(width) else 0
            cut = bool(chosen.cut)
            fetches = not chosen.strips and math.prod(kernel.batch) * kernel.m * kernel.k > _STAYS_NEAR
            shape = Tile(rows, width, a_row, a_step, b_step, b_column, reads_packed, chosen.inner, keep, fetches, cut)
            name = f"tile_{rows}x{width}" + ("_keep" if keep else "")
            multiply = self._helper(name, lambda name: emit_tile(self.module, kernel, name, shape, chosen.lanes))
            *batch, row, column = indices
            columns = packed if reads_packed else unpacked
            kept = self._partial_sums(tile, panel) if cut else packed
            self.builder.call(multiply, [self.arguments, strip, columns, kept, row, column, *batch, *self.turns])

        def calls(keeps: bool, tile: ir.Value) -> None:
            self._by_rows(tile, lambda rows: self._by_width(panel, lambda width: call(rows, width, keeps)))

        if not chosen.packs_in_passing:
            calls(False, tile)
            return
        with builder.if_else(builder.icmp_signed("==", tile, first_tile)) as (then, otherwise):
            with then:
                calls(True, first_tile)
            with otherwise:
                calls(False, tile)

    def _partial_sums(self, tile: ir.Value, panel: ir.Value) -> ir.Value:
        """Where a tile's sums over the first turns of k are."""
        number = self.builder.add(self.builder.mul(tile, int64(self.plan.panels)), panel)
        return offset(self.builder, self.packed_b, self.builder.mul(number, int64(self.plan.tile_bytes)), ir.IntType(8))

    def _pack_panels(self, b: ir.Value, start: ir.Value, stop: ir.Value) -> None:
        """Pack a block of panels."""
        builder, kernel, chosen = self.builder, self.kernel, self.plan
        if kernel.b.strides[-1] == 1:
            packer = self._helper(
                "pack_panels", lambda name: emit_pack_panels(self.module, kernel, name, chosen.width, chosen.lanes)
            )
            source = offset(builder, b, builder.mul(start, int64(chosen.width)), self.element)
            full = smaller(builder, stop, int64(kernel.n // chosen.width))
            builder.call(packer, [self.packed_b, source, builder.sub(full, start)])
            return
        with Counted(builder, start, stop) as panel:
            column = builder.mul(panel, int64(chosen.width * kernel.b.strides[-1]))
            source = offset(builder, b, column, self.element)
            ahead = builder.mul(builder.sub(panel, start), int64(kernel.k * chosen.width))
            to = offset(builder, self.packed_b, ahead, self.element)
            self._by_width(panel, lambda width: self._pack_columns(to, source, width))

    def _pack_columns(self, to: ir.Value, source: ir.Value, width: int) -> None:
        """Pack one panel, vector by vector."""
        kernel, lanes, whole = self.kernel, self.plan.lanes, self.plan.padded(width)
        for first in range(0, width, lanes):
            count = min(lanes, width - first)
            emit = functools.partial(emit_pack_columns, count=count, width=whole, lanes=lanes)
            packer = self._helper(
                f"pack_{count}_columns_of_{whole}",
                lambda name, emit=emit: emit(self.module, kernel, name),  # type: ignore[misc]
            )
            columns = offset(self.builder, source, first * kernel.b.strides[-1], self.element)
            self.builder.call(packer, [offset(self.builder, to, first, self.element), columns])

    def _by_rows(self, tile: ir.Value, emit: Callable[[int], None]) -> None:
        """Emit for each number of rows a tile may have, of which one is larger by one than the other."""
        builder, tiles = self.builder, self.plan.tiles
        fewer, longer = divmod(self.kernel.m, tiles)
        if longer == 0 or isinstance(tile, ir.Constant):
            first = tile.constant if isinstance(tile, ir.Constant) else 0
            emit((first + 1) * self.kernel.m // tiles - first * self.kernel.m // tiles)
            return
        rows = builder.sub(self._first_row(builder.add(tile, int64(1))), self._first_row(tile))
        with builder.if_else(builder.icmp_signed(">", rows, int64(fewer))) as (then, otherwise):
            with then:
                emit(fewer + 1)
            with otherwise:
                emit(fewer)

    def _first_row(self, tile: ir.Value) -> ir.Value:
        """The number of a tile's first row. They are spread so evenly that threads have equally many."""
        builder = self.builder
        return builder.udiv(builder.mul(tile, int64(self.kernel.m)), int64(self.plan.tiles))

    def _by_width(self, panel: ir.Value, emit: Callable[[int], None]) -> None:
        """Emit for the width of full panels and for that of the last."""
        full = self.kernel.n // self.plan.width
        self._either(panel, full, self.plan.panels, lambda: emit(self.plan.width), lambda: emit(self.plan.tail))

    def _either(
        self, index: ir.Value, border: int, count: int, before: Callable[[], None], after: Callable[[], None]
    ) -> None:
        """Emit what is done for indices before the border and what is done from there on."""
        known = index.constant if isinstance(index, ir.Constant) else None
        if border == count or (known is not None and known < border):
            before()
        elif border == 0 or known is not None:
            after()
        else:
            with self.builder.if_else(self.builder.icmp_signed("<", index, int64(border))) as (then, otherwise):
                with then:
                    before()
                with otherwise:
                    after()

    def _buffers(self, pointers: list[ir.Value]) -> ir.Value:
        """This thread's memory for packed panels of b, with that for strips of a behind it."""
        builder, size = self.builder, self.plan.buffer_bytes
        if self.kernel.workspace is None:
            return builder.alloca(ir.ArrayType(ir.IntType(8), size), align=64)
        ahead = builder.mul(self.function.args[1], int64(size))
        return offset(builder, pointers[self.kernel.workspace], ahead, ir.IntType(8))

    def _helper(self, name: str, emit: Callable[[str], ir.Function]) -> ir.Function:
        """The helper of that name, emitted when first asked for."""
        if name not in self.helpers:
            self.helpers[name] = emit(f"{self.function.name}_{name}")
        return self.helpers[name]
