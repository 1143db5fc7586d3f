"""A program of kernels made executable: compiled or taken from the cache, linked, and run by one call.

    executable = Executable(program, Machine.host())
    executable.table[slot] = address_of(array)      # or: executable.arrays[slot] = id(array)
    executable.run()

How a kernel becomes code is not known here, nor how threads share its calls.
"""

from __future__ import annotations

import ctypes
import functools
import math
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from chainrule.compile import cache, ir
from chainrule.compile.gemm import emit_gemm
from chainrule.compile.kernels import Call, Gemm, Instruction, Kernel, Loop, Program
from chainrule.compile.lanes import Module
from chainrule.compile.loop_plan import cost
from chainrule.compile.loops import emit_loop
from chainrule.compile.machine import Machine, NativeModule, Optimised, assembly
from chainrule.compile.shares import Together, touched_by
from chainrule.compile.threads import (
    FLUSH_SUBNORMALS,
    MOST_THREADS,
    ProgramState,
    begun,
)

#: Calls that cost less together, in rough cycles, are left to one thread: they take some microseconds, and a barrier
#: and the half of their data that would lie in another core's cache take as long as sharing saves.
FEWEST_CYCLES_TO_SHARE = 16384

#: A module with so many instructions gets no more kernels.
_LONG_MODULE = 1500

#: Threads meet after so much work at the latest: one that the system has taken the processor from holds up the others.
MOST_CYCLES_TOGETHER = 1 << 19

_ALIGNMENT = 64  # of the scratch memory, in bytes: a cache line, and the widest vector

_int64 = ctypes.c_int64
T = TypeVar("T")
_data_offset = object.__basicsize__  # NumPy's array object begins with what every object has, then its data pointer


def _arrays_have_their_pointer_there() -> bool:
    probes = (np.zeros(3), np.zeros((4, 4), np.float32)[1:, 2:], np.zeros(0, bool))
    return all(_int64.from_address(id(p) + _data_offset).value == p.__array_interface__["data"][0] for p in probes)


#: Whether `Executable.arrays` may be used: whether generated code knows where an array object has its data pointer.
ARRAYS_BY_ID = _arrays_have_their_pointer_there()

if ARRAYS_BY_ID:

    def address_of(array: np.ndarray) -> int:
        """The address of an array's first element."""
        return _int64.from_address(id(array) + _data_offset).value

else:

    def address_of(array: np.ndarray) -> int:
        """The address of an array's first element."""
        return array.__array_interface__["data"][0]


