"""`examine`: one forward and backward pass on a batch, watched, and everything that can be measured of it.

Nothing is changed: random generators, buffers and `.grad` are as before, and no hook stays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from chainrule.core.anomaly import all_finite
from chainrule.doctor import statistics
from chainrule.doctor.anatomy import Anatomy, dropout_of, inputs_of, loss_of
from chainrule.doctor.measurements import Cut, Examination, ParameterState
from chainrule.doctor.observation import Observer
from chainrule.doctor.origin import find_gaps, find_origin
from chainrule.doctor.subjects import DoctorError, Subject, leaves
from chainrule.doctor.training import loss_of as loss_value
from chainrule.doctor.training import rehearsal


def examine(subject: Subject) -> Examination:
    """Measurements of a network on its batch.

    Raises:
        DoctorError: it has no parameters, or its forward pass or its loss fails.
    """
    parameters = subject.parameters()
    if not parameters:
        raise DoctorError(f"{type(subject.model).__name__} has no parameters: there is nothing to train")
    observer = Observer({subject.key(parameter): path for path, parameter in parameters})
    with subject.undisturbed(), np.errstate(all="ignore"):
        with subject.observing(observer):
            output = _attempt(subject, "forward pass", subject.output)
            first = len(observer.events)
            loss = _attempt(subject, "loss", lambda: subject.loss(output))
            _check_scalar(loss)
            found = subject.gradients(loss, [p for _, p in parameters]) if subject.is_recorded(loss) else []
        values = {path: subject.array(parameter) for path, parameter in parameters}
        gradients = dict(zip(values, found, strict=False))
        norms = {path: statistics.norm(gradient) for path, gradient in gradients.items() if gradient is not None}
        suspect = _is_suspect(subject, observer, loss, norms.values())
        origin = find_origin(subject) if suspect else find_gaps(subject)
    anatomy = Anatomy(observer, values, gradients, {}, gradient_norms=norms, of_network=first)
    states = anatomy.parameters(subject)
    if origin is None and subject.is_recorded(loss):
        blocked = any(activation.saturated > ALL_FLAT for activation in anatomy.activations())
        states = _looked_at_again(subject, states, blocked)
    cuts = [] if origin is not None or not subject.is_recorded(loss) else _cuts(subject, observer, states)
    return Examination(
        framework=subject.framework,
        model=type(subject.model).__name__,
        training=bool(getattr(subject.model, "training", True)),
        examples=_length(subject),
        layers=tuple(anatomy.layers()),
        activations=tuple(anatomy.activations()),
        normalizations=tuple(anatomy.normalizations(subject)),
        parameters=tuple(states),
        loss=loss_of(subject, observer, output, loss, first),
        inputs=tuple(inputs_of(subject)),
        cuts=tuple(cuts),
        time=tuple(anatomy.loops()) if found else (),
        dropout=_dropout(subject),
        origin=origin,
        optimizer=subject.optimizer_options,
    )


def _dropout(subject: Subject) -> dict[str, float]:
    return {path: share for path, m in subject.modules() if getattr(m, "training", True) and (share := dropout_of(m))}


def _is_suspect(subject: Subject, observer: Observer, loss: Any, norms: Iterable[float]) -> bool:
    """Whether any number that was looked at is not finite; a gradient's norm is if all its elements are."""
    seen = [spread for event in observer.events for spread in (event.given, event.made) if spread is not None]
    cotangents = [event.cotangent for event in observer.events if event.cotangent is not None]
    return (
        any(spread.not_finite for spread in seen)
        or not all(map(math.isfinite, cotangents))
        or not all(map(math.isfinite, norms))
        or not all_finite(subject.array(loss))
    )


