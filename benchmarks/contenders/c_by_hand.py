"""C by hand: the bound. A training step in C that calls NumPy's BLAS (`c/mlp_step.c`), and scalar loops with their
adjoints in C++ (`c/scalar_loops.cpp`), compiled for this processor when they are needed."""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

from benchmarks import problems
from benchmarks.cases import Loop
from benchmarks.contenders import Settings, Workload, repeated
from benchmarks.networks import MLP

_SOURCES = Path(__file__).parent / "c"
_FLAGS = (
    "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd", "-shared", "-fPIC", "-pthread",
)  # fmt: skip
_THREADS = int(os.environ.get("OPENBLAS_NUM_THREADS", "1"))


@cache
def _compiled(source: str, *flags: str) -> ctypes.CDLL:
    """The functions of a source file.

    Raises:
        RuntimeError: the compiler refuses; the message has what it said.
    """
    compiler = os.environ.get("CC", "cc") if source.endswith(".c") else os.environ.get("CXX", "c++")
    with tempfile.TemporaryDirectory(prefix="chainrule-benchmark-") as folder:
        library = Path(folder, source).with_suffix(".so")
        command = [compiler, *_FLAGS, *flags, "-o", str(library), str(_SOURCES / source), "-lm"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            raise RuntimeError(f"{compiler} could not compile {source}:\n{run.stderr}")
        return ctypes.CDLL(str(library))  # once loaded, it needs no file


class _BLAS:
    """The OpenBLAS that NumPy brought along.

    Attributes:
        gemm: the address of `cblas_sgemm`.
        integer: the C type of its integers.
    """

    def __init__(self) -> None:
        self._limiter = threadpoolctl.ThreadpoolController().select(internal_api="openblas")
        libraries = [ctypes.CDLL(info["filepath"]) for info in self._limiter.info()]
        names = {"scipy_cblas_sgemm64_": "int64_t", "cblas_sgemm64_": "int64_t", "scipy_cblas_sgemm": "int",
                 "cblas_sgemm": "int"}  # fmt: skip
        found = [(lib, name) for lib in libraries for name in names if hasattr(lib, name)]
        if not found:
            raise RuntimeError("C by hand needs the OpenBLAS of NumPy's wheel, and none of NumPy's libraries is one")
        self._library, name = found[0]  # kept alive with the address
        self.gemm = ctypes.cast(getattr(self._library, name), ctypes.c_void_p)
        self.integer = names[name]

    def limit(self, threads: int) -> None:
        """Let BLAS use so many threads from now on."""
        self._limiter.limit(limits=threads)


_blas = cache(_BLAS)


def mlp(case: MLP) -> Settings:
    """Threads share the batch and call BLAS each for itself, or one thread leaves it to BLAS to use several."""
    if _THREADS == 1:
        return {"": lambda: _training(case, 1, 1)}
    return {
        "threads share the batch": lambda: _training(case, _THREADS, 1),
        "threads of BLAS": lambda: _training(case, 1, _THREADS),
    }


class _Network:
    """A network in C; `step` trains it and returns the loss, `close` frees it."""

    def __init__(self, case: MLP, threads: int) -> None:
        self._library = library = _compiled("mlp_step.c", f"-DBLAS_INT={_blas().integer}")
        integer, address, number = ctypes.c_int, ctypes.c_void_p, ctypes.c_float
        library.network_new.argtypes = [
            integer, address, integer, number, integer, address, address, address, address,
        ]  # fmt: skip
        library.network_new.restype = address
        library.network_step.argtypes = library.network_free.argtypes = [address]
        library.network_step.restype = number
        parameters = np.concatenate([array.ravel() for pair in case.parameters() for array in pair])
        inputs, targets = case.data()
        widths, targets = np.array(case.widths, np.int32), targets.astype(np.int64)
        self._address = library.network_new(
            len(case.layers), widths.ctypes.data, case.batch, case.learning_rate, threads,
            parameters.ctypes.data, inputs.ctypes.data, targets.ctypes.data, _blas().gemm,
        )  # fmt: skip

    def step(self) -> float:
        return self._library.network_step(self._address)

    def __del__(self) -> None:
        self._library.network_free(self._address)


def _training(case: MLP, threads: int, blas_threads: int) -> Workload:
    _blas().limit(blas_threads)
    network, loss = _Network(case, threads), 0.0

    def step() -> None:
        nonlocal loss
        loss = network.step()

    return Workload({"step": step}, lambda: loss, enter=lambda: _blas().limit(blas_threads))


def loop(case: Loop) -> Settings:
    """The function in C++ that returns the value and writes the gradient."""
    return {"": lambda: _loop(case)}


def _loop(case: Loop) -> Workload:
    function = getattr(_compiled("scalar_loops.cpp", "-std=c++17"), case.symbol)
    arguments, gradient = case.arguments(), np.empty_like(case.arguments())
    further: tuple[Any, ...] = ()
    if case.function is problems.lotka_volterra:
        further = (ctypes.c_int(problems.STEPS), ctypes.c_double(problems.STEP))
    function.restype = ctypes.c_double
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (arguments, gradient)]  # keep the arrays alive
    return repeated(partial(function, *pointers, *further), lambda value: [np.array(value), gradient])
