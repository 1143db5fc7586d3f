"""Running the calls of a program on one thread, or shared among several.

All programs that are shared have one pool of workers. A worker is a Python thread that has gone into the code of
`run_shared.ll` and stays there. It waits for work by spinning for a moment, then asleep: a pool with nothing to do
costs nothing. A call is divided into as many shares as the program has threads, and each thread has its own share of
each call. One that asks for a share that nobody has begun does it itself. So nobody waits for a worker that is still
asleep, or for one that the system has taken the processor from.

What a share computes does not depend on who does it. Where there are no workers to be had (another Python thread is
running a program, or the process was forked a moment ago), one thread does all shares in turn, and the numbers are
the same to the last bit.

What a kernel does is not known here, nor how it was compiled.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from chainrule.compile import cache
from chainrule.compile.machine import Machine, NativeModule, Optimised

#: More threads than this never share a program.
MOST_THREADS = 64

#: A worker without work spins for so long before it sleeps: longer than the Python code between two steps takes.
SPIN_SECONDS = 200e-6

#: What a program may be marked with.
FLUSH_SUBNORMALS = 1

_X86 = """
declare void @llvm.x86.sse2.pause()
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)

define internal void @pause() alwaysinline {
  call void @llvm.x86.sse2.pause()
  ret void
}

; Count subnormal operands and results as zero (bits DAZ and FTZ of the register MXCSR); returns what was before.
define internal i32 @flush_subnormals() alwaysinline {
  %memory = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %memory)
  %before = load i32, ptr %memory
  %during = or i32 %before, 32832
  store i32 %during, ptr %memory
  call void @llvm.x86.sse.ldmxcsr(ptr %memory)
  ret i32 %before
}

define internal void @restore(i32 %before) alwaysinline {
  %memory = alloca i32
  store i32 %before, ptr %memory
  call void @llvm.x86.sse.ldmxcsr(ptr %memory)
  ret void
}
"""

_OTHER_PROCESSORS = """
define internal void @pause() alwaysinline {
  ret void
}

define internal i32 @flush_subnormals() alwaysinline {
  ret i32 0
}

