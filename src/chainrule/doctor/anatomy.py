"""From the events of one pass to the parts of a network: layers with the activation that follows, normalisations,
parameters, the loss. Reads links and numbers; the arrays it still needs are the parameters and their gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import optree

from chainrule.core.namespace import namespace_of
from chainrule.doctor import statistics
from chainrule.doctor.measurements import (
    Activation,
    Histogram,
    Input,
    Layer,
    Loss,
    Normalization,
    ParameterState,
    Spread,
    ThroughTime,
)
from chainrule.doctor.observation import Event, Observer
from chainrule.doctor.subjects import Subject, leaves, parts
from chainrule.doctor.training import finite_dealt_losses, length, take
from chainrule.doctor.vocabulary import ACTIVATIONS, LAYOUT, LOSSES, NORMALIZATIONS, PRODUCTS, WHOLE_KINDS

LARGEST_DENSE = 1024
"""Of larger recurrent matrices no eigenvalues are taken: it would take longer than all else."""

NEAR_ZERO = 1e-3
"""A channel that a normalisation multiplies by no more passes nothing on."""


@dataclass
class Anatomy:
    """The events of one pass, and what there is of the parameters by path.

    Attributes:
        observer: what saw the pass.
        values, gradients: arrays.
        updates: how far the optimiser moved each, as a share of its norm.
        spreads: of the values, as far as they are known already.
        norms: of the values, as far as they are known already.
        gradient_norms, gradient_shares: norms of the gradients and shares of zeros in them, as far as they are known.
        of_network: how many of the events are the network's; those after them are the loss's. All, where that is not
            known.
    """

    observer: Observer
    values: Mapping[str, Any]
    gradients: Mapping[str, Any]
    updates: Mapping[str, float]
    spreads: Mapping[str, Spread] = field(default_factory=dict)
    norms: dict[str, float] = field(default_factory=dict)
    gradient_norms: dict[str, float] = field(default_factory=dict)
    gradient_shares: dict[str, float] = field(default_factory=dict)
    of_network: int | None = None

    def __post_init__(self) -> None:
        self._activations: dict[int, Activation] = {}
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
            if len(set(event.sources)) > 1:
                below = [self.ancestors[source] for source in dict.fromkeys(event.sources)]
                common = below[0]
                for other in below[1:]:
                    common &= other
                for other in below:
                    around |= (other & ~common) if common else 0
        return around

    def norm(self, path: str) -> float:
        """Of a parameter."""
        if path not in self.norms:
            self.norms[path] = statistics.norm(self.values[path])
        return self.norms[path]

    def gradient_norm(self, path: str) -> float:
        """Of the gradient of a parameter; 0 where none came."""
        if path not in self.gradient_norms:
            gradient = self.gradients.get(path)
            self.gradient_norms[path] = 0.0 if gradient is None else statistics.norm(gradient)
        return self.gradient_norms[path]

    def gradient_zeros(self, path: str) -> float:
        """Share of zeros in the gradient of a parameter; 0 where none came."""
        if path not in self.gradient_shares:
            gradient = self.gradients.get(path)
            self.gradient_shares[path] = 0.0 if gradient is None else statistics.zeros(gradient)
        return self.gradient_shares[path]

    def is_layer(self, event: Event) -> bool:
        """Whether it has weights that multiply what it is given."""
        return bool(event.parameters) and (event.name in WHOLE_KINDS or event.name in PRODUCTS)

    # Parts -----------------------------------------------------------------------------------------------------

    def layers(self) -> list[Layer]:
        """Those with weights, in the order in which they computed; a layer that ran twice counts where it ran last."""
        found = {
            (event.parameters, event.name): self._layer(event) for event in self.observer.events if self.is_layer(event)
        }  # an embedding whose weights are read once more at the end is two layers
        return list(found.values())

    def activations(self) -> list[Activation]:
        """All of them, in the order in which they computed; not those that a loss is written with."""
        events = self.observer.events[: self.of_network]
        return [self._activation(event) for event in events if event.name in ACTIVATIONS]

    def loops(self) -> list[ThroughTime]:
        """Recurrences that a forward writes as a loop, and the loss's error signal at each of their runs.

        A layer that is fed what came of its run before, and something new besides. One that is fed nothing new makes a
        deep network whose layers share their weights.
        """
        runs: dict[tuple[str, ...], list[Event]] = {}
        for event in self.observer.events[: self.of_network]:
            if self.is_layer(event) and event.name not in WHOLE_KINDS:
                runs.setdefault(event.parameters, []).append(event)
        return [self._loop(found) for found in runs.values() if len(found) > 2 and self._is_loop(found)]

    def _is_loop(self, runs: Sequence[Event]) -> bool:
        if any(event.cotangent is None for event in runs) or not self.ancestors[runs[-1].number] >> runs[0].number & 1:
            return False
        return all(self._is_fed(later, earlier) for earlier, later in pairwise(runs[-3:]))

    def _is_fed(self, later: Event, earlier: Event) -> bool:
        """Whether a run depends on the one before it, and on something that was not there then."""
        between = self.ancestors[later.number] & ~self.ancestors[earlier.number]
        if not self.ancestors[later.number] >> earlier.number & 1:
            return False
        steps = [event for event in self.observer.events[: later.number + 1] if between >> event.number & 1]
        return any(
            not self.ancestors[step.number] >> earlier.number & 1
            or sum(shape[:1] == step.shape[:1] for shape in step.shapes) > len(step.sources)
            for step in steps
        )

    def _loop(self, runs: Sequence[Event]) -> ThroughTime:
        norms = [event.cotangent or 0.0 for event in runs]
        last = runs[-1]
        matrix = statistics.as_numpy(self.values[last.parameters[0]]).astype(np.float64)
        square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] and bool(np.isfinite(matrix).all())
        return ThroughTime(
            last.path or last.parameters[0].rpartition(".")[0] or last.parameters[0],
            "loop",
            tuple(norms),
            (),
            (norms[0] / norms[-1]) ** (1 / (len(norms) - 1)) if norms[-1] else 0.0,
            float(np.max(np.abs(np.linalg.eigvals(matrix)))) if square and len(matrix) <= LARGEST_DENSE else math.nan,
        )

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

    def parameters(self, subject: Subject, listed: Sequence[tuple[str, Any]] | None = None) -> list[ParameterState]:
        """All parameters, or those that are listed by path, with what came back to them."""
        moved = {} if subject.optimizer is None else _moved_by(subject.optimizer)
        parameters = subject.parameters() if listed is None else listed
        own = {id(parameter) for _, parameter in parameters}
        strange = {shape for known, shape in moved.items() if known not in own}
        return [
            ParameterState(
                path,
                tuple(parameter.shape),
                bool(subject.requires_grad(parameter)),
                self.gradients.get(path) is not None,
                None if subject.optimizer is None else id(parameter) in moved,
                self.norm(path),
                self.gradient_norm(path),
                self.gradient_zeros(path),
                self.updates.get(path),
                tuple(parameter.shape) in strange and id(parameter) not in moved,
            )
            for path, parameter in parameters
        ]

    def _layer(self, event: Event) -> Layer:
        matrices = [p for p in event.parameters if len(self.values[p].shape) >= 2] or list(event.parameters)
        values = [self.values[p] for p in matrices]
        reached = [p for p in matrices if self.gradients.get(p) is not None]
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
            weight=self._weight_spread(matrices),
            weight_norm=math.hypot(*(self.norm(p) for p in matrices)),
            gradient_norm=math.hypot(*(self.gradient_norm(p) for p in matrices)) if reached else None,
            gradient_zeros=0.0 if self.observer.flow_only else self._zero_share(reached),
            update_ratio=max(updates) if updates else None,
            twins=0.0 if limit else self._twins(event, matrices),
            gradient=statistics.histogram(self.gradients[reached[0]]) if reached and not limit else None,
            skipped=bool(self.skipped >> event.number & 1),
        )

    def _weight_spread(self, paths: Sequence[str]) -> Spread:
        if self.observer.flow_only:  # whether they are all zero is all that the rules of flow ask
            return _NOTHING if any(self.norm(p) for p in paths) else _ZEROS
        return _joined([self.spreads.get(p) or statistics.spread(self.values[p]) for p in paths])

    def _zero_share(self, paths: Sequence[str]) -> float:
        """Of the gradients of several parameters together."""
        sizes = [math.prod(self.gradients[p].shape) for p in paths]
        return sum(self.gradient_zeros(p) * n for p, n in zip(paths, sizes, strict=True)) / max(sum(sizes), 1)

    def _activation(self, event: Event) -> Activation:
        if event.number not in self._activations:
            self._activations[event.number] = Activation(
                event.path,
                event.name,
                event.made or _NOTHING,
                self.units_off.get(event.number, event.zero_units),
                event.saturated,
                event.slope,
                event.cotangent,
                _ratio(self._cotangent_of_input(event), event.cotangent),
                event.histogram or Histogram((), ()),
            )
        return self._activations[event.number]

    def _normalization(self, event: Event, subject: Subject) -> Normalization:
        module = self.observer.called.get(event.path)
        scales = [self.values[p] for p in event.parameters if p.endswith("weight")]
        off = max((_share_near_zero(scale) for scale in scales), default=0.0)
        running = getattr(module, "running_mean", None)
        training = bool(getattr(module, "training", True))
        return Normalization(
            event.path,
            event.name,
            self._in_group(event, module),
            event.smallest_variance,
            max(off, event.dead if event.examples > 1 else 0.0),
            event.name != "batch_norm" or training or running is None,
            self._mismatch(event, module, subject) if running is not None else None,
            bool(getattr(subject.model, "training", True)),
            getattr(module, "momentum", None) if running is not None else None,
            bool(self.skipped >> event.number & 1),
            float(getattr(module, "eps", None) or 0.0),
            event.variance,
        )

    def _in_group(self, event: Event, module: Any) -> int:
        """Over how many numbers each mean and variance is taken."""
        groups = getattr(module, "num_groups", None)
        return math.prod(event.shape[1:]) // groups if groups else event.examples

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
        same_gradients = statistics.twins(np.concatenate([*rows, _rows(gradient, across)], axis=1))
        return max(same_gradients, min(alike, self._twins_as_read(event)))

    def _twins_as_read(self, event: Event) -> float:
        """Share of a layer's units that the next layer reads with equal weights other than 0: where dropout makes their
        gradients differ by chance, they are copies all the same.
        """
        while True:
            onward = [reader for reader in self.readers[event.number] if reader.number > event.number]
            if len(onward) != 1:
                return 0.0
            event = onward[0]
            if self.is_layer(event):
                break
        weight = next((self.values[p] for p in event.parameters if len(self.values[p].shape) == 2), None)
        if weight is None or event.name not in ("linear", "matmul") or not self.norm(event.parameters[0]):
            return 0.0
        return statistics.twins(_rows(weight, event.name == "linear"))


def _moved_by(optimizer: Any) -> dict[int, tuple[int, ...]]:
    """Shapes of the parameters that an optimiser moves, by identity: not of a group whose learning rate alone is 0."""
    groups = [group for group in optimizer.param_groups if group.get("lr", 1.0)] or optimizer.param_groups
    return {id(p): tuple(p.shape) for group in groups for p in group["params"]}


def _share_near_zero(scale: Any) -> float:
    return statistics.share(np.abs(statistics.as_numpy(scale)) < NEAR_ZERO)


def _rows(x: Any, across: bool) -> np.ndarray:
    """One row per unit."""
    array = statistics.as_numpy(x)
    array = array.T if across else array
    return array.reshape(array.shape[0], -1)


_NOTHING = Spread(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
_ZEROS = Spread(0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    if numerator is None or denominator is None:
        return None
    return numerator / denominator if denominator else math.nan if numerator else None


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


def _fans(event: Event, weight: Any) -> tuple[int, int]:
    shape = tuple(weight.shape)
    if len(shape) < 2 or event.name == "embedding":
        return 1, shape[-1]
    size = math.prod(shape[2:])
    one, other = shape[1] * size, shape[0] * size
    flipped = PRODUCTS.get(event.name) == "product" or event.name.startswith(
        ("conv_transpose", "transposed_convolution")
    )
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
    dealt = finite_dealt_losses(subject, deals=10, output=output)
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
        targets_even=labels is not None and 1 < kinds <= 1000 and _even(labels),
        dealt=float(np.mean(dealt)) if dealt else None,
        dealt_spread=float(np.std(dealt)) if dealt else 0.0,
        agreement=_agreement(subject, outputs[0], labels) if len(outputs) == 1 and labels is not None else None,
        uses_targets=_uses_targets(subject, outputs[0]) if labels is not None and kinds != 1 and outputs else None,
    )


def _even(labels: np.ndarray) -> bool:
    counts = np.unique(labels, return_counts=True)[1]
    expected, freedom = labels.size / len(counts), len(counts) - 1
    distance = np.sum((counts - expected) ** 2) / expected
    return bool(expected >= 10 and distance < freedom + 2 * math.sqrt(2 * freedom))


def _uses_targets(subject: Subject, output: Any) -> bool | None:
    """Whether a loss of outputs that differ changes when half of the targets are given to all examples.

    To exchange them would not do: an absolute error of outputs that are all too low is the same however they lie.
    """
    inputs, targets = parts(subject.batch)
    try:
        count = len(leaves(targets)[0])
        moved = optree.tree_map(lambda leaf: leaf[np.arange(count) // 2], targets)
        with subject.quietly():
            probe = subject.constant(_probe(output), output)
            first, other = (subject.loss(probe, (inputs, given)) for given in (targets, moved))
        return bool(np.any(statistics.as_numpy(subject.array(first)) != statistics.as_numpy(subject.array(other))))
    except Exception:  # outputs or targets of a kind of their own
        return None


def _probe(output: Any) -> np.ndarray:
    """Numbers of an output's shape that could be probabilities, as some losses ask for."""
    return np.random.default_rng(0).uniform(0.2, 0.8, tuple(output.shape))


