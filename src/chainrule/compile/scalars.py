"""Instructions of a kernel's body as LLVM values, one lane or many at once.

What lives here: the type of each dtype, the table `FUNCTIONS` of elementwise functions, conversions, and loads and
stores. What does not: loops, reductions (`loops`), matrix products (`gemm`), and the polynomials behind `exp` and its
like (`vectormath`).

A body is emitted for a `Point`: the indices of lane 0 along every axis of the grid, the axis that the lanes count up
along, and how many they are. A value that is the same for all lanes stays a scalar, and is spread where it meets a
vector. So a kernel's code is

    pointers = load_pointers(builder, function.args[0], len(kernel.arguments))
    point = Point(pointers, indices, axis, lanes, mask)
    values = {number_of_product: accumulator}   # what the caller has already; those instructions are skipped
    emit_body(builder, body, values, point)

with `indices` one int64 per axis and `mask` None or `lanes` truth values, for lanes beyond the end of an axis. Only
loads and stores look at the mask. Emission may open new blocks: go on at `builder.block`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule.compile import ir, vectormath
from chainrule.compile.kernels import Access, Instruction
from chainrule.compile.lanes import Short, everywhere
from chainrule.compile.shelf import LONG, Shelf

POINTER = ir.PointerType()
INT64 = ir.IntType(64)
_BIT = ir.IntType(1)
_INT32 = ir.IntType(32)
_FIRST = ir.Constant(_INT32, 0)
_NARROW = 16  # bytes of a vector up to which the processor may have no fused multiply-add
_CONTRACT = ("contract",)  # a product and a sum may be rounded once, as one fused multiply-add

# Types and lanes ---------------------------------------------------------------------------------------------


def scalar_type(dtype: np.dtype) -> ir.Type:
    """The LLVM type of one value in a register; bool is one bit."""
    if dtype.kind == "f":
        return {4: ir.FloatType(), 8: ir.DoubleType()}[dtype.itemsize]
    return _BIT if dtype.kind == "b" else ir.IntType(8 * dtype.itemsize)


def memory_type(dtype: np.dtype) -> ir.Type:
    """The LLVM type of one value in memory; bool is one byte."""
    return ir.IntType(8) if dtype.kind == "b" else scalar_type(dtype)


def lanes_of(value: ir.Value) -> int:
    """How many lanes a value has; 1 for a scalar."""
    return value.type.count if isinstance(value.type, ir.VectorType) else 1


@functools.lru_cache(maxsize=256)
def with_lanes(element: ir.Type, lanes: int) -> Any:
    """A vector of `lanes` of `element`, or `element` itself for one lane."""
    return element if lanes == 1 else ir.VectorType(element, lanes)


def constant(dtype: np.dtype, value: Any) -> ir.Constant:
    """A Python number as a scalar of `dtype`."""
    return ir.Constant(scalar_type(dtype), {"f": float, "b": bool}.get(dtype.kind, int)(value))


def _like(x: ir.Value, value: Any) -> ir.Constant:
    """`value` in every lane, of the type of `x`."""
    if isinstance(x.type, ir.VectorType):
        return everywhere(x.type, ir.Constant(x.type.element, value))
    return ir.Constant(x.type, value)


@functools.lru_cache(maxsize=4096)
def int64(value: int) -> ir.Constant:
    """An int64 constant."""
    return ir.Constant(INT64, value)


def spread(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    """A scalar copied to every lane; a vector as it is."""
    if lanes == 1 or isinstance(value.type, ir.VectorType):
        return value
    if isinstance(value, ir.Constant):
        return everywhere(with_lanes(value.type, lanes), value)
    anything = Short(with_lanes(value.type, lanes), "poison")
    first = builder.insert_element(anything, value, _FIRST)
    return builder.shuffle_vector(first, anything, Short(with_lanes(_INT32, lanes), "zeroinitializer"))


def count_up(lanes: int, stride: int = 1) -> ir.Constant:
    """The int64 vector 0, stride, 2·stride, …"""
    return ir.Constant(ir.VectorType(INT64, lanes), [i * stride for i in range(lanes)])


def take_lanes(builder: ir.IRBuilder, value: ir.Value, lanes: Sequence[int]) -> ir.Value:
    """The named lanes of a vector, as a vector."""
    pattern = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
    return builder.shuffle_vector(value, Short(value.type, "poison"), pattern)


def fold_lanes(
    builder: ir.IRBuilder, value: ir.Value, combine: Callable[[ir.Value, ir.Value], ir.Value], to: int = 1
) -> ir.Value:
    """The lanes of a vector (a power of two of them) folded into `to` lanes, halves upon halves."""
    while (lanes := lanes_of(value)) > to:
        half = lanes // 2
        low, high = range(half), range(half, lanes)
        if half == 1:
            return combine(*(builder.extract_element(value, ir.Constant(ir.IntType(32), i)) for i in (0, 1)))
        value = combine(take_lanes(builder, value, low), take_lanes(builder, value, high))
    return value


def _mangled(kind: ir.Type) -> str:
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{_mangled(kind.element)}"
    return kind.intrinsic_name


def intrinsic(
    builder: ir.IRBuilder, name: str, result: ir.Type, inputs: Sequence[ir.Value], overload: Sequence[ir.Type]
) -> ir.Value:
    """A call of one of LLVM's intrinsics, declared at its first use in the module."""
    module = builder.module
    full_name = ".".join([f"llvm.{name}", *map(_mangled, overload)])
    function = module.globals.get(full_name)
    if function is None:
        function = ir.Function(module, ir.FunctionType(result, [value.type for value in inputs]), full_name)
    return builder.call(function, list(inputs))


