"""Recording one run of a function: what it read becomes inputs, what it changed becomes outputs.

The arrays that `capture.survey` finds are replaced by traced ones, the function runs, and everything is put back:
places that hold something else afterwards are written by every later run. What a recorded program could not repeat
is an error here, with the place and the way out.
"""

from __future__ import annotations

import builtins
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import CellType
from typing import Any, NamedTuple

import numpy as np
import optree

from chainrule.compile.capture import ARRAYS, Slot, Survey, missing, names_used, survey
from chainrule.compile.errors import TraceError, Unsupported
from chainrule.compile.graph import Value
from chainrule.compile.tracing import ShapeTrace, Trace, Traced, active
from chainrule.core import state
from chainrule.core.namespace import is_array
from chainrule.core.node import Leaf, Node
from chainrule.core.tensor import Tensor, _raw


class Place:
    """Where an array is kept between runs.

    Attributes:
        kind: "value" or "grad" of a tensor; "array", an array in a container; "tensor", a tensor in a container, which
            each run replaces by another.
        owner: the tensor, or the container: a dict, a list or a closure's cell.
        key: in the container.
        path: how a person would name it.
    """

    __slots__ = ("key", "kind", "owner", "path")

    def __init__(self, kind: str, owner: Any, key: Any, path: str) -> None:
        self.kind = kind
        self.owner = owner
        self.key = key
        self.path = path

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Place)
            and (self.kind, self.key) == (other.kind, other.key)
            and (self.owner is other.owner)
        )

    def __hash__(self) -> int:
        return hash((self.kind, id(self.owner), self.key))

    def __repr__(self) -> str:
        return f"<{self.kind} {self.path}>"

    def holder(self) -> Any:
        """What is there: the tensor, or None, or the array itself."""
        if self.kind == "value":
            return self.owner
        if self.kind == "grad":
            return self.owner.grad
        return self.owner.cell_contents if type(self.owner) is CellType else self.owner[self.key]

    def get(self) -> Any:
        """The array that is there, or None."""
        held = self.holder()
        return held if self.kind == "array" or held is None else held._value

    def put(self, array: Any) -> None:
        """Keep `array` there; None drops a gradient."""
        if self.kind == "value":
            self.owner._value = array
        elif self.kind == "grad":
            self.owner._grad = None if array is None else Tensor(array)
        elif type(self.owner) is CellType:
            self.owner.cell_contents = array if self.kind == "array" else Tensor(array)
        else:
            self.owner[self.key] = array if self.kind == "array" else Tensor(array)


class Recording(NamedTuple):
    """A function's run as a graph.

    Attributes:
        trace: the graph and what is asked anew.
        arguments: the input for each leaf of the arguments; None for leaves that are part of the program.
        read: the input for each place.
        written: the value that each place holds afterwards; None for a gradient that is dropped.
        results: the leaves of what the function returned: values of the graph, or plain objects.
        kinds: for each of them "tensor", "array" or "float"; "plain" for plain objects.
        treedef: how the leaves of the result are put together.
        result: what the recorded run itself returned; None where it computed nothing.
        carried: slots in which each run leaves a new tensor, by the identity of their owner and their key.
        names: the attributes of the user's objects that matter.
        found: what the function closed over before the run.
        sizes: the containers among it, and how much they held.
        seconds: how long the run took.
    """

    trace: Trace
    arguments: list[Value | None]
    read: dict[Place, Value]
    written: dict[Place, Value | None]
    results: list[Any]
    kinds: list[str]
    treedef: Any
    result: Any
    carried: frozenset[tuple[int, Any]]
    names: set[str]
    found: Survey | None
    sizes: list[tuple[Any, int]]
    seconds: float


#: From so many elements on, a step takes NumPy longer than the program that is made of it.
_LARGE = 1 << 16


class NeedsValues(Exception):
    """A function cannot be recorded without computing anything: it has to be recorded with values."""


