"""LLVM values that formulas can be written with: `a * b + 1` emits the instructions for it.

A `Lanes` is a scalar or a vector, of floating-point numbers, integers or truth values; a Python number beside it
becomes a constant in all lanes. Which formulas there are is not known here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from chainrule.compile import ir


class Format(NamedTuple):
    """The layout of a floating-point type (IEEE 754, table 3.5).

    Attributes:
        name: LLVM's name, as intrinsics have it.
        type, integer: the type, and the integer type of the same width.
        fraction: bits of the fraction field.
        bias: of the exponent.
        pack: `struct`'s letters for the two types.
    """

    name: str
    type: ir.Type
    integer: ir.IntType
    fraction: int
    bias: int
    pack: tuple[str, str]

    def bits(self, value: float) -> int:
        """The bits of a number as an integer."""
        number, integer = self.pack
        return int(struct.unpack(integer, struct.pack(number, value))[0])

    @property
    def sign(self) -> int:
        """The sign bit alone."""
        return 1 << (self.integer.width - 1)

    @property
    def smallest_normal(self) -> float:
        """The smallest positive number that has its full precision."""
        return float(2.0 ** (1 - self.bias))


FLOAT = Format("f32", ir.FloatType(), ir.IntType(32), 23, 127, ("<f", "<I"))
DOUBLE = Format("f64", ir.DoubleType(), ir.IntType(64), 52, 1023, ("<d", "<Q"))


class Short(ir.Constant):
    """A constant vector in one of LLVM's short notations: `poison`, which stands for anything, or `zeroinitializer`."""

    def __init__(self, kind: ir.VectorType, text: str) -> None:
        self.type = kind
        self.constant = ()
        self.text = text


def everywhere(kind: ir.VectorType, scalar: ir.Constant) -> ir.Constant:
    """A vector with one constant in all lanes."""
    return Short(kind, f"splat ({scalar})")


class Module(ir.Module):
    """An LLVM module that knows whether its processor scales vectors of 512 bits by powers of two (AVX-512)."""

    def __init__(self, name: str, scales: bool) -> None:
        super().__init__(name)
        self.scales = scales


