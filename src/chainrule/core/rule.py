"""`Rule`: one derivative of one primitive, and what it reads.

The names of a rule's parameters are its declaration; they are listed in `chainrule.core.primitive`. This file turns
them into two functions: one that takes what the rule reads out of a call, and one that applies it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from chainrule.core.namespace import PYTHON_SCALARS
from chainrule.core.native import Native

if TYPE_CHECKING:
    from chainrule.core.primitive import Primitive


class Rule:
    """The derivative of one primitive with respect to one input, and what it reads.

    `keep(row, params)` takes that out of a call's inputs and outputs and its static parameters; where no parameters are
    read, so does `take(row)`, in C.

    `pull(xp, g, *kept)` is the vector-Jacobian product; for elementwise operations `local(xp, *kept)` is the
    local derivative, from which both directions follow.
    """

    __slots__ = ("function", "index", "keep", "local", "pull", "reads", "sources", "take")

    def __init__(self, function: Callable, index: int, primitive: Primitive) -> None:
        names = list(inspect.signature(function).parameters)
        takes_xp = "xp" in names
        self.function = function
        self.index = index
        self.reads = tuple(name for name in names if name not in ("xp", "g", "k"))
        self.keep, self.take, self.sources = _keeper(self.reads, primitive)
        applied = function if takes_xp else lambda xp, *rest: function(*rest)
        self.local = None
        if primitive.gate:
            self.local = applied
            self.pull = lambda xp, g, *kept: g * xp.astype(applied(xp, *kept), g.dtype)
        elif primitive.elementwise:
            self.local = applied
            if takes_xp:
                self.pull = lambda xp, g, *kept: g * function(xp, *kept)
            else:
                self.pull = lambda xp, g, *kept: g * function(*kept)
        elif "k" in names:  # one rule for each of any number of inputs
            if "k" in inspect.signature(primitive.value).parameters:
                raise TypeError(f"{primitive.name}: in a rule, k is the number of the input; rename the parameter k")
            self.pull = (
                (lambda xp, g, *kept: function(xp, g, index, *kept))
                if takes_xp
                else (lambda xp, g, *kept: function(g, index, *kept))
            )
        else:
            self.pull = applied
        if primitive.native is not None:
            self.pull = Native(self.pull, backward=True, fewest=primitive.native)


def _keeper(
    reads: Sequence[str], primitive: Primitive
) -> tuple[Callable, Callable[[tuple], tuple] | None, tuple[int | None, ...]]:
    """How to take what a rule reads out of the row (inputs..., outputs...) and the static parameters.

    Also how to take it out of the row alone (None where that is not enough), and for each thing read its place in that
    row (None for shapes and parameters): a recorded backward pass needs to know where a kept value came from.
    """
    row = primitive.row
    start = len(row) if primitive.variadic else 0  # outputs of a variadic primitive are counted from the end
    sources = tuple(row.index(name) - start if name in row else None for name in reads)
    if all(source is not None for source in sources):
        take = _taker(sources)  # type: ignore[arg-type]
        return lambda values, params: take(values), take, sources

    def parameter(name: str) -> Callable:
        if name.endswith("_shape") and name[:-6] in row:
            place = row.index(name[:-6]) - start
            return lambda values, params: _shape_of(values[place])
        if name == "shapes":  # of every input, where there may be any number
            return lambda values, params: tuple([_shape_of(value) for value in values[:-1]])
        return lambda values, params: params[name]

    def value(place: int) -> Callable:
        return lambda values, params: values[place]

    getters = [parameter(name) if place is None else value(place) for name, place in zip(reads, sources, strict=True)]
    return (lambda values, params: tuple([get(values, params) for get in getters])), None, sources


def _taker(places: Sequence[int]) -> Callable[[tuple], tuple]:
    if len(places) > 1:
        return itemgetter(*places)
    start, stop = (places[0], places[0] + 1 or None) if places else (0, 0)
    return itemgetter(slice(start, stop))


def _shape_of(value: Any) -> tuple[int, ...]:
    return () if type(value) in PYTHON_SCALARS else value.shape


def sum_to_shape(xp: Any, g: Any, shape: tuple[int, ...]) -> Any:
    """The transpose of broadcasting: sum `g` over the axes along which `shape` was stretched.

    A rule may also give fewer axes than there are; then every element along the others has the same cotangent.
    """
    extra = len(g.shape) - len(shape)
    if extra > 0:
        g = xp.sum(g, axis=tuple(range(extra)))
        if g.shape == shape:
            return g
    elif extra < 0:
        g = xp.reshape(g, (1,) * -extra + tuple(g.shape))
    stretched = tuple(i for i, (n, length) in enumerate(zip(g.shape, shape, strict=True)) if length == 1 != n)
    if stretched:
        g = xp.sum(g, axis=stretched, keepdims=True)
    return g if g.shape == shape else xp.broadcast_to(g, shape)
