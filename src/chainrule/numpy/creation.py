"""Tensors made from data, from a shape, from a range, or like another tensor, with NumPy's arguments.

What is made from nothing is in `chainrule.ops.creation`; here are the conversions, and NumPy's further arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.namespace import namespace_of
from chainrule.core.primitive import as_operand
from chainrule.core.tensor import Tensor, _raw, tensor
from chainrule.numpy.arguments import in_dtype, refuse
from chainrule.ops import creation, elementwise, joining, layout

arange, eye, zeros, ones, full, empty = (
    creation.arange, creation.eye, creation.zeros, creation.ones, creation.full, creation.empty,
)  # fmt: skip

# From data ---------------------------------------------------------------------------------------------------------


def asarray(obj: Any, /, dtype: Any = None, *, device: Any = None, copy: bool | None = None) -> Any:
    """`obj` as a tensor.

    Args:
        obj: a tensor, which is returned as it is; an array, a number or a (nested) list of those, which are copied,
            so that the caller's later changes do not reach the tensor.
        dtype: of the result (default: that of `obj`).
        device: where to; only where the value already is.
        copy: True for a tensor of its own also where `obj` is one.

    Raises:
        ValueError: `copy=False` where a copy must be made.
        TypeError: `obj` is not made of real numbers or booleans.
    """
    refuse("asarray", device=None if device in ("cpu", getattr(_raw(obj), "device", "cpu")) else device)
    if not isinstance(obj, Tensor):
        if copy is False:
            raise ValueError("asarray: a tensor never shares memory with what it is made from; leave copy=False out")
        if not holds_tensor(obj):
            return tensor(obj, dtype)
        obj = joining.stack([asarray(part) for part in obj])
    converted = in_dtype("asarray", obj, dtype)
    return elementwise.positive(obj) if copy and converted is obj else converted


def holds_tensor(value: Any) -> bool:
    """Whether `value` is a tensor or a (nested) list with one in it."""
    return isinstance(value, Tensor) or (isinstance(value, (list, tuple)) and any(map(holds_tensor, value)))


def array(
    object: Any, dtype: Any = None, *, copy: bool | None = True, order: str = "K", subok: bool = False,
    ndmin: int = 0, device: Any = None,
) -> Any:  # fmt: skip
    """`object` as a tensor of its own, with axes of length 1 in front where it has fewer than `ndmin`."""
    made = asarray(object, dtype, device=device, copy=copy)
    missing = ndmin - len(made.shape)
    return layout.reshape(made, (1,) * missing + tuple(made.shape)) if missing > 0 else made


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Any:
    """A tensor with a copy of an array of another library."""
    return x if isinstance(x, Tensor) else asarray(x if hasattr(x, "shape") else np.from_dlpack(x), device=device)


# Like another tensor ------------------------------------------------------------------------------------------------


def zeros_like(
    a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, *, device: Any = None
) -> Any:
    """Zeros of the dtype and shape of `a`, or of another one."""
    return full_like(a, 0, dtype, order, subok, shape, device=device)


def ones_like(
    a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, *, device: Any = None
) -> Any:
    """Ones of the dtype and shape of `a`, or of another one."""
    return full_like(a, 1, dtype, order, subok, shape, device=device)


#: What is in an empty array is nobody's promise; zeros are the same every time.
empty_like = zeros_like


def full_like(
    a: Any, fill_value: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, *,
    device: Any = None,
) -> Any:  # fmt: skip
    """`fill_value` in every place of a tensor of the dtype and shape of `a`, or of another one."""
    a = as_operand("full_like", a)
    if shape is None or tuple(np.atleast_1d(shape)) == tuple(a.shape):
        return creation.full_like(a, fill_value, dtype, device=device)
    return creation.full(shape, fill_value, a.dtype if dtype is None else dtype, device=device)


# From a range and a shape -------------------------------------------------------------------------------------------


def linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None,
    axis: int = 0, *, device: Any = None,
) -> Any:  # fmt: skip
    """`num` evenly spaced values from `start` to `stop`, along a new axis where those are arrays.

    `retstep` asks for the spacing too: the result is (values, spacing) then.
    """
    values = creation.linspace(start, stop, num, endpoint=endpoint, dtype=dtype, device=device)
    if axis != 0:
        values = layout.moveaxis(values, 0, axis)
    if not retstep:
        return values
    gaps = num - 1 if endpoint else num
    return values, (elementwise.divide(elementwise.subtract(stop, start), gaps) if gaps > 0 else nan_like(values))


def nan_like(x: Any) -> Any:
    """A single NaN of the dtype of `x`."""
    return Tensor(namespace_of(_raw(x)).asarray(np.nan, dtype=x.dtype))


def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> tuple[Any, ...]:
    """One array per vector: its values along its own axis, copied along the axes of the others."""
    refuse("meshgrid", sparse=sparse)
    return tuple(creation.meshgrid(*xi, indexing=indexing))


def identity(n: int, dtype: Any = None) -> Any:
    """The n × n identity matrix."""
    return creation.eye(n, dtype=dtype)


def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Any:
    """Ones on and below diagonal `k` of an N × M matrix, zeros above."""
    return layout.tril(creation.ones((N, N if M is None else M), dtype), k)


__all__ = [
    *("asarray", "array", "from_dlpack", "zeros", "ones", "full", "empty", "eye", "identity", "tri"),
    *("zeros_like", "ones_like", "full_like", "empty_like", "arange", "linspace", "meshgrid"),
]
