"""Reverse mode as functions of functions: `grad`, `value_and_grad`, `vjp`.

Each call enters a level of its own, runs the function on leaves of that level's tape and walks the tape back. A
call inside another transform computes with tensors of the older level and so is differentiated itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from chainrule.core import state
from chainrule.core.errors import GradientError
from chainrule.core.node import Node
from chainrule.core.tensor import Tensor
from chainrule.transforms.backward import pull_back, seed_for
from chainrule.transforms.trees import (
    flatten,
    give_back_all,
    leaf_at,
    lift,
    output,
    unflatten,
    zeros_like,
)


def grad(function: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """The gradient of a scalar function.

    Args:
        function: of floats, arrays, tensors or pytrees of them; returns a scalar.
        argnums: which positional arguments to differentiate with respect to.
        has_aux: the function returns (scalar, anything); the gradient function then returns (gradient, anything).

    Returns:
        A function of the same arguments that returns the gradient: shaped as the argument, in its form (float for
        float, array for array), a tuple where `argnums` is one.

    Raises:
        TypeError: an argument named by `argnums` is not of floating point.
        GradientError: the result is not a scalar.

    Example:
        >>> cr.grad(lambda x: np.tanh(x) ** 2 + x)(1.0)
        1.6397...
    """
    both = value_and_grad(function, argnums, has_aux)

    @wraps(function)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, gradients = both(*args, **kwargs)
        return (gradients, value[1]) if has_aux else gradients

    return gradient


def value_and_grad(function: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """As `grad`, returning (value, gradient), or ((value, aux), gradient) with `has_aux`."""
    single = isinstance(argnums, int)
    numbers: tuple[int, ...] = (argnums,) if single else tuple(argnums)  # type: ignore[arg-type,assignment]

    @wraps(function)
    def both(*args: Any, **kwargs: Any) -> Any:
        level = state.tape_level() + 2
        token = state.current_level.set(level)
        try:
            inputs = _Inputs(args, numbers, "grad", level)
            result = function(*inputs.args, **kwargs)
            value, aux = result if has_aux else (result, None)
            gradients = inputs.gradients(value, None)
            value = output(value, level, inputs.given)
            if has_aux:
                aux_leaves, aux_def = flatten(aux)
                aux = unflatten(aux_def, [output(leaf, level, inputs.given) for leaf in aux_leaves])
        finally:
            state.current_level.reset(token)
        return ((value, aux) if has_aux else value), (gradients[0] if single else tuple(gradients))

    return both


def vjp(function: Callable, *primals: Any, has_aux: bool = False) -> tuple:
    """The value of `function` at `primals`, and the function that pulls cotangents back.

    Returns:
        (value, pull) or, with `has_aux`, (value, pull, aux). `pull(cotangent)`, of the value's structure, returns
        one cotangent for each primal; it may be called any number of times.
    """
    level = state.tape_level() + 2
    token = state.current_level.set(level)
    try:
        inputs = _Inputs(primals, tuple(range(len(primals))), "vjp", level)
        result = function(*inputs.args)
        value, aux = result if has_aux else (result, None)
    finally:
        state.current_level.reset(token)
    leaves, treedef = flatten(value)

    def pull(cotangent: Any) -> tuple:
        seeds, _ = flatten(cotangent)
        if len(seeds) != len(leaves):
            raise ValueError(f"vjp: the value has {len(leaves)} leaves, the cotangent {len(seeds)}")
        token = state.current_level.set(level)
        try:
            return tuple(inputs.gradients_from(leaves, seeds, retain_graph=True))
        finally:
            state.current_level.reset(token)

    shown = unflatten(treedef, [_copied(output(leaf, level, inputs.given)) for leaf in leaves])
    return (shown, pull, aux) if has_aux else (shown, pull)


def _copied(value: Any) -> Any:
    """An array the caller may change while the graph, which may keep the original, waits to be pulled."""
    return value.copy() if type(value) is np.ndarray else value


class _Inputs:
    """The arguments of a differentiated function, lifted to leaves of its level."""

    def __init__(self, args: Sequence[Any], numbers: Sequence[int], transform: str, level: int) -> None:
        self.level = level
        self.args = list(args)
        self.given: list[Any] = []
        self.leaves: list[Tensor] = []
        self.trees: list[tuple[Any, int]] = []
        self._holds = []
        for number in numbers:
            if not -len(args) <= number < len(args):
                raise ValueError(f"{transform}: argnums names argument {number}, the call has {len(args)} arguments")
            values, treedef = flatten(args[number])
            lifted = []
            for value in values:
                inner, held = lift(value, transform, f"argument {number}")
                self._holds.append(held)
                lifted.append(leaf_at(inner, level))
            self.args[number] = unflatten(treedef, lifted)
            self.given += values
            self.leaves += lifted
            self.trees.append((treedef, len(values)))
        self.nodes = [leaf._node for leaf in self.leaves]

    def gradients(self, value: Any, seed: Any) -> list:
        """Gradients of a scalar result, one tree per differentiated argument."""
        shape = getattr(value, "shape", ())
        if shape != ():
            raise GradientError(
                f"grad: the function returned an array of shape {tuple(shape)}; only a scalar has a gradient. "
                "Reduce it, for example with .sum(), or use cr.jacobian or cr.vjp"
            )
        if not isinstance(value, (Tensor, float, int)) and not hasattr(value, "dtype"):
            raise TypeError(f"grad: the function returned {type(value).__name__}; it must return a scalar")
        return self.gradients_from([value], [seed], retain_graph=False)

    def gradients_from(self, values: Sequence[Any], seeds: Sequence[Any], *, retain_graph: bool) -> list:
        roots = []
        for value, seed in zip(values, seeds, strict=True):
            node = value._node if isinstance(value, Tensor) else None
            if isinstance(node, Node) and node.level == self.level:
                roots.append((node, seed_for(value, seed)))
        found = pull_back(roots, retain_graph=retain_graph) if roots else {}
        flat = []
        for node, leaf in zip(self.nodes, self.leaves, strict=True):
            g = found.get(node)
            flat.append(zeros_like(leaf._value) if g is None else g)
        flat = give_back_all(flat, self.given, seeds)
        trees, start = [], 0
        for treedef, count in self.trees:
            trees.append(unflatten(treedef, flat[start : start + count]))
            start += count
        return trees
