"""`Native`: array code that runs as machine code where NumPy arrays are large.

NumPy goes over memory once for every operation of a formula, on one core. The value code and the rules of a network's
steps are formulas of several operations, so that most of an eager step would be spent there. A primitive that is
declared `native` has them compiled, one by one, for the shapes they are called with; the call, the tape and what is
kept stay what they are.

Which of the two computes is decided by shapes and dtypes when they are first seen, and stays so: the same calls give
the same numbers to the last bit. Of one function the `MOST_PROGRAMS` first sets of shapes are compiled; only beyond
them it matters which came before. How code is compiled is not known here: `chainrule.compile` puts its own in
`compilers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import update_wrapper
from typing import Any, Protocol, TypeAlias

import numpy as np

from chainrule.core.namespace import fast_numpy

#: Where all arrays have fewer elements, NumPy is as soon done as machine code is called.
FEWEST_ELEMENTS = 32

#: For how many shapes one function is compiled. Code that is called with ever new ones would do little else.
MOST_PROGRAMS = 24

#: For one shape of the first input, how many programs are tried quickly one after the other.
_MOST_TRIED = 4


class Program(Protocol):
    """A compiled function.

    Attributes:
        quick: takes inputs and params, and perhaps arrays for the results, and gives those; or None where they are
            not what it was compiled for. Itself None where there is no quick way to call the program.
    """

    quick: Callable[..., Any] | None

    def __call__(self, inputs: Sequence[Any], out: Sequence[np.ndarray] | None = None) -> Any:
        """The result for inputs of the shapes and dtypes it was compiled for, in new arrays or in `out`."""


#: Compiles a function for inputs and params like those given; None where it cannot.
Compiler: TypeAlias = "Callable[[Native, Sequence[Any], dict[str, Any]], Program | None]"
compilers: list[Compiler] = []

_enabled: ContextVar[bool] = ContextVar("chainrule_native", default=True)
_is_enabled = _enabled.get
_ndarray = np.ndarray
_numbers = frozenset((np.float32, np.float64))


@contextmanager
def no_native() -> Iterator[None]:
    """Compute every operation with NumPy, also those that have machine code for large arrays.

    Their results differ in the last digits. Compiled functions (`cr.compile`) are not concerned.
    """
    token = _enabled.set(False)
    try:
        yield
    finally:
        _enabled.reset(token)


class Native:
    """`function(xp, *inputs, **params)`, array code, that is compiled where its inputs are large NumPy arrays.

    Args:
        function: value code or a rule.
        backward: whether it is part of a backward pass, in which subnormal numbers count as zero.
        fewest: number of elements from which on an array is large.
        replaces: for each result the number of the input whose array `into` may be given for it; no inputs if empty.
        decided: of another one, whose sets of shapes are to be this one's: both are compiled for them, or neither.
    """

    __slots__ = ("__dict__", "backward", "decided", "fewest", "function", "programs", "quick", "replaces")

    def __init__(
        self,
        function: Callable,
        *,
        backward: bool,
        fewest: int = FEWEST_ELEMENTS,
        replaces: Sequence[int] = (),
        decided: set[tuple] | None = None,
    ) -> None:
        update_wrapper(self, function)
        self.function = function
        self.backward = backward
        self.fewest = fewest
        self.replaces = replaces
        self.decided: set[tuple] = set() if decided is None else decided
        self.programs: dict[tuple, Program | None] = {}
        self.quick: dict[tuple[int, ...], list[Callable]] = {}  # by the first input's shape

    def __call__(self, xp: Any, *inputs: Any, **params: Any) -> Any:
        first = inputs[0]
        if type(first) in _numbers and len(inputs) > 1:  # the cotangent of a loss
            inputs, first = (np.asarray(first), *inputs[1:]), inputs[1]
        if (
            type(first) is not _ndarray
            or (first.size < self.fewest and not self.has_large(inputs))
            or xp is not fast_numpy
            or not _is_enabled()
        ):
            return self.function(xp, *inputs, **params)
        for quick in self.quick.get(first.shape, ()):
            y = quick(inputs, params)
            if y is not None:
                return y
        program = self._program(first, inputs, params)
        return self.function(xp, *inputs, **params) if program is None else program(inputs)

    def has_large(self, inputs: Sequence[Any]) -> bool:
        """Whether one of the inputs is a large array."""
        return any(type(x) is _ndarray and x.size >= self.fewest for x in inputs)

    def into(self, out: Sequence[np.ndarray], *inputs: Any) -> Sequence[np.ndarray]:
        """Its several results for NumPy arrays, written into the arrays `out`, which are in C order; returns those."""
        first = inputs[0]
        if first.size >= self.fewest and _is_enabled():
            for quick in self.quick.get(first.shape, ()):
                if quick(inputs, {}, out) is not None:
                    return out
            program = self._program(first, inputs, {})
            if program is not None:
                return program(inputs, out)
        for place, array in zip(out, self.function(fast_numpy, *inputs), strict=True):
            place[...] = array
        return out

    def _program(self, first: np.ndarray, inputs: Sequence[Any], params: dict[str, Any]) -> Program | None:
        key = (*map(_part_of_key, inputs), *params.items())
        try:
            program = self.programs[key]
        except TypeError:  # something that has no hash: a row of cotangents
            return None
        except KeyError:
            if not compilers or not self._is_decided(first, key, params):
                return None
            program = self.programs[key] = compilers[0](self, inputs, params)
            if program is not None and program.quick is not None:
                known = self.quick.setdefault(first.shape, [])
                if len(known) < _MOST_TRIED:
                    known.append(program.quick)
        return program

    def _is_decided(self, first: np.ndarray, key: tuple, params: dict[str, Any]) -> bool:
        """Whether these shapes are among the first. A pullback's are, whether a gate goes back with it or not."""
        shapes = (first.shape, first.dtype, params["edges"]) if "edges" in params else key
        if shapes not in self.decided:
            if len(self.decided) >= MOST_PROGRAMS:
                return False
            self.decided.add(shapes)
        return True


def _part_of_key(x: Any) -> tuple[Any, Any]:
    if type(x) is _ndarray:
        return x.shape, x.dtype
    return type(x), x.hex() if type(x) is float else x  # 0.0 == -0.0, and NaN is not itself


__all__ = ["Native", "no_native"]
