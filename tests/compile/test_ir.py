"""LLVM code as text: what is written with `chainrule.compile.ir` is what llvmlite writes for the same calls."""

from __future__ import annotations

import ctypes
import math
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("llvmlite")

from llvmlite import ir as reference

from chainrule.compile import ir
from chainrule.compile.machine import Machine, Optimised, compile_module

MACHINE = Machine.host()

_CASTS = (
    ("trunc", "i64", "i32"), ("zext", "i32", "i64"), ("sext", "i32", "i64"), ("fptrunc", "f64", "f32"),
    ("fpext", "f32", "f64"), ("fptosi", "f64", "i64"), ("fptoui", "f64", "i64"), ("sitofp", "i64", "f64"),
    ("uitofp", "i32", "f32"), ("bitcast", "f64", "i64"),
)  # fmt: skip
_OF_INTEGERS = ("add", "sub", "mul", "udiv", "sdiv", "urem", "and_", "or_", "xor", "shl", "lshr", "ashr")
_OF_FLOATS = ("fadd", "fsub", "fmul", "fdiv", "frem")


def _kinds(ir: Any) -> dict[str, Any]:
    return {"i32": ir.IntType(32), "i64": ir.IntType(64), "f32": ir.FloatType(), "f64": ir.DoubleType()}


def _arithmetic(ir: Any, module: Any) -> None:
    """Every operation, each result written to memory."""
    kinds = _kinds(ir)
    for lanes in (1, 4):
        for name in ("i32", "f32", "f64"):
            kind = ir.VectorType(kinds[name], lanes) if lanes > 1 else kinds[name]
            function = ir.Function(module, ir.FunctionType(ir.VoidType(), [kind, kind, ir.PointerType()]), name * lanes)
            x, y, to = function.args
            b = ir.IRBuilder(function.append_basic_block())
            results = [getattr(b, each)(x, y) for each in (_OF_INTEGERS if name == "i32" else _OF_FLOATS)]
            compares = (b.icmp_signed, b.icmp_unsigned) if name == "i32" else (b.fcmp_ordered, b.fcmp_unordered)
            for compare in compares:
                for operator in ("<", "<=", ">", ">=", "==", "!="):
                    results.append(b.select(compare(operator, x, y), x, y))
            if name == "i32":
                results += [b.neg(x), b.not_(y)]
            else:
                flagged = b.fmul(x, y, flags=("contract",))
                results += [
                    b.fneg(x),
                    b.select(b.fcmp_unordered("uno", x, x), y, b.fadd(x, flagged, flags=["contract"])),
                ]
            for number, value in enumerate(results):
                place = b.gep(to, [ir.Constant(kinds["i64"], number)], source_etype=kind)
                b.store(value, place, align=4)
            b.ret_void()


def _casts(ir: Any, module: Any) -> None:
    kinds = _kinds(ir)
    for name, source, target in _CASTS:
        function = ir.Function(module, ir.FunctionType(kinds[target], [kinds[source]]), name)
        b = ir.IRBuilder(function.append_basic_block())
        b.ret(getattr(b, name)(function.args[0], kinds[target]))


def _constants(ir: Any, module: Any) -> None:
    kinds = _kinds(ir)
    double, int32 = kinds["f64"], kinds["i32"]
    written = [
        ir.Constant(kinds["f32"], 0.1), ir.Constant(kinds["f32"], 1e300), ir.Constant(double, math.nan),
        ir.Constant(double, -0.0), ir.Constant(double, -math.inf), ir.Constant(int32, -7), ir.Constant(int32, None),
        ir.Constant(ir.VectorType(double, 4), [0.5, -1.5, 2.0, 1e-310]), ir.Constant(ir.VectorType(int32, 4), None),
        ir.Constant(ir.VectorType(int32, 4), 3), ir.Constant(ir.PointerType(), None), ir.Constant(ir.IntType(1), True),
    ]  # fmt: skip
    table = ir.GlobalVariable(module, ir.ArrayType(kinds["i64"], 3), "table")
    table.initializer = ir.Constant(ir.ArrayType(kinds["i64"], 3), [5, 0, -9])
    table.global_constant = True
    table.linkage = "internal"
    function = ir.Function(module, ir.FunctionType(kinds["i64"], [ir.PointerType(), kinds["i64"]]), "constants")
    to, number = function.args
    b = ir.IRBuilder(function.append_basic_block())
    for place, value in enumerate(written):
        b.store(value, b.gep(to, [ir.Constant(kinds["i64"], 8 * place)], source_etype=double), align=8)
    b.ret(b.load(b.gep(table, [number], source_etype=kinds["i64"]), typ=kinds["i64"], align=8))


