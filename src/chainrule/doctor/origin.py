"""Where the first NaN or infinity comes from: a second pass that looks at every value, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chainrule.core.anomaly import all_finite, users_frame
from chainrule.doctor import statistics
from chainrule.doctor.measurements import Origin, Spread
from chainrule.doctor.observation import Event, Given, Observer, Slope
from chainrule.doctor.subjects import Subject, leaves, parts


def find_origin(subject: Subject) -> Origin | None:
    """The operation that first makes a value, or a gradient, that is not finite; None if all are finite."""
    inputs, _ = parts(subject.batch)
    for x in leaves(inputs):
        if not all_finite(subject.array(x)):
            return Origin("input", "", "", "forward", (statistics.spread(subject.array(x)),))
    for path, parameter in subject.parameters():
        if not all_finite(subject.array(parameter)):
            owner = path.rpartition(".")[0]
            return Origin(f"parameter {path}", owner, "", "forward", (statistics.spread(subject.array(parameter)),))
    tracer = _Tracer({subject.key(parameter): path for path, parameter in subject.parameters()})
    with subject.undisturbed():
        with subject.observing(tracer):
            _, loss = subject.run()
        if tracer.origin is None and subject.is_recorded(loss):
            found = subject.gradients(loss, [parameter for _, parameter in subject.parameters()])
            for (path, _), gradient in zip(subject.parameters(), found, strict=True):
                if gradient is not None and not all_finite(gradient):
                    tracer.blame_reader_of_parameter(path)
    return tracer.origin


@dataclass
class _Tracer(Observer):
    """An observer that looks at every value, and remembers who made the first that is not finite."""

    origin: Origin | None = None
    _lines: dict[int, str] = field(default_factory=dict)
    _given: dict[int, tuple[Spread, ...]] = field(default_factory=dict)

    def operation(
        self,
        name: str,
        inputs: Sequence[Given],
        outputs: Sequence[Given],
        listen: Callable[[Callable[[Any], None]], None] | None,
        slope: Slope | None = None,
        path: str | None = None,
        parameters: Sequence[str] = (),
    ) -> Event | None:
        event = super().operation(name, inputs, outputs, listen, None, path, parameters)
        where = self.path if path is None else path
        if self.origin is None and not all(all_finite(array) for _, array in outputs if array is not None):
            self.origin = Origin(name, where, _users_line(), "forward", _spreads(inputs))
        if event is not None and listen is not None:
            self._lines[event.number] = _users_line()
            self._given[event.number] = _spreads(inputs)
            listen(lambda g: self._came_back(event, g))
        return event

    def unrecorded(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        if self.origin is None and not all(all_finite(array) for array in outputs):
            given = tuple(statistics.spread(array) for array in inputs)
            self.origin = Origin(name, self.path, _users_line(), "forward", given)

    def _came_back(self, event: Event, cotangent: Any) -> None:
        if self.origin is None and not all_finite(cotangent):
            self._blame([later for later in self.events if event.number in later.sources])

    def blame_reader_of_parameter(self, path: str) -> None:
        """A parameter's gradient is not finite, and no value's was before: an operation that reads it made it so."""
        if self.origin is None:
            self._blame([event for event in self.events if path in event.parameters])

    def _blame(self, readers: Sequence[Event]) -> None:
        if readers:
            guilty = readers[-1]
            self.origin = Origin(
                guilty.name, guilty.path, self._lines.get(guilty.number, ""), "backward",
                self._given.get(guilty.number, ()),
            )  # fmt: skip


def _spreads(inputs: Sequence[tuple[Hashable, Any]]) -> tuple[Spread, ...]:
    return tuple(statistics.spread(array) for _, array in inputs if array is not None)


def _users_line() -> str:
    frame = users_frame()
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
