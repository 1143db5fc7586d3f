"""Subnormal numbers count as zero while gradients are computed.

The gradients of a deep float32 network fall below 1.2e-38 long before they are zero. Down there floats lose their
digits and a processor its speed: a walk over 100 layers takes five times as long. Inside `flushed()` they are zero,
as they are on GPUs and in XLA. Where the platform offers no way (anything but glibc on x86-64) nothing changes.
The threads that OpenBLAS starts for large products are not reached.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

_FLUSH_TO_ZERO_AND_INPUTS_TOO = 0x8040  # bits FTZ and DAZ of the register MXCSR


class _Environment(ctypes.Structure):
    """`fenv_t` of the x86-64 System V ABI: the x87 state, then MXCSR."""

    _fields_ = (("x87", ctypes.c_uint32 * 7), ("mxcsr", ctypes.c_uint32))


def _c_functions() -> tuple[Callable, Callable] | None:
    if sys.platform != "linux" or platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc":
        return None
    library = ctypes.CDLL("libm.so.6")
    read, write = library.fegetenv, library.fesetenv
    read.argtypes = write.argtypes = [ctypes.POINTER(_Environment)]
    return read, write


_functions = _c_functions()


class _Flushed:
    """Turns flushing on for this thread, or off, and back to what it was."""

    __slots__ = ("before", "wanted")

    def __init__(self, *, wanted: bool) -> None:
        self.wanted = wanted

    def __enter__(self) -> None:
        read, write = _functions  # type: ignore[misc]
        self.before = _Environment()
        read(self.before)
        during = _Environment.from_buffer_copy(self.before)
        if self.wanted:
            during.mxcsr |= _FLUSH_TO_ZERO_AND_INPUTS_TOO
        else:
            during.mxcsr &= ~_FLUSH_TO_ZERO_AND_INPUTS_TOO
        write(during)

    def __exit__(self, *_: object) -> None:
        _functions[1](self.before)  # type: ignore[index]


def flushed() -> AbstractContextManager[None]:
    """Inside, results and operands that are subnormal are zero, for this thread."""
    return _Flushed(wanted=True) if _functions is not None else nullcontext()


def unflushed() -> AbstractContextManager[None]:
    """Inside, subnormal numbers count again: for values that are computed while gradients are."""
    return _Flushed(wanted=False) if _functions is not None else nullcontext()
