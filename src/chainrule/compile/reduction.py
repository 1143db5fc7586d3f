"""Steps that elementary functions have in common: nearest integers, powers of two, polynomials of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from chainrule.compile.lanes import FLOAT, Lanes, where
from chainrule.compile.polynomials import POLYNOMIALS


def polynomial(name: str, x: Lanes) -> Lanes:
    """A polynomial of the table, by Horner's rule."""
    table = POLYNOMIALS[name]
    *rest, last = table.single if x.format is FLOAT else table.double
    result = x.constant(last)
    for coefficient in reversed(rest):
        result = result.times_plus(x, coefficient)
    return result


class Whole(NamedTuple):
    """Integers, as such and as floating-point numbers."""

    integer: Lanes
    number: Lanes

    def __sub__(self, other: int) -> Whole:
        return Whole(self.integer - other, self.number - other)


def nearest(x: Lanes, factor: float) -> Whole:
    """The integer next to `x·factor`; |x·factor| is below a quarter of 2^fraction.

    Adding a number whose last place is worth 1 leaves the integer in the last bits. Unlike a conversion this says
    nothing undefined about not-a-number.
    """
    layout = x.format
    magic = 1.5 * 2.0**layout.fraction
    shifted = x.times_plus(factor, magic)
    return Whole(shifted.bits() - layout.bits(magic), shifted - magic)


def power_of_two(n: Lanes) -> Lanes:
    """2ⁿ for integers n between the smallest and the largest exponent."""
    layout = n.format
    return ((n + layout.bias) << layout.fraction).from_bits()


def scaled(x: Lanes, n: Whole) -> Lanes:
    """`x·2ⁿ`, in two steps where it takes any, so that a result too small or too large is reached with one rounding."""
    if x.has_512_bits:
        return x.times_power(n.number)
    layout = x.format
    both = n.integer + 2 * layout.bias
    half = both >> 1
    return x * (half << layout.fraction).from_bits() * ((both - half) << layout.fraction).from_bits()


def between(x: Lanes, low: float, high: float) -> Lanes:
    """`x` moved into an interval; not-a-number stays."""
    x = where(x < low, x.constant(low), x)
    return where(x > high, x.constant(high), x)


def odd(function: Callable[[Lanes], Lanes]) -> Callable[[Lanes], Lanes]:
    """An odd function from what it is for numbers without a sign; keeps the sign of zero."""

    def signed(x: Lanes) -> Lanes:
        return function(abs(x)).flip(x.sign())

    return signed
