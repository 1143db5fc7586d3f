"""Axis arguments: checked and made non-negative once, at the edge of a public function."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np


def normalize_axis(axis: Any, ndim: int, name: str) -> int:
    """`axis` in [0, ndim).

    Raises:
        numpy.exceptions.AxisError: there is no such axis.
    """
    place = index(axis)
    if not -ndim <= place < ndim:
        raise np.exceptions.AxisError(f"{name}: axis {place} is out of bounds for an array of {ndim} dimensions")
    return place + ndim if place < 0 else place


def normalize_axes(axis: Any, ndim: int, name: str) -> tuple[int, ...]:
    """A tuple of distinct axes in [0, ndim), from None (all of them), an integer or a tuple.

    Raises:
        numpy.exceptions.AxisError: there is no such axis.
        ValueError: an axis is named twice.
    """
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, (tuple, list)):
        return (normalize_axis(axis, ndim, name),)
    axes = tuple(normalize_axis(a, ndim, name) for a in axis)
    if len(set(axes)) < len(axes):
        raise ValueError(f"{name}: axis {tuple(axis)} names one axis twice")
    return axes


def reduced_size(shape: Sequence[int], axes: tuple[int, ...]) -> int:
    """How many elements each result of a reduction over `axes` is made of."""
    return math.prod(shape[i] for i in axes)