def _agreement(subject: Subject, output: Any, labels: np.ndarray) -> float | None:
    """See `Loss`; the loss is taken of outputs that know nothing, so that no training before has a say in it."""
    if statistics.as_numpy(subject.array(output)).dtype.kind != "f":
        return None
    made = _probe(output)
    wanted = _wanted(made, labels)
    if wanted is None:
        return None
    try:
        leaf = subject.leaf(subject.constant(made, subject.array(output)))
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
    with np.errstate(invalid="ignore"):  # infinities of either sign
        return float(np.mean((rows >= 0).all(axis=1) & (np.abs(rows.sum(axis=1) - 1) < 1e-3)))


def dropout_of(module: Any) -> float:
    """The share of values that a module leaves out while the network trains; 0 of one that is not for that."""
    return float(getattr(module, "p", 0.0)) if "Dropout" in type(module).__name__ else 0.0


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
        moving = np.isfinite(std) & (std > 1e-6 * np.maximum(mean, 1e-30)) & _often_changing(values, axes)
        if moving.any():
            scales = float(std[moving].min()), float(std[moving].max())
            offset = float(np.max(mean[moving] / std[moving]))
            if len(x.shape) in (2, 3):  # rows of examples, or of their steps
                common = _common(statistics.as_numpy(values).reshape(-1, x.shape[-1])[:, moving])
    return Input(statistics.spread(x), scales, offset, integer, tuple(x.shape), common, x.shape[0] if x.shape else 0)


