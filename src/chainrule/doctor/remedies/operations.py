"""Rules for single operations of a forward: what they are given, or that they are left out.

A rule is told of every operation inside of a module. Both frameworks' names of operations are known; the arithmetic is
that of either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from chainrule.doctor.vocabulary import canonical


class Rule(Protocol):
    """What is to become of operations."""

    def begin(self) -> None:
        """A forward starts."""

    def __call__(self, name: str, given: Sequence[Any], where: Callable, absolute: Callable) -> Sequence[Any] | None:
        """The positional arguments that an operation is given instead of `given`; None to pass on its first one."""


@dataclass
class Guards:
    """Operations are kept from numbers that they, or their derivatives, are not defined for: see `guarded`."""

    def begin(self) -> None:
        pass

    def __call__(self, name: str, given: Sequence[Any], where: Callable, absolute: Callable) -> Sequence[Any] | None:
        return guarded(name, given, where, absolute)


@dataclass
class Calls:
    """Counts the calls of an operation and leaves one of them out.

    Attributes:
        name: chainrule's for the operation.
        left_out: the number of that call, from 1; 0 for none.
        around: counts the same in a module around this one.
        seen: how many there were.
        latest: the number that the last of them has in the module around.
    """

    name: str
    left_out: int = 0
    around: Calls | None = None
    seen: int = 0
    latest: int = 0

    def begin(self) -> None:
        self.seen = 0

    def __call__(self, name: str, given: Sequence[Any], where: Callable, absolute: Callable) -> Sequence[Any] | None:
        if canonical(name.rstrip("_")) != self.name:
            return given
        self.seen += 1
        self.latest = self.seen if self.around is None else self.around.seen + 1
        return None if self.seen == self.left_out else given


@dataclass
class Reshapes:
    """What is brought into rows of so many numbers is brought into longer ones, where it has an axis of that length.

    Attributes:
        old, new: lengths of the rows.
    """

    old: int
    new: int

    def begin(self) -> None:
        pass

    def __call__(self, name: str, given: Sequence[Any], where: Callable, absolute: Callable) -> Sequence[Any] | None:
        if canonical(name) not in ("reshape", "view"):
            return given
        x, *sizes = given
        shape = tuple(sizes[0]) if len(sizes) == 1 and not isinstance(sizes[0], int) else tuple(sizes)
        longer = shape and shape[-1] == self.old and self.new in tuple(x.shape)[1:]
        return (x, (*shape[:-1], self.new)) if longer else given


LEAST = 1e-6
"""What logarithms, roots and divisors are kept from 0 by."""

LARGEST_EXPONENT = 60.0
"""exp of it can still be added up a million times in single precision."""

LARGEST_LOGIT = 1e9
"""Softmax of nothing but −∞ is 0/0; with this in their place all weights are equal."""

_ABOVE_ZERO = frozenset({"log", "log2", "log10", "sqrt", "rsqrt", "log_"})
_DIVIDING = frozenset({"div", "div_", "true_divide", "divide", "__truediv__", "__itruediv__"})
_EXPONENTIAL = frozenset({"exp", "exp2", "expm1", "sinh", "cosh"})
_WEIGHTS = frozenset({"softmax", "log_softmax", "attention_weights"})
_BETWEEN_ONES = frozenset({"acos", "asin", "arccos", "arcsin", "atanh", "arctanh"})
_POWERS = frozenset({"pow", "__pow__"})


def guarded(name: str, given: Sequence[Any], where: Callable, absolute: Callable) -> Sequence[Any]:
    """The positional arguments of an operation, kept from where it is not defined.

    Args:
        name: the operation's.
        given: its arguments.
        where, absolute: of the framework.
    """
    if not given:
        return given
    first, rest = given[0], tuple(given[1:])
    if name in _ABOVE_ZERO:
        return where(first > LEAST, first, LEAST), *rest
    if name in _DIVIDING:
        return first, _apart(rest[0], where, absolute), *rest[1:]
    if name == "reciprocal":
        return _apart(first, where, absolute), *rest
    if name in _EXPONENTIAL:
        return where(first < LARGEST_EXPONENT, first, LARGEST_EXPONENT), *rest
    if name in _WEIGHTS:
        return where(first > -LARGEST_LOGIT, where(first < LARGEST_LOGIT, first, LARGEST_LOGIT), -LARGEST_LOGIT), *rest
    if name in _BETWEEN_ONES:
        inside = 1 - LEAST
        return where(first < inside, where(first > -inside, first, -inside), inside), *rest
    if name in _POWERS and isinstance(rest[0], (int, float)) and (rest[0] < 0 or rest[0] != int(rest[0])):
        return (
            _apart(first, where, absolute) if rest[0] == int(rest[0]) else where(first > LEAST, first, LEAST)
        ), *rest
    return given


def _apart(divisor: Any, where: Callable, absolute: Callable) -> Any:
    """A divisor that is not 0."""
    if isinstance(divisor, (int, float)):
        return divisor
    return where(absolute(divisor) > LEAST, divisor, LEAST)
