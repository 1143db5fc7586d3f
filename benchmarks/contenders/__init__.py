"""Those who are compared. Each module here writes the same work as a user of its framework would.

A module has a function for every kind of row it takes part in. `memory` takes the case and returns a `ForwardPass`, all
others (`mlp`, `lstm`, `cnn`, `gpt`, `scalar`, `derivative`, `loop`) take it and return `Settings`. Where there is a
function `reset`, it is called when a case is done with. Nothing but the standard library and NumPy is imported here, so
that a process loads only the framework it runs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Float32: TypeAlias = NDArray[np.float32]
Float64: TypeAlias = NDArray[np.float64]


@dataclass
class Workload:
    """Something to repeat and time.

    Attributes:
        phases: called in this order they do the work once; the time of each is measured.
        result: what the last repetition computed, a number or several arrays; all contenders must agree on it.
        enter: called before repetitions that are not of the workload that ran last; makes the settings of the whole
            process what this one needs.
    """

    phases: Mapping[str, Callable[[], object]]
    result: Callable[[], float | Sequence[np.ndarray]]
    enter: Callable[[], object] = lambda: None


def repeated(function: Callable[[], Any], arrays: Callable[[Any], Sequence[np.ndarray]]) -> Workload:
    """A workload of one phase; `arrays` makes NumPy arrays of what the function returned."""
    result: Any = None

    def call() -> None:
        nonlocal result
        result = function()

    return Workload({"call": call}, lambda: arrays(result))


#: The ways to run a case that may turn out fastest: what sets each of them up, by name.
Settings: TypeAlias = dict[str, Callable[[], Workload]]

#: Runs a network forward, recording. Returns its result, and the bytes of every block of memory that is kept for the
#: backward pass and is no parameter or buffer of the network, by address.
ForwardPass: TypeAlias = Callable[[], tuple[object, dict[int, int]]]


@dataclass(frozen=True)
class Contender:
    """One column of the tables.

    Attributes:
        key: the name of its module in this folder.
        label: its heading.
        package: what must be installed.
        kinds: the kinds of rows it takes part in.
        cold: whether the time of its first call in a new process is told: of frameworks whose users wait for it.
        lack: what else it needs and does not find here, in words; empty if it can run.
    """

    key: str
    label: str
    package: str
    kinds: tuple[str, ...]
    cold: bool = False
    lack: Callable[[], str] = lambda: ""

    @property
    def missing(self) -> str:
        """Why it cannot run here; empty if it can."""
        return f"{self.package} is not installed" if find_spec(self.package) is None else self.lack()

    def module(self) -> ModuleType:
        return import_module(f"benchmarks.contenders.{self.key}")


def _no_compile() -> str:
    return "" if callable(getattr(import_module("chainrule"), "compile", None)) else "chainrule has no `compile` here"


def _no_c_compiler() -> str:
    wanted = (os.environ.get("CC", "cc"), os.environ.get("CXX", "c++"))
    absent = [name for name in wanted if shutil.which(name) is None]
    return f"there is no compiler called {' or '.join(absent)}; name yours in CC and CXX" if absent else ""


_STEPS = ("mlp", "lstm", "cnn", "gpt")
_ALL = (*_STEPS, "scalar", "derivative", "loop")

SUBJECT = Contender("chainrule_eager", "chainrule", "chainrule", (*_ALL, "memory"), cold=True)
COMPILED = Contender("chainrule_compiled", "chainrule compiled", "chainrule", _ALL, cold=True, lack=_no_compile)
BOUND = Contender("c_by_hand", "C by hand", "numpy", ("mlp", "loop"), lack=_no_c_compiler)

CONTENDERS = (
    COMPILED,
    SUBJECT,
    Contender("torch_eager", "PyTorch eager", "torch", (*_ALL, "memory"), cold=True),
    Contender("torch_compiled", "torch.compile", "torch", (*_STEPS, "derivative", "loop"), cold=True),
    Contender("jax_eager", "JAX without jit", "jax", ("scalar",)),
    Contender("jax_jit", "JAX jit", "jax", _ALL, cold=True),
    Contender("hips_autograd", "HIPS autograd", "autograd", ("mlp", "scalar")),
    Contender("numpy_by_hand", "NumPy by hand", "numpy", ("mlp",)),
    BOUND,
)

BY_KEY = {contender.key: contender for contender in CONTENDERS}

#: The frameworks that chainrule is compared with.
PEERS = tuple(contender for contender in CONTENDERS if contender.package in ("torch", "jax", "autograd"))
