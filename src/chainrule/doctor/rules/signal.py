"""Rules about the error signal on its way down: vanishing, exploding, through layers and through time; and what makes
it so: the scale of the weights, and missing normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import linear_regression, median

from chainrule.doctor.finding import Finding, Severity
from chainrule.doctor.limits import Limits
from chainrule.doctor.measurements import Examination, Layer, ParameterState, Spread
from chainrule.doctor.rules.experience import trial_of
from chainrule.doctor.rules.training import steps_go_nowhere
from chainrule.doctor.rules.words import number


def signal_layers(exam: Examination) -> list[Layer]:
    """Layers that the error signal passed, in the order in which they computed."""
    return [layer for layer in exam.layers if layer.error_signal is not None]


def vanishing_gradient(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """The error signal at the first layer is a small part of that at the last."""
    seen = signal_layers(exam)
    if len(seen) < 2 or not seen[-1].error_signal or not math.isfinite(seen[-1].error_signal):
        return
    if any(layer.weight.zeros == 1 for layer in seen):
        return  # a layer that starts at zero on purpose lets nothing through in the first step only
    first, last = seen[0], seen[-1]
    ratio = (first.error_signal or 0.0) / seen[-1].error_signal
    limit = max(limits.vanishing, limits.fading if _fades(exam, limits) else 0.0)
    if not ratio < limit or (limits.suspecting and not ratio < limit * _in_time(seen)):
        return
    weakest = [layer for layer in seen if layer.gain is not None and layer.gain < 0.5]
    worst = min(weakest, key=lambda layer: layer.gain or 0.0, default=first)
    yield Finding(
        "vanishing-gradient",
        worst.path,
        Severity.SEVERE if ratio < limits.vanished else Severity.WARNING,
        {
            "ratio": ratio, "limit": limits.vanishing, "first": first.path, "first_signal": first.error_signal,
            "last": last.path, "last_signal": last.error_signal, **_shares(seen),
        },
        f"The error signal is {number(last.error_signal)} at {last.path} and {number(first.error_signal)} at "
        f"{first.path}: {_orders(ratio)} less. {_why(seen)}",
        tuple(dict.fromkeys([worst.path, *(layer.path for layer in weakest), first.path])),
    )  # fmt: skip


def _fades(exam: Examination, limits: Limits) -> bool:
    """Whether a signal that only gets weaker counts as vanishing, because the loss on one batch stays.

    Where there are data it does not: it is suspected then, and an experiment shows what comes of it.
    """
    return _stays(exam) and not steps_go_nowhere(exam, limits) and trial_of(exam, "data") is None


def _in_time(seen: list[Layer]) -> float:
    """The gain of the only recurrent layer, if below 1: there the signal fades in time, and `through_time` tells."""
    gains = [layer.gain for layer in seen if layer.kind == "recurrent"]
    return min(gains[0], 1.0) if len(gains) == 1 and gains[0] else 1.0


def _stays(exam: Examination) -> bool:
    """Whether over half of the loss on one batch is left after all steps that were tried with the own optimiser."""
    trial = trial_of(exam, "same")
    if trial is None or len(trial.losses) < 20:
        return False
    return min(trial.end, math.inf if trial.longer is None else trial.longer) > 0.5 * trial.level


def exploding_gradient(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """The error signal at the first layers is many times that at the last, or overflows."""
    seen = signal_layers(exam)
    if len(seen) < 2 or not seen[-1].error_signal:
        return
    sizes = [_size(_felt(layer)) for layer in seen]
    at = sizes.index(max(sizes))
    top, last = seen[at], seen[-1]
    least = min((x for x in seen[at:] if x.error_signal), key=lambda layer: _size(layer.error_signal), default=last)
    normalized = sum(layer.normalization is not None for layer in seen) > len(seen) / 2
    limit = limits.exploding_normalized if normalized else limits.exploding
    if not sizes[at] / _size(least.error_signal) > STAYING * limit:
        return  # however it is counted, and most often: the rest takes longer
    by_weights = _grows_by_its_weights(exam)
    last = least if by_weights else last
    ratio = sizes[at] / _size(last.error_signal)
    if not ratio > limit * (STAYING if by_weights and _stays(exam) else 1):
        return
    strongest = [layer for layer in seen if layer.gain is not None and layer.gain > 2]
    worst = max(strongest, key=lambda layer: _size(layer.gain), default=top)
    yield Finding(
        "exploding-gradient",
        worst.path,
        Severity.SEVERE if ratio > limits.exploded else Severity.WARNING,
        {
            "ratio": ratio, "limit": limit, "largest_at": top.path, "largest_signal": _felt(top),
            "last": last.path, "last_signal": last.error_signal, **_shares(seen),
        },
        f"The error signal is {number(last.error_signal)} at {last.path} and {number(_felt(top))} at "
        f"{top.path}: {_orders(ratio)} more. {_why(seen)}",
        tuple(dict.fromkeys([worst.path, *(layer.path for layer in strongest)])),
    )  # fmt: skip


LARGER = 1.1
"""Times He's or Xavier's weights: so large ones make signals grow from layer to layer."""

STAYING = 1 / 3
"""Share of the limit that is enough where such a network learns nothing."""


def _grows_by_its_weights(exam: Examination) -> bool:
    """Whether nothing but its weights decides how signals go through a network, and most of these are too large. What
    is lost in pooling or the last layer then does not count against what all others multiply.
    """
    bare = not exam.normalizations and all(x.kind in ("linear", "convolution") and not x.skipped for x in exam.layers)
    return bare and median(map(weight_scale, exam.layers)) > LARGER


def _felt(layer: Layer) -> float | None:
    """The error signal at a layer; behind the normalisation, where there is one, for before it, it is as large as the
    weights are small.
    """
    behind = layer.activation.error_signal if layer.normalization and layer.activation else None
    return layer.error_signal if behind is None else behind


def _size(x: float | None) -> float:
    return math.inf if x is None or math.isnan(x) else x


def _orders(ratio: float) -> str:
    if ratio == 0:
        return "infinitely"
    if not math.isfinite(ratio):
        return "beyond the range of floats"
    orders = abs(math.log10(ratio))
    return f"{orders:.0f} orders of magnitude" if orders >= 2.5 else f"{10**orders:.0f} times"


def mean_gains(seen: list[Layer]) -> tuple[float, float]:
    """Geometric means, over layers, of the weights' share and of the activations' share of the gain."""
    weights = [layer.weight_gain for layer in seen if layer.weight_gain]
    activations = [layer.activation.gain for layer in seen if layer.activation and layer.activation.gain]
    return _geometric(weights), _geometric(activations)


def _geometric(values: list[float]) -> float:
    finite = [value for value in values if 0 < value < math.inf]
    return math.exp(sum(map(math.log, finite)) / len(finite)) if finite else math.nan


def _shares(seen: list[Layer]) -> dict[str, float]:
    weights, activations = mean_gains(seen)
    return {"weights_share": weights, "activations_share": activations}


def _why(seen: list[Layer]) -> str:
    weights, activations = mean_gains(seen)
    names = {layer.activation.name for layer in seen if layer.activation}
    said = []
    if not math.isnan(activations):
        bound = "; a sigmoid's derivative is 0.25 at most" if names == {"sigmoid"} else ""
        said.append(f"{activations:.2g} by the activation ({', '.join(sorted(names))}{bound})")
    if not math.isnan(weights):
        said.append(f"{weights:.2g} by the weights")
    return f"On its way down each layer multiplies it, on average, {' and '.join(said)}." if said else ""


# The scale of the weights -------------------------------------------------------------------------------------------

GAINS = {"relu": math.sqrt(2), "leaky_relu": math.sqrt(2), "gelu": math.sqrt(2), "silu": math.sqrt(2), "elu": 1.3,
         "relu6": math.sqrt(2), "selu": 1.0, "tanh": 1.0, "sigmoid": 1.0}  # fmt: skip


VECTORS = 3.0
"""Standard deviation of vectors that are looked up, up to which they may well come from training."""


def weight_scale(layer: Layer) -> float:
    """std(weight)·√fan_in over the gain its activation asks for: 1 for He's and Xavier's initialisation.

    Initialisations that go by the mean of both fans, or, orthogonal ones, by the larger, are below 1 where the fan-out
    is larger; there they are right if they are right by that.
    """
    gain = GAINS.get(layer.activation.name, 1.0) if layer.activation else 1.0
    by_input, by_output = (layer.weight.std * math.sqrt(max(fan, 1)) / gain for fan in (layer.fan_in, layer.fan_out))
    return max(by_input, min(by_output, 1.0), _one_sided_scale(layer) / gain)


def _one_sided_scale(layer: Layer) -> float:
    """What weights of one sign add up to, as std·√fan_in of weights of both signs that do as much; 0 for these.

    The mean m of a matrix has the singular value |m|·√(fan_in·units), random weights have std·(√fan_in + √units)
    (Marchenko and Pastur 1967).
    """
    mean = abs(layer.weight.mean)
    if mean <= layer.weight.std:
        return 0.0
    return mean * layer.fan_in * math.sqrt(layer.units) / (math.sqrt(layer.fan_in) + math.sqrt(layer.units))


def wrong_initialization(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """The weights of some layers are too large or too small for their fan-in and activation."""
    wrong: list[tuple[float, Layer, float]] = []
    states = {parameter.path: parameter for parameter in exam.parameters}
    scales = [_scale(exam, layer) for layer in exam.layers]
    everywhere = _all_far_too_small(exam, scales, limits)
    told = {finding.layer for finding in through_time(exam, limits) if finding.code == "bptt-exploding"}
    for layer, after, scale in zip(exam.layers, (*exam.layers[1:], None), scales, strict=False):
        if layer.path in told and not _input_weights_too_large(exam, layer, limits):
            continue  # it is the recurrence alone: that says more, for it says what it does
        if layer.weight.count < 16 or _is_trained(states, layer, limits):
            continue
        embedding = layer.kind == "embedding"
        if embedding:  # vectors that are looked up are not summed; usually they start from 1
            scale = layer.weight.std / (1 if limits.suspecting else VECTORS)
        if scale < limits.weight_scale_low and after is not None and layer.kind in _SUMMING:
            if limits.suspecting or everywhere or not _is_made_up_for(exam, layer, after):
                wrong.append((limits.weight_scale_low / max(scale, 1e-12), layer, scale))
        elif scale > limits.weight_scale_high:
            normalized = layer.normalization is not None and not embedding
            if limits.suspecting or not (normalized or _is_tamed(exam, layer, after, scale, limits)):
                wrong.append((scale / limits.weight_scale_high, layer, scale))
    if not wrong:
        return
    far, layer, scale = max(wrong, key=lambda entry: entry[0])
    gain = GAINS.get(layer.activation.name, 1.0) if layer.activation else 1.0
    ideal = gain / math.sqrt(layer.fan_in)
    others = "" if len(wrong) == 1 else f" {len(wrong)} layers of {len(exam.layers)} are like it."
    yield Finding(
        "wrong-initialization",
        layer.path,
        Severity.SEVERE if far > 3 else Severity.WARNING,
        {
            "std": layer.weight.std, "ideal_std": ideal, "scale": scale,
            "limits": (limits.weight_scale_low, limits.weight_scale_high),
        },
        f"The weights of {layer.path} have standard deviation {number(layer.weight.std)}; for fan-in {layer.fan_in}"
        f"{' and ' + layer.activation.name if layer.activation else ''} it should be near {number(ideal)} "
        f"({scale:.2g} times that). Signals {'grow' if scale > 1 else 'shrink'} by about that factor in each such "
        f"layer, forward and backward.{others}",
        tuple(entry[1].path for entry in sorted(wrong, key=lambda entry: -entry[0])),
    )  # fmt: skip


_SUMMING = ("linear", "convolution", "product", "attention")
"""Kinds of layers that make small numbers if their weights are small."""


def _all_far_too_small(exam: Examination, scales: Sequence[float], limits: Limits) -> bool:
    """Whether most layers are under a tenth of the limit. A branch that starts small leaves what is beside it as it is,
    and a normalisation makes up for the layer before; where all are small, there is nothing beside and before them.
    """
    summing = [scale for layer, scale in zip(exam.layers, scales, strict=True) if layer.kind != "embedding"]
    return bool(summing) and median(summing) < 0.1 * limits.weight_scale_low


def _brought_back(exam: Examination, layer: Layer) -> bool:
    """Whether the normalisation after a layer makes up for small weights: not where what it is given has a variance of
    a hundredth of the ε it adds, for then it makes a tenth of what it should.
    """
    norm = next((norm for norm in exam.normalizations if norm.path == layer.normalization), None)
    return norm is not None and 100 * norm.variance > norm.epsilon


def _is_made_up_for(exam: Examination, layer: Layer, after: Layer) -> bool:
    """Whether small weights do no harm: a path leads around them, or something between the layer and the next makes up
    for them, such as a normalisation or the factor before the sines of Sitzmann et al. 2020.
    """
    return layer.skipped or _brought_back(exam, layer) or _size_of(after.input) > 3 * _size_of(layer.output)


def _is_tamed(exam: Examination, layer: Layer, after: Layer | None, scale: float, limits: Limits) -> bool:
    """Whether large weights are divided by as much before the next layer, as in the parametrisation of Jacot et al.
    2018 or Yang et al. 2022; or, in a first layer, make no large numbers: its inputs are small, or zero but for a few.
    No error signal is multiplied by the weights of a first layer.
    """
    if layer.kind in ("recurrent", "embedding"):
        return False
    made, goes_on = _size_of(layer.output), _size_of(_what_comes_of(exam, layer, after))
    divided = layer.activation is None and goes_on < made / 3
    if divided and scale * goes_on < limits.weight_scale_high * made:
        return True
    return layer.gain is None and min(made, goes_on if divided else made) < limits.weight_scale_high


def _what_comes_of(exam: Examination, layer: Layer, after: Layer | None) -> Spread:
    """What the next layer is given, or the loss."""
    given = after.input if after else exam.loss.output if exam.loss is not None else layer.output
    return given if given.count else layer.output


def _size_of(spread: Spread) -> float:
    return math.hypot(spread.mean, spread.std)


def _scale(exam: Examination, layer: Layer) -> float:
    """`weight_scale`; of a layer of several matrices, such as a recurrent one, that of the largest."""
    scales = _matrix_scales(exam, layer)
    return max(scales.values()) if scales else weight_scale(layer)


def _matrix_scales(exam: Examination, layer: Layer) -> dict[str, float]:
    if layer.kind not in ("recurrent", "attention"):
        return {}
    return {
        state.path: state.norm / math.sqrt(max(state.shape[0], 1))
        for state in exam.parameters
        if state.path in layer.parameters and len(state.shape) == 2
    }


def _input_weights_too_large(exam: Examination, layer: Layer, limits: Limits) -> bool:
    """Whether the matrices of a recurrent layer that take its input are too large as well as the recurrent ones."""
    scales = _matrix_scales(exam, layer)
    return any(scale > limits.weight_scale_high for path, scale in scales.items() if "weight_ih" in path)


def _is_trained(states: Mapping[str, ParameterState], layer: Layer, limits: Limits) -> bool:
    """Whether a bias of a layer is far larger than any initialisation makes it: the weights then come from training."""
    return any(
        len(parameter.shape) == 1
        and layer.kind != "recurrent"
        and parameter.norm * math.sqrt(layer.fan_in / parameter.shape[0]) > limits.trained_bias
        for parameter in (states[path] for path in layer.parameters if path in states)
    )


def missing_normalization(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """Activations of a deep network without normalisation drift apart."""
    ends = _drift(exam, limits)
    if ends is None:
        return
    plain = _plain(exam)
    lowest, highest = ends
    yield Finding(
        "missing-normalization",
        highest.path if plain.index(highest) > plain.index(lowest) else lowest.path,
        Severity.WARNING,
        {
            "smallest_std": lowest.output.std,
            "at": lowest.path,
            "largest_std": highest.output.std,
            "largest_at": highest.path,
            "limit": limits.drift,
        },
        f"There is no normalisation in {len(plain)} layers, and the spread of their outputs runs from "
        f"{number(lowest.output.std)} at {lowest.path} to {number(highest.output.std)} at {highest.path}.",
        tuple(layer.path for layer in plain[:-1]),
    )


def _plain(exam: Examination) -> list[Layer]:
    """Layers whose outputs are as large as their weights and inputs make them."""
    return [layer for layer in exam.layers if layer.kind in ("linear", "convolution", "product")]


def _drift(exam: Examination, limits: Limits) -> tuple[Layer, Layer] | None:
    """The layers with the smallest and the largest outputs, where without normalisation these grow or fade too far."""
    plain = _plain(exam)
    made = [layer for layer in plain[:-1] if layer.output.std > 0]
    if len(plain) < 5 or exam.normalizations or len(made) < 4:
        return None
    lowest, highest = (end(made, key=lambda layer: layer.output.std) for end in (min, max))
    drift = min(_trend([layer.output.std for layer in made]), highest.output.std / lowest.output.std)
    return (lowest, highest) if drift > limits.drift else None


def _trend(sizes: list[float]) -> float:
    """By how many times sizes grow or fade from the first to the last, along the line through their logarithms."""
    logarithms, places = [math.log(size) for size in sizes], range(len(sizes))
    return math.exp(abs(linear_regression(places, logarithms).slope) * (len(sizes) - 1))


# Through time -------------------------------------------------------------------------------------------------------


TIME_GROWTH = 3.0
"""So much growth from the last time step to the first is enough where the recurrent weights are far too large."""


def through_time(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """The error signal of the last time step, at the first one."""
    for layer in exam.time:
        if len(layer.norms) < 3 or not layer.norms[-1]:
            continue
        ratio = layer.norms[0] / layer.norms[-1]
        radius = layer.spectral_radius
        vanishes = ratio < limits.time_vanishing and layer.gain < limits.time_gain_low
        explodes = ratio > limits.time_exploding and layer.gain > limits.time_gain_high
        explodes |= radius > limits.weight_scale_high and ratio > TIME_GROWTH
        if not vanishes and not explodes:
            continue
        yield Finding(
            "bptt-vanishing" if vanishes else "bptt-exploding",
            layer.path,
            Severity.WARNING if vanishes and ratio > 1e-12 else Severity.SEVERE,
            {"ratio": ratio, "gain": layer.gain, "steps": len(layer.norms), "spectral_radius": radius,
             "limits": (limits.time_vanishing, limits.time_gain_low) if vanishes
             else (limits.time_exploding, limits.time_gain_high)},
            f"Of the error signal of the last of {len(layer.norms)} time steps, {number(ratio)} reaches the first: "
            f"each step back multiplies it by {layer.gain:.3g} on average."
            + (f" The recurrent matrix has spectral radius {radius:.3g}." if math.isfinite(radius) else ""),
            (layer.path,),
        )  # fmt: skip
