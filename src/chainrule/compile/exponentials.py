"""Functions made of exponentials and logarithms: these, powers, hyperbolic functions and the error function."""

from __future__ import annotations

import math
from collections.abc import Callable

from chainrule.compile.lanes import DOUBLE, FLOAT, Format, Lanes, where
from chainrule.compile.reduction import Whole, between, nearest, odd, polynomial, power_of_two, scaled

#: Constants as sums of two or three numbers, each the next digits of the constant. Where a constant is multiplied by an
#: exponent, the first part is short enough for the product to be exact.
_LN2 = {
    FLOAT: (0.693145751953125, 1.428606765330187e-06),
    DOUBLE: (0.6931471805598903, 5.497923018708371e-14),
}
_LOG10_2 = {
    FLOAT: (0.30103302001953125, -3.024355464731343e-06),
    DOUBLE: (0.30102999566395283, 2.8363394551044964e-14),
}
_LOG10_E = {
    FLOAT: (0.4342944920063019, -1.0103049952192578e-08),
    DOUBLE: (0.4342944819032518, 1.098319650216765e-17),
}
_LOG2_E = {
    FLOAT: (1.4426950216293335, 1.925963033500011e-08),
    DOUBLE: (1.4426950408889634, 2.0355273740931033e-17),
}


#: 2ᵏᐟ¹⁶.
_SIXTEENTHS = (
    1.0, 1.0442737824274138, 1.0905077326652577, 1.1387886347566916,
    1.189207115002721, 1.241857812073484, 1.2968395546510096, 1.3542555469368927,
    1.4142135623730951, 1.4768261459394993, 1.5422108254079407, 1.6104903319492543,
    1.681792830507429, 1.7562521603732995, 1.8340080864093424, 1.9152065613971474,
)  # fmt: skip

#: A little more than ln 2 / 32.
_LARGEST_BY_TABLE = 0.0217

#: 1/3 − float64(1/3).
_THIRD_REST = 1.850371707708594e-17


def _odd_series(name: str, x: Lanes) -> Lanes:
    """`x + x³·P(x²)`."""
    square = x * x
    return (polynomial(name, square) * square).times_plus(x, x)


# Exponentials.
# x = n·ln 2 + r with |r| ≤ ln 2 / 2, exp(x) = 2ⁿ·(1 + expm1(r)).


def _exp_arguments(x: Lanes) -> tuple[Whole, Lanes]:
    """n and r."""
    n = nearest(x, 1 / math.log(2))
    high, low = _LN2[x.format]
    return n, n.number.times_plus(-low, n.number.times_plus(-high, x))


def _exp_parts(x: Lanes) -> tuple[Whole, Lanes]:
    """n and expm1(r)."""
    n, r = _exp_arguments(x)
    return n, polynomial("exp", r).times_plus(r * r, r)


def _exp_range(x: Lanes) -> Lanes:
    """`x`, moved to where the exponential is nearly 0 or infinite already."""
    return between(x, -104.0, 89.0) if x.format is FLOAT else between(x, -746.0, 710.0)


def exp(x: Lanes) -> Lanes:
    """2ⁿ·(1 + r·(1 + r·P(r)))."""
    if x.has_512_bits and x.format is DOUBLE:
        return _exp_by_table(x)
    n, r = _exp_arguments(_exp_range(x))
    return scaled(polynomial("exp", r).times_plus(r, 1.0).times_plus(r, 1.0), n)


def _exp_by_table(x: Lanes) -> Lanes:
    """2ⁿ·t·(1 + r·(1 + r·P(r))) where n + k/16 is next to x/ln 2 and t = 2ᵏᐟ¹⁶ is looked up, so that |r| ≤ ln 2 / 32.

    What is far out gets there by n alone: r is only kept from spoiling it.
    """
    magic = 1.5 * 2.0 ** (x.format.fraction - 4)  # its last place is worth 1/16
    shifted = x.times_plus(1 / math.log(2), magic)
    n = shifted - magic
    high, low = _LN2[x.format]
    r = n.times_plus(-low, n.times_plus(-high, x)).limited(_LARGEST_BY_TABLE)
    t = shifted.bits().chosen_from(_SIXTEENTHS)
    return polynomial("exp by table", r).times_plus(r, 1.0).times_plus(t * r, t).times_power(n)


def exp2(x: Lanes) -> Lanes:
    """2ⁿ·2ʳ where n is the integer next to x."""
    x = between(x, -151.0, 129.0) if x.format is FLOAT else between(x, -1076.0, 1025.0)
    n = nearest(x, 1.0)
    r = x - n.number
    return scaled(polynomial("exp2", r).times_plus(r, 1.0), n)


