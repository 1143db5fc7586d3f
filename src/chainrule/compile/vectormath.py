"""Elementary functions on scalars and vectors of numbers, written out in LLVM code.

`emit` writes a call of a function that is added to the module where it is not there yet. All lanes of a vector are
worked on at once, without branches, and special values come out as NumPy's. Only sin, cos and tan have a branch that
is hardly ever taken: beyond 2¹⁸ (float32) and 2²⁰·π (float64) the C library is asked, lane by lane.

How a function is computed is told at each, in `exponentials` and `trigonometry`; coefficients live in `polynomials`.
What is common: the argument is reduced to a short interval by an identity, a minimax polynomial is evaluated there,
and the result is put together so that the rounding errors of the reduction stay below the last place (Muller,
Elementary Functions, chapters 9 to 11).
"""

from __future__ import annotations

from collections.abc import Callable

from chainrule.compile import exponentials, ir, trigonometry
from chainrule.compile.lanes import FLOAT, Lanes

#: Largest error of each function in units in the last place of the result, for float32 and float64: the largest that
#: was found among millions of arguments, with and without fused multiply-add instructions, rounded up. Below the
#: smallest normal number the unit is that of the smallest normal number. That of `logaddexp` is in units of the largest
#: of its arguments and its result.
ULP_BOUNDS: dict[str, tuple[float, float]] = {
    "acos": (1.2, 1.2),
    "acosh": (0.51, 2.9),
    "asin": (2, 2.2),
    "asinh": (0.51, 1.9),
    "atan": (1.9, 1.9),
    "atan2": (0.51, 2.0),
    "atanh": (0.51, 2.0),
    "cbrt": (0.6, 0.6),
    "cos": (0.95, 0.95),
    "cosh": (1.5, 1.5),
    "erf": (1.5, 1.3),
    "erfc": (0.51, 4),
    "exp": (1.2, 1.2),
    "exp2": (1.3, 1.2),
    "expm1": (1.7, 1.9),
    "hypot": (0.51, 1.3),
    "log": (0.9, 0.9),
    "log10": (1.2, 1.2),
    "log1p": (0.9, 0.9),
    "log2": (1.3, 1.2),
    "logaddexp": (3.0, 3.0),
    "pow": (0.51, 1.3),
    "sin": (0.95, 0.95),
    "sinh": (1.7, 1.8),
    "sqrt": (0.5, 0.5),
    "tan": (0.51, 2.3),
    "tanh": (1.6, 1.6),
}


_FUNCTIONS: dict[str, Callable[..., Lanes]] = {
    "sqrt": Lanes.sqrt,
    "exp": exponentials.exp,
    "exp2": exponentials.exp2,
    "expm1": exponentials.expm1,
    "log": exponentials.log,
    "log2": exponentials.log2,
    "log10": exponentials.log10,
    "log1p": exponentials.log1p,
    "logaddexp": exponentials.logaddexp,
    "sinh": exponentials.sinh,
    "cosh": exponentials.cosh,
    "tanh": exponentials.tanh,
    "asinh": exponentials.asinh,
    "acosh": exponentials.acosh,
    "atanh": exponentials.atanh,
    "pow": exponentials.pow,
    "cbrt": exponentials.cbrt,
    "hypot": exponentials.hypot,
    "erf": exponentials.erf,
    "erfc": exponentials.erfc,
    "sin": trigonometry.sin,
    "cos": trigonometry.cos,
    "tan": trigonometry.tan,
    "asin": trigonometry.asin,
    "acos": trigonometry.acos,
    "atan": trigonometry.atan,
    "atan2": trigonometry.atan2,
}

#: What float32 numbers are made float64 for, and the function that then computes the result.
_IN_FLOAT64: dict[str, Callable[..., Lanes]] = {
    "asinh": exponentials.asinh,
    "acosh": exponentials.acosh,
    "atanh": exponentials.atanh,
    "hypot": exponentials.hypot,
    "erfc": exponentials.erfc,
    "pow": exponentials.pow_in_float64,
    "tan": trigonometry.tan,
    "atan2": trigonometry.atan2,
}

#: The functions that `emit` knows.
NAMES = frozenset(_FUNCTIONS)


def emit(builder: ir.IRBuilder, name: str, *values: ir.Value) -> ir.Value:
    """A call of an elementary function.

    Args:
        builder: where the call is written.
        name: one of `NAMES`.
        values: the arguments, all of one type: float, double or a vector of them.

    Returns:
        The result, of the same type.
    """
    first = Lanes(builder, values[0])
    function = _FUNCTIONS[name]
    if function is Lanes.sqrt:
        return first.sqrt().value
    full_name = f"chainrule.{name}.{first.intrinsic_suffix}"
    known = builder.module.globals.get(full_name)
    if known is None:
        known = _define(builder.module, full_name, name, [value.type for value in values])
    return builder.call(known, values)


def _define(module: ir.Module, full_name: str, name: str, types: list[ir.Type]) -> ir.Function:
    """Add a function to a module."""
    function = ir.Function(module, ir.FunctionType(types[0], types), full_name)
    function.linkage = "internal"
    function.attributes.add("alwaysinline")
    builder = ir.IRBuilder(function.append_basic_block())
    arguments = [Lanes(builder, argument) for argument in function.args]
    if name in _IN_FLOAT64 and arguments[0].format is FLOAT:
        result = _IN_FLOAT64[name](*(x.widened() for x in arguments)).narrowed()
    else:
        result = _FUNCTIONS[name](*arguments)
    result.builder.ret(result.value)
    return function
