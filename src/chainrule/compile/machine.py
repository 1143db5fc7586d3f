"""The machine that code is generated for, and LLVM modules made native on it.

`Machine` says what kernels are shaped by: vector width, registers, caches, cores. `compile_module` runs LLVM over a
module and links the result into the process. What is in the module is not known here.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite.binding import ffi
from llvmlite.binding.context import create_context
from numpy.typing import DTypeLike

from chainrule.compile import ir

_AVX512 = ("avx512f", "avx512vl", "avx512bw", "avx512dq")


@dataclass(frozen=True)
class Machine:
    """What a program is compiled for.

    Attributes:
        triple: LLVM's name of the platform.
        cpu: LLVM's name of the processor.
        features: LLVM's list of what the processor can do, such as `+avx2,+fma,-sse4a`.
        vector_bits: width of a vector register.
        vector_registers: how many there are.
        cores: how many this process may use.
        l1_bytes, l2_bytes: sizes of a core's data caches.
    """

    triple: str
    cpu: str
    features: str
    vector_bits: int
    vector_registers: int
    cores: int
    l1_bytes: int
    l2_bytes: int

    @staticmethod
    @functools.cache
    def host() -> Machine:
        """The machine this process runs on."""
        has = llvm.get_host_cpu_features()
        triple = llvm.get_process_triple()
        if all(has.get(feature, False) for feature in _AVX512):
            bits, registers = 512, 32
        elif has.get("avx2", False) and has.get("fma", False):
            bits, registers = 256, 16
        else:
            bits, registers = 128, 32 if triple.startswith(("aarch64", "arm64")) else 16
        return Machine(
            triple=triple,
            cpu=llvm.get_host_cpu_name(),
            features=has.flatten(),
            vector_bits=bits,
            vector_registers=registers,
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            l1_bytes=_cache_bytes(1, 32 << 10),
            l2_bytes=_cache_bytes(2, 1 << 20),
        )

    def lanes(self, dtype: DTypeLike) -> int:
        """How many elements of `dtype` a vector register holds."""
        return self.vector_bits // (8 * np.dtype(dtype).itemsize)


def _cache_bytes(level: int, default: int) -> int:
    """The size of a core's data cache as Linux tells it, or the default where nothing is told."""
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            kind, size = (folder / "type").read_text(), (folder / "size").read_text().strip()
            if int((folder / "level").read_text()) == level and not kind.startswith("Instruction"):
                return int(size.removesuffix("K")) << 10
        except (OSError, ValueError):
            continue
    return default


class NativeModule:
    """Native code in this process, for as long as this object lives.

    Args:
        object_code: object files for this machine.
        exports: names of its functions and variables whose addresses are wanted.
        symbols: addresses of what it calls, by name, besides what the process's C libraries offer.

    Raises:
        RuntimeError: an object file is damaged, or needs or lacks a symbol.
    """

    def __init__(
        self,
        object_code: Sequence[bytes],
        exports: Iterable[str],
        machine: Machine,
        symbols: Mapping[str, int] | None = None,
    ) -> None:
        self.object_code = object_code
        library = llvm.JITLibraryBuilder().add_current_process()
        for file in object_code:
            library.add_object_img(file)
        for name in exports:
            library.export_symbol(name)
        for name, address in (symbols or {}).items():
            library.import_symbol(name, address)
        start = time.perf_counter()
        with _linking:
            self._linker = _linker(machine)  # must outlive the code
            self._code = library.link(self._linker, f"module{next(_numbers)}")
        self.link_seconds = time.perf_counter() - start

    def address(self, name: str) -> int:
        """The address of one of the exports."""
        return self._code[name]


