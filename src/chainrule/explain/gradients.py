"""The way back, edge by edge: local derivatives, upstream gradients, contributions, sums over paths.

The numbers are those of `pull_back`, the walk that `backward()` uses: it is run on a copy of the graph with a listener
on every edge, so no rule and no sum is written here a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.core.namespace import namespace_of
from chainrule.core.node import Node, new_node
from chainrule.core.primitive import select_output
from chainrule.core.rule import Rule
from chainrule.core.tensor import _raw
from chainrule.explain import notation
from chainrule.explain.notation import Formula
from chainrule.explain.numbers import as_array
from chainrule.explain.steps import Step
from chainrule.ops.elementwise import positive
from chainrule.transforms.backward import pull_back, seed_for

#: Jacobians with at most this many rows and columns are written out.
JACOBIAN_SIDE = 6

#: Composed formulas longer than this are cut where a gradient has a name.
LONGEST_FORMULA = 400


@dataclass
class Path:
    """One row of the backward table: what one step hands to one of its inputs.

    Attributes:
        step, to: the step it comes from and the value it goes to.
        local: the local derivative as a formula, None where the declaration does not say. Where it names g, the
            upstream gradient, it is the whole contribution.
        local_value: as a number (elementwise steps and scalars), else None.
        upstream, contribution: the gradient that arrives at the step, and what this edge makes of it.
        formula: `contribution` by the chain rule.
        index: number of the input among those of the step.
    """

    step: Step
    to: Step
    local: Formula | None
    local_value: np.ndarray | None
    upstream: np.ndarray | None
    contribution: np.ndarray | None
    formula: Formula
    index: int
    _jacobian: Callable[[], np.ndarray | None] = lambda: None

    def jacobian(self) -> np.ndarray | None:
        """The local Jacobian of small vectors, a row for each element of the step; None where it is not shown."""
        return self._jacobian()


@dataclass
class Gradient:
    """The gradient of the result with respect to one value: all paths to it and their sum."""

    of: Step
    symbol: Formula
    formula: Formula
    value: np.ndarray | None
    paths: list[Path] = field(default_factory=list)
    is_alias: bool = False

    @property
    def shape_fits(self) -> bool:
        return self.value is None or self.of.is_row or tuple(self.value.shape) == self.of.shape

    @property
    def is_sum(self) -> bool:
        return len(self.paths) > 1 and not self.of.is_row


class Walk:
    """One backward walk over the steps, listened to.

    Attributes:
        gradients: for each node that a gradient reached, newest first.
        paths: from each node, to its inputs.
    """

    def __init__(self, steps: Sequence[Step], root: Any, seed: Any = None) -> None:
        self.steps = {step.node: step for step in steps}
        self.root = root._node
        self.seed = seed_for(root, seed)
        self.arrived: dict[Node, Any] = {}
        self.contributed: dict[tuple[Node, int], Any] = {}
        self.paths: dict[Node, list[Path]] = {}
        self._listen(steps)
        self.gradients = self._read(steps)

    # Numbers -----------------------------------------------------------------------------------------------------

    def _listen(self, steps: Sequence[Step]) -> None:
        """Walk a copy of the graph that has one more node on every edge, which passes its cotangent on and notes it."""
        twins: dict[Node, Node] = {}
        for step in steps:  # oldest first: inputs have their twins already
            node = step.node
            edges = []
            for place, (parent, rule, kept) in enumerate(node.edges or ()):
                target = twins[parent]
                if node.primitive is not select_output:
                    tap = new_node(
                        positive, [(target, positive.rule(0), ())], node.level, parent.shape, parent.dtype, None
                    )
                    tap.order = node.order - 0.5  # type: ignore[assignment]  # between the step and its inputs
                    tap.hooks = [_note(self.contributed, (node, place))]
                    target = tap
                edges.append((target, rule, kept))
            twin = new_node(node.primitive, edges, node.level, node.shape, node.dtype, node.params)
            twin.order = node.order
            if node.primitive is None or not node.primitive.outputs or node.primitive.has_residuals:
                twin.hooks = [_note(self.arrived, node)]
            twins[node] = twin
        pull_back([(twins[self.root], self.seed)])

    # Rows --------------------------------------------------------------------------------------------------------

    def _read(self, steps: Sequence[Step]) -> dict[Node, Gradient]:
        result = self.steps[self.root]
        plain_seed = np.ndim(self.seed) == 0 and float(self.seed) == 1
        gradients = {
            self.root: Gradient(
                result,
                notation.gradient_of(result.name, result.name),
                notation.ONE if plain_seed else Formula("seed", r"\text{seed}"),
                as_array(self.seed),
            )
        }
        symbols: dict[Node, Formula | None] = {self.root: None if plain_seed else Formula("seed", r"\text{seed}")}
        paths: dict[Node, list[Path]] = {}
        for step in reversed(steps):
            node = step.node
            if node is not self.root:
                if node not in paths:
                    continue
                gradients[node] = self._gradient(step, paths[node], symbols, result)
            for place, (parent, rule, kept) in enumerate(node.edges or ()):
                path = self._path(step, self.steps[parent], place, rule, kept, symbols[node])
                self.paths.setdefault(node, []).append(path)
                paths.setdefault(parent, []).append(path)
        return gradients

    def _gradient(self, step: Step, paths: list[Path], symbols: dict, result: Step) -> Gradient:
        symbol = notation.gradient_of(result.name, step.name)
        formula = _together(step, paths, [path.formula for path in paths])
        (first,) = paths[:1]
        upstream = symbols[first.step.node]
        alias = not step.named and len(paths) == 1 and formula == (upstream or notation.ONE)
        alias = alias and step.shape == first.step.shape
        symbols[step.node] = upstream if alias else symbol
        return Gradient(step, symbol, formula, as_array(self.arrived.get(step.node)), paths, alias)

    def _path(self, step: Step, to: Step, place: int, rule: Any, kept: tuple, upstream: Formula | None) -> Path:
        node = step.node
        index = rule.index if isinstance(rule, Rule) else place
        local = self._local(step, index)
        local_value = self._local_value(step, to, rule, kept)
        arrived = as_array(self.arrived.get(node))
        handed = arrived if node.primitive is select_output else as_array(self.contributed.get((node, place)))
        return Path(
            step, to, local and notation.shown(local), local_value, arrived, handed,
            self._chain(step, to, local, upstream), index, lambda: self._jacobian(step, to, rule, kept),
        )  # fmt: skip

    def _local(self, step: Step, index: int) -> Formula | None:
        if not hasattr(step.node.primitive, "local") or not step.node.primitive.local:  # type: ignore[union-attr]
            return None
        return notation.local_formula(step.node, index, self._operand_formulas(step))

    def _operand_formulas(self, step: Step) -> dict[str, Formula]:
        primitive = step.node.primitive
        names = dict(zip(primitive.inputs, (o.formula for o in step.operands), strict=False))  # type: ignore[union-attr]
        outputs = primitive.outputs or ("y",)  # type: ignore[union-attr]
        return {**{name: notation.name_formula(name) for name in outputs[1:]}, **names, outputs[0]: step.name}

    def _chain(self, step: Step, to: Step, local: Formula | None, upstream: Formula | None) -> Formula:
        """What the edge makes of the gradient, as a formula."""
        if step.node.primitive is select_output:
            return upstream or notation.ONE
        if local is None:
            jacobian = Formula(
                f"J[{step.name.text}, {to.name.text}]ᵀ", rf"J_{{{step.name.latex},\,{to.name.latex}}}^\top"
            )
            return notation.times(upstream, jacobian, scalar=True) if upstream else jacobian
        numbers = step.is_scalar or to.is_scalar
        if step.node.primitive.elementwise:  # type: ignore[union-attr]
            local = notation.scalar_products(local) if numbers else notation.array_products(local)
        formula = notation.times(upstream, local, scalar=numbers and not notation.is_product(local))
        if not notation.is_product(local) and to.size < step.size:
            return notation.summed(formula)
        return formula

    def _local_value(self, step: Step, to: Step, rule: Any, kept: tuple) -> np.ndarray | None:
        """The local derivative as an array (elementwise steps) or a number (scalars)."""
        node = step.node
        if not _has_local_jacobian(node, rule):
            return None
        if rule.local is not None:
            local = as_array(_raw(rule.local(namespace_of(*kept) if kept else np, *kept)))
            return local.astype(node.dtype) if local is not None and local.dtype == bool else local
        if step.shape == () and to.shape == ():
            return as_array(self._pulled(node, to.node, rule, kept, np.ones((), node.dtype)[()]))
        return None

    def _jacobian(self, step: Step, to: Step, rule: Any, kept: tuple) -> np.ndarray | None:
        """One pull per row: the very thing a vector-Jacobian product spares."""
        rows, columns = step.size, to.size
        if not _has_local_jacobian(step.node, rule) or not 1 < max(rows, columns) <= JACOBIAN_SIDE:
            return None
        if len(step.shape) > 1 or len(to.shape) > 1 or not isinstance(_raw(self.seed), (np.ndarray, np.generic)):
            return None
        basis = np.eye(rows, dtype=step.node.dtype).reshape(rows, *step.shape)
        return np.stack([np.reshape(self._pulled(step.node, to.node, rule, kept, row), -1) for row in basis])

    def _pulled(self, node: Node, parent: Node, rule: Rule, kept: tuple, g: Any) -> Any:
        """`pull_back` over this one edge."""
        leaf = new_node(None, (), node.level, parent.shape, parent.dtype, None)
        one = new_node(node.primitive, [(leaf, rule, kept)], node.level, node.shape, node.dtype, node.params)
        return as_array(pull_back([(one, g)])[leaf])

    # Whole formulas ----------------------------------------------------------------------------------------------

    def composed(self, node: Node) -> Formula:
        """The gradient of one value with the gradients before it put in, as far as it stays readable."""
        seed = self.gradients[self.root].formula
        known: dict[Node, Formula | None] = {self.root: None if seed == notation.ONE else seed}
        for place, gradient in self.gradients.items():  # from the result back
            if place is self.root:
                continue
            terms = [
                self._chain(p.step, p.to, self._local(p.step, p.index), known[p.step.node]) for p in gradient.paths
            ]
            formula = _together(gradient.of, gradient.paths, terms)
            known[place] = formula if len(formula.text) <= LONGEST_FORMULA or place is node else gradient.symbol
            if place is node:
                return formula
        return self.gradients[node].formula


def _together(step: Step, paths: Sequence[Path], terms: list[Formula]) -> Formula:
    """What arrives along all paths: their sum, or for a step with several outputs a gradient for each."""
    if not step.is_row:
        return notation.plus(terms)
    arrived = {path.step.node.params["index"]: term for path, term in zip(paths, terms, strict=True)}
    return notation.row([arrived.get(place, notation.ZERO) for place in range(len(step.shape))])


def _note(where: dict, key: Any) -> Any:
    def hook(g: Any) -> None:
        where[key] = _raw(g)

    return hook


def _has_local_jacobian(node: Node, rule: Any) -> bool:
    primitive = node.primitive
    several = primitive.outputs and not primitive.has_residuals  # type: ignore[union-attr]
    return isinstance(rule, Rule) and primitive is not select_output and not several
