"""`Blank`: an array of which only shape, dtype and strides are there.

Parameters of a network that does not fit into memory are blanks, and so is every value while memory is estimated.
NumPy's functions and operators work on them through NumPy's protocols and say what the result would be: its shape,
its dtype, and whether it would be a view of the memory of what it is made from. Nothing has values, so nothing can be
read.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.lib.stride_tricks import as_strided


class NoValues(TypeError, AttributeError):
    """Something was asked of an array that only one with values could tell."""


class Blank(NDArrayOperatorsMixin):
    """An array without values.

    Attributes:
        shape, dtype: of the array.
        memory: what it is a view of; itself, mostly. It has the shape and dtype of all of that memory.
    """

    __slots__ = ("__weakref__", "_made", "_memory", "_order", "dtype", "shape")

    def __init__(self, shape: Sequence[int], dtype: Any, *, order: Sequence[int] | None = None) -> None:
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self._order = order
        self._made: np.ndarray | None = None
        self._memory: Blank | None = None

    @property
    def _layout(self) -> np.ndarray:
        """Metadata for NumPy to calculate with. It says more than there is: its elements are never read."""
        if self._made is None:
            strides, step = [0] * len(self.shape), self.dtype.itemsize
            for axis in reversed(range(len(self.shape)) if self._order is None else self._order):
                strides[axis] = step
                step *= max(self.shape[axis], 1)
            self._made = as_strided(np.empty(1, self.dtype), self.shape, strides, writeable=False)
        return self._made

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements lie in C order without gaps."""
        return self._made.flags.c_contiguous if self._made is not None else self._order is None

    @property
    def strides(self) -> tuple[int, ...]:
        return self._layout.strides

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def memory(self) -> Blank:
        return self if self._memory is None else self._memory

    def __repr__(self) -> str:
        return f"<no values, {self.dtype}{list(self.shape)}>"

    def _view(self, layout: np.ndarray) -> Blank:
        view = Blank(layout.shape, layout.dtype)
        view._made = layout
        view._memory = self.memory
        return view

    def strided(self, shape: Sequence[int], strides: Sequence[int]) -> Blank:
        """The elements at other steps, as `np.lib.stride_tricks.as_strided` finds them."""
        return self._view(as_strided(self._layout, shape, strides, writeable=False))

    def astype(self, dtype: Any, copy: bool = True) -> Blank:
        """The elements in another dtype."""
        return self if not copy and self.dtype == dtype else Blank(self.shape, dtype)

    def copy(self) -> Blank:
        """The same elements in memory of their own."""
        return Blank(self.shape, self.dtype)

    def __getitem__(self, index: Any) -> Blank:
        parts = index if isinstance(index, tuple) else (index,)
        if not any(_is_array(part) for part in parts):
            whole = any(part is Ellipsis for part in parts)
            layout = self._layout[parts if whole else (*parts, ...)]  # never an element: there is none to be read
            return self._view(layout) if whole or layout.ndim else Blank((), self.dtype)
        return Blank(_shape_of_gathered(self.shape, parts), self.dtype)

    def __setitem__(self, index: Any, value: Any) -> None:
        """Nothing changes: there are no values."""

    # NumPy's protocols -----------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.__array__()

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise NoValues(
            f"the values of an array of shape {self.shape} are asked for, but it has none: the network was made inside "
            "nn.init.without_values(), or its memory is being estimated without running it. Such a network can be "
            "asked for shapes only, as in cr.memory(model).estimate(shape)"
        )

    __bool__ = __float__ = __int__ = __index__ = __array__

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            self.__array__()
        dtypes = _dtypes_of_results(ufunc, tuple([_kind(x) for x in inputs]))
        shapes = [x.shape if isinstance(x, Blank) else np.shape(x) for x in inputs]
        if ufunc is np.matmul:
            shape, order = _shape_of_product(*shapes), None
        else:
            shape = _broadcast(shapes)
            order = None if _is_in_order(inputs, shape) else _order(inputs, shape)
        results = tuple([Blank(shape, dtype, order=order) for dtype in dtypes])
        return results if len(results) > 1 else results[0]

    def __array_function__(self, function: Callable, types: Any, args: tuple, kwargs: dict) -> Any:
        own = _functions.get(function)
        return NotImplemented if own is None else own(*args, **kwargs)


def _is_array(part: Any) -> bool:
    return isinstance(part, (Blank, np.ndarray, list)) or hasattr(part, "shape")


def _kind(x: Any) -> Any:
    return type(x) if type(x) in (float, int) else np.dtype(bool) if type(x) is bool else x.dtype


@functools.cache
def _dtypes_of_results(ufunc: np.ufunc, kinds: tuple[Any, ...]) -> tuple[np.dtype, ...]:
    return ufunc.resolve_dtypes((*kinds, *[None] * ufunc.nout))[ufunc.nin :]


