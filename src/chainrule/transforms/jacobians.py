"""Whole Jacobians and Hessians, and the product of a Hessian with a vector, from products of `jvp` and `vjp`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from chainrule.core.namespace import namespace_of, tensor_namespace
from chainrule.core.tensor import Tensor, _raw
from chainrule.transforms.forward import jvp
from chainrule.transforms.reverse import grad, vjp
from chainrule.transforms.trees import flatten, unflatten

_MODES = ("auto", "forward", "reverse")


def jacobian(
    function: Callable, argnums: int | Sequence[int] = 0, mode: str = "auto", has_aux: bool = False
) -> Callable:
    """The matrix of all first derivatives.

    Args:
        function: of arrays or pytrees of them, returning the same.
        argnums: which positional arguments to differentiate with respect to.
        mode: "forward" (one pass per input element), "reverse" (one per output element), or "auto": forward where
            there are no more input than output elements.
        has_aux: the function returns (value, anything).

    Returns:
        A function of the same arguments. For an output of shape s and an input of shape t it returns an array of
        shape s + t; pytrees give the output's tree of the input's trees.

    Raises:
        ValueError: unknown mode.
    """
    if mode not in _MODES:
        raise ValueError(f"jacobian: mode must be one of {', '.join(_MODES)}, got {mode!r}")
    single = isinstance(argnums, int)
    numbers: tuple[int, ...] = (argnums,) if single else tuple(argnums)  # type: ignore[arg-type,assignment]

    @wraps(function)
    def full(*args: Any, **kwargs: Any) -> Any:
        def partial(*chosen: Any) -> Any:
            every = list(args)
            for number, value in zip(numbers, chosen, strict=True):
                every[number] = value
            return function(*every, **kwargs)

        chosen = tuple(args[number] for number in numbers)
        blocks, aux = _blocks(partial, chosen, mode, has_aux)
        result = unflatten(blocks.out_def, [unflatten(blocks.in_def, row) for row in blocks.rows])
        if single:
            result = _take_first(result, blocks.out_def)
        return (result, aux) if has_aux else result

    return full


class _Blocks:
    """A block of the Jacobian for each pair of an output leaf and an input leaf."""

    def __init__(self, rows: list[list], out_def: Any, in_def: Any) -> None:
        self.rows = rows
        self.out_def = out_def
        self.in_def = in_def


def _take_first(tree: Any, out_def: Any) -> Any:
    """Each output leaf holds a tuple of one input's block: take it out."""
    if out_def is None:
        return tree[0]
    leaves = [block[0] for block in out_def.flatten_up_to(tree)]
    return unflatten(out_def, leaves)


def _blocks(function: Callable, chosen: tuple, mode: str, has_aux: bool) -> tuple[_Blocks, Any]:
    inputs, in_def = flatten(chosen)
    n_in = sum(_size(x) for x in inputs)
    if mode == "forward":
        return _forward_blocks(function, chosen, has_aux)
    value, pull, *aux = vjp(function, *chosen, has_aux=has_aux)
    outputs, out_def = flatten(value)
    if mode == "auto" and n_in <= sum(_size(y) for y in outputs):
        return _forward_blocks(function, chosen, has_aux)
    rows = []
    for place, y in enumerate(outputs):
        pulled = []
        for seed in _basis(y):
            seeds = [seed if i == place else _zeros(other) for i, other in enumerate(outputs)]
            pulled.append(flatten(pull(unflatten(out_def, seeds)))[0])
        rows.append([_stacked([p[i] for p in pulled], y, x, axis=0) for i, x in enumerate(inputs)])
    return _Blocks(rows, out_def, in_def), (aux[0] if aux else None)


def _forward_blocks(function: Callable, chosen: tuple, has_aux: bool) -> tuple[_Blocks, Any]:
    inputs, in_def = flatten(chosen)
    columns: list[list] = []
    outputs: list = []
    out_def, aux = None, None
    for place, x in enumerate(inputs):
        pushed = []
        for seed in _basis(x):
            seeds = [seed if i == place else _zeros(other) for i, other in enumerate(inputs)]
            value, tangent, *rest = jvp(function, chosen, unflatten(in_def, seeds), has_aux=has_aux)
            outputs, out_def = flatten(value)
            aux = rest[0] if rest else None
            pushed.append(flatten(tangent)[0])
        columns.append(pushed)
    if not any(columns):
        value, *_ = vjp(function, *chosen, has_aux=has_aux)
        outputs, out_def = flatten(value)
    rows = [
        [_stacked([p[j] for p in pushed], y, x, axis=-1) for pushed, x in zip(columns, inputs, strict=True)]
        for j, y in enumerate(outputs)
    ]
    return _Blocks(rows, out_def, in_def), aux


def _size(x: Any) -> int:
    return math.prod(getattr(x, "shape", ()))


def _zeros(x: Any) -> Any:
    raw = np.float64(x) if isinstance(x, float) else _raw(x)
    return namespace_of(raw).zeros_like(raw)


def _basis(x: Any) -> list:
    """The unit vectors of the space of `x`, as arrays of its shape."""
    raw = np.float64(x) if isinstance(x, float) else _raw(x)
    xp = namespace_of(raw)
    n = _size(raw)
    eye = xp.eye(n, dtype=raw.dtype)
    return [xp.reshape(eye[i, :], tuple(raw.shape)) for i in range(n)]


def _stacked(parts: list, y: Any, x: Any, axis: int) -> Any:
    """Rows or columns of one block as an array of the output's shape followed by the input's."""
    shape = (*getattr(y, "shape", ()), *getattr(x, "shape", ()))
    known = next((part for part in parts if isinstance(part, Tensor)), parts[0] if parts else _zeros(x))
    xp = (
        tensor_namespace if isinstance(known, Tensor) else namespace_of(known if hasattr(known, "dtype") else _zeros(x))
    )
    if not parts:
        return xp.reshape(xp.zeros((0,), dtype=_raw(_zeros(x)).dtype), shape)
    whole = xp.stack([xp.asarray(part) if isinstance(part, float) else part for part in parts], axis=axis)
    return xp.reshape(whole, shape)


def hessian(function: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """The matrix of second derivatives of a scalar function, forward mode over reverse mode.

    For an input of shape t the result has shape t + t.
    """
    return jacobian(grad(function, argnums), argnums, mode="forward")


def hvp(function: Callable, primals: Any, tangents: Any) -> Any:
    """The product of the Hessian of a scalar function with a vector, without the Hessian (Pearlmutter 1994).

    Forward mode over reverse mode: the cost of a few gradients, whatever the dimension.

    Args:
        function: scalar function.
        primals: the point: one argument, or a tuple of arguments.
        tangents: the vector, of the same structure.

    Returns:
        H·v in the form of the argument; one for each argument where the tuple has several.
    """
    several = isinstance(primals, (tuple, list))
    points = tuple(primals) if several else (primals,)
    directions = tuple(tangents) if isinstance(tangents, (tuple, list)) else (tangents,)
    gradient = grad(function, tuple(range(len(points))))
    product = jvp(gradient, points, directions)[1]
    return product if len(points) > 1 else product[0]
