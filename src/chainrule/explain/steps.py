"""The recorded graph as steps a person would write down: name, expression, value, what is kept and for which rule.

Everything here is about the way forward; gradients are in `gradients`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from chainrule.core.errors import GradientError
from chainrule.core.namespace import PYTHON_SCALARS, namespace_of
from chainrule.core.node import Leaf, Node
from chainrule.core.primitive import Primitive, select_output
from chainrule.core.rule import Rule
from chainrule.core.tensor import Tensor, _raw
from chainrule.explain import notation
from chainrule.explain.names import Names
from chainrule.explain.notation import Formula
from chainrule.explain.numbers import as_array, number, number_latex, shape
from chainrule.explain.recording import Recording

#: Constant vectors of up to this many elements are written out in an expression.
_MAX_CONSTANT = 4


@dataclass
class Kept:
    """One value that is kept for the backward pass, and the inputs whose rules read it."""

    what: Formula
    read_for: list[Formula]
    value: np.ndarray | None = None


@dataclass
class Operand:
    """One input of a step: a value with a gradient (`node`) or a constant."""

    formula: Formula
    node: Node | None
    value: Any  # a NumPy array, a number, or None where it is not known


@dataclass
class Step:
    """One row of the forward table. An input is a step without an operation."""

    number: int
    name: Formula
    node: Node
    operation: str
    expression: Formula | None
    operands: list[Operand] = field(default_factory=list)
    value: np.ndarray | None = None
    kept: list[Kept] = field(default_factory=list)
    gate: str = ""
    named: bool = True
    parts: list[tuple[str, np.ndarray | None]] = field(default_factory=list)

    @property
    def shape(self) -> tuple[Any, ...]:
        """Of the value; of each output where there are several."""
        return tuple(self.node.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return sum(map(prod, self.shape)) if self.is_row else prod(self.shape)

    @property
    def is_row(self) -> bool:
        """Whether the step has several outputs, which further steps take apart."""
        primitive = self.node.primitive
        return primitive is not None and bool(primitive.outputs) and not primitive.has_residuals

    @property
    def is_input(self) -> bool:
        return self.node.primitive is None

    @property
    def is_scalar(self) -> bool:
        return self.shape == ()


def steps_of(recording: Recording) -> list[Step]:
    """Every step the result was made from, inputs first where they are first used, in the order they were made."""
    return _Reader(recording).steps()


def nodes_below(root: Node) -> list[Node]:
    """Every node that `root` was made from, itself and the leaves included, oldest first.

    Raises:
        GradientError: the graph was freed.
    """
    seen, stack = {root}, [root]
    while stack:
        node = stack.pop()
        if node.edges is None:
            raise GradientError(
                f"explain: the graph below this {node.primitive.name} (shape {node.shape}) was already walked and "  # type: ignore[union-attr]
                "freed. Explain before backward(), or pass retain_graph=True to it"
            )
        for parent, _, _ in node.edges:
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=lambda node: node.order)


def _inputs_where_used(nodes: Sequence[Node], first: Iterable[Tensor]) -> list[Node]:
    """The nodes with those of the function's inputs `first`, and every other leaf where it is first used."""
    below = set(nodes)
    placed = {tensor._node: None for tensor in first if tensor._node in below}
    for node in nodes:
        if node.primitive is None:
            continue
        for parent, _, _ in node.edges or ():
            if parent.primitive is None:
                placed.setdefault(parent)
        placed[node] = None
    return list(placed) or list(nodes)


