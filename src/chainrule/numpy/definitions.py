"""NumPy functions that NumPy writes in Python in terms of others, run on tensors by their own definition.

`np.diff` is a few lines of slices and subtractions, `np.cov` of means and products. All they call works on tensors,
but they begin by turning their arguments into arrays, which a tensor refuses. So the function behind the name
(`np.diff._implementation`) is rebuilt: the same code, with other meanings for the few names that make arrays. No
function is written out here; those that NumPy compiled are in the files beside this one.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from chainrule.core.errors import GradientError
from chainrule.core.namespace import namespaces, tensor_namespace
from chainrule.core.tensor import Tensor, _raw
from chainrule.numpy import creation
from chainrule.numpy.arguments import is_recorded
from chainrule.numpy.creation import holds_tensor
from chainrule.numpy.values import as_constants, bare, name_of, on_values

# Arrays to fill ----------------------------------------------------------------------------------------------------


class _Buffer(Tensor):
    """An array that a definition makes to fill. Its slices are views, as NumPy's are: filling them fills it."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        if all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts):
            return _View(self, index)
        return Tensor.__getitem__(self, index)


class _View(_Buffer):
    """A slice of a buffer: what it holds is looked up there, what is assigned to it is assigned there."""

    __slots__ = ("base", "index", "read", "seen")

    def __init__(self, base: Tensor, index: Any) -> None:
        self.base = base
        self.index = index
        self.seen = None

    def _current(self) -> Tensor:
        value = self.base._value
        if self.seen is not value:
            self.seen, self.read = value, Tensor.__getitem__(self.base, self.index)
        return self.read

    @property
    def _value(self) -> Any:
        return self._current()._value

    @property
    def _node(self) -> Any:
        return self._current()._node

    def _become(self, other: Tensor) -> Tensor:
        self.base[self.index] = other
        return self


for _kind in (_Buffer, _View):
    namespaces[_kind] = tensor_namespace


def _settled(result: Any) -> Any:
    """A definition's result, without the buffers it was put together in."""
    if isinstance(result, _Buffer):
        return Tensor(result._value, result._node)
    if type(result) in (tuple, list):
        return type(result)(_settled(part) for part in result)
    return result


# Other meanings for the names that make arrays ---------------------------------------------------------------------


def _asarray(a: Any, dtype: Any = None, order: Any = None, **options: Any) -> Any:
    return creation.asarray(a, dtype) if holds_tensor(a) else np.asarray(a, dtype, **options)


def _array(object: Any, dtype: Any = None, **options: Any) -> Any:
    return (creation.array if holds_tensor(object) else np.array)(object, dtype, **options)


def _zeros(shape: Any, dtype: Any = float, order: str = "C", **options: Any) -> Any:
    return _to_fill(np.zeros(shape, dtype))


def _ones(shape: Any, dtype: Any = float, order: str = "C", **options: Any) -> Any:
    return _to_fill(np.ones(shape, dtype))


def _full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C", **options: Any) -> Any:
    make = creation.full if holds_tensor(fill_value) else np.full
    return _to_fill(make(shape, fill_value, dtype))


def _full_like(a: Any, fill_value: Any, dtype: Any = None, *rest: Any, shape: Any = None, **options: Any) -> Any:
    return _full(np.shape(a) if shape is None else shape, fill_value, np.result_type(a) if dtype is None else dtype)


def _zeros_like(a: Any, dtype: Any = None, *rest: Any, **options: Any) -> Any:
    return _full_like(a, 0, dtype, **options)


def _ones_like(a: Any, dtype: Any = None, *rest: Any, **options: Any) -> Any:
    return _full_like(a, 1, dtype, **options)


def _to_fill(array: Any) -> Any:
    """Floating point arrays may be filled with recorded values; others stay arrays."""
    if isinstance(array, Tensor):
        return _Buffer(array._value, array._node)
    return _Buffer(array) if array.dtype.kind == "f" else array


class _AnyArray(type):
    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, (np.ndarray, Tensor))