def record(function: Callable, leaves: Sequence[Any], treedef: Any, with_values: bool = False) -> Recording:
    """Run `function` once on the arguments made of `leaves`.

    Where these and what the function closes over are large, it runs on arrays without values: nothing is computed, and
    everything is as it was before.

    Args:
        function: what is recorded.
        leaves, treedef: its arguments.
        with_values: compute everything, however large.

    Raises:
        TraceError: it read a value or had a side effect.
        Unsupported: something has no compiled form. Everything is as it was before, but for what Python code did.
        NeedsValues: it cannot be recorded without values, or something is wrong with it.
    """
    start = time.perf_counter()
    reach = (function, *[leaf for leaf in leaves if not is_traced_leaf(leaf)])
    names = names_used(reach)
    found = survey(reach, names)
    sizes = found.sizes()
    before = {place: place.get() for place in _places(found)}
    trace = Trace() if with_values or _size(leaves, before) < _LARGE else ShapeTrace()
    gradients = {place: place.holder() for place in before if place.kind == "grad"}
    arguments = [_argument(trace, leaf, number) for number, leaf in enumerate(leaves)]
    read: dict[Place, Value] = {}
    try:
        for place, array in before.items():
            if array is not None:
                if not array.dtype.isnative:
                    raise Unsupported(f"{place.path} is not in this machine's byte order")
                read[place] = trace.graph.input(array.shape, array.dtype, place.path)
                place.put(Traced(read[place], trace.now(array)))
        args, kwargs = optree.tree_unflatten(treedef, [traced for _, traced in arguments])
        options = state.options[0]
        with active(trace), state.recording_whole_graphs(), _watched(found):
            result = function(*args, **kwargs)
        if state.options[0] != options:
            raise TraceError(
                "a compiled function must not change the options of an optimiser, such as its learning rate: it would "
                "happen while the function is recorded and never again. Do it outside, between calls"
            )
        after = survey(reach, names)
        _refuse_side_effects(found, after)
        _refuse_changed_arguments(arguments)
        carried = _carried(found, after, read)
        now = {place: place.get() for place in [*before, *carried, *_places(after)]}
        results, kinds, result_def = _results(trace, result, leaves)
        written = _written(trace, now, read, carried)
        if not trace.has_values and any(place not in before for place in written):
            raise NeedsValues  # what the program is to write to is made by the first run
    except BaseException as error:
        _undo(trace, found, survey(reach, names), before, gradients)
        if trace.has_values or isinstance(error, (TraceError, Unsupported)) or not isinstance(error, Exception):
            raise
        raise NeedsValues from error
    shown = None
    if trace.has_values:
        shown = optree.tree_unflatten(result_def, [_shown(*each) for each in zip(results, kinds, strict=True)])
        _keep(trace, now, written, before, gradients, shown)
    else:
        _undo(trace, found, after, before, gradients)
    return Recording(
        trace, [value for value, _ in arguments], read, written, [_as_value(part) for part in results], kinds,
        result_def, shown, frozenset((id(place.owner), place.key) for place in carried), names, found, sizes,
        time.perf_counter() - start,
    )  # fmt: skip


def _size(leaves: Sequence[Any], before: dict[Place, Any]) -> int:
    """How many elements the arguments and what the function closes over have."""
    arrays = [*filter(is_traced_leaf, leaves), *before.values()]
    return sum(getattr(array, "size", 1) for array in arrays)


def _undo(trace: Trace, found: Survey, after: Survey, before: dict[Place, Any], gradients: dict[Place, Any]) -> None:
    """Let everything be as it was before the run."""
    for place, array in before.items():
        if place.kind != "grad":
            place.put(array)
    _put_back(gradients)
    for slot in found.slots:
        slot.put_back()
    identities = {slot.identity for slot in found.slots}
    owners = {id(slot.owner) for slot in found.slots} | {id(slot.held) for slot in found.slots}
    for slot in after.slots:
        if slot.identity not in identities and isinstance(slot.owner, dict) and id(slot.owner) in owners:
            slot.owner.pop(slot.key, None)
    for generator, before_draws in trace.draws.values():
        generator.bit_generator.state = before_draws


def _keep(
    trace: Trace,
    now: dict[Place, Any],
    written: dict[Place, Value | None],
    before: dict[Place, Any],
    gradients: dict[Place, Any],
    shown: Any,
) -> None:
    """Let every place hold what the run left there, as plain arrays."""
    taken = {id(leaf) for leaf in optree.tree_leaves(shown)}
    for place, held in now.items():
        if place in written and held is not None:
            place.put(_own(held.concrete if isinstance(held, Traced) else held, taken))
        elif place in before and place.kind != "grad":
            place.put(before[place])
    _put_back({place: old for place, old in gradients.items() if place not in written})
    for function_after in trace.finally_:
        function_after()


def _own(array: Any, taken: set[int]) -> np.ndarray:
    """An array that nothing else holds the memory of: itself, or a copy."""
    if type(array) is np.ndarray and array.base is None and array.flags.carray and id(array) not in taken:
        taken.add(id(array))
        return array
    return np.array(array, order="C")


def _put_back(gradients: dict[Place, Any]) -> None:
    for place, old in gradients.items():
        if place.holder() is not old:
            place.owner._grad = old


# Arguments -----------------------------------------------------------------------------------------------------------


