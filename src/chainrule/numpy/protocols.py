"""What makes `np.tanh(t)` and `np.concatenate([t, u])` work: NumPy's protocols, and the array API's, on `Tensor`.

A table per protocol says what runs for each of NumPy's functions; both are filled from the files beside this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.core.namespace import namespace_of
from chainrule.core.tensor import Tensor, _raw
from chainrule.numpy import (
    creation,
    definitions,
    dtypes,
    layout,
    linalg,
    products,
    reductions,
    selection,
    ufuncs,
    values,
)
from chainrule.numpy.values import on_values
from chainrule.ops import special

_operation_of = ufuncs.OPERATIONS.get


def _array_ufunc(self: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
    """NumPy calls this for a ufunc that gets a tensor, among its inputs or as `out`."""
    if method == "__call__" and not options:
        operation = _operation_of(ufunc)
        if operation is not None:
            return operation(*inputs)
    return ufuncs.apply(ufunc, method, inputs, options)


#: What runs for a function of NumPy; for one that is not here, its own definition.
FUNCTIONS: dict[Any, Callable] = {
    **{
        getattr(np, name): getattr(module, name)
        for module in (creation, layout, products, reductions, selection, values)
        for name in module.__all__
        if hasattr(np, name)
    },
    **{getattr(np.linalg, name): getattr(linalg, name) for name in linalg.__all__ if hasattr(np.linalg, name)},
    **{getattr(np, name): on_values(getattr(np, name)) for name in values.NAMES if hasattr(np, name)},
    **{getattr(np, name): getattr(dtypes, name) for name in ("result_type", "can_cast")},
    **{getattr(np, name): getattr(special, name) for name in ("sinc", "i0")},
}


def further_names() -> dict[str, Callable]:
    """The functions of the namespace that no file beside this one spells: by NumPy's names for them."""
    elementwise = {
        name: ufuncs.OPERATIONS[function]
        for name, function in vars(np).items()
        if isinstance(function, np.ufunc) and function in ufuncs.OPERATIONS
    }
    rest = (*values.NAMES, *definitions.TESTED, "sinc", "i0")
    return elementwise | {name: _to_tensors(getattr(np, name)) for name in rest if hasattr(np, name)}


def _to_tensors(function: Any) -> Callable:
    """What runs for a function of NumPy, returning tensors also where it is given none."""

    def called(*args: Any, **options: Any) -> Any:
        return values.as_constants(_array_function(None, function, None, args, options))

    called.__name__ = called.__qualname__ = function.__name__
    called.__doc__ = f"`{values.name_of(function)}` for tensors."
    return called


def _array_function(self: Any, function: Any, types: Any, args: tuple, options: dict[str, Any]) -> Any:
    """NumPy calls this for any other of its functions that gets a tensor."""
    operation = FUNCTIONS.get(function)
    if operation is None:
        operation = definitions.by_definition(function)
    return operation(*args, **options)


def _array_namespace(self: Tensor, /, *, api_version: str | None = None) -> Any:
    """The array API namespace of tensors: `chainrule.numpy`."""
    if api_version not in (None, "2021.12", "2022.12", "2023.12", "2024.12"):
        raise ValueError(f"version {api_version!r} of the array API is not supported; 2024.12 is")
    import chainrule.numpy

    return chainrule.numpy


def _dlpack(
    self: Tensor, /, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None
) -> Any:
    """A copy of the value for another library.

    Raises:
        GradientError: the tensor is recorded; its gradient would be lost.
        BufferError: `copy=False`; a tensor's memory is never shared.
    """
    self._refuse_if_recorded("from_dlpack")
    if copy is False:
        raise BufferError("a tensor's memory is never shared, for it must not change; leave copy=False out")
    raw = _raw(self)
    duplicate = namespace_of(raw).asarray(raw, copy=True)
    asked = {"stream": stream, "max_version": max_version}
    return duplicate.__dlpack__(**{name: value for name, value in asked.items() if value is not None})


def _dlpack_device(self: Tensor) -> Any:
    return _raw(self).__dlpack_device__()


def _to_device(self: Tensor, device: Any, /, *, stream: Any = None) -> Tensor:
    """The tensor itself, where it already is on `device`.

    Raises:
        ValueError: it is on another one.
    """
    if device != self.device:
        raise ValueError(f"cannot move a tensor from {self.device} to {device}; make it there")
    return self


Tensor.__array_ufunc__ = _array_ufunc  # type: ignore[attr-defined]
Tensor.__array_function__ = _array_function  # type: ignore[attr-defined]
Tensor.__array_namespace__ = _array_namespace  # type: ignore[attr-defined]
Tensor.__dlpack__ = _dlpack  # type: ignore[attr-defined]
Tensor.__dlpack_device__ = _dlpack_device  # type: ignore[attr-defined]
Tensor.to_device = _to_device  # type: ignore[attr-defined]
