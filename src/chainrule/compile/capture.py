"""What a function closes over: every array it could read or change, and everything that could steer it.

`survey` walks from a function through its closure, the globals it names, the objects it is bound to, and the modules,
optimisers, lists and objects these hold. Arrays found there are inputs of a compiled program and may be its outputs;
everything else is remembered as it was, so that a program is never run for another network than it was made for.
"""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Container, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from chainrule.compile.tracing import Traced
from chainrule.core.tensor import Tensor

_PACKAGE = str(Path(__file__).resolve().parent.parent)
_LIBRARY = str(Path(np.__file__).resolve().parent.parent)
_PLAIN = (int, float, complex, str, bytes, bool, type(None), type(Ellipsis), np.dtype, np.generic, range, slice)
#: An array, outside of a recorded run and inside.
ARRAYS = (np.ndarray, Traced)
#: Longer containers of plain values are data, not structure.
_LONGEST = 10_000


class Slot(NamedTuple):
    """A place that holds an object: an entry of a mapping or list, an attribute, or the content of a closure's cell.

    Attributes:
        path: how a person would name it.
        owner: what it is in: a dict (of an object's attributes, too), list, tuple or cell.
        key: where; None in a cell.
        held: the object found there.
        is_watched: whether the owner notices assignments itself (a module's attributes).
    """

    path: str
    owner: Any
    key: Any
    held: Any
    is_watched: bool = False

    @property
    def identity(self) -> tuple[Any, Any]:
        """What tells the slot from all others; tuples are made anew for some of them."""
        return self.path if isinstance(self.owner, tuple) else id(self.owner), self.key

    def now(self) -> Any:
        """The object that is there now; `missing` where there is none any more."""
        if type(self.owner) is types.CellType:
            return self.owner.cell_contents
        try:
            return self.owner[self.key]
        except (KeyError, IndexError):
            return missing

    def put_back(self) -> None:
        """Let the slot hold what it held when it was found."""
        if isinstance(self.owner, tuple) or self.now() is self.held:
            return
        if type(self.owner) is types.CellType:
            self.owner.cell_contents = self.held
        else:
            self.owner[self.key] = self.held


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


missing = _Missing()


class Survey(NamedTuple):
    """What was found.

    Attributes:
        tensors: path of each tensor, by the tensor's identity, with the tensor.
        arrays: slots that hold a NumPy array.
        slots: all slots.
        options: (path, value) of what objects say of themselves in `__trace_parts__`.
    """

    tensors: dict[int, tuple[str, Tensor]]
    arrays: list[Slot]
    slots: list[Slot]
    options: list[tuple[str, Any]]

    def signature(self, carried: Container[tuple[int, Any]] = ()) -> tuple:
        """What must be equal for a program to be used: the objects that are in the slots, by value where plain.

        Args:
            carried: slots, by the identity of their owner and key, in which each run leaves a new tensor.
        """
        return (
            tuple((slot.identity, _signed(slot.held, slot.identity in carried)) for slot in self.slots),
            tuple((t.requires_grad, t.shape, str(t.dtype), _hooks(t)) for _, t in self.tensors.values()),
            tuple((path, value if isinstance(value, str) else id(value)) for path, value in self.options),
        )

    def sizes(self) -> list[tuple[Any, int]]:
        """The containers that may come to hold more, and how much they hold now."""
        return [(slot.held, len(slot.held)) for slot in self.slots if type(slot.held) in (list, dict)]


def _hooks(tensor: Tensor) -> tuple[int, ...]:
    return tuple(map(id, getattr(tensor._node, "hooks", None) or ()))


def _signed(held: Any, is_carried: bool) -> Any:
    if isinstance(held, np.ndarray) or (is_carried and isinstance(held, Tensor)):
        return ("array", held.shape, held.dtype.str)
    if isinstance(held, float) and held != held:
        return "nan"
    return (type(held), held) if isinstance(held, _PLAIN) and held.__hash__ is not None else id(held)


def survey(function: Any, names: Container[str] | None = None) -> Survey:
    """Everything within reach of `function`.

    Args:
        function: where to start, or several things in a tuple.
        names: the attributes that matter of the user's own objects (see `names_used`); all by default.
    """
    found = Survey({}, [], [], [])
    _Walk(found, names).visit("", function)
    return found


def names_used(function: Any) -> set[str]:
    """All names in the code of `function`, of the functions it reaches, and of the methods that these may call."""
    walk = _Walk(Survey({}, [], [], []), None)
    walk.visit("", function)
    names = set().union(*(_names(code)[1] for code in walk.codes))
    methods = [
        (name, getattr(method, "fget", method))
        for kind in walk.kinds
        for base in kind.__mro__
        for name, method in vars(base).items()
    ]
    size = -1
    while len(names) > size:
        size = len(names)
        for name, method in methods:
            if isinstance(method, types.FunctionType) and (name in names or name.startswith("__")):
                names |= _names(method.__code__)[1]
    return names


