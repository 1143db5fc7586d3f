"""What a `Loop` kernel means, in plain NumPy: the oracle of the tests of code generation."""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.special

from chainrule.compile.kernels import Instruction, Loop
from chainrule.compile.lanes import Module
from chainrule.compile.loops import emit_loop
from chainrule.compile.machine import Machine, compile_module

FOLDS = {
    "reduce_sum": np.sum,
    "reduce_prod": np.prod,
    "reduce_max": np.max,
    "reduce_min": np.min,
    "reduce_any": np.any,
    "reduce_all": np.all,
}


def numpy_function(name: str) -> Any:
    """NumPy's (or SciPy's) function of an elementwise instruction."""
    return getattr(np, name, None) or getattr(scipy.special, name)


def interpret(loop: Loop, arguments: Sequence[np.ndarray]) -> None:
    """Run a kernel on flat arrays, which it changes."""
    grid = np.indices(loop.inner)
    for point in itertools.product(*map(range, loop.outer)):
        indices = [*map(np.int64, point), *grid]
        values: list[Any] = []
        for step in loop.body:
            values.append(_evaluate(step, values, indices, loop, arguments))


def _evaluate(step: Instruction, values: list[Any], indices: list[Any], loop: Loop, arguments: Any) -> Any:
    inputs = [values[i] for i in step.inputs]
    if step.op == "constant":
        return np.asarray(step.value, step.dtype)
    if step.op == "index":
        return indices[step.value]
    if step.access is not None:
        memory = arguments[step.access.argument]
        place = step.access.offset + sum(s * i for s, i in zip(step.access.strides, indices, strict=True) if s)
        shifts = inputs if step.op == "load" else inputs[1:]
        place = np.asarray(place + sum(shifts))
        if step.op == "load":
            return memory[place]
        if step.op == "store":
            memory[place] = inputs[0]
        else:
            np.add.at(memory, *np.broadcast_arrays(place, inputs[0]))
        return None
    if step.op in FOLDS:
        x = np.broadcast_to(inputs[0], loop.inner)
        wide = x.astype(np.float64) if x.dtype.kind == "f" else x
        return np.asarray(FOLDS[step.op](wide)).astype(step.dtype)
    if step.op == "astype":
        return np.asarray(inputs[0]).astype(step.dtype)
    if step.op == "select":
        return np.where(*inputs)
    return numpy_function(step.op)(*inputs)


_Signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


@functools.lru_cache(maxsize=64)
def compiled(loop: Loop, machine: Machine) -> Any:
    """The native function of a kernel, and the module it lives in."""
    module = Module("test", scales=machine.vector_bits == 512)
    emit_loop(module, loop, "kernel", machine)
    native = compile_module(module, machine)
    return _Signature(native.address("kernel")), native


def run(
    loop: Loop, arguments: Sequence[np.ndarray], threads: int | list[int] = 1, machine: Machine | None = None
) -> None:
    """Run a kernel's native code on flat arrays, as each of `threads` threads in turn (or as those listed, of two)."""
    function, _native = compiled(loop, machine or Machine.host())
    pointers = (ctypes.c_void_p * max(len(arguments), 1))(*[array.ctypes.data for array in arguments])
    listed, count = (range(threads), threads) if isinstance(threads, int) else (threads, 2)
    for thread in listed:
        function(ctypes.addressof(pointers), thread, count)