class Lanes:
    """A value of LLVM and the builder that what is done with it is written by."""

    __slots__ = ("builder", "value")

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder = builder
        self.value = value

    @property
    def element(self) -> ir.Type:
        """The type of one lane."""
        kind = self.value.type
        return kind.element if isinstance(kind, ir.VectorType) else kind

    @property
    def format(self) -> Format:
        """The layout of the numbers in the lanes (for integers, of the numbers that are as wide)."""
        narrow = self.element in (FLOAT.type, FLOAT.integer)
        return FLOAT if narrow else DOUBLE

    @property
    def intrinsic_suffix(self) -> str:
        """The type in the names of intrinsics, such as `v16f32`."""
        kind = self.value.type
        return f"v{kind.count}{self.format.name}" if isinstance(kind, ir.VectorType) else self.format.name

    def like(self, element: ir.Type) -> Any:
        """The type with as many lanes of `element`."""
        kind = self.value.type
        return ir.VectorType(element, kind.count) if isinstance(kind, ir.VectorType) else element

    def constant(self, number: float, element: ir.Type | None = None) -> Lanes:
        """A number in all lanes, of this value's type or of `element`."""
        element = element or self.element
        scalar = ir.Constant(element, number)
        kind = self.like(element)
        if kind is element:
            return Lanes(self.builder, scalar)
        return Lanes(self.builder, everywhere(kind, scalar))

    def _other(self, other: Lanes | float) -> ir.Value:
        return other.value if isinstance(other, Lanes) else self.constant(other).value

    def _binary(self, floating: str, integer: str, left: ir.Value, right: ir.Value) -> Lanes:
        name = integer if isinstance(self.element, ir.IntType) else floating
        return Lanes(self.builder, getattr(self.builder, name)(left, right))

    def __add__(self, other: Lanes | float) -> Lanes:
        return self._binary("fadd", "add", self.value, self._other(other))

    def __radd__(self, other: float) -> Lanes:
        return self + other

    def __sub__(self, other: Lanes | float) -> Lanes:
        return self._binary("fsub", "sub", self.value, self._other(other))

    def __rsub__(self, other: float) -> Lanes:
        return self._binary("fsub", "sub", self._other(other), self.value)

    def __mul__(self, other: Lanes | float) -> Lanes:
        return self._binary("fmul", "mul", self.value, self._other(other))

    def __rmul__(self, other: float) -> Lanes:
        return self * other

    def __truediv__(self, other: Lanes | float) -> Lanes:
        return self._binary("fdiv", "sdiv", self.value, self._other(other))

    def __rtruediv__(self, other: float) -> Lanes:
        return self._binary("fdiv", "sdiv", self._other(other), self.value)

    def __neg__(self) -> Lanes:
        return Lanes(self.builder, self.builder.fneg(self.value))

    def __and__(self, other: Lanes | int) -> Lanes:
        return Lanes(self.builder, self.builder.and_(self.value, self._other(other)))

    def __or__(self, other: Lanes | int) -> Lanes:
        return Lanes(self.builder, self.builder.or_(self.value, self._other(other)))

    def __xor__(self, other: Lanes | int) -> Lanes:
        return Lanes(self.builder, self.builder.xor(self.value, self._other(other)))

    def __lshift__(self, places: int) -> Lanes:
        return Lanes(self.builder, self.builder.shl(self.value, self._other(places)))

    def __rshift__(self, places: int) -> Lanes:
        """Zeros come in from the left."""
        return Lanes(self.builder, self.builder.lshr(self.value, self._other(places)))

    def __invert__(self) -> Lanes:
        return Lanes(self.builder, self.builder.not_(self.value))

    def _compare(self, operator: str, other: Lanes | float) -> Lanes:
        compare = self.builder.icmp_signed if isinstance(self.element, ir.IntType) else self.builder.fcmp_ordered
        return Lanes(self.builder, compare(operator, self.value, self._other(other)))

    def __lt__(self, other: Lanes | float) -> Lanes:
        return self._compare("<", other)

    def __le__(self, other: Lanes | float) -> Lanes:
        return self._compare("<=", other)

    def __gt__(self, other: Lanes | float) -> Lanes:
        return self._compare(">", other)

    def __ge__(self, other: Lanes | float) -> Lanes:
        return self._compare(">=", other)

    def equals(self, other: Lanes | float) -> Lanes:
        """Whether the lanes are equal; not-a-number equals nothing."""
        return self._compare("==", other)

    def is_nan(self) -> Lanes:
        """Whether the lanes are not a number."""
        return Lanes(self.builder, self.builder.fcmp_unordered("uno", self.value, self.value))

    def bits(self) -> Lanes:
        """The numbers' bits as integers."""
        return Lanes(self.builder, self.builder.bitcast(self.value, self.like(self.format.integer)))

    def from_bits(self) -> Lanes:
        """The numbers whose bits these integers are."""
        return Lanes(self.builder, self.builder.bitcast(self.value, self.like(self.format.type)))

    def sign(self) -> Lanes:
        """The numbers' sign bits, as integers."""
        return self.bits() & self.format.sign

    def flip(self, sign: Lanes) -> Lanes:
        """The numbers, negated where the sign bit is set in the integers `sign`."""
        return (self.bits() ^ sign).from_bits()

    def call(self, intrinsic: str, *others: Lanes | float) -> Lanes:
        """The result of an intrinsic on values of this one's type."""
        kind = self.value.type
        name = f"llvm.{intrinsic}.{self.intrinsic_suffix}"
        module = self.builder.module
        function = module.globals.get(name)
        if function is None:
            function = ir.Function(module, ir.FunctionType(kind, [kind] * (1 + len(others))), name)
        return Lanes(self.builder, self.builder.call(function, [self.value, *map(self._other, others)]))

    def __abs__(self) -> Lanes:
        return self.call("fabs")

    def sqrt(self) -> Lanes:
        """The square root, correctly rounded."""
        return self.call("sqrt")

    def times_plus(self, factor: Lanes | float, term: Lanes | float) -> Lanes:
        """`self·factor + term`, rounded once where that is as fast as rounding twice."""
        return self.call("fmuladd", factor, term)

    def fma(self, factor: Lanes | float, term: Lanes | float) -> Lanes:
        """`self·factor + term`, rounded once: for results that are wrong otherwise."""
        return self.call("fma", factor, term)

    @property
    def has_512_bits(self) -> bool:
        """Whether the processor has AVX-512, with the instructions that the next three functions are."""
        return getattr(self.builder.module, "scales", False)

    def times_power(self, exponent: Lanes) -> Lanes:
        """`self·2ⁿ` rounded once, where n is the largest integer that is not above `exponent`: AVX-512's SCALEF."""
        return self._by_register("mask.scalef", [self, exponent], lambda x, n: [x, n, x, _all_lanes(x), _AS_SET])

    def limited(self, size: float) -> Lanes:
        """`self` where its absolute value is at most `size`, else that, with some sign where `self` is not a number:
        AVX-512's RANGE."""
        of_smaller_size = ir.Constant(_INT32, 0b0010)
        return self._by_register(
            "mask.range", [self, self.constant(size)], lambda x, y: [x, y, of_smaller_size, x, _all_lanes(x), _AS_SET]
        )

    def chosen_from(self, table: Sequence[float]) -> Lanes:
        """Of sixteen float64 numbers those that the last four bits of these integers count: AVX-512's VPERMI2PD."""
        kind = ir.VectorType(DOUBLE.type, 8)
        low, high = (ir.Constant(kind, list(table[start : start + 8])) for start in (0, 8))
        return self._by_register("vpermi2var", [self], lambda places: [low, places, high], DOUBLE)

    def _by_register(
        self,
        instruction: str,
        operands: Sequence[Lanes],
        arguments: Callable[..., list[ir.Value]],
        result: Format | None = None,
    ) -> Lanes:
        """An instruction of AVX-512 on registers of 512 bits, of which this value may be several or a part."""
        layout = result or self.format
        lanes = 512 // layout.integer.width
        kind = self.value.type
        count = kind.count if isinstance(kind, ir.VectorType) else 1
        parts = []
        for start in range(0, count, lanes):
            values = arguments(*(_register(self.builder, x.value, start, lanes) for x in operands))
            part = ir.VectorType(layout.type, lanes)
            name = f"llvm.x86.avx512.{instruction}.p{'s' if layout is FLOAT else 'd'}.512"
            module = self.builder.module
            function = module.globals.get(name) or ir.Function(
                module, ir.FunctionType(part, [value.type for value in values]), name
            )
            parts.append(self.builder.call(function, values))
        while len(parts) > 1:
            parts = [_side_by_side(self.builder, *parts[i : i + 2]) for i in range(0, len(parts), 2)]
        if not isinstance(kind, ir.VectorType):
            return Lanes(self.builder, self.builder.extract_element(parts[0], ir.Constant(_INT32, 0)))
        if count < lanes:
            parts = [self.builder.shuffle_vector(parts[0], parts[0], _places(0, count))]
        return Lanes(self.builder, parts[0])

    def widened(self) -> Lanes:
        """Float32 numbers as float64."""
        return Lanes(self.builder, self.builder.fpext(self.value, self.like(DOUBLE.type)))

    def narrowed(self) -> Lanes:
        """Float64 numbers rounded to float32."""
        return Lanes(self.builder, self.builder.fptrunc(self.value, self.like(FLOAT.type)))


