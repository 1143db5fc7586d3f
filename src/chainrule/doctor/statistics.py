"""Numbers that describe an array: spread, norm, histogram, shares. Written once, for arrays of any library.

Everything is returned as Python numbers. Half precision is read as float32; integers and booleans as float64.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from scipy.linalg.blas import snrm2

from chainrule.core.namespace import namespace_of
from chainrule.doctor.measurements import Histogram, Spread

_FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})


def floating(x: Any) -> Any:
    """`x` in float32 or float64; in NumPy's hands where it lies in the memory of this computer."""
    if isinstance(x.dtype, np.dtype):
        if x.dtype in _FLOATS:
            return x
        return x.astype(np.float32 if x.dtype.kind == "f" else np.float64)
    xp = namespace_of(x)
    name = str(x.dtype)
    if not name.endswith(("float32", "float64")):
        x = xp.astype(x, xp.float32 if "float" in name else xp.float64)
    return on_host(x)


def on_host(x: Any) -> Any:
    """`x` in NumPy's hands, where it lies in this computer's memory and NumPy knows its dtype: that is faster."""
    if isinstance(x, (np.ndarray, np.generic)):
        return x
    if getattr(x, "requires_grad", False):
        x = x.detach()
    device = getattr(x, "device", None)
    if getattr(device, "type", device) != "cpu" or not _numpy_knows(x.dtype):
        return x
    return x.numpy() if hasattr(x, "numpy") else np.asarray(x)


@functools.cache
def _numpy_knows(dtype: Any) -> bool:
    return "bfloat" not in str(dtype)


def sampled(x: Any, limit: int | None) -> Any:
    """Every so many elements of `x`, about `limit` to twice as many; all of them where there are no more, or no limit.

    Some of them are a copy. No feature and no place is passed over: the distance has no factor in common with the
    length. Of n elements that are looked at, a mean is off by 1/√n of the standard deviation, that by 1/√(2n) of
    itself, a share by 1/(2√n) at most (one standard error): with 1024, 3.1%, 2.2%, and 1.6 percentage points.
    """
    if limit is None or math.prod(x.shape) < 2 * limit:
        return x
    part = _chosen(x, limit)
    return namespace_of(part).asarray(part, copy=True)  # near each other, for what passes over them next


def _chosen(x: Any, limit: int | None) -> Any:
    """The elements of `x` that a sample is made of, in a row."""
    x = on_host(x)  # what is sampled is only looked at
    flat = x.ravel(order="K") if isinstance(x, np.ndarray) else namespace_of(x).reshape(x, (-1,))
    count = flat.shape[0]
    return flat if limit is None or count < 2 * limit else flat[:: _distance(count, limit)]


@functools.lru_cache(maxsize=1024)
def _distance(count: int, limit: int) -> int:
    distance = count // limit
    while math.gcd(distance, count) > 1:
        distance += 1
    return distance