def is_traced_leaf(leaf: Any) -> bool:
    """Whether a leaf of the arguments is given anew to each run; others are part of the program."""
    return type(leaf) is float or isinstance(leaf, (np.ndarray, Tensor, np.floating, np.integer))


def _argument(trace: Trace, leaf: Any, number: int) -> tuple[Value | None, Any]:
    if not is_traced_leaf(leaf):
        if is_array(leaf):
            raise Unsupported(f"arguments of type {type(leaf).__name__} have no compiled form")
        return None, leaf
    name = f"argument {number}"
    if type(leaf) is float:
        value = trace.graph.input((), np.float64, name)
        return value, Traced(value, trace.now(np.float64(leaf)), weak=True)
    raw = _raw(leaf)
    if not isinstance(raw, (np.ndarray, np.generic)):
        raise Unsupported(f"tensors of {type(raw).__name__} have no compiled form")
    native = raw.dtype.newbyteorder("=")
    value = trace.graph.input(raw.shape, native, name)
    traced = Traced(value, trace.now(raw.astype(native, copy=False)))
    return value, Tensor(traced) if isinstance(leaf, Tensor) else traced


def _refuse_changed_arguments(arguments: Sequence[tuple[Value | None, Any]]) -> None:
    for value, given in arguments:
        if isinstance(given, Tensor) and (given._node is not None or _raw(given).value is not value):
            raise Unsupported("it changes a tensor that it was given as an argument")


# Places --------------------------------------------------------------------------------------------------------------


def _places(found: Survey) -> Iterator[Place]:
    for path, tensor in found.tensors.values():
        if tensor._node is not None and not isinstance(tensor._node, Leaf):
            raise Unsupported(f"{path or 'a tensor'} was made by a recorded operation outside of the function")
        if isinstance(tensor._value, Tensor):
            raise Unsupported(f"{path or 'a tensor'} belongs to a transform that is still running")
        if not isinstance(tensor._value, (np.generic, *ARRAYS)):
            raise Unsupported(f"{path or 'a tensor'} holds a {type(tensor._value).__name__}")
        yield Place("value", tensor, None, path)
        if tensor._node is not None:
            yield Place("grad", tensor, None, f"{path}.grad")
    for slot in found.arrays:
        if not isinstance(slot.owner, tuple):
            yield Place("array", slot.owner, slot.key, slot.path)


def _carried(before: Survey, after: Survey, read: dict[Place, Value]) -> list[Place]:
    """The slots whose tensor the function replaced by another: a state it carries from run to run."""
    carried = []
    old = {slot.identity: slot.held for slot in before.slots}
    for slot in after.slots:
        earlier = old.get(slot.identity)
        if not isinstance(slot.held, Tensor) or slot.held is earlier or id(slot.held) in before.tensors:
            continue
        place = Place("tensor", slot.owner, slot.key, slot.path)
        if isinstance(earlier, Tensor):
            read[place] = read.pop(Place("value", earlier, None, ""))
        carried.append(place)
    return carried


def _written(
    trace: Trace, now: dict[Place, Any], read: dict[Place, Value], carried: Sequence[Place]
) -> dict[Place, Value | None]:
    own = {id(place.holder()) for place in carried}
    written: dict[Place, Value | None] = {}
    for place, held in now.items():
        if place.kind == "value" and id(place.owner) in own:
            continue  # written as the content of its slot
        if held is None:
            if place in read:
                written[place] = None
            continue
        value = held.value if isinstance(held, Traced) else None
        if value is None and (place in read or place.kind == "grad"):
            value = trace.graph.constant(np.asarray(held))
        if value is not None and value is not read.get(place):
            written[place] = value
    return written


# Results -------------------------------------------------------------------------------------------------------------


def _results(trace: Trace, result: Any, leaves: Sequence[Any]) -> tuple[list[Any], list[str], Any]:
    """The leaves of the result, traced where they are arrays; what each of them is; and how they are put together."""
    flat, treedef = optree.tree_flatten(result, none_is_leaf=True)
    floats_only = all(type(leaf) is float for leaf in leaves if is_traced_leaf(leaf))
    parts, kinds = [], []
    for leaf in flat:
        raw = _raw(leaf)
        if isinstance(raw, np.ndarray):  # a constant, of which each caller gets a copy
            raw = Traced(trace.graph.constant(raw), raw)
        if not isinstance(raw, Traced):
            parts.append(leaf)
            kinds.append("plain")
            continue
        parts.append(raw)
        if isinstance(leaf, Tensor):
            _refuse_unwalked(leaf)
            kinds.append("tensor")
        elif raw.weak or (floats_only and any(type(x) is float for x in leaves) and _is_a_float(raw)):
            kinds.append("float")
        else:
            kinds.append("array")
    return parts, kinds, treedef


