"""Indexing: reading elements, assigning them, and gathering along an axis.

Reading is linear and its transpose is a scatter that adds, whose transpose is reading again. Assignment makes a new
value; `setitem` moves the handle to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.namespace import fast_numpy, is_array, namespace_of, tensor_namespace
from chainrule.core.primitive import Primitive, as_operand, linear
from chainrule.core.tensor import Tensor, _raw
from chainrule.ops.axes import normalize_axis
from chainrule.ops.layout import broadcast_to, reshape


def _through_numpy(xp: Any, function: Any, *arrays: Any) -> Any:
    """Run NumPy code on arrays of a library that has no such indexing."""
    return xp.asarray(function(*[np.array(np.from_dlpack(a)) if is_array(a) else a for a in arrays]))


def _scatter_add(xp: Any, g: Any, *, shape: tuple[int, ...], index: Any) -> Any:
    """Zeros of `shape` with `g` added at `index`; places named twice receive both."""
    if xp is not fast_numpy:
        if hasattr(xp, "verify"):
            return xp.scatter_add(g, shape=shape, index=index)
        return _through_numpy(xp, lambda a: _scatter_add(fast_numpy, a, shape=shape, index=index), g)
    y = np.zeros(shape, dtype=g.dtype)
    if _has_integer_array(index):
        np.add.at(y, index, g)
    else:
        y[index] = g  # slices, integers and masks name no place twice
    return y


def _has_integer_array(index: Any) -> bool:
    return any(getattr(i, "shape", None) is not None and i.dtype.kind in "iu" for i in index)


def _is_unread(array: Any) -> bool:
    """Whether nobody may look at an array's elements: it is being recorded for the compiler."""
    return not isinstance(array, np.ndarray) and is_array(array) and hasattr(namespace_of(array), "verify")


scatter_add: Primitive = linear(
    "scatter_add", _scatter_add, lambda xp, g, index: getitem_step.on(xp, g, index=index),
    text="scatter($g)", latex=r"\operatorname{scatter}($g)",
    local=[("g at the places scattered to", r"\delta \text{ at the places scattered to}")],
)  # fmt: skip


def _read(xp: Any, x: Any, *, index: Any) -> Any:
    if xp is fast_numpy:
        return x[index] if type(x) is np.ndarray else np.asarray(x)[index]
    if hasattr(xp, "verify"):  # a library with all of NumPy's indexing
        return x[index]
    if any(isinstance(i, np.ndarray) or (isinstance(i, slice) and (i.step or 1) < 0) for i in index):
        return _through_numpy(xp, lambda a: a[index].copy(), x)
    return x[index if Ellipsis in index else (*index, ...)]  # the standard wants every axis named


getitem_step: Primitive = linear(
    "getitem", _read, lambda xp, g, x_shape, index: scatter_add.on(xp, g, shape=x_shape, index=index),
    text="$x[$index]", latex="$x[$index]",
    local=[("g at [$index] of zeros", r"\delta \text{ at } [$index] \text{ of zeros}")],
)  # fmt: skip


def _update(xp: Any, x: Any, v: Any, *, index: Any) -> Any:
    """A copy of `x` with `v` at `index`."""
    if xp is not fast_numpy:
        if hasattr(xp, "updated"):
            return xp.updated(x, v, index=index)
        return _through_numpy(xp, lambda a, b: _update(fast_numpy, a, b, index=index), x, v)
    y = np.array(x)
    y[index] = v
    return y


def _update_value_rule(xp: Any, g: Any, x_shape: tuple[int, ...], index: Any) -> Any:
    g = getitem_step.on(xp, g, index=index)
    if not _has_integer_array(index):
        return g
    writer = np.full(x_shape, -1)  # of assignments to one place, the last stands
    order = np.arange(int(np.prod(g.shape, dtype=int))).reshape(g.shape)
    if any(_is_unread(part) for part in index):
        return xp.where(xp.updated(writer, order, index=index)[index] == order, g, 0)
    writer[index] = order
    last = writer[index] == order
    plain = xp is fast_numpy or xp is tensor_namespace
    return xp.where(last if plain else xp.asarray(last), g, 0)


update_step: Primitive = linear(
    "setitem", _update, lambda xp, g, index: update_step.on(xp, g, 0.0, index=index), _update_value_rule,
    text="$x with [$index] = $v", latex=r"$x \text{ with } [$index] = $v",
    local=[("g with [$index] = 0", r"\delta \text{ with } [$index] = 0"), ("g[$index]", r"\delta[$index]")],
)  # fmt: skip


def _clean(index: Any) -> tuple:
    """An index as a tuple of ints, slices, None, Ellipsis and NumPy arrays of our own."""
    parts = index if isinstance(index, tuple) else (index,)
    return tuple(_clean_part(part) for part in parts)


