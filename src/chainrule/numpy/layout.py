"""NumPy's functions that put the same elements into another shape, order or array.

The derivatives are in `chainrule.ops.layout` and `chainrule.ops.joining`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.core.primitive import as_operand
from chainrule.numpy.arguments import in_dtype, into, named, plain, refuse
from chainrule.ops import elementwise, joining, layout, linalg

# Shape -------------------------------------------------------------------------------------------------------------


def reshape(a: Any, /, shape: Any, order: str = "C", *, copy: Any = None) -> Any:
    """The elements of `a` in a new shape; one length may be −1.

    Orders "C", "A" and "K" let the last axis run fastest (the memory layout behind a tensor has no meaning), "F" the
    first. `copy` makes no difference: a tensor's value is never changed in place.
    """
    if order not in ("C", "F", "A", "K"):
        raise ValueError(f"reshape: order must be 'C', 'F', 'A' or 'K', got {order!r}")
    if order == "F":
        lengths = tuple(shape)[::-1] if isinstance(shape, (tuple, list)) else shape
        return transpose(layout.reshape(transpose(a), lengths))
    return layout.reshape(a, shape)


def ravel(a: Any, order: str = "C") -> Any:
    """The elements of `a` as a vector, the last axis running fastest, or with order "F" the first."""
    return reshape(a, (-1,), order)


expand_dims = named(layout.expand_dims, np.expand_dims)
squeeze = named(layout.squeeze, np.squeeze)


def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Any:
    """`array` stretched to `shape`."""
    return layout.broadcast_to(array, shape)


def broadcast_arrays(*args: Any, subok: bool = False) -> tuple[Any, ...]:
    """All arrays stretched to the shape they have in common."""
    return tuple(layout.broadcast_arrays(*args))


atleast_1d, atleast_2d, atleast_3d = layout.atleast_1d, layout.atleast_2d, layout.atleast_3d

# Order -------------------------------------------------------------------------------------------------------------


def transpose(a: Any, axes: Any = None) -> Any:
    """The axes of `a` reversed, or in the order `axes`."""
    a = as_operand("transpose", a)
    return layout.permute_dims(a, range(len(a.shape))[::-1] if axes is None else axes)


permute_dims = transpose
swapaxes = named(layout.swapaxes, np.swapaxes)
moveaxis = named(layout.moveaxis, np.moveaxis)
matrix_transpose = named(layout.matrix_transpose, np.matrix_transpose)
flip = named(layout.flip, np.flip)
roll = named(layout.roll, np.roll)
rot90 = named(layout.rot90, np.rot90)

# Joining and taking apart ------------------------------------------------------------------------------------------


def concatenate(
    arrays: Sequence[Any], /, axis: int | None = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind"
) -> Any:
    """Arrays joined along an existing axis (flattened first for None)."""
    return _joined("concatenate", joining.concat(_listed(arrays), axis), out, dtype, casting)


concat = concatenate


def stack(
    arrays: Sequence[Any], axis: int = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind"
) -> Any:
    """Arrays of one shape joined along a new axis."""
    return _joined("stack", joining.stack(_listed(arrays), axis), out, dtype, casting)


def hstack(tup: Sequence[Any], *, dtype: Any = None, casting: str = "same_kind") -> Any:
    """Arrays joined along the second axis; vectors end to end."""
    return _joined("hstack", joining.hstack(_listed(tup)), None, dtype, casting)


def vstack(tup: Sequence[Any], *, dtype: Any = None, casting: str = "same_kind") -> Any:
    """Arrays joined along the first axis, vectors as rows."""
    return _joined("vstack", joining.vstack(_listed(tup)), None, dtype, casting)


def _listed(arrays: Any) -> list[Any]:
    """The arrays to join; an array's slices along its first axis where one array was given, as NumPy has it."""
    return list(joining.unstack(arrays)) if hasattr(arrays, "shape") else list(arrays)


def _joined(name: str, y: Any, out: Any, dtype: Any, casting: str) -> Any:
    refuse(name, casting=None if casting in ("same_kind", "unsafe") else casting)
    return into(out, in_dtype(name, y, dtype), name)


dstack = named(joining.dstack, np.dstack)
column_stack = named(joining.column_stack, np.column_stack)


def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """`ary` cut along `axis` into equal pieces, or at the places given."""
    return list(joining.split(ary, indices_or_sections, axis))


def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """`ary` cut along `axis` into pieces that differ in length by at most one, or at the places given."""
    return list(joining.array_split(ary, indices_or_sections, axis))


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    """The slices of `x` along `axis`, without that axis."""
    return joining.unstack(x, axis)


# Repeating and padding ---------------------------------------------------------------------------------------------

tile = named(joining.tile, np.tile)


def repeat(a: Any, repeats: Any, axis: int | None = None) -> Any:
    """Every element along `axis` (of the flattened array for None) `repeats` times in a row."""
    return joining.repeat(a, plain("repeat", "repeats", repeats), axis)


def pad(array: Any, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0, **options: Any) -> Any:
    """`array` with elements added before and after along each axis."""
    refuse("pad", **options)
    if not isinstance(mode, str):
        raise TypeError("pad: a function as mode is not supported on tensors")
    return joining.pad(array, pad_width, mode, constant_values=plain("pad", "constant_values", constant_values))


# Triangles and diagonals -------------------------------------------------------------------------------------------

tril = named(layout.tril, np.tril)
triu = named(layout.triu, np.triu)
diag = named(joining.diag, np.diag)


def diagflat(v: Any, k: int = 0) -> Any:
    """The matrix with the elements of `v` on diagonal `k`."""
    return joining.diag(layout.ravel(v), k)


def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """Diagonal `offset` of each matrix over the two axes, along a new last axis."""
    return linalg.diagonal(layout.moveaxis(a, (axis1, axis2), (-2, -1)), offset=offset)


def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    """The sum of diagonal `offset` of each matrix over the two axes."""
    y = linalg.trace(layout.moveaxis(a, (axis1, axis2), (-2, -1)), offset=offset, dtype=dtype)
    return into(out, y, "trace")


# Dtype -------------------------------------------------------------------------------------------------------------


def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    """`x` converted to `dtype`. Between floating types the gradient flows; integers and booleans carry none."""
    refuse("astype", device=None if device == "cpu" else device)
    converted = in_dtype("astype", x, dtype)
    return elementwise.positive(x) if copy and converted is x else converted


def copy(a: Any, order: str = "K", subok: bool = False) -> Any:
    """A tensor of its own with the value of `a`, which an assignment to `a` does not change."""
    return elementwise.positive(a)


def real(val: Any) -> Any:
    """`val` itself, as all tensors are real."""
    return val


def imag(val: Any) -> Any:
    """Zeros, as all tensors are real."""
    val = as_operand("imag", val)
    return elementwise.multiply(val, 0)


__all__ = [
    *("reshape", "ravel", "expand_dims", "squeeze", "broadcast_to", "broadcast_arrays"),
    *("atleast_1d", "atleast_2d", "atleast_3d"),
    *("transpose", "permute_dims", "swapaxes", "moveaxis", "matrix_transpose", "flip", "roll", "rot90"),
    *("concatenate", "concat", "stack", "hstack", "vstack", "dstack", "column_stack"),
    *("split", "array_split", "unstack", "tile", "repeat", "pad"),
    *("tril", "triu", "diag", "diagflat", "diagonal", "trace"),
    *("astype", "copy", "real", "imag"),
]
