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
    itself, a share by 1/(2√n) at most (one standard error): with 512, 4.4%, 3.1%, and 2.2 percentage points.
    """
    if limit is None or math.prod(x.shape) < 2 * limit:
        return x
    return copied(_chosen(x, limit))  # near each other, for what passes over them next


def copied(x: Any) -> Any:
    """Another array of the same values."""
    return x.copy() if isinstance(x, np.ndarray) else namespace_of(x).asarray(x, copy=True)


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
    """Samples of several arrays, end to end in one vector of float64; see `sampled`.

    A look at a network now and then runs code that nothing has run for many steps: there a call takes some ten times as
    long as in a loop, so it is few functions that are called here, each for one sample after the other.
    """

    def __init__(self, rows: Sequence[np.ndarray], counts: Sequence[int]) -> None:
        """Put samples together that were taken of arrays of so many elements."""
        self._counts = list(counts)
        self._lengths = [len(row) for row in rows]
        self._elements = np.concatenate([_NONE, *rows], dtype=np.float64, casting="unsafe")

    @classmethod
    def of(cls, arrays: Sequence[Any], limit: int | None) -> Samples:
        """Take about `limit` elements of each."""
        return cls([as_numpy(_chosen(x, limit)) for x in arrays], [math.prod(x.shape) for x in arrays])

    def are_like(self, other: Samples) -> bool:
        """Whether as much was taken of arrays of the same sizes."""
        return self._counts == other._counts

    def spreads(self) -> list[Spread]:
        """How the elements of each are spread. The variance is that around zero less the square of the mean, off by
        1e-16 of that square.
        """
        if not self._lengths:
            return []
        starts = [end - n for end, n in zip(accumulate(self._lengths), self._lengths, strict=True)]
        if 0 in self._lengths:  # NumPy would take the next sample's first element
            return [spread(part, count) for part, count in zip(self._parts, self._counts, strict=True)]
        low, high = (f.reduceat(self._elements, starts).tolist() for f in (np.minimum, np.maximum))
        return list(map(_spread, self._parts, self._counts, low, high))

    def norms(self) -> list[float]:
        """The norm of each array, by its sample's."""
        return [math.sqrt(square) for square in self._products(self._parts, self._parts)]

    def zeros(self) -> list[float]:
        """Share of exact zeros in each."""
        return [1 - np.count_nonzero(part) / len(part) if len(part) else 0.0 for part in self._parts]

    def distances(self, other: Samples) -> list[float]:
        """The norm of the difference of each array to another that was sampled in the same way."""
        with np.errstate(invalid="ignore"):  # infinities
            off = self._split(self._elements - other._elements)
        return [math.sqrt(square) for square in self._products(off, off)]

    def product(self, other: Samples) -> float:
        """The inner product, over all arrays together, with others that were sampled in the same way."""
        return sum(self._products(self._parts, other._parts))

    def shares_below(self, bounds: Sequence[float]) -> list[float]:
        """Share of elements of each whose absolute value is below its bound."""
        flat = np.abs(self._elements) < np.repeat(bounds, self._lengths)
        return [np.count_nonzero(part) / max(len(part), 1) for part in self._split(flat)]

    def _products(self, parts: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> list[float]:
        """Inner products of arrays, by their samples'."""
        found = map(float, map(np.vdot, parts, others))  # `dot` warns of overflow
        return [x * n / max(length, 1) for x, n, length in zip(found, self._counts, self._lengths, strict=True)]

    @functools.cached_property
    def _parts(self) -> list[np.ndarray]:
        return self._split(self._elements)

    def _split(self, x: np.ndarray) -> list[np.ndarray]:
        return [x[end - n : end] for end, n in zip(accumulate(self._lengths), self._lengths, strict=True)]


_NONE = np.zeros(0)


def _spread(x: np.ndarray, count: int, low: float, high: float) -> Spread:
    """As `spread`, of a sample whose smallest and largest elements are known."""
    square = float(np.vdot(x, x))
    if not math.isfinite(square):
        return spread(x, count)
    mean = float(np.vdot(x, _ones(len(x)))) / len(x)
    deviation = _deviation(square / len(x), mean) if low < high else 0.0
    return Spread(count, mean, deviation, low, high, 1 - np.count_nonzero(x) / len(x), 0.0)


@functools.lru_cache(maxsize=64)
def _ones(count: int) -> np.ndarray:
    return np.ones(count)


def _deviation(square: float, mean: float) -> float:
    return math.sqrt(max(square - mean * mean, 0.0))


def norm(x: Any) -> float:
    """The Euclidean norm of all elements, which neither overflows nor underflows on the way; inf or NaN if they are."""
    x = floating(x)
    if isinstance(x, np.ndarray):
        flat = x.ravel(order="K")  # transposed ones are not copied
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
    if not xp.any(left):
        return 0.0
    if first < x.shape[0]:
        (candidates,) = xp.nonzero(left)
        value = _units(value, candidates, axis) if hasattr(value, "shape") else value
        left = xp.all(_units(x[first:], candidates, axis) == value, axis=others)
    return int(xp.count_nonzero(left)) / x.shape[axis]


def _units(x: Any, places: Any, axis: int) -> Any:
    """Some units of `x`. NumPy's `take` would bring all of an array in Fortran's order into C's first."""
    if isinstance(x, np.ndarray):
        return x[(slice(None),) * axis + (places,)]
    return namespace_of(x).take(x, places, axis=axis)


_TOLD_BY = 16384
"""Elements that show of most units that they are not at one value: of 512 units that are zero in two of three examples,
the first 32 leave none in doubt.
"""


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
