"""A function with a derivative of the user's own: `custom_vjp`."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from chainrule.core import state
from chainrule.core.errors import GradientError
from chainrule.core.namespace import is_array, tensor_namespace
from chainrule.core.node import Node, new_node
from chainrule.core.primitive import Primitive, output_of
from chainrule.core.tensor import Tensor, _raw
from chainrule.transforms.trees import flatten, unflatten, zeros_like


class custom_vjp:
    """Give a function your own reverse-mode derivative.

    Example:
        >>> @cr.custom_vjp
        ... def clipped(x):
        ...     return x
        >>> clipped.defvjp(lambda x: (x, None), lambda residuals, g: (np.clip(g, -1, 1),))

    `forward(*args)` returns the value and residuals (any pytree of what `backward` needs);
    `backward(residuals, g)` returns one cotangent for each positional argument (None for zero). Both are ordinary
    differentiable code, so derivatives of any order follow, and forward mode over reverse mode (as in `cr.hvp`).
    Forward mode of the function itself has no rule and raises `GradientError`.
    """

    def __init__(self, function: Callable) -> None:
        self.function = function
        self._forward: Callable | None = None
        self._backward: Callable | None = None
        self._primitives: dict[int, Primitive] = {}
        update_wrapper(self, function)
        self.name = getattr(function, "__name__", "a custom_vjp function")

    def defvjp(self, forward: Callable, backward: Callable) -> None:
        """Set the two halves of the rule."""
        self._forward = forward
        self._backward = backward

    def __call__(self, *args: Any) -> Any:
        if self._forward is None or self._backward is None:
            raise GradientError(f"{self.name}: call .defvjp(forward, backward) before using a custom_vjp function")
        leaves, treedef = flatten(args)
        floor = state.recording_floor.get()
        recorded = [x for x in leaves if isinstance(x, Tensor) and x._node is not None and x._node.level >= floor]
        level = max((x._node.level for x in recorded), default=-1)
        if level < 0:
            return self.function(*args)
        if level & 1:
            raise GradientError(
                f"{self.name}: a custom_vjp function has no forward-mode rule; use reverse mode (grad, vjp), or "
                "forward mode over it (hvp)"
            )
        return self._record(leaves, treedef, level)

    def _record(self, leaves: list, treedef: Any, level: int) -> Any:
        inside = [isinstance(x, Tensor) and x._node is not None and x._node.level == level for x in leaves]
        values = [x._value if here else x for x, here in zip(leaves, inside, strict=True)]
        value, residuals = self._forward(*unflatten(treedef, values))  # type: ignore[misc]
        outputs, out_def = flatten(value)
        outputs = [y._value if isinstance(y, Tensor) and y._node is None else y for y in outputs]
        if not all(isinstance(y, Tensor) or is_array(y) for y in outputs):
            raise TypeError(f"{self.name}: the forward half must return (arrays or tensors, residuals)")
        call = _Call(self, treedef, out_def, values, residuals)
        edges = [
            (x._node, _CustomRule(k), (call,)) for k, (x, here) in enumerate(zip(leaves, inside, strict=True)) if here
        ]
        shapes, dtypes = [y.shape for y in outputs], [y.dtype for y in outputs]
        if len(outputs) == 1:
            node = new_node(self._primitive(1), edges, level, shapes[0], dtypes[0], None)
            self._show(node, leaves, [*values, *outputs])
            return unflatten(out_def, [Tensor(outputs[0], node)])
        node = new_node(self._primitive(len(outputs)), edges, level, tuple(shapes), tuple(dtypes), None)
        self._show(node, leaves, [*values, *outputs])
        return unflatten(out_def, [output_of(node, i, y) for i, y in enumerate(outputs)])

    def _show(self, node: Node, leaves: list, values: list) -> None:
        """Tell who watches what is recorded."""
        watch = state.watcher.get()
        if watch is not None:
            watch(node, tuple(leaves), values)

    def _primitive(self, outputs: int) -> Primitive:
        if outputs not in self._primitives:
            names = [f"y{i}" for i in range(outputs)] if outputs > 1 else ()
            made = Primitive(self.name, lambda xp, *args: self.function(*args), None, outputs=names)
            self._primitives[outputs] = made
        return self._primitives[outputs]


class _Call:
    """One recorded call: its input leaves and what its rule reads. One run of the rule serves all inputs."""

    def __init__(self, owner: custom_vjp, treedef: Any, out_def: Any, values: list, residuals: Any) -> None:
        self.owner = owner
        self.treedef = treedef
        self.out_def = out_def
        self.values = values
        self.residuals = residuals
        self._last: tuple[Any, list] | None = None

    @property
    def kept(self) -> tuple:
        """What the call keeps between the passes."""
        return (self.values, self.residuals)

    def pulled(self, g: Any) -> list:
        """Cotangents of all input leaves."""
        if self._last is not None and self._last[0] is g:
            return self._last[1]
        cotangent = unflatten(self.out_def, g if type(g) is list else [g])
        rows = self.owner._backward(self.residuals, cotangent)  # type: ignore[misc]
        name = self.owner.name
        arguments = self.treedef.children() if self.treedef is not None else [None]
        if not isinstance(rows, (tuple, list)) or len(rows) != len(arguments):
            raise ValueError(
                f"{name}: the backward half must return a tuple of {len(arguments)} cotangents, one per argument"
            )
        flat: list = []
        for row, argument in zip(rows, arguments, strict=True):
            flat += [None] * argument.num_leaves if row is None else flatten(row)[0]
        if len(flat) != len(self.values):
            raise ValueError(f"{name}: the backward half returned {len(flat)} cotangents for {len(self.values)} inputs")
        cotangents = [self._checked(k, x) for k, x in enumerate(flat)]
        self._last = (g, cotangents)
        return cotangents

    def _checked(self, k: int, cotangent: Any) -> Any:
        value = self.values[k]
        if cotangent is None:
            cotangent = zeros_like(_raw(value)) if is_array(_raw(value)) else 0.0
        if isinstance(cotangent, Tensor) and cotangent._node is None:
            cotangent = cotangent._value
        shape = tuple(getattr(cotangent, "shape", ()))
        if shape != tuple(getattr(value, "shape", ())):
            raise ValueError(
                f"{self.owner.name}: the backward half returned a cotangent of shape {shape} for an input of "
                f"shape {tuple(value.shape)}"
            )
        return cotangent

    def relinked(self, node: Node) -> _Call:
        """The call again on inputs that know where they came from, so that its rule can be differentiated."""
        parents = {rule.index: parent for parent, rule, _ in node.edges}  # type: ignore[union-attr]
        linked = [Tensor(v, parents[k]) if k in parents else v for k, v in enumerate(self.values)]
        _, residuals = self.owner._forward(*unflatten(self.treedef, linked))  # type: ignore[misc]
        return _Call(self.owner, self.treedef, self.out_def, linked, residuals)


class _CustomRule:
    """The rule of input leaf `index` of a recorded call."""

    sources = None  # what it reads is relinked by the call itself

    def __init__(self, index: int) -> None:
        self.index = index

    def pull(self, xp: Any, g: Any, call: _Call) -> Any:
        cotangent = call.pulled(g)[self.index]
        if xp is tensor_namespace and not isinstance(cotangent, Tensor):
            return Tensor(cotangent)
        return cotangent

    def relink(self, node: Node, kept: tuple) -> tuple:
        return (kept[0].relinked(node),)
