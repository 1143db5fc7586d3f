"""Where in a network something happens: the modules that are being called, told from the call stack.

Looking there costs nothing while nobody asks. `nn.Module` says with `marks_a_call` which function of its a call goes
through; of modules, nothing else is known here but `named_modules`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

F = TypeVar("F", bound=Callable)

_codes: set[Any] = set()

_NOTE = "in module "


def marks_a_call(method: F) -> F:
    """Declare that `self` of `method(self, *args, **kwargs)` is being called while the method runs."""
    _codes.add(method.__code__)
    return method


class Call(NamedTuple):
    """A call that is going on.

    Attributes:
        module: what is called.
        args, kwargs: what it was given.
    """

    module: Any
    args: tuple
    kwargs: dict


def running_calls() -> list[Call]:
    """The calls of modules that are going on, the outermost first."""
    found = []
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code in _codes:
            found.append(Call(*[frame.f_locals[name] for name in ("self", "args", "kwargs")]))
        frame = frame.f_back
    return found[::-1]


def note_place(error: BaseException, module: Any) -> None:
    """Note on `error` the path of the innermost module it came through, as seen from `module`, the outermost so far."""
    innermost = error.__dict__.setdefault("_chainrule_module", module)
    path = path_in(module, innermost)
    if path is None:
        return  # called from within `module`, but no part of it
    kind = type(innermost).__name__
    notes = [note for note in getattr(error, "__notes__", ()) if not note.startswith(_NOTE)]
    error.__notes__ = [*notes, f"{_NOTE}{path} ({kind})" if path else f"{_NOTE}{kind}"]


def path_in(module: Any, part: Any) -> str | None:
    """Where `part` is in `module`, such as `layers.0`; None where it is no part of it."""
    return next((path for path, found in module.named_modules() if found is part), None)