def _clean_part(part: Any) -> Any:
    if type(part) is int or part is None or part is Ellipsis:
        return part
    if isinstance(part, slice):
        return slice(*(None if edge is None else _whole(edge) for edge in (part.start, part.stop, part.step)))
    raw = _raw(part)
    if _is_unread(raw):
        return raw
    array = np.array(raw) if isinstance(raw, (np.ndarray, list, tuple, bool, np.bool_)) else np.asarray(raw)
    if isinstance(raw, (list, tuple)) and not raw:
        array = array.astype(np.intp)
    if array.dtype.kind not in "biu":
        raise IndexError(f"an index must be made of integers, booleans, slices, None or ..., got {array.dtype}")
    return int(array) if array.ndim == 0 and array.dtype.kind in "iu" else array


def _whole(edge: Any) -> int:
    return edge.__index__()


def getitem(x: Any, index: Any) -> Any:
    """`x[index]`, with NumPy's basic, integer-array and boolean indexing."""
    return getitem_step(as_operand("getitem", x), index=_clean(index))


def setitem(x: Tensor, index: Any, v: Any) -> None:
    """`x[index] = v`: the handle `x` moves to a new value with `v` in place.

    Raises:
        TypeError: a recorded value would be rounded to fit an integer tensor.
        GradientError: `x` is a leaf that requires a gradient and recording is on.
    """
    if isinstance(v, Tensor) and v._node is not None and "float" not in str(x.dtype):
        raise TypeError(f"setitem: a tensor of dtype {x.dtype} cannot hold a recorded value of dtype {v.dtype}")
    if not isinstance(v, (Tensor, float, int, bool)):
        v = as_operand("setitem", v)
    x._become(update_step(x, v, index=_clean(index)))


# Gathering along an axis -------------------------------------------------------------------------------------------


def _take(xp: Any, x: Any, *, indices: np.ndarray, axis: int) -> Any:
    if xp is fast_numpy:
        return np.take(x, indices, axis=axis)
    taken = xp.take(x, xp.asarray(indices.ravel()), axis=axis)
    return xp.reshape(taken, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


take_step = linear(
    "take",
    _take,
    lambda xp, g, x_shape, indices, axis: scatter_add.on(
        xp, g, shape=x_shape, index=(slice(None),) * axis + (indices,)
    ),
    text="take($x)", latex=r"\operatorname{take}($x)",
    local=[("g added at the places taken", r"\delta \text{ added at the places taken}")],
)  # fmt: skip


def take(x: Any, indices: Any, /, axis: int | None = None) -> Any:
    """The slices of `x` at `indices` along `axis` (of the flattened array for None)."""
    x = as_operand("take", x)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    axis = normalize_axis(axis, len(x.shape), "take")
    if _is_unread(_raw(indices)):
        return getitem(x, (*(slice(None),) * axis, indices))
    array = np.asarray(_raw(indices))
    if array.size == 0:
        array = array.astype(np.intp)
    if array.dtype.kind not in "iu":
        raise IndexError(f"take: indices must be integers, got {array.dtype}")
    n = x.shape[axis]
    if array.size and (array.min() < -n or array.max() >= n):
        raise IndexError(f"take: indices from {array.min()} to {array.max()} do not fit axis {axis} of length {n}")
    return take_step(x, indices=array % n if n else array, axis=axis)


def _along(indices: np.ndarray, axis: int) -> tuple:
    """The full index that names the same elements as `indices` along `axis`."""
    ndim = indices.ndim
    return tuple(
        indices if i == axis else np.arange(n).reshape([-1 if j == i else 1 for j in range(ndim)])
        for i, n in enumerate(indices.shape)
    )


def take_along_axis(x: Any, indices: Any, /, axis: int = -1) -> Any:
    """Elements of `x` at `indices`, an array of the same number of dimensions, along `axis`."""
    x = as_operand("take_along_axis", x)
    array = _raw(indices) if _is_unread(_raw(indices)) else np.asarray(_raw(indices))
    axis = normalize_axis(axis, len(x.shape), "take_along_axis")
    if array.dtype.kind not in "iu" or array.ndim != len(x.shape):
        raise IndexError(
            f"take_along_axis: indices must be integers with {len(x.shape)} dimensions, "
            f"got {array.dtype} of shape {array.shape}"
        )

    def spread(shape: tuple[int, ...], length: int) -> tuple[int, ...]:
        both = np.broadcast_shapes(
            tuple(1 if i == axis else n for i, n in enumerate(x.shape)),
            tuple(1 if i == axis else n for i, n in enumerate(array.shape)),
        )
        return tuple(length if i == axis else n for i, n in enumerate(both))

    array = np.broadcast_to(array, spread(array.shape, array.shape[axis]))
    wide = spread(tuple(x.shape), x.shape[axis])
    if tuple(x.shape) != wide:
        x = broadcast_to(x, wide)
    return getitem(x, _along(array, axis))