class _NdArray(metaclass=_AnyArray):
    """Stands for `np.ndarray` where a definition asks whether something is one."""


class _Broadcast:
    """Stands for `np.broadcast`, of which definitions ask the shape."""

    def __init__(self, *arrays: Any) -> None:
        self.shape = np.broadcast_shapes(*map(np.shape, arrays))
        self.ndim = self.nd = len(self.shape)
        self.size = int(np.prod(self.shape, dtype=int))


class _Converter:
    """Stands for NumPy's compiled `_array_converter`: arguments as arrays, results in the arguments' form."""

    def __init__(self, *arguments: Any) -> None:
        self._arrays = tuple(map(_asarray, arguments))
        self.scalar_input = tuple(np.ndim(a) == 0 for a in arguments)

    def __getitem__(self, place: int) -> Any:
        return self._arrays[place]

    def __len__(self) -> int:
        return len(self._arrays)

    def as_arrays(self, **options: Any) -> tuple:
        return self._arrays

    def result_type(self, extra_dtype: Any = None, ensure_inexact: bool = False) -> Any:
        extra = [] if extra_dtype is None else [extra_dtype]
        return np.result_type(*self._arrays, *extra, *([0.0] if ensure_inexact else []))

    def wrap(self, result: Any, to_scalar: Any = None) -> Any:
        return result


def _private(path: str) -> Any:
    """A private name of the installed NumPy; an object that nothing else is where it has no such name."""
    try:
        return attrgetter(path)(np)
    except AttributeError:
        return object()


def _array_and_wrapper(a: Any) -> tuple[Any, Callable]:
    """Stands for `numpy.linalg`'s `_makearray`."""
    return _asarray(a), lambda result, *rest: result


_MEANINGS: dict[Any, Any] = {
    **dict.fromkeys((np.asarray, np.asanyarray, np.asarray_chkfinite), _asarray),
    **dict.fromkeys((np.ascontiguousarray, np.asfortranarray), _asarray),
    np.array: _array,
    **dict.fromkeys((np.zeros, np.empty), _zeros),
    np.ones: _ones,
    np.full: _full,
    **dict.fromkeys((np.zeros_like, np.empty_like), _zeros_like),
    np.ones_like: _ones_like,
    np.full_like: _full_like,
    np.ndarray: _NdArray,
    np.broadcast: _Broadcast,
    **{function: function for function in (np.eye, np.identity, np.tri, np.indices)},  # they see no tensor
    _private("_core._multiarray_umath._array_converter"): _Converter,
    _private("_core.shape_base._concatenate"): np.concatenate,  # without the dispatch
    _private("linalg._linalg._makearray"): _array_and_wrapper,
}


# Rebuilding --------------------------------------------------------------------------------------------------------


class _Module:
    """A module of NumPy, seen with the other meanings."""

    def __init__(self, module: ModuleType) -> None:
        self.__module = module

    def __getattr__(self, name: str) -> Any:
        found = _meaning(getattr(self.__module, name))
        setattr(self, name, found)
        return found


def _meaning(value: Any) -> Any:
    """What a global name of a definition stands for when it runs on tensors."""
    try:
        if value in _MEANINGS:
            return _MEANINGS[value]
    except TypeError:  # not hashable, so none of them
        return value
    if isinstance(value, ModuleType):
        return _Module(value) if value.__name__.startswith("numpy") else value
    if isinstance(value, FunctionType):
        return _rebuilt(value) if value.__module__.startswith("numpy") else value
    return value


_functions: dict[FunctionType, FunctionType] = {}


def _rebuilt(function: FunctionType) -> FunctionType:
    """The same code over the same globals with the other meanings; its helpers are rebuilt with it."""
    found = _functions.get(function)
    if found is not None:
        return found
    meanings: dict[str, Any] = {"__builtins__": builtins, "__name__": function.__module__}
    made = FunctionType(function.__code__, meanings, function.__name__, function.__defaults__, function.__closure__)
    made.__kwdefaults__ = function.__kwdefaults__
    _functions[function] = made  # before its helpers, which may call it
    for name in _names_in(function.__code__):
        if name in function.__globals__:
            meanings[name] = _meaning(function.__globals__[name])
    return made