def _half_expm1(x: Lanes) -> Lanes:
    """expm1(x)/2 = 2ⁿ⁻¹·p + (2ⁿ⁻¹ − 1/2), where x is not far below the point at which that is −1/2."""
    n, p = _exp_parts(x)
    half = power_of_two(n.integer - 1)
    return half.times_plus(p, half - 0.5)


def expm1(x: Lanes) -> Lanes:
    """exp(x) − 1 without cancellation near 0."""
    high = 89.0 if x.format is FLOAT else 710.0
    half = _half_expm1(between(x, -40.0, high))
    return (half + half).call("copysign", x)


@odd
def tanh(a: Lanes) -> Lanes:
    """A polynomial where the result is below 1/2, else 1 − 2e/(1 + e) with e = exp(−2a), which is 1 from 9.02 on."""
    end = 9.02 if a.format is FLOAT else 19.1
    n, p = _exp_parts(where(a > end, a.constant(end), a) * -2.0)
    half = power_of_two(n.integer - 1)
    far = 1.0 - half.times_plus(p, half) * 2.0 / half.times_plus(p, half + 0.5)
    return where(a < 0.55, _odd_series("tanh", a), far)


# Logarithms.
# x = 2ᵉ·(1 + f) with 1/√2 ≤ 1 + f < √2.


def _log_parts(x: Lanes) -> tuple[Lanes, Lanes]:
    """e and f, both as numbers, for positive finite x, its subnormal numbers too."""
    layout = x.format
    shift = layout.fraction + 1
    tiny = x < layout.smallest_normal
    x = where(tiny, x * 2.0**shift, x)
    start = layout.bits(math.sqrt(0.5))
    moved = x.bits() + (layout.bits(1.0) - start)
    fraction = (moved & ((1 << layout.fraction) - 1)) + start
    # The exponent becomes the last bits of a number whose last place is worth 1.
    unit = 2.0**layout.fraction
    exponent = ((moved >> layout.fraction) | layout.bits(unit)).from_bits()
    offset = where(tiny, x.constant(unit + layout.bias + shift), x.constant(unit + layout.bias))
    return exponent - offset, fraction.from_bits() - 1.0


def _log1p_parts(f: Lanes, tail: Lanes | float) -> tuple[Lanes, Lanes]:
    """log(1 + f) + tail for a small tail, as a sum: `f` and what is left."""
    square = f * f
    if f.format is FLOAT:
        rest = (polynomial("log", f) * f).times_plus(square, tail)
        return f, square.times_plus(-0.5, rest)
    # 2·atanh(s) with s = f/(2 + f), written as f − (f²/2 − s·(f²/2 + 2s²R)) where atanh(s) = s + s³R
    s = f / (f + 2.0)
    half = square * 0.5
    z = s * s
    inner = (polynomial("atanh", z) * z).times_plus(2.0, half)
    return f, s.times_plus(inner, tail) - half


def _logarithm(e: Lanes, f: Lanes, tail: Lanes | float = 0.0) -> Lanes:
    """e·ln 2 + log(1 + f) + tail."""
    high, low = _LN2[f.format]
    f, rest = _log1p_parts(f, e.times_plus(low, tail))
    return e.times_plus(high, f + rest)


def _log_special(x: Lanes, result: Lanes) -> Lanes:
    """The result where x is positive and finite, else a logarithm's special values."""
    special = where(x.equals(0.0), x.constant(-math.inf), where(x < 0.0, x.constant(math.nan), x))
    return where((x > 0.0) & (x < math.inf), result, special)


def log(x: Lanes) -> Lanes:
    """e·ln 2 + log(1 + f)."""
    return _log_special(x, _logarithm(*_log_parts(x)))


def log2(x: Lanes) -> Lanes:
    """log(1 + f)/ln 2 + e."""
    return _log_special(x, _logarithm_to_base(x, _LOG2_E, (1.0, 0.0)))


def log10(x: Lanes) -> Lanes:
    """log(1 + f)/ln 10 + e·log10(2)."""
    return _log_special(x, _logarithm_to_base(x, _LOG10_E, _LOG10_2[x.format]))


def _logarithm_to_base(x: Lanes, factors: dict[Format, tuple[float, float]], of_two: tuple[float, float]) -> Lanes:
    """log(1 + f)·factor + e·of_two, the factors given as sums."""
    e, f = _log_parts(x)
    high, low = factors[x.format]
    f, rest = _log1p_parts(f, 0.0)
    log = f + rest
    left_out = (f - log) + rest
    correction = log.times_plus(low, left_out.times_plus(high, e * of_two[1]))
    return e.times_plus(of_two[0], log.times_plus(high, correction))