class Optimised:
    """A module as LLVM has it, checked and tidied up, ready to become native code.

    Raises:
        RuntimeError: LLVM finds the module wrong.
    """

    def __init__(self, module: ir.Module | str, machine: Machine) -> None:
        start = time.perf_counter()
        self._target = _target_machine(machine)
        context = create_context()  # of its own: LLVM keeps types and constants for as long as their context lives
        self._reference = llvm.parse_assembly(str(module), context)
        self._reference.triple = machine.triple
        self._reference.data_layout = str(self._target.target_data)
        self._reference.verify()
        _run_passes(self._reference, self._target)
        self.seconds = time.perf_counter() - start

    def object_code(self) -> bytes:
        """An object file. It takes LLVM most of the time, and other threads may go on meanwhile, in LLVM too.

        Raises:
            RuntimeError: LLVM cannot generate it.
        """
        emit, start, size, dispose = map(_unlocked, _EMISSION)
        error = ctypes.c_char_p()
        buffer = emit(self._target, self._reference, 1, ctypes.byref(error))
        if not buffer:
            raise RuntimeError(str(ffi.OutputString(init=error)))
        try:
            return ctypes.string_at(start(buffer), size(buffer))
        finally:
            dispose(buffer)

    @property
    def llvm(self) -> str:
        """The module as text."""
        return str(self._reference)

    @property
    def exports(self) -> tuple[str, ...]:
        """Names of the functions that others may call."""
        functions = self._reference.functions
        return tuple(f.name for f in functions if not f.is_declaration and f.linkage == llvm.Linkage.external)


#: What llvmlite's `TargetMachine.emit_object` calls.
_EMISSION = [
    f"LLVMPY_{name}" for name in ("TargetMachineEmitToMemory", "GetBufferStart", "GetBufferSize", "DisposeMemoryBuffer")
]


@functools.cache
def _unlocked(name: str) -> Callable[..., Any]:
    """A function of llvmlite's library, without the lock that lets one thread at a time into all of LLVM.

    LLVM itself asks no more of threads than that each keeps to contexts and target machines of its own ("Threads and
    the LLVMContext" in the LLVM Programmer's Manual), which every `Optimised` has.
    """
    locked = getattr(ffi.lib, name)
    try:
        function = ctypes.CDLL(ffi.lib._name, handle=ffi.lib._handle)[name]
    except AttributeError:  # another llvmlite, which may have no such lock
        return locked
    function.argtypes, function.restype = locked.argtypes, locked.restype
    return function


def _run_passes(reference: Any, target: Any) -> None:
    """Inline and tidy up.

    Kernels arrive vectorised, their loops in the order they are to have. LLVM's own pipelines (O1 to O3) make them
    no faster, and take five times as long.
    """
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.add_loop_rotate_pass()
    passes.add_dead_code_elimination_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(reference, llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(speed_level=2)))


@functools.cache
def _trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None


def release_memory() -> None:
    """Give back to the system what compiling took: some ten MiB, which the C library would keep for later."""
    trim = _trim()
    if trim is not None:
        trim(0)


def assembly(text: str, machine: Machine) -> str:
    """The assembly that optimised LLVM code becomes."""
    return _target_machine(machine).emit_assembly(llvm.parse_assembly(text))


class CompiledModule(NativeModule):
    """A module compiled and linked at once.

    Attributes:
        llvm: LLVM code after optimisation.
    """

    def __init__(self, module: ir.Module | str, machine: Machine) -> None:
        optimised = Optimised(module, machine)
        super().__init__([optimised.object_code()], optimised.exports, machine)
        self.llvm = optimised.llvm
        self._machine = machine

    @property
    def assembly(self) -> str:
        """The native code as assembly."""
        return assembly(self.llvm, self._machine)


def compile_module(module: ir.Module | str, machine: Machine) -> CompiledModule:
    """Make a module native code in this process."""
    return CompiledModule(module, machine)


_linking = threading.Lock()
_numbers = itertools.count()


@functools.cache
def _linker(machine: Machine) -> Any:
    # JITLink puts a module's code and constants into one block of memory, within reach of short addresses.
    return llvm.create_lljit_compiler(_target_machine(machine), use_jit_link=True, suppress_errors=True)


@functools.cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _target_machine(machine: Machine) -> Any:
    _initialize()
    # LLVM prefers 256 bits on processors with 512, for code that uses vectors only now and then.
    features = machine.features + (",-prefer-256-bit" if machine.vector_bits == 512 else "")
    target = llvm.Target.from_triple(machine.triple)
    return target.create_target_machine(
        cpu=machine.cpu, features=features, opt=2, reloc="pic", codemodel="small", jit=True
    )