class _Reader:
    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.names: Names = recording.names
        self.nodes = _inputs_where_used(nodes_below(recording.root._node), recording.inputs.values())
        self.labels = self._labels()
        self.values: dict[Node, Any] = self._known_values()

    def steps(self) -> list[Step]:
        return [self._step(place + 1, node) for place, node in enumerate(self.nodes)]

    # Names -------------------------------------------------------------------------------------------------------

    def _labels(self) -> dict[Node, tuple[Formula, bool]]:
        """A name for every node, and whether the user gave it; a name given twice is numbered."""
        given = {node: self.names.of(node) for node in self.nodes}
        root = self.nodes[-1]
        taken = {name for name in given.values() if name}
        if given[root] is None:
            title = next(t for t in (self.recording.title, "L", "f", "out", "result") if t not in taken)
            given[root] = title
            taken.add(title)
        counts = Counter(name for name in given.values() if name)
        versions: Counter = Counter()
        labels, fresh = {}, 0
        for node in self.nodes:
            name = given[node]
            if name is None:
                fresh += 1
                while f"v{fresh}" in taken:
                    fresh += 1
                labels[node] = (notation.name_formula(f"v{fresh}"), False)
                continue
            versions[name] += 1
            version = versions[name] if counts[name] > 1 else 0
            labels[node] = (notation.name_formula(name, version), True)
        return labels

    # Values ------------------------------------------------------------------------------------------------------

    def _known_values(self) -> dict[Node, Any]:
        """Each node's value: as seen, as held by its leaf, as kept by a rule, or computed again from those."""
        values: dict[Node, Any] = {self.recording.root._node: _raw(self.recording.root)}
        for node in self.nodes:
            if isinstance(node, Leaf):
                leaf = node.tensor()
                if leaf is not None:
                    values[node] = _raw(leaf)
            elif node in self.recording.seen:
                given, row = self.recording.seen[node]
                made = row[len(given) :]
                values[node] = tuple(made) if node.primitive.outputs and not node.primitive.has_residuals else made[0]  # type: ignore[union-attr]
                for x in given:
                    if isinstance(x, Tensor) and isinstance(x._node, Node):
                        values.setdefault(x._node, _raw(x))
        if any(node not in values for node in self.nodes):
            self._recover(values)
        return values

    def _recover(self, values: dict[Node, Any]) -> None:
        for node in self.nodes:
            for place, value in _kept_row(node).items():
                if place >= 0 and place < len(node.primitive.inputs):  # type: ignore[union-attr]
                    parent = next((p for p, rule, _ in node.edges or () if rule.index == place), None)
                    if parent is not None:
                        values.setdefault(parent, value)
                elif place in (-1, len(node.primitive.inputs)):  # type: ignore[union-attr]
                    values.setdefault(node, value)
        for node in self.nodes:
            if node in values or node.primitive is None:
                continue
            inputs = [operand.value for operand in self._operands_of(node, values)]
            if all(value is not None for value in inputs) and not node.primitive.outputs:
                values[node] = node.primitive.value(namespace_of(*inputs), *inputs, **(node.params or {}))

    # Steps -------------------------------------------------------------------------------------------------------

    def _step(self, place: int, node: Node) -> Step:
        label, named = self.labels[node]
        value = self.values.get(node)
        if node.primitive is None:
            return Step(place, label, node, "input", None, value=as_array(value), named=named)
        primitive = node.primitive
        operands = self._operands_of(node, self.values)
        by_name = dict(zip(primitive.inputs, (o.formula for o in operands), strict=False))
        written = notation.expression(primitive, by_name, [o.formula for o in operands], node.params)
        written = self._in_context(node, primitive, operands, written)
        step = Step(place, label, node, primitive.name, written, operands, named=named)
        step.value = None if isinstance(value, tuple) else as_array(value)
        step.kept = self._kept(node, step, by_name)
        step.gate = gate_of(primitive)
        return step

    def _in_context(self, node: Node, primitive: Primitive, operands: Sequence[Operand], written: Formula) -> Formula:
        if primitive.elementwise:
            lengths = [np.shape(o.value) if o.node is None else tuple(o.node.shape) for o in operands]
            if len(operands) > 1 and all(length != () for length in lengths):
                return notation.array_products(written)
            return notation.scalar_products(written)
        axis = (node.params or {}).get("axis")
        if axis is not None and operands and operands[0].node is not None:
            axes = axis if isinstance(axis, tuple) else (axis,)
            if set(axes) != set(range(len(operands[0].node.shape))):
                along = ", ".join(map(str, axes))
                return Formula(f"{written.text} over axis {along}", rf"{written.latex}\ \text{{over axis {along}}}")
        return written

    def _operands_of(self, node: Node, values: dict[Node, Any]) -> list[Operand]:
        if node.primitive is select_output:
            ((row, _, _),) = node.edges or ()
            return [self._variable(row, values)]
        parents = {rule.index: parent for parent, rule, _ in node.edges or ()}
        if node in self.recording.seen:
            given, _ = self.recording.seen[node]
            return [
                self._variable(parents[k], values) if k in parents else self._constant(x, _raw(x))
                for k, x in enumerate(given)
            ]
        kept = _kept_row(node)
        primitive: Primitive = node.primitive  # type: ignore[assignment]
        count = max([len(primitive.inputs), *(k + 1 for k in parents)])
        return [
            self._variable(parents[k], values) if k in parents else self._constant(None, kept.get(k))
            for k in range(count)
        ]

    def _variable(self, node: Node, values: dict[Node, Any]) -> Operand:
        value = values.get(node)
        return Operand(self.labels[node][0], node, None if isinstance(value, tuple) else value)

    def _constant(self, given: Any, value: Any) -> Operand:
        name = self.names.of(given if given is not None else value)
        if name is not None:
            return Operand(notation.name_formula(name), None, value)
        if value is None:
            return Operand(Formula("const", r"\text{const}"), None, None)
        array = np.asarray(value)
        if array.size == 1 and array.ndim == 0:
            return Operand(Formula(number(array), number_latex(array)), None, value)
        if array.size <= _MAX_CONSTANT and array.ndim == 1:
            text, latex = " ".join(map(number, array)), r",\ ".join(map(number_latex, array))
            return Operand(Formula(f"[{text}]", f"[{latex}]"), None, value)
        text = f"const {shape(array.shape)}"
        return Operand(Formula(f"({text})", rf"(\text{{{text}}})"), None, value)

    def _kept(self, node: Node, step: Step, by_name: dict[str, Formula]) -> list[Kept]:
        """What the rules read, each value once, with the inputs it is read for."""
        primitive: Primitive = node.primitive  # type: ignore[assignment]
        found: dict[str, Kept] = {}
        for parent, rule, row in node.edges or ():
            if not isinstance(rule, Rule):
                continue
            target = self.labels[parent][0]
            for name, source, value in zip(rule.reads, rule.sources, row, strict=True):
                what = by_name.get(name)
                literal = what is not None and not what.text[0].isalpha()
                if source is None or (type(value) in PYTHON_SCALARS and literal):
                    continue
                if what is None:
                    what = step.name if name == "y" or not primitive.has_residuals else notation.name_formula(name)
                entry = found.setdefault(what.text, Kept(what, [], as_array(value)))
                if target not in entry.read_for:
                    entry.read_for.append(target)
        return list(found.values())


