"""A program's slots, connected to the places where a function's state is kept.

A program writes over the array that is in a place, unless somebody else still holds that array: then it writes to a
new one, which takes its place. So a value that was taken out before a step stays what it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from sys import getrefcount
from typing import Any

import numpy as np

from chainrule.compile import glance
from chainrule.compile.graph import Value
from chainrule.compile.recording import Place

#: References to an array that nobody else holds: the place's and the binding's.
_OWN = 2


class Misfit(Exception):
    """What is in a place is not what the program is for."""


class Binding:
    """One place, the slots it is read from, and the slot it is written to.

    Attributes:
        array: what was in the place when last looked at.
        holder: the tensor that holds it, where the program makes that itself (a gradient).
        replacement: what the program writes to, where that is not `array`.
    """

    __slots__ = ("array", "arrays", "dtype", "holder", "output", "place", "replacement", "shape", "slots")

    def __init__(
        self, place: Place, slots: list[tuple[Any, int]], output: int | None, written: Value | None, arrays: Any
    ) -> None:
        self.place = place
        self.shape = () if written is None else written.shape
        self.dtype = None if written is None else written.dtype
        self.slots = slots
        self.output = output
        self.arrays = arrays
        self.array: Any = None
        self.holder: Any = None
        self.replacement: Any = None

    def connect(self) -> None:
        """Look at what is in the place now, and let the slots point to it.

        Raises:
            Misfit: it is of another shape or dtype than the program is for, or a gradient is missing or in the way.
        """
        self.replacement = None
        holder = self.place.holder()
        if holder is None:
            if self.slots:
                raise Misfit
            self.replacement = self._unused()
            self.arrays[self.output] = id(self.replacement)
            return
        if self.place.get() is not self.array or (self.place.kind != "array" and holder is not self.holder):
            self._adopt(holder)
        del holder  # which may be the array, and would count as somebody who holds it
        if self.output is not None:
            alone = self._is_alone()
            if not alone:
                self.replacement = np.empty(self.shape, self.dtype)
            self.arrays[self.output] = id(self.array if alone else self.replacement)

    def _unused(self) -> np.ndarray:
        """Memory for a gradient that was dropped: the old one's, if nobody holds it.

        It is kept in the place only after the program has run: a call that fails its checks runs uncompiled, and must
        find no gradient there.
        """
        # References: the binding's and the call's own to the tensor; the tensor's, those two to the array.
        if self.holder is not None and getrefcount(self.holder) <= 2 and getrefcount(self.array) <= 3:
            return self.array
        return np.empty(self.shape, self.dtype)

    def _adopt(self, holder: Any) -> None:
        array = self.place.get()
        if self.array is not None and (array.shape != self.array.shape or array.dtype != self.array.dtype):
            raise Misfit
        if not self._is_fit(array):
            array = np.array(array, order="C")
            self.place.put(array)
            holder = self.place.holder()
        self.array = array
        self.holder = None if self.place.kind == "array" else holder
        for arrays, slot in self.slots:
            arrays[slot] = id(array)

    def _is_fit(self, array: Any) -> bool:
        if type(array) is not np.ndarray or not array.flags.c_contiguous or not array.flags.aligned:
            return False
        return self.output is None or (array.base is None and array.flags.writeable)

    def _is_alone(self) -> bool:
        """Whether writing to the array changes nothing that somebody else looks at."""
        if self.array.dtype != self.dtype or self.array.shape != self.shape:
            return False
        if self.place.kind == "grad" and getrefcount(self.holder) > _OWN + 1:
            return False
        return getrefcount(self.array) <= _OWN + 1  # and the call's own

    def take_over(self) -> None:
        """The replacement has the result: it is kept in the place from now on."""
        self.place.put(self.replacement)
        self.array, self.replacement = self.replacement, None
        self.holder = None if self.place.kind == "array" else self.place.holder()
        for arrays, slot in self.slots:
            arrays[slot] = id(self.array)

    def rows(self) -> list[tuple[Any, str, Any, int]] | None:
        """What a glance must find for nothing to be done; None where it takes more than a glance."""
        count = _OWN if self.output is not None else -1
        if self.place.kind == "value":
            return [(self.place.owner, "_value", self.array, count)]
        if self.place.kind == "grad":
            return [(self.place.owner, "_grad", self.holder, count), (self.holder, "_value", self.array, count)]
        return None


class Bindings:
    """All places of a program. Looking at them costs one call while nothing has changed."""

    def __init__(self, bindings: Sequence[Binding]) -> None:
        self._all = list(bindings)
        self._slow = [binding for binding in self._all if binding.place.kind not in ("value", "grad")]
        self._quick = [binding for binding in self._all if binding.place.kind in ("value", "grad")]
        self._glance: glance.Glance | None = None
        self._replaced = False

    def connect(self) -> None:
        """Let all slots point to what is in the places now."""
        looked = self._slow
        if self._glance is None or not self._glance():
            self._glance = None
            looked = self._all
        for binding in looked:
            binding.connect()
            self._replaced = self._replaced or binding.replacement is not None

    def glance_rows(self) -> Any:
        """The rows of the glance that saw nothing changed last time; None where one is not enough."""
        return None if self._slow or self._glance is None else self._glance.rows

    def finish(self) -> None:
        """After the program: keep what it wrote to new arrays, and learn what is to be found next time."""
        if self._replaced:
            for binding in self._all:
                if binding.replacement is not None:
                    binding.take_over()
                    if binding.output is not None:
                        binding.arrays[binding.output] = id(binding.array)
            self._replaced = False
            self._glance = None
        if self._glance is None and glance.AVAILABLE:
            rows = [row for binding in self._quick for row in binding.rows() or ()]
            self._glance = glance.Glance(rows)
