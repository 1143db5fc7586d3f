"""`Variant`: one program of a compiled function, connected to what it reads and writes.

It is for arguments of certain shapes and dtypes, and for one state of everything the function closes over. This file
turns a recording into a program, decides whether a call fits it, and runs it.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Container, Sequence
from types import CellType
from typing import Any

import numpy as np
import optree

from chainrule.compile import glance, shortcut
from chainrule.compile.bindings import Binding, Bindings
from chainrule.compile.capture import Slot, Survey, survey
from chainrule.compile.executable import Executable, address_of
from chainrule.compile.graph import Value
from chainrule.compile.machine import Machine, release_memory
from chainrule.compile.plan import Plan, is_short, plan, total_flops, unshared_if_short
from chainrule.compile.recording import Recording, is_traced_leaf
from chainrule.compile.shortcut import Shortcut, make_shortcut
from chainrule.compile.simplify import simplify
from chainrule.compile.threads import begun
from chainrule.core import state
from chainrule.core.tensor import Tensor

_allocate = object.__new__

#: NumPy's flags of an array that can be read as it lies in memory: in C order, aligned.
READABLE = 0x0101

#: Up to so many operations a program may keep other Python threads waiting: some tens of microseconds.
_SHORT = 4_000_000

#: What `Variant.run` returns for arguments that do not pass the program's checks.
failed = object()


class Variant:
    """A program for arguments of certain shapes and dtypes, and for what the function closes over.

    Attributes:
        recording, graph, plan, executable: what each stage made.
        seconds: how long it took to "simplify" the graph and to "plan" the program; `executable` knows the rest.
    """

    def __init__(
        self, recording: Recording, leaves: Sequence[Any], treedef: Any, is_flat: bool, threads: int | None
    ) -> None:
        start = time.perf_counter()
        assert recording.found is not None
        self._treedef = treedef
        self.is_flat = is_flat
        self.signature = recording.found.signature(recording.carried)
        self.structure = state.structure[0]
        self.records = state.is_grad_enabled()
        self._guards = _guards(recording.found, recording.carried)
        self.sizes = recording.sizes
        recording = self.recording = recording._replace(found=None)  # it holds arrays, which must have no other holder
        self._compile(recording, threads)
        self._connect_arguments(recording, leaves)
        self._connect_state(recording)
        self._connect_results(recording)
        self._is_short = self._could_be_short()
        release_memory()
        self.lock = threading.Lock()
        self.compile_seconds = time.perf_counter() - start

    def _could_be_short(self) -> bool:
        """Whether machine code can do all that a run takes, and soon enough."""
        return (
            shortcut.AVAILABLE
            and self._single is not None
            and self.is_flat
            and not (self._drops or self._must_be_none or self.recording.trace.draws)
            and all(argument.kind not in ("float", "scalar") for argument in self.arguments)
            and all(argument.dtype is None or argument.dtype.isnative for argument in self.arguments)
            and self._flops < _SHORT
        )

    # Making the program ----------------------------------------------------------------------------------------------

    def _compile(self, recording: Recording, threads: int | None) -> None:
        graph = recording.trace.graph
        self._stores = [(place, value) for place, value in recording.written.items() if value is not None]
        self._drops = [place for place, value in recording.written.items() if value is None]
        results = [value for value in recording.results if isinstance(value, Value)]
        outputs = [value for _, value in self._stores] + results
        start = time.perf_counter()
        small, wanted, became = simplify(graph, outputs)
        simplified = time.perf_counter()
        self.graph = small
        replaced = {
            number: became[recording.read[place]]
            for number, (place, _) in enumerate(self._stores)
            if place in recording.read and recording.read[place] in became
        }
        replaced = {n: source for n, source in replaced.items() if source is not wanted[n]}
        machine = Machine.host()
        begun(1 if threads is None and is_short(wanted) else threads or machine.cores)
        self.plan = plan(small, wanted, replaced, threads or machine.cores)
        self._flops = total_flops(self.plan)
        if threads is None:
            self.plan = unshared_if_short(self.plan)
        self._must_be_none = [
            place
            for place in recording.written
            if place.kind == "grad" and id(place.owner) in recording.trace.without_gradient
        ]
        self.checks: Plan | None = None
        if small.checks:
            self.checks = plan(small, [holds for holds, _ in small.checks], {}, 1)
        self._became = became
        self.seconds = {"simplify": simplified - start, "plan": time.perf_counter() - simplified}
        self.executable = Executable(self.plan.program, machine, flush_subnormals=_is_single(self.plan))
        self.check_executable = None
        if self.checks is not None:
            self.check_executable = Executable(self.checks.program, machine)
            self._flags = np.empty(len(small.checks), bool)
            self._all_hold = np.ones(len(small.checks), bool).tobytes()
            for number, slot in enumerate(self.checks.outputs):
                self.check_executable.set(slot, address_of(self._flags) + number)

    def _slots_of(self, value: Value | None) -> list[tuple[Any, int]]:
        """Where the address of an input goes: pairs of an executable's array table and a slot."""
        small = self._became.get(value) if value is not None else None
        found = []
        for planned, executable in ((self.plan, self.executable), (self.checks, self.check_executable)):
            if planned is not None and executable is not None and small in planned.sources:
                found.append((executable.arrays, planned.sources[small]))
        return found

    # Arguments -------------------------------------------------------------------------------------------------------

    def _connect_arguments(self, recording: Recording, leaves: Sequence[Any]) -> None:
        self._constants = dict(self.graph.arrays)
        for planned, executable in ((self.plan, self.executable), (self.checks, self.check_executable)):
            if planned is not None and executable is not None:
                for value, slot in planned.sources.items():
                    if value.op == "constant":
                        executable.set(slot, address_of(self._constants[value]))
        self.arguments = [
            _Argument(leaf, self._slots_of(value)) for leaf, value in zip(leaves, recording.arguments, strict=True)
        ]
        self._connected = [(place, argument) for place, argument in enumerate(self.arguments) if argument.slots]
        self._asked: list[tuple[Callable[[], Any], list[_Answer]]] = []
        self._asked_once: list[tuple[Callable[[], Any], list[_Answer]]] = []
        self._options = -1
        for inputs, function, is_fixed in recording.trace.fresh:
            asked = self._asked_once if is_fixed else self._asked
            asked.append((function, [_Answer(x.dtype, self._slots_of(x)) for x in inputs]))

    def accepts(self, leaves: Sequence[Any], treedef: Any = None) -> bool:
        """Whether the program is for arguments like these: leaves of a tree, or plain positional ones."""
        arguments = self.arguments
        if len(arguments) != len(leaves) or (treedef != self._treedef if treedef is not None else not self.is_flat):
            return False
        for argument, leaf in zip(arguments, leaves, strict=True):  # noqa: SIM110  (all() takes twice as long)
            if not argument.accepts(leaf):
                return False
        return True

    # State -----------------------------------------------------------------------------------------------------------

    def _connect_state(self, recording: Recording) -> None:
        outputs = {place: self.plan.outputs[number] for number, (place, _) in enumerate(self._stores)}
        self._bindings = Bindings(
            [
                Binding(
                    place,
                    self._slots_of(recording.read.get(place)),
                    outputs.get(place),
                    recording.written.get(place),
                    self.executable.arrays,
                )
                for place in {**recording.read, **outputs}
                if place in outputs or self._slots_of(recording.read.get(place))
            ]
        )

    def fits(self) -> bool:
        """Whether what the function closes over is what the program was made for, as far as a glance shows."""
        if state.structure[0] != self.structure or state.is_grad_enabled() is not self.records:
            return False
        for place in self._must_be_none:
            if place.owner._grad is not None:
                return False
        for container, size in self.sizes:
            if len(container) != size:
                return False
        for slot in self._guards:
            owner = slot.owner
            now = owner.cell_contents if type(owner) is CellType else owner.get(slot.key) if (
                type(owner) is dict
            ) else slot.now()  # fmt: skip
            if now is not slot.held:
                return False
        return True

    def fits_closely(self, function: Callable) -> bool:
        """As `fits`, by looking at everything again."""
        structure = state.structure[0]
        if state.is_grad_enabled() is not self.records:
            return False
        if any(place.owner.grad is not None for place in self._must_be_none):
            return False
        found = survey((function, *self._objects), self.recording.names)
        if found.signature(self.recording.carried) != self.signature:
            return False
        self.structure = structure
        self._guards = _guards(found, self.recording.carried)
        self.sizes = found.sizes()
        return True

    @property
    def _objects(self) -> list[Any]:
        return [argument.leaf for argument in self.arguments if argument.kind == "object"]

    # Results ---------------------------------------------------------------------------------------------------------

    def _connect_results(self, recording: Recording) -> None:
        first = len(self._stores)
        self._results: list[tuple[str, Any, Any, int]] = []
        number = first
        for leaf, kind in zip(recording.results, recording.kinds, strict=True):
            if kind == "plain":
                self._results.append((kind, leaf, None, -1))
            else:
                self._results.append((kind, leaf.shape, leaf.dtype, self.plan.outputs[number]))
                number += 1
        self._single = self._results[0] if len(self._results) == 1 and recording.treedef.is_leaf() else None
        if self._single is not None and self._single[0] == "tensor" and self._single[1] == ():
            self._scalar = np.empty((), self._single[2])
            self.executable.set(self._single[3], address_of(self._scalar))
        else:
            self._single = None

    # Running ---------------------------------------------------------------------------------------------------------

    def run(self, leaves: Sequence[Any]) -> Any:
        """The program's result for these arguments, or `failed` where they do not pass its checks."""
        _kept = [argument.connect(leaves[place]) for place, argument in self._connected]  # until the program has run
        self._bindings.connect()
        if self.check_executable is not None and not self._passes_checks():
            return failed
        self.ask_if_needed()
        if self._single is not None:
            self.executable.run()
            self._after()
            tensor = _allocate(Tensor)
            tensor._value = self._scalar[()]
            tensor._node = None
            return tensor
        made = [self._new_result(*result) for result in self._results]
        self.executable.run()
        self._after()
        return optree.tree_unflatten(self.recording.treedef, [_as_kind(kind, array) for kind, array in made])

    def ask_if_needed(self) -> None:
        """Ask Python's part of the step for its numbers, where they may have changed."""
        if self._asked or self._options != state.options[0]:
            self._ask()

    def _ask(self) -> None:
        asked = self._asked
        if self._options != state.options[0]:
            asked = self._asked_once + self._asked
            self._options = state.options[0]
        for function, inputs in asked:
            answer = function()
            for row, known in zip(answer if type(answer) is tuple else (answer,), inputs, strict=True):
                if row is not known.array:
                    known.connect(row)

    def _after(self) -> None:
        self._bindings.finish()
        for place in self._drops:
            place.owner._grad = None
        for function in self.recording.trace.finally_:
            function()

    def shortcut(self) -> Shortcut | None:
        """The quick way to call a small program, where there is one."""
        rows = self._bindings.glance_rows() if self._is_short else None
        if rows is None:
            return None
        checks = self.check_executable
        return make_shortcut(
            [argument.expected() for argument in self.arguments],
            np.concatenate([rows, glance.cell_rows(self._guards)]),
            (0, None) if checks is None else (checks.entry, self._flags),
            self.executable.entry,
            [slot for slot in self._guards if type(slot.owner) is not CellType],
            self,
            self.recording.trace.finally_,
            self._scalar,
        )

    def _new_result(self, kind: str, shape: Any, dtype: Any, slot: int) -> tuple[str, Any]:
        if kind == "plain":
            return kind, shape
        array = np.empty(shape, dtype)
        self.executable.arrays[slot] = id(array)
        return kind, array

    def _passes_checks(self) -> bool:
        assert self.check_executable is not None
        self.check_executable.run()
        return self._flags.tobytes() == self._all_hold


