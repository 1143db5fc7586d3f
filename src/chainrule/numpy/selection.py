"""NumPy's functions that choose elements: by index, by condition, by order; and those that assign to chosen ones.

The derivatives are in `chainrule.ops.indexing`, `elementwise` and `ordering`. Which elements are chosen never
depends on a tensor in a differentiable way; the elements themselves carry their gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.namespace import PYTHON_SCALARS, namespace_of
from chainrule.core.primitive import as_operand
from chainrule.core.tensor import Tensor, _raw
from chainrule.numpy.arguments import check_can_hold, into, is_default, named, refuse
from chainrule.numpy.dtypes import result_type
from chainrule.ops import elementwise, indexing, joining, layout, ordering

# By index ----------------------------------------------------------------------------------------------------------


def take(a: Any, indices: Any, axis: int | None = None, out: Any = None, mode: str = "raise") -> Any:
    """The slices of `a` at `indices` along `axis` (of the flattened array for None)."""
    if mode != "raise":
        a = as_operand("take", a)
        indices = _brought_inside("take", indices, np.size(_raw(a)) if axis is None else a.shape[axis], mode)
    return into(out, indexing.take(a, indices, axis), "take")


def _brought_inside(name: str, indices: Any, length: int, mode: str) -> Any:
    if mode not in ("wrap", "clip"):
        raise ValueError(f"{name}: mode must be 'raise', 'wrap' or 'clip', got {mode!r}")
    raw = np.asarray(_raw(indices))
    return raw % length if mode == "wrap" else np.clip(raw, 0, length - 1)


def take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Any:
    """Elements of `arr` at `indices` along `axis` (of the flattened array for None)."""
    if axis is None:
        return indexing.take_along_axis(layout.ravel(arr), indices, axis=0)
    return indexing.take_along_axis(arr, indices, axis=axis)


def compress(condition: Any, a: Any, axis: int | None = None, out: Any = None) -> Any:
    """The slices of `a` along `axis` (of the flattened array for None) where `condition` holds."""
    return into(out, indexing.take(a, np.flatnonzero(_raw(condition)), axis), "compress")


def choose(a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    """In each place, the element of that one of the `choices` whose number `a` says."""
    like, dtype = namespace_of(*map(_raw, choices)), result_type(*choices)
    arrays = layout.broadcast_arrays(
        *(like.asarray(x, dtype=dtype) if type(x) in PYTHON_SCALARS else x for x in choices)
    )
    numbers = np.asarray(_raw(a))
    if mode != "raise":
        numbers = _brought_inside("choose", numbers, len(arrays), mode)
    elif np.any((numbers < 0) | (numbers >= len(arrays))):
        raise ValueError(f"choose: a must be from 0 to {len(arrays) - 1}, got {numbers.min()} to {numbers.max()}")
    shape = np.broadcast_shapes(numbers.shape, tuple(arrays[0].shape))
    table = joining.stack([layout.broadcast_to(x, shape) for x in arrays])
    y = indexing.take_along_axis(table, np.broadcast_to(numbers, shape)[None], axis=0)
    return into(out, layout.squeeze(y, 0), "choose")


# By condition ------------------------------------------------------------------------------------------------------


def where(condition: Any, x: Any = None, y: Any = None, /) -> Any:
    """`x` where `condition` holds and `y` elsewhere; with the condition alone, the indices where it holds."""
    if x is None and y is None:
        return ordering.nonzero(condition)
    if x is None or y is None:
        raise ValueError("where: give both x and y, or neither")
    return elementwise.where(condition, x, y)


def clip(
    a: Any, a_min: Any = None, a_max: Any = None, out: Any = None, *, min: Any = None, max: Any = None,
    **options: Any,
) -> Any:  # fmt: skip
    """`a` limited to [`a_min`, `a_max`], which may also be called `min` and `max`; None is no limit."""
    refuse("clip", **options)
    low, high = (a_min, min), (a_max, max)
    if not all(any(is_default(limit) for limit in pair) for pair in (low, high)):
        raise ValueError("clip: a_min and min, and a_max and max, are two names of one argument; give one of them")
    bounds = [next((limit for limit in pair if not is_default(limit)), None) for pair in (low, high)]
    return into(out, elementwise.clip(a, *bounds), "clip")


def round(a: Any, decimals: int = 0, out: Any = None) -> Any:
    """`a` rounded to `decimals` places after the point, halves to even."""
    return into(out, elementwise.round(a, decimals), "round")


around = round

# By order ----------------------------------------------------------------------------------------------------------


def sort(
    a: Any, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None,
    descending: bool = False,
) -> Any:  # fmt: skip
    """`a` in order along `axis` (flattened for None). The sort is stable, whatever `kind` is."""
    refuse("sort", order=order)
    return ordering.sort(a, axis, descending)


def argsort(
    a: Any, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None,
    descending: bool = False,
) -> Any:  # fmt: skip
    """The indices that sort `a` along `axis` (flattened for None). The sort is stable, whatever `kind` is."""
    refuse("argsort", order=order)
    return ordering.argsort(a, axis, descending)


def argpartition(a: Any, kth: Any, axis: int | None = -1, kind: str = "introselect", order: Any = None) -> Any:
    """Indices that put the `kth` smallest elements along `axis` in their places, smaller ones before them."""
    refuse("argpartition", order=order)
    return Tensor(np.argpartition(np.asarray(_raw(a)), _raw(kth), axis=axis))


def partition(a: Any, kth: Any, axis: int | None = -1, kind: str = "introselect", order: Any = None) -> Any:
    """`a` with the `kth` smallest elements along `axis` in their places, smaller ones before them."""
    return take_along_axis(a, argpartition(a, kth, axis, kind, order), axis)


searchsorted = named(ordering.searchsorted, np.searchsorted)
nonzero = named(ordering.nonzero, np.nonzero)


def unique(
    ar: Any, return_index: bool = False, return_inverse: bool = False, return_counts: bool = False,
    axis: int | None = None, *, equal_nan: bool = True, sorted: bool = True,
) -> Any:  # fmt: skip
    """The distinct values of `ar` (or its distinct slices along `axis`) in order, with the further parts asked for.

    The gradient of a value goes to the element where it is found first.
    """
    ar = as_operand("unique", ar)
    options: Any = {"return_inverse": return_inverse, "return_counts": return_counts, "equal_nan": equal_nan}
    _, first, *parts = np.unique(np.asarray(_raw(ar)), return_index=True, axis=axis, **options)
    parts = ([first] if return_index else []) + parts
    values = indexing.take(ar, first, axis)
    return (values, *(Tensor(part) for part in parts)) if parts else values


unique_all, unique_counts = ordering.unique_all, ordering.unique_counts
unique_inverse, unique_values = ordering.unique_inverse, ordering.unique_values

# Assignment: the tensor moves to a new value, as with `t[index] = v` ------------------------------------------------


def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    """Assign `src` to `dst` in the places where `where` holds."""
    refuse("copyto", casting=None if casting in ("same_kind", "unsafe") else casting)
    check_can_hold("copyto", dst, src)
    if where is not True and not is_default(where):
        src = elementwise.where(where, src, dst)
    src = layout.broadcast_to(src, dst.shape)
    into(dst, layout.astype(src, dst.dtype) if casting == "unsafe" else src, "copyto")


def put(a: Any, ind: Any, v: Any, mode: str = "raise") -> None:
    """Assign `v`, repeated as often as needed, to the elements of the flattened `a` at `ind`."""
    check_can_hold("put", a, v)
    places = np.asarray(_raw(ind)).ravel()
    size = np.size(_raw(a))
    if mode != "raise":
        places = _brought_inside("put", places, size, mode)
    elif np.any((places < -size) | (places >= size)):
        raise IndexError(f"put: indices from {places.min()} to {places.max()} do not fit an array of {size} elements")
    if places.size:
        a[np.unravel_index(places % size, tuple(a.shape))] = _repeated(v, places.size)


def _repeated(v: Any, size: int) -> Any:
    """The elements of `v`, over and over until there are `size` of them."""
    v = layout.ravel(v)
    return indexing.take(v, np.arange(size) % v.shape[0])


def putmask(a: Any, /, mask: Any, values: Any) -> None:
    """Assign to `a` where `mask` holds the elements of `values` in those places, repeated if it is shorter."""
    check_can_hold("putmask", a, values)
    chosen = np.asarray(_raw(mask), dtype=bool)
    if chosen.any():
        a[chosen] = layout.reshape(_repeated(values, np.size(_raw(a))), tuple(a.shape))[chosen]


def place(arr: Any, mask: Any, vals: Any) -> None:
    """Assign to `arr` where `mask` holds the first elements of `vals`, repeated if there are too few."""
    check_can_hold("place", arr, vals)
    chosen = np.asarray(_raw(mask), dtype=bool).reshape(tuple(arr.shape))
    if chosen.any():
        arr[chosen] = _repeated(vals, int(chosen.sum()))


def put_along_axis(arr: Any, indices: Any, values: Any, axis: int | None) -> None:
    """Assign `values` to the elements of `arr` that `take_along_axis` would take."""
    check_can_hold("put_along_axis", arr, values)
    places = np.asarray(_raw(indices))
    if axis is None:
        arr[np.unravel_index(places, tuple(arr.shape))] = values
    else:
        arr[indexing._along(places, axis % places.ndim)] = values


def fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    """Assign `val`, repeated as often as needed, to the main diagonal of `a`."""
    check_can_hold("fill_diagonal", a, val)
    places = np.zeros(tuple(a.shape), dtype=bool)
    np.fill_diagonal(places, True, wrap)
    a[places] = _repeated(val, int(places.sum()))


__all__ = [
    *("take", "take_along_axis", "compress", "choose", "where", "clip", "round", "around"),
    *("sort", "argsort", "partition", "argpartition", "searchsorted", "nonzero"),
    *("unique", "unique_all", "unique_counts", "unique_inverse", "unique_values"),
    *("copyto", "put", "putmask", "place", "put_along_axis", "fill_diagonal"),
]
