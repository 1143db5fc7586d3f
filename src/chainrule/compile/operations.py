"""The array functions of the compiler: what primitives and rules see as `xp` when they run on `Traced` arrays.

Each computes its value with NumPy and adds to the graph; the ones with no counterpart there are spelled in others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import scipy.special

from chainrule.compile import indexing
from chainrule.compile.errors import Unsupported
from chainrule.compile.graph import Map, Region, Value
from chainrule.compile.scalars import FUNCTIONS
from chainrule.compile.tracing import Traced, current_graph, current_trace
from chainrule.core.blank import Blank
from chainrule.core.namespace import PYTHON_SCALARS, namespaces
from chainrule.core.tensor import Tensor, _raw
from chainrule.ops.axes import normalize_axes, normalize_axis

# Operands ------------------------------------------------------------------------------------------------------------


def _now(x: Any) -> Any:
    """What an operand is in this run."""
    return x.concrete if isinstance(x, Traced) else x


def _traced(x: Any) -> Traced:
    """An operand that is an array: traced, or a constant of the program."""
    if isinstance(x, Traced):
        return x
    array = np.asarray(x)
    return Traced(current_graph().constant(array), array)


def _array(now: Any) -> Any:
    """What an operand is in this run, as an array also where it is a NumPy number."""
    return now if isinstance(now, Blank) else np.asarray(now)


def _kind(x: Any) -> Any:
    """What decides about promotion: a dtype, or the Python type of a number."""
    if isinstance(x, Traced):
        return float if x.weak else x.dtype
    return type(x) if type(x) in PYTHON_SCALARS else np.asarray(x).dtype


def _as_value(x: Any, dtype: np.dtype, shape: tuple[int, ...]) -> Value:
    """An operand's value in the dtype and shape an operation computes in."""
    graph = current_graph()
    if isinstance(x, Traced):
        return graph.broadcast_to(graph.astype(x.value, dtype), shape)
    if type(x) in PYTHON_SCALARS:
        return graph.full(shape, x, dtype)
    return graph.broadcast_to(graph.constant(np.asarray(x).astype(dtype)), shape)


# Elementwise functions -----------------------------------------------------------------------------------------------


