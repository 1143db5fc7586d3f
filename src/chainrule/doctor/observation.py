"""Watching one forward and backward pass: what every operation was given, made, and got back as its cotangent.

An `Observer` is told of modules and operations by a subject (`subjects`), which knows the framework, and keeps of each
an `Event`: numbers and links, never an array. `anatomy` makes layers of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from chainrule.core.namespace import namespace_of
from chainrule.doctor import statistics
from chainrule.doctor.measurements import Cut, Histogram, Spread
from chainrule.doctor.statistics import Samples
from chainrule.doctor.vocabulary import ACTIVATIONS, NORMALIZATIONS, PRODUCTS, WHOLE

SATURATED_SLOPE = 0.05
"""Where the local derivative is below this share of its largest value, a unit counts as saturated."""

Slope = Callable[[int | None], Any]
"""The local derivative of an elementwise operation at about so many elements, or at all; None where it is not known."""

Given = tuple[Hashable, Any]
"""What an operation was given: the identity of a value (None for a constant that nobody made), and its array."""


@dataclass(slots=True)
class Event:
    """One operation, or one module that is looked at as a whole.

    Attributes:
        number: place in the order of computation.
        name: the operation, by chainrule's name.
        path: of the module it happened in.
        sources: numbers of the events that made its inputs, the main input first.
        parameters: paths of the parameters it reads.
        given, made: spreads of the main input and of the output, where they are of interest.
        shape: of the output.
        shapes: of the inputs.
        recorded: whether a gradient can come back through it.
        cotangent: norm of the cotangent of the output, once the backward pass has been by.
        slope, saturated, zero_units, histogram: of an activation.
        smallest_variance, variance, dead, examples: of a normalisation.
        unit_axis: the axis along which units are counted: features come last, channels second.
        channel_means: of what a batch normalisation was given.
    """

    number: int
    name: str
    path: str
    sources: tuple[int, ...]
    parameters: tuple[str, ...]
    shape: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    recorded: bool
    given: Spread | None = None
    made: Spread | None = None
    cotangent: float | None = None
    slope: float = 0.0
    saturated: float = 0.0
    zero_units: float = 0.0
    histogram: Histogram | None = None
    smallest_variance: float = 0.0
    variance: float = math.inf
    dead: float = 0.0
    examples: int = 0
    unit_axis: int = -1
    channel_means: np.ndarray | None = None


@dataclass
class Observer:
    """What was seen so far.

    Attributes:
        parameters: paths by identity.
        events: in the order of computation.
        called: paths of the modules that were called.
        cuts: places where a value went on without its gradient; not looked for where there is a limit.
        arrays: those that recorded operations made, by `id`, as long as they live.
        alive: whatever must not be freed while identities matter.
        limit: about how many elements of an array to look at, where being exact costs too much; no histograms then.
            See `statistics.sampled` for the error. Norms of cotangents, and units that are zero throughout, are exact.
        examples: length of the first axis of what the first layer was given.
        flow_only: whether to look at cotangents only, and at no value.
    """

    parameters: Mapping[Hashable, str]
    events: list[Event] = field(default_factory=list)
    called: dict[str, Any] = field(default_factory=dict)
    cuts: list[Cut] = field(default_factory=list)
    limit: int | None = None
    examples: int = 0
    flow_only: bool = False
    arrays: WeakValueDictionary[int, Any] = field(default_factory=WeakValueDictionary)
    alive: list[Any] = field(default_factory=list)
    _made: dict[Hashable, int] = field(default_factory=dict)
    _of_parameters: dict[Hashable, tuple[str, ...]] = field(default_factory=dict)
    _path: list[str] = field(default_factory=list)
    _inside_whole: int = 0
    _samples: list[tuple[Any, int]] = field(default_factory=list)
    _slopes: list[tuple[Event, Any]] = field(default_factory=list)
    _wanted: list[tuple[Event, str, int]] = field(default_factory=list)
    _samples_made: dict[int, int] = field(default_factory=dict)

    # Modules ---------------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """Of the module that is running."""
        return self._path[-1] if self._path else ""

    def enter(self, path: str, module: Any) -> None:
        """A module is called."""
        self._path.append(path)
        self.called[path] = module
        self._inside_whole += self.is_whole(module)

    def leave(self, path: str, module: Any) -> None:
        """Its call is over."""
        self._path.pop()
        self._inside_whole -= self.is_whole(module)

    @staticmethod
    def is_whole(module: Any) -> bool:
        """Whether a module is looked at from outside only: its inside is one step on a whiteboard."""
        return _is_whole(type(module))  # type: ignore[arg-type]

    @property
    def inside_whole(self) -> bool:
        """Whether such a module is running."""
        return self._inside_whole > 0

    # Operations ------------------------------------------------------------------------------------------------

    def operation(
        self,
        name: str,
        inputs: Sequence[Given],
        outputs: Sequence[Given],
        listen: Callable[[Callable[[Any], None]], Any] | None,
        slope: Slope | None = None,
        path: str | None = None,
        parameters: Sequence[str] = (),
    ) -> Event | None:
        """An operation ran.

        Args:
            name: as chainrule calls it.
            inputs, outputs: identities and arrays of the values; the first output counts.
            listen: calls a function with the cotangent of the first output when it is known; None where none comes.
            slope: the local derivative of an elementwise operation.
            path: of the module; by default the one that is running.
            parameters: paths of the parameters it reads, besides those among the inputs.

        Returns:
            What is known of it; None if it only prepares parameters, or is inside a module looked at as a whole.
        """
        keys = [key for key, _ in outputs if key is not None]
        read, values = list(parameters), []
        for key, array in inputs:
            paths = self._parameters_at(key)
            if paths:
                read += paths
            elif array is not None:
                values.append((key, array))
        if read and not parameters and not values:  # a weight transposed, normalised, masked, ...
            self._of_parameters.update((key, tuple(dict.fromkeys(read))) for key in keys)
            return None
        if self.inside_whole:
            sources = self._sources(values)
            self._made.update((key, sources[0]) for key in keys if sources)
            return None
        event = Event(
            len(self.events), name, self.path if path is None else path, self._sources(values),
            tuple(dict.fromkeys(read)), tuple(outputs[0][1].shape),
            tuple(tuple(array.shape) for _, array in values), listen is not None,
        )  # fmt: skip
        self.events.append(event)
        self._made.update((key, event.number) for key in keys)
        event.unit_axis = self._unit_axis(event)
        self._look(event, values[0][1] if values else None, outputs[0][1], slope)
        if listen is not None and event.shape:  # that of a loss says nothing
            listen(lambda g: _receive(event, g))
        return event

    def alias(self, key: Hashable, known: Hashable) -> None:
        """A value with the identity `key` is to be taken for one that was made under another."""
        if known in self._made:
            self._made[key] = self._made[known]

    def unrecorded(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """An operation ran of which no gradient is wanted, such as one on the inputs alone; of no interest here."""

    @property
    def looks_for_cuts(self) -> bool:
        """Whether it is to be told where values go on without their gradients."""
        return self.limit is None

    def cut(self, operation: str, path: str) -> None:
        """A value goes on from here without its gradient."""
        found = Cut(operation, path, ())
        if found not in self.cuts:
            self.cuts.append(found)

    def _sources(self, values: Sequence[Given]) -> tuple[int, ...]:
        return tuple(self._made[key] for key, _ in values if key in self._made)

    def _unit_axis(self, event: Event) -> int:
        """Channels come second in images; and in sequences, from a convolution on, as long as they are three axes."""
        if len(event.shape) >= 4 or (len(event.shape) == 3 and PRODUCTS.get(event.name) == "convolution"):
            return 1
        follows = bool(event.sources) and len(event.shape) == 3
        return self.events[event.sources[0]].unit_axis if follows else -1

    def _parameters_at(self, key: Hashable) -> tuple[str, ...]:
        own = self.parameters.get(key)
        return (own,) if own is not None else self._of_parameters.get(key, ())

    def _look(self, event: Event, given: Any, made: Any, slope: Slope | None) -> None:
        product = bool(event.parameters) and event.name in PRODUCTS
        if not self.examples and given is not None and len(given.shape):
            self.examples = int(given.shape[0])
        if self.flow_only:
            return
        if event.name in ACTIVATIONS:
            self._spread(event, "made", made)
            event.histogram = None if self.limit else statistics.histogram(made)
            event.zero_units = statistics.zero_units(made, event.unit_axis)
            self._look_at_slope(event, slope)
        elif event.name in NORMALIZATIONS and given is not None:
            self._spread(event, "made", made)
            _look_at_variance(event, statistics.floating(given), self.limit)
            constant = [statistics.constant_units(x, event.unit_axis) for x in (made, given)]
            event.dead = max(constant[0] - constant[1], 0.0)
        elif product or event.name in WHOLE.values():
            self._spread(event, "made", made)
        if given is not None and (product or event.name in NORMALIZATIONS or event.name in WHOLE.values()):
            self._spread_of_input(event, given)

    def _spread_of_input(self, event: Event, given: Any) -> None:
        """Of the main input: known already where it is the output of what came before."""
        before = self.events[event.sources[0]] if event.sources else None
        if before is None or before.shape != tuple(given.shape):
            self._spread(event, "given", given)
        elif before.number in self._samples_made:
            self._wanted.append((event, "given", self._samples_made[before.number]))
        elif before.made is not None:
            event.given = before.made
        else:
            self._spread(event, "given", given)

    def _spread(self, event: Event, name: str, array: Any) -> None:
        """Have the spread of an array as an attribute of an event: at once, or where there is a limit, by `settle`."""
        if self.limit is None:
            setattr(event, name, statistics.spread(array))
            return
        if name == "made":
            self._samples_made[event.number] = len(self._samples)
        self._wanted.append((event, name, len(self._samples)))
        part = statistics.sampled(array, self.limit)
        part = statistics.copied(part) if part is array else part  # it may change
        self._samples.append((part, math.prod(array.shape)))

    def settle(self) -> None:
        """Find the spreads and slopes of all that was sampled, together; to be called before they are read."""
        spreads = _samples(self._samples).spreads()
        for event, name, place in self._wanted:
            setattr(event, name, spreads[place])
        _note_slopes(self._slopes)
        self._samples, self._wanted, self._samples_made, self._slopes = [], [], {}, []

    def _look_at_slope(self, event: Event, slope: Slope | None) -> None:
        derivative = None if slope is None else slope(self.limit)
        if derivative is None:
            return
        self._slopes.append((event, derivative))
        if self.limit is None:
            self.settle()


def _samples(taken: Sequence[tuple[Any, int]]) -> Samples:
    return Samples([statistics.as_numpy(part).reshape(-1) for part, _ in taken], [count for _, count in taken])


def _note_slopes(found: Sequence[tuple[Event, Any]]) -> None:
    """Of activations: the root mean square of their slopes, and where they are flat."""
    if not found:
        return
    slopes = _samples([(slope, math.prod(slope.shape)) for _, slope in found])
    flat = slopes.shares_below([SATURATED_SLOPE * ACTIVATIONS[event.name] for event, _ in found])
    for (event, slope), size, share in zip(found, slopes.norms(), flat, strict=True):
        event.slope, event.saturated = size / math.sqrt(max(math.prod(slope.shape), 1)), share


_EXAMPLES = 16
"""How many a look at variances is content with, where being exact costs too much: the mean is off by a quarter of the
standard deviation at most, the variance by a third of itself (one standard error)."""


@lru_cache
def _is_whole(kind: type) -> bool:
    return any(base.__name__ in WHOLE for base in kind.__mro__)


def _receive(event: Event, cotangent: Any) -> None:
    event.cotangent = statistics.norm(cotangent)


def _look_at_variance(event: Event, x: Any, limit: int | None) -> None:
    """The smallest variance a normalisation divides by, and over how many numbers each is taken."""
    xp = namespace_of(x)
    batch = event.name == "batch_norm"
    axes = (0, *range(2, len(x.shape))) if batch else (-1,)
    event.examples = math.prod(x.shape[axis] for axis in axes)
    if event.examples:
        x = x if limit is None else x[:: max(1, x.shape[0] // _EXAMPLES)]
        variances = statistics.as_numpy(xp.var(x, axis=axes))
        event.smallest_variance, event.variance = float(np.min(variances)), float(np.median(variances))
        event.channel_means = statistics.as_numpy(xp.mean(x, axis=axes)) if batch else None
