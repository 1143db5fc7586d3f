"""Binds the operations to `Tensor`'s operators and methods, with NumPy's and PyTorch's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chainrule.core.tensor import Tensor
from chainrule.ops import elementwise, indexing, layout, network, ordering, products, reductions, special


def _reflected(primitive: Callable) -> Callable:
    return lambda self, other: primitive(other, self)


_BINARY = {
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


def _operator(primitive: Callable) -> Callable:
    return lambda self, other: primitive(self, other)


def _assigned(primitive: Callable) -> Callable:
    return lambda self, other: self._become(primitive(self, other))


for _name, _primitive in _BINARY.items():
    setattr(Tensor, f"__{_name}__", _operator(_primitive))
    setattr(Tensor, f"__r{_name}__", _reflected(_primitive))
    setattr(Tensor, f"__i{_name}__", _assigned(_primitive))

for _name, _primitive in {
    "lt": elementwise.less,
    "le": elementwise.less_equal,
    "gt": elementwise.greater,
    "ge": elementwise.greater_equal,
    "eq": elementwise.equal,
    "ne": elementwise.not_equal,
}.items():
    setattr(Tensor, f"__{_name}__", _operator(_primitive))

for _name, _primitive in {
    "neg": elementwise.negative,
    "pos": elementwise.positive,
    "abs": elementwise.absolute,
    "invert": elementwise.bitwise_invert,
}.items():
    setattr(Tensor, f"__{_name}__", (lambda primitive: lambda self: primitive(self))(_primitive))


def _variadic_shape(function: Callable) -> Callable:
    """`t.reshape(2, 3)` as well as `t.reshape((2, 3))`."""

    def method(self: Tensor, *shape: Any, **options: Any) -> Any:
        return function(self, shape[0] if len(shape) == 1 else shape, **options)

    return method


def _transpose(self: Tensor, *axes: Any) -> Any:
    """Axes reversed, or in the order given, as in NumPy."""
    if not axes or axes == (None,):
        order: Any = tuple(range(self.ndim))[::-1]
    else:
        order = axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
    return layout.permute_dims(self, order)


_METHODS: dict[str, Callable] = {
    name: getattr(module, name)
    for module, names in {
        reductions: "sum prod mean max min any all",
        elementwise: "clip round exp log sqrt sin cos tanh square floor ceil sign",
        layout: "squeeze",
        ordering: "argsort argmax argmin",
        network: "relu sigmoid softmax log_softmax logsumexp",
        special: "erf",
    }.items()
    for name in names.split()
}


def _bind() -> None:
    for name, function in _METHODS.items():
        setattr(Tensor, name, _method(function))
    Tensor.reshape = _variadic_shape(layout.reshape)  # type: ignore[method-assign]
    Tensor.transpose = _transpose  # type: ignore[method-assign]
    Tensor.T = property(_transpose)  # type: ignore[method-assign]
    Tensor.mT = property(layout.matrix_transpose)  # type: ignore[method-assign]
    Tensor.__getitem__ = indexing.getitem  # type: ignore[method-assign]
    Tensor.__setitem__ = indexing.setitem  # type: ignore[method-assign]


def _method(function: Callable) -> Callable:
    def method(self: Tensor, *args: Any, **options: Any) -> Any:
        return function(self, *args, **options)

    method.__doc__ = function.__doc__
    return method


_bind()
