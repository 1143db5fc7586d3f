"""Elementwise operations: arithmetic, powers and exponentials, trigonometry, rounding, comparison.

Each line is one operation: its value, its local derivative with respect to each input, and how both are
written.
Special functions are in `special`, activations in `network`.
"""

from __future__ import annotations

import math
from typing import Any

from chainrule.core.namespace import PYTHON_SCALARS, fast_numpy
from chainrule.core.primitive import constant, elementwise, linear

_LN2 = math.log(2.0)
_LN10 = math.log(10.0)


def zero_safe(xp: Any, x: Any) -> Any:
    """`x` with 1 in place of 0: a divisor for places whose quotient is zero by convention."""
    return xp.where(x == 0, 1, x)


# Arithmetic -------------------------------------------------------------------------------------------------

add = linear("add", lambda xp, a, b: a + b, lambda g: g, lambda g: g,
             text="$a + $b", latex="$a + $b", local=[("1", "1"), ("1", "1")])  # fmt: skip
subtract = linear("subtract", lambda xp, a, b: a - b, lambda g: g, lambda g: -g,
                  text="$a − $b", latex="$a - $b", local=[("1", "1"), ("−1", "-1")])  # fmt: skip
negative = linear("negative", lambda xp, x: -x, lambda g: -g, text="−$x", latex="-$x", local=[("−1", "-1")])
positive = linear("positive", lambda xp, x: +x, lambda g: g, text="+$x", latex="+$x", local=[("1", "1")])

multiply = elementwise(
    "multiply", lambda xp, a, b: a * b, lambda b: b, lambda a: a,
    text="$a·$b", latex=r"$a \odot $b", local=[("$b", "$b"), ("$a", "$a")],
)  # fmt: skip
divide = elementwise(
    "divide", lambda xp, a, b: a / b, lambda b: 1 / b, lambda b, y: -y / b,
    text="$a/$b", latex=r"\frac{$a}{$b}", local=[("1/$b", r"\frac{1}{$b}"), ("−$y/$b", r"-\frac{$y}{$b}")],
)  # fmt: skip
floor_divide = elementwise("floor_divide", lambda xp, a, b: a // b, lambda: 0, lambda: 0,
                           text="$a // $b", latex=r"\lfloor $a / $b \rfloor",
                           local=[("0", "0"), ("0", "0")])  # fmt: skip
