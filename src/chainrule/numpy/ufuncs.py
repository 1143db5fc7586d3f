"""NumPy's ufuncs on tensors: which operation each is, and what `out`, `where`, `dtype` and the ufunc methods mean.

`Tensor.__array_ufunc__` looks the plain call up in `OPERATIONS`; everything else comes here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate as running
from typing import Any

import numpy as np

from chainrule.core.namespace import PYTHON_SCALARS, namespace_of
from chainrule.core.primitive import as_operand
from chainrule.core.tensor import Tensor, _raw
from chainrule.numpy import reductions
from chainrule.numpy.arguments import flag, in_dtype, into, is_default, refuse
from chainrule.numpy.values import name_of, on_values
from chainrule.ops import creation, elementwise, indexing, joining, layout, network, products
from chainrule.ops.axes import normalize_axes, normalize_axis
from chainrule.ops.special import SCIPY_UFUNCS

# NumPy's ufuncs that are spelled in other operations ---------------------------------------------------------------

fabs, rint, conjugate = elementwise.absolute, elementwise.round, elementwise.positive


def deg2rad(x: Any) -> Any:
    """Degrees as radians."""
    return elementwise.multiply(x, math.pi / 180)


def rad2deg(x: Any) -> Any:
    """Radians as degrees."""
    return elementwise.multiply(x, 180 / math.pi)


radians, degrees = deg2rad, rad2deg


def fmax(a: Any, b: Any) -> Any:
    """The larger of two; the other one where one is NaN."""
    return _unless_nan(elementwise.maximum, a, b)


def fmin(a: Any, b: Any) -> Any:
    """The smaller of two; the other one where one is NaN."""
    return _unless_nan(elementwise.minimum, a, b)


def _unless_nan(choose: Callable, a: Any, b: Any) -> Any:
    a, b = as_operand("fmax", a), as_operand("fmax", b)
    a_or_b = elementwise.where(elementwise.isnan(a), b, a)
    return choose(a_or_b, elementwise.where(elementwise.isnan(b), a_or_b, b))


def fmod(a: Any, b: Any) -> Any:
    """The remainder of a division, with the sign of `a`."""
    return elementwise.subtract(a, elementwise.multiply(elementwise.trunc(elementwise.divide(a, b)), b))


def float_power(a: Any, b: Any) -> Any:
    """The power, in float64 at least."""
    return elementwise.power(in_dtype("float_power", a, np.float64), b)


def logaddexp2(a: Any, b: Any) -> Any:
    """log₂(2^a + 2^b)."""
    scale = math.log(2)
    return elementwise.logaddexp(elementwise.multiply(a, scale), elementwise.multiply(b, scale)) / scale


def heaviside(a: Any, b: Any) -> Any:
    """0 below zero, 1 above, `b` at zero."""
    a = elementwise.multiply(a, 1.0)
    step = elementwise.where(elementwise.greater(a, 0), creation.ones_like(a), creation.zeros_like(a))
    return elementwise.where(elementwise.equal(a, 0), b, elementwise.where(elementwise.isnan(a), a, step))


def divmod(a: Any, b: Any) -> tuple[Any, Any]:
    """The quotient rounded down, and the remainder."""
    return elementwise.floor_divide(a, b), elementwise.remainder(a, b)


def modf(x: Any) -> tuple[Any, Any]:
    """The fractional and the integral part, both with the sign of `x`."""
    integral = elementwise.trunc(x)
    return elementwise.copysign(elementwise.subtract(x, integral), x), integral


def frexp(x: Any) -> tuple[Any, Any]:
    """Mantissa m and exponent n of x = m·2ⁿ; the gradient goes through the mantissa."""
    exponent = np.frexp(np.asarray(_raw(x)))[1]
    return ldexp(x, -exponent), Tensor(exponent)


def ldexp(x: Any, n: Any) -> Any:
    """x·2ⁿ."""
    x = as_operand("ldexp", x)
    return elementwise.multiply(x, namespace_of(_raw(x)).asarray(np.ldexp(1.0, np.asarray(_raw(n))), dtype=x.dtype))


def matvec(a: Any, x: Any) -> Any:
    """Matrices times vectors."""
    return layout.squeeze(products.matmul(a, layout.expand_dims(x, -1)), -1)


def vecmat(x: Any, a: Any) -> Any:
    """Vectors times matrices."""
    return layout.squeeze(products.matmul(layout.expand_dims(x, -2), a), -2)


matmul, vecdot = products.matmul, products.vecdot

_FAMILIES = (vars(elementwise), globals())

#: The operation of each ufunc. One operation often serves two names of NumPy: `np.asin` is `np.arcsin`.
OPERATIONS: dict[np.ufunc, Callable] = {
    getattr(np, name): operation
    for family in _FAMILIES
    for name, operation in family.items()
    if callable(operation) and isinstance(getattr(np, name, None), np.ufunc)
}
OPERATIONS |= SCIPY_UFUNCS


# Calls with more than inputs ---------------------------------------------------------------------------------------


def apply(ufunc: np.ufunc, method: str, inputs: tuple, options: dict[str, Any]) -> Any:
    """What `Tensor.__array_ufunc__` does where it is not a plain call of a ufunc in `OPERATIONS`.

    Raises:
        GradientError: the ufunc has no derivative here, and an input is recorded.
        TypeError: the method or an option is not supported.
    """
    operation = OPERATIONS.get(ufunc)
    name = name_of(ufunc)
    if operation is None:
        refuse(name, out=options.get("out"), method=None if method == "__call__" else method)
        return on_values(ufunc)(*inputs, **options)
    if method == "__call__":
        return _call(name, operation, inputs, options)
    handler = _METHODS.get(method)
    if handler is None or ufunc.nin != 2 or ufunc.nout != 1 or ufunc.signature is not None:
        raise TypeError(f"{name}.{method} is not supported on tensors")
    return handler(ufunc, f"{name}.{method}", operation, *inputs, **options)


def _call(name: str, operation: Callable, inputs: tuple, options: dict[str, Any]) -> Any:
    out, where, dtype = options.pop("out", None), options.pop("where", True), options.pop("dtype", None)
    casting = options.pop("casting", "same_kind")
    options = {key: value for key, value in options.items() if key not in ("order", "subok")}  # nothing they change
    refuse(name, **options)
    inputs = tuple(x if type(x) in PYTHON_SCALARS else in_dtype(name, x, dtype) for x in inputs)
    if where is True or is_default(where):
        result = operation(*inputs)
    else:
        result = _where(name, operation, inputs, where, out[0] if out else None)
    if out is None:
        return result
    if casting == "unsafe" and isinstance(out[0], Tensor):
        result = layout.astype(result, out[0].dtype)
    return _stored(name, out, result)


def _stored(name: str, out: tuple, result: Any) -> Any:
    if not isinstance(result, tuple):
        return into(out[0], result, name)
    return tuple(into(place, part, name) for place, part in zip(out, result, strict=True))


def _where(name: str, operation: Callable, inputs: tuple, where: Any, out: Any) -> Any:
    """The operation on the chosen elements only: what it would do to the others never enters a gradient.

    The others are those of `out`, and zeros where there is none.
    """
    mask = np.asarray(_raw(where))
    shape = np.broadcast_shapes(mask.shape, *(np.shape(_raw(x)) for x in inputs))
    mask = np.broadcast_to(mask, shape)
    chosen = operation(
        *(x if type(x) in PYTHON_SCALARS else layout.broadcast_to(as_operand(name, x), shape)[mask] for x in inputs)
    )
    if isinstance(chosen, tuple):
        raise TypeError(f"{name}: where= is not supported for a function with several results")
    result = creation.zeros(shape, chosen.dtype) if is_default(out) else elementwise.positive(out)
    result[mask] = chosen
    return result


# Methods of ufuncs: np.add.reduce and its like ---------------------------------------------------------------------

_REDUCTIONS: dict[np.ufunc, Callable] = {
    np.add: reductions.sum,
    np.multiply: reductions.prod,
    np.maximum: reductions.max,
    np.minimum: reductions.min,
    np.logical_and: reductions.all,
    np.logical_or: reductions.any,
}
_ACCUMULATIONS: dict[np.ufunc, Callable] = {np.add: reductions.cumsum, np.multiply: reductions.cumprod}


def _reduce(
    ufunc: np.ufunc, name: str, operation: Callable, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None,
    keepdims: Any = False, initial: Any = None, where: Any = True,
) -> Any:  # fmt: skip
    out = out[0] if isinstance(out, tuple) else out
    known = _REDUCTIONS.get(ufunc)
    options = {"dtype": dtype, "initial": initial, "where": None if where is True else where}
    given = {key: value for key, value in options.items() if not is_default(value)}
    if known is not None:
        return known(array, axis, out=out, keepdims=keepdims, **given)
    refuse(name, **given)
    array = as_operand(name, array)
    if ufunc is np.logaddexp:
        return into(out, network.logsumexp(array, axis, flag(keepdims)), name)
    axes = normalize_axes(axis, len(array.shape), name)
    y = array
    for i in axes:  # lengths stay 1 until the end, so that the other axes keep their numbers
        y = layout.expand_dims(_folded(name, operation, y, i)[-1], i)
    return into(out, y if flag(keepdims) else layout.squeeze(y, axes), name)


def _folded(name: str, operation: Callable, x: Any, axis: int) -> list[Any]:
    """The first slice along `axis`, that combined with the second, that with the third, ..."""
    slices = joining.unstack(x, axis)
    if not slices:
        raise ValueError(f"{name}: nothing to combine along axis {axis} of shape {tuple(x.shape)}")
    return list(running(slices, operation))


def _accumulate(
    ufunc: np.ufunc, name: str, operation: Callable, array: Any, axis: int = 0, dtype: Any = None, out: Any = None
) -> Any:
    out = out[0] if isinstance(out, tuple) else out
    known = _ACCUMULATIONS.get(ufunc)
    if known is not None:
        return known(array, axis, dtype, out)
    refuse(name, dtype=dtype)
    array = as_operand(name, array)
    axis = normalize_axis(axis, len(array.shape), name)
    return into(out, joining.stack(_folded(name, operation, array, axis), axis), name)


def _outer(ufunc: np.ufunc, name: str, operation: Callable, a: Any, b: Any, /, **options: Any) -> Any:
    a, b = as_operand(name, a), as_operand(name, b)
    a = layout.reshape(a, (*a.shape, *(1 for _ in b.shape)))
    return _call(name, operation, (a, b), options)


def _reduceat(
    ufunc: np.ufunc, name: str, operation: Callable, array: Any, indices: Any, axis: int = 0, dtype: Any = None,
    out: Any = None,
) -> Any:  # fmt: skip
    array = as_operand(name, array)
    axis = normalize_axis(axis, len(array.shape), name)
    starts = np.asarray(_raw(indices))
    stops = np.append(starts[1:], array.shape[axis])
    ahead = (slice(None),) * axis
    pieces = [array[(*ahead, slice(i, max(j, i + 1)))] for i, j in zip(starts, stops, strict=True)]
    reduced = [_reduce(ufunc, name, operation, piece, axis, dtype) for piece in pieces]
    return into(out[0] if isinstance(out, tuple) else out, joining.stack(reduced, axis), name)


def _at(ufunc: np.ufunc, name: str, operation: Callable, a: Any, indices: Any, b: Any = None) -> None:
    """Add to (or subtract from) chosen elements, once for each time they are named."""
    if ufunc not in (np.add, np.subtract) or b is None:
        raise TypeError(f"{name} is not supported on tensors; np.add.at and np.subtract.at are")
    index = indexing._clean(indices)
    shape = np.broadcast_to(np.empty(()), tuple(a.shape))[index].shape
    into(a, operation(a, indexing.scatter_add(layout.broadcast_to(b, shape), shape=tuple(a.shape), index=index)), name)


_METHODS: dict[str, Callable] = {
    "reduce": _reduce, "accumulate": _accumulate, "outer": _outer, "reduceat": _reduceat, "at": _at,
}  # fmt: skip