def _lanes(ir: Any, module: Any) -> None:
    kinds = _kinds(ir)
    four, int32 = ir.VectorType(kinds["f32"], 4), kinds["i32"]
    function = ir.Function(module, ir.FunctionType(kinds["f32"], [four, four, kinds["f32"]]), "lanes")
    function.linkage = ""
    x, y, z = function.args
    b = ir.IRBuilder(function.append_basic_block())
    both = b.shuffle_vector(x, y, ir.Constant(ir.VectorType(int32, 8), [0, 4, 1, 5, 2, 6, 3, 7]))
    with_it = b.insert_element(both, z, ir.Constant(int32, 5))
    b.ret(b.fadd(b.extract_element(with_it, ir.Constant(int32, 3)), b.extract_element(with_it, ir.Constant(int32, 5))))


def _branches(ir: Any, module: Any) -> None:
    """A loop with branches in it, memory on the stack, and a function that only this module knows."""
    int64 = _kinds(ir)["i64"]
    helper = ir.Function(module, ir.FunctionType(int64, [int64, ir.PointerType()]), "helper")
    helper.linkage = "internal"
    helper.attributes.add("noinline")
    helper.attributes.add("nounwind")
    helper.args[1].add_attribute("noalias")
    b = ir.IRBuilder(helper.append_basic_block())
    b.ret(b.add(helper.args[0], b.load(helper.args[1], typ=int64, align=8)))

    function = ir.Function(module, ir.FunctionType(int64, [int64]), "branches")
    (n,) = function.args
    b = ir.IRBuilder(function.append_basic_block("entry"))
    entry, loop, done = b.block, b.append_basic_block("loop"), b.append_basic_block("done")
    b.branch(loop)
    b.position_at_end(loop)
    with b.goto_entry_block():
        kept = b.alloca(int64, size=2)
        b.store(ir.Constant(int64, 1), kept, align=8)
    index = b.phi(int64)
    with b.if_else(b.icmp_signed("<", index, ir.Constant(int64, 3))) as (then, otherwise):
        with then:
            b.store(b.call(helper, [index, kept]), kept, align=8)
        with otherwise, b.if_then(b.icmp_signed("==", index, ir.Constant(int64, 7)), likely=False):
            b.store(index, kept, align=8)
    latch = b.block
    b.position_at_start(loop)
    total = b.phi(int64)
    b.position_at_end(latch)
    for phi, later in (
        (total, b.add(total, index)),
        (index, b.add(index, ir.Constant(int64, 1), flags=("nuw", "nsw"))),
    ):
        phi.add_incoming(ir.Constant(int64, 0), entry)
        phi.add_incoming(later, latch)
        following = later
    b.cbranch(b.icmp_unsigned("<", following, n), loop, done)
    b.position_at_end(done)
    b.ret(b.add(total, b.load(kept, typ=int64, align=8)))


def _written(ir: ModuleType, write: Any) -> str:
    module = ir.Module("test")
    write(ir, module)
    return str(module)


@pytest.mark.parametrize("write", [_arithmetic, _casts, _constants, _lanes, _branches])
def test_the_code_of_what_is_written_is_that_of_what_llvmlite_writes(write: Any) -> None:
    ours, theirs = (Optimised(_written(library, write), MACHINE) for library in (ir, reference))
    assert ours.object_code() == theirs.object_code()


def test_what_is_written_runs() -> None:
    module = ir.Module("test")
    _branches(ir, module)
    native = compile_module(module, MACHINE)
    branches = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(native.address("branches"))
    assert [branches(n) for n in (1, 5, 9)] == [0 + 1, 6 + 4, 28 + 7]


def test_equal_types_are_one_and_others_are_not() -> None:
    assert ir.VectorType(ir.IntType(32), 4) is ir.VectorType(ir.IntType(32), 4)
    kinds = [ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.VectorType(ir.IntType(32), 4)]
    kinds += [ir.VectorType(ir.IntType(32), 8), ir.ArrayType(ir.IntType(32), 4), ir.PointerType(), ir.VoidType()]
    assert len({id(kind) for kind in kinds}) == len({str(kind) for kind in kinds}) == len(kinds)


def test_a_module_has_as_many_instructions_as_llvmlite_counts() -> None:
    module, other = ir.Module("test"), reference.Module("test")
    _branches(ir, module)
    _branches(reference, other)
    assert module.length == sum(len(block.instructions) for each in other.functions for block in each.blocks)


def test_llvm_says_what_is_wrong_with_what_was_written() -> None:
    module = ir.Module("test")
    function = ir.Function(module, ir.FunctionType(ir.IntType(32), [ir.IntType(32), ir.FloatType()]), "wrong")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(builder.add(*function.args))
    with pytest.raises(RuntimeError, match="defined with type 'float' but expected 'i32'"):
        Optimised(str(module), MACHINE)