# Elementwise functions ---------------------------------------------------------------------------------------


class Function(NamedTuple):
    """An elementwise function.

    Attributes:
        emit: `emit(builder, dtype, *inputs)`, the inputs being of `dtype` and having the same lanes.
        kinds: kinds of dtype it takes, by NumPy's letters.
        inputs: how many inputs it has.
        truth: whether its result is bool; otherwise it has the dtype of the inputs.
        approximate: whether it is a polynomial of `vectormath`, for floats; else it is exact.
    """

    emit: Callable[..., ir.Value]
    kinds: str
    inputs: int
    truth: bool = False
    approximate: bool = False


def _direct(name: str, inputs: int = 1) -> Function:
    """A function of floats that is one of LLVM's intrinsics."""

    def emit(b: ir.IRBuilder, dtype: np.dtype, *x: ir.Value) -> ir.Value:
        return intrinsic(b, name, x[0].type, x, [x[0].type])

    return Function(emit, "f", inputs)


def _transcendental(name: str, inputs: int = 1) -> Function:
    return Function(lambda b, dtype, *x: vectormath.emit(b, name, *x), "f", inputs, approximate=True)


def _by_kind(name_f: str, name_i: str, name_b: str | None = None) -> Function:
    """A binary function whose kinds are different methods of the builder."""

    def emit(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value, y: ir.Value) -> ir.Value:
        if dtype.kind == "f":
            return getattr(b, name_f)(x, y, flags=_CONTRACT)
        return getattr(b, name_b if dtype.kind == "b" and name_b else name_i)(x, y)

    return Function(emit, "iuf" + ("b" if name_b else ""), 2)


def _bits(name: str, kinds: str = "iub") -> Function:
    return Function(lambda b, dtype, x, y: getattr(b, name)(x, y), kinds, 2)


def _compare(operator: str) -> Function:
    def emit(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value, y: ir.Value) -> ir.Value:
        return compare(b, dtype, operator, x, y)

    return Function(emit, "iufb", 2, truth=True)


def compare(b: ir.IRBuilder, dtype: np.dtype, operator: str, x: ir.Value, y: ir.Value) -> ir.Value:
    """A comparison; with a NaN it is false, but for `!=`."""
    if dtype.kind == "f":
        return (b.fcmp_unordered if operator == "!=" else b.fcmp_ordered)(operator, x, y)
    return (b.icmp_signed if dtype.kind == "i" else b.icmp_unsigned)(operator, x, y)


def is_true(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value) -> ir.Value:
    """Whether a number is not zero. NaN is not."""
    return x if dtype.kind == "b" else compare(b, dtype, "!=", x, ir.Constant(x.type, None))


def _logical(combine: Callable[..., ir.Value], inputs: int = 2) -> Function:
    def emit(b: ir.IRBuilder, dtype: np.dtype, *x: ir.Value) -> ir.Value:
        return combine(b, *(is_true(b, dtype, value) for value in x))

    return Function(emit, "iufb", inputs, truth=True)