def _is_single(planned: Plan) -> bool:
    """Whether a program computes in float32 alone. Then subnormal numbers count as zero, as in the eager walk."""
    dtypes = {dtype for call in planned.program.calls for dtype in call.kernel.arguments}
    return np.dtype(np.float32) in dtypes and np.dtype(np.float64) not in dtypes


def _as_kind(kind: str, array: Any) -> Any:
    if kind == "tensor":
        return Tensor(array if array.shape else array[()])
    return float(array) if kind == "float" else array if kind == "plain" or array.shape else array[()]


def _guards(found: Survey, carried: Container[tuple[int, Any]]) -> list[Slot]:
    """The slots that may come to hold something else without notice."""
    return [
        slot
        for slot in found.slots
        if not (slot.is_watched or isinstance(slot.owner, tuple) or isinstance(slot.held, np.ndarray))
        and slot.identity not in carried
    ]


class _Argument:
    """What a leaf of the arguments must be like, and where its address goes."""

    __slots__ = ("buffer", "dtype", "kind", "leaf", "shape", "slots")

    def __init__(self, leaf: Any, slots: list[tuple[Any, int]]) -> None:
        self.slots = slots
        self.leaf = None
        self.buffer = None
        self.shape = self.dtype = None
        if type(leaf) is float:
            self.kind = "float"
            self.buffer = np.empty(())
            for arrays, slot in slots:
                arrays[slot] = id(self.buffer)
        elif is_traced_leaf(leaf):
            self.kind = "tensor" if isinstance(leaf, Tensor) else "array" if isinstance(leaf, np.ndarray) else "scalar"
            self.shape, self.dtype = leaf.shape, leaf.dtype
        else:
            self.kind = "object" if leaf.__hash__ is object.__hash__ or leaf.__hash__ is None else "plain"
            self.leaf = leaf

    def accepts(self, leaf: Any) -> bool:
        kind = self.kind
        if kind == "array":
            return type(leaf) is np.ndarray and leaf.dtype == self.dtype and leaf.shape == self.shape
        if kind == "tensor":
            return (
                isinstance(leaf, Tensor)
                and leaf._node is None
                and leaf._value.dtype == self.dtype
                and leaf._value.shape == self.shape
            )
        if kind == "float":
            return type(leaf) is float
        if kind == "scalar":
            return isinstance(leaf, np.generic) and leaf.dtype == self.dtype
        return leaf is self.leaf or (type(leaf) is type(self.leaf) and leaf == self.leaf)

    def expected(self) -> tuple[Any, ...]:
        """What a `Shortcut` is told about the argument."""
        if self.kind not in ("array", "tensor"):
            return (self.leaf,)
        places = [ctypes.addressof(arrays) + 8 * slot for arrays, slot in self.slots]
        return Tensor if self.kind == "tensor" else np.ndarray, self.dtype, self.shape, places

    def connect(self, leaf: Any) -> Any:
        """Put the address of the leaf's elements in its slots; returns what must live while the program runs."""
        if self.buffer is not None:
            self.buffer[()] = leaf
            return None
        array = leaf._value if self.kind == "tensor" else leaf
        if type(array) is not np.ndarray or array.flags.num & READABLE != READABLE or not array.dtype.isnative:
            array = np.array(array, array.dtype.newbyteorder("="), order="C")
        for arrays, slot in self.slots:
            arrays[slot] = id(array)
        return array


class _Answer:
    """What was last asked of Python, and where its address goes."""

    __slots__ = ("array", "dtype", "slots")

    def __init__(self, dtype: np.dtype, slots: list[tuple[Any, int]]) -> None:
        self.dtype = dtype
        self.slots = slots
        self.array: Any = None

    def connect(self, row: Any) -> None:
        if type(row) is not np.ndarray or row.flags.num & READABLE != READABLE:
            row = np.array(row, self.dtype, order="C")
        self.array = row
        for arrays, slot in self.slots:
            arrays[slot] = id(row)
