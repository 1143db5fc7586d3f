"""A call of a small program in one call of machine code.

A network of a few hundred parameters trains in a microsecond, and Python takes several to look at two arguments. So
where a program's arguments are plain NumPy arrays, machine code does what `Variant.run` does: looks at the arrays and
at the program's state, connects them, runs the checks and the program. Where anything is not as expected it says so,
and the call goes the long way. The interpreter's lock is held meanwhile, so this is for programs of microseconds.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from chainrule.compile import cache, glance
from chainrule.compile.capture import Slot
from chainrule.compile.machine import Machine, NativeModule, Optimised
from chainrule.core import state
from chainrule.core.tensor import Tensor

_allocate = object.__new__
_address = ctypes.c_int64.from_address

#: What the code returns beside what running a program returns: not as expected, and not passing the checks.
_MISFIT, _FAILED = 2, 3
_ANSWERS = (0, 1, _MISFIT, _FAILED)

# Where CPython and NumPy keep what is looked at, in bytes.
_TUPLE_SIZE, _TUPLE_ITEMS, _TYPE = 16, 24, 8
_DATA, _DIMENSIONS, _LENGTHS, _DTYPE, _FLAGS = 16, 24, 32, 56, 64
_WORDS = 8

#: Kinds of arguments: an object that must be that very one, an array, a tensor that is no result of a recorded step.
_OBJECT, _ARRAY, _TENSOR = 0, 1, 2

_SOURCE = f"""
declare i32 @glance(ptr, ptr)

