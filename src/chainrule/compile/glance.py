"""A look at many Python objects in one call of machine code: is everything still where it was, and held by nobody else?

A compiled step has hundreds of parameters, and Python takes longer to look at each than a small network takes to train.
What is looked at are the pointer in a tensor's slot and the number of references of an object, where CPython keeps
them. On an interpreter that keeps them elsewhere `AVAILABLE` is False, and everybody looks in Python.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Sequence
from types import CellType
from typing import Any

import numpy as np

from chainrule.compile import cache
from chainrule.compile.machine import Machine, NativeModule, Optimised
from chainrule.core.tensor import Tensor

_CELL_CONTENT = 16

_SOURCE = """
; Rows of three: where a pointer is kept, the object it must point to, and that object's number of references (−1: any).
define i32 @glance(ptr %rows, ptr %end) {
start:
  br label %next
next:
  %row = phi ptr [ %rows, %start ], [ %following, %good ]
  %over = icmp eq ptr %row, %end
  br i1 %over, label %same, label %look
look:
  %location = load ptr, ptr %row
  %at.object = getelementptr i64, ptr %row, i64 1
  %at.count = getelementptr i64, ptr %row, i64 2
  %object = load ptr, ptr %at.object
  %count = load i64, ptr %at.count
  %now = load ptr, ptr %location
  %there = icmp eq ptr %now, %object
  br i1 %there, label %check, label %other
check:
  %count.now = load i32, ptr %object
  %count.32 = trunc i64 %count to i32
  %alone = icmp eq i32 %count.now, %count.32
  %any = icmp slt i64 %count, 0
  %fine = or i1 %alone, %any
  br i1 %fine, label %good, label %other
good:
  %following = getelementptr i64, ptr %row, i64 3
  br label %next
same:
  ret i32 1
other:
  ret i32 0
}
"""


@functools.cache
def slot_offset(name: str) -> int | None:
    """Where in a tensor object the pointer of a slot is."""
    tensor, mark = Tensor(None), object()
    tensor._value = tensor._node = tensor._grad = None
    setattr(tensor, name, mark)
    words = range(2, Tensor.__basicsize__ // 8)
    found = [8 * i for i in words if ctypes.c_int64.from_address(id(tensor) + 8 * i).value == id(mark)]
    return found[0] if len(found) == 1 else None


def _counts_are_there() -> bool:
    held = [object() for _ in range(3)]
    others = [held[1], held[2], held[2]]
    counts = [ctypes.c_uint32.from_address(id(x)).value for x in held]
    del others
    return np.diff(counts).tolist() == [1, 1] and counts[0] in (2, 3)


def _cells_are_so() -> bool:
    mark = object()
    cell = CellType(mark)
    return ctypes.c_int64.from_address(id(cell) + _CELL_CONTENT).value == id(mark)


#: Whether this interpreter keeps pointers and counts where they are looked for.
AVAILABLE = (
    sys.implementation.name == "cpython"
    and sys.byteorder == "little"
    and slot_offset("_value") is not None
    and slot_offset("_grad") is not None
    and slot_offset("_node") is not None
    and _counts_are_there()
    and _cells_are_so()
)


@functools.cache
def _function() -> Any:
    machine = Machine.host()
    code = cache.object_code("glance", machine, lambda: [Optimised(_SOURCE, machine).object_code()])
    module = NativeModule(code, ["glance"], machine)
    function = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(module.address("glance"))
    function.module = module  # type: ignore[attr-defined]
    return function


def function_address() -> int:
    """The address of the code, for other code to call."""
    return _function().module.address("glance")


def address(array: np.ndarray) -> int:
    """The address of an array's first element."""
    return array.__array_interface__["data"][0]


def cell_rows(slots: Sequence[Any]) -> np.ndarray:
    """Rows that find in the cells of closures, among `slots`, what was found there when they were surveyed."""
    cells = [slot for slot in slots if type(slot.owner) is CellType]
    return np.array([(id(slot.owner) + _CELL_CONTENT, id(slot.held), -1) for slot in cells], np.int64).reshape(-1, 3)


class Glance:
    """Rows of (tensor, its slot, the object in it, the object's number of references), all checked at once.

    Attributes:
        rows: what the code is given.
    """

    def __init__(self, rows: Sequence[tuple[Tensor, str, Any, int]]) -> None:
        words = [
            (id(tensor) + (slot_offset(slot) or 0), id(held), count) for tensor, slot, held, count in rows
        ]  # fmt: skip
        self.rows = np.array(words, np.int64).reshape(-1, 3)
        start = address(self.rows)
        self._look = functools.partial(_function(), start, start + self.rows.nbytes)

    def __call__(self) -> bool:
        """Whether everything is as the rows say."""
        return self._look()
