"""Reverse mode: one walk over the recorded graph, newest node first.

`pull_back` is the walk that every reverse-mode reading of the graph uses. It multiplies the cotangent of a node by
the local derivative of each of its edges and adds up what arrives at the node's inputs; `Tensor.backward` is that
walk followed by storing what reached the leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import numpy as np

from chainrule.core import state
from chainrule.core.anomaly import all_finite, source_line
from chainrule.core.errors import AnomalyError, GradientError
from chainrule.core.namespace import PYTHON_SCALARS, fast_numpy, namespaces, tensor_namespace
from chainrule.core.node import Forgotten, Leaf, Node, Tangent, new_node
from chainrule.core.primitive import OutputCotangent, select_output
from chainrule.core.rule import sum_to_shape
from chainrule.core.subnormal import flushed
from chainrule.core.tensor import Tensor, _raw

_newest_first = attrgetter("order")
_FLOAT32 = np.dtype(np.float32)


def pull_back(
    roots: Sequence[tuple[Node, Any]], *, retain_graph: bool = False, create_graph: bool = False
) -> dict[Node, Any]:
    """Vector-Jacobian products of everything below `roots`, summed over paths.

    From float32 roots, numbers below 1.2e-38 count as zero on the way (see `core.subnormal`).

    Args:
        roots: pairs of a node and the cotangent of its value.
        retain_graph: keep what the rules read, so that the graph can be walked again.
        create_graph: record the walk itself on the same tape, for derivatives of derivatives; cotangents are
            tensors then.

    Returns:
        The cotangent of every leaf that was reached.

    Raises:
        GradientError: the graph was freed by an earlier walk.
        AnomalyError: a cotangent is not finite, inside `detect_anomaly`.
    """
    if any(node.dtype is _FLOAT32 for node, _ in roots):
        with flushed():
            return _walk(roots, retain_graph, create_graph)
    return _walk(roots, retain_graph, create_graph)


def _walk(roots: Sequence[tuple[Node, Any]], retain_graph: bool, create_graph: bool) -> dict[Node, Any]:
    cotangents: dict[Node, Any] = {}
    for node, cotangent in roots:
        _add(cotangents, node, cotangent)
    _visit(_reachable(cotangents), cotangents, retain_graph, create_graph)
    return {leaf: _run_hooks(leaf, g) if leaf.hooks else g for leaf, g in cotangents.items()}


def _visit(nodes: Sequence[Node], cotangents: dict[Node, Any], retain_graph: bool, create_graph: bool) -> None:
    """Pull the cotangent of each of `nodes` on to its inputs, all of them in `cotangents`."""
    anomaly = state.anomaly_detection.get()
    is_plain = not (anomaly or create_graph)
    last = len(nodes)
    for number, node in enumerate(nodes, 1):
        edges = node.edges
        if not edges:
            continue  # a leaf
        g = cotangents.pop(node, None)
        if g is None:
            continue
        if node.hooks is not None:
            g = _run_hooks(node, g)
        if type(node) is Forgotten:
            _visit_again(node, g, cotangents, create_graph)
            if not retain_graph:
                node.edges = node.grow = node.holds = None
                node.kept = ()
            continue
        known = g
        if type(g) is list:
            known = next(part for part in g if part is not None)
            if not node.primitive.has_residuals:  # type: ignore[union-attr]
                g = _fill_row(node, g, known)
        xp = tensor_namespace if create_graph else namespaces.get(type(known), tensor_namespace)
        together = None
        if is_plain:
            if len(edges) > 1:
                if node.primitive.pullback is not None:  # type: ignore[union-attr]
                    together = _pulled_together(node, g)
            elif number < last and node.primitive.gate and _is_gate_of(node, nodes[number], g, cotangents):  # type: ignore[union-attr]
                ((parent, rule, kept),) = edges
                cotangents[parent] = (g, rule, kept)
                edges = ()
        for place, (parent, rule, kept) in enumerate(edges):
            if create_graph:
                kept = _recorded(node, rule, kept)
            contribution = rule.pull(xp, g, *kept) if together is None else together[place]
            if type(contribution) is OutputCotangent:
                _add_to_row(cotangents, parent, contribution)
                continue
            if contribution.shape != parent.shape:
                contribution = sum_to_shape(xp, contribution, parent.shape)
            if contribution.dtype is not parent.dtype and contribution.dtype != parent.dtype:
                contribution = xp.astype(contribution, parent.dtype)
            if anomaly:
                _check_finite(node, parent, contribution)
            previous = cotangents.get(parent)
            if previous is None:
                cotangents[parent] = contribution
            elif type(previous) is list:
                _add_to_row(cotangents, parent, OutputCotangent(0, contribution))
            else:
                cotangents[parent] = previous + contribution
        if not retain_graph:
            node.edges = None
            node.holds = None


def _is_gate_of(node: Node, following: Node, g: Any, cotangents: dict[Node, Any]) -> bool:
    """Whether a gate and what it was made from, the node `following` it in the walk, may go back by one program.

    Nothing else was made from that, and nobody wants to see its cotangent. The numbers are the same: a gate passes on
    what it is given, or zero.
    """
    pullback = getattr(following.primitive, "pullback", None)
    return (
        pullback is not None
        and node.edges[0][0] is following  # type: ignore[index]
        and following.hooks is None
        and following not in cotangents
        and type(g) is np.ndarray
        and g.size >= pullback.fewest
        and g.shape == following.shape
        and g.dtype is following.dtype
        and len(following.edges) > 1  # type: ignore[arg-type]
    )


def _pulled_together(node: Node, g: Any) -> Any:
    """What all rules of a node give, by one program where arrays are large; else None.

    Instead of its cotangent, `g` may be that of a gate made from it, with the gate's rule and what that reads.
    """
    edges: Any = node.edges
    pullback: Any = node.primitive.pullback  # type: ignore[union-attr]
    kept = [part for edge in edges for part in edge[2]]
    wanted = tuple([(rule.index, len(row), parent.shape) for parent, rule, row in edges])
    if type(g) is tuple:
        g, after, read = g
        return pullback(fast_numpy, g, *read, *kept, edges=wanted, after=after)
    if type(g) is not np.ndarray or (g.size < pullback.fewest and not pullback.has_large(kept)):
        return None
    return pullback(fast_numpy, g, *kept, edges=wanted, after=None)


def pull_through(node: Forgotten, g: Any) -> dict[Node, Any]:
    """The cotangents of all that a forgotten step was made from, of this step alone."""
    cotangents: dict[Node, Any] = {}
    _visit_again(node, g, cotangents, False)
    return cotangents


def _visit_again(node: Forgotten, g: Any, cotangents: dict[Node, Any], create_graph: bool) -> None:
    """Grow what was forgotten again and let it take the node's place in the walk.

    Cotangents of what it was made from are added up in the order in which they would have been without checkpoints,
    so that the sums are the same to the last bit.
    """
    roots = node.grow()  # type: ignore[misc]
    grown = {}
    for root, part in zip(roots, g if type(g) is list else [g], strict=True):
        if part is not None:
            _add(cotangents, root, part)
            grown[root] = part
    inside = _reachable(grown, {parent for parent, _, _ in node.edges})  # type: ignore[union-attr]
    _visit(inside, cotangents, create_graph, create_graph)


def _reachable(roots: Any, beyond: Set[Node] = frozenset()) -> list[Node]:
    """Every node that `roots` were made from, down to those `beyond`, newest first.

    An input is always older than its result.
    """
    seen = {*roots, *beyond}
    stack = list(roots)
    while stack:
        node = stack.pop()
        edges = node.edges
        if edges is None:
            raise GradientError(
                f"the graph below this {node.primitive.name} (shape {node.shape}) was already walked and freed. "
                "Pass retain_graph=True to the first backward() to walk it twice, or compute the value again"
            )
        for parent, _, _ in edges:
            if parent not in seen and parent.primitive is not None:  # leaves have nothing below them
                seen.add(parent)
                stack.append(parent)
    if beyond:
        seen -= beyond
    return sorted(seen, key=_newest_first, reverse=True)


def _add(cotangents: dict[Node, Any], node: Node, cotangent: Any) -> None:
    previous = cotangents.get(node)
    cotangents[node] = cotangent if previous is None else previous + cotangent


# Several outputs ---------------------------------------------------------------------------------------------------


def _add_to_row(cotangents: dict[Node, Any], node: Node, contribution: OutputCotangent) -> None:
    row = cotangents.get(node)
    if type(row) is not list:
        row, first = [None] * len(node.primitive.outputs), row  # type: ignore[union-attr]
        row[0] = first
        cotangents[node] = row
    previous = row[contribution.index]
    row[contribution.index] = contribution.value if previous is None else previous + contribution.value


def _fill_row(node: Node, row: list, known: Any) -> list:
    """Zeros for the outputs that nothing was computed from."""
    xp = namespaces[type(_raw(known))]
    return [
        xp.zeros(shape, dtype=dtype) if g is None else g
        for g, shape, dtype in zip(row, node.shape, node.dtype, strict=True)
    ]


# Derivatives of derivatives ----------------------------------------------------------------------------------------


def _recorded(node: Node, rule: Any, kept: tuple) -> tuple:
    """What a rule reads, as tensors that know where they came from, so that the rule itself is recorded."""
    if rule.sources is None:
        return rule.relink(node, kept)
    return tuple(
        value if source is None or type(value) in PYTHON_SCALARS else Tensor(value, _source_node(node, source, value))
        for value, source in zip(kept, rule.sources, strict=True)
    )


def _source_node(node: Node, source: int, value: Any) -> Node | None:
    primitive = node.primitive
    place = source
    inputs = len(primitive.inputs)  # type: ignore[union-attr]
    if place < inputs:
        return next((parent for parent, rule, _ in node.edges if rule.index == place), None)  # type: ignore[union-attr]
    if not primitive.outputs:  # type: ignore[union-attr]
        return node
    index = place - inputs
    if index == 0 and primitive.has_residuals:  # type: ignore[union-attr]
        return node
    edge = (node, select_output.rule(index), ())
    return new_node(select_output, [edge], node.level, value.shape, value.dtype, {"index": index})


# Hooks and anomalies -----------------------------------------------------------------------------------------------


def _run_hooks(node: Node, g: Any) -> Any:
    if type(g) is list:  # the residuals' cotangents pass by
        return [_run_hooks(node, g[0]), *g[1:]]
    for hook in tuple(node.hooks or ()):
        given = g if isinstance(g, Tensor) else Tensor(g)
        replaced = hook(given)
        if replaced is None:
            continue
        if replaced.shape != node.shape:
            raise ValueError(f"a gradient hook returned shape {replaced.shape} for a gradient of shape {node.shape}")
        g = replaced if isinstance(g, Tensor) else _raw(replaced)
    return g


def _check_finite(node: Node, parent: Node, contribution: Any) -> None:
    if not all_finite(contribution):
        raise AnomalyError(
            f"the gradient of {node.primitive.name} with respect to an input of shape {tuple(parent.shape)} is not "  # type: ignore[union-attr]
            f"finite (NaN or infinity); the operation was recorded at {node.origin or 'a place outside detect_anomaly'}"
        )


def _note_origin(node: Node, inputs: Any, values: list) -> None:
    node.origin = source_line()
    made = values[len(inputs) :]
    node.primitive.check_finite(made if node.primitive.outputs else made[0], node.origin)  # type: ignore[union-attr]


@contextmanager
def detect_anomaly() -> Iterator[None]:
    """Raise where the first NaN or infinity is made, forward or backward, naming the operation and source line.

    Values and gradients of every recorded operation are looked at, so it costs time: use it to find a fault.

    Raises:
        AnomalyError: from the operation, or from `backward()`, that first made the value.
    """
    token = state.anomaly_detection.set(True)
    try:
        with state.watching(_note_origin):
            yield
    finally:
        state.anomaly_detection.reset(token)


# Tensor.backward ---------------------------------------------------------------------------------------------------


def backward(self: Tensor, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False) -> None:
    """Add to `.grad` of every leaf the gradient of this tensor with respect to it.

    Args:
        gradient: the cotangent to start from, of this tensor's shape; may be left out for a scalar (then 1).
        retain_graph: keep the graph for another walk. Default: `create_graph`.
        create_graph: record the gradients too, so that they can be differentiated.

    Raises:
        GradientError: nothing was recorded, the graph was freed, or the tensor is not a scalar and no seed given.
        ValueError: the seed's shape does not fit.
    """
    root = self._node
    if root is None or isinstance(root, Tangent):
        raise GradientError(
            "backward() on a tensor that nothing was recorded for: no input required a gradient, it was detached, "
            "or it was made inside no_grad()"
        )
    seed = seed_for(self, gradient)
    if create_graph:
        seed = seed if isinstance(seed, Tensor) else Tensor(seed)
    retain = create_graph if retain_graph is None else retain_graph
    recording = state.tracer.get()
    for leaf, g in pull_back([(root, seed)], retain_graph=retain, create_graph=create_graph).items():
        tensor = leaf.tensor() if isinstance(leaf, Leaf) else None
        if tensor is not None:
            grad = g if isinstance(g, Tensor) else Tensor(g)
            earlier = tensor.grad
            if earlier is None and recording is not None:
                recording.expect_no_gradient(tensor)
            tensor._grad = grad if earlier is None else earlier + grad


def seed_for(output: Tensor, gradient: Any) -> Any:
    """The cotangent that a walk from `output` starts with: `gradient`, or 1 for a scalar."""
    value = output._value
    shape, dtype = value.shape, value.dtype
    nested = isinstance(value, Tensor)
    xp = tensor_namespace if nested else namespaces[type(value)]
    if gradient is None:
        if shape != ():
            raise GradientError(
                f"backward() from a tensor of shape {shape} needs a seed: pass gradient= of that shape, or reduce it "
                "to a scalar first, for example with .sum() or .mean()"
            )
        return dtype.type(1) if isinstance(value, np.generic) else xp.ones_like(value)
    if isinstance(gradient, Tensor):
        gradient = gradient if nested or gradient._node is not None else gradient._value
    else:
        gradient = namespaces[type(_raw(value))].asarray(gradient, dtype=dtype)
    if gradient.shape != shape:
        raise ValueError(f"the seed has shape {gradient.shape}, the tensor {shape}; they must be equal")
    if nested and not isinstance(gradient, Tensor):
        return Tensor(gradient)
    return gradient


Tensor.backward = backward  # type: ignore[attr-defined]
