"""Where the first NaN or infinity comes from: a second pass that looks at every value, forward and backward; and
whether the data have any that this batch has not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.core.anomaly import all_finite, users_frame
from chainrule.doctor import statistics
from chainrule.doctor.measurements import Gaps, Origin, Spread
from chainrule.doctor.observation import Event, Given, Observer, Slope
from chainrule.doctor.subjects import Subject, leaves, parts
from chainrule.doctor.training import length, loss_of, take
from chainrule.doctor.vocabulary import canonical

MASKING = frozenset({"add", "subtract", "where", "masked_fill"})
"""What masks are put on with: −∞ from them is meant, for a softmax makes 0 of it."""


def find_origin(subject: Subject) -> Origin | None:
    """The operation that first makes a value, or a gradient, that is not finite; None if all are finite."""
    if gap := _first_gap(subject, subject.batch):
        return _named(subject, gap[0], gap[1])
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
    return tracer.origin or tracer.masked


def find_gaps(subject: Subject) -> Origin | None:
    """Inputs or targets in the data that are not finite, where they make the loss so; None if there are none.

    A network may be made for missing numbers, and a loss may leave them out: both are asked.
    """
    gap = None if subject.data is None else _first_gap(subject, subject.data)
    if gap is None:
        return None
    name, array = gap
    half, bad = max(length(subject.batch) // 2, 1), _rows_with_gaps(array)
    others = np.setdiff1d(np.arange(len(array)), bad)  # a loss that leaves gaps out must find something else
    rows = np.concatenate([bad[:half], others[:half]])
    try:
        with subject.undisturbed():
            harmless = math.isfinite(loss_of(subject, take(subject.data, rows)))
    except Exception:  # batches are made of the data in a way of their own
        return None
    return None if harmless else _named(subject, name, array)


def _first_gap(subject: Subject, pairs: Any) -> tuple[str, Any] | None:
    """The first array of inputs or targets that is not finite, and which of both it is."""
    for name, tree in zip(("input", "target"), parts(pairs), strict=True):
        for leaf in () if tree is None else leaves(tree):
            array = subject.array(leaf)
            if len(array.shape) and not all_finite(array):
                return name, array
    return None


def _named(subject: Subject, name: str, array: Any) -> Origin:
    """Gaps as the origin of what is not finite, told by those of all data where they have the same shape."""
    if subject.data is not None:
        found = _first_gap(subject, subject.data)
        array = found[1] if found and found[0] == name and found[1].shape[1:] == array.shape[1:] else array
    finite = np.isfinite(statistics.as_numpy(array))
    axes = _axes_but_features(finite.ndim)
    columns = ~finite.all(axis=axes) if finite.ndim > 1 else np.array([True])
    rows = _rows_with_gaps(array)
    gaps = Gaps(len(rows), len(finite), int(rows[0]), int(columns.sum()), columns.size)
    return Origin(name, "", "", "forward", (statistics.spread(array),), gaps)


def _axes_but_features(dimensions: int) -> tuple[int, ...]:
    """All axes but that of the features: the last one, or the channels of images."""
    features = 1 if dimensions >= 4 else dimensions - 1
    return tuple(axis for axis in range(dimensions) if axis != features)


def _rows_with_gaps(array: Any) -> np.ndarray:
    finite = np.isfinite(statistics.as_numpy(array))
    return np.flatnonzero(~finite.all(axis=tuple(range(1, finite.ndim))))


@dataclass
class _Tracer(Observer):
    """An observer that looks at every value, and remembers who made the first that is not finite.

    Attributes:
        origin: the operation that is to blame; None for none.
        masked: the first one that only put a mask on.
    """

    origin: Origin | None = None
    masked: Origin | None = None
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
        self._check(name, where, _arrays(inputs), _arrays(outputs))
        if event is not None and listen is not None:
            self._lines[event.number] = _users_line()
            self._given[event.number] = _spreads(_arrays(inputs))
            listen(lambda g: self._came_back(event, g))
        return event

    def unrecorded(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        self._check(name, self.path, inputs, outputs)

    def _check(self, name: str, path: str, given: Sequence[Any], made: Sequence[Any]) -> None:
        """Blame an operation for what is not finite in what it makes, if nobody was blamed yet and it is no mask."""
        if self.origin is not None or all(map(all_finite, made)):
            return
        origin = Origin(name, path, _users_line(), "forward", _spreads(given))
        may_mask = canonical(name) in MASKING or not given or not all(map(all_finite, given))  # full is given nothing
        if may_mask and all(map(_is_masked, made)):
            self.masked = self.masked or origin
        else:
            self.origin = origin

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


def _arrays(values: Sequence[tuple[Hashable, Any]]) -> list[Any]:
    return [array for _, array in values if array is not None]


def _spreads(arrays: Sequence[Any]) -> tuple[Spread, ...]:
    return tuple(map(statistics.spread, arrays))


def _is_masked(array: Any) -> bool:
    """Whether all that is not finite in it is −∞."""
    values = statistics.as_numpy(array)
    return bool((np.isfinite(values) | np.isneginf(values)).all())


def _users_line() -> str:
    frame = users_frame()
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
