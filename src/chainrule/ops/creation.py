"""Arrays made from a shape, a range, or like another array.

They carry no gradient, except where a value put into them does: `linspace` between recorded ends, `full` of a
recorded number.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.namespace import PYTHON_SCALARS, dtype_namespace, is_array, namespace_of
from chainrule.core.primitive import as_operand
from chainrule.core.tensor import Tensor, _raw
from chainrule.ops.layout import astype, broadcast_arrays, broadcast_to, reshape

# Like another array -----------------------------------------------------------------------------------------


def zeros_like(x: Any, /, dtype: Any = None, *, device: Any = None) -> Tensor:
    """Zeros of the shape and dtype of `x`."""
    raw = _raw(as_operand("zeros_like", x))
    return Tensor(namespace_of(raw).zeros_like(raw, dtype=dtype, device=device))


def ones_like(x: Any, /, dtype: Any = None, *, device: Any = None) -> Tensor:
    """Ones of the shape and dtype of `x`."""
    raw = _raw(as_operand("ones_like", x))
    return Tensor(namespace_of(raw).ones_like(raw, dtype=dtype, device=device))


def full_like(x: Any, /, fill_value: Any, dtype: Any = None, *, device: Any = None) -> Any:
    """`fill_value` in the shape and dtype of `x`."""
    raw = _raw(as_operand("full_like", x))
    if isinstance(fill_value, Tensor):
        return _filled(raw.shape, fill_value, raw.dtype if dtype is None else dtype)
    return Tensor(namespace_of(raw).full_like(raw, fill_value, dtype=dtype, device=device))


def _filled(shape: Any, fill_value: Tensor, dtype: Any) -> Any:
    return broadcast_to(fill_value if dtype is None else astype(fill_value, dtype), shape)


# From a shape, of the library that `dtype` belongs to (NumPy by default) ------------------------------------


def zeros(shape: Any, dtype: Any = None, *, device: Any = None) -> Tensor:
    """Zeros of `shape`."""
    return Tensor(dtype_namespace(dtype).zeros(shape, dtype=dtype, device=device))


def ones(shape: Any, dtype: Any = None, *, device: Any = None) -> Tensor:
    """Ones of `shape`."""
    return Tensor(dtype_namespace(dtype).ones(shape, dtype=dtype, device=device))


def full(shape: Any, fill_value: Any, dtype: Any = None, *, device: Any = None) -> Any:
    """`fill_value` in every place of `shape`."""
    if isinstance(fill_value, Tensor):
        return _filled(shape, fill_value, dtype)
    return Tensor(dtype_namespace(dtype).full(shape, fill_value, dtype=dtype, device=device))


#: What is in an empty array is nobody's promise; zeros are the same every time.
empty, empty_like = zeros, zeros_like


def eye(n: int, m: int | None = None, /, k: int = 0, dtype: Any = None, *, device: Any = None) -> Tensor:
    """Ones on diagonal `k` of an n × m matrix (n × n for None), zeros elsewhere."""
    xp = dtype_namespace(dtype)
    return Tensor(xp.eye(n, n if m is None else m, k=k, dtype=dtype, device=device))


# From a range -----------------------------------------------------------------------------------------------


def arange(
    start: float, /, stop: float | None = None, step: float = 1, dtype: Any = None, *, device: Any = None
) -> Tensor:
    """Evenly spaced values in [start, stop), or in [0, start) where no stop is given."""
    first, last = (0, start) if stop is None else (start, stop)
    return Tensor(dtype_namespace(dtype).arange(first, last, step, dtype=dtype, device=device))


def linspace(
    start: Any, stop: Any, /, num: int = 50, *, endpoint: bool = True, dtype: Any = None, device: Any = None
) -> Any:
    """`num` evenly spaced values from `start` to `stop`, which is the last of them if `endpoint`.

    Args:
        start: first value, a number or an array.
        stop: last value, a number or an array. Where an end is an array, values run along a new first axis.
        num: how many.
        endpoint: whether `stop` is among them.
        dtype: of the result.
        device: to make it on, where both ends are numbers.
    """
    if num < 0:
        raise ValueError(f"linspace: the number of values must not be negative, got {num}")
    ends = _raw(start), _raw(stop)
    if not any(is_array(end) for end in ends):
        xp = dtype_namespace(dtype)
        return Tensor(xp.linspace(start, stop, num, dtype=dtype, endpoint=endpoint, device=device))
    xp = namespace_of(*ends)
    weights = np.arange(num) / max(num - bool(endpoint), 1)
    column = (num, *(1 for _ in np.broadcast_shapes(*map(np.shape, ends))))
    kind = xp.result_type(*ends)
    kind = kind if xp.isdtype(kind, "real floating") else xp.float64
    of_stop = Tensor(xp.asarray(weights.reshape(column), dtype=kind))
    of_start = Tensor(xp.asarray(1 - weights.reshape(column), dtype=kind))
    first, last = (end if type(end) in PYTHON_SCALARS else astype(end, kind) for end in (start, stop))
    values = first * of_start + last * of_stop
    return values if dtype is None else astype(values, dtype)


def meshgrid(*arrays: Any, indexing: str = "xy") -> list[Any]:
    """One array per vector: its values along its own axis, copied along the axes of the others.

    Args:
        arrays: vectors.
        indexing: "ij" gives the first vector the first axis; "xy" exchanges the first two, as for pictures.
    """
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing must be 'xy' or 'ij', got {indexing!r}")
    vectors = [as_operand("meshgrid", x) for x in arrays]
    if any(len(x.shape) > 1 for x in vectors):
        raise ValueError(f"meshgrid: needs vectors, got shapes {', '.join(str(tuple(x.shape)) for x in vectors)}")
    places = list(range(len(vectors)))
    if indexing == "xy" and len(places) > 1:
        places[:2] = [1, 0]
    return broadcast_arrays(
        *(
            reshape(x, [-1 if i == place else 1 for i in range(len(places))])
            for x, place in zip(vectors, places, strict=True)
        )
    )
