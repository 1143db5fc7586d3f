"""Why gradients vanish or explode: the product of Jacobians along a chain of layers, factor by factor.

A layer is what lies between two values that every path passes through; along a chain of residual blocks those are the
blocks' outputs. The factor of a layer is how much longer or shorter the actual gradient gets on its way through it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from chainrule.core.node import Node
from chainrule.core.tensor import tensor
from chainrule.explain.gradients import Path, Walk
from chainrule.explain.steps import Step

#: Where the largest slope of an activation is looked for.
_GRID = np.linspace(-12.0, 12.0, 4801)


@dataclass
class Factor:
    """One layer of the chain, from its output back to its input.

    Attributes:
        layer: the steps of the layer, in the order they are computed.
        factor: length of the gradient before the layer over that after it.
        activations, weights: the shares of elementwise steps and of matrix products in it; None where paths add up.
        around: whether a path leads around the layer's steps (a residual connection).
        bound: the greatest factor these weights and activations allow; None where it is not known.
        product: of the factors from the result to here.
        product_bound: of the bounds from the result to here; of the factors themselves where there is no bound.
    """

    layer: list[Step]
    factor: float
    activations: float | None
    weights: float | None
    around: bool
    bound: float | None
    product: float
    product_bound: float


def factors_of(steps: Sequence[Step], walk: Walk) -> list[Factor]:
    """The chain's layers, from the result back to the input; empty where there are fewer than three."""
    cuts = _cuts(steps, walk)
    places = {step.node: place for place, step in enumerate(steps)}
    found: list[Factor] = []
    product, bound = 1.0, 1.0
    for later, earlier in pairwise(cuts):
        layer = _between(steps, places, later, earlier)
        if not any(_is_matrix_product(step) or step.node.primitive.elementwise for step in layer):  # type: ignore[union-attr]
            continue
        before, after = _length(walk, later), _length(walk, earlier)
        if not before:
            break
        factor = after / before
        product *= factor
        limit = _bound(layer, walk)
        bound *= factor if limit is None else limit
        straight = _is_straight(layer, walk)
        shares = [_share(layer, walk, kind) if straight else None for kind in (_is_activation, _is_matrix_product)]
        found.append(Factor(layer, factor, shares[0], shares[1], not straight, limit, product, bound))
    return found if sum(any(_is_matrix_product(s) or _is_activation(s) for s in f.layer) for f in found) >= 3 else []


def _length(walk: Walk, node: Node) -> float:
    value = walk.gradients[node].value
    return 0.0 if value is None else float(np.linalg.norm(np.asarray(value, dtype=np.float64).reshape(-1)))


# Where to cut ------------------------------------------------------------------------------------------------------


def _cuts(steps: Sequence[Step], walk: Walk) -> list[Node]:
    """The values that every path along the longest chain passes through and a layer ends with, newest first."""
    height: dict[Node, int] = {}
    for step in steps:
        height[step.node] = 1 + max((height[p] for p, _, _ in step.node.edges or ()), default=-1)
    source = previous = walk.root
    while source.edges:
        previous, source = source, max((p for p, _, _ in source.edges), key=height.__getitem__)
    if _is_matrix_product(walk.steps[previous]):  # which of its inputs is a parameter cannot be told
        source = previous
    signal = {source}
    for step in steps:
        if any(parent in signal for parent, _, _ in step.node.edges or ()):
            signal.add(step.node)
    open_nodes, single = {walk.root}, []
    for step in reversed(steps):
        if step.node not in open_nodes:
            continue
        if len(open_nodes) == 1:
            single.append(step.node)
        open_nodes.remove(step.node)
        open_nodes |= {parent for parent, _, _ in step.node.edges or () if parent in signal}
    return _layer_borders(single, walk)


def _layer_borders(single: list[Node], walk: Walk) -> list[Node]:
    """Of the cut points, those that a layer ends with: the input of a matrix product, or of a block with branches."""
    borders = [single[0]] if single else []
    ends_layer = _is_matrix_product if any(_is_matrix_product(walk.steps[n]) for n in single) else _is_activation
    for later, earlier in pairwise(single):
        edges = [parent for parent, _, _ in later.edges or ()]
        branching = earlier not in edges or len(walk.gradients[earlier].paths) > 1
        if branching or ends_layer(walk.steps[later]):
            if later is not borders[-1] and branching:
                borders.append(later)
            borders.append(earlier)
    if single and borders[-1] is not single[-1]:
        borders.append(single[-1])
    return list(dict.fromkeys(borders))