def _broadcast(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    first = shapes[0]
    if all(shape == first or not shape for shape in shapes):
        return first
    return np.broadcast_shapes(*shapes)


def _is_in_order(inputs: Sequence[Any], shape: tuple[int, ...]) -> bool:
    """Whether some input has the shape of the result, in C order."""
    for x in inputs:  # noqa: SIM110  (any() takes twice as long)
        if isinstance(x, Blank) and x.shape == shape and x.is_contiguous:
            return True
    return False


def _order(inputs: Sequence[Any], shape: tuple[int, ...]) -> list[int] | None:
    """The order of axes in memory that an elementwise result takes from its inputs, the slowest first."""
    layouts = [x._layout if isinstance(x, Blank) else x for x in inputs if np.shape(x) == shape]
    if not layouts or not shape or any(layout.flags.c_contiguous for layout in layouts):
        return None
    return sorted(range(len(shape)), key=lambda axis: -abs(layouts[0].strides[axis]))


def _shape_of_product(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    left, right = a if len(a) > 1 else (1, *a), b if len(b) > 1 else (*b, 1)
    if left[-1] != right[-2]:
        raise ValueError(f"matmul: shapes {a} and {b} do not fit")
    batch = np.broadcast_shapes(left[:-2], right[:-2])
    return (*batch, *(left[-2:-1] if len(a) > 1 else ()), *(right[-1:] if len(b) > 1 else ()))


def _shape_of_gathered(shape: tuple[int, ...], parts: Sequence[Any]) -> tuple[int, ...]:
    """The shape of an array indexed by arrays among other things: theirs comes where they stand, or else first."""
    spread: list[Any] = []
    for part in parts:
        is_mask = getattr(part, "dtype", None) == np.bool_
        spread.extend(np.asarray(part).nonzero() if is_mask else [part])
    rest = len(shape) - sum(part is not None and part is not Ellipsis for part in spread)
    place = next((i for i, part in enumerate(spread) if part is Ellipsis), len(spread))
    spread[place : place + 1] = [Ellipsis, *[slice(None)] * rest]  # even one that stands for no axis divides arrays
    lengths: list[int] = []
    gathered, at, before = [], None, False
    axis = 0
    for part in spread:
        if part is None:
            lengths.append(1)
        elif part is Ellipsis:
            pass
        elif isinstance(part, slice):
            lengths.append(len(range(*part.indices(shape[axis]))))
            axis += 1
        else:
            at = len(lengths) if at is None else (at if before else 0)
            gathered.append(np.shape(part))
            axis += 1
        before = part is not None and part is not Ellipsis and not isinstance(part, slice)
    joined = np.broadcast_shapes(*gathered)
    return (*lengths[:at], *joined, *lengths[at:])


# Functions ---------------------------------------------------------------------------------------------------------


def _reshape(x: Blank, shape: Any, order: str = "C") -> Blank:
    wanted = (shape,) if isinstance(shape, int) else tuple(shape)
    if -1 in wanted:
        rest = math.prod(n for n in wanted if n != -1)
        wanted = tuple(x.size // max(rest, 1) if n == -1 else n for n in wanted)
    if math.prod(wanted) != x.size:
        raise ValueError(f"cannot reshape array of shape {x.shape} into shape {tuple(shape)}")
    try:
        return x._view(np.reshape(x._layout, wanted, copy=False))
    except ValueError:  # the elements are not in that order: NumPy would copy them
        return Blank(wanted, x.dtype)


def _reduced(name: str) -> Callable:
    def reduce(x: Blank, axis: Any = None, dtype: Any = None, keepdims: bool = False, **_: Any) -> Blank:
        axes = range(x.ndim) if axis is None else [a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,))]
        shape = [1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes]
        return Blank(shape, dtype or getattr(np, name)(np.ones(1, x.dtype)).dtype)

    return reduce


def _concatenated(arrays: Sequence[Any], axis: int | None = 0, **_: Any) -> Blank:
    dtype = np.result_type(*[x.dtype for x in arrays])
    if axis is None:
        return Blank((sum(x.size for x in arrays),), dtype)
    shape = list(arrays[0].shape)
    shape[axis] = sum(x.shape[axis] for x in arrays)
    return Blank(shape, dtype)


def _chosen(condition: Any, a: Any, b: Any) -> Blank:
    kinds = [x if type(x) in (float, int, bool) else x.dtype for x in (a, b)]
    return Blank(np.broadcast_shapes(*[np.shape(x) for x in (condition, a, b)]), np.result_type(*kinds))


_functions: dict[Any, Callable] = {
    np.shape: lambda x: x.shape,
    np.reshape: _reshape,
    np.transpose: lambda x, axes=None: x._view(np.transpose(x._layout, axes)),
    np.broadcast_to: lambda x, shape: x._view(np.broadcast_to(x._layout, shape)),
    np.concatenate: _concatenated,
    np.where: _chosen,
    np.cumulative_sum: lambda x, axis=None, **_: Blank(x.shape, np.cumulative_sum(np.ones(1, x.dtype)).dtype),
    np.cumulative_prod: lambda x, axis=None, **_: Blank(x.shape, np.cumulative_prod(np.ones(1, x.dtype)).dtype),
    **{getattr(np, name): _reduced(name) for name in ("sum", "prod", "max", "min", "any", "all", "argmax", "argmin")},
}


class BlankDraws:
    """A random generator that draws blanks: NumPy's `Generator`, for shapes only."""

    def __init__(self) -> None:
        self.bit_generator = SimpleNamespace(state={})

    def _drawn(self, size: Any, dtype: Any = np.float64) -> Blank:
        return Blank(() if size is None else (size,) if isinstance(size, int) else size, dtype)

    def random(self, size: Any = None, dtype: Any = np.float64) -> Blank:
        """Numbers from [0, 1)."""
        return self._drawn(size, dtype)

    def uniform(self, low: float = 0.0, high: float = 1.0, size: Any = None) -> Blank:
        """Numbers from [low, high)."""
        return self._drawn(size)

    def normal(self, loc: float = 0.0, scale: float = 1.0, size: Any = None) -> Blank:
        """Normally distributed numbers."""
        return self._drawn(size)