def log1p(x: Lanes) -> Lanes:
    """The logarithm of the rounded sum 1 + x, and what the rounding left out over the sum as tail."""
    total = x + 1.0
    left_out = x - (total - 1.0)
    result = _logarithm(*_log_parts(total), left_out / total)
    return where(x.equals(0.0), x, _log_special(total, result))


def logaddexp(x: Lanes, y: Lanes) -> Lanes:
    """The larger argument + log1p(exp(−distance))."""
    larger = where(x > y, x, y)
    # Infinities of one sign have no difference.
    distance = where(x.equals(y), x.constant(0.0), abs(x - y))
    return larger + log1p(exp(-distance))


# Hyperbolic functions and their inverses.


def _half_exp(a: Lanes) -> Lanes:
    """exp(a)/2, which may be finite where exp(a) is not."""
    n, p = _exp_parts(between(a, 0.0, 90.0 if a.format is FLOAT else 712.0))
    return scaled(p + 1.0, n - 1)


@odd
def sinh(a: Lanes) -> Lanes:
    """A polynomial up to 1, then exp(a)/2 − exp(−a)/2."""
    half = _half_exp(a)
    return where(a < 1.0, _odd_series("sinh", a), half - 0.25 / half)


def cosh(x: Lanes) -> Lanes:
    """exp(|x|)/2 + exp(−|x|)/2."""
    half = _half_exp(abs(x))
    return half + 0.25 / half


def _log1p_or_double(small: Lanes, large: Lanes) -> Lanes:
    """log1p(small), or log(2·large) where squares of `large` lose the 1 that is added to them."""
    is_large = large > 2.0**28
    return log1p(where(is_large, large - 1.0, small)) + where(is_large, large.constant(math.log(2)), 0.0)


@odd
def asinh(a: Lanes) -> Lanes:
    """log1p(a + a²/(1 + √(1 + a²)))."""
    square = a * a
    return _log1p_or_double(a + square / ((square + 1.0).sqrt() + 1.0), a)


def acosh(x: Lanes) -> Lanes:
    """log1p(t + √(2t + t²)) with t = x − 1."""
    t = x - 1.0
    result = _log1p_or_double(t + (t * (t + 2.0)).sqrt(), x)
    return where(x < 1.0, x.constant(math.nan), result)


@odd
def atanh(a: Lanes) -> Lanes:
    """log1p(2a/(1 − a))/2."""
    return log1p((a + a) / (1.0 - a)) * 0.5


# Powers and roots.


def _fast_sum(large: Lanes, small: Lanes) -> tuple[Lanes, Lanes]:
    """The sum and its rounding error, where |large| ≥ |small| or large is 0 (Dekker 1971)."""
    total = large + small
    return total, (large - total) + small


def _product(left: tuple[Lanes, Lanes], right: tuple[Lanes, Lanes]) -> tuple[Lanes, Lanes]:
    """The product of two sums, without the product of the small parts."""
    high = left[0] * right[0]
    return high, left[0].fma(right[0], -high) + left[0].times_plus(right[1], left[1] * right[0])


def _log_pair(x: Lanes) -> tuple[Lanes, Lanes]:
    """The logarithm of positive finite float64 numbers as a sum, with an error below 2⁻⁶⁴.

    log(1 + f) = 2·atanh(s) with s = f/(2 + f); the terms s + s³/3 of the series need more than float64's precision.
    """
    e, f = _log_parts(x)
    divisor, left_out = _fast_sum(f.constant(2.0), f)
    quotient = f / divisor
    s = quotient, ((-quotient).fma(divisor, f) - quotient * left_out) / divisor
    z = _product(s, s)
    third, rest_of_third = _fast_sum(f.constant(1 / 3), polynomial("atanh tail", z[0]) * z[0])
    cubic = _product(s, _product(z, (third, rest_of_third + _THIRD_REST)))
    high, low = _fast_sum(s[0], cubic[0])
    low = low + (s[1] + cubic[1])
    of_two, of_two_rest = _LN2[DOUBLE]
    total, rest = _fast_sum(e * of_two, high + high)
    return _fast_sum(total, rest + (low + low) + e * of_two_rest)


def _positive_power(a: Lanes, y: Lanes) -> Lanes:
    """exp(y·log(a)) for positive finite a and finite y, in float64."""
    high, low = _log_pair(a)
    product = y * high
    rest = y.times_plus(low, y.fma(high, -product))
    rest = where(abs(product) < 800.0, rest, 0.0)
    n, p = _exp_parts(_exp_range(product))
    return scaled(rest.times_plus(p, rest) + p + 1.0, n)


def _short_power(a: Lanes, y: Lanes) -> Lanes:
    """The same where a result of float32's precision will do."""
    return exp(y * _logarithm(*_log_parts(a)))