def _between(steps: Sequence[Step], places: Mapping[Node, int], later: Node, earlier: Node) -> list[Step]:
    """The steps that make `later` from `earlier`."""
    below = {earlier}
    layer = []
    for step in steps[places[earlier] + 1 : places[later] + 1]:
        if any(parent in below for parent, _, _ in step.node.edges or ()):
            below.add(step.node)
            layer.append(step)
    needed, wanted = {later}, []
    for step in reversed(layer):
        if step.node in needed:
            wanted.append(step)
            needed |= {parent for parent, _, _ in step.node.edges or () if parent in below}
    return wanted[::-1]


# Shares and bounds -------------------------------------------------------------------------------------------------


def _is_matrix_product(step: Step) -> bool:
    return step.gate == "transposes"


def _is_activation(step: Step) -> bool:
    primitive = step.node.primitive
    return primitive is not None and primitive.elementwise and len(primitive.inputs) == 1


def _through(step: Step, walk: Walk, layer: set[Node]) -> list[Path]:
    """The paths that lead through a step to another step of the chain, not aside to a parameter."""
    found = walk.paths.get(step.node, [])
    inside = [p for p in found if p.to.node in layer]
    return inside or [p for p in found if not p.to.is_input] or found


def _is_straight(layer: list[Step], walk: Walk) -> bool:
    nodes = {step.node for step in layer}
    return (
        all(sum(parent in nodes for parent, _, _ in step.node.edges or ()) <= 1 for step in layer)
        and all(len([p for p in walk.gradients[step.node].paths if p.step.node in nodes]) <= 1 for step in layer)
        and len(
            [
                1
                for s in layer
                for parent, _, _ in s.node.edges or ()
                if parent not in nodes and parent.primitive is not None
            ]
        )
        <= 1
    )


def _share(layer: list[Step], walk: Walk, kind: Any) -> float:
    product = 1.0
    for step in layer:
        if kind(step):
            product *= _gain(step, walk, {s.node for s in layer})
    return product


def _gain(step: Step, walk: Walk, layer: set[Node]) -> float:
    before = _length(walk, step.node)
    contributions = [p.contribution for p in _through(step, walk, layer) if p.contribution is not None]
    after = float(np.linalg.norm(np.concatenate([np.reshape(c, -1) for c in contributions]).astype(np.float64)))
    return after / before if before else 0.0


def _bound(layer: list[Step], walk: Walk) -> float | None:
    """The product of the steps' greatest factors; for branches that meet again, of 1 + the branch."""
    nodes = {step.node for step in layer}
    greatest: dict[Node, float] = {}
    for step in layer:
        terms = []
        for parent, rule, kept in step.node.edges or ():
            if parent in nodes:
                inner = greatest[parent]
            elif parent.primitive is None and any(
                p in nodes or p.primitive is not None for p, _, _ in step.node.edges or () if p is not parent
            ):
                continue  # a parameter
            else:
                inner = 1.0
            slope = _greatest_slope(step, rule, kept)
            if slope is None:
                return None
            terms.append(inner * slope)
        greatest[step.node] = sum(terms)
    return greatest[layer[-1].node]


def _greatest_slope(step: Step, rule: Any, kept: tuple) -> float | None:
    """The norm of a step's Jacobian at its largest: over all inputs for activations, for these weights for products."""
    if _is_activation(step):
        return _steepest(step.node)
    matrices = [np.asarray(k) for k in kept if getattr(k, "ndim", 0) == 2]
    if _is_matrix_product(step) and len(matrices) == 1:
        return float(np.linalg.norm(matrices[0].astype(np.float64), 2))
    if step.gate in ("copies", "rearranges"):
        return 1.0
    return None


_slopes: dict[tuple, float] = {}


def _steepest(node: Node) -> float:
    """The largest slope an activation has anywhere, read off its own rule on a grid."""
    primitive = node.primitive
    key = (primitive, tuple(sorted((node.params or {}).items())))
    if key not in _slopes:
        x = tensor(_GRID, requires_grad=True)
        ((_, rule, kept),) = primitive(x, **(node.params or {}))._node.edges  # type: ignore[misc]
        _slopes[key] = float(np.nanmax(np.abs(np.asarray(rule.local(np, *kept), dtype=np.float64) + 0 * _GRID)))
    return _slopes[key]
