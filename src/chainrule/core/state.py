"""What is being recorded now: the level of nested transforms, and recording on and off.

Every running transform owns a level, a number larger than those of the transforms around it: even for reverse mode
and the plain tape (level 0), odd for forward mode. A recorded value carries the level it belongs to; an operation
on values of several levels is handled for the newest first, and the older ones are constants to it. That is what
keeps the perturbations of nested transforms apart (Siskind and Pearlmutter, 2005, "Perturbation Confusion and
Referential Transparency").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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


@contextmanager
def watching(watch: Callable[[Any, Any, list], None]) -> Iterator[None]:
    """Call `watch` for every operation recorded inside, after those who watch already."""
    earlier = watcher.get()

    def both(node: Any, inputs: Any, values: list) -> None:
        earlier(node, inputs, values)  # type: ignore[misc]
        watch(node, inputs, values)

    token = watcher.set(watch if earlier is None else both)
    try:
        yield
    finally:
        watcher.reset(token)


#: What running a function may change besides its result, such as the random generator of `nn`: how to read that
#: state, and how to put it back.
side_states: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []


@contextmanager
def put_back() -> Iterator[None]:
    """Leave every one of `side_states` as it was found: what runs inside leaves no trace there."""
    found = [(write, read()) for read, write in side_states]
    try:
        yield
    finally:
        for write, value in found:
            write(value)


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
