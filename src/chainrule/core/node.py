"""The graph: nodes and the edges between them.

A `Node` is one step of the computation, as a person would write it on a whiteboard. It knows which primitive made
its value, and for each input a gradient flows to, an edge: the input's node, the rule, and exactly the values that
rule reads. Nothing here knows an operation or walks the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import ref

if TYPE_CHECKING:
    from chainrule.core.primitive import Primitive
    from chainrule.core.rule import Rule
    from chainrule.core.tensor import Tensor

_sequence = count().__next__
_allocate = object.__new__

#: From a node to one of its inputs: the input's node, the rule, and what the rule reads, in its order.
Edge: TypeAlias = "tuple[Node, Rule, tuple[Any, ...]]"


class Node:
    """One recorded step.

    Attributes:
        primitive: the operation (None for a leaf).
        edges: one per differentiable input; None once the graph was freed.
        level: the transform the node belongs to (see `state`).
        shape, dtype: of the value this node made (tuples of them for a primitive with several outputs).
        params: the static parameters the primitive was called with (axes, shapes, ...).
        order: creation number; an input's is always smaller, so sorting by it is a topological sort.
        hooks: functions called with the cotangent that reaches this node.
        origin: source line that made the node, remembered inside `detect_anomaly`.
        holds: what keeps the caller's arrays unchanged while this node needs them.
    """

    __slots__ = ("__weakref__", "dtype", "edges", "holds", "hooks", "level", "order", "origin", "params",
                 "primitive", "shape")  # fmt: skip

    primitive: Primitive | None
    edges: Sequence[Edge] | None
    level: int
    shape: Any
    dtype: Any
    params: Any
    order: int
    hooks: list[Callable[[Any], Any]] | None
    holds: Any
    origin: str | None

    def __repr__(self) -> str:
        name = self.primitive.name if self.primitive else "leaf"
        return f"<{name} node, shape {self.shape}, {self.dtype}>"


def next_order() -> int:
    """A creation number between those of all nodes so far and of all that follow."""
    return _sequence()


def new_node(primitive: Primitive | None, edges: Any, level: int, shape: Any, dtype: Any, params: Any) -> Node:
    """A node, made without the cost of a constructor: this runs for every recorded operation."""
    node = _allocate(Node)
    node.primitive = primitive
    node.edges = edges
    node.level = level
    node.shape = shape
    node.dtype = dtype
    node.params = params
    node.order = _sequence()
    node.hooks = None
    node.holds = None
    node.origin = None
    return node


class Leaf(Node):
    """Where a gradient ends: a tensor that requires one and was made by no operation."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor, level: int) -> None:
        self.primitive = None
        self.edges = ()
        self.level = level
        self.shape = tensor.shape
        self.dtype = tensor.dtype
        self.params = None
        self.order = _sequence()
        self.hooks = None
        self.holds = None
        self.origin = None
        self.tensor = ref(tensor)


class Forgotten(Node):
    """A step whose inside was not kept: a part of the graph that is grown again when a walk comes to it.

    Its edges lead to what the inside was made from, so that walks see them; their rules are not used.

    Attributes:
        grow: records the inside again and returns its results' nodes, one per output; None once it was freed.
        kept: what it was given: all that is kept of it.
        modules: those that were being called, the outermost first.
    """

    __slots__ = ("grow", "kept", "modules")

    grow: Callable[[], list[Node]] | None
    kept: Sequence[Any]
    modules: Sequence[Any]


class Tangent:
    """What a tensor carries in forward mode in place of a node: the derivative along one direction.

    It has no edges: forward mode keeps no graph.
    """

    __slots__ = ("level", "value")

    def __init__(self, value: Any, level: int) -> None:
        self.value = value
        self.level = level