class Executable:
    """A program in this process's memory, ready to run.

    It has one set of slots and one scratch memory: Python threads that use the same executable must take turns.

    Args:
        program: the calls, and where their slots lie.
        machine: the one this process runs on.
        flush_subnormals: whether subnormal operands and results of kernels count as zero, where the processor can.

    Attributes:
        program, machine: as given.
        threads: how many threads share the program; at most the machine's cores.
        table: the address in each slot, to be assigned to by slot number. Those of the scratch memory are set.
        arrays: for each slot, `id` of a NumPy array whose data pointer is to be read when the program runs, or 0: then
            `table` counts. The array must live until then. Only where `ARRAYS_BY_ID` holds.
        stages: the calls between which threads wait for each other.
        scratch: the program's own memory, as bytes.
        entry: address of `int run(void)`, which makes all the calls.
        cached: whether the code came from the cache.
        seconds: how long it took to `emit` LLVM code, to `optimise` it, to `generate` and to `link` native code.
    """

    def __init__(self, program: Program, machine: Machine, *, flush_subnormals: bool = True) -> None:
        self.program = program
        self.machine = machine
        self.threads = max(1, min(program.threads, machine.cores, MOST_THREADS))
        self.seconds = {"emit": 0.0, "optimise": 0.0, "generate": 0.0, "link": 0.0}
        self.cached = True
        kernels, numbers = _distinct(program.calls)
        self._kernels = list(kernels.values())

        runtime = begun(self.threads)
        object_code = cache.object_code("\n".join(kernels), machine, self._compile)
        names = [_name(number) for number in range(len(self._kernels))]
        self._pool = runtime()
        self._code = NativeModule(object_code, [*names, "program", "run"], machine, {"chainrule_run": self._pool.run})
        self.seconds["link"] = self._code.link_seconds
        self._lay_out(flush_subnormals, numbers, [self._code.address(name) for name in names])
        self.entry = self._code.address("run")
        self._run = ctypes.CFUNCTYPE(ctypes.c_int)(self.entry)
        weakref.finalize(self, self._pool.forget, self._code.address("program")).atexit = False
        if self.threads > 1:
            self._pool.start(self.threads)

    def run(self) -> None:
        """Make all the calls."""
        if self._run():
            self.restart()

    def restart(self) -> None:
        """Start workers anew, where a run has found none: this process was forked from the one that had them."""
        self._pool.start(self.threads)

    def set(self, slot: int, address: int) -> None:
        """Let a slot point to an address, such as `address_of(array)`."""
        self.table[slot] = address

    def measure(self, positions: Sequence[int], addresses: Mapping[int, int], repeats: int) -> float:
        """How long some of the program's calls take, made on other memory than the program's.

        Args:
            positions: which calls, by their place in the program.
            addresses: of the slots they use.
            repeats: how often all of them are made, one time after the other.

        Returns:
            Seconds for one repetition.
        """
        made = [*positions] * repeats
        rows, places = _rows([self.program.calls[i] for i in made], [self._code_of_call[i] for i in made])
        shared = [self._is_shared[i] for i in made]
        one_by_one = [_Stage(place, place + 1, is_shared) for place, is_shared in enumerate(shared)]
        stages = _rows_of_stages(one_by_one, address_of(rows) + 8 * places, self.threads)
        table = (_int64 * self.program.slots)()
        for slot, address in addresses.items():
            table[slot] = address
        state = ProgramState.from_buffer_copy(ProgramState.from_address(self._code.address("program")))
        state.stages, state.stages_end = address_of(stages), address_of(stages) + stages.nbytes
        state.slots = ctypes.addressof(table)
        state.array_slots = state.array_slots_end = 0
        state.threads = self.threads if any(shared) else 1
        run = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(self._pool.run)
        start = time.perf_counter()
        run(ctypes.addressof(state))
        seconds = time.perf_counter() - start
        self._pool.forget(ctypes.addressof(state))
        return seconds / repeats

    @property
    def llvm(self) -> str:
        """The kernels as LLVM code after optimisation."""
        return "\n".join(self._modules())

    @property
    def assembly(self) -> str:
        """The kernels as assembly."""
        return "\n".join(assembly(text, self.machine) for text in self._modules())

    def _modules(self) -> list[str]:
        return [Optimised(module, self.machine).llvm for module in _emit(self._kernels, self.machine)]

    def _compile(self) -> list[bytes]:
        """Object files. While LLVM generates the code of one module, the next module is written."""
        self.cached = False
        seconds = self.seconds

        def generate(optimised: Optimised) -> bytes:
            start = time.perf_counter()
            file = optimised.object_code()
            seconds["generate"] += time.perf_counter() - start
            return file

        with ThreadPoolExecutor(1, "chainrule-llvm") as background:
            files = []
            start = time.perf_counter()
            for module in _emit(self._kernels, self.machine):
                text = str(module)
                seconds["emit"] += time.perf_counter() - start
                optimised = Optimised(text, self.machine)
                seconds["optimise"] += optimised.seconds
                files.append(_Begun(background, functools.partial(generate, optimised)))
                start = time.perf_counter()
            for file in reversed(files):  # the background goes through them from the first on
                file.do_unless_begun()
            return [file.result() for file in files]

    def _in_stages(self, cycles: Sequence[float], numbers: Sequence[int]) -> list[_Stage]:
        """The program's calls in stages, threads waiting for each other between two of them."""
        if self.threads == 1 or sum(cycles[number] for number in numbers) < FEWEST_CYCLES_TO_SHARE:
            return [_Stage(0, len(numbers), False)] if numbers else []
        touched = [touched_by(kernel, self.machine, self.threads) for kernel in self._kernels]
        stages: list[_Stage] = []
        together, first, work, shareable = Together(self.program.scratch), 0, 0.0, 0.0
        for place, (call, number) in enumerate(zip(self.program.calls, numbers, strict=True)):
            if work + cycles[number] > MOST_CYCLES_TOGETHER or not together.add(call, touched[number]):
                _append(stages, _Stage(first, place, shareable >= FEWEST_CYCLES_TO_SHARE))
                together, first, work, shareable = Together(self.program.scratch), place, 0.0, 0.0
                together.add(call, touched[number])
            work += cycles[number]
            shareable += cycles[number] if _has_shares(self._kernels[number]) else 0.0
        _append(stages, _Stage(first, len(numbers), shareable >= FEWEST_CYCLES_TO_SHARE))
        return stages

    def _lay_out(self, flush_subnormals: bool, numbers: Sequence[int], kernels: Sequence[int]) -> None:
        """Write down for the runtime what it is to do: see `%program` in runtime.ll."""
        program = self.program
        self.scratch = _aligned_bytes(program.scratch_bytes)
        self.table = (_int64 * program.slots)()
        self.arrays = (_int64 * program.slots)()
        base = address_of(self.scratch)
        for slot, offset in program.scratch.items():
            self.table[slot] = base + offset
        cycles = [_cycles(kernel, self.machine) for kernel in self._kernels]
        self.stages = self._in_stages(cycles, numbers)
        self._is_shared = [
            self.threads > 1 and _has_shares(self._kernels[number]) and cycles[number] >= FEWEST_CYCLES_TO_SHARE
            for number in numbers
        ]
        self._code_of_call = [kernels[number] for number in numbers]
        self._rows, positions = _rows(program.calls, self._code_of_call)
        self._stages = _rows_of_stages(self.stages, address_of(self._rows) + 8 * positions, self.threads)
        self._given = np.array([slot for slot in range(program.slots) if slot not in program.scratch], np.int64)

        state = ProgramState.from_address(self._code.address("program"))
        state.stages, state.stages_end = address_of(self._stages), address_of(self._stages) + self._stages.nbytes
        state.slots, state.arrays = ctypes.addressof(self.table), ctypes.addressof(self.arrays)
        state.array_slots, state.array_slots_end = address_of(self._given), address_of(self._given) + self._given.nbytes
        state.threads = self.threads if any(stage.is_shared for stage in self.stages) else 1
        state.most_arguments = max((len(call.slots) for call in program.calls), default=0)
        state.marks = FLUSH_SUBNORMALS if flush_subnormals else 0
        state.data_offset = _data_offset


