"""Keeps a caller's NumPy array unchanged for as long as a graph needs its value.

An operation may keep an array that belongs to the caller (a batch, a constant). While it does, the array and the
arrays it is a view of are read-only, so NumPy itself refuses `x[0] = 5`; when the last graph that needs them is
gone they are writeable again. Views that the caller made before recording stay writeable: NumPy has no way to
find them.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

import numpy as np


class Hold:
    """One array made read-only; the flag is restored when the last owner of this object lets go."""

    __slots__ = ("__weakref__", "array", "base", "waiting")

    def __init__(self, array: np.ndarray, base: Hold | None) -> None:
        self.array = array
        self.base = base
        self.waiting: list[np.ndarray] = []  # views that cannot be writeable before this array is
        array.setflags(write=False)

    def __del__(self) -> None:
        restore = [self.array, *self.waiting]
        if self.base is not None and not self.base.array.flags.writeable:
            self.base.waiting += restore  # NumPy refuses a writeable view of a read-only array
            return
        for array in restore:
            array.setflags(write=True)


_holds: WeakValueDictionary[int, Hold] = WeakValueDictionary()


def hold(array: Any) -> Hold | None:
    """Make `array`, and what it is a view of, read-only until the returned object is gone.

    Returns None where there is nothing to protect (read-only already, or memory that NumPy does not own).
    """
    if not isinstance(array, np.ndarray):
        return None
    found = _holds.get(id(array))
    if found is not None:
        return found
    base = hold(array.base)
    if not array.flags.writeable:
        return base
    made = Hold(array, base)
    _holds[id(array)] = made
    return made
