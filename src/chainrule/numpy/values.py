"""NumPy functions that are computed from values alone: their results carry no gradient.

Comparisons of whole arrays, indices, shapes, dtypes, text. The same way serves compiled functions that nobody gave a
derivative: what they return is passed on if it could carry no gradient, and refused otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.core.errors import GradientError
from chainrule.core.tensor import Tensor, _raw, _read_only
from chainrule.numpy.arguments import is_recorded

#: NumPy's functions of this kind; those that are not in the installed version are passed over.
_NAMES = """
    allclose isclose array_equal array_equiv array_repr array_str array2string save savetxt savez
    savez_compressed argwhere flatnonzero digitize isin lexsort nanargmax nanargmin ix_ unravel_index
    ravel_multi_index tril_indices_from triu_indices_from diag_indices_from may_share_memory shares_memory
    min_scalar_type common_type iscomplexobj isrealobj iscomplex isreal isneginf isposinf einsum_path
    packbits unpackbits
"""
NAMES = tuple(_NAMES.split())


def name_of(function: Any) -> str:
    """How a person writes a function: `np.add`, `np.linalg.eig`."""
    module = getattr(function, "__module__", None) or ("numpy" if hasattr(np, function.__name__) else "")
    return f"{module}.{function.__name__}".replace("numpy", "np").removeprefix(".")


def on_values(function: Callable) -> Callable:
    """`function` on the values of its arguments; arrays it returns become constant tensors.

    Raises, when called:
        GradientError: an argument is recorded, and the result is of floating point: its gradient would be lost.
        TypeError: the result is complex.
    """
    name = name_of(function)

    def called(*args: Any, **options: Any) -> Any:
        result = function(*bare(args), **bare(options))
        kinds = _kinds(result)
        if kinds & {"f", "c"} and is_recorded([*args, *options.values()]):
            raise GradientError(
                f"{name} has no derivative here, and its result would drop the gradient. Spell it in functions that "
                "have one, declare your own with cr.custom_vjp, or take the value out on purpose: t.detach()"
            )
        if "c" in kinds:
            raise TypeError(f"{name}: the result is complex; chainrule works on real numbers only")
        return as_constants(result)

    called.__name__ = called.__qualname__ = function.__name__
    called.__doc__ = f"`{name}` of the values; the result carries no gradient."
    return called


def bare(args: Any) -> Any:
    """Arguments with read-only arrays in place of tensors: a function that writes to them must not succeed."""
    if isinstance(args, Tensor):
        return _read_only(np.asarray(_raw(args)))
    if type(args) in (tuple, list):
        return type(args)(bare(part) for part in args)
    if type(args) is dict:
        return {key: bare(part) for key, part in args.items()}
    return args


def _kinds(result: Any) -> set[str]:
    """The kinds of number in a result: "f" for floating point, "c" for complex, ..."""
    if isinstance(result, (tuple, list)):
        return set().union(*map(_kinds, result))
    return {result.dtype.kind} if isinstance(result, (np.ndarray, np.generic)) else set()


def as_constants(result: Any) -> Any:
    """A result with tensors in place of its arrays of numbers; they are copied, for they may be the caller's."""
    if isinstance(result, np.ndarray):
        return Tensor(result.copy()) if result.dtype.kind in "biuf" else result
    if type(result) in (tuple, list):
        return type(result)(as_constants(part) for part in result)
    return result


def shape(a: Any) -> tuple[int, ...]:
    """The lengths of the axes of `a`."""
    return tuple(a.shape) if isinstance(a, Tensor) else np.shape(a)


def ndim(a: Any) -> int:
    """The number of axes of `a`."""
    return len(shape(a))


def size(a: Any, axis: Any = None) -> int:
    """The number of elements of `a`, or of slices along `axis`."""
    lengths = shape(a)
    chosen = range(len(lengths)) if axis is None else np.atleast_1d(axis)
    return int(np.prod([lengths[i] for i in chosen], dtype=int))


__all__ = ["ndim", "shape", "size"]
