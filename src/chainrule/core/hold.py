"""Keeps a caller's NumPy array unchanged for as long as a graph needs its value.

An operation may keep an array that belongs to the caller (a batch, a constant). While it does, the array and the
arrays it is a view of are read-only, so NumPy itself refuses `x[0] = 5`; when the last graph that needs them is
gone they are writeable again. Views that the caller made before recording stay writeable: NumPy has no way to
find them. Memory that NumPy does not own (a buffer, another library's array) cannot be protected: it is copied.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: Arrays made read-only here, by id: the array, how many holds it has, and views to restore after it.
_held: dict[int, list] = {}


class Hold:
    """A share in the protection of one array and what it is a view of; ends with this object."""

    __slots__ = ("arrays",)

    def __init__(self, arrays: list[np.ndarray]) -> None:
        self.arrays = arrays

    def __del__(self) -> None:
        for array in reversed(self.arrays):  # owners of memory before their views, as NumPy demands
            entry = _held[id(array)]
            entry[1] -= 1
            if entry[1] == 0:
                del _held[id(array)]
                _restore([array, *entry[2]])


def _restore(arrays: list[np.ndarray]) -> None:
    owner = arrays[0].base
    below = _held.get(id(owner)) if owner is not None else None
    if below is not None:
        below[2] += arrays  # NumPy refuses a writeable view of a read-only array: wait for the owner
        return
    for array in arrays:
        array.setflags(write=True)


def is_holdable(array: np.ndarray) -> bool:
    """Whether NumPy owns the memory, so that it can be made read-only and writeable again."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array.base is None


def hold(array: Any) -> Hold | None:
    """Make `array`, and what it is a view of, read-only until the returned object is gone.

    Returns None where there is nothing to protect: it is no NumPy array, or was read-only all along. The array must
    be holdable.
    """
    arrays = []
    while isinstance(array, np.ndarray):
        entry = _held.get(id(array))
        if entry is not None:
            entry[1] += 1
            arrays.append(array)
        elif array.flags.writeable:
            array.setflags(write=False)
            _held[id(array)] = [array, 1, []]
            arrays.append(array)
        array = array.base
    return Hold(arrays) if arrays else None