def _only_floats(emit: Callable[..., ir.Value], otherwise: Callable[..., ir.Value]) -> Callable[..., ir.Value]:
    return lambda b, dtype, *x: (emit if dtype.kind == "f" else otherwise)(b, dtype, *x)


def _identity(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value) -> ir.Value:
    return x


def _never(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value) -> ir.Value:
    return _as_bits(x, 0)


def _always(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value) -> ir.Value:
    return _as_bits(x, 1)


def _as_bits(x: ir.Value, value: int) -> ir.Constant:
    return _like(ir.Constant(with_lanes(_BIT, lanes_of(x)), None), value)


def _rounding(name: str) -> Function:
    return Function(_only_floats(_direct(name).emit, _identity), "iuf", 1)


def _fabs(b: ir.IRBuilder, x: ir.Value) -> ir.Value:
    return intrinsic(b, "fabs", x.type, [x], [x.type])


def _negative(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value) -> ir.Value:
    return b.fneg(x) if dtype.kind == "f" else b.neg(x)


def _abs(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value) -> ir.Value:
    if dtype.kind == "f":
        return _fabs(b, x)
    return b.select(b.icmp_signed("<", x, _like(x, 0)), b.neg(x), x) if dtype.kind == "i" else x


def _sign(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value) -> ir.Value:
    zero = ir.Constant(x.type, None)
    of_positive = b.select(compare(b, dtype, ">", x, zero), _like(x, 1), zero)
    if dtype.kind == "u":
        return of_positive
    ordered = b.select(compare(b, dtype, "<", x, zero), _like(x, -1), of_positive)
    return b.select(b.fcmp_unordered("uno", x, x), x, ordered) if dtype.kind == "f" else ordered


def _extreme(operator: str, of_bits: str) -> Function:
    def emit(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value, y: ir.Value) -> ir.Value:
        if dtype.kind == "b":
            return getattr(b, of_bits)(x, y)
        better = b.select(compare(b, dtype, operator, x, y), x, y)  # y where one is NaN: one instruction on x86
        return b.select(b.fcmp_unordered("uno", x, x), x, better) if dtype.kind == "f" else better

    return Function(emit, "iufb", 2)


def _integer(x: ir.Value) -> ir.Type:
    """The integer type as wide as the float type of `x`."""
    element = x.type.element if isinstance(x.type, ir.VectorType) else x.type
    return with_lanes(ir.IntType(32 if isinstance(element, ir.FloatType) else 64), lanes_of(x))


def _signbit(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value) -> ir.Value:
    whole = b.bitcast(x, _integer(x))
    return b.icmp_signed("<", whole, ir.Constant(whole.type, None))


def _nextafter(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value, y: ir.Value) -> ir.Value:
    """The bits of floats of one sign are ordered as the floats are."""
    whole = b.bitcast(x, _integer(x))
    zero = ir.Constant(x.type, None)
    away = b.xor(b.fcmp_ordered("<", x, y), b.fcmp_ordered("<", x, zero))  # from zero
    step = b.select(away, b.add(whole, _like(whole, 1)), b.sub(whole, _like(whole, 1)))
    least = b.bitcast(b.or_(_like(whole, 1), b.and_(b.bitcast(y, whole.type), _sign_mask(whole))), x.type)
    moved = b.select(b.fcmp_ordered("==", x, zero), least, b.bitcast(step, x.type))
    moved = b.select(b.fcmp_ordered("==", x, y), y, moved)
    return b.select(b.fcmp_unordered("uno", x, y), b.fadd(x, y), moved)


def _sign_mask(whole: ir.Value) -> ir.Constant:
    width = (whole.type.element if isinstance(whole.type, ir.VectorType) else whole.type).width
    return _like(whole, 1 << (width - 1))


def _isinf(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value) -> ir.Value:
    return b.fcmp_ordered("==", _fabs(b, x), _like(x, math.inf))


def _isfinite(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value) -> ir.Value:
    return b.fcmp_ordered("<", _fabs(b, x), _like(x, math.inf))


def _isnan(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value) -> ir.Value:
    return b.fcmp_unordered("uno", x, x)


