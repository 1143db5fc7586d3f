"""Layout: the same elements in another shape, order, place or dtype.

Everything here is linear: each operation is its value and its transpose. Arrays put together or taken apart
are in `joining`, arrays made from nothing in `creation`.
"""

from __future__ import annotations

import math
from operator import index
from typing import Any

import numpy as np

from chainrule.core.primitive import as_operand, linear
from chainrule.ops.axes import normalize_axes, normalize_axis

_reshape = linear(
    "reshape", lambda xp, x, *, shape: xp.reshape(x, shape), lambda xp, g, x_shape: xp.reshape(g, x_shape),
    local=[("g in the shape of $x", r"\delta \text{ in the shape of } $x")],
)  # fmt: skip
_permute_dims = linear(
    "permute_dims",
    lambda xp, x, *, axes: xp.permute_dims(x, axes),
    lambda xp, g, axes: xp.permute_dims(g, tuple(axes.index(i) for i in range(len(axes)))),
    text="transpose($x)", latex=r"{$x}^\top", local=[("gᵀ", r"\delta^\top")],
)  # fmt: skip
_broadcast_to = linear(
    "broadcast_to",
    lambda xp, x, *, shape: xp.broadcast_to(x, shape),
    lambda g: g,  # the walk sums to shape
    local=[("Σ g", r"\textstyle\sum \delta")],
)  # fmt: skip
_astype = linear(
    "astype", lambda xp, x, *, dtype: xp.astype(x, dtype), lambda g: g,  # the walk casts back
    local=[("1", "1")],
)  # fmt: skip
_flip = linear(
    "flip", lambda xp, x, *, axis: xp.flip(x, axis=axis), lambda xp, g, axis: xp.flip(g, axis=axis),
    local=[("flip(g)", r"\operatorname{flip}(\delta)")],
)  # fmt: skip
_roll = linear(
    "roll",
    lambda xp, x, *, shift, axis: xp.roll(x, shift, axis=axis),
    lambda xp, g, shift, axis: xp.roll(g, tuple(-s for s in shift), axis=axis),
    local=[("roll⁻¹(g)", r"\operatorname{roll}^{-1}(\delta)")],
)  # fmt: skip
_tril = linear(
    "tril",
    lambda xp, x, *, diagonal: xp.tril(x, k=diagonal),
    lambda xp, g, diagonal: xp.tril(g, k=diagonal),
    local=[("tril(g)", r"\operatorname{tril}(\delta)")],
)  # fmt: skip
_triu = linear(
    "triu",
    lambda xp, x, *, diagonal: xp.triu(x, k=diagonal),
    lambda xp, g, diagonal: xp.triu(g, k=diagonal),
    local=[("triu(g)", r"\operatorname{triu}(\delta)")],
)  # fmt: skip

# Shape ------------------------------------------------------------------------------------------------------


def reshape(x: Any, /, shape: Any, order: str = "C") -> Any:
    """The elements of `x` in a new shape; one length may be −1. Only C order is supported."""
    if order not in ("C", "A"):
        raise ValueError(f"reshape: order {order!r} is not supported, only 'C'; transpose before and after instead")
    x = as_operand("reshape", x)
    wanted = tuple(index(n) for n in shape) if isinstance(shape, (tuple, list)) else (index(shape),)
    size = math.prod(x.shape)
    shape = _with_length_found(wanted, size)
    if math.prod(shape) != size or any(n < 0 for n in shape):
        raise ValueError(f"reshape: cannot put an array of shape {tuple(x.shape)} into shape {wanted}")
    return _reshape(x, shape=shape)