class _Stage(NamedTuple):
    """Calls that threads go through without waiting for each other, or that one of them makes.

    Attributes:
        first, end: numbers of the first call and of the one after the last.
        is_shared: whether each thread has its share of each call.
    """

    first: int
    end: int
    is_shared: bool


def _distinct(calls: Iterable[Call]) -> tuple[dict[str, Kernel], list[int]]:
    """The different kernels by their descriptions, and which of them each call means."""
    # Not by equality: 0.0 == -0.0, and True == 1.
    kernels: dict[str, Kernel] = {}
    number_of_text: dict[str, int] = {}
    number_of_object: dict[int, int] = {}
    numbers = []
    for kernel, *_ in calls:
        number = number_of_object.get(id(kernel))
        if number is None:
            text = _describe(kernel)
            kernels.setdefault(text, kernel)
            number = number_of_object[id(kernel)] = number_of_text.setdefault(text, len(number_of_text))
        numbers.append(number)
    return kernels, numbers


def _describe(part: object) -> str:
    """A kernel, or a part of one, as text: `repr`, but for dtypes, where that takes long."""
    if isinstance(part, Instruction):
        place = None if part.access is None else tuple(part.access)
        return f"{part.op},{part.dtype.str},{part.inputs},{place},{part.value!r}"
    if isinstance(part, tuple):
        return f"{type(part).__name__}({','.join(map(_describe, part))})"
    return part.str if isinstance(part, np.dtype) else repr(part)


