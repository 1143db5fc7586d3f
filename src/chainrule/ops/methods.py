"""Binds the operations to `Tensor`'s operators and methods, with NumPy's names and PyTorch's further ones.

Where the two disagree (`transpose`, `repeat`), it is NumPy's meaning. No operation is defined here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from types import FunctionType
from typing import Any

import numpy as np

from chainrule.core.tensor import Tensor, _raw, _read_only
from chainrule.ops import (
    creation,
    elementwise,
    indexing,
    joining,
    layout,
    linalg,
    network,
    ordering,
    products,
    reductions,
    special,
)

# Operators ---------------------------------------------------------------------------------------------------------
# They call a primitive's bound `__call__`, which costs less than calling the object.


def _bound(operation: Callable) -> Callable:
    call: Callable = operation if isinstance(operation, FunctionType) else operation.__call__  # type: ignore[operator]
    return call


def _unary(operation: Callable) -> Callable:
    call = _bound(operation)
    return lambda self: call(self)


def _binary(operation: Callable) -> Callable:
    call = _bound(operation)
    return lambda self, other: call(self, other)


def _equality(operation: Callable) -> Callable:
    """Comparison with None is left to Python, which answers with a single truth value."""
    call = _bound(operation)
    return lambda self, other: NotImplemented if other is None else call(self, other)


def _reflected(operation: Callable) -> Callable:
    call = _bound(operation)
    return lambda self, other: call(other, self)


def _assigned(operation: Callable) -> Callable:
    call = _bound(operation)
    return lambda self, other: self._become(call(self, other))


def _quotient_and_remainder(a: Any, b: Any) -> tuple[Any, Any]:
    return elementwise.floor_divide(a, b), elementwise.remainder(a, b)


_ARITHMETIC: dict[str, Callable] = {
    "add": elementwise.add,
    "sub": elementwise.subtract,
    "mul": elementwise.multiply,
    "truediv": elementwise.divide,
    "floordiv": elementwise.floor_divide,
    "mod": elementwise.remainder,
    "pow": elementwise.power,
    "matmul": products.matmul,
    "and": elementwise.bitwise_and,
    "or": elementwise.bitwise_or,
    "xor": elementwise.bitwise_xor,
    "lshift": elementwise.bitwise_left_shift,
    "rshift": elementwise.bitwise_right_shift,
}
_COMPARISONS: dict[str, Callable] = {
    "lt": elementwise.less,
    "le": elementwise.less_equal,
    "gt": elementwise.greater,
    "ge": elementwise.greater_equal,
}
_EQUALITY: dict[str, Callable] = {
    "eq": elementwise.equal,
    "ne": elementwise.not_equal,
}
_SIGNS: dict[str, Callable] = {
    "neg": elementwise.negative,
    "pos": elementwise.positive,
    "abs": elementwise.absolute,
    "invert": elementwise.bitwise_invert,
}

# Methods -----------------------------------------------------------------------------------------------------------

#: Methods that are an operation with the tensor as its first argument.
_METHODS: dict[str, Callable] = {
    name: getattr(module, name)
    for module, names in {
        reductions: "sum prod mean max min any all count_nonzero",
        elementwise: "clip round exp log sqrt sin cos tanh square floor ceil sign isnan isfinite isinf",
        layout: "astype ravel squeeze swapaxes moveaxis expand_dims broadcast_to flip roll tril triu",
        joining: "repeat tile",
        indexing: "take",
        ordering: "argsort argmax argmin nonzero searchsorted",
        products: "dot matmul",
        network: "relu sigmoid softmax log_softmax logsumexp",
        special: "erf",
    }.items()
    for name in names.split()
} | {
    "abs": elementwise.absolute,
    "conj": elementwise.positive,
    "conjugate": elementwise.positive,
    "copy": elementwise.positive,
    "cumsum": reductions.cumulative_sum,
    "cumprod": reductions.cumulative_prod,
    "pow": elementwise.power,
    "unsqueeze": layout.expand_dims,
}


def _method(operation: Callable) -> Callable:
    """A function, which Python binds to the tensor; a primitive is an object and would not be bound."""
    if isinstance(operation, FunctionType):
        return operation

    def method(self: Tensor, *args: Any, **options: Any) -> Any:
        return operation(self, *args, **options)

    method.__name__, method.__doc__ = operation.__name__, operation.__doc__
    return method


def _variadic(function: Callable) -> Callable:
    """`t.reshape(2, 3)` as well as `t.reshape((2, 3))`."""

    def method(self: Tensor, *shape: Any, **options: Any) -> Any:
        lengths = shape[0] if len(shape) == 1 else shape
        return function(self, lengths.tolist() if isinstance(lengths, np.ndarray) else lengths, **options)

    method.__doc__ = function.__doc__
    return method


def _transpose(self: Tensor, *axes: Any) -> Any:
    """Axes reversed, or in the order given, as in NumPy."""
    if not axes or axes == (None,):
        order: Any = tuple(range(self.ndim))[::-1]
    else:
        order = axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
    return layout.permute_dims(self, order)


def _var(self: Tensor, axis: Any = None, *, ddof: float = 0, correction: float = 0, keepdims: bool = False) -> Any:
    """The variance over `axis`, divided by n − `ddof` (in the array API: `correction`)."""
    return reductions.var(self, axis, ddof or correction, keepdims)


def _std(self: Tensor, axis: Any = None, *, ddof: float = 0, correction: float = 0, keepdims: bool = False) -> Any:
    """The standard deviation over `axis`: the root of `var`."""
    return reductions.std(self, axis, ddof or correction, keepdims)


def _diagonal(self: Tensor, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """Diagonal `offset` of each matrix over the two axes, along a new last axis."""
    return linalg.diagonal(layout.moveaxis(self, (axis1, axis2), (-2, -1)), offset=offset)


def _trace(self: Tensor, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The sum of diagonal `offset` of each matrix over the two axes."""
    return reductions.sum(_diagonal(self, offset, axis1, axis2), axis=-1)


