"""Programs for single operations of eager code: what `core.native` calls where arrays are large.

The function runs once on arrays without values, which gives its graph; from there on it is compiled as every other
(`simplify`, `plan`, `executable`). What is here besides is the call: inputs in, new arrays out.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.compile import shortcut
from chainrule.compile.errors import TraceError, Unsupported
from chainrule.compile.executable import ARRAYS_BY_ID, Executable, address_of
from chainrule.compile.graph import Value
from chainrule.compile.machine import Machine
from chainrule.compile.operations import traced_namespace
from chainrule.compile.plan import Plan, plan, total_flops, unshared_if_short
from chainrule.compile.simplify import simplify
from chainrule.compile.tracing import BlankTrace, Traced, active
from chainrule.compile.variant import READABLE
from chainrule.core.native import Native

#: What a program may keep for itself between its calls.
_MOST_SCRATCH_BYTES = 64 << 20

#: Up to so many operations a program may keep other Python threads waiting: some tenths of a millisecond.
_SHORT = 40_000_000

_empty = np.empty

# glibc gives freed memory of more than 128 kB back to the system, and every page of it costs a fault when it is asked
# for again, until a larger piece has been freed: then it keeps what is smaller (mallopt(3), M_MMAP_THRESHOLD).
np.empty(31 << 20, np.uint8)


def compile_native(native: Native, inputs: Sequence[Any], params: dict[str, Any]) -> NativeProgram | None:
    """A program for inputs and params like these, or None where the function has no compiled form."""
    if not ARRAYS_BY_ID or not all(x.dtype.isnative for x in inputs if isinstance(x, np.ndarray)):
        return None
    trace = BlankTrace()
    try:
        given = [trace.traced(x, f"input {n}") if isinstance(x, np.ndarray) else x for n, x in enumerate(inputs)]
        with active(trace):
            y = native.function(traced_namespace, *given, **params)
    except (Unsupported, TraceError, ValueError, TypeError, IndexError):
        return None  # if something is wrong with the inputs, NumPy will say so
    results = y if isinstance(y, tuple) else (y,)
    if trace.fresh or trace.finally_ or trace.graph.checks or not all(isinstance(part, Traced) for part in results):
        return None  # Python takes part in it
    program = NativeProgram(native, trace, given, [part.value for part in results], isinstance(y, tuple))
    if program.executable.scratch.nbytes > _MOST_SCRATCH_BYTES:
        return None
    program.quick = program.quick_call(tuple(inputs), dict(params))
    return program


class NativeProgram:
    """A program that is called with arrays and gives new ones, or fills those it is given.

    Attributes:
        executable: the machine code.
        quick: see `core.native.Program`.
    """

    quick: Callable[..., Any] | None = None

    def __init__(
        self, native: Native, trace: BlankTrace, given: Sequence[Any], results: list[Value], is_row: bool
    ) -> None:
        graph, wanted, became = simplify(trace.graph, results)
        inputs = [became.get(x.value) if isinstance(x, Traced) else None for x in given]
        replaced = {
            number: source
            for number, place in enumerate(native.replaces)
            if (source := inputs[place]) is not None and source is not wanted[number]
        }
        machine = Machine.host()
        planned = unshared_if_short(plan(graph, wanted, replaced, _threads(machine)))
        self._flops = total_flops(planned)
        self.executable = Executable(planned.program, machine, flush_subnormals=native.backward)
        self._connect(planned, inputs, graph.arrays)
        self._outputs = [(v.shape, v.dtype, slot) for v, slot in zip(results, planned.outputs, strict=True)]
        self._is_row = is_row
        self._lock = threading.Lock()

    def _connect(self, planned: Plan, inputs: Sequence[Value | None], constants: dict[Value, np.ndarray]) -> None:
        self._constants = dict(constants)  # their addresses are in the program
        for value, slot in planned.sources.items():
            if value.op == "constant":
                self.executable.set(slot, address_of(self._constants[value]))
        self._inputs = [(number, planned.sources[x]) for number, x in enumerate(inputs) if x in planned.sources]

    def __call__(self, inputs: Sequence[Any], out: Sequence[np.ndarray] | None = None) -> Any:
        """The function's result for arrays of the shapes and dtypes it was compiled for, in new arrays or in `out`."""
        given = [inputs[number] for number, _ in self._inputs]
        given = [x if x.flags.num & READABLE == READABLE else np.array(x, order="C") for x in given]
        made = [_empty(shape, dtype) for shape, dtype, _ in self._outputs] if out is None else out
        arrays = self.executable.arrays
        with self._lock:
            for (_, slot), array in zip(self._inputs, given, strict=True):
                arrays[slot] = id(array)
            for (_, _, slot), array in zip(self._outputs, made, strict=True):
                arrays[slot] = id(array)
            self.executable.run()
        if out is not None:
            return out
        results = _with_numbers(made)
        return results if self._is_row else results[0]

    def quick_call(self, inputs: tuple[Any, ...], params: dict[str, Any]) -> Callable | None:
        """A call in which machine code looks at the inputs, connects them and runs the program.

        The interpreter's lock is held meanwhile, so there is none where that takes long.
        """
        outputs, arrays, lock = self._outputs, self.executable.arrays, self._lock
        if not shortcut.AVAILABLE or self._flops >= _SHORT:
            return None
        expected = [self._expected(number, x) for number, x in enumerate(inputs)]
        enter, kept = shortcut.entry(expected, np.empty((0, 3), np.int64), (0, None), self.executable.entry)
        shape, dtype, slot = outputs[0]
        arrays_only = all(shape for shape, _, _ in outputs)
        restart = self.executable.restart

        def one(inputs: tuple[Any, ...], given: dict[str, Any]) -> Any:
            if given != params:
                return None
            y = _empty(shape, dtype)
            with lock:
                arrays[slot] = id(y)
                answer = enter(inputs)
            if answer:
                if answer > 1:
                    return None
                restart()
            return y if shape else y[()]

        def several(inputs: tuple[Any, ...], given: dict[str, Any], out: Sequence[Any] | None = None) -> Any:
            if given != params:
                return None
            made = tuple([_empty(shape, dtype) for shape, dtype, _ in outputs]) if out is None else out
            with lock:
                for (_, _, slot), array in zip(outputs, made, strict=True):
                    arrays[slot] = id(array)
                answer = enter(inputs)
            if answer:
                if answer > 1:
                    return None
                restart()
            return made if out is not None or arrays_only else _with_numbers(made)

        quick = several if self._is_row else one
        quick.kept = kept  # type: ignore[attr-defined]  # the code has their addresses
        return quick

    def _expected(self, number: int, x: Any) -> tuple[Any, ...]:
        """What the machine code is told about an input."""
        if not isinstance(x, np.ndarray):
            return (x,)
        start = ctypes.addressof(self.executable.arrays)
        return np.ndarray, x.dtype, x.shape, [start + 8 * slot for place, slot in self._inputs if place == number]


def _with_numbers(made: Sequence[np.ndarray]) -> tuple[Any, ...]:
    """As NumPy gives them: what has no axes is a number."""
    return tuple([array if array.ndim else array[()] for array in made])


def _threads(machine: Machine) -> int:
    """As many as the machine has cores, or fewer where NumPy's libraries are told so too."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return min(machine.cores, int(told)) if told.isdigit() and int(told) else machine.cores
