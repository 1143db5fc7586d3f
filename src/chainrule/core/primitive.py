"""An operation, declared once: its value, its derivative, how it is written.

A person declares a primitive with one of the constructors at the end of this file and gets from that declaration
the call that computes and records (`Primitive.__call__`), the rules of reverse mode (`Rule.pull`, in `rule`) and of
forward mode (`Primitive.push`). A rule is a plain function whose parameter names say what it reads:

    xp              the array namespace to compute in
    g               the cotangent of the output (rules for vector-Jacobian products)
    an input's name the value of that input
    y               the output (or the names of the outputs, where there are several)
    x_shape         the shape of the input called x, without keeping its value
    anything else   a static parameter of the call, such as `axis`

Only what a rule names is kept between the passes. No operation is defined here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.core import state
from chainrule.core.anomaly import all_finite, source_line
from chainrule.core.errors import AnomalyError, GradientError
from chainrule.core.hold import hold, is_holdable
from chainrule.core.namespace import (
    PYTHON_SCALARS,
    fast_numpy,
    is_array,
    namespace_of,
    namespaces,
    tensor_namespace,
)
from chainrule.core.native import Native
from chainrule.core.node import Node, Tangent, new_node
from chainrule.core.rule import Rule, sum_to_shape
from chainrule.core.tensor import Tensor, _raw

_floor = state.recording_floor.get
_anomaly = state.anomaly_detection.get
_watcher = state.watcher.get

_allocate = object.__new__
_ndarray = np.ndarray

#: What the fast path takes as it is; a list, say, is made an array first.
_fast_types = PYTHON_SCALARS | {kind for kind, xp in namespaces.items() if xp is fast_numpy}

#: NumPy's dtypes that gradients exist for, by identity: dtypes of some libraries object to being compared.
_float_dtypes = frozenset(id(np.dtype(code)) for code in "efd")


def _is_differentiable(primitive: Primitive, dtype: Any) -> bool:
    if id(dtype) in _float_dtypes:
        return True
    text = str(dtype)
    if "complex" in text:
        raise TypeError(
            f"{primitive.name}: the result is complex ({dtype}); chainrule differentiates real functions only. "
            "Split it into real and imaginary parts."
        )
    return "float" in text


class Primitive:
    """One operation of the product. See the module's docstring for how rules are written.

    Args:
        name: as in the array API or PyTorch.
        value: `value(xp, *inputs, **params)`, plain array code.
        rules: one function per input (None: no derivative with respect to it), or one for all.
        elementwise: rules are local derivatives; otherwise they are vector-Jacobian products.
        gate: the local derivatives are conditions, 1 where they hold and 0 elsewhere.
        linear: "each" if the value is linear in each input separately, "joint" if in all of them together.
        push: `push(xp, primals, tangents, y, **params)`, a Jacobian-vector product, where it does not follow
            from the rest.
        outputs: names of the outputs where there are several.
        native: from how many elements on NumPy arrays are worth machine code for value and rules (see `core.native`).
        residuals: names of further outputs that rules read (the statistics of a normalisation, say). The caller
            gets them as constants. Where the rule is itself differentiated, its `g` is a row: the cotangent of
            `y` and of each residual, None for those that have none.
        text, latex: how the value is written, as `string.Template`s: `$x` stands for the input called x.
        local: how each local derivative is written, a (text, LaTeX) pair per input, or a function of the input's
            shape and the static parameters that gives one; `$y` stands for the output. Where it names the
            cotangent (`g`, in LaTeX `\\delta`) it is the whole vector-Jacobian product, otherwise a factor of it.
    """

    def __init__(
        self,
        name: str,
        value: Callable,
        rules: Sequence[Callable | None] | Callable | None,
        *,
        elementwise: bool = False,
        gate: bool = False,
        linear: str | None = None,
        push: Callable | None = None,
        native: int | None = None,
        outputs: Sequence[str] = (),
        residuals: Sequence[str] = (),
        text: str | None = None,
        latex: str | None = None,
        local: Sequence[tuple[str, str] | Callable[..., tuple[str, str]]] = (),
    ) -> None:
        self.name = name
        self.value = value if native is None else Native(value, backward=False, fewest=native)
        self.native = native
        self.elementwise = elementwise
        self.gate = gate
        self.linear = linear
        self.jvp = push
        self.outputs = ("y", *residuals) if residuals else tuple(outputs)
        self.has_residuals = bool(residuals)
        parameters = list(inspect.signature(value).parameters.values())[1:]
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.inputs = tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
        self.row = self.inputs + (self.outputs or ("y",))
        arguments = ", ".join(f"${i}" for i in self.inputs)
        self.text = text or f"{name}({arguments})"
        self.latex = latex or rf"\operatorname{{{name.replace('_', ' ')}}}({arguments})"
        self.local = tuple(local)
        self.__name__ = self.__qualname__ = name
        self.__doc__ = value.__doc__
        self._any_rule = rules if callable(rules) else None
        self.rules: list[Rule | None] = []
        if self._any_rule is None and rules is not None:
            self.rules = [
                None if function is None else Rule(function, index, self)
                for index, function in enumerate(rules)  # type: ignore[arg-type]
            ]
        self.differentiable = rules is not None
        self.pullback = None if native is None else Native(self._pull_back, backward=True, fewest=native)

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Primitive:
        return self  # a copied module has the same operations

    def rule(self, index: int) -> Rule:
        """The rule for input number `index`."""
        if self._any_rule is not None:
            while len(self.rules) <= index:
                self.rules.append(Rule(self._any_rule, len(self.rules), self))
        rule = self.rules[index] if index < len(self.rules) else None
        if rule is None:
            which = self.inputs[index] if index < len(self.inputs) else str(index)
            raise GradientError(
                f"{self.name}: there is no derivative with respect to {which!r}. Pass it as a plain array or "
                "detach() it if its gradient is not wanted."
            )
        return rule

    def _pull_back(
        self, xp: Any, g: Any, *kept: Any, edges: tuple[tuple[int, int, tuple[int, ...]], ...], after: Rule | None
    ) -> tuple:
        """The cotangents of several inputs, from that of the output or of a gate that was made from it.

        Args:
            kept: what the rules read, one after the other.
            edges: for each input its rule's index, how much of `kept` that reads, and the input's shape.
            after: the rule of that gate, which reads the first of `kept`; None where there is none.
        """
        made, place = [], 0
        if after is not None:
            place = len(after.reads)
            g = after.pull(xp, g, *kept[:place])
        for index, count, shape in edges:
            made.append(sum_to_shape(xp, self.rule(index).pull(xp, g, *kept[place : place + count]), shape))
            place += count
        return tuple(made)

    # Computing and recording -------------------------------------------------------------------------------------

    def __call__(self, *inputs: Any, **params: Any) -> Any:
        """The value on `inputs`, recorded if one of them is."""
        values = []
        nodes: list[Any] = []
        level = -1
        on_numpy = False
        for x in inputs:
            if isinstance(x, Tensor):
                node = x._node
                x = x._value
                if node is not None and node.level != level:
                    if level != -1:
                        return self._nested(inputs, params)
                    level = node.level
            elif type(x) in _fast_types:
                node = None
            else:
                return self._nested(inputs, params)
            if type(x) is _ndarray:
                on_numpy = True
            else:
                own = namespaces.get(type(x))
                if own is fast_numpy:
                    on_numpy = True
                elif own is not None:
                    return self._nested(inputs, params)
            values.append(x)
            nodes.append(node)
        if not on_numpy or (level > 0 and level & 1):
            return self._nested(inputs, params)  # another library, tensors inside tensors, or forward mode
        try:
            y = self.value(fast_numpy, *values, **params)
        except (ValueError, TypeError) as error:
            raise self._named(error, values) from None
        if level < _floor() or not self.differentiable:
            return self._constant(_own(y, inputs))
        return self._record(inputs, values, nodes, y, params, level)

    def _constant(self, y: Any) -> Any:
        if _anomaly():
            self.check_finite(y)
        if self.outputs:
            return tuple(Tensor(part) for part in y)
        return Tensor(y)

    def _record(self, inputs: Any, values: list, nodes: list, y: Any, params: Any, level: int) -> Any:
        first = y[0] if self.outputs else y
        dtype = first.dtype
        if id(dtype) not in _float_dtypes and not _is_differentiable(self, dtype):
            return self._constant(y)
        row = (*values, *y) if self.outputs else (*values, y)
        edges = []
        rules = self.rules if self._any_rule is None else [self.rule(index) for index in range(len(nodes))]
        for parent, rule in zip(nodes, rules, strict=True):
            if parent is not None:
                if rule is None:
                    rule = self.rule(nodes.index(parent))  # raises
                edges.append((parent, rule, rule.keep(row, params) if rule.take is None else rule.take(row)))
        node = new_node(self, edges, level, first.shape, dtype, params)
        if len(edges) < len(inputs):
            self._protect(inputs, node)
        watch = _watcher()
        if watch is not None:
            watch(node, inputs, list(row))
        if not self.outputs:
            tensor = _allocate(Tensor)
            tensor._value = y
            tensor._node = node
            return tensor
        if self.has_residuals:
            return (Tensor(first, node), *[Tensor(_raw(part)) for part in y[1:]])
        node.shape, node.dtype = tuple([part.shape for part in y]), tuple([part.dtype for part in y])
        return tuple([output_of(node, index, part) for index, part in enumerate(y)])

    def _protect(self, inputs: Any, node: Node) -> None:
        """Keep the caller's own arrays that a rule of `node` reads as they are now."""
        edges: Any = node.edges
        for x in inputs:
            if type(x) in PYTHON_SCALARS or isinstance(x, (Tensor, np.generic)):
                continue  # cannot be changed
            if not any(kept is x for _, _, row in edges for kept in row):
                continue
            if isinstance(x, np.ndarray) and (x.base is None or is_holdable(x)):
                held = hold(x)
                if held is not None:
                    node.holds = held if node.holds is None else (node.holds, held)
            elif is_array(x):
                own = namespace_of(x).asarray(x, copy=True)
                edges = [(p, rule, tuple([own if k is x else k for k in kept])) for p, rule, kept in edges]
                node.edges = edges

    def on(self, xp: Any, *inputs: Any, **params: Any) -> Any:
        """The value inside a rule: recorded where the rule runs on tensors, plain arrays otherwise."""
        if xp is tensor_namespace:
            return self(*inputs, **params)
        return self.value(xp, *inputs, **params)

    # Nested transforms -------------------------------------------------------------------------------------------

    def _nested(self, inputs: Any, params: Any) -> Any:
        """As `__call__`, where transforms are nested or the inputs are not all arrays of the fast path."""
        inputs = [self._operand(x, inputs) for x in inputs]
        if all(type(x) in PYTHON_SCALARS for x in inputs):
            inputs = [np.asarray(x)[()] for x in inputs]
        floor = _floor()
        levels = [x._node.level for x in inputs if isinstance(x, Tensor) and x._node is not None]
        level = max(levels, default=-1)
        if level < floor or not self.differentiable:
            return self._constant(_own(self.value(_raw_namespace(inputs), *map(_raw, inputs), **params), inputs))
        values, nodes = [], []
        for x in inputs:
            inside = isinstance(x, Tensor) and x._node is not None and x._node.level == level
            values.append(_unwrap(x) if inside or not isinstance(x, Tensor) else _constant_or_older(x))
            nodes.append(x._node if inside else None)
        y = self.lower(values, params)
        if level & 1:
            return self._forward(values, nodes, y, params, level)
        return self._record(inputs, values, nodes, y, params, level)

    def _operand(self, x: Any, inputs: Any) -> Any:
        if type(x) in PYTHON_SCALARS:
            return x
        array = as_operand(self.name, x)
        if isinstance(array, (np.ndarray, np.generic)):  # beside arrays of another library it becomes one of them
            beside = namespace_of(*[_raw(other) for other in inputs])
            return array if beside is fast_numpy else beside.asarray(array)
        return array

    def lower(self, values: Sequence[Any], params: Any) -> Any:
        """The value on `values` of older levels: raw if they all are, recorded there otherwise."""
        if any(isinstance(value, Tensor) for value in values):
            opened = self.has_residuals  # residuals of older levels must carry their gradients: spell them out
            y = self.value(tensor_namespace, *values, **params) if opened else self(*values, **params)
            if self.outputs:
                return tuple(_unrecorded(part) for part in y)
            return _unrecorded(y)
        try:
            return self.value(namespace_of(*values), *values, **params)
        except (ValueError, TypeError) as error:
            raise self._named(error, values) from None

    def _named(self, error: Exception, values: Sequence[Any]) -> Exception:
        """An array library's error, with the name of the operation and what it was given."""
        if not self.name or str(error).startswith(f"{self.name}: "):
            return error
        given = ", ".join(f"{v.dtype} {tuple(v.shape)}" if hasattr(v, "dtype") else type(v).__name__ for v in values)
        kind = np.linalg.LinAlgError if isinstance(error, np.linalg.LinAlgError) else ValueError
        return (TypeError if isinstance(error, TypeError) else kind)(f"{self.name}: {error} [given: {given}]")

    # Forward mode ------------------------------------------------------------------------------------------------

    def _forward(self, values: list, nodes: list, y: Any, params: Any, level: int) -> Any:
        tangents = [None if node is None else node.value for node in nodes]
        first = y[0] if self.outputs else y
        if not _is_differentiable(self, first.dtype):
            return self._constant(y)
        t = self.push(values, tangents, y, params)
        if self.has_residuals:
            return (Tensor(first, Tangent(t[0], level)), *[Tensor(_raw(part)) for part in y[1:]])
        if self.outputs:
            return tuple(Tensor(part, Tangent(dot, level)) for part, dot in zip(y, t, strict=True))
        return Tensor(y, Tangent(t, level))

    def push(self, values: Sequence[Any], tangents: Sequence[Any], y: Any, params: Any) -> Any:
        """Jacobian-vector product: the tangent of the output, for `tangents` of the inputs (None for zero)."""
        nested = any(isinstance(value, Tensor) for value in (*values, *tangents))
        xp = tensor_namespace if nested else namespace_of(*values, *tangents)
        if self.jvp is not None:
            return _plain(self.jvp(xp, values, tangents, y, **params))
        if self.elementwise:
            row = (*values, y)
            terms = []
            for index, tangent in enumerate(tangents):
                if tangent is not None:
                    rule = self.rule(index)
                    terms.append(rule.pull(xp, tangent, *rule.keep(row, params)))  # the Jacobian is diagonal
        elif self.linear == "joint":
            terms = [self.lower(self._zeroed(xp, values, tangents), params)]
        elif self.linear == "each":
            terms = [
                self.lower([*values[:i], tangent, *values[i + 1 :]], params)
                for i, tangent in enumerate(tangents)
                if tangent is not None
            ]
        else:
            return self._push_opened(values, tangents, params)
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        if total.shape != y.shape:
            total = xp.broadcast_to(total, y.shape)
        if total.dtype != y.dtype:
            total = xp.astype(total, y.dtype)
        return _plain(total)

    def _zeroed(self, xp: Any, values: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        """The tangents, with zeros for the inputs that have none; inputs without a rule stay as they are."""
        row = []
        for index, (value, tangent) in enumerate(zip(values, tangents, strict=True)):
            if tangent is not None:
                row.append(tangent)
            elif self._any_rule is None and self.rules[index] is None:
                row.append(value)
            else:
                row.append(0 if type(value) in PYTHON_SCALARS else xp.zeros_like(value))
        return row

    def _push_opened(self, values: Sequence[Any], tangents: Sequence[Any], params: Any) -> Any:
        """Forward mode through the value code itself, which spells the operation in smaller ones."""
        with state.new_level(forward=True) as level:
            duals = [
                value if t is None else Tensor(value, Tangent(t, level))
                for value, t in zip(values, tangents, strict=True)
            ]
            y = self.value(tensor_namespace, *duals, **params)
        return tuple(tangent_of(part, level) for part in y) if self.outputs else tangent_of(y, level)

    # Anomalies ---------------------------------------------------------------------------------------------------

    def check_finite(self, y: Any, origin: str | None = None) -> None:
        """Raise an `AnomalyError` where a value of this operation, made at `origin`, has a NaN or an infinity."""
        for part in y if self.outputs else (y,):
            if not all_finite(part):
                raise AnomalyError(
                    f"{self.name} made a value that is not finite (NaN or infinity), shape {tuple(part.shape)}, "
                    f"at {origin or source_line()}"
                )


def as_operand(name: str, x: Any) -> Any:
    """`x` if it is a tensor or an array, else a NumPy array of it (a list, a number, a data frame's column).

    Raises:
        TypeError: `x` is complex, or not numeric; the message names the operation.
    """
    if isinstance(x, Tensor) or is_array(x):
        return x
    try:
        array = np.asarray(x)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: cannot use {type(x).__name__!r} as an array: {error}") from None
    if array.dtype.kind not in "biuf":
        kind = "complex numbers" if array.dtype.kind == "c" else f"values of dtype {array.dtype}"
        raise TypeError(f"{name}: got {kind}; chainrule works on real arrays of numbers and booleans")
    return array


# Taking values out of tensors --------------------------------------------------------------------------------------


def _raw_namespace(inputs: Sequence[Any]) -> Any:
    return namespace_of(*map(_raw, inputs))


def _unwrap(x: Any) -> Any:
    return x._value if isinstance(x, Tensor) else x


def _constant_or_older(x: Tensor) -> Any:
    return x._value if x._node is None else x


def _unrecorded(y: Any) -> Any:
    """A constant tensor's array; a recorded tensor as it is."""
    return y._value if isinstance(y, Tensor) and y._node is None else y


_plain = _unrecorded


def _own(y: Any, inputs: Sequence[Any]) -> Any:
    """`y`, copied where it may be a view of a caller's array, which may be changed later; a tensor's value may not."""
    if isinstance(y, tuple):
        return tuple(_own(part, inputs) for part in y)
    if type(y) is np.ndarray:
        if y.base is None and not any(y is x for x in inputs):
            return y
        return y.copy() if any(isinstance(x, np.ndarray) for x in inputs) else y
    if isinstance(y, np.generic) or not any(is_array(x) and not isinstance(x, Tensor) for x in inputs):
        return y
    return namespace_of(y).asarray(y, copy=True)


def tangent_of(y: Any, level: int) -> Any:
    """The tangent that `y` carries at `level`; zeros where it carries none."""
    if isinstance(y, Tensor):
        if isinstance(y._node, Tangent) and y._node.level == level:
            return y._node.value
        y = _raw(y)
    return namespace_of(y).zeros_like(y)


# Primitives with several outputs -----------------------------------------------------------------------------------


def output_of(node: Node, index: int, part: Any) -> Tensor:
    """Output number `index` of a node whose value is a row of arrays."""
    if not _is_differentiable(node.primitive, part.dtype):  # type: ignore[arg-type]
        return Tensor(part)
    edge = (node, select_output.rule(index), ())
    return Tensor(part, new_node(select_output, [edge], node.level, part.shape, part.dtype, {"index": index}))


class OutputCotangent:
    """The cotangent of one output of several; the backward pass gathers them into a row."""

    __slots__ = ("index", "value")

    def __init__(self, index: int, value: Any) -> None:
        self.index = index
        self.value = value


select_output = Primitive(
    "output",
    lambda xp, row, *, index: row[index],
    lambda xp, g, k: OutputCotangent(k, g),
    linear="joint",
    text="output $index of $row",
    latex=r"$row_{$index}",
)


# Declarations ------------------------------------------------------------------------------------------------------


def elementwise(name: str, value: Callable, *derivatives: Callable | None, **written: Any) -> Primitive:
    """An operation on each element; `derivatives` are local derivatives, one per input."""
    return Primitive(name, value, derivatives, elementwise=True, **written)


def linear(name: str, value: Callable, *transposes: Callable | None, joint: bool = True, **written: Any) -> Primitive:
    """A linear operation, given by its transpose with respect to each input.

    `joint=False`: linear in each input with the others fixed, such as a product. With a single transpose and a
    variadic value, the transpose serves every input and takes its number as `k`.
    """
    first = transposes[0]
    for_every_input = first is not None and "k" in inspect.signature(first).parameters
    return Primitive(
        name, value, first if for_every_input else transposes, linear="joint" if joint else "each", **written
    )


def composed(name: str, value: Callable, *products: Callable | None, **written: Any) -> Primitive:
    """An operation spelled in smaller ones, with its own vector-Jacobian product for each input.

    Forward mode follows by opening it: its value code runs on tensors.
    """
    return Primitive(name, value, products, **written)


def general(name: str, value: Callable, *products: Callable | None, push: Callable, **written: Any) -> Primitive:
    """An operation that cannot be opened (a LAPACK call): products for both modes are given."""
    return Primitive(name, value, products, push=push, **written)


def constant(name: str, value: Callable, **written: Any) -> Primitive:
    """An operation whose result carries no gradient: comparisons, indices, predicates."""
    return Primitive(name, value, None, **written)


__all__ = [
    "OutputCotangent",
    "Primitive",
    "composed",
    "constant",
    "elementwise",
    "general",
    "linear",
    "tangent_of",
]