def _name(number: int) -> str:
    return f"kernel{number}"


class _Begun(Generic[T]):
    """Work that another thread is about to do, or that this one has done where there may be no other."""

    def __init__(self, background: ThreadPoolExecutor, work: Callable[[], T]) -> None:
        self._work = work
        self._future: Future[T] = Future()
        try:
            self._future = background.submit(work)
        except RuntimeError:  # no more threads are allowed, or the interpreter is about to end
            self._future.set_result(work())

    def do_unless_begun(self) -> None:
        """Do in this thread what the other one has not come to yet."""
        if self._future.cancel():
            self._future = Future()
            self._future.set_result(self._work())

    def result(self) -> T:
        """What comes of it, waited for."""
        return self._future.result()


def _emit(kernels: Sequence[Kernel], machine: Machine) -> Iterator[ir.Module]:
    """All kernels, in modules of some length; the last has a place for the program's description, and `run` too."""
    module = _module(machine)
    for number, kernel in enumerate(kernels):
        if module.length > _LONG_MODULE:
            yield module
            module = _module(machine)
        if isinstance(kernel, Loop):
            emit_loop(module, kernel, _name(number), machine)
        else:
            emit_gemm(module, kernel, _name(number), machine)
    words = ir.ArrayType(ir.IntType(64), ctypes.sizeof(ProgramState) // 8)
    state = ir.GlobalVariable(module, words, "program")
    runtime = ir.Function(module, ir.FunctionType(ir.IntType(32), [ir.PointerType()]), "chainrule_run")
    run = ir.Function(module, ir.FunctionType(ir.IntType(32), []), "run")
    builder = ir.IRBuilder(run.append_basic_block())
    builder.ret(builder.call(runtime, [state], tail=True))
    yield module


def _module(machine: Machine) -> ir.Module:
    return Module("chainrule", scales=machine.vector_bits == 512)


def _rows(calls: Sequence[Call], kernels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """A row for each call: its kernel, number of arguments, and their slots and offsets. And where each row begins, and
    the last ends."""
    words: list[int] = []
    positions = [0]
    for call, kernel in zip(calls, kernels, strict=True):
        words += (kernel, len(call.slots))
        for place in call.places():
            words += place
        positions.append(len(words))
    return np.array(words, np.int64), np.array(positions, np.int64)


def _rows_of_stages(stages: Sequence[_Stage], addresses: np.ndarray, threads: int) -> np.ndarray:
    """A row for each stage: the addresses at which its calls begin and end, and its number of shares."""
    rows = [(addresses[each.first], addresses[each.end], threads if each.is_shared else 1) for each in stages]
    return np.array(rows, np.int64).reshape(-1, 3)


def _append(stages: list[_Stage], stage: _Stage) -> None:
    """Add a stage; what one thread makes after what one thread makes is one stage."""
    if stages and not (stages[-1].is_shared or stage.is_shared):
        stage = _Stage(stages.pop().first, stage.end, False)
    if stage.first != stage.end:
        stages.append(stage)


def _has_shares(kernel: Kernel) -> bool:
    return isinstance(kernel, Gemm) or not (kernel.serial or _size(kernel.outer) == 1)


def _cycles(kernel: Kernel, machine: Machine) -> float:
    """Roughly what a call takes one thread."""
    if isinstance(kernel, Gemm):
        return (
            _size(kernel.batch) * kernel.m * kernel.n * kernel.k / (2 * machine.lanes(kernel.dtype))
        )  # two in a cycle
    cost_of_a_point = sum(cost(step) / machine.lanes(step.dtype) for step in kernel.body)
    return cost_of_a_point * _size(kernel.outer) * _size(kernel.inner)


def _size(shape: Iterable[int]) -> int:
    return math.prod(shape)


def _aligned_bytes(count: int) -> np.ndarray:
    memory = np.empty(count + _ALIGNMENT, np.uint8)
    return memory[-address_of(memory) % _ALIGNMENT :][:count]
