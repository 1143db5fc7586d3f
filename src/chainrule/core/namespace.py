"""Which array namespace (`xp`) a value belongs to.

Rules and value code are written against the Python array API and are handed the namespace of whatever they run
on. This file holds that lookup, the NumPy fast path and the slot for the namespace of `Tensor` itself, which
`chainrule.ops` fills. It knows no operation and no derivative.
"""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import array_api_compat
import numpy as np

from chainrule.core.blank import Blank


def _astype(x: Any, dtype: Any, copy: bool = True) -> Any:
    return x.astype(dtype, copy=copy)


def _fast_numpy() -> SimpleNamespace:
    """NumPy's namespace with the wrappers around its reductions left out.

    `np.sum(x, axis=0)` spends more time in Python than in the loop on small arrays; the ufunc's own `reduce` takes
    the same arguments. Its default axis is 0, not all axes: rules always pass `axis`.
    """
    namespace = SimpleNamespace(**{name: getattr(np, name) for name in dir(np) if not name.startswith("__")})
    namespace.sum = np.add.reduce
    namespace.prod = np.multiply.reduce
    namespace.max = np.maximum.reduce
    namespace.min = np.minimum.reduce
    namespace.any = np.logical_or.reduce
    namespace.all = np.logical_and.reduce
    namespace.astype = _astype
    return namespace


fast_numpy = _fast_numpy()

#: The namespace in which rules run on `Tensor`s: `chainrule.ops` fills it with its public functions.
tensor_namespace = SimpleNamespace()

#: Namespace by type of value. Types of other array libraries are added when first seen.
namespaces: dict[type, Any] = {np.ndarray: fast_numpy}
namespaces.update(dict.fromkeys((np.float64, np.float32, np.float16, np.bool_), fast_numpy))
namespaces.update({np.dtype(code).type: fast_numpy for code in "bhilqBHILQ"})

PYTHON_SCALARS = frozenset({float, int, bool})


def namespace_of(*values: Any) -> Any:
    """The namespace of the first array among `values` that is not NumPy's; NumPy where there is none."""
    for value in values:
        xp = namespaces.get(type(value))
        if xp is None and type(value) not in PYTHON_SCALARS and is_array(value):
            xp = namespaces[type(value)]
        if xp is not None and xp is not fast_numpy:
            return xp
    return fast_numpy


def copy_like(value: Any, like: Any) -> Any:
    """`value`, of any library, as a new array of the library and dtype of the array `like`."""
    if isinstance(like, Blank):
        return Blank(value.shape, like.dtype)
    xp = namespace_of(like)
    if namespace_of(value) is not xp:
        value = np.asarray(value)
    return xp.asarray(value, dtype=like.dtype, copy=True)


def is_array(value: Any) -> bool:
    """Whether `value` is an array of a library that follows the array API; remembers its namespace."""
    kind = type(value)
    if kind in namespaces:
        return True
    if isinstance(value, np.ndarray) or not array_api_compat.is_array_api_obj(value):
        return False  # NumPy's subclasses (matrix, masked array) do not follow the standard
    namespaces[kind] = array_api_compat.array_namespace(value)
    return True


def dtype_namespace(dtype: Any) -> Any:
    """The namespace whose arrays carry `dtype` (for creating an array beside one that is not at hand)."""
    if dtype is None or isinstance(dtype, (np.dtype, type)):
        return fast_numpy
    for xp in set_of_namespaces():
        for name in ("float32", "float64", "int64", "bool"):
            own = getattr(xp, name, None)  # NumPy's are types, and some libraries object to being compared with them
            if not isinstance(own, (type, np.dtype)) and own == dtype:
                return xp
    return fast_numpy


def set_of_namespaces() -> list[Any]:
    """Every namespace seen so far, each once."""
    seen: list[Any] = []
    for xp in namespaces.values():
        if not any(xp is other for other in seen):
            seen.append(xp)
    return seen


def name_of(xp: Any) -> str:
    """A namespace's name for an error message."""
    return xp.__name__ if isinstance(xp, ModuleType) else "numpy" if xp is fast_numpy else "chainrule"
