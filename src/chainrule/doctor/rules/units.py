"""Rules about units: rectified ones that are off, saturated ones, and copies of each other."""

from __future__ import annotations

import math
from collections.abc import Iterator

from chainrule.doctor.finding import Finding, Severity
from chainrule.doctor.limits import Limits
from chainrule.doctor.measurements import Activation, Examination
from chainrule.doctor.rules.words import number, percent
from chainrule.doctor.vocabulary import BOUNDED, RECTIFIERS


def _fed_by(exam: Examination, activation: Activation) -> str:
    """The layer whose output an activation takes, in this or another one of its runs; its own path where none does."""
    alike = [x for x in exam.layers if x.activation and (x.activation.path, x.activation.name) == _place(activation)]
    one = alike if len({layer.activation for layer in alike}) == 1 else []
    fed = [layer for layer in exam.layers if layer.activation == activation] or one
    return fed[0].path if fed else activation.path


def _place(activation: Activation) -> tuple[str, str]:
    return activation.path, activation.name


def dying_relu(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """Over half of a layer's rectified units are zero on the whole batch."""
    dead = [
        activation
        for activation in exam.activations
        if activation.name in RECTIFIERS and activation.zero_units > limits.zero_units and exam.examples >= 8
    ]
    if not dead:
        return
    skipped = {layer.activation for layer in exam.layers if layer.skipped}
    severe = [a for a in dead if a.zero_units > limits.dead_units and a not in skipped]
    if _fades_besides(exam, severe, limits):
        severe = []
    worst = severe[0] if severe else max(dead, key=lambda activation: activation.zero_units)  # what follows gets zeros
    paths = [_fed_by(exam, activation) for activation in dead]
    normalization = next((layer.normalization for layer in exam.layers if layer.activation == worst), None)
    first = normalization or _fed_by(exam, worst)  # which takes away whatever shift comes before its own
    yield Finding(
        "dying-relu",
        first,
        Severity.SEVERE if severe else Severity.NOTE,
        {"zero_units": worst.zero_units, "limit": limits.dead_units, "mean": worst.output.mean},
        f"{percent(worst.zero_units)} of the units after {first} are zero for all {exam.examples} examples: their "
        "derivative is 0, so they get no gradient and cannot come back. Their inputs are negative throughout: the bias "
        "or the weights pushed them there, often by too long a step.",
        tuple(dict.fromkeys([first, *paths, *(activation.path for activation in dead)])),
    )


def _fades_besides(exam: Examination, dead: list[Activation], limits: Limits) -> bool:
    """Whether the error signal vanishes in the other layers alone. Where it does, hardly anything of the inputs is left
    deep down, biases decide which units are on, and in narrow layers chance alone turns most of them off.
    """
    if any(activation.zero_units == 1 for activation in dead) or any(layer.skipped for layer in exam.layers):
        return False
    gains = [layer.gain for layer in exam.layers if layer.gain and layer.activation not in dead]
    return math.prod(gains) < limits.vanishing


def saturated_activation(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """Over half of the elements of a bounded activation sit where its derivative is almost zero."""
    yield from _stuck_gates(exam, limits)
    inner = {layer.activation for layer in exam.layers[:-1] if layer.activation} | _not_last(exam)
    stuck = [
        activation
        for activation in exam.activations
        if activation.name in BOUNDED - RECTIFIERS and activation in inner and activation.saturated > limits.saturated
    ]
    if not stuck:
        return
    worst = max(stuck, key=lambda activation: activation.saturated)
    first = _fed_by(exam, worst)
    layer = next((layer for layer in exam.layers if layer.path == first), None)
    sizes = f" Its inputs have standard deviation {number(layer.output.std)}." if layer is not None else ""
    yield Finding(
        "saturated-activation",
        first,
        Severity.SEVERE if worst.saturated > 0.8 else Severity.WARNING,
        {"saturated": worst.saturated, "limit": limits.saturated, "slope": worst.slope},
        f"{percent(worst.saturated)} of the {worst.name} values after {first} are so far out that the derivative is "
        f"under a twentieth of its largest value.{sizes} Hardly any gradient gets through.",
        tuple(dict.fromkeys([first, *(_fed_by(exam, a) for a in stuck), *(a.path for a in stuck)])),
    )


def _stuck_gates(exam: Examination, limits: Limits) -> Iterator[Finding]:
    for layer in exam.time:
        limit_of = {name: limits.saturated if "gate" in name else limits.saturated_state for name in layer.stuck}
        name = max(layer.stuck, key=lambda name: layer.stuck[name] / limit_of[name], default="")
        share = layer.stuck.get(name, 0.0)
        if not name or share <= limit_of[name]:
            continue
        how = "held at 1" if name == "update gate" else "shut" if name.endswith("gate") else "at an end of its tanh"
        yield Finding(
            "saturated-activation",
            layer.path,
            Severity.SEVERE if share > 0.8 else Severity.WARNING,
            {"saturated": share, "limit": limit_of[name], "gate": name},
            f"In {percent(share)} of the elements of {layer.path} the {name} is {how}, where its derivative is under a "
            "twentieth of its largest value: nothing passes, and hardly any gradient gets there to change that.",
            (layer.path,),
        )
        return


def _not_last(exam: Examination) -> set[Activation]:
    return set(exam.activations[:-1])


def symmetric_initialization(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """Units of a hidden layer have equal weights and equal gradients."""
    alike = [
        layer
        for layer in exam.layers[:-1]
        if layer.units > 1 and layer.twins > limits.twins and layer.gradient_norm is not None
    ]
    if not alike:
        return
    layer = max(alike, key=lambda layer: layer.twins)
    yield Finding(
        "symmetric-initialization",
        layer.path,
        Severity.SEVERE,
        {"twins": layer.twins, "limit": limits.twins, "units": layer.units, "weight_std": layer.weight.std},
        f"{percent(layer.twins)} of the {layer.units} units of {layer.path} have the same weights as another one, and "
        "the same gradients: they compute the same thing and will do so for ever, however wide the layer is.",
        tuple(layer.path for layer in alike),
    )
