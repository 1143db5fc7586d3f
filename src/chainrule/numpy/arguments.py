"""The arguments that NumPy's functions share: `out`, `where`, `keepdims`, and those that tensors do not support.

No function of NumPy is defined here; the files beside this one do that with what is here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from chainrule.core.errors import GradientError
from chainrule.core.namespace import namespace_of
from chainrule.core.primitive import as_operand
from chainrule.core.tensor import Tensor, _raw
from chainrule.numpy.dtypes import dtype_in
from chainrule.ops import elementwise, layout

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def named(operation: Callable, function: Callable) -> Callable:
    """`operation`, whose arguments may also be given by the names they have in NumPy's `function`.

    For operations that take their arguments in NumPy's order, under other names or by position only.
    """
    parameters = inspect.signature(function).parameters.values()
    names = tuple(parameter.name for parameter in parameters if parameter.kind in _POSITIONAL)

    @wraps(operation)
    def called(*args: Any, **options: Any) -> Any:
        while options and len(args) < len(names) and names[len(args)] in options:
            args = (*args, options.pop(names[len(args)]))
        return operation(*args, **options)

    called.__name__ = called.__qualname__ = function.__name__
    return called


def is_default(value: Any) -> bool:
    """Whether an argument was left out: None, or the mark that NumPy's own definitions pass on."""
    return value is None or value is np._NoValue


def flag(value: Any) -> bool:
    """A yes-or-no argument that is no by default."""
    return not is_default(value) and bool(value)


def refuse(name: str, **unsupported: Any) -> None:
    """Raise for an argument that was given, naming it; silence would give another result than NumPy's.

    Raises:
        TypeError: one of `unsupported` is not its default.
    """
    for argument, value in unsupported.items():
        if not is_default(value) and value is not False:
            raise TypeError(f"{name}: the argument {argument}={value!r} is not supported on tensors; leave it out")


def is_recorded(value: Any) -> bool:
    """Whether a gradient flows through `value`, a tensor or a (nested) sequence of them."""
    if isinstance(value, Tensor):
        return value._node is not None
    return isinstance(value, (tuple, list)) and any(is_recorded(part) for part in value)


def plain(name: str, argument: str, value: Any) -> Any:
    """The array in an argument that no derivative exists for.

    Raises:
        GradientError: it is recorded, and its gradient would be lost.
    """
    if is_recorded(value):
        raise GradientError(
            f"{name}: there is no derivative with respect to {argument!r}; pass {argument}.detach() if its gradient "
            "is not wanted"
        )
    return _raw(value)


def in_dtype(name: str, x: Any, dtype: Any) -> Any:
    """`x` converted to `dtype`, one of its own library or of NumPy; as it is for None."""
    if is_default(dtype):
        return x
    x = as_operand(name, x)
    wanted = dtype_in(namespace_of(_raw(x)), dtype)
    return x if x.dtype == wanted else layout.astype(x, wanted)


def masked(a: Any, where: Any, neutral: Any) -> Any:
    """`a` with `neutral` in the places that the argument `where` of a reduction leaves out."""
    if is_default(where) or where is True:
        return a
    return elementwise.where(where, as_operand("where", a), neutral)


def check_can_hold(name: str, array: Any, value: Any) -> None:
    """Raise where `value` is to be stored in an array that could not remember where it came from.

    Raises:
        GradientError: `value` is recorded and `array` is no tensor.
    """
    if not isinstance(array, Tensor) and is_recorded(value):
        raise GradientError(
            f"{name}: out is a NumPy array and cannot remember where a recorded result came from. Give a tensor, "
            "for example cr.numpy.zeros(shape), or leave out= away (a = a + t in place of a += t)"
        )


def into(out: Any, result: Any, name: str) -> Any:
    """`result`, stored in the argument `out` of a function where one was given.

    A tensor given as `out` moves to the result, as in an assignment.

    Raises:
        ValueError: the shapes differ.
        TypeError: the result's dtype cannot be stored, or `out` is no array.
        GradientError: the result is recorded and `out` is a NumPy array, which could not remember that.
    """
    if is_default(out) or out is Ellipsis:
        return result
    if not isinstance(out, (Tensor, np.ndarray)):
        raise TypeError(f"{name}: out must be a tensor or an array, got {type(out).__name__}")
    check_can_hold(name, out, result)
    if tuple(out.shape) != tuple(result.shape):
        raise ValueError(f"{name}: the result has shape {tuple(result.shape)}, out has shape {tuple(out.shape)}")
    if out.dtype != result.dtype and not _can_store(result.dtype, out.dtype):
        raise TypeError(f"{name}: a result of dtype {result.dtype} cannot be stored in out of dtype {out.dtype}")
    if isinstance(out, Tensor):
        return out._become(result if out.dtype == result.dtype else layout.astype(result, out.dtype))
    out[...] = _raw(result)
    return out


def _can_store(given: Any, wanted: Any) -> bool:
    if isinstance(given, np.dtype) and isinstance(wanted, np.dtype):
        return np.can_cast(given, wanted, "same_kind")
    return "float" in str(wanted) or "float" not in str(given)
