"""Checks that several modules share: of the sizes they are made with and of the inputs they are called with."""

from __future__ import annotations

from operator import index
from typing import Any

from chainrule.core.namespace import namespace_of
from chainrule.core.primitive import as_operand
from chainrule.core.tensor import Tensor, _raw


def as_size(name: str, size: Any) -> int:
    """`size` as an int.

    Raises:
        TypeError: it is not an integer.
        ValueError: it is less than 1.
    """
    try:
        size = index(size)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {size!r}") from None
    if size < 1:
        raise ValueError(f"{name} must be at least 1, got {size}")
    return size


def as_probability(name: str, p: Any) -> float:
    """`p` as a float.

    Raises:
        ValueError: it is not in [0, 1].
    """
    if not 0 <= p <= 1:
        raise ValueError(f"{name} must be a probability, from 0 to 1, got {p}")
    return float(p)


def matching(name: str, x: Any, parameter: Tensor) -> Any:
    """`x` if it has the dtype of `parameter`; Python numbers and lists are converted to it.

    Raises:
        TypeError: `x` is an array of another dtype: computing on would promote silently, or fail later.
    """
    dtype = parameter.dtype
    if not hasattr(x, "dtype"):
        return namespace_of(_raw(parameter)).asarray(as_operand(name, x), dtype=dtype)
    if x.dtype == dtype:
        return x
    other = f", or the network, as in model.to({str(x.dtype)!r})" if "float" in str(x.dtype) else ""
    raise TypeError(
        f"{name}: the parameters are {dtype}, the input is {x.dtype} (shape {tuple(x.shape)}). "
        f"Convert the input, as in x.astype({str(dtype)!r}){other}"
    )