def _names_in(code: CodeType) -> set[str]:
    inner = [_names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*inner)


# The functions of NumPy by definition ------------------------------------------------------------------------------

#: Definitions that the tests compare with NumPy, value and derivative. Of any other, each result is compared here.
_NAMES = """
    append apply_along_axis apply_over_axes average block corrcoef cov delete diff dsplit ediff1d extract
    fix fliplr flipud geomspace gradient hsplit insert logspace nan_to_num nancumprod nancumsum nanmax
    nanmean nanmin nanprod nanstd nansum nanvar piecewise poly polyadd polyder polyfit polyint polysub
    polyval real_if_close resize rollaxis select tensorinv trapezoid union1d unwrap vander vsplit
"""
TESTED = frozenset(_NAMES.split())


@cache
def by_definition(function: Any) -> Callable:
    """NumPy's `function` for tensors: its own definition, or its values alone where NumPy compiled it."""
    name = name_of(function)
    implementation = getattr(function, "_implementation", None)
    if name.startswith("np.fft.") and "shift" not in name:
        return _refusing(f"{name} is not supported on tensors: Fourier transforms are complex, tensors are real")
    if not isinstance(implementation, FunctionType):
        return on_values(function)
    rebuilt = _rebuilt(implementation)

    def run(*args: Any, **options: Any) -> Any:
        try:
            result = as_constants(_settled(rebuilt(*args, **options)))
        except GradientError as error:
            raise GradientError(_no_derivative(name)) from error
        except (AttributeError, TypeError) as error:
            raise TypeError(f"{name} on tensors: {error}{_hint(args)}") from error
        if function.__name__ not in TESTED:
            _compare(name, result, function, args, options)
        return result

    run.__name__ = run.__qualname__ = function.__name__
    run.__doc__ = f"NumPy's own definition of `{name}`, run on tensors."
    return run


def _refusing(message: str) -> Callable:
    def refuse(*args: Any, **options: Any) -> Any:
        raise TypeError(message)

    return refuse


def _hint(args: Any) -> str:
    over_numpy = all(
        isinstance(_raw(part), (np.ndarray, np.generic)) for part in _parts(args) if isinstance(part, Tensor)
    )
    return "" if over_numpy else ". It runs NumPy's own definition, which may need values that are NumPy arrays"


def _no_derivative(name: str) -> str:
    return (
        f"{name} has no derivative here: NumPy's definition of it reaches compiled code that drops the gradient. "
        "Spell it in functions that have one, or take the value out on purpose: t.detach()"
    )


def _compare(name: str, result: Any, function: Callable, args: tuple, options: dict) -> None:
    """Refuse a result of a definition that nobody has looked at, unless it is NumPy's and carries its gradient.

    A definition may fill arrays, or take numbers out of them, in ways that tensors do not follow.
    """
    numbers = [part for part in _parts(result) if np.result_type(part).kind == "f" and np.size(part)]
    if is_recorded([*args, *options.values()]) and not all(map(is_recorded, numbers)):
        raise GradientError(_no_derivative(name))
    expected = _parts(function(*bare(args), **bare(options)))
    pairs = zip(bare(_parts(result)), expected, strict=True)
    if not all(np.allclose(given, wanted, rtol=1e-3, atol=1e-6, equal_nan=True) for given, wanted in pairs):
        raise TypeError(f"{name} on tensors: NumPy's definition of it gives another value there than on arrays")


def _parts(result: Any) -> list[Any]:
    """The numbers and arrays in a result."""
    if isinstance(result, (tuple, list)):
        return [part for inner in result for part in _parts(inner)]
    return [result] if isinstance(result, (Tensor, np.ndarray, np.generic, int, float)) else []