@cache
def _loop_dtypes(name: str, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    """The dtypes that NumPy's function of that name computes in, and that of its result."""
    if bool in kinds:
        kinds = tuple(np.dtype(bool) if kind is bool else kind for kind in kinds)
    return getattr(np, name).resolve_dtypes((*kinds, None))


def elementwise(name: str, *operands: Any) -> Traced:
    """NumPy's function of that name."""
    now = [_now(x) for x in operands]
    result = getattr(np, name)(*now)
    *inner, dtype = _loop_dtypes(name, tuple([_kind(x) for x in operands]))
    shape = result.shape
    inputs = [_as_value(x, kind, shape) for x, kind in zip(operands, inner, strict=True)]
    weak = dtype == np.float64 and all(
        type(x) in PYTHON_SCALARS or (isinstance(x, Traced) and x.weak) for x in operands
    )
    return Traced(current_graph().add(name, inputs, None, shape, dtype), result, weak)


def where(condition: Any, a: Any, b: Any) -> Traced:
    """`a` where the condition holds, `b` elsewhere."""
    result = np.where(_now(condition), _now(a), _now(b))
    chosen = [_as_value(x, result.dtype, result.shape) for x in (a, b)]
    value = current_graph().add(
        "select", [_as_value(condition, np.dtype(bool), result.shape), *chosen], None, result.shape, result.dtype
    )
    return Traced(value, result)


def erf(x: Any) -> Traced:
    """The error function, which NumPy does not have."""
    return special("erf", x)


def special(name: str, x: Any, *further: Any) -> Traced:
    """SciPy's function of one argument."""
    if further or name not in FUNCTIONS:
        raise Unsupported(f"{name} has no compiled form")
    x = _traced(x)
    result = getattr(scipy.special, name)(x.concrete)
    return Traced(
        current_graph().add(name, [current_graph().astype(x.value, result.dtype)], None, x.shape, result.dtype), result
    )


def astype(x: Any, dtype: Any, copy: bool = True) -> Traced:
    """`x` converted to `dtype`."""
    x = _traced(x)
    return Traced(current_graph().astype(x.value, dtype), _array(x.concrete).astype(dtype))


# Reductions ----------------------------------------------------------------------------------------------------------


def _reduction(name: str, x: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Traced:
    x = _traced(x)
    x = x if dtype is None else astype(x, dtype)
    axes = normalize_axes(axis, x.ndim, name)
    result = getattr(np, name)(x.concrete, axis=axes, keepdims=keepdims)
    graph, dtype = current_graph(), result.dtype
    rest = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    value = graph.astype(x.value, dtype)
    if axes:
        value = graph.add(f"reduce_{name}", (value,), axes, rest, dtype)
    return Traced(graph.reshape(value, result.shape), result)


def _arg_extreme(name: str, x: Any, axis: int | None = None, keepdims: bool = False) -> Traced:
    """The index of the first extreme element; a NaN is more extreme than any number."""
    x = _traced(x)
    result = getattr(np, name)(x.concrete, axis=axis, keepdims=keepdims)
    flat = reshape(x, (-1,)) if axis is None else x
    place = 0 if axis is None else normalize_axis(axis, x.ndim, name)
    best = _reduction(name[3:], flat, place, keepdims=True)
    hit = elementwise("equal", flat, best)
    if flat.dtype.kind == "f":
        hit = elementwise("logical_or", hit, elementwise("not_equal", flat, flat))
    n = flat.shape[place]
    found = _reduction("min", where(hit, _index(flat.shape, place), n), place)
    return Traced(current_graph().reshape(found.value, result.shape), result)


def _index(shape: Sequence[int], axis: int) -> Traced:
    """The index along `axis`, for every element."""
    lengths = [n if i == axis else 1 for i, n in enumerate(shape)]
    now = np.broadcast_to(np.arange(shape[axis]).reshape(lengths), shape)
    return Traced(current_graph().add("index", (), axis, shape, np.int64), now)


def _running(name: str, x: Any, axis: int = -1, include_initial: bool = False) -> Traced:
    """Running sums or products, each step joining twice as many (Hillis and Steele 1986)."""
    x = _traced(x)
    axis = normalize_axis(axis, x.ndim, name)
    result = getattr(np, name)(x.concrete, axis=axis)
    join = "add" if name == "cumulative_sum" else "multiply"
    total, reach = astype(x, result.dtype), 1
    while reach < x.shape[axis]:
        early, late = (_between(total, axis, *ends) for ends in ((0, reach), (reach, None)))
        total = concat([early, elementwise(join, late, _between(total, axis, 0, -reach))], axis)
        reach *= 2
    total = Traced(total.value, result)
    if not include_initial:
        return total
    first = _filled((*x.shape[:axis], 1, *x.shape[axis + 1 :]), 0 if join == "add" else 1, result.dtype)
    return concat([first, total], axis)


def _between(x: Traced, axis: int, start: int | None, stop: int | None) -> Traced:
    return getitem(x, (slice(None),) * axis + (slice(start, stop),))


# Products ------------------------------------------------------------------------------------------------------------


def matmul(a: Any, b: Any) -> Traced:
    """Matrix product over the last two axes, batched over the rest."""
    a, b = _traced(a), _traced(b)
    result = np.matmul(a.concrete, b.concrete)
    dtype, graph = result.dtype, current_graph()
    if dtype.kind != "f":
        raise Unsupported(f"matmul of {a.dtype} and {b.dtype} has no compiled form")
    left, right = graph.astype(a.value, dtype), graph.astype(b.value, dtype)
    left = graph.reshape(left, (1, *a.shape)) if a.ndim == 1 else left
    right = graph.reshape(right, (*b.shape, 1)) if b.ndim == 1 else right
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    left = graph.broadcast_to(left, (*batch, *left.shape[-2:]))
    right = graph.broadcast_to(right, (*batch, *right.shape[-2:]))
    value = graph.add("matmul", (left, right), None, (*batch, left.shape[-2], right.shape[-1]), dtype)
    return Traced(graph.reshape(value, result.shape), result)


# Layout --------------------------------------------------------------------------------------------------------------


def reshape(x: Any, shape: Any, copy: bool | None = None) -> Traced:
    """The same elements in another shape."""
    x = _traced(x)
    result = np.reshape(x.concrete, shape)
    return Traced(current_graph().reshape(x.value, result.shape), result)


def permute_dims(x: Any, axes: Sequence[int]) -> Traced:
    """Axes in another order."""
    x = _traced(x)
    axes = normalize_axes(tuple(axes), x.ndim, "permute_dims")
    return Traced(current_graph().permute_dims(x.value, axes), np.transpose(x.concrete, axes))


def broadcast_to(x: Any, shape: Any) -> Traced:
    """Stretched as NumPy does."""
    x = _traced(x)
    return Traced(current_graph().broadcast_to(x.value, shape), np.broadcast_to(x.concrete, shape))


def expand_dims(x: Any, axis: Any = 0) -> Traced:
    """New axes of length 1."""
    return reshape(x, np.expand_dims(np.broadcast_to(False, _traced(x).shape), axis).shape)


def squeeze(x: Any, axis: Any = None) -> Traced:
    """Axes of length 1 removed."""
    return reshape(x, np.squeeze(np.broadcast_to(False, _traced(x).shape), axis).shape)


def moveaxis(x: Any, source: Any, destination: Any) -> Traced:
    """Axes moved to other places."""
    x = _traced(x)
    numbered = np.moveaxis(np.empty(range(x.ndim), bool), source, destination)
    return permute_dims(x, numbered.shape)


def flip(x: Any, axis: Any = None) -> Traced:
    """The order reversed along axes."""
    x = _traced(x)
    axes = normalize_axes(axis, x.ndim, "flip")
    return getitem(x, tuple(slice(None, None, -1 if i in axes else 1) for i in range(x.ndim)))


def roll(x: Any, shift: Any, axis: Any = None) -> Traced:
    """Elements moved along axes, those that fall off coming back at the other end."""
    x = _traced(x)
    if axis is None:
        return reshape(roll(reshape(x, (-1,)), shift, 0), x.shape)
    axes = axis if isinstance(axis, tuple) else (axis,)
    shifts = shift if isinstance(shift, tuple) else (shift,) * len(axes)
    for place, by in zip(axes, shifts, strict=True):
        cut = -by % x.shape[place] if x.shape[place] else 0
        if cut:
            x = concat([_between(x, place, cut, None), _between(x, place, 0, cut)], place)
    return x


def affine_view(x: Any, shape: Sequence[int], places: Map) -> Traced:
    """Elements of `x` that may repeat or overlap, where they lie.

    Args:
        x: the array.
        shape: of the result.
        places: for each axis of `x`, which index an element of the result has there: a whole number and one factor for
            each index of the result. All are inside of `x`.
    """
    x = _traced(x)
    now = x.concrete
    first = now[tuple(slice(start, None) for start, _ in places)]
    strides = [sum(by[axis] * n for (_, by), n in zip(places, now.strides, strict=True)) for axis in range(len(shape))]
    if isinstance(first, Blank):
        result: Any = first.strided(shape, strides)
    else:
        result = np.lib.stride_tricks.as_strided(first, shape, strides, writeable=False)
    return Traced(current_graph().view(x.value, places, tuple(shape)), result)


def concat(arrays: Sequence[Any], axis: int | None = 0) -> Traced:
    """Arrays joined along an axis."""
    parts = [_traced(x) for x in arrays]
    if axis is None:
        parts, axis = [reshape(x, (-1,)) for x in parts], 0
    result = np.concatenate([x.concrete for x in parts], axis)
    axis = normalize_axis(axis, result.ndim, "concat")
    graph = current_graph()
    values = [graph.astype(x.value, result.dtype) for x in parts if x.shape[axis]]
    if len(values) == 1:
        return Traced(values[0], result)
    steps, regions, start = (1,) * result.ndim, [], 0
    for value in values:
        regions.append(Region(tuple(start if i == axis else 0 for i in range(result.ndim)), steps))
        start += value.shape[axis]
    return Traced(graph.assemble(list(zip(values, regions, strict=True)), result.shape, result.dtype), result)


def stack(arrays: Sequence[Any], axis: int = 0) -> Traced:
    """Arrays joined along a new axis."""
    return concat([expand_dims(x, axis) for x in arrays], axis)


def clip(x: Any, min: Any = None, max: Any = None) -> Traced:
    """`x` limited to [min, max]."""
    x = x if min is None else elementwise("maximum", x, min)
    return _traced(x if max is None else elementwise("minimum", x, max))


def _triangle(keep: str, x: Any, k: int = 0) -> Traced:
    x = _traced(x)
    row, column = _index(x.shape, x.ndim - 2), _index(x.shape, x.ndim - 1)
    return where(elementwise(keep, elementwise("subtract", column, row), k), x, np.zeros((), x.dtype))


# Indexing ------------------------------------------------------------------------------------------------------------


def getitem(x: Any, index: Any) -> Traced:
    """`x[index]`, with indices that may be traced."""
    x = _traced(x)
    now = x.concrete[indexing.concrete(index)]
    return Traced(indexing.read(current_graph(), x.value, index, np.shape(now)), now)


def scatter_add(g: Any, *, shape: tuple[int, ...], index: Any) -> Traced:
    """Zeros of `shape` with `g` added at `index`."""
    g = _traced(g)
    now = current_trace().filled(shape, 0, g.dtype)
    if not isinstance(now, Blank):
        np.add.at(now, indexing.concrete(index), g.concrete)
    return Traced(indexing.add_into_zeros(current_graph(), g.value, shape, index), now)


def updated(x: Any, v: Any, *, index: Any) -> Traced:
    """A copy of `x` with `v` at `index`."""
    x = _traced(x)
    now = _array(x.concrete).copy()
    if not isinstance(now, Blank):
        now[indexing.concrete(index)] = _now(v)
    place = np.shape(now[indexing.concrete(index)])
    return Traced(indexing.write(current_graph(), x.value, _as_value(v, x.dtype, place), index), now)


def take(x: Any, indices: Any, axis: int | None = None) -> Traced:
    """Slices of `x` at `indices` along `axis`."""
    x = reshape(x, (-1,)) if axis is None else _traced(x)
    return getitem(x, (slice(None),) * normalize_axis(axis or 0, x.ndim, "take") + (indices,))


def take_along_axis(x: Any, indices: Any, axis: int = -1) -> Traced:
    """Elements of `x` at `indices` along `axis`."""
    x, indices = _traced(x), _traced(indices)
    axis = normalize_axis(axis, x.ndim, "take_along_axis")
    return getitem(x, tuple(indices if i == axis else _index(indices.shape, i) for i in range(x.ndim)))


# Creation ------------------------------------------------------------------------------------------------------------


def asarray(x: Any, dtype: Any = None, copy: bool | None = None, device: Any = None) -> Traced:
    """`x` as a traced array: a constant of the program if it is not traced."""
    x = _traced(x)
    return x if dtype is None or x.dtype == dtype else astype(x, dtype)


def _filled(shape: Any, number: Any, dtype: Any = None, device: Any = None) -> Traced:
    now = current_trace().filled(shape, number, dtype)
    return Traced(current_graph().full(now.shape, number, now.dtype), now)


def _filled_like(number: Any, x: Any, dtype: Any = None, device: Any = None) -> Traced:
    return _filled(_traced(x).shape, number, dtype or _traced(x).dtype)


def full_like(x: Any, fill_value: Any, dtype: Any = None, device: Any = None) -> Traced:
    """`fill_value` in the shape and dtype of `x`."""
    return _filled_like(fill_value, x, dtype)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None, device: Any = None) -> Traced:
    """Evenly spaced values."""
    if stop is None and step == 1 and isinstance(start, int) and dtype in (None, np.int64) and start > 0:
        return _index((start,), 0)
    return _traced(np.arange(*((start,) if stop is None else (start, stop, step)), dtype=dtype))


def verify(holds: Any, message: str) -> None:
    """Every run checks that all of `holds` is true and raises an IndexError with `message` otherwise."""
    indexing.check(current_graph(), _traced(holds).value, message)


def _made(function: Callable, *args: Any, device: Any = None, **options: Any) -> Traced:
    """A constant, made by NumPy's function."""
    return _traced(function(*args, **options))


def _diagonal(x: Any, offset: int = 0) -> Traced:
    x = _traced(x)
    rows, columns = x.shape[-2:]
    along = np.arange(max(min(rows + min(offset, 0), columns - max(offset, 0)), 0))
    return getitem(x, (..., along - min(offset, 0), along + max(offset, 0)))


# The namespace -------------------------------------------------------------------------------------------------------


class _Namespace:
    """What primitives and rules see as `xp` when they run on traced arrays."""

    __name__ = "chainrule.compile"

    def __init__(self, functions: dict[str, Any], place: str = "") -> None:
        self.__dict__.update(functions)
        self._place = place

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if not self._place and name in FUNCTIONS and isinstance(getattr(np, name, None), np.ufunc):
            function: Any = partial(elementwise, name)
        else:
            function = getattr(np, name, None) if not self._place else None
            if not isinstance(function, type | float | np.dtype):
                raise Unsupported(f"{self._place}{name} has no compiled form")
        self.__dict__[name] = function
        return function


_reductions = {name: partial(_reduction, name) for name in ("sum", "prod", "max", "min", "any", "all")}
traced_namespace = _Namespace(
    {
        **_reductions,
        **{name: partial(_arg_extreme, name) for name in ("argmax", "argmin")},
        **{name: partial(_running, name) for name in ("cumulative_sum", "cumulative_prod")},
        "tril": partial(_triangle, "less_equal"), "triu": partial(_triangle, "greater_equal"),
        "positive": _traced, "erf": erf, "special": special,
        "zeros": partial(_filled, number=0), "ones": partial(_filled, number=1), "full": _filled,
        "zeros_like": partial(_filled_like, 0), "ones_like": partial(_filled_like, 1),
        "eye": partial(_made, np.eye), "linspace": partial(_made, np.linspace),
        "isdtype": np.isdtype, "result_type": lambda *of: np.result_type(*(getattr(x, "dtype", x) for x in of)),
        "linalg": _Namespace({"diagonal": _diagonal}, "linalg."),
        **{function.__name__: function for function in (
            where, astype, matmul, reshape, permute_dims, broadcast_to, expand_dims, squeeze, moveaxis, flip, roll,
            concat, stack, getitem, scatter_add, updated, take, take_along_axis, asarray, full_like, arange, verify,
            clip, affine_view,
        )},
    }
)  # fmt: skip
namespaces[Traced] = traced_namespace


# Operators -----------------------------------------------------------------------------------------------------------

_BINARY = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "pow", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
    "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift",
}  # fmt: skip
_COMPARISONS = {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
}  # fmt: skip
_UNARY = {"neg": "negative", "abs": "abs", "invert": "bitwise_invert"}