MANY = 256
"""So many examples tell what features have in common."""


def with_common_of_data(subject: Subject, inputs: Sequence[Input]) -> tuple[Input, ...]:
    """The inputs of the batch, with what their features have in common in more of the data."""
    if subject.data is None or not len(inputs) or inputs[0].examples >= MANY:
        return tuple(inputs)
    rows = np.random.default_rng(0).permutation(length(subject.data))[:MANY]
    more = inputs_of(subject.with_(batch=take(subject.data, rows)))
    return tuple(replace(of, common=m.common, examples=m.examples) for of, m in zip(inputs, more, strict=True))


RARELY = 0.1
"""A feature that is the same in all but so many examples, as a rare word's is, has a small variance in any unit."""


def _often_changing(values: Any, axes: tuple[int, ...]) -> np.ndarray:
    """Whether more than so many of a feature's values are not the usual one, its median.

    Each of them is in two changes from one value to the next at most: most features need no median, which is slow.
    """
    array = statistics.as_numpy(values)
    (of_features,) = set(range(array.ndim)) - set(axes)
    rows = np.moveaxis(array, of_features, -1).reshape(-1, array.shape[of_features])
    often = np.count_nonzero(rows[1:] != rows[:-1], axis=0) > 2 * RARELY * len(rows)
    rest = rows[:, ~often]
    often[~often] = np.mean(rest != np.median(rest, axis=0), axis=0) > RARELY
    return often


def _common(rows: np.ndarray) -> float:
    """Share of the largest eigenvalue of the features' correlation matrix in their sum."""
    with np.errstate(all="ignore"):
        centred = rows - rows.mean(axis=0)
        standard = centred / centred.std(axis=0)
        smaller = standard @ standard.T if len(rows) < rows.shape[1] else standard.T @ standard
    return float(np.linalg.eigvalsh(smaller)[-1] / np.trace(smaller)) if np.isfinite(smaller).all() else 0.0
