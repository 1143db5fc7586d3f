"""What is being recorded now: the level of nested transforms, and recording on and off.

Every running transform owns a level, a number larger than those of the transforms around it: even for reverse mode
and the plain tape (level 0), odd for forward mode. A recorded value carries the level it belongs to; an operation
on values of several levels is handled for the newest first, and the older ones are constants to it. That is what
keeps the perturbations of nested transforms apart (Siskind and Pearlmutter, 2005, "Perturbation Confusion and
Referential Transparency").
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: The level of the innermost running transform.
current_level: ContextVar[int] = ContextVar("chainrule_level", default=0)

#: Values of levels below this one are constants: `no_grad` raises it.
recording_floor: ContextVar[int] = ContextVar("chainrule_recording_floor", default=0)

#: Whether operations remember the source line that made them and check their values (`detect_anomaly`).
anomaly_detection: ContextVar[bool] = ContextVar("chainrule_anomaly", default=False)


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
