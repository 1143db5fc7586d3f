"""The names that the user's own code gives to values, seen while it runs.

The locals of every frame that is not chainrule's or NumPy's are looked at after each line. Nothing is run, changed or
kept of them but names. How a name is printed is in `notation`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np

from chainrule.core.node import Node
from chainrule.core.tensor import Tensor, _raw

_PACKAGE = os.path.dirname(os.path.dirname(__file__))
_NOT_THE_USERS = (_PACKAGE, os.path.dirname(np.__file__), "<frozen")
_ANYWHERE = 1 << 20


class Names:
    """Which name each value got, the outermost frame's and then the first one given.

    Attributes:
        modules: objects with `named_parameters` that were met in the user's frames.
        buffers: of those modules, as they were when met: (attributes, name, tensor, value).
    """

    def __init__(self) -> None:
        self.modules: list[Any] = []
        self.buffers: list[tuple[dict, str, Tensor, Any]] = []
        self._found: dict[Any, tuple[int, int, str]] = {}
        self._alive: list[Any] = []  # so that an id stays that of its value
        self._seen: dict[FrameType, dict[str, Any]] = {}
        self._depths: dict[FrameType, int] = {}
        self._number = 0

    def of(self, value: Any) -> str | None:
        """The name of a node, or of a value that nothing was recorded for."""
        found = self._found.get(_key(value))
        return None if found is None else found[2]

    def bind(self, name: str, value: Any, depth: int = 0) -> None:
        """Note that `name` means `value` in a frame `depth` calls below the explained function."""
        key = _key(value)
        if key is None:
            return
        self._number += 1
        found = self._found.get(key)
        if found is None or depth < found[0]:
            self._found[key] = (depth, self._number, name)
            self._alive.append(value)

    def bind_module(self, module: Any) -> None:
        """Note the paths of a module's parameters, for those that have no other name."""
        if any(module is known for known in self.modules):
            return
        self.modules.append(module)
        for path, parameter in module.named_parameters():
            self.bind(path, parameter, _ANYWHERE)
        for part in module.modules():
            named = part.named_buffers(recurse=False)
            self.buffers += [(vars(part), name, buffer, buffer._value) for name, buffer in named]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at the locals of what runs inside."""
        earlier = sys.gettrace()
        sys.settrace(self._trace)
        try:
            yield
        finally:
            sys.settrace(earlier)
            self._seen.clear()
            self._depths.clear()

    def look_at(self, frame: FrameType, depth: int = 0) -> None:
        """Bind the locals of `frame`, and the modules among the globals it uses."""
        seen = self._seen.setdefault(frame, {})
        for name, value in frame.f_locals.items():
            key = _key(value)
            if key is None:
                if name not in seen and _is_module(value):
                    self.bind_module(value)
                seen[name] = None
            elif seen.get(name) != key:
                seen[name] = key
                self.bind(name, value, depth)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Callable | None:
        if frame.f_code.co_filename.startswith(_NOT_THE_USERS):
            return None
        depth = self._depth(frame)
        self._depths[frame] = depth
        for name in frame.f_code.co_names:
            value = frame.f_globals.get(name)
            if _key(value) is not None:
                self.bind(name, value, _ANYWHERE)
            elif _is_module(value):
                self.bind_module(value)

        def after_each_line(frame: FrameType, event: str, argument: Any) -> Callable:
            self.look_at(frame, depth)
            return after_each_line

        return after_each_line

    def _depth(self, frame: FrameType) -> int:
        outer = frame.f_back
        while outer is not None:
            if outer in self._depths:
                return self._depths[outer] + 1
            outer = outer.f_back
        return 1


def _is_module(value: Any) -> bool:
    return callable(getattr(type(value), "named_parameters", None))


def _key(value: Any) -> Any:
    """What a value is recognised by: its node, or its identity; None for what has no name worth showing."""
    if isinstance(value, Node):
        return value
    if isinstance(value, Tensor):
        return value._node if isinstance(value._node, Node) else id(_raw(value))
    if type(value) is float or isinstance(value, np.ndarray):
        return id(value)
    return None
