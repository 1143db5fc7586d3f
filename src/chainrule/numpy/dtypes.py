"""Dtypes, constants and questions about dtypes, for tensors over any array library.

Complex dtypes are left out: chainrule differentiates real functions only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import (  # noqa: F401
    bool,
    broadcast_shapes,
    e,
    euler_gamma,
    float16,
    float32,
    float64,
    inf,
    int8,
    int16,
    int32,
    int64,
    nan,
    newaxis,
    pi,
    uint8,
    uint16,
    uint32,
    uint64,
)

from chainrule.core.namespace import dtype_namespace, fast_numpy, is_array, namespace_of
from chainrule.core.tensor import _raw


def finfo(type: Any, /) -> Any:
    """The limits of a floating point dtype, given itself or as an array's."""
    return _limits("finfo", type)


def iinfo(type: Any, /) -> Any:
    """The limits of an integer dtype, given itself or as an array's."""
    return _limits("iinfo", type)


def _limits(name: str, kind: Any) -> Any:
    dtype = _dtype_of(kind)
    return getattr(dtype_namespace(dtype), name)(dtype)


def _dtype_of(x: Any) -> Any:
    raw = _raw(x)
    return raw if isinstance(raw, type) or not is_array(raw) else raw.dtype


def dtype_in(xp: Any, dtype: Any) -> Any:
    """The dtype of the namespace `xp` with the name of a NumPy dtype; other dtypes, and all in NumPy, as they are."""
    if xp is fast_numpy or not isinstance(dtype, (np.dtype, type)):
        return dtype
    return getattr(xp, np.dtype(dtype).name, dtype)


def isdtype(dtype: Any, kind: Any) -> Any:
    """Whether `dtype` is of a kind: a dtype, a word such as "real floating" or "integral", or a tuple of them."""
    return dtype_namespace(dtype).isdtype(dtype, kind)


def result_type(*arrays_and_dtypes: Any) -> Any:
    """The dtype that an operation on these arrays, dtypes and Python numbers has."""
    raws = [_raw(x) for x in arrays_and_dtypes]
    array = next((x for x in raws if not isinstance(x, type) and is_array(x)), None)
    xp = namespace_of(array) if array is not None else dtype_namespace(raws[0] if raws else None)
    return xp.result_type(*(dtype_in(xp, x) for x in raws))


def can_cast(from_: Any, to: Any, casting: str = "safe") -> Any:
    """Whether a value of an array's dtype, or of a dtype, can be stored in the dtype `to` by the rules of `casting`."""
    dtype = _dtype_of(from_)
    if isinstance(to, (np.dtype, type)):
        return np.can_cast(dtype, to, casting)  # type: ignore[arg-type]
    return dtype_namespace(to).can_cast(dtype, to)


class NamespaceInfo:
    """What `__array_namespace_info__()` returns: the inspection functions of the array API standard."""

    def capabilities(self) -> dict[str, Any]:
        """What the standard leaves open, and is here."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        """Where arrays are made unless told otherwise."""
        return "cpu"

    def devices(self) -> list[str]:
        """The devices that NumPy's arrays, the default values of tensors, may be on."""
        return ["cpu"]

    def default_dtypes(self, *, device: Any = None) -> dict[str, Any]:
        """The dtypes that arrays have unless told otherwise; complex ones are not supported."""
        kinds = np.__array_namespace_info__().default_dtypes(device=device)
        return {kind: dtype for kind, dtype in kinds.items() if "complex" not in kind}

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, Any]:
        """The dtypes by name, all or those of a kind."""
        found = np.__array_namespace_info__().dtypes(device=device, kind=kind)
        return {name: dtype for name, dtype in found.items() if "complex" not in name}


__all__ = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "e", "euler_gamma", "inf", "nan", "newaxis", "pi"),
    *("broadcast_shapes", "can_cast", "finfo", "iinfo", "isdtype", "result_type"),
]