def _flatten(self: Tensor, start_dim: int = 0, end_dim: int = -1) -> Any:
    """The axes from `start_dim` to `end_dim` made one, all of them by default."""
    if self.ndim == 0:
        return layout.ravel(self)
    first, last = start_dim % self.ndim, end_dim % self.ndim
    return layout.reshape(self, (*self.shape[:first], prod(self.shape[first : last + 1]), *self.shape[last + 1 :]))


def _fill(self: Tensor, value: Any) -> None:
    """Assign `value` to every element: the handle moves to a new value."""
    self._become(creation.full_like(self, value))


def _iterate(self: Tensor) -> Iterator[Any]:
    """The slices along the first axis."""
    if not self.shape:
        raise TypeError("iteration over a 0-d tensor")
    return iter(joining.unstack(self))


def _contains(self: Tensor, value: Any) -> bool:
    return bool(reductions.any(elementwise.equal(self, value)))


def _bind(name: str, value: Any) -> None:
    setattr(Tensor, name, value)


for _name, _operation in _ARITHMETIC.items():
    _bind(f"__{_name}__", _binary(_operation))
    _bind(f"__r{_name}__", _reflected(_operation))
    _bind(f"__i{_name}__", _assigned(_operation))
for _name, _operation in _COMPARISONS.items():
    _bind(f"__{_name}__", _binary(_operation))
for _name, _operation in _EQUALITY.items():
    _bind(f"__{_name}__", _equality(_operation))
for _name, _operation in _SIGNS.items():
    _bind(f"__{_name}__", _unary(_operation))
for _name, _operation in _METHODS.items():
    _bind(_name, _method(_operation))
for _name, _value in {
    "__divmod__": _binary(_quotient_and_remainder),
    "__rdivmod__": _reflected(_quotient_and_remainder),
    "__getitem__": indexing.getitem,
    "__setitem__": indexing.setitem,
    "__iter__": _iterate,
    "__contains__": _contains,
    "T": property(_transpose, doc="The axes reversed."),
    "mT": property(layout.matrix_transpose, doc="The last two axes exchanged."),
    "real": property(lambda self: self, doc="The tensor itself: all tensors are real."),
    "imag": property(creation.zeros_like, doc="Zeros: all tensors are real."),
    "itemsize": property(lambda self: self.dtype.itemsize, doc="Bytes per element."),
    "nbytes": property(lambda self: self.size * self.dtype.itemsize, doc="Bytes of the value."),
    "flags": property(lambda self: _read_only(_raw(self)).flags, doc="NumPy's account of the value's memory."),
    "reshape": _variadic(layout.reshape),
    "view": _variadic(layout.reshape),
    "transpose": _transpose,
    "permute": _variadic(layout.permute_dims),
    "flatten": _flatten,
    "diagonal": _diagonal,
    "trace": _trace,
    "var": _var,
    "std": _std,
    "fill": _fill,
    "numel": lambda self: self.size,
    "dim": lambda self: self.ndim,
}.items():
    _bind(_name, _value)
