"""Arguments and results as pytrees: lifting them into a transform's level and giving back what was given.

A transform takes Python floats, arrays, tensors and any nesting of containers that `optree` knows, and returns the
same kind of thing. This file is that border; the transforms are in the files beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optree

from chainrule.core.hold import hold, is_holdable
from chainrule.core.namespace import is_array, namespace_of
from chainrule.core.node import Leaf, Tangent
from chainrule.core.tensor import Tensor

_LEAVES = frozenset({float, np.ndarray, np.float64, np.float32, Tensor})


def flatten(tree: Any) -> tuple[list, Any]:
    """Leaves of a pytree and how to put them back (`unflatten`). None is an empty tree, as in JAX."""
    if type(tree) in _LEAVES:
        return [tree], None
    leaves, treedef = optree.tree_flatten(tree)
    return leaves, treedef


def unflatten(treedef: Any, leaves: Sequence[Any]) -> Any:
    """The inverse of `flatten`."""
    return leaves[0] if treedef is None else optree.tree_unflatten(treedef, leaves)


def lift(value: Any, transform: str, where: str) -> tuple[Any, Any]:
    """The value a new level computes with, and what keeps a caller's array unchanged meanwhile.

    Raises:
        TypeError: the value is not a float or an array of floats, so it has no derivative.
    """
    kind = type(value)
    if kind is float:
        return np.float64(value), None
    if kind is np.ndarray and value.dtype.kind == "f":
        return (value, hold(value)) if value.base is None or is_holdable(value) else (value.copy(), None)
    if isinstance(value, Tensor):
        inner = value._value if value._node is None else value
        dtype = str(value.dtype)
    elif is_array(value):  # another library's array cannot be held unchanged: compute with a copy
        xp = namespace_of(value)
        inner, dtype = (
            value if isinstance(value, np.generic) else xp.asarray(value, copy=True),
            str(value.dtype),
        )
    else:
        inner, dtype = value, kind.__name__
    if "float" in dtype:
        return inner, None
    hint = (
        "complex numbers are not supported"
        if "complex" in dtype
        else "pass a float, or leave the argument out of argnums"
    )
    raise TypeError(
        f"{transform}: {where} is of type {dtype}; derivatives exist with respect to floating point values: {hint}"
    )


def leaf_at(value: Any, level: int) -> Tensor:
    """A leaf of the tape of `level` holding `value`, which may be a tensor of an older level."""
    tensor = Tensor(value)
    tensor._node = Leaf(tensor, level)
    return tensor


def dual(value: Any, tangent: Any, level: int) -> Tensor:
    """A forward-mode tensor of `level`."""
    return Tensor(value, Tangent(tangent, level))


def leave(value: Any, level: int) -> Any:
    """A result seen from outside `level`: the older value inside, or the value itself where it does not depend."""
    if isinstance(value, Tensor) and (value._node is None or value._node.level == level):
        return value._value
    return value


def give_back(value: Any, given: Any) -> Any:
    """A gradient in the form of the argument it belongs to: float for float, tensor for tensor, array for array."""
    if isinstance(value, Tensor):
        return value if value._node is not None or isinstance(given, Tensor) else give_back(value._value, given)
    if isinstance(given, Tensor):
        return Tensor(value)
    if type(given) is float:
        return float(value)
    return _owned(value)


def _owned(value: Any) -> Any:
    """An array that shares no memory with another result, so that the caller may change it."""
    if type(value) is np.ndarray and (value.base is not None or not value.flags.writeable):
        return value.copy()
    return value


def give_back_all(values: Sequence[Any], given: Sequence[Any], seeds: Sequence[Any] = ()) -> list:
    """`give_back` for several gradients; none is the same array as another or as one of the caller's `seeds`."""
    taken = {id(seed) for seed in seeds}
    results = []
    for value, original in zip(values, given, strict=True):
        result = give_back(value, original)
        if id(result) in taken and type(result) is np.ndarray:
            result = result.copy()
        taken.add(id(result))
        results.append(result)
    return results


def output(value: Any, level: int, given: Sequence[Any]) -> Any:
    """A result of the differentiated function in the form its arguments had: tensor, array or float."""
    value = leave(value, level)
    if isinstance(value, Tensor) and value._node is not None:
        return value
    value = value._value if isinstance(value, Tensor) else value
    if any(isinstance(leaf, Tensor) for leaf in given):
        return Tensor(value) if is_array(value) else value
    if type(value) is np.float64 and all(type(leaf) is float for leaf in given):
        return float(value)
    return value


def zeros_like(value: Any) -> Any:
    """Zeros shaped as a value of any level."""
    return namespace_of(value).zeros_like(value)