define internal void @restore(i32 %before) alwaysinline {
  ret void
}
"""

_POSIX = """
declare i32 @sched_yield()
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_signal(ptr)
"""

# Without POSIX there are no workers, so nothing of this is ever waited for.
_NO_POSIX = """
define internal i32 @sched_yield() { ret i32 0 }
define internal i32 @pthread_mutex_init(ptr, ptr) { ret i32 0 }
define internal i32 @pthread_mutex_lock(ptr) { ret i32 0 }
define internal i32 @pthread_mutex_unlock(ptr) { ret i32 0 }
define internal i32 @pthread_cond_init(ptr, ptr) { ret i32 0 }
define internal i32 @pthread_cond_wait(ptr, ptr) { ret i32 0 }
define internal i32 @pthread_cond_signal(ptr) { ret i32 0 }
"""


class _Worker(ctypes.Structure):
    """`%worker` in run_shared.ll."""

    _fields_ = (
        ("ticket", ctypes.c_int64),
        ("asleep", ctypes.c_int64),
        ("line0", ctypes.c_int64 * 6),
        ("done", ctypes.c_int64),
        ("line1", ctypes.c_int64 * 7),
        ("taken", ctypes.c_int64),
        ("line2", ctypes.c_int64 * 7),
        ("inside", ctypes.c_void_p),
        ("line3", ctypes.c_int64 * 7),
        ("mutex", ctypes.c_char * 64),
        ("condition", ctypes.c_char * 64),
    )


class _Pool(ctypes.Structure):
    """`%pool` in run_shared.ll."""

    _fields_ = (
        ("busy", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("patience", ctypes.c_int64),
        ("program", ctypes.c_void_p),
        ("stages_before", ctypes.c_int64),
        ("version", ctypes.c_int64),
        ("stages", ctypes.c_int64),
        ("unused", ctypes.c_int64),
        ("workers", _Worker * MOST_THREADS),
    )


class ProgramState(ctypes.Structure):
    """`%program` in runtime.ll: all that running a program needs to know, as addresses and numbers."""

    _fields_ = (
        ("stages", ctypes.c_void_p),
        ("stages_end", ctypes.c_void_p),
        ("slots", ctypes.c_void_p),
        ("arrays", ctypes.c_void_p),
        ("array_slots", ctypes.c_void_p),
        ("array_slots_end", ctypes.c_void_p),
        ("threads", ctypes.c_int64),
        ("most_arguments", ctypes.c_int64),
        ("marks", ctypes.c_int64),
        ("data_offset", ctypes.c_int64),
    )


_EXPORTS = ("pool", "chainrule_run", "chainrule_forget", "chainrule_work", "chainrule_spin")


def _code(name: str, machine: Machine) -> NativeModule:
    """The runtime, with `chainrule_run` as the file of that name has it."""
    system = _POSIX if os.name == "posix" else _NO_POSIX
    exports, platform = {"run_alone": (("chainrule_run",), ""), "run_shared": (_EXPORTS, system)}[name]

    def make() -> list[bytes]:
        processor = _X86 if machine.triple.startswith("x86_64") else _OTHER_PROCESSORS
        files = [Path(__file__).with_name(f"{each}.ll").read_text(encoding="utf-8") for each in ("runtime", name)]
        text = "".join([processor, platform, *files]).replace("MOST_THREADS", str(MOST_THREADS))
        return [Optimised(text, machine).object_code()]

    return NativeModule(cache.object_code(f"{name} {MOST_THREADS}", machine, make), exports, machine)


Made = TypeVar("Made", "Alone", "Pool")


class Alone:
    """What runs programs that one thread has for itself: it compiles in half the time of what a pool needs.

    Attributes:
        run: address of `int run(ProgramState*)`, which returns 0.
    """

    def __init__(self, machine: Machine) -> None:
        self._code = _code("run_alone", machine)
        self.run = self._code.address("chainrule_run")

    def start(self, threads: int) -> None:
        """There are no workers to be had."""

    def forget(self, program: int) -> None:
        """There is nobody to wait for."""


class Pool:
    """The workers of this process, and the code they run.

    Attributes:
        run: address of `int run(ProgramState*)`, which returns 1 where it missed workers.
    """

    def __init__(self, machine: Machine) -> None:
        self._code = _code("run_shared", machine)
        self.run = self._code.address("chainrule_run")
        self._work = ctypes.CFUNCTYPE(None, ctypes.c_int64)(self._code.address("chainrule_work"))
        self._forget = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._code.address("chainrule_forget"))
        self._state = _Pool.from_address(self._code.address("pool"))
        self._may_start = os.name == "posix"
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        """No workers, nothing to do: at first, and in a forked process, whose only thread is the one that forked."""
        ctypes.memset(ctypes.addressof(self._state), 0, ctypes.sizeof(_Pool))
        self._state.threads = 1
        self._starting = threading.Lock()

    def start(self, threads: int) -> None:
        """Have enough workers for programs on so many threads, the calling one included."""
        with self._starting:
            if self._state.patience == 0:
                self._state.patience = self._spins(SPIN_SECONDS)
            while self._may_start and self._state.threads < threads:
                number = self._state.threads
                worker = threading.Thread(target=self._work, args=(number,), name=f"chainrule-{number}", daemon=True)
                try:
                    worker.start()
                except RuntimeError:  # the system allows no more threads: the programs do without
                    self._may_start = False
                else:
                    self._state.threads = number + 1

    def is_asleep(self, thread: int) -> bool:
        """Whether a worker waits to be woken, rather than spinning or working."""
        return bool(self._state.workers[thread].asleep)

    def forget(self, program: int) -> None:
        """Wait until no worker is in the program, whose `ProgramState` is at this address: it is going to be unmade."""
        self._forget(program)

    def _spins(self, seconds: float) -> int:
        spin = ctypes.CFUNCTYPE(None, ctypes.c_int64)(self._code.address("chainrule_spin"))
        count, best = 1000, math.inf
        for _ in range(5):
            start = time.perf_counter()
            spin(count)
            best = min(best, time.perf_counter() - start)
        return max(1, int(seconds / best * count))


def pool() -> Pool:
    """The pool of this process."""
    with _making:
        return _made(Pool)


def alone() -> Alone | Pool:
    """What runs this process's programs of one thread: the pool does so too, where there is one."""
    with _making:
        return _made(Pool) if Pool in _runtimes else _made(Alone)


def begun(threads: int) -> Callable[[], Alone | Pool]:
    """What gives the runtime for programs of so many threads, which another thread makes meanwhile.

    LLVM takes some hundredths of a second for it, and needs nothing of any program.
    """
    make: Callable[[], Alone | Pool] = pool if threads > 1 else alone
    if not (_runtimes if threads == 1 else Pool in _runtimes):
        with contextlib.suppress(RuntimeError):  # no more threads are allowed, or the interpreter is about to end
            threading.Thread(target=make, name="chainrule-runtime").start()
    return make


def _made(runtime: type[Made]) -> Made:
    if runtime not in _runtimes:
        _runtimes[runtime] = runtime(Machine.host())
    return _runtimes[runtime]


_runtimes: dict[type, Any] = {}
_making = threading.Lock()
