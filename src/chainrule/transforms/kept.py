"""What a recorded graph keeps between the passes: its arrays, each piece of memory once, and the rules that read them.

This is a reading of the graph: the edges hold exactly what the rules named in their declarations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.blank import Blank
from chainrule.core.node import Forgotten, Leaf, Node
from chainrule.core.tensor import Tensor, _raw
from chainrule.transforms.trees import flatten


class Use(NamedTuple):
    """Why something is kept.

    Attributes:
        node: the step whose rule reads it.
        rule: which of the step's inputs the rule is for; empty for what a checkpoint keeps to run again.
        reads: what the rule calls it: an input, the output or a static parameter of the operation.
    """

    node: Node
    rule: str
    reads: str


class Kept(NamedTuple):
    """One piece of memory.

    Attributes:
        nbytes: its size.
        shape, dtype: of the first array in it that a rule reads.
        uses: what keeps it, in the order of the steps.
    """

    nbytes: int
    shape: tuple[int, ...]
    dtype: Any
    uses: list[Use]


def kept_by(results: Iterable[Any]) -> dict[int, Kept]:
    """All that the graphs of `results` keep, by the identity of the memory (see `owner`)."""
    found: dict[int, Kept] = {}
    for node in sorted(_nodes(results), key=lambda node: node.order):
        for use, value in _uses(node):
            for array in arrays_in(value):
                own = owner(array)
                entry = found.get(id(own))
                if entry is None:
                    entry = found[id(own)] = Kept(nbytes_of(own), tuple(array.shape), array.dtype, [])
                entry.uses.append(use)
    return found


def owner(array: Any) -> Any:
    """The array whose memory `array` is a view of: itself, mostly."""
    array = getattr(array, "concrete", array)  # what a traced array is in this run
    if isinstance(array, Blank):
        return array.memory
    while isinstance(array, np.ndarray) and isinstance(array.base, np.ndarray):
        array = array.base
    return array


def arrays_in(value: Any) -> Iterator[Any]:
    """The arrays in a value of any structure, without the tensors around them."""
    if isinstance(value, Tensor) or hasattr(value, "dtype"):
        raw = _raw(value)
        if hasattr(raw, "shape"):
            yield raw
    elif hasattr(value, "kept"):  # a call of a custom_vjp function
        yield from arrays_in(value.kept)
    elif isinstance(value, (tuple, list, dict)):
        for part in flatten(value)[0]:
            yield from arrays_in(part)


def _nodes(results: Iterable[Any]) -> set[Node]:
    """Every node below `results`, on every level."""
    seen: set[Node] = set()
    stack: list[Any] = list(results)
    while stack:
        thing = stack.pop()
        if isinstance(thing, Tensor):
            stack += [thing._node, thing._value]
        elif isinstance(thing, Node) and thing not in seen:
            seen.add(thing)
            stack += [parent for parent, _, _ in thing.edges or ()]
    return seen


def leaves_of(results: Iterable[Any]) -> list[Tensor]:
    """The tensors that the graphs of `results` end in."""
    found = [node.tensor() for node in _nodes(results) if isinstance(node, Leaf)]
    return [tensor for tensor in found if tensor is not None]


def _uses(node: Node) -> Iterator[tuple[Use, Any]]:
    if isinstance(node, Forgotten):
        yield from ((Use(node, "", "input"), value) for value in node.kept)
        return
    for _, rule, values in node.edges or ():
        inputs = node.primitive.inputs  # type: ignore[union-attr]
        which = inputs[rule.index] if rule.index < len(inputs) else str(rule.index)
        names = getattr(rule, "reads", None) or ("residuals",) * len(values)
        yield from ((Use(node, which, name), value) for name, value in zip(names, values, strict=True))
    if node.params:
        yield from ((Use(node, "", name), value) for name, value in node.params.items())


def nbytes_of(array: Any) -> int:
    """The bytes of an array's elements, of whatever library."""
    size = getattr(array, "nbytes", None)
    return int(size) if size is not None else int(np.prod(array.shape)) * np.dtype(str(array.dtype)).itemsize
