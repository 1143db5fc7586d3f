"""Division whose 0/0 is 0, for rules of other operations in which a zero over a zero means "no effect"."""

from __future__ import annotations

from typing import Any

from chainrule.core.primitive import Primitive, general


def _value(xp: Any, a: Any, b: Any) -> Any:
    return a / xp.where((a == 0) & (b == 0), xp.ones_like(b), b)


def _push(xp: Any, primals: Any, tangents: Any, y: Any) -> Any:
    (_, b), (a_dot, b_dot) = primals, tangents
    terms = [] if a_dot is None else [ratio.on(xp, a_dot, b)]
    if b_dot is not None:
        terms.append(-ratio.on(xp, y * b_dot, b))
    return sum(terms[1:], terms[0])


# The rules divide in the same way: a zero cotangent stays zero to every order, any other over 0 is infinite.
ratio: Primitive = general(
    "ratio", _value, lambda xp, g, b: ratio.on(xp, g, b), lambda xp, g, b, y: -ratio.on(xp, g * y, b),
    push=_push, text="$a/$b", latex=r"\frac{$a}{$b}",
    local=[("1/$b", r"\frac{1}{$b}"), ("−$y/$b", r"-\frac{$y}{$b}")],
)  # fmt: skip