_INT32 = ir.IntType(32)
_AS_SET = ir.Constant(_INT32, 4)  # rounding


def _all_lanes(vector: ir.Value) -> ir.Constant:
    return ir.Constant(ir.IntType(vector.type.count), -1)


def _places(start: int, stop: int) -> ir.Constant:
    return ir.Constant(ir.VectorType(_INT32, stop - start), list(range(start, stop)))


def _register(builder: ir.IRBuilder, value: ir.Value, start: int, lanes: int) -> ir.Value:
    """Some lanes of a value as a whole register; of a shorter value all, over and over."""
    kind = value.type
    if not isinstance(kind, ir.VectorType):
        nothing = Short(ir.VectorType(kind, lanes), "poison")
        return builder.insert_element(nothing, value, ir.Constant(_INT32, 0))
    places = [i % kind.count for i in range(start, start + lanes)]
    return builder.shuffle_vector(value, value, ir.Constant(ir.VectorType(_INT32, lanes), places))


def _side_by_side(builder: ir.IRBuilder, left: ir.Value, right: ir.Value) -> ir.Value:
    return builder.shuffle_vector(left, right, _places(0, 2 * left.type.count))


def where(condition: Lanes, chosen: Lanes, otherwise: Lanes | float) -> Lanes:
    """`chosen` in the lanes where the condition holds, `otherwise` in the others."""
    builder = condition.builder
    return Lanes(builder, builder.select(condition.value, chosen.value, chosen._other(otherwise)))
