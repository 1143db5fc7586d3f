"""From the events of one pass to the parts of a network: layers with the activation that follows, normalisations,
parameters, the loss. Reads links and numbers; the arrays it still needs are the parameters and their gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optree

from chainrule.core.namespace import namespace_of
from chainrule.doctor import statistics
from chainrule.doctor.measurements import Activation, Input, Layer, Loss, Normalization, ParameterState, Spread
from chainrule.doctor.observation import Event, Observer
from chainrule.doctor.subjects import Subject, leaves, parts
from chainrule.doctor.vocabulary import ACTIVATIONS, LAYOUT, LOSSES, NORMALIZATIONS, PRODUCTS, WHOLE_KINDS

_JOINS = frozenset({"add", "subtract", "concat"})


@dataclass
class Anatomy:
    """The events of one pass, and the values of the parameters and their gradients by path."""

    observer: Observer
    values: Mapping[str, Any]
    gradients: Mapping[str, Any]
    updates: Mapping[str, float]
    gradient_norms: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._norms: dict[str, float] = {}
        events = self.observer.events
        self.readers: list[list[Event]] = [[] for _ in events]
        self.ancestors: list[int] = []  # of each event, as a set of bits
        for event in events:
            below = 1 << event.number
            for source in event.sources:
                self.readers[source].append(event)
                below |= self.ancestors[source]
            self.ancestors.append(below)
        self.skipped = self._skipped()
        self.units_off = self._units_off()

    def _skipped(self) -> int:
        """Events that a path leads around: below one side of a join and not below the other."""
        around = 0
        for event in self.observer.events:
            if event.name in _JOINS and len(set(event.sources)) > 1:
                below = [self.ancestors[source] for source in dict.fromkeys(event.sources)]
                common = below[0]
                for other in below[1:]:
                    common &= other
                for other in below:
                    around |= (other & ~common) if common else 0
        return around

    def norm(self, path: str) -> float:
        """Of a parameter."""
        return _remembered(self._norms, path, self.values)

    def gradient_norm(self, path: str) -> float:
        """Of the gradient of a parameter; 0 where none came."""
        return _remembered(self.gradient_norms, path, self.gradients)

    def is_layer(self, event: Event) -> bool:
        """Whether it has weights that multiply what it is given."""
        return event.name in WHOLE_KINDS or (bool(event.parameters) and event.name in PRODUCTS)

    # Parts -----------------------------------------------------------------------------------------------------

    def layers(self) -> list[Layer]:
        """Those with weights, in the order in which they computed; a layer that ran twice counts where it ran last."""
        found = {event.parameters: self._layer(event) for event in self.observer.events if self.is_layer(event)}
        return list(found.values())

    def activations(self) -> list[Activation]:
        """All of them, in the order in which they computed."""
        return [self._activation(event) for event in self.observer.events if event.name in ACTIVATIONS]

    def _units_off(self) -> dict[int, float]:
        """Share of units that are zero throughout, by the activation's event: of a layer that runs several times, the
        smallest, for a unit that is on in one of its runs learns.
        """
        runs: dict[tuple[str, ...], list[Event]] = {}
        for event in self.observer.events:
            after = self._what_follows(event)[0] if self.is_layer(event) else None
            if after is not None:
                runs.setdefault(event.parameters, []).append(after)
        return {event.number: min(run.zero_units for run in events) for events in runs.values() for event in events}

    def normalizations(self, subject: Subject) -> list[Normalization]:
        """All of them, in the order in which they computed."""
        return [self._normalization(event, subject) for event in self.observer.events if event.name in NORMALIZATIONS]

    def parameters(self, subject: Subject) -> list[ParameterState]:
        """All parameters, with what came back to them."""
        optimizer = subject.optimizer
        held = None if optimizer is None else {id(p) for group in optimizer.param_groups for p in group["params"]}
        return [
            ParameterState(
                path,
                tuple(parameter.shape),
                bool(subject.requires_grad(parameter)),
                self.gradients.get(path) is not None,
                None if held is None else id(parameter) in held,
                self.norm(path),
                self.gradient_norm(path),
                0.0 if self.gradients.get(path) is None else _zero_share([self.gradients[path]], self.observer.limit),
                self.updates.get(path),
            )
            for path, parameter in subject.parameters()
        ]

    def _layer(self, event: Event) -> Layer:
        matrices = [p for p in event.parameters if len(self.values[p].shape) >= 2] or list(event.parameters)
        values = [self.values[p] for p in matrices]
        gradients = [self.gradients[p] for p in matrices if self.gradients.get(p) is not None]
        after, normalization = self._what_follows(event)
        incoming = self._cotangent_of_input(event)
        activation = None if after is None else self._activation(after)
        top = event.cotangent if after is None else after.cotangent
        fan_in, fan_out = _fans(event, values[0])
        if WHOLE_KINDS.get(event.name) == "recurrent" and len(values) > 1:
            fan_in = values[1].shape[-1]  # the state: it is what the weights are scaled by
        updates = [self.updates[p] for p in matrices if p in self.updates]
        limit = self.observer.limit
        return Layer(
            path=event.path or event.parameters[0].rpartition(".")[0] or event.parameters[0],
            kind=WHOLE_KINDS.get(event.name) or PRODUCTS[event.name],
            parameters=event.parameters,
            fan_in=fan_in,
            fan_out=fan_out,
            units=event.shape[event.unit_axis],
            size=math.prod(event.shape[1:]),
            input=event.given or _NOTHING,
            output=event.made or _NOTHING,
            activation=activation,
            normalization=None if normalization is None else normalization.path,
            error_signal=event.cotangent,
            gain=_ratio(incoming, top),
            weight_gain=_ratio(incoming, event.cotangent),
            weight=_joined([statistics.spread(value, limit) for value in values]),
            weight_norm=math.hypot(*(self.norm(p) for p in matrices)),
            gradient_norm=math.hypot(*(self.gradient_norm(p) for p in matrices)) if gradients else None,
            gradient_zeros=_zero_share(gradients, limit),
            update_ratio=max(updates) if updates else None,
            twins=0.0 if limit else self._twins(event, matrices),
            gradient=statistics.histogram(gradients[0]) if gradients and not limit else None,
            skipped=bool(self.skipped >> event.number & 1),
        )

    def _activation(self, event: Event) -> Activation:
        return Activation(
            event.path,
            event.name,
            event.made or _NOTHING,
            self.units_off.get(event.number, event.zero_units),
            event.saturated,
            event.slope,
            event.cotangent,
            _ratio(self._cotangent_of_input(event), event.cotangent),
            event.histogram or statistics.histogram(np.zeros(0)),
        )

    def _normalization(self, event: Event, subject: Subject) -> Normalization:
        module = self.observer.called.get(event.path)
        scales = [self.values[p] for p in event.parameters if p.endswith("weight")]
        off = max((statistics.zeros(scale) for scale in scales), default=0.0)
        running = getattr(module, "running_mean", None)
        training = bool(getattr(module, "training", True))
        return Normalization(
            event.path,
            event.name,
            event.examples,
            event.smallest_variance,
            max(off, event.dead if event.examples > 1 else 0.0),
            event.name != "batch_norm" or training or running is None,
            self._mismatch(event, module, subject) if running is not None else None,
            bool(getattr(subject.model, "training", True)),
            getattr(module, "momentum", None) if running is not None else None,
            bool(self.skipped >> event.number & 1),
        )

    def _mismatch(self, event: Event, module: Any, subject: Subject) -> float | None:
        mean, variance = (
            statistics.as_numpy(subject.array(getattr(module, n))) for n in ("running_mean", "running_var")
        )
        seen = event.channel_means
        if seen is None or seen.shape != mean.shape:
            return None
        with np.errstate(all="ignore"):
            return float(np.max(np.abs(mean - seen) / np.sqrt(np.maximum(variance, 1e-12))))

    def _what_follows(self, event: Event) -> tuple[Event | None, Event | None]:
        """The first activation after a layer and before the next one, and a normalisation on the way."""
        normalization = None
        while True:
            onward = [reader for reader in self.readers[event.number] if reader.number > event.number]
            if not onward or self.is_layer(onward[0]):
                return None, normalization
            event = onward[0]
            if event.name in ACTIVATIONS:
                return event, normalization
            if event.name in NORMALIZATIONS:
                normalization = event
            elif event.name not in LAYOUT and event.name != "add":
                return None, normalization

    def _cotangent_of_input(self, event: Event) -> float | None:
        return self.observer.events[event.sources[0]].cotangent if event.sources else None

    def _twins(self, event: Event, matrices: Sequence[str]) -> float:
        """Share of units that are copies of another one and stay so: their gradients are copies too."""
        if event.name == "embedding" or len(self.values[matrices[0]].shape) < 2:
            return 0.0
        vectors = [p for p in event.parameters if len(self.values[p].shape) == 1]
        across = PRODUCTS.get(event.name) == "product"
        rows = [_rows(self.values[matrices[0]], across)]
        rows += [_rows(self.values[p], False) for p in vectors if self.values[p].shape[0] == rows[0].shape[0]]
        gradient = self.gradients.get(matrices[0])
        alike = statistics.twins(np.concatenate(rows, axis=1))
        if not alike or gradient is None:
            return alike
        return statistics.twins(np.concatenate([*rows, _rows(gradient, across)], axis=1))


def _rows(x: Any, across: bool) -> np.ndarray:
    """One row per unit."""
    array = statistics.as_numpy(x)
    array = array.T if across else array
    return array.reshape(array.shape[0], -1)


_NOTHING = Spread(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    if numerator is None or denominator is None:
        return None
    return numerator / denominator if denominator else math.nan if numerator else None


def _remembered(norms: dict[str, float], path: str, arrays: Mapping[str, Any]) -> float:
    if path not in norms:
        norms[path] = 0.0 if arrays.get(path) is None else statistics.norm(arrays[path])
    return norms[path]


def _joined(spreads: Sequence[Spread]) -> Spread:
    """The spread of several arrays together."""
    if len(spreads) == 1:
        return spreads[0]
    count = sum(s.count for s in spreads) or 1

    def mean(of: Callable[[Spread], float]) -> float:
        return sum(of(s) * s.count for s in spreads) / count

    middle = mean(lambda s: s.mean)
    return Spread(
        count, middle, math.sqrt(mean(lambda s: s.std**2 + (s.mean - middle) ** 2)),
        min(s.smallest for s in spreads), max(s.largest for s in spreads),
        mean(lambda s: s.zeros), mean(lambda s: s.not_finite),
    )  # fmt: skip


def _zero_share(gradients: Sequence[Any], limit: int | None) -> float:
    count = sum(math.prod(g.shape) for g in gradients)
    looked_at = [(statistics.sampled(g, limit), math.prod(g.shape)) for g in gradients]
    return sum(statistics.zeros(part) * size for part, size in looked_at) / count if count else 0.0


def _fans(event: Event, weight: Any) -> tuple[int, int]:
    shape = tuple(weight.shape)
    if len(shape) < 2 or event.name == "embedding":
        return 1, shape[-1]
    size = math.prod(shape[2:])
    one, other = shape[1] * size, shape[0] * size
    flipped = PRODUCTS.get(event.name) == "product" or event.name.startswith("conv_transpose")
    return (other, one) if flipped else (one, other)


# The loss and the batch ---------------------------------------------------------------------------------------------


def loss_of(subject: Subject, observer: Observer, output: Any, loss: Any, first: int) -> Loss:
    """What is known of the loss, whose events start at number `first`."""
    _, targets = parts(subject.batch)
    outputs = leaves(output)
    made = subject.array(outputs[0]) if outputs else np.zeros(())
    target = next(iter(leaves(targets)), None) if targets is not None else None
    labels = None if target is None else statistics.as_numpy(subject.array(target))
    whole = (
        labels is not None
        and bool(labels.size)
        and bool(np.all(np.isfinite(labels)) and np.all(labels == np.round(labels)))
    )
    kinds = int(np.unique(labels).size) if labels is not None and whole else 0
    follows, path = _follows(observer, _loss_event(observer.events[first:]))
    return Loss(
        value=float(statistics.as_numpy(subject.array(loss))),
        name=_loss_name(subject.loss_fn, observer.events[first:]),
        recorded=subject.is_recorded(loss),
        follows=follows,
        follows_path=path,
        output=statistics.spread(made),
        output_shape=tuple(made.shape),
        compared_shape=_compared(observer.events[first:]),
        sums_to_one=_sums_to_one(made),
        targets=None if labels is None else statistics.spread(labels),
        targets_shape=() if labels is None else labels.shape,
        targets_integer=labels is not None and labels.dtype.kind in "iub",
        targets_whole=whole,
        classes=kinds if 0 < kinds <= 1000 else None,
        agreement=_agreement(subject, outputs[0], labels) if len(outputs) == 1 and labels is not None else None,
        uses_targets=_uses_targets(subject, outputs[0]) if labels is not None and kinds != 1 and outputs else None,
    )


def _uses_targets(subject: Subject, output: Any) -> bool | None:
    """Whether a loss of outputs that differ changes when each example gets the targets of the next."""
    inputs, targets = parts(subject.batch)
    try:
        count = len(leaves(targets)[0])
        moved = optree.tree_map(lambda leaf: leaf[np.roll(np.arange(count), 1)], targets)
        values = np.random.default_rng(0).uniform(
            0.2, 0.8, tuple(output.shape)
        )  # probabilities, as some losses ask for
        with subject.quietly():
            probe = subject.constant(values, output)
            first, other = (subject.loss(probe, (inputs, given)) for given in (targets, moved))
        return bool(np.any(statistics.as_numpy(subject.array(first)) != statistics.as_numpy(subject.array(other))))
    except Exception:  # outputs or targets of a kind of their own
        return None


def _agreement(subject: Subject, output: Any, labels: np.ndarray) -> float | None:
    """See `Loss`; the loss is taken of the output once more, as a leaf."""
    made = statistics.as_numpy(subject.array(output))
    wanted = _wanted(made, labels) if made.dtype.kind == "f" else None
    if wanted is None:
        return None
    try:
        leaf = subject.leaf(output)
        (cotangent,) = subject.gradients(subject.loss(leaf), [leaf])
    except Exception:  # a loss that wants more than the output: it is looked at elsewhere
        return None
    if cotangent is None:
        return None
    pushed = -statistics.as_numpy(cotangent).astype(np.float64)
    size = float(np.linalg.norm(pushed)) * float(np.linalg.norm(wanted))
    return float(np.sum(pushed * wanted)) / size if 0 < size < math.inf else None


def _wanted(made: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
    """The direction in which an output comes to its targets; None where it cannot be told from their shapes."""
    if labels.shape == made.shape:
        binary = bool(np.isin(labels, (0, 1)).all())
        return 2.0 * labels - 1 if binary else labels.astype(np.float64) - made
    if labels.dtype.kind not in "iu" or labels.ndim != made.ndim - 1:
        return None
    axis = next((k for k in (made.ndim - 1, 1) if np.delete(made.shape, k).tolist() == list(labels.shape)), None)
    if axis is None or made.shape[axis] < 2 or labels.min() < 0 or labels.max() >= made.shape[axis]:
        return None
    wanted = np.full(made.shape, -1.0 / made.shape[axis])
    np.put_along_axis(wanted, np.expand_dims(labels, axis), 1 - 1.0 / made.shape[axis], axis)
    return wanted


def loss_seen(observer: Observer, value: float) -> Loss:
    """What is known of a loss whose value is all there is, and the operations that made it."""
    step = next((event for event in observer.events if event.name in LOSSES), None)
    follows, path = _follows(observer, step)
    made = observer.events[step.sources[0]] if step is not None and step.sources else None
    return Loss(
        value, "" if step is None else step.name, True, follows, path, _NOTHING, () if made is None else made.shape,
        (), 0.0, None, (), False, False, None,
    )  # fmt: skip


def _loss_event(events: Sequence[Event]) -> Event | None:
    return next((event for event in events if event.name in LOSSES), events[0] if events else None)


def _loss_name(loss_fn: Any, events: Sequence[Event]) -> str:
    own = getattr(loss_fn, "__name__", type(loss_fn).__name__)
    if own in _LOSS_MODULES:
        return _LOSS_MODULES[own]
    if own in LOSSES:
        return own
    names = [event.name for event in events]
    named = next((name for name in names if name in LOSSES), "")
    if named:
        return named
    for pattern, name in _BY_HAND:
        if any(tuple(names[i : i + 2]) == pattern for i in range(len(names))):
            return name
    return ""


_BY_HAND = (
    (("subtract", "square"), "mse_loss"),
    (("subtract", "power"), "mse_loss"),
    (("subtract", "abs"), "l1_loss"),
)

_LOSS_MODULES = {
    "CrossEntropyLoss": "cross_entropy", "NLLLoss": "nll_loss", "MSELoss": "mse_loss", "L1Loss": "l1_loss",
    "HuberLoss": "huber_loss", "SmoothL1Loss": "smooth_l1_loss", "BCELoss": "binary_cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy_with_logits",
}  # fmt: skip


def _follows(observer: Observer, step: Event | None, depth: int = 3) -> tuple[tuple[str, ...], str]:
    """The operations that made the argument of a loss, the nearest first."""
    names: list[str] = []
    path = ""
    while step is not None and step.sources and len(names) < depth:
        step = observer.events[step.sources[0]]
        if step.name not in LAYOUT:
            path = path or step.path
            names.append(step.name)
    return tuple(names), path


def _compared(events: Sequence[Event]) -> tuple[int, ...]:
    """The shape in which output and targets meet, in the first operation of a loss that takes two values."""
    for event in events:
        if event.name in ("subtract", *_ELEMENTWISE_LOSSES) and len(event.shapes) >= 2:
            try:
                return np.broadcast_shapes(*event.shapes[:2])
            except ValueError:
                return ()
    return ()


_ELEMENTWISE_LOSSES = frozenset({
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits",
})  # fmt: skip


def _sums_to_one(x: Any) -> float:
    if len(x.shape) < 2 or x.shape[-1] < 2:
        return 0.0
    rows = statistics.as_numpy(x).reshape(-1, x.shape[-1]).astype(np.float64)
    return float(np.mean((rows >= 0).all(axis=1) & (np.abs(rows.sum(axis=1) - 1) < 1e-3)))


def inputs_of(subject: Subject) -> list[Input]:
    """The arrays of the batch that go into the network."""
    given, _ = parts(subject.batch)
    return [_input(subject.array(x)) for x in leaves(given)]


def _input(x: Any) -> Input:
    integer = "float" not in str(x.dtype)
    scales = offset = common = None
    if not integer and len(x.shape) >= 2 and 0 not in x.shape:
        values = statistics.floating(x)
        xp = namespace_of(values)
        axes = tuple(k for k in range(len(x.shape)) if k != (1 if len(x.shape) >= 4 else len(x.shape) - 1))
        std = statistics.as_numpy(xp.std(values, axis=axes)).ravel()
        mean = np.abs(statistics.as_numpy(xp.mean(values, axis=axes)).ravel())
        moving = np.isfinite(std) & (std > 1e-6 * np.maximum(mean, 1e-30))
        if moving.any():
            scales = float(std[moving].min()), float(std[moving].max())
            offset = float(np.max(mean[moving] / std[moving]))
            common = _common(statistics.as_numpy(values)[:, moving]) if len(x.shape) == 2 else None
    return Input(statistics.spread(x), scales, offset, integer, tuple(x.shape), common)


def _common(rows: np.ndarray) -> float:
    """Share of the largest eigenvalue of the features' correlation matrix in their sum."""
    with np.errstate(all="ignore"):
        centred = rows - rows.mean(axis=0)
        standard = centred / centred.std(axis=0)
        smaller = standard @ standard.T if len(rows) < rows.shape[1] else standard.T @ standard
    return float(np.linalg.eigvalsh(smaller)[-1] / np.trace(smaller)) if np.isfinite(smaller).all() else 0.0
