"""Trigonometric functions and their inverses."""

from __future__ import annotations

import math

from chainrule.compile import ir
from chainrule.compile.lanes import DOUBLE, FLOAT, Lanes, where
from chainrule.compile.reduction import nearest, odd, polynomial

#: π/2 as a sum, each number the next digits.
_PI_2 = {
    FLOAT: (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
    DOUBLE: (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
}

#: Up to here the three numbers are enough to tell x from the nearest multiple of π/2.
_LARGEST = {FLOAT: 2.0**18, DOUBLE: 2.0**20 * math.pi}


def _reduced(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """n, r and r's rounding error with x = n·π/2 + r (Cody and Waite's reduction, with fused multiplications)."""
    n, number = nearest(x, 2 / math.pi)
    first, second, third = _PI_2[x.format]
    number = -number
    partial = number.fma(first, x)
    product = number * second
    r = partial + product
    rest = number.fma(second, -product) + number * third
    return n, r, ((partial - r) + product) + rest


def _sine(r: Lanes, rest: Lanes) -> Lanes:
    """sin(r + rest) for |r| ≤ π/4."""
    square = r * r
    return r + (polynomial("sin", square) * square).times_plus(r, rest)


def _cosine(r: Lanes, rest: Lanes) -> Lanes:
    """cos(r + rest) for |r| ≤ π/4."""
    square = r * r
    correction = (-r).times_plus(rest, polynomial("cos", square) * square * square)
    half = square * 0.5
    head = 1.0 - half
    return head + (((1.0 - head) - half) + correction)


def _is_odd(n: Lanes) -> Lanes:
    return (n & 1).equals(1)


def _far_out(name: str, x: Lanes, result: Lanes) -> Lanes:
    """The result, or the C library's in the lanes where the reduction would lose its precision: a rare branch."""
    builder = x.builder
    outside = (abs(x) > _LARGEST[x.format]) & (abs(x) < math.inf)
    some = outside.value
    if isinstance(x.value.type, ir.VectorType):
        mask = ir.IntType(x.value.type.count)
        some = builder.icmp_unsigned("!=", builder.bitcast(some, mask), ir.Constant(mask, 0))
    before = builder.block
    with builder.if_then(some, likely=False):
        exact = Lanes(builder, builder.call(_lane_by_lane(name, x), [x.value]))
        mixed = where(outside, exact, result)
        branch = builder.block
    merged = builder.phi(x.value.type)
    merged.add_incoming(result.value, before)
    merged.add_incoming(mixed.value, branch)
    return Lanes(builder, merged)


def _lane_by_lane(name: str, x: Lanes) -> ir.Function:
    """A function that calls the C library's function of that name for each lane."""
    module = x.builder.module
    kind, element = x.value.type, x.element
    library_name = name + ("f" if x.format is FLOAT else "")
    library = module.globals.get(library_name)
    if library is None:
        library = ir.Function(module, ir.FunctionType(element, [element]), library_name)
    if kind is element:
        return library
    full_name = f"chainrule.lanes.{name}.{x.intrinsic_suffix}"
    if full_name in module.globals:
        return module.globals[full_name]
    function = ir.Function(module, ir.FunctionType(kind, [kind]), full_name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block())
    start = builder.block
    loop = builder.append_basic_block()
    builder.branch(loop)
    builder.position_at_end(loop)
    index_type = ir.IntType(32)
    index, lanes = builder.phi(index_type), builder.phi(kind)
    computed = builder.call(library, [builder.extract_element(lanes, index)])
    updated = builder.insert_element(lanes, computed, index)
    following = builder.add(index, ir.Constant(index_type, 1))
    for phi, first, later in (
        (index, ir.Constant(index_type, 0), following),
        (lanes, function.args[0], updated),
    ):
        phi.add_incoming(first, start)
        phi.add_incoming(later, loop)
    done = builder.append_basic_block()
    builder.cbranch(builder.icmp_unsigned("<", following, ir.Constant(index_type, kind.count)), loop, done)
    builder.position_at_end(done)
    builder.ret(updated)
    return function


def sin(x: Lanes) -> Lanes:
    """±sin(r) or ±cos(r)."""
    n, r, rest = _reduced(abs(x))
    result = where(_is_odd(n), _cosine(r, rest), _sine(r, rest))
    sign = ((n & 2) << (x.format.integer.width - 2)) ^ x.sign()
    return _far_out("sin", x, result.flip(sign))


def cos(x: Lanes) -> Lanes:
    """±cos(r) or ±sin(r)."""
    n, r, rest = _reduced(x)
    result = where(_is_odd(n), _sine(r, rest), _cosine(r, rest))
    return _far_out("cos", x, result.flip(((n + 1) & 2) << (x.format.integer.width - 2)))


def tan(x: Lanes) -> Lanes:
    """sin(r)/cos(r) or −cos(r)/sin(r)."""
    n, r, rest = _reduced(abs(x))
    sine, cosine = _sine(r, rest), _cosine(r, rest)
    turned = _is_odd(n)
    result = where(turned, cosine, sine) / where(turned, -sine, cosine)
    return _far_out("tan", x, result.flip(x.sign()))


def _arcsine_parts(a: Lanes) -> tuple[Lanes, Lanes]:
    """Whether a > 1/2, and asin(a) where it is not, asin(√((1 − a)/2)) where it is."""
    large = a > 0.5
    z = where(large, (1.0 - a) * 0.5, a * a)
    s = where(large, z.sqrt(), a)
    return large, (polynomial("asin", z) * z).times_plus(s, s)


@odd
def asin(a: Lanes) -> Lanes:
    """A polynomial up to 1/2, then π/2 − 2·asin(√((1 − a)/2))."""
    right, rest, _ = _PI_2[a.format]
    large, part = _arcsine_parts(a)
    return where(large, (right - (part + part)) + rest, part)


def acos(x: Lanes) -> Lanes:
    """π/2 − asin(x) for |x| up to 1/2, else 2·asin(√((1 − |x|)/2)) or π minus it."""
    right, rest, _ = _PI_2[x.format]
    large, part = _arcsine_parts(abs(x))
    near = right - (part.flip(x.sign()) - rest)
    twice = part + part
    return where(large, where(x < 0.0, 2 * right - (twice - 2 * rest), twice), near)


def _angle(y: Lanes, x: Lanes) -> Lanes:
    """atan(y/x) of numbers without a sign, not both zero or infinite: turned by 0, π/4 or π/2 to |t| ≤ tan(π/8)."""
    right, rest, _ = _PI_2[x.format]
    steep, middle = y > x * (1 + math.sqrt(2)), y > x * (math.sqrt(2) - 1)
    t = where(steep, -x, where(middle, y - x, y)) / where(steep, y, where(middle, y + x, x))
    turn = where(steep, x.constant(right), where(middle, x.constant(right / 2), 0.0))
    turn_rest = where(steep, x.constant(rest), where(middle, x.constant(rest / 2), 0.0))
    square = t * t
    return turn + (t + (polynomial("atan", square) * square).times_plus(t, turn_rest))


@odd
def atan(a: Lanes) -> Lanes:
    """The angle whose tangent is a."""
    return _angle(a, a.constant(1.0))


def atan2(y: Lanes, x: Lanes) -> Lanes:
    """The angle of the point (x, y)."""
    right, rest, _ = _PI_2[x.format]
    high, wide = abs(y), abs(x)
    both = (high.equals(0.0) & wide.equals(0.0)) | (high.equals(math.inf) & wide.equals(math.inf))
    wide_or_one = where(both, x.constant(1.0), wide)
    high_or_one = where(both, where(high > 0.0, x.constant(1.0), 0.0), high)
    # A quarter of both, where a sum of large numbers would be infinite.
    scale = where((high > 1e300) | (wide > 1e300), x.constant(0.25), 1.0)
    angle = _angle(high_or_one * scale, wide_or_one * scale)
    return where(x.bits() < 0, 2 * right - (angle - 2 * rest), angle).flip(y.sign())