def _shift(name_signed: str, name_unsigned: str) -> Function:
    """A shift by as many bits as there are, or more, or by a negative number, shifts everything out."""

    def emit(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value, y: ir.Value) -> ir.Value:
        name = name_signed if dtype.kind == "i" else name_unsigned
        within = b.icmp_unsigned("<", y, _like(y, 8 * dtype.itemsize))
        if name == "ashr":
            return b.ashr(x, b.select(within, y, _like(y, 8 * dtype.itemsize - 1)))
        return b.select(within, getattr(b, name)(x, b.select(within, y, _like(y, 0))), _like(x, 0))

    return Function(emit, "iu", 2)


# Division and powers -----------------------------------------------------------------------------------------


def _divide_integers(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value, y: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Quotient rounded down, and remainder; 0 and 0 for a divisor of 0."""
    zero = _like(y, 0)
    by_zero = b.icmp_unsigned("==", y, zero)
    if dtype.kind == "u":
        safe = b.select(by_zero, _like(y, 1), y)
        quotient = b.udiv(x, safe)
        return b.select(by_zero, zero, quotient), b.sub(x, b.mul(quotient, safe))
    by_minus_one = b.icmp_signed("==", y, _like(y, -1))  # the processor refuses to divide the least integer by it
    safe = b.select(b.or_(by_zero, by_minus_one), _like(y, 1), y)
    quotient = b.sdiv(x, safe)
    remainder = b.sub(x, b.mul(quotient, safe))
    inexact = b.icmp_signed("!=", remainder, zero)
    low = b.and_(inexact, b.icmp_signed("<", b.xor(remainder, y), zero))
    quotient = b.select(low, b.sub(quotient, _like(y, 1)), quotient)
    quotient = b.select(by_minus_one, b.neg(x), b.select(by_zero, zero, quotient))
    return quotient, b.select(low, b.add(remainder, y), remainder)


def _divide_floats(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value, y: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Quotient rounded down, and remainder with the sign of the divisor, by NumPy's algorithm (`npy_divmod`)."""
    zero = ir.Constant(x.type, None)
    rest = b.frem(x, y)
    inexact = b.fcmp_unordered("!=", rest, zero)
    low = b.and_(inexact, b.xor(b.fcmp_ordered("<", y, zero), b.fcmp_ordered("<", rest, zero)))
    by_zero = b.fcmp_ordered("==", y, zero)
    exact = _copysign(b, dtype, zero, y)
    remainder = b.select(inexact, b.select(low, b.fadd(rest, y), rest), exact)
    remainder = b.select(by_zero, rest, remainder)
    ratio = b.fdiv(b.fsub(x, rest), y)
    ratio = b.select(low, b.fsub(ratio, _like(x, 1.0)), ratio)
    below = _floor(b, dtype, ratio)
    off = b.fcmp_ordered(">", b.fsub(ratio, below), _like(x, 0.5))
    whole = b.select(off, b.fadd(below, _like(x, 1.0)), below)
    direct = b.fdiv(x, y)
    whole = b.select(b.fcmp_ordered("==", ratio, zero), _copysign(b, dtype, zero, direct), whole)
    return b.select(by_zero, direct, whole), remainder


def _divide_by_one_number(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value, y: ir.Value) -> ir.Value:
    """Vectors divided by a scalar: the product with its reciprocal, corrected once by what is left of x.

    That is the division's own result, for less (Markstein, 1990, "Computation of elementary functions on the IBM RISC
    System/6000 processor", theorem 8.1); where x or the result is close to the subnormal numbers, it may be one unit in
    the last place off. Both sides are scaled first where the reciprocal would be subnormal or infinite.
    """
    far = 100 if dtype.itemsize == 4 else 900
    down = ir.Constant(y.type, 2.0 ** (-2 * far // 3))
    up = ir.Constant(y.type, 2.0 ** (2 * far // 3))
    size = _fabs(b, y)
    large = b.fcmp_ordered(">", size, ir.Constant(y.type, 2.0**far))
    small = b.fcmp_ordered("<", size, ir.Constant(y.type, 2.0**-far))
    scale = b.select(large, down, b.select(small, up, ir.Constant(y.type, 1.0)))
    divisor = b.fmul(y, scale)
    lanes = lanes_of(x)
    reciprocal = spread(b, b.fdiv(ir.Constant(y.type, 1.0), divisor), lanes)
    x = b.fmul(x, spread(b, scale, lanes))
    quotient = b.fmul(x, reciprocal)
    rest = intrinsic(b, "fma", x.type, [b.fneg(quotient), spread(b, divisor, lanes), x], [x.type])
    better = intrinsic(b, "fma", x.type, [rest, reciprocal, quotient], [x.type])
    size = _fabs(b, quotient)
    regular = b.and_(b.fcmp_ordered(">", size, _like(x, 0.0)), b.fcmp_ordered("<", size, _like(x, math.inf)))
    return b.select(regular, better, quotient)


def _divided(part: int) -> Callable[..., ir.Value]:
    def emit(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value, y: ir.Value) -> ir.Value:
        return (_divide_floats if dtype.kind == "f" else _divide_integers)(b, dtype, x, y)[part]

    return emit


def _integer_power(b: ir.IRBuilder, dtype: np.dtype, x: ir.Value, y: ir.Value) -> ir.Value:
    """Repeated squaring until the exponents of all lanes are used up."""
    start = b.block
    body, done = b.append_basic_block("power"), b.append_basic_block("power.done")
    b.branch(body)
    b.position_at_end(body)
    power, square, exponent = (b.phi(x.type) for _ in range(3))
    one = _like(x, 1)
    odd = b.icmp_unsigned("!=", b.and_(exponent, one), _like(x, 0))
    next_power = b.select(odd, b.mul(power, square), power)
    rest = b.lshr(exponent, one)
    for phi, before, after in ((power, one, next_power), (square, x, b.mul(square, square)), (exponent, y, rest)):
        phi.add_incoming(before, start)
        phi.add_incoming(after, body)
    left = fold_lanes(b, rest, b.or_)
    b.cbranch(b.icmp_unsigned("!=", left, ir.Constant(left.type, 0)), body, done)
    b.position_at_end(done)
    return next_power


_copysign = _direct("copysign", 2).emit
_floor = _direct("floor").emit
_power = _only_floats(_transcendental("pow", 2).emit, _integer_power)

#: The elementwise functions, by their array API names (NumPy's, where the standard has none).
FUNCTIONS: dict[str, Function] = {
    "add": _by_kind("fadd", "add", "or_"),
    "subtract": _by_kind("fsub", "sub"),
    "multiply": _by_kind("fmul", "mul", "and_"),
    "divide": Function(lambda b, dtype, x, y: b.fdiv(x, y), "f", 2),
    "floor_divide": Function(_divided(0), "iuf", 2),
    "remainder": Function(_divided(1), "iuf", 2),
    "pow": Function(_power, "iuf", 2, approximate=True),
    "negative": Function(_negative, "iuf", 1),
    "positive": Function(_identity, "iuf", 1),
    "abs": Function(_abs, "iufb", 1),
    "sign": Function(_sign, "iuf", 1),
    "square": Function(lambda b, dtype, x: FUNCTIONS["multiply"].emit(b, dtype, x, x), "iuf", 1),
    "sqrt": _direct("sqrt"),
    "maximum": _extreme(">", "or_"),
    "minimum": _extreme("<", "and_"),
    "floor": _rounding("floor"),
    "ceil": _rounding("ceil"),
    "trunc": _rounding("trunc"),
    "round": _rounding("roundeven"),
    "copysign": _direct("copysign", 2),
    "signbit": Function(_signbit, "f", 1, truth=True),
    "nextafter": Function(_nextafter, "f", 2),
    "isnan": Function(_only_floats(_isnan, _never), "iufb", 1, truth=True),
    "isinf": Function(_only_floats(_isinf, _never), "iufb", 1, truth=True),
    "isfinite": Function(_only_floats(_isfinite, _always), "iufb", 1, truth=True),
    "equal": _compare("=="),
    "not_equal": _compare("!="),
    "less": _compare("<"),
    "less_equal": _compare("<="),
    "greater": _compare(">"),
    "greater_equal": _compare(">="),
    "logical_and": _logical(lambda b, x, y: b.and_(x, y)),
    "logical_or": _logical(lambda b, x, y: b.or_(x, y)),
    "logical_xor": _logical(lambda b, x, y: b.xor(x, y)),
    "logical_not": _logical(lambda b, x: b.not_(x), 1),
    "bitwise_and": _bits("and_"),
    "bitwise_or": _bits("or_"),
    "bitwise_xor": _bits("xor"),
    "bitwise_invert": Function(lambda b, dtype, x: b.not_(x), "iub", 1),
    "bitwise_left_shift": _shift("shl", "shl"),
    "bitwise_right_shift": _shift("ashr", "lshr"),
    **{
        name: _transcendental(name, 2 if name in ("atan2", "hypot", "logaddexp") else 1)
        for name in sorted(vectormath.NAMES - {"sqrt", "pow"})
    },
}


def convert(builder: ir.IRBuilder, x: ir.Value, source: np.dtype, target: np.dtype) -> ir.Value:
    """`x` of dtype `source` as dtype `target`, as NumPy's `astype` does.

    A float beyond the range of an integer dtype gives some integer, as in C.
    """
    if source == target:
        return x
    if target.kind == "b":
        return is_true(builder, source, x)
    kind = with_lanes(scalar_type(target), lanes_of(x))
    if source.kind == "f" and target.kind == "f":
        return (builder.fpext if target.itemsize > source.itemsize else builder.fptrunc)(x, kind)
    if target.kind == "f":
        return (builder.sitofp if source.kind == "i" else builder.uitofp)(x, kind)
    if source.kind == "f":
        if target == np.uint64:
            return builder.fptoui(x, kind)
        wide = 64 if target.itemsize == 8 or target == np.uint32 else 32
        x = builder.fptosi(x, with_lanes(ir.IntType(wide), lanes_of(x)))
        return x if wide == 8 * target.itemsize else builder.trunc(x, kind)
    if source.kind == "b" or target.itemsize > source.itemsize:
        return (builder.sext if source.kind == "i" else builder.zext)(x, kind)
    return builder.trunc(x, kind) if target.itemsize < source.itemsize else x


# Points and memory -------------------------------------------------------------------------------------------


class Point:
    """Where in the grid a body is emitted, and what it can reach from there.

    Offsets are computed at their first use and kept: use a point only where that use dominates.

    Args:
        pointers: address of each argument, as `load_pointers` gives them.
        indices: int64 index along each axis of the grid, of lane 0.
        axis: the axis along which the index of lane i is that of lane 0 plus i; any for a single lane.
        lanes: how many points of the grid are meant.
        mask: which of them are inside the grid; None for all.
    """

    __slots__ = ("_addresses", "_offsets", "_spread", "ahead", "axis", "base", "indices", "lanes", "mask", "pointers")

    def __init__(
        self,
        pointers: Sequence[ir.Value],
        indices: Sequence[ir.Value],
        axis: int = 0,
        lanes: int = 1,
        mask: ir.Value | None = None,
    ) -> None:
        self.pointers = pointers
        self.indices = indices
        self.axis = axis
        self.lanes = lanes
        self.mask = mask
        self.base = self
        self.ahead: tuple[int, ...] = ()
        self._offsets: dict[tuple[int, ...], ir.Value | None] = {}
        self._addresses: dict[tuple[int, tuple[int, ...]], ir.Value] = {}
        self._spread: dict[tuple[int, int], tuple[ir.Value, ir.Value]] = {}

    def further(self, ahead: tuple[int, ...], lanes: int, mask: ir.Value | None) -> Point:
        """The point so many steps further along the axes; what is known of this one need not be computed again."""
        point = Point(self.pointers, self.indices, self.axis, lanes, mask)
        point.base, point.ahead = self.base, ahead
        return point

    def index(self, builder: ir.IRBuilder, axis: int) -> ir.Value:
        """The index of lane 0 along an axis."""
        index, steps = self.indices[axis], self.ahead[axis] if self.ahead else 0
        return builder.add(index, int64(steps)) if steps else index

    def address(self, builder: ir.IRBuilder, access: Access, element: ir.Type) -> ir.Value:
        """Of the element that lane 0 means."""
        addresses, key = self.base._addresses, (access.argument, access.strides)
        address = addresses.get(key)
        if address is None:
            address, offset = self.pointers[access.argument], self.base.offset(builder, access.strides)
            if offset is not None:
                address = builder.gep(address, [offset], source_etype=element)
            addresses[key] = address
        steps = access.offset + sum(n * stride for n, stride in zip(self.ahead, access.strides, strict=False))
        return builder.gep(address, [int64(steps)], source_etype=element) if steps else address

    def spread(self, builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
        """A scalar copied to every lane, which is done once."""
        if lanes == 1 or isinstance(value.type, ir.VectorType) or isinstance(value, ir.Constant):
            return spread(builder, value, lanes)
        copies, key = self.base._spread, (id(value), lanes)
        if key not in copies:
            copies[key] = (value, spread(builder, value, lanes))
        return copies[key][1]

    def offset(self, builder: ir.IRBuilder, strides: tuple[int, ...]) -> ir.Value | None:
        """`Σ stride·index` of lane 0, in elements; None for zero."""
        if strides not in self._offsets:
            total = None
            for stride, index in zip(strides, self.indices, strict=True):
                if stride and not (isinstance(index, ir.Constant) and index.constant == 0):
                    term = index if stride == 1 else builder.mul(index, int64(stride))
                    total = term if total is None else builder.add(total, term)
            self._offsets[strides] = total
        return self._offsets[strides]

    def stride(self, access: Access) -> int:
        """Elements from one lane to the next; 0 for a single lane."""
        return access.strides[self.axis] if self.lanes > 1 else 0


def load_pointers(builder: ir.IRBuilder, arguments: ir.Value, count: int) -> list[ir.Value]:
    """The addresses that the array of pointers `arguments` holds."""
    return [
        builder.load(builder.gep(arguments, [int64(i)], source_etype=POINTER), typ=POINTER, align=8)
        for i in range(count)
    ]


class _Place(NamedTuple):
    """Address of lane 0, and where the other lanes are: `stride` elements on each, or `spread_out` elements."""

    address: ir.Value
    stride: int
    spread_out: ir.Value | None


def _place(builder: ir.IRBuilder, step: Instruction, values: dict[int, ir.Value], point: Point, at: int) -> _Place:
    """The place that a memory instruction means; its input number `at`, if there, is the shift of a gather."""
    access, element = step.access, memory_type(step.dtype)
    assert access is not None
    address = point.address(builder, access, element)
    spread_out = None
    if len(step.inputs) > at:
        shift = values[step.inputs[at]]
        if lanes_of(shift) > 1:
            stride = point.stride(access)
            spread_out = builder.add(shift, count_up(point.lanes, stride)) if stride else shift
        else:
            address = builder.gep(address, [shift], source_etype=element)
    return _Place(address, point.stride(access), spread_out)


def _addresses(builder: ir.IRBuilder, place: _Place, element: ir.Type, lanes: int) -> ir.Value:
    where = place.spread_out or count_up(lanes, place.stride)
    return builder.gep(place.address, [where], source_etype=element)


def _mask(point: Point) -> ir.Value:
    return point.mask or ir.Constant(ir.VectorType(_BIT, point.lanes), [1] * point.lanes)


def _read(builder: ir.IRBuilder, place: _Place, dtype: np.dtype, point: Point) -> ir.Value:
    element, size, lanes = memory_type(dtype), dtype.itemsize, point.lanes
    if place.spread_out is None and place.stride == 0:
        value = builder.load(place.address, typ=element, align=size)
    elif place.spread_out is None and place.stride == 1 and point.mask is None:
        value = builder.load(place.address, typ=with_lanes(element, lanes), align=size)
    elif place.spread_out is None and place.stride == -1 and point.mask is None:
        lowest = builder.gep(place.address, [int64(1 - lanes)], source_etype=element)
        value = builder.load(lowest, typ=with_lanes(element, lanes), align=size)
        value = take_lanes(builder, value, range(lanes - 1, -1, -1))
    else:
        contiguous = place.spread_out is None and place.stride == 1
        vector = with_lanes(element, lanes)
        address = place.address if contiguous else _addresses(builder, place, element, lanes)
        inputs = [address, ir.Constant(ir.IntType(32), size), _mask(point), ir.Constant(vector, None)]
        name = "masked.load" if contiguous else "masked.gather"
        value = intrinsic(builder, name, vector, inputs, [vector, address.type])
    return _truth(builder, value) if dtype.kind == "b" else value


def _truth(builder: ir.IRBuilder, byte: ir.Value) -> ir.Value:
    return builder.icmp_unsigned("!=", byte, ir.Constant(byte.type, None))


def _write(builder: ir.IRBuilder, place: _Place, value: ir.Value, dtype: np.dtype, point: Point) -> None:
    element, size, lanes = memory_type(dtype), dtype.itemsize, point.lanes
    if dtype.kind == "b":
        value = builder.zext(value, with_lanes(element, lanes_of(value)))
    if place.spread_out is None and place.stride == 0:
        assert lanes_of(value) == 1, "lanes with different values are stored to one place"
        builder.store(value, place.address, align=size)
        return
    value = spread(builder, value, lanes)
    contiguous = place.spread_out is None and place.stride == 1
    if contiguous and point.mask is None:
        builder.store(value, place.address, align=size)
        return
    address = place.address if contiguous else _addresses(builder, place, element, lanes)
    inputs = [value, address, ir.Constant(ir.IntType(32), size), _mask(point)]
    name = "masked.store" if contiguous else "masked.scatter"
    intrinsic(builder, name, ir.VoidType(), inputs, [value.type, address.type])


def _accumulate(builder: ir.IRBuilder, place: _Place, value: ir.Value, dtype: np.dtype, point: Point) -> None:
    """Add to what is there. Lanes may share one static place, but a scatter's places must differ."""

    def add(x: ir.Value, y: ir.Value) -> ir.Value:
        return FUNCTIONS["add"].emit(builder, dtype, x, y)

    if place.spread_out is None and place.stride == 0 and point.lanes > 1:
        value = spread(builder, value, point.lanes)
        if point.mask is not None:
            value = builder.select(point.mask, value, ir.Constant(value.type, None))
        value = fold_lanes(builder, value, add)
    before = _read(builder, place, dtype, point)
    lanes = max(lanes_of(before), lanes_of(value))
    _write(builder, place, add(spread(builder, before, lanes), spread(builder, value, lanes)), dtype, point)


# Bodies ------------------------------------------------------------------------------------------------------


def emit_body(
    builder: ir.IRBuilder,
    body: Sequence[Instruction],
    values: dict[int, ir.Value],
    point: Point,
    only: Iterable[int] | None = None,
) -> None:
    """Emit the instructions of a body, or those that `only` numbers, in order.

    Args:
        values: what is known already, by number; it gains the results. An instruction that is in it is skipped.
        point: where in the grid.
        only: numbers of the instructions wanted; all if None.
    """
    numbers = [number for number in (range(len(body)) if only is None else only) if number not in values]
    if len(numbers) >= LONG:
        _emit_long_body(builder, body, numbers, values, point)
        return
    for number in numbers:
        result = emit_instruction(builder, body, number, values, point)
        if result is not None:
            values[number] = result


def _emit_long_body(
    builder: ir.IRBuilder,
    body: Sequence[Instruction],
    numbers: Sequence[int],
    values: dict[int, ir.Value],
    point: Point,
) -> None:
    shelf = Shelf(builder, body, numbers, values, 8 * point.lanes)
    for position, number in enumerate(numbers):
        result = emit_instruction(builder, body, number, shelf.fetch(position), point)
        if result is not None:
            values[number] = result
            shelf.put(position, number, result)


def emit_instruction(
    builder: ir.IRBuilder, body: Sequence[Instruction], number: int, values: dict[int, ir.Value], point: Point
) -> ir.Value | None:
    """Emit one instruction; the result is None for a store. Reductions and products are the callers' business."""
    step = body[number]
    if step.op == "constant":
        return constant(step.dtype, step.value)
    if step.op == "index":
        index = point.index(builder, step.value)
        if step.value == point.axis and point.lanes > 1:
            return builder.add(spread(builder, index, point.lanes), count_up(point.lanes))
        return index
    if step.op == "load":
        return _read(builder, _place(builder, step, values, point, 0), step.dtype, point)
    if step.op in ("store", "accumulate"):
        place = _place(builder, step, values, point, 1)
        write = _write if step.op == "store" else _accumulate
        write(builder, place, values[step.inputs[0]], step.dtype, point)
        return None
    inputs = [values[i] for i in step.inputs]
    lanes = max(map(lanes_of, inputs))
    dtype = body[step.inputs[0]].dtype
    if step.op == "divide" and lanes_of(inputs[1]) < lanes and lanes * dtype.itemsize > _NARROW:
        return _divide_by_one_number(builder, dtype, *inputs)
    inputs = [point.spread(builder, value, lanes) for value in inputs]
    if step.op == "select":
        return builder.select(*inputs)
    if step.op == "astype":
        return convert(builder, inputs[0], dtype, step.dtype)
    function = FUNCTIONS.get(step.op)
    if function is None:
        raise NotImplementedError(f"{step.op}: no code is known for this instruction")
    if dtype.kind not in function.kinds:
        raise TypeError(f"{step.op}: no code is known for {dtype}; convert the inputs first")
    return function.emit(builder, dtype, *inputs)