def _power(x: Lanes, y: Lanes, positive: Callable[[Lanes, Lanes], Lanes]) -> Lanes:
    """A power with its special values (C11, annex F.10.4.4) from what it is for positive finite numbers."""
    a = abs(x)
    result = positive(a, y)
    one, infinity = x.constant(1.0), x.constant(math.inf)
    limit = where((a > 1.0) ^ (y < 0.0), infinity, 0.0)
    limit = where(a.equals(1.0), one, limit)
    result = where(a.equals(0.0) | a.equals(math.inf) | abs(y).equals(math.inf), limit, result)
    half = y * 0.5
    whole = y.call("trunc").equals(y)
    is_odd = whole & ~half.call("trunc").equals(half)
    result = where(is_odd & (x.bits() < 0), -result, result)
    no_root = (x < 0.0) & (a < math.inf) & ~whole
    result = where(no_root | x.is_nan() | y.is_nan(), x.constant(math.nan), result)
    return where(x.equals(1.0) | y.equals(0.0), one, result)


def pow(x: Lanes, y: Lanes) -> Lanes:
    """x to the power y, in float64."""
    return _power(x, y, _positive_power)


def pow_in_float64(x: Lanes, y: Lanes) -> Lanes:
    """x to the power y, precise enough to be rounded to float32."""
    return _power(x, y, _short_power)


@odd
def cbrt(a: Lanes) -> Lanes:
    """a = 2^(3n)·m with 1/√8 ≤ m ≤ √8; 1/∛m by Newton's iteration, then ∛m = m·(1/∛m)², once more improved."""
    e, f = _log_parts(a)
    n, number = nearest(e, 1 / 3)
    left = e - number * 3.0
    m = (f + 1.0) * where(left > 0.5, a.constant(2.0), where(left < -0.5, a.constant(0.5), 1.0))
    inverse = polynomial("cbrt", m)
    for _ in range(1 if a.format is FLOAT else 2):
        error = (-m * inverse).times_plus(inverse * inverse, 1.0)
        inverse = (inverse * (1 / 3)).times_plus(error, inverse)
    square = inverse * inverse
    root = m * square
    power = root * root
    error = root.times_plus(root.fma(root, -power), power.fma(root, -m))
    root = (square * error).times_plus(-1 / 3, root)
    return where((a > 0.0) & (a < math.inf), root * power_of_two(n), a)


def hypot(x: Lanes, y: Lanes) -> Lanes:
    """√(x² + y²), in float64, of numbers scaled to where squares neither overflow nor vanish."""
    x, y = abs(x), abs(y)
    largest = where(x > y, x, y)
    large, small = largest > 2.0**500, largest < 2.0**-500
    scale = where(large, x.constant(2.0**-600), where(small, x.constant(2.0**600), 1.0))
    back = where(large, x.constant(2.0**600), where(small, x.constant(2.0**-600), 1.0))
    x_scaled, y_scaled = x * scale, y * scale
    result = x_scaled.times_plus(x_scaled, y_scaled * y_scaled).sqrt() * back
    return where(x.equals(math.inf) | y.equals(math.inf), x.constant(math.inf), result)


# The error function.


@odd
def erf(a: Lanes) -> Lanes:
    """x + x·P(x²) up to 1, then 1 − erfc(x)."""
    near = polynomial("erf", a * a).times_plus(a, a)
    if a.format is FLOAT:
        far = _one_minus_exp2(polynomial("erf tail", where(a > 3.95, a.constant(3.95), a)))
    else:
        far = 1.0 - _erfc_far(between(a, 1.0, 6.0))
    return where(a < 1.0, near, far)


def _one_minus_exp2(x: Lanes) -> Lanes:
    """1 − 2ˣ for x from −30 to −2, where an error of 2ˣ in its last place does not show."""
    n = nearest(x, 1.0)
    return (-polynomial("short exp2", x - n.number)).times_plus(power_of_two(n.integer), 1.0)


def _erfc_far(a: Lanes) -> Lanes:
    """exp(−a²)/(a + 3) times a polynomial in (a − 3)/(a + 3), for a from 1 to 28."""
    square = a * a
    left_out = a.fma(a, -square)
    without_exponential = polynomial("erfcx", (a - 3.0) / (a + 3.0)) / (a + 3.0)
    n, p = _exp_parts(-square)
    p = p - left_out - left_out * p
    return scaled(p.times_plus(without_exponential, without_exponential), n)


def erfc(x: Lanes) -> Lanes:
    """1 − erf(x) without cancellation for large x."""
    near = (-polynomial("erf", x * x)).times_plus(x, 1.0 - x)
    far = _erfc_far(between(abs(x), 1.0, 28.0))
    far = where(x < 0.0, 2.0 - far, far)
    return where(abs(x) < 1.0, near, far)