; %spec: 0 number of arguments, 1 their rows, 2 and 3 begin and end of the rows for @glance, 4 what runs the checks or
; null, 5 the flags they set, 6 how many, 7 what runs the program, 8 Python's None, 9 and on the answers as Python has
; them. A row of an argument: 0 its kind, 1 the object itself or the type of an array, 2 dtype, 3 how many axes, 4 the
; lengths of those, 5 and 6 where the array is to be noted, or null, 7 the type of a tensor.
define i32 @shortcut(ptr %spec, ptr %tuple) {{
start:
  %at.size = getelementptr i8, ptr %tuple, i64 {_TUPLE_SIZE}
  %items = getelementptr i8, ptr %tuple, i64 {_TUPLE_ITEMS}
  %at.rows = getelementptr i64, ptr %spec, i64 1
  %size = load i64, ptr %at.size
  %count = load i64, ptr %spec
  %rows = load ptr, ptr %at.rows
  %complete = icmp eq i64 %size, %count
  br i1 %complete, label %each, label %misfit
each:
  %i = phi i64 [ 0, %start ], [ %next, %fits ]
  %over = icmp eq i64 %i, %count
  br i1 %over, label %state, label %argument
argument:
  %at.item = getelementptr ptr, ptr %items, i64 %i
  %item = load ptr, ptr %at.item
  %place = mul i64 %i, {_WORDS}
  %row = getelementptr i64, ptr %rows, i64 %place
  %at.expected = getelementptr i64, ptr %row, i64 1
  %kind = load i64, ptr %row
  %expected = load ptr, ptr %at.expected
  switch i64 %kind, label %tensor [ i64 {_OBJECT}, label %same
                                    i64 {_ARRAY}, label %typed ]
same:
  %equal = icmp eq ptr %item, %expected
  br i1 %equal, label %fits, label %misfit
tensor:
  %at.kind.of = getelementptr i8, ptr %item, i64 {_TYPE}
  %at.node = getelementptr i8, ptr %item, i64 {glance.slot_offset("_node")}
  %at.value = getelementptr i8, ptr %item, i64 {glance.slot_offset("_value")}
  %at.tensor = getelementptr i64, ptr %row, i64 7
  %wanted.tensor = load ptr, ptr %at.tensor
  %kind.of = load ptr, ptr %at.kind.of
  %is.tensor = icmp eq ptr %kind.of, %wanted.tensor
  br i1 %is.tensor, label %constant, label %misfit
constant:
  %node = load ptr, ptr %at.node
  %value.of = load ptr, ptr %at.value
  %at.none = getelementptr i64, ptr %spec, i64 8
  %no.node = load ptr, ptr %at.none
  %none.there = icmp eq ptr %node, %no.node
  br i1 %none.there, label %typed, label %misfit
typed:
  %array = phi ptr [ %item, %argument ], [ %value.of, %constant ]
  %at.type = getelementptr i8, ptr %array, i64 {_TYPE}
  %type = load ptr, ptr %at.type
  %typed.so = icmp eq ptr %type, %expected
  br i1 %typed.so, label %inside, label %misfit
inside:
  %at.dtype = getelementptr i8, ptr %array, i64 {_DTYPE}
  %at.axes = getelementptr i8, ptr %array, i64 {_DIMENSIONS}
  %at.lengths = getelementptr i8, ptr %array, i64 {_LENGTHS}
  %at.flags = getelementptr i8, ptr %array, i64 {_FLAGS}
  %dtype = load ptr, ptr %at.dtype
  %axes.32 = load i32, ptr %at.axes
  %lengths = load ptr, ptr %at.lengths
  %flags = load i32, ptr %at.flags
  %at.dtype.wanted = getelementptr i64, ptr %row, i64 2
  %at.axes.wanted = getelementptr i64, ptr %row, i64 3
  %at.lengths.wanted = getelementptr i64, ptr %row, i64 4
  %dtype.wanted = load ptr, ptr %at.dtype.wanted
  %axes.wanted = load i64, ptr %at.axes.wanted
  %lengths.wanted = load ptr, ptr %at.lengths.wanted
  %axes = sext i32 %axes.32 to i64
  %readable = and i32 %flags, 257
  %ok.1 = icmp eq ptr %dtype, %dtype.wanted
  %ok.2 = icmp eq i64 %axes, %axes.wanted
  %ok.3 = icmp eq i32 %readable, 257
  %ok.4 = and i1 %ok.1, %ok.2
  %ok = and i1 %ok.3, %ok.4
  br i1 %ok, label %axis, label %misfit
axis:
  %a = phi i64 [ 0, %inside ], [ %a.next, %length.fits ]
  %all.axes = icmp eq i64 %a, %axes
  br i1 %all.axes, label %note, label %length
length:
  %at.length = getelementptr i64, ptr %lengths, i64 %a
  %at.wanted = getelementptr i64, ptr %lengths.wanted, i64 %a
  %is = load i64, ptr %at.length
  %wanted = load i64, ptr %at.wanted
  %long.enough = icmp eq i64 %is, %wanted
  br i1 %long.enough, label %length.fits, label %misfit
length.fits:
  %a.next = add i64 %a, 1
  br label %axis
note:
  %at.first = getelementptr i64, ptr %row, i64 5
  %at.second = getelementptr i64, ptr %row, i64 6
  %first = load ptr, ptr %at.first
  %second = load ptr, ptr %at.second
  %no.first = icmp eq ptr %first, null
  br i1 %no.first, label %second.note, label %write.first
write.first:
  store ptr %array, ptr %first
  br label %second.note
second.note:
  %no.second = icmp eq ptr %second, null
  br i1 %no.second, label %fits, label %write.second
write.second:
  store ptr %array, ptr %second
  br label %fits
fits:
  %next = add i64 %i, 1
  br label %each

state:
  %at.begin = getelementptr i64, ptr %spec, i64 2
  %at.end = getelementptr i64, ptr %spec, i64 3
  %at.checks = getelementptr i64, ptr %spec, i64 4
  %at.holds = getelementptr i64, ptr %spec, i64 5
  %at.number = getelementptr i64, ptr %spec, i64 6
  %at.run = getelementptr i64, ptr %spec, i64 7
  %begin = load ptr, ptr %at.begin
  %end = load ptr, ptr %at.end
  %checks = load ptr, ptr %at.checks
  %holds = load ptr, ptr %at.holds
  %number = load i64, ptr %at.number
  %run = load ptr, ptr %at.run
  %looked = call i32 @glance(ptr %begin, ptr %end)
  %unchanged = icmp ne i32 %looked, 0
  br i1 %unchanged, label %check, label %misfit
check:
  %none = icmp eq ptr %checks, null
  br i1 %none, label %go, label %run.checks
run.checks:
  %ignored = call i32 %checks()
  br label %flag
flag:
  %f = phi i64 [ 0, %run.checks ], [ %f.next, %holds.so ]
  %all.flags = icmp eq i64 %f, %number
  br i1 %all.flags, label %go, label %look
look:
  %at.flag = getelementptr i8, ptr %holds, i64 %f
  %value = load i8, ptr %at.flag
  %true = icmp ne i8 %value, 0
  br i1 %true, label %holds.so, label %failed
holds.so:
  %f.next = add i64 %f, 1
  br label %flag
go:
  %result = call i32 %run()
  ret i32 %result
misfit:
  ret i32 {_MISFIT}
failed:
  ret i32 {_FAILED}
}}