def _kept_row(node: Node) -> dict[int, Any]:
    """What the rules of a node keep, by its place among inputs and outputs (outputs of variadic ones from the end)."""
    row: dict[int, Any] = {}
    for _, rule, kept in node.edges or ():
        if isinstance(rule, Rule):
            row |= {place: value for place, value in zip(rule.sources, kept, strict=True) if place is not None}
    return row


# Gates -------------------------------------------------------------------------------------------------------------


def gate_of(primitive: Primitive) -> str:
    """What an operation does to a gradient that comes back through it, read off its declaration."""
    written = [pair[0] for pair in primitive.local if not callable(pair) and pair[0]]
    if primitive.gate or any(text.startswith("1[") for text in written):
        return "routes"
    if written and all(text in ("1", "−1", "g") for text in written):
        return "copies"
    if written == ["Σ g"]:
        return "sums"
    if primitive.elementwise:
        reads = [rule.reads for rule in primitive.rules if rule is not None]
        swapped = len(reads) == 2 and reads == [(primitive.inputs[1],), (primitive.inputs[0],)]
        return "swaps and scales" if swapped else "scales"
    if primitive.linear == "joint":
        factor = bool(written) and not any(map(notation.names_cotangent, written))
        return "scales" if factor else "rearranges"
    if primitive.linear == "each" or any("ᵀ" in text for text in written):
        return "transposes"
    return "combines"


GATES = {
    "copies": "hands the gradient on as it is",
    "swaps and scales": "each input's gradient is scaled by the other input",
    "scales": "scales the gradient by the local derivative, element by element",
    "routes": "hands the gradient to the winner, zero to the others",
    "transposes": "multiplies the gradient by the transposed matrix",
    "rearranges": "puts the gradient back where the elements came from",
    "combines": "multiplies the gradient by a full Jacobian, without forming it",
    "sums": "a value used more than once receives the sum over its uses",
}