def _shown(part: Any, kind: str) -> Any:
    """A leaf of the result as the caller gets it."""
    if kind == "plain":
        return part
    return Tensor(part.concrete) if kind == "tensor" else float(part.concrete) if kind == "float" else part.concrete


def _as_value(part: Any) -> Any:
    return part.value if isinstance(part, Traced) else part


def _is_a_float(raw: Traced) -> bool:
    return not raw.shape and raw.dtype == np.float64


def _refuse_unwalked(tensor: Tensor) -> None:
    node = tensor._node
    if isinstance(node, Node) and node.edges is not None and not isinstance(node, Leaf):
        raise Unsupported(
            "the function returns a recorded tensor, which backward() outside of it could not go through: call "
            "backward() inside, or return it detached (or computed inside cr.no_grad())"
        )


# Side effects --------------------------------------------------------------------------------------------------------


def _refuse_side_effects(before: Survey, after: Survey) -> None:
    """That nothing but arrays has changed: a program could not repeat anything else."""
    old = {slot.identity: slot for slot in before.slots}
    known = {id(slot.owner) for slot in before.slots} | {id(slot.held) for slot in before.slots}
    for slot in after.slots:
        earlier = old.pop(slot.identity, None)
        if earlier is None and type(slot.owner) is list and id(slot.owner) in known:
            _refuse(slot, "nothing")
        if id(slot.held) in before.tensors and (earlier is None or earlier.held is not slot.held):
            raise TraceError(
                f"a compiled function must not move a tensor: {slot.path} held another one before. Assign a new "
                "tensor (t * 1) or the values (t.data = u.data)"
            )
        if _holds_array(slot.held) or (earlier is not None and earlier.held is slot.held):
            continue
        if earlier is None:
            if isinstance(slot.owner, dict) and id(slot.owner) in known:
                _refuse(slot, "nothing")
        elif _holds_array(earlier.held) or earlier.held != slot.held:
            _refuse(slot, repr(earlier.held))
    for slot in old.values():
        if slot.now() is missing:
            raise TraceError(f"a compiled function must not remove {slot.path}: later calls could not do it again")


def _holds_array(held: Any) -> bool:
    return isinstance(held, (np.ndarray, Traced, Tensor))


def _refuse(slot: Slot, old: str) -> None:
    raise TraceError(
        f"a compiled function must not change {slot.path} (from {old} to {slot.held!r}): Python code runs only while "
        "the function is recorded, later calls would leave it out. Keep it in a cr.tensor, or do it outside"
    )


_effects: list[str] | None = None


def _audit(event: str, args: tuple) -> None:
    if _effects is not None and event == "open" and isinstance(args[0], (str, bytes)) and _is_data(str(args[0])):
        _effects.append(f"opens {args[0]!r}")


def _is_data(path: str) -> bool:
    """Not a module that is being imported."""
    return not path.endswith((".py", ".pyc", ".so", ".pyd", ".dist-info", "METADATA"))


_is_audited = False


@contextmanager
def _watched(found: Survey) -> Iterator[None]:
    """Notice files that are opened, lines that are printed, and random numbers that nobody asked for."""
    global _effects, _is_audited
    if not _is_audited:
        sys.addaudithook(_audit)
        _is_audited = True
    earlier, _effects = _effects, []
    printed = builtins.print

    def noticed(*args: Any, **kwargs: Any) -> None:
        _effects.append(f"prints {' '.join(map(repr, args))}")  # type: ignore[union-attr]
        printed(*args, **kwargs)

    builtins.print = noticed
    generators = [slot.held for slot in found.slots if isinstance(slot.held, np.random.Generator)]
    drawn = _random_states(generators)
    try:
        yield
        if _random_states(generators) != drawn:
            _effects.append("draws random numbers from NumPy or Python")
        if _effects:
            raise TraceError(
                f"a compiled function must not have side effects, but this one {_effects[0]}: it would happen while "
                "it is recorded and never again. Do it outside, with what the function returns"
            )
    finally:
        builtins.print = printed
        _effects = earlier


def _random_states(generators: Sequence[np.random.Generator]) -> list[Any]:
    """What tells whether anything was drawn."""
    legacy: Any = np.random.get_state()  # noqa: NPY002  (what a user's own code may draw from)
    states = [str(generator.bit_generator.state) for generator in generators]
    return [legacy[2], hash(legacy[1].tobytes()), hash(random.getstate()), *states]
