"""What is being recorded now: the level of nested transforms, and recording on and off.

Every running transform owns a level, a number larger than those of the transforms around it: even for reverse mode
and the plain tape (level 0), odd for forward mode. A recorded value carries the level it belongs to; an operation
on values of several levels is handled for the newest first, and the older ones are constants to it. That is what
keeps the perturbations of nested transforms apart (Siskind and Pearlmutter, 2005, "Perturbation Confusion and
Referential Transparency").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

#: The level of the innermost running transform.
current_level: ContextVar[int] = ContextVar("chainrule_level", default=0)

#: Values of levels below this one are constants: `no_grad` raises it.
recording_floor: ContextVar[int] = ContextVar("chainrule_recording_floor", default=0)

#: Whether values and gradients are checked (`detect_anomaly`).
anomaly_detection: ContextVar[bool] = ContextVar("chainrule_anomaly", default=False)

#: Called with (node, inputs, values) for every operation that is recorded; None where nobody watches. The inputs are
#: as given, the values are the arrays inside them, followed by those of the outputs.
watcher: ContextVar[Callable[[Any, Any, list], None] | None] = ContextVar("chainrule_watcher", default=None)

#: What records the running function for the compiler; None where nothing does.
tracer: ContextVar[Any] = ContextVar("chainrule_tracer", default=None)


#: Called before every run of a compiled function, with the same step as ordinary Python code: who wants to watch it may
#: run that, and must then put back what it changed.
compiled_watchers: list[Callable[[Callable[[], Any]], None]] = []

#: Called with (module, arguments) before every call of a module; what they return, if not None, is called with its
#: output afterwards. Unlike a module's own hooks they are no part of it: compiled functions need not look again.
call_watchers: list[Callable[[Any, tuple], Callable[[Any], None] | None]] = []


@contextmanager
def calls_watched(watch: Callable[[Any, tuple], Callable[[Any], None] | None]) -> Iterator[None]:
    """Have `watch` among the `call_watchers`."""
    call_watchers.append(watch)
    try:
        yield
    finally:
        call_watchers.remove(watch)


def ask(function: Callable[[], Any], generator: Any = None) -> Any:
    """`function()`, an array or a tuple of them: Python's part in a step, such as a random draw or a learning rate.

    A compiled program calls it anew in every run.

    Args:
        function: what to call.
        generator: the NumPy generator that it draws from, if it does.
    """
    recording = tracer.get()
    return function() if recording is None else recording.ask(function, generator)


#: How often an attribute of a module was assigned. Compiled functions look again at what they close over when it moves.
structure = [0]


#: How often an option of an optimiser was assigned.
options = [0]


def option_changed() -> None:
    """Note that an option of an optimiser was assigned."""
    options[0] += 1


def structure_changed() -> None:
    """Note that an attribute of a module was assigned."""
    structure[0] += 1


def tape_level() -> int:
    """The level of the tape that a new leaf belongs to."""
    level = current_level.get()
    return level + (level & 1)


@contextmanager
def new_level(*, forward: bool) -> Iterator[int]:
    """Enter a transform: a fresh level, recorded even inside `no_grad`, whose scope is the caller's own values."""
    inner = tape_level() + (1 if forward else 2)
    token = current_level.set(inner)
    try:
        yield inner
    finally:
        current_level.reset(token)


class _Together:
    """Watchers as one, told in the order in which they came."""

    def __init__(self, watchers: tuple[Callable[[Any, Any, list], None], ...]) -> None:
        self.watchers = watchers

    def __call__(self, node: Any, inputs: Any, values: list) -> None:
        for watch in self.watchers:
            watch(node, inputs, values)


def _watchers() -> tuple[Callable[[Any, Any, list], None], ...]:
    present = watcher.get()
    return present.watchers if isinstance(present, _Together) else ()


@contextmanager
def watching(watch: Callable[[Any, Any, list], None]) -> Iterator[None]:
    """Call `watch` for every operation recorded inside, after those who watch already.

    Each leaves for itself: of two that overlap, whichever came first may be the first to go.
    """
    watcher.set(_Together((*_watchers(), watch)))
    try:
        yield
    finally:
        left = tuple(other for other in _watchers() if other is not watch)
        watcher.set(_Together(left) if left else None)


#: Whether graphs are recorded whole, checkpoints or not: a reader of every step wants the steps inside them too.
whole_graphs: ContextVar[bool] = ContextVar("chainrule_whole_graphs", default=False)


@contextmanager
def recording_whole_graphs() -> Iterator[None]:
    """Record what is inside checkpoints like everything else."""
    token = whole_graphs.set(True)
    try:
        yield
    finally:
        whole_graphs.reset(token)


#: What running a function may change besides its result, such as the random generator of `nn`: how to read that
#: state, and how to put it back.
side_states: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []

#: The other such state: tensors that were there before and were assigned, such as running statistics. By identity, the
#: tensor, the value and the node it had before; None where nobody asks.
_assigned: ContextVar[dict[int, tuple[Any, Any, Any]] | None] = ContextVar("chainrule_assigned", default=None)


def note_assignment(tensor: Any) -> None:
    """To be called before a tensor that no operation made is given another value in place."""
    noted = _assigned.get()
    if noted is not None:
        noted.setdefault(id(tensor), (tensor, tensor._value, tensor._node))


@contextmanager
def noting_assignments() -> Iterator[dict[int, tuple[Any, Any, Any]]]:
    """What is assigned inside: by identity of the tensor, the tensor with its value and node before."""
    outer = _assigned.get()
    noted: dict[int, tuple[Any, Any, Any]] = {}
    token = _assigned.set(noted)
    try:
        yield noted
    finally:
        _assigned.reset(token)
        for key, entry in noted.items() if outer is not None else ():
            outer.setdefault(key, entry)  # type: ignore[union-attr]


@contextmanager
def put_back(but: Mapping[int, Any] = MappingProxyType({})) -> Iterator[None]:
    """Leave every one of `side_states`, and every tensor that is assigned, as it was found; but not those by whose
    identities `but` goes.
    """
    found = [(write, read()) for read, write in side_states]
    noted: dict[int, tuple[Any, Any, Any]] = {}
    try:
        with noting_assignments() as noted:
            yield
    finally:
        for write, value in found:
            write(value)
        for tensor, value, node in noted.values():
            if id(tensor) not in but:
                tensor._value, tensor._node = value, node


class _Recording:
    """Context manager and decorator that sets the recording floor."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._tokens: list = []

    def __enter__(self) -> None:
        self._tokens.append(recording_floor.set(0 if self._enabled else tape_level() + 1))

    def __exit__(self, *_: object) -> None:
        recording_floor.reset(self._tokens.pop())

    def __call__(self, function):  # type: ignore[no-untyped-def]
        from functools import wraps

        @wraps(function)
        def inside(*args, **kwargs):  # type: ignore[no-untyped-def]
            with _Recording(enabled=self._enabled):
                return function(*args, **kwargs)

        return inside


def no_grad() -> _Recording:
    """Operations inside are not recorded: their results are constants to every transform already running.

    A context manager (`with cr.no_grad():`) and a decorator (`@cr.no_grad()`).
    """
    return _Recording(enabled=False)


def enable_grad() -> _Recording:
    """Record again inside `no_grad`."""
    return _Recording(enabled=True)


def is_grad_enabled() -> bool:
    """Whether an operation on a tensor that requires a gradient would be recorded here."""
    return recording_floor.get() <= tape_level()