declare void @Py_IncRef(ptr)

; The same as a function of Python's: %self is the array with the spec, and the answer one of the integers behind it.
define ptr @method(ptr %self, ptr %tuple) {{
  %at.spec = getelementptr i8, ptr %self, i64 {_DATA}
  %spec = load ptr, ptr %at.spec
  %answer = call i32 @shortcut(ptr %spec, ptr %tuple)
  %number = zext i32 %answer to i64
  %answers = getelementptr i64, ptr %spec, i64 9
  %at.object = getelementptr ptr, ptr %answers, i64 %number
  %object = load ptr, ptr %at.object
  call void @Py_IncRef(ptr %object)
  ret ptr %object
}}
"""


class _Method(ctypes.Structure):
    """What CPython calls a PyMethodDef."""

    _fields_ = (("name", ctypes.c_char_p), ("code", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p))


#: One argument, passed as it is.
_METH_O = 8


def _layout_is_known() -> bool:
    for array in (np.zeros((3, 2), np.float32), np.zeros((), np.int64), np.zeros((4, 4))[:, ::2]):
        at = id(array)
        lengths = [_address(_address(at + _LENGTHS).value + 8 * i).value for i in range(array.ndim)]
        if (
            _address(at + _TYPE).value != id(type(array))
            or _address(at + _DATA).value != array.__array_interface__["data"][0]
            or _address(at + _DTYPE).value != id(array.dtype)
            or ctypes.c_int32.from_address(at + _DIMENSIONS).value != array.ndim
            or ctypes.c_int32.from_address(at + _FLAGS).value != array.flags.num
            or tuple(lengths) != array.shape
        ):
            return False
    probe = (1, 2.0)
    words = [_address(id(probe) + offset).value for offset in (_TUPLE_SIZE, _TUPLE_ITEMS, _TUPLE_ITEMS + 8)]
    return words == [2, id(probe[0]), id(probe[1])]


#: Whether this interpreter and this NumPy keep things where they are looked for.
AVAILABLE = glance.AVAILABLE and _layout_is_known()


@functools.cache
def _method() -> _Method:
    machine = Machine.host()
    code = cache.object_code(_SOURCE, machine, lambda: [Optimised(_SOURCE, machine).object_code()])
    increment = ctypes.cast(ctypes.pythonapi.Py_IncRef, ctypes.c_void_p).value
    module = NativeModule(code, ["method"], machine, {"glance": glance.function_address(), "Py_IncRef": increment or 0})
    method = _Method(b"run", module.address("method"), _METH_O, None)
    method.module = module
    return method


@functools.cache
def _new_function() -> Any:
    return ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.POINTER(_Method), ctypes.py_object, ctypes.c_void_p)(
        ("PyCFunction_NewEx", ctypes.pythonapi)
    )


#: A quick call: the program's result for a tuple of arguments, or None where the call has to go the long way.
Shortcut: TypeAlias = Callable[[tuple[Any, ...]], Tensor | None]


def entry(
    arguments: Sequence[tuple[Any, ...]], rows: np.ndarray, checks: tuple[int, np.ndarray | None], run: int
) -> tuple[Callable[[tuple[Any, ...]], int], Any]:
    """The machine code for one program, to be called with a tuple of arguments, and what must live as long as it.

    What it returns is above 1 where nothing was run. The arguments are those of `make_shortcut`.
    """
    spec, kept = _spec(arguments, rows, checks, run)
    return _new_function()(ctypes.byref(_method()), spec, None), kept  # no ctypes in the call itself: that takes 0.5 µs


def make_shortcut(
    arguments: Sequence[tuple[Any, ...]],
    rows: np.ndarray,
    checks: tuple[int, np.ndarray | None],
    run: int,
    guards: Sequence[Slot],
    variant: Any,
    after: Sequence[Callable[[], None]],
    result: np.ndarray,
) -> Shortcut:
    """A quick way to call one program.

    Args:
        arguments: for each argument its type, dtype and shape, and the places where its identity goes; or the very
            object that it must be.
        rows: of a `Glance` at everything that the program reads or writes.
        checks: address of what runs the checks, or 0; and the flags they set.
        run: address of what runs the program.
        guards: slots that machine code cannot look at.
        variant: whose program it is: its lock is held, and it asks Python for what must be asked before a run.
        after: what Python has to do after a run.
        result: the array that the program leaves its result in.
    """
    enter, kept = entry(arguments, rows, checks, run)
    places = [(slot.owner, slot.key, slot.held) for slot in guards]
    structure, known_structure, ask = state.structure, state.structure[0], variant.ask_if_needed
    acquire, release = variant.lock.acquire, variant.lock.release
    sizes, records, floor = variant.sizes, variant.records, state.recording_floor.get

    def is_as_it_was() -> bool:
        try:
            for owner, key, held in places:
                if owner[key] is not held:
                    return False
        except (KeyError, IndexError):
            return False
        return all(len(container) == size for container, size in sizes)

    seen_natively = not places and not sizes

    def call(arguments: tuple[Any, ...]) -> Tensor | None:
        if structure[0] != known_structure or (floor() <= 0) is not records:
            return None
        if not (seen_natively or is_as_it_was()) or not acquire(False):
            return None
        try:  # the result is read, and what follows is done, before another thread may run the program
            ask()
            if enter(arguments) > 1:
                return None
            for function in after:
                function()
            value = result[()]
        finally:
            release()
        tensor = _allocate(Tensor)
        tensor._value = value
        tensor._node = None
        return tensor

    call.kept = kept  # type: ignore[attr-defined]  # the code has their addresses
    return call


def _spec(
    arguments: Sequence[tuple[Any, ...]], rows: np.ndarray, checks: tuple[int, np.ndarray | None], run: int
) -> tuple[np.ndarray, list[Any]]:
    """What the code is given, and what must live as long."""
    kept: list[Any] = [arguments, rows, checks]
    words = np.array([_row(kept, *argument) for argument in arguments], np.int64).reshape(-1, _WORDS)
    run_checks, flags = checks
    start = glance.address(rows)
    spec = np.array(
        [
            len(arguments), glance.address(words), start, start + rows.nbytes, run_checks,
            0 if flags is None else glance.address(flags), 0 if flags is None else len(flags), run,
            id(None), *map(id, _ANSWERS),
        ],
        np.int64,
    )  # fmt: skip
    return spec, [*kept, words, spec]


def _row(kept: list[Any], expected: Any, dtype: Any = None, shape: Any = None, places: Sequence[int] = ()) -> list[int]:
    if dtype is None:
        return [_OBJECT, id(expected), 0, 0, 0, 0, 0, 0]
    lengths = np.array(shape, np.int64)
    kept.append(lengths)
    kind = _TENSOR if expected is Tensor else _ARRAY
    first, second = (*places, 0, 0)[:2]
    return [kind, id(np.ndarray), id(dtype), len(shape), glance.address(lengths), first, second, id(Tensor)]