class _Walk:
    def __init__(self, found: Survey, names: Container[str] | None) -> None:
        self.found = found
        self.names = names
        self.codes: list[types.CodeType] = []
        self.kinds: set[type] = set()
        self.seen: set[int] = set()
        self.slots: set[tuple[Any, Any]] = set()

    def visit(self, path: str, thing: Any) -> None:
        """Walk from `thing` on, without recursion: networks may be deep."""
        stack = [(path, thing)]
        while stack:
            path, thing = stack.pop()
            if id(thing) in self.seen or isinstance(thing, (*_PLAIN, type, types.BuiltinFunctionType)):
                continue
            self.seen.add(id(thing))
            if isinstance(thing, Tensor):
                self.found.tensors[id(thing)] = path, thing
                continue
            if isinstance(thing, ARRAYS):
                continue
            slots = [slot for slot in self._slots_of(path, thing) if slot.identity not in self.slots]
            for slot in slots:
                self.slots.add(slot.identity)
                self.found.slots.append(slot)
                if isinstance(slot.held, ARRAYS):
                    self.found.arrays.append(slot)
            stack.extend((slot.path, slot.held) for slot in reversed(slots))

    def _slots_of(self, path: str, thing: Any) -> Iterator[Slot]:
        if hasattr(type(thing), "__trace_parts__"):
            return self._declared(path, thing)
        if isinstance(thing, types.FunctionType):
            self.codes.append(thing.__code__)
        elif _is_own(thing):
            self.kinds.add(type(thing))
            if self.names is not None and not _is_watched(thing):
                return (slot for slot in _slots(path, thing) if slot.key in self.names)
        return _slots(path, thing)

    def _declared(self, path: str, thing: Any) -> Iterator[Slot]:
        for name, owner, key in thing.__trace_parts__():
            if owner is None:
                self.found.options.append((f"{path}: {name}", key))
                if isinstance(key, Tensor):
                    self.visit(f"{path}: {name}", key)
            else:
                yield Slot(f"{path}: {name}", owner, key, owner[key])


def _slots(path: str, thing: Any) -> Iterator[Slot]:
    if isinstance(thing, types.FunctionType):
        yield from _of_function(path, thing)
    elif isinstance(thing, types.MethodType):
        yield Slot("self", (thing.__self__,), 0, thing.__self__)
        yield Slot(path, (thing.__func__,), 0, thing.__func__)
    elif isinstance(thing, partial):
        for place, part in (("function", (thing.func,)), ("argument", thing.args), ("argument", thing.keywords)):
            yield from _of_container(f"{path} {place}", part)
    elif isinstance(thing, (dict, list, tuple)):
        yield from _of_container(path, thing)
    elif _is_own(thing):
        watched = _is_watched(thing)
        for name, held in vars(thing).items():
            if not (watched and _is_default(type(thing), name, held)):
                yield Slot(f"{path}.{name}" if path else name, vars(thing), name, held, watched)


def _is_own(thing: Any) -> bool:
    """Whether a thing is an object with attributes, of a class that may have arrays of ours among them."""
    callables = (types.ModuleType, types.FunctionType, types.MethodType, partial)
    return not isinstance(thing, callables) and not _is_foreign(type(thing)) and hasattr(thing, "__dict__")


def _is_watched(thing: Any) -> bool:
    """Whether an object tells when its attributes are assigned: a module."""
    return hasattr(type(thing), "named_parameters")


def _is_default(kind: type, name: str, held: Any) -> bool:
    """Whether an attribute says what its class says anyway, as after `eval()` and `train()`, or a removed hook."""
    default = getattr(kind, name, missing)
    return held is default or (type(held) is list and not held and default == ())


def _is_foreign(kind: type) -> bool:
    """Whether a class is of another library, whose objects have no arrays of ours."""
    root = kind.__module__.partition(".")[0]
    return root in {"builtins", "numpy", "scipy", "weakref", "threading", "logging", "pathlib", "rich", "collections"}


def _of_container(path: str, thing: Any) -> Iterator[Slot]:
    if len(thing) > _LONGEST:
        return
    for key, held in thing.items() if isinstance(thing, dict) else enumerate(thing):
        yield Slot(f"{path}[{key!r}]", thing, key, held)


def _of_function(path: str, function: types.FunctionType) -> Iterator[Slot]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield Slot(name, cell, None, cell.cell_contents)
        except ValueError:  # not yet assigned
            continue
    if function.__defaults__:
        yield from _of_container(f"{function.__name__} default", function.__defaults__)
    if function.__kwdefaults__:
        yield from _of_container(f"{function.__name__} default", function.__kwdefaults__)
    if code.co_filename.startswith((_PACKAGE, _LIBRARY)):
        return
    globals_read, attributes = _names(code)
    for name in globals_read:
        if name in function.__globals__:
            held = function.__globals__[name]
            if isinstance(held, types.ModuleType):
                yield from _of_module(name, held, attributes)
            else:
                yield Slot(name, function.__globals__, name, held)


@functools.lru_cache(maxsize=1000)
def _names(code: types.CodeType) -> tuple[tuple[str, ...], frozenset[str]]:
    """The globals that a function and those within it read, and all names in it, of attributes too."""
    # In the order of the code, so that the same program is made in every process.
    globals_read = [step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner_globals, inner_names = _names(constant)
            globals_read += inner_globals
            names |= inner_names
    return tuple(dict.fromkeys(globals_read)), frozenset(names)


def _of_module(path: str, module: types.ModuleType, names: frozenset[str]) -> Iterator[Slot]:
    """What a function may read from a module of the user's own, such as `settings.network`."""
    file = getattr(module, "__file__", None)
    if file is None or file.startswith((_PACKAGE, _LIBRARY)) or "site-packages" in file:
        return
    for name in sorted(names & vars(module).keys()):
        held = vars(module)[name]
        if not isinstance(held, (types.ModuleType, types.FunctionType, type)):
            yield Slot(f"{path}.{name}", vars(module), name, held)
