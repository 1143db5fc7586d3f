"""Running a function once so that every step can be shown: which values it read, made and what they were called.

The graph itself keeps only what the rules need. For a function this file runs it again with somebody watching; for a
tensor that was recorded before, it makes do with what the graph has. It computes no derivative.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optree

from chainrule.core import state
from chainrule.core.errors import GradientError
from chainrule.core.node import Leaf, Node
from chainrule.core.tensor import Tensor, _raw, tensor
from chainrule.explain.names import Names


@dataclass
class Recording:
    """A recorded result, with what is known of the steps that made it.

    Attributes:
        root: the result, a recorded tensor.
        names: what the user's code called the values.
        seen: for each node, its inputs as given, and the arrays of those inputs and of its outputs.
        inputs: the differentiable inputs by name, in the order given.
        title: how the result is called where it has no name of its own.
        run: runs the function again on the present values of the leaves, on float64 constants if asked; None where
            there is no function.
    """

    root: Tensor
    names: Names
    seen: dict[Node, tuple[tuple, list]] = field(default_factory=dict)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    title: str = "L"
    run: Callable[[bool], Any] | None = None


def record(
    function: Any,
    args: Sequence[Any],
    inputs: Mapping[str, Any],
    wrt: Sequence[str] | None = None,
    loss: Callable | None = None,
) -> Recording:
    """Run `function` once on leaves made of its inputs.

    Args:
        function: of arrays, numbers or pytrees of them; or a module.
        args, inputs: its positional and named arguments.
        wrt: names of the inputs to differentiate with respect to; by default all numbers and arrays of floats. A
            Python integer is read as a float unless `wrt` leaves it out.
        loss: applied to what the function returns.

    Raises:
        ValueError: `wrt` names no input.
        GradientError: the result does not depend on any input.
    """
    bound = _bound(function, args, inputs)
    names = Names()
    is_module = hasattr(function, "named_parameters")
    if is_module:
        names.bind_module(function)
    leaves: dict[str, Tensor] = {}
    own = {} if not is_module else dict(function.named_parameters())
    _check_names(wrt, [*_named_leaves(bound.arguments), *own])
    arguments = {
        name: _lifted(name, value, wrt, leaves, names, constant=is_module and wrt is None)
        for name, value in bound.arguments.items()
    }
    call = inspect.BoundArguments(bound.signature, arguments)
    seen: dict[Node, tuple[tuple, list]] = {}

    def watch(node: Node, given: tuple, values: list) -> None:
        seen[node] = (tuple(given), values)

    def run(in_float64: bool = False) -> Any:
        chosen = call
        if in_float64:
            wide = {name: optree.tree_map(_widened, value) for name, value in arguments.items()}
            chosen = inspect.BoundArguments(bound.signature, wide)
        result = function(*chosen.args, **chosen.kwargs)
        return result if loss is None else loss(result)

    by_itself = hasattr(function, "bind_names")  # an expression knows its names
    if by_itself:
        function.bind_names(names.bind)
    looking = nullcontext() if by_itself else names.watched()
    with undisturbed(names), state.enable_grad(), state.recording_whole_graphs(), state.watching(watch), looking:
        root = run()
    if not isinstance(root, Tensor) or not isinstance(root._node, Node):
        if isinstance(root, (tuple, list, dict)):
            raise TypeError(f"explain: the function returned a {type(root).__name__}; it must return one array")
        raise GradientError(
            "explain: the result does not depend on any input that has a gradient. Pass numbers or arrays of floats, "
            "and use chainrule or NumPy functions on them"
        )

    def run_again(in_float64: bool) -> Any:
        with state.put_back(), state.recording_whole_graphs():
            return run(in_float64)

    title = "loss" if loss is not None else "output" if is_module else getattr(function, "__name__", "f")
    return Recording(root, names, seen, leaves, title if title.isidentifier() else "f", run_again)


def read(result: Tensor, frame: Any = None) -> Recording:
    """What can be told of a tensor that was recorded before; `frame` is where its values may have names.

    Raises:
        GradientError: nothing was recorded for it, or its graph was freed.
    """
    node = result._node
    if not isinstance(node, Node) or isinstance(node, Leaf):
        raise GradientError(
            "explain: nothing was recorded for this tensor: no input required a gradient, it was detached, or it was "
            "made inside no_grad()"
        )
    names = Names()
    if frame is not None:
        names.look_at(frame)
    return Recording(result, names)


@contextmanager
def undisturbed(names: Names) -> Iterator[None]:
    """Put back what a run changes besides its result: random generators, and the buffers of modules it met."""
    try:
        with state.put_back():
            yield
    finally:
        for attributes, name, buffer, value in names.buffers:
            buffer._value = value
            attributes[name] = buffer


# Arguments ---------------------------------------------------------------------------------------------------------


def _bound(function: Any, args: Sequence[Any], inputs: Mapping[str, Any]) -> inspect.BoundArguments:
    target = function.forward if hasattr(function, "named_parameters") else function
    try:
        signature = inspect.signature(target)
    except ValueError:  # some functions written in C
        signature = inspect.Signature([inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)])
    try:
        return signature.bind(*args, **inputs)
    except TypeError as error:
        given = ", ".join([*(type(a).__name__ for a in args), *inputs])
        name = getattr(function, "__name__", type(function).__name__)
        raise TypeError(f"explain: {name}{signature} cannot be called with ({given}): {error}") from None


def _paths(name: str, tree: Any) -> tuple[list[str], list, Any]:
    """A name for every leaf of an argument: its own for a single array, its key or place in a container otherwise."""
    if hasattr(tree, "named_parameters"):
        return [], [], None
    paths, leaves, treedef = optree.tree_flatten_with_path(tree)
    keys = [str(path[-1]) if path and isinstance(path[-1], str) else "" for path in paths]
    named = []
    for path, key in zip(paths, keys, strict=True):
        if not path:
            named.append(name)
        elif key.isidentifier() and keys.count(key) == 1:
            named.append(key)
        else:
            named.append(".".join([name, *map(str, path)]))
    return named, leaves, treedef


def _named_leaves(arguments: Mapping[str, Any]) -> list[str]:
    return [leaf for name, tree in arguments.items() for leaf in _paths(name, tree)[0]]


def _check_names(wrt: Sequence[str] | None, known: Sequence[str]) -> None:
    for name in wrt or ():
        if name not in known:
            raise ValueError(f"explain: wrt names {name!r}, which is not an input; the inputs are {', '.join(known)}")


def _lifted(
    name: str, tree: Any, wrt: Sequence[str] | None, leaves: dict[str, Tensor], names: Names, *, constant: bool
) -> Any:
    paths, values, treedef = _paths(name, tree)
    if treedef is None:
        return tree
    lifted = []
    for path, value in zip(paths, values, strict=True):
        wanted = (path in wrt) if wrt is not None else (not constant and _is_differentiable(value))
        if wanted:
            data = np.asarray(_raw(value)) if not isinstance(value, Tensor) else _raw(value)
            if isinstance(data, np.ndarray) and data.dtype.kind in "iu":
                data = data.astype(np.float64)
            value = tensor(data, requires_grad=True)
            leaves[path] = value
        elif type(value) is int and wrt is None and not constant:
            value = float(value)
        names.bind(path, value)
        lifted.append(value)
    return optree.tree_unflatten(treedef, lifted)


def _is_differentiable(value: Any) -> bool:
    return type(value) in (int, float) or "float" in str(getattr(value, "dtype", ""))


def _widened(value: Any) -> Any:
    """Constant arrays of a narrower floating type in float64; everything else as it is."""
    raw = value._value if isinstance(value, Tensor) and value._node is None else value
    if isinstance(raw, (np.ndarray, np.generic)) and raw.dtype.kind == "f" and raw.dtype.itemsize < 8:
        wide = raw.astype(np.float64)
        return Tensor(wide) if isinstance(value, Tensor) else wide
    return value