def spread(x: Any, count: int | None = None) -> Spread:
    """How the elements of `x` are spread; `count` says how many there were, where it is a sample."""
    x = floating(x)
    looked_at = math.prod(x.shape)
    if looked_at == 0:
        return Spread(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    count = looked_at if count is None else count
    xp = namespace_of(x)
    smallest, largest = float(xp.min(x, axis=None)), float(xp.max(x, axis=None))
    if math.isfinite(smallest) and math.isfinite(largest):
        mean = float(xp.sum(x, axis=None)) / looked_at
        return Spread(count, mean, norm(x - mean) / math.sqrt(looked_at), smallest, largest, zeros(x), 0.0)
    rest = spread(x[xp.isfinite(x)])
    left_out = 1 - rest.count / looked_at
    return Spread(count, rest.mean, rest.std, rest.smallest, rest.largest, zeros(x), left_out)


class Samples:
    """Samples of several arrays, end to end in one vector of float64; see `sampled`."""

    def __init__(self, arrays: Sequence[Any], limit: int | None) -> None:
        """Take about `limit` elements of each."""
        parts = [as_numpy(_chosen(x, limit)) for x in arrays]
        ends = list(accumulate(part.shape[0] for part in parts))
        self._parts = [slice(end - part.shape[0], end) for part, end in zip(parts, ends, strict=True)]
        self._counts = [math.prod(x.shape) for x in arrays]
        self._elements = np.concatenate([np.zeros(0), *parts], dtype=np.float64, casting="unsafe")

    def are_like(self, other: Samples) -> bool:
        """Whether as much was taken of arrays of the same sizes."""
        return self._counts == other._counts

    def norms(self, less: Samples | None = None) -> list[float]:
        """The norm of each array, by its sample's; or that of the difference to another, sampled in the same way."""
        elements = self._elements if less is None else self._elements - less._elements
        return [
            norm(elements[part]) * math.sqrt(count / max(part.stop - part.start, 1))
            for part, count in zip(self._parts, self._counts, strict=True)
        ]

    def square(self, less: Samples | None = None) -> float:
        """The squared norm of all arrays together, by their samples; or that of the difference to others."""
        elements = self._elements if less is None else self._elements - less._elements
        parts = [elements[part] for part in self._parts]
        return sum(
            float(np.vdot(part, part)) * (count / max(part.shape[0], 1))
            for part, count in zip(parts, self._counts, strict=True)
        )

    def zeros(self) -> list[float]:
        """Share of exact zeros in each."""
        return [zeros(self._elements[part]) for part in self._parts]

    def parts(self) -> list[np.ndarray]:
        """The sample of each."""
        return [self._elements[part] for part in self._parts]


def norm(x: Any) -> float:
    """The Euclidean norm of all elements, which neither overflows nor underflows on the way; inf or NaN if they are."""
    x = floating(x)
    if isinstance(x, np.ndarray):
        flat = x.ravel(order="K")  # transposed ones are not copied
        if 0 < flat.size <= _FEW and flat.dtype == np.float32:
            size = float(snrm2(flat))
            if size < math.inf:
                return size
        square = float(np.vdot(flat, flat))  # `dot` warns of overflow, and not to be warned takes its time
    else:
        flat = namespace_of(x).reshape(x, (-1,))
        square = float(flat @ flat)
    if 1e-30 < square < 1e30:
        return math.sqrt(square)
    if 0 in x.shape:
        return 0.0
    xp = namespace_of(x)
    scale = float(xp.max(xp.abs(flat), axis=None))
    if scale == 0 or not math.isfinite(scale):
        return scale
    flat = flat / scale
    return scale * math.sqrt(float(flat @ flat))


_FEW = 16384
"""Up to so many numbers, BLAS's careful norm takes less time than a product and the care around it."""


def overall(arrays: Iterable[Any]) -> float:
    """The norm of all of them together."""
    return math.hypot(*map(norm, arrays))


def share(condition: Any) -> float:
    """Share of elements for which it holds; 0 where there are none."""
    count = math.prod(condition.shape)
    if not count:
        return 0.0
    return int(namespace_of(condition).count_nonzero(condition)) / count


def zeros(x: Any) -> float:
    """Share of exact zeros."""
    count = math.prod(x.shape)
    x = floating(x)
    return 1 - int(namespace_of(x).count_nonzero(x)) / count if count else 0.0


def zero_units(x: Any, axis: int) -> float:
    """Share of units, counted along `axis`, that are zero everywhere else."""
    return _units_at(floating(x), 0, axis)


def constant_units(x: Any, axis: int) -> float:
    """Share of units, counted along `axis`, that have the same value everywhere else; 0 for a single example."""
    x = floating(x)
    if 0 in x.shape or x.shape[0] < 2:
        return 0.0
    unit = axis % len(x.shape)
    return _units_at(x, x[tuple(slice(None) if k == unit else slice(1) for k in range(len(x.shape)))], axis)


def _units_at(x: Any, value: Any, axis: int) -> float:
    """Share of units that are at `value` throughout: told of most by the first examples, of the rest by the others."""
    xp, axis = namespace_of(x), axis % len(x.shape)
    others = tuple(k for k in range(len(x.shape)) if k != axis)
    count = math.prod(x.shape)
    if not others or not count:
        return 0.0
    first = max(1, _TOLD_BY * x.shape[0] // count) if axis else x.shape[0]
    left = xp.all(x[:first] == value, axis=others)
    (candidates,) = xp.nonzero(left)
    if first < x.shape[0] and candidates.shape[0]:
        value = _units(value, candidates, axis) if hasattr(value, "shape") else value
        left = xp.all(_units(x[first:], candidates, axis) == value, axis=others)
    return int(xp.count_nonzero(left)) / x.shape[axis]


def _units(x: Any, places: Any, axis: int) -> Any:
    """Some units of `x`. NumPy's `take` would bring all of an array in Fortran's order into C's first."""
    if isinstance(x, np.ndarray):
        return x[(slice(None),) * axis + (places,)]
    return namespace_of(x).take(x, places, axis=axis)


_TOLD_BY = 4096
"""Elements that show of most units that they are not at one value."""


def histogram(x: Any, bins: int = 32) -> Histogram:
    """Counts of the finite elements, or of enough of them to draw, in bins of equal width from smallest to largest."""
    values = as_numpy(floating(sampled(x, 8192))).reshape(-1)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return Histogram((), ())
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        return Histogram((low, high), (int(values.size),))
    counts, edges = np.histogram(values.astype(np.float64), bins=bins)
    return Histogram(tuple(edges.tolist()), tuple(counts.tolist()))


def as_numpy(x: Any) -> np.ndarray:
    """`x` as a NumPy array, wherever it lives."""
    if isinstance(x, (np.ndarray, np.generic)):
        return np.asarray(x)
    if "bfloat" in str(x.dtype):
        x = floating(x)
    return np.asarray(x.cpu() if hasattr(x, "cpu") else x)


def twins(rows: np.ndarray) -> float:
    """Share of rows of a matrix that equal another row."""
    if rows.shape[0] < 2:
        return 0.0
    mark = np.random.default_rng(0).normal(size=(rows.shape[1],)).astype(rows.dtype)
    with np.errstate(all="ignore"):
        _, inverse, counts = np.unique(rows @ mark, return_inverse=True, return_counts=True)  # equal rows, equal marks
    return float(np.mean(counts[inverse] > 1))