def _with_length_found(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """`shape` with its one −1 replaced by the length that makes `size` elements, where there is one."""
    if shape.count(-1) != 1:
        return shape
    known = -math.prod(shape)
    return tuple((size // known if known else 0) if n == -1 else n for n in shape)


def ravel(x: Any, /, order: str = "C") -> Any:
    """The elements of `x` as a vector, the last axis running fastest."""
    return reshape(x, (-1,), order)


def expand_dims(x: Any, /, axis: Any = 0) -> Any:
    """New axes of length 1 at the places `axis` of the result."""
    x = as_operand("expand_dims", x)
    places = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    axes = normalize_axes(places, len(x.shape) + len(places), "expand_dims")
    rest = iter(x.shape)
    shape = tuple(1 if i in axes else next(rest) for i in range(len(x.shape) + len(axes)))
    return _reshape(x, shape=shape)


def squeeze(x: Any, /, axis: Any = None) -> Any:
    """Axes of length 1 removed: those named, or all of them for None."""
    x = as_operand("squeeze", x)
    shape = tuple(x.shape)
    if axis is None:
        axes = tuple(i for i, n in enumerate(shape) if n == 1)
    else:
        axes = normalize_axes(axis, len(shape), "squeeze")
    if any(shape[i] != 1 for i in axes):
        raise ValueError(f"squeeze: cannot remove axes {axes} of shape {shape}; they are not all of length 1")
    return _reshape(x, shape=tuple(n for i, n in enumerate(shape) if i not in axes))


def atleast_1d(*arrays: Any) -> Any:
    """Arrays of at least one axis: scalars become vectors of length 1. One array, or a tuple for several."""
    return _each(arrays, "atleast_1d", lambda shape: shape or (1,))


def atleast_2d(*arrays: Any) -> Any:
    """Arrays of at least two axes: vectors become rows. One array, or a tuple for several."""
    return _each(arrays, "atleast_2d", lambda shape: (1,) * (2 - len(shape)) + shape)


def atleast_3d(*arrays: Any) -> Any:
    """Arrays of at least three axes: (n,) becomes (1, n, 1) and (m, n) becomes (m, n, 1), as in NumPy."""

    def shape_3d(shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if len(shape) > 2 else (*((1,) * (2 - len(shape))), *shape, 1)

    return _each(arrays, "atleast_3d", shape_3d)


def _each(arrays: tuple, name: str, new_shape: Any) -> Any:
    arrays = tuple(as_operand(name, x) for x in arrays)
    reshaped = tuple(_reshape(x, shape=new_shape(tuple(x.shape))) for x in arrays)
    return reshaped[0] if len(reshaped) == 1 else reshaped


def broadcast_to(x: Any, /, shape: Any) -> Any:
    """`x` stretched to `shape` by NumPy's broadcasting."""
    x = as_operand("broadcast_to", x)
    shape = tuple(index(n) for n in shape) if isinstance(shape, (tuple, list)) else (index(shape),)
    aligned = shape[len(shape) - len(x.shape) :]
    if len(x.shape) > len(shape) or any(m not in (1, n) for m, n in zip(x.shape, aligned, strict=True)):
        raise ValueError(f"broadcast_to: cannot stretch an array of shape {tuple(x.shape)} to shape {shape}")
    return _broadcast_to(x, shape=shape)


def broadcast_arrays(*arrays: Any) -> list[Any]:
    """All arrays stretched to the shape they have in common."""
    operands = [as_operand("broadcast_arrays", x) for x in arrays]
    try:
        shape = np.broadcast_shapes(*(tuple(x.shape) for x in operands))
    except ValueError:
        shapes = ", ".join(str(tuple(x.shape)) for x in operands)
        raise ValueError(f"broadcast_arrays: shapes {shapes} do not fit together") from None
    return [_broadcast_to(x, shape=shape) for x in operands]


# Order ------------------------------------------------------------------------------------------------------


def permute_dims(x: Any, /, axes: Any) -> Any:
    """The axes of `x` in the order `axes`."""
    x = as_operand("permute_dims", x)
    ndim = len(x.shape)
    axes = normalize_axes(tuple(axes), ndim, "permute_dims")
    if len(axes) != ndim:
        raise ValueError(f"permute_dims: {len(axes)} axes given for an array of {ndim} dimensions")
    return _permute_dims(x, axes=axes)


def matrix_transpose(x: Any, /) -> Any:
    """The last two axes exchanged."""
    x = as_operand("matrix_transpose", x)
    n = len(x.shape)
    if n < 2:
        raise ValueError(f"matrix_transpose: needs at least 2 dimensions, got shape {tuple(x.shape)}")
    return _permute_dims(x, axes=(*range(n - 2), n - 1, n - 2))


def swapaxes(x: Any, axis1: int, axis2: int, /) -> Any:
    """Two axes exchanged."""
    x = as_operand("swapaxes", x)
    order = list(range(len(x.shape)))
    i, j = (normalize_axis(axis, len(order), "swapaxes") for axis in (axis1, axis2))
    order[i], order[j] = j, i
    return _permute_dims(x, axes=tuple(order))


def moveaxis(x: Any, source: Any, destination: Any, /) -> Any:
    """Axes `source` moved to the places `destination`, the others in their order."""
    x = as_operand("moveaxis", x)
    ndim = len(x.shape)
    source = normalize_axes(source, ndim, "moveaxis")
    destination = normalize_axes(destination, ndim, "moveaxis")
    if len(source) != len(destination):
        raise ValueError(f"moveaxis: {len(source)} source axes and {len(destination)} destinations")
    order = [i for i in range(ndim) if i not in source]
    for place, axis in sorted(zip(destination, source, strict=True)):
        order.insert(place, axis)
    return _permute_dims(x, axes=tuple(order))


def flip(x: Any, /, axis: Any = None) -> Any:
    """The order of elements reversed along `axis` (all axes for None)."""
    x = as_operand("flip", x)
    return _flip(x, axis=normalize_axes(axis, len(x.shape), "flip"))


def roll(x: Any, /, shift: Any, axis: Any = None) -> Any:
    """Elements moved along `axis` by `shift` places, those that fall off coming back at the other end."""
    x = as_operand("roll", x)
    if axis is None:
        return reshape(roll(ravel(x), shift, 0), x.shape)
    axes = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    axes = tuple(normalize_axis(a, len(x.shape), "roll") for a in axes)
    shifts = tuple(shift) if isinstance(shift, (tuple, list)) else (shift,)
    if len(shifts) != len(axes):  # one of them serves all of the other
        if 1 not in (len(shifts), len(axes)):
            raise ValueError(f"roll: {len(shifts)} shifts given for {len(axes)} axes")
        axes, shifts = axes * len(shifts), shifts * len(axes)
    return _roll(x, shift=tuple(index(s) for s in shifts), axis=axes)


def rot90(x: Any, /, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Any:
    """`x` turned by `k` quarters, from the first towards the second of `axes`."""
    x = as_operand("rot90", x)
    first, second = normalize_axes(tuple(axes), len(x.shape), "rot90")
    k = index(k) % 4
    if k == 2:
        return flip(x, (first, second))
    if k == 1:
        return swapaxes(flip(x, second), first, second)
    return flip(swapaxes(x, first, second), second) if k == 3 else flip(x, ())


# Place and dtype --------------------------------------------------------------------------------------------


def tril(x: Any, /, k: int = 0) -> Any:
    """The last two axes' lower triangles, up to diagonal `k`; zeros above."""
    return _tril(_matrices("tril", x), diagonal=index(k))


def triu(x: Any, /, k: int = 0) -> Any:
    """The last two axes' upper triangles, from diagonal `k`; zeros below."""
    return _triu(_matrices("triu", x), diagonal=index(k))


def _matrices(name: str, x: Any) -> Any:
    x = as_operand(name, x)
    if len(x.shape) < 2:
        raise ValueError(f"{name}: needs at least 2 dimensions, got shape {tuple(x.shape)}")
    return x


def astype(x: Any, dtype: Any, /, copy: bool = True) -> Any:
    """`x` converted to `dtype`. Between floating types the gradient flows; others carry none."""
    return _astype(x, dtype=dtype)