def _attempt(subject: Subject, what: str, run: Any) -> Any:
    try:
        return run()
    except Exception as error:
        raise DoctorError(
            f"the {what} of {type(subject.model).__name__} fails on this batch: {type(error).__name__}: "
            f"{_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return said[0] if said else type(error).__name__


def _check_scalar(loss: Any) -> None:
    if not hasattr(loss, "shape"):
        raise DoctorError(f"the loss must be a tensor with one number, got {type(loss).__name__}")
    if tuple(loss.shape) not in ((), (1,)):
        raise DoctorError(f"the loss must be one number, got shape {tuple(loss.shape)}; take its mean")


def with_updates(exam: Examination, updates: Mapping[str, float]) -> Examination:
    """The same, with how far one step of the optimiser moves each parameter and the weights of each layer."""
    matrices = {state.path for state in exam.parameters if len(state.shape) >= 2}
    states = [replace(state, update_ratio=updates.get(state.path)) for state in exam.parameters]
    layers = [
        replace(
            layer,
            update_ratio=max(
                (updates[p] for p in matrices.intersection(layer.parameters) or layer.parameters if p in updates),
                default=None,
            ),
        )
        for layer in exam.layers
    ]
    return replace(exam, layers=tuple(layers), parameters=tuple(states))


# Gradients that do not come ------------------------------------------------------------------------------------------

LOOKS = 6
"""How many further passes a parameter must have no gradient in before it is said that none reaches it."""

FADED = 1e-12
"""Share of the largest gradient: where some are smaller, others that are zero may be so by rounding alone."""

LARGE_INPUTS = 30.0
"""Inputs of a larger root mean square saturate whatever is drawn."""

ALL_FLAT = 0.99
"""Behind an activation that is flat on so many of its elements, gradients are zero for that reason."""


def _looked_at_again(subject: Subject, states: list[ParameterState], blocked: bool) -> list[ParameterState]:
    """The same, with `reached` as it is whatever the values of the parameters and the random numbers are.

    A block that is left out by chance in one pass is there in another one. A gradient that is zero throughout, element
    for element, may be so because of a value: behind a last layer of zeros, before units that are all off. One that is
    zero with values of any kind never comes; unless an activation, blocked, lets nothing through whatever comes.
    """
    silent = [s for s in states if s.trainable and not (s.reached and (blocked or s.gradient_norm))]
    loud = [state.gradient_norm for state in states if state.gradient_norm]
    if not silent or not loud or min(loud) < FADED * max(loud) or _largest_input(subject) > LARGE_INPUTS:
        return states
    wanted = {state.path for state in silent}
    try:
        with rehearsal(subject, 0) as copy:
            for look in range(LOOKS):
                wanted -= _answering(copy, wanted, np.random.default_rng(look))
                if not wanted:
                    break
    except Exception:  # it cannot be copied, or run twice: what was seen first is all there is
        return states
    known = {state.path for state in silent}
    return [replace(s, reached=s.path not in wanted) if s.path in known else s for s in states]


def _answering(copy: Subject, paths: set[str], generator: np.random.Generator) -> set[str]:
    """Those parameters that get a gradient other than zero, with all parameters drawn anew."""
    parameters = copy.parameters()
    for _, parameter in parameters:
        values = copy.array(parameter)
        parameter.data = copy.constant(_drawn(statistics.as_numpy(values), generator), values)
    wanted = [(path, parameter) for path, parameter in parameters if path in paths]
    with np.errstate(all="ignore"):
        gradients = copy.gradients(copy.run()[1], [parameter for _, parameter in wanted])
    found = zip(wanted, gradients, strict=True)
    return {path for (path, _), gradient in found if gradient is not None and statistics.norm(gradient)}


def _drawn(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Numbers of either sign, so small that sums over a layer's inputs are about as large as these."""
    fan_in = max(values[0].size, 1) if values.ndim > 1 else 4
    return generator.standard_normal(values.shape) / math.sqrt(fan_in)


def _largest_input(subject: Subject) -> float:
    return max((math.hypot(x.spread.mean, x.spread.std) for x in inputs_of(subject) if not x.integer), default=0.0)


def _length(subject: Subject) -> int:
    arrays = leaves(subject.batch)
    return int(arrays[0].shape[0]) if arrays and len(arrays[0].shape) else 1


def _cuts(subject: Subject, observer: Observer, states: list[ParameterState]) -> list[Cut]:
    """Places where the gradient's path ends, with the layers of trainable parameters that matter and got no gradient.

    Whether one matters is tried out: it is changed in a copy. Where the loss changes too, the path of its gradient is
    cut; where it does not, nobody reads what is made with it, and nothing is cut.
    """
    unreached = [state.path for state in states if state.trainable and not state.reached]
    layers = tuple(dict.fromkeys(path.rpartition(".")[0] for path in _that_matter(subject, unreached)))
    if not layers:
        return []
    return [replace(cut, layers=layers) for cut in observer.cuts] or [Cut("", "", layers)]


def _that_matter(subject: Subject, paths: Sequence[str]) -> list[str]:
    """Those parameters on which the loss depends, whether or not a gradient comes back."""
    if not paths:
        return []
    found = []
    try:
        with rehearsal(subject, 0) as copy:
            parameters = dict(copy.parameters())
            generator = np.random.default_rng(0)
            usual = _repeated_loss(copy)
            for path in paths:
                parameter = parameters[path]
                kept = copy.array(parameter)
                values = statistics.as_numpy(kept)
                noise = (1 + np.abs(values)) * generator.standard_normal(values.shape)
                parameter.data = copy.constant(values + noise, kept)
                found += [path] if _repeated_loss(copy) != usual else []
                parameter.data = kept
    except Exception:  # it cannot be copied, or run twice: nothing is claimed
        return []
    return found


def _repeated_loss(copy: Subject) -> float:
    """The loss on the batch with the same random numbers each time."""
    copy.seed(0)
    return loss_value(copy)