remainder = elementwise(
    "remainder", lambda xp, a, b: a % b, lambda: 1, lambda a, b: -(a // b),
    text="$a mod $b", latex=r"$a \bmod $b", local=[("1", "1"), ("−⌊$a/$b⌋", r"-\lfloor $a / $b \rfloor")],
)  # fmt: skip
reciprocal = elementwise("reciprocal", lambda xp, x: 1 / x, lambda y: -y * y,
                         text="1/$x", latex=r"\frac{1}{$x}", local=[("−$y²", "-$y^2")])  # fmt: skip
square = elementwise("square", lambda xp, x: x * x, lambda x: 2 * x,
                     text="$x²", latex="{$x}^2", local=[("2·$x", "2 $x")])  # fmt: skip
absolute = elementwise(
    "abs", lambda xp, x: xp.abs(x), lambda xp, x: xp.sign(x),
    text="|$x|", latex="|$x|", local=[("sign($x)", r"\operatorname{sign} $x")],
)  # fmt: skip
sign = elementwise("sign", lambda xp, x: xp.sign(x), lambda: 0,
                   text="sign($x)", latex=r"\operatorname{sign} $x", local=[("0", "0")])  # fmt: skip


def _power_base(xp: Any, a: Any, b: Any) -> Any:
    """b·a^(b−1), and 0 where b = 0 even at a = 0 (a^0 is constant)."""
    if type(b) in PYTHON_SCALARS:
        return b * a ** (b - 1) if b else 0
    return b * xp.where(b == 0, zero_safe(xp, a), a) ** (b - 1)


def _power_exponent(xp: Any, a: Any, y: Any) -> Any:
    """y·ln a, and 0 at a = 0, where 0^b is constant for b > 0."""
    if type(a) in PYTHON_SCALARS:
        return y * (math.log(a or 1) if a >= 0 else math.nan)
    return y * xp.log(zero_safe(xp, a))


power = elementwise(
    "pow", lambda xp, a, b: a**b, _power_base, _power_exponent,
    text="$a^$b", latex="{$a}^{$b}", local=[("$b·$a^($b−1)", "$b {$a}^{$b-1}"), ("$y·ln $a", r"$y \ln $a")],
)  # fmt: skip

# Exponentials and logarithms --------------------------------------------------------------------------------

exp = elementwise("exp", lambda xp, x: xp.exp(x), lambda y: y,
                  text="exp($x)", latex="e^{$x}", local=[("$y", "$y")])  # fmt: skip
expm1 = elementwise("expm1", lambda xp, x: xp.expm1(x), lambda y: y + 1,
                    text="exp($x) − 1", latex="e^{$x} - 1", local=[("$y + 1", "$y + 1")])  # fmt: skip
exp2 = elementwise("exp2", lambda xp, x: 2.0**x, lambda y: y * _LN2,
                   text="2^$x", latex="2^{$x}", local=[("$y·ln 2", r"$y \ln 2")])  # fmt: skip
log = elementwise("log", lambda xp, x: xp.log(x), lambda x: 1 / x,
                  text="ln $x", latex=r"\ln $x", local=[("1/$x", r"\frac{1}{$x}")])  # fmt: skip
log1p = elementwise(
    "log1p", lambda xp, x: xp.log1p(x), lambda x: 1 / (1 + x),
    text="ln(1 + $x)", latex=r"\ln(1 + $x)", local=[("1/(1 + $x)", r"\frac{1}{1 + $x}")],
)  # fmt: skip
log2 = elementwise(
    "log2", lambda xp, x: xp.log2(x), lambda x: 1 / (x * _LN2),
    text="log₂ $x", latex=r"\log_2 $x", local=[("1/($x·ln 2)", r"\frac{1}{$x \ln 2}")],
)  # fmt: skip
log10 = elementwise(
    "log10", lambda xp, x: xp.log10(x), lambda x: 1 / (x * _LN10),
    text="log₁₀ $x", latex=r"\log_{10} $x", local=[("1/($x·ln 10)", r"\frac{1}{$x \ln 10}")],
)  # fmt: skip
sqrt = elementwise("sqrt", lambda xp, x: xp.sqrt(x), lambda y: 0.5 / y,
                   text="√$x", latex=r"\sqrt{$x}", local=[("1/(2·$y)", r"\frac{1}{2 $y}")])  # fmt: skip


def _cbrt(xp: Any, x: Any) -> Any:
    return xp.cbrt(x) if xp is fast_numpy else xp.sign(x) * xp.abs(x) ** (1 / 3)  # the standard has none


cbrt = elementwise("cbrt", _cbrt, lambda y: 1 / (3 * y * y),
                   text="∛$x", latex=r"\sqrt[3]{$x}", local=[("1/(3·$y²)", r"\frac{1}{3 $y^2}")])  # fmt: skip
logaddexp = elementwise(
    "logaddexp", lambda xp, a, b: xp.logaddexp(a, b),
    lambda xp, a, y: xp.exp(a - y), lambda xp, b, y: xp.exp(b - y),
    text="ln(exp($a) + exp($b))", latex=r"\ln(e^{$a} + e^{$b})",
    local=[("exp($a − $y)", "e^{$a - $y}"), ("exp($b − $y)", "e^{$b - $y}")],
)  # fmt: skip
hypot = elementwise(
    "hypot", lambda xp, a, b: xp.hypot(a, b),
    lambda xp, a, y: a / zero_safe(xp, y), lambda xp, b, y: b / zero_safe(xp, y),
    text="√($a² + $b²)", latex=r"\sqrt{$a^2 + $b^2}",
    local=[("$a/$y", r"\frac{$a}{$y}"), ("$b/$y", r"\frac{$b}{$y}")],
)  # fmt: skip

# Trigonometric and hyperbolic functions ---------------------------------------------------------------------

sin = elementwise("sin", lambda xp, x: xp.sin(x), lambda xp, x: xp.cos(x),
                  text="sin $x", latex=r"\sin $x", local=[("cos $x", r"\cos $x")])  # fmt: skip
cos = elementwise("cos", lambda xp, x: xp.cos(x), lambda xp, x: -xp.sin(x),
                  text="cos $x", latex=r"\cos $x", local=[("−sin $x", r"-\sin $x")])  # fmt: skip
tan = elementwise("tan", lambda xp, x: xp.tan(x), lambda y: 1 + y * y,
                  text="tan $x", latex=r"\tan $x", local=[("1 + $y²", "1 + $y^2")])  # fmt: skip
asin = elementwise(
    "asin", lambda xp, x: xp.asin(x), lambda xp, x: 1 / xp.sqrt(1 - x * x),
    text="arcsin $x", latex=r"\arcsin $x", local=[("1/√(1 − $x²)", r"\frac{1}{\sqrt{1 - $x^2}}")],
)  # fmt: skip
acos = elementwise(
    "acos", lambda xp, x: xp.acos(x), lambda xp, x: -1 / xp.sqrt(1 - x * x),
    text="arccos $x", latex=r"\arccos $x", local=[("−1/√(1 − $x²)", r"-\frac{1}{\sqrt{1 - $x^2}}")],
)  # fmt: skip
atan = elementwise(
    "atan", lambda xp, x: xp.atan(x), lambda x: 1 / (1 + x * x),
    text="arctan $x", latex=r"\arctan $x", local=[("1/(1 + $x²)", r"\frac{1}{1 + $x^2}")],
)  # fmt: skip
atan2 = elementwise(
    "atan2", lambda xp, a, b: xp.atan2(a, b),
    lambda a, b: b / (a * a + b * b), lambda a, b: -a / (a * a + b * b),
    text="atan2($a, $b)", latex=r"\operatorname{atan2}($a, $b)",
    local=[("$b/($a² + $b²)", r"\frac{$b}{$a^2 + $b^2}"), ("−$a/($a² + $b²)", r"-\frac{$a}{$a^2 + $b^2}")],
)  # fmt: skip
sinh = elementwise("sinh", lambda xp, x: xp.sinh(x), lambda xp, x: xp.cosh(x),
                   text="sinh $x", latex=r"\sinh $x", local=[("cosh $x", r"\cosh $x")])  # fmt: skip
cosh = elementwise("cosh", lambda xp, x: xp.cosh(x), lambda xp, x: xp.sinh(x),
                   text="cosh $x", latex=r"\cosh $x", local=[("sinh $x", r"\sinh $x")])  # fmt: skip
tanh = elementwise("tanh", lambda xp, x: xp.tanh(x), lambda y: 1 - y * y,
                   text="tanh $x", latex=r"\tanh $x", local=[("1 − $y²", "1 - $y^2")])  # fmt: skip
asinh = elementwise("asinh", lambda xp, x: xp.asinh(x), lambda xp, x: 1 / xp.sqrt(x * x + 1),
                    text="arsinh $x", latex=r"\operatorname{arsinh} $x",
                    local=[("1/√($x² + 1)", r"\frac{1}{\sqrt{$x^2 + 1}}")])  # fmt: skip
acosh = elementwise("acosh", lambda xp, x: xp.acosh(x), lambda xp, x: 1 / (xp.sqrt(x - 1) * xp.sqrt(x + 1)),
                    text="arcosh $x", latex=r"\operatorname{arcosh} $x",
                    local=[("1/√($x² − 1)", r"\frac{1}{\sqrt{$x^2 - 1}}")])  # fmt: skip
atanh = elementwise("atanh", lambda xp, x: xp.atanh(x), lambda x: 1 / (1 - x * x),
                    text="artanh $x", latex=r"\operatorname{artanh} $x",
                    local=[("1/(1 − $x²)", r"\frac{1}{1 - $x^2}")])  # fmt: skip

# Choosing between values ------------------------------------------------------------------------------------
# The winner takes the whole cotangent. At a tie it is the first argument, so the derivative is deterministic
# and the parts still add up to one.

maximum = elementwise(
    "maximum", lambda xp, a, b: xp.maximum(a, b), lambda a, b: a >= b, lambda a, b: ~(a >= b), gate=True,
    text="max($a, $b)", latex=r"\max($a, $b)",
    local=[("1[$a ≥ $b]", r"\mathbb{1}[$a \ge $b]"), ("1[$a < $b]", r"\mathbb{1}[$a < $b]")],
)  # fmt: skip
minimum = elementwise(
    "minimum", lambda xp, a, b: xp.minimum(a, b), lambda a, b: a <= b, lambda a, b: ~(a <= b), gate=True,
    text="min($a, $b)", latex=r"\min($a, $b)",
    local=[("1[$a ≤ $b]", r"\mathbb{1}[$a \le $b]"), ("1[$a > $b]", r"\mathbb{1}[$a > $b]")],
)  # fmt: skip
where = linear(
    "where", lambda xp, condition, a, b: xp.where(condition, a, b),
    None,
    lambda xp, g, condition: xp.where(condition, g, 0),
    lambda xp, g, condition: xp.where(condition, 0, g),
    text="$a if $condition else $b", latex=r"\begin{cases} $a & $condition \\ $b \end{cases}",
    local=[("", ""), ("1[$condition]", r"\mathbb{1}[$condition]"),
           ("1[not $condition]", r"\mathbb{1}[\lnot $condition]")],
)  # fmt: skip
copysign = elementwise(
    "copysign", lambda xp, a, b: xp.copysign(a, b), lambda xp, a, y: xp.sign(a) * xp.sign(y), lambda: 0,
    text="|$a|·sign($b)", latex=r"|$a| \operatorname{sign} $b",
    local=[("sign($a)·sign($b)", r"\operatorname{sign} $a \operatorname{sign} $b"), ("0", "0")],
)  # fmt: skip


def clip(x: Any, min: Any = None, max: Any = None) -> Any:
    """`x` limited to [min, max]; either bound may be None. On a bound, the gradient goes to `x`."""
    if min is not None:
        x = maximum(x, min)
    return x if max is None else minimum(x, max)


# Rounding: flat, so the derivative is zero wherever there is one --------------------------------------------

floor = elementwise("floor", lambda xp, x: xp.floor(x), lambda: 0,
                    text="⌊$x⌋", latex=r"\lfloor $x \rfloor", local=[("0", "0")])  # fmt: skip
ceil = elementwise("ceil", lambda xp, x: xp.ceil(x), lambda: 0,
                   text="⌈$x⌉", latex=r"\lceil $x \rceil", local=[("0", "0")])  # fmt: skip
trunc = elementwise("trunc", lambda xp, x: xp.trunc(x), lambda: 0, local=[("0", "0")])
_round = elementwise(
    "round", lambda xp, x, *, scale: xp.round(x) if scale == 1 else xp.round(x * scale) / scale, lambda: 0,
    local=[("0", "0")],
)  # fmt: skip


def round(x: Any, /, decimals: int = 0) -> Any:
    """`x` rounded to `decimals` places after the point, halves to even."""
    return _round(x, scale=10**decimals)


# Comparison and logic: no gradient --------------------------------------------------------------------------

equal = constant("equal", lambda xp, a, b: a == b, text="$a = $b", latex="$a = $b")
not_equal = constant("not_equal", lambda xp, a, b: a != b, text="$a ≠ $b", latex=r"$a \ne $b")
less = constant("less", lambda xp, a, b: a < b, text="$a < $b", latex="$a < $b")
less_equal = constant("less_equal", lambda xp, a, b: a <= b, text="$a ≤ $b", latex=r"$a \le $b")
greater = constant("greater", lambda xp, a, b: a > b, text="$a > $b", latex="$a > $b")
greater_equal = constant("greater_equal", lambda xp, a, b: a >= b, text="$a ≥ $b", latex=r"$a \ge $b")
isfinite = constant("isfinite", lambda xp, x: xp.isfinite(x))
isinf = constant("isinf", lambda xp, x: xp.isinf(x))
isnan = constant("isnan", lambda xp, x: xp.isnan(x))
signbit = constant("signbit", lambda xp, x: xp.signbit(x))
nextafter = constant("nextafter", lambda xp, a, b: xp.nextafter(a, b))
logical_and = constant("logical_and", lambda xp, a, b: xp.logical_and(a, b), text="$a and $b", latex=r"$a \land $b")
logical_or = constant("logical_or", lambda xp, a, b: xp.logical_or(a, b), text="$a or $b", latex=r"$a \lor $b")
logical_xor = constant("logical_xor", lambda xp, a, b: xp.logical_xor(a, b))
logical_not = constant("logical_not", lambda xp, x: xp.logical_not(x), text="not $x", latex=r"\lnot $x")
bitwise_and = constant("bitwise_and", lambda xp, a, b: a & b)
bitwise_or = constant("bitwise_or", lambda xp, a, b: a | b)
bitwise_xor = constant("bitwise_xor", lambda xp, a, b: a ^ b)
bitwise_invert = constant("bitwise_invert", lambda xp, x: ~x)
bitwise_left_shift = constant("bitwise_left_shift", lambda xp, a, b: a << b)
bitwise_right_shift = constant("bitwise_right_shift", lambda xp, a, b: a >> b)