def _bind(name: str, function: Callable) -> None:
    setattr(Traced, name, function)


def _binary(function: Callable) -> Callable:
    """An operator; beside a tensor, it is the tensor's to answer."""
    return lambda self, other: NotImplemented if isinstance(other, Tensor) else function(self, other)


def _reflected(function: Callable) -> Callable:
    return lambda self, other: NotImplemented if isinstance(other, Tensor) else function(other, self)


def _unary(name: str) -> Callable:
    return lambda self: elementwise(name, self)


def _untensored(index: Any) -> Any:
    """An index whose parts may be tensors, as one of plain arrays."""
    return tuple(_raw(part) for part in index) if isinstance(index, tuple) else _raw(index)


def _matrix_transpose(self: Traced) -> Traced:
    """The last two axes exchanged."""
    n = self.ndim
    return permute_dims(self, (*range(n - 2), n - 1, n - 2))


_operators: dict[str, Callable] = {name: partial(elementwise, function) for name, function in _BINARY.items()}
for _name, _function in {**_operators, "matmul": matmul}.items():
    _bind(f"__{_name}__", _binary(_function))
    _bind(f"__r{_name}__", _reflected(_function))
for _name, _operation in _COMPARISONS.items():
    _bind(f"__{_name}__", _binary(partial(elementwise, _operation)))
for _name, _operation in _UNARY.items():
    _bind(f"__{_name}__", _unary(_operation))
_bind("__pos__", lambda self: self)
_bind("__getitem__", lambda self, index: getitem(self, _untensored(index)))
_bind("__iter__", lambda self: (getitem(self, i) for i in range(len(self))))
setattr(Traced, "mT", property(_matrix_transpose))  # noqa: B010
setattr(Traced, "T", property(lambda self: permute_dims(self, range(self.ndim)[::-1])))  # noqa: B010
