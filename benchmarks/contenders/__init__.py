"""Those who are compared. Each module here writes the same work as a user of its framework would.

A module has a function for every kind of row it takes part in. `mlp` and `scalar` take the case and return
`Settings`; `memory` takes the case and returns a `ForwardPass`. Where there is a function `reset`, it is called when
a case is done with. Nothing but the standard library and NumPy is imported
here, so that a process loads only the framework it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Float32: TypeAlias = NDArray[np.float32]


@dataclass
class Workload:
    """Something to repeat and time.

    Attributes:
        phases: called in this order they do the work once; the time of each is measured.
        result: the number that the last repetition computed; all contenders must agree on it.
    """

    phases: Mapping[str, Callable[[], object]]
    result: Callable[[], float]


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
    """

    key: str
    label: str
    package: str
    kinds: tuple[str, ...]

    @property
    def installed(self) -> bool:
        return find_spec(self.package) is not None

    def module(self) -> ModuleType:
        return import_module(f"benchmarks.contenders.{self.key}")


SUBJECT = Contender("chainrule_eager", "chainrule", "chainrule", ("mlp", "scalar", "memory"))

CONTENDERS = (
    SUBJECT,
    Contender("torch_eager", "PyTorch eager", "torch", ("mlp", "scalar", "memory")),
    Contender("torch_compiled", "torch.compile", "torch", ("mlp",)),
    Contender("jax_eager", "JAX without jit", "jax", ("scalar",)),
    Contender("jax_jit", "JAX jit", "jax", ("mlp", "scalar")),
    Contender("hips_autograd", "HIPS autograd", "autograd", ("mlp", "scalar")),
    Contender("numpy_by_hand", "NumPy by hand", "numpy", ("mlp",)),
)

BY_KEY = {contender.key: contender for contender in CONTENDERS}
