"""Forward mode: a tangent carried along each edge while the function runs; no graph is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chainrule.core import state
from chainrule.core.primitive import tangent_of
from chainrule.core.tensor import Tensor, _raw
from chainrule.transforms.trees import dual, flatten, give_back, lift, output, unflatten


def jvp(function: Callable, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> tuple:
    """The value of `function` at `primals` and its derivative along `tangents` (the Jacobian-vector product).

    Args:
        function: of arrays or pytrees of them.
        primals: tuple of arguments.
        tangents: tuple of the same structure and shapes.
        has_aux: the function returns (value, anything).

    Returns:
        (value, tangent), or (value, tangent, aux).

    Raises:
        TypeError: a primal is not of floating point.
        ValueError: the structures or shapes of primals and tangents differ.
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise TypeError("jvp: primals and tangents must be tuples, as in cr.jvp(f, (x,), (v,))")
    values, treedef = flatten(tuple(primals))
    directions, direction_def = flatten(tuple(tangents))
    if treedef != direction_def:
        raise ValueError(f"jvp: primals and tangents differ in structure: {treedef} against {direction_def}")
    with state.new_level(forward=True) as level:
        duals, holds = [], []
        for number, (value, direction) in enumerate(zip(values, directions, strict=True)):
            inner, held = lift(value, "jvp", f"primal {number}")
            holds.append(held)
            duals.append(dual(inner, _direction(inner, direction, number), level))
        result = function(*unflatten(treedef, duals))
        value, aux = result if has_aux else (result, None)
        leaves, out_def = flatten(value)
        given = (*values, *directions)
        shown = [output(leaf, level, given) for leaf in leaves]
        pushed = [give_back(tangent_of(leaf, level), shape) for leaf, shape in zip(leaves, shown, strict=True)]
    answer = unflatten(out_def, shown), unflatten(out_def, pushed)
    return (*answer, aux) if has_aux else answer


def _direction(value: Any, direction: Any, number: int) -> Any:
    """A tangent for `value`: of its shape and dtype, recorded if the caller's is."""
    inner = direction._value if isinstance(direction, Tensor) and direction._node is None else direction
    if isinstance(inner, Tensor):
        shape: Any = inner.shape
    else:
        raw = _raw(value)
        from chainrule.core.namespace import namespace_of

        inner = namespace_of(raw).asarray(inner, dtype=raw.dtype)
        shape = inner.shape
    if tuple(shape) != tuple(value.shape):
        raise ValueError(f"jvp: tangent {number} has shape {tuple(shape)}, its primal {tuple(value.shape)}")
    return inner
