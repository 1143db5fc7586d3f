"""Where in the network each step of a run is, and what the modules there were given: seen while the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from weakref import ref

from chainrule.core.calls import Call, running_calls
from chainrule.core.node import Node
from chainrule.transforms.kept import arrays_in, nbytes_of, owner


class Place(NamedTuple):
    """A module that was called.

    Attributes:
        path: such as `layers.0`; empty for the outermost module.
        kind: the name of its class.
    """

    path: str
    kind: str


class Given(NamedTuple):
    """An array that a module was given.

    Attributes:
        memory: a weak reference to the array that owns its memory.
        nbytes: of that memory.
    """

    memory: Callable[[], Any]
    nbytes: int


class Watch:
    """What is seen while a function runs.

    Attributes:
        places: for each step, the modules being called, the outermost first.
        given: what each of them was given, by what stands in `places` up to it and by the identity of the memory.
        modules: the module at each place.
    """

    def __init__(self, function: Callable) -> None:
        self.places: dict[Node, tuple[Place, ...]] = {}
        self.given: dict[tuple[Place, ...], dict[int, Given]] = {}
        self.modules: dict[Place, Any] = {}
        self._function = function
        self._paths: dict[int, dict[int, str]] = {}

    def __call__(self, node: Node, inputs: Any, values: list) -> None:
        """Note a step."""
        calls = running_calls()
        places = self.places[node] = self.place_of([call.module for call in calls])
        for length, call in enumerate(calls, 1):
            self._note_given(self.given.setdefault(places[:length], {}), call)

    def _note_given(self, given: dict[int, Given], call: Call) -> None:
        for array in arrays_in((call.args, call.kwargs)):
            own = owner(array)
            if id(own) not in given:
                given[id(own)] = Given(_weak(own), nbytes_of(own))

    def place_of(self, modules: Sequence[Any]) -> tuple[Place, ...]:
        """Where in the network a step is that these modules are being called for."""
        places = tuple([Place(self._path(modules, number), type(m).__name__) for number, m in enumerate(modules)])
        self.modules.update(zip(places, modules, strict=True))
        return places

    def _path(self, modules: Sequence[Any], number: int) -> str:
        """The path of a module in the outermost one, or, where it is no part of that, after the one that calls it."""
        outermost = modules[0]
        if id(outermost) not in self._paths:
            self._paths[id(outermost)] = {id(part): path for path, part in outermost.named_modules()}
        path = self._paths[id(outermost)].get(id(modules[number]))
        if path is not None:
            above = type(outermost).__name__ if outermost is not self._function else ""
            return ".".join(part for part in (above, path) if part)
        around, kind = self._path(modules, number - 1), type(modules[number]).__name__
        return f"{around}.{kind}" if around else kind


def _weak(array: Any) -> Callable[[], Any]:
    try:
        return ref(array)
    except TypeError:  # a NumPy number, or an array of another library that cannot be referred to weakly
        return lambda: array
