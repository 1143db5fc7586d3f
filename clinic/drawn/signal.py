"""Faults of what goes through a network: it fades or grows, is dead, saturated, drawn wrongly or all alike."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from clinic import networks
from clinic.case import Patient
from clinic.drawn import healthy
from clinic.drawn.change import Change, only
from clinic.drawn.healthy import MODULES, Plan
from clinic.drawn.lot import between, happens, one_of, whole
from clinic.faults import networks as broken
from clinic.faults import weights
from clinic.faults.weights import Adjust
from clinic.setting import trained

#: In a deep plain stack with default values the signal fades because nothing brings it back and because they have a
#: sixth of the variance that ReLU asks for: all three names say what is there.
FADING = ("vanishing-gradient", "wrong-initialization", "missing-normalization")
#: Weights of a deep plain stack that are drawn too large or too small are why its gradient grows or fades.
DRAWN = ("wrong-initialization",)
#: What drifts forward grows backward as well: the same chain of Jacobians, named from its other end.
GROWTH = ("exploding-gradient",)


def after(plan: Plan, *changes: Adjust) -> Adjust:
    """First values of the healthy network, and then some of them changed."""
    return weights.both(plan.adjust, *changes)


def paths(layers: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """All of them, one after the other."""
    return tuple(path for layer in layers for path in layer)


def _is_table_mlp(plan: Plan) -> bool:
    return plan.is_plain_mlp and not plan.characters


def _deep(plan: Plan, rng: np.random.Generator, depth: int, activation: str, gain: float | None = None) -> Any:
    """A deep MLP of its width, written in one of two ways."""
    width = min(plan.widths[0], 64)
    if gain is None and plan.style == "stack":
        return partial(healthy.stack, widths=(width,) * depth, activation=MODULES[activation])
    return partial(broken.deep_mlp, depth=depth, width=width, activation=activation, gain=gain)


# Depth --------------------------------------------------------------------------------------------------------------


def vanishing_gradient(plan: Plan, rng: np.random.Generator) -> Change:
    """Many sigmoids, tanh with small weights, or ReLUs with default values, one layer after the other."""
    if plan.architecture == "cnn":
        only(plan.style == "convolutions" and plan.data == "digits")
        network = partial(broken.deep_cnn, depth=whole(rng, 6, 12), activation="Sigmoid")
        return Change(plan, "conv-sigmoid", {"network": network, "adjust": after(plan)})
    only(_is_table_mlp(plan))
    kind = one_of(rng, "sigmoid", "tanh", "relu")
    if kind == "sigmoid":
        network = _deep(plan, rng, whole(rng, 8, 30), "sigmoid")
        return Change(plan, "sigmoid", {"network": network, "adjust": healthy.framework_values})
    if kind == "tanh":
        network = _deep(plan, rng, whole(rng, 10, 25), "tanh", between(rng, 0.3, 0.6))
        return Change(plan, "tanh", {"network": network, "adjust": healthy.framework_values}, accepted=DRAWN)
    network = _deep(plan, rng, whole(rng, 12, 30), one_of(rng, "relu", "leaky_relu", "gelu"))
    return Change(plan, "default-init", {"network": network, "adjust": healthy.framework_values}, accepted=FADING[1:])


def exploding_gradient(plan: Plan, rng: np.random.Generator) -> Change:
    """Many layers whose weights are too large, or residual sums that grow."""
    gain, depth = between(rng, 1.8, 4), whole(rng, 8, 25)
    only(depth * math.log(gain / math.sqrt(2)) > math.log(300))  # else it hardly grows
    if plan.architecture == "cnn":
        only(plan.style == "convolutions" and plan.data == "digits")
        network = partial(broken.deep_cnn, depth=min(depth, 12), gain=gain)
        return Change(plan, "conv-gain", {"network": network, "adjust": healthy.framework_values}, accepted=DRAWN)
    if plan.style == "residual":
        # Blocks that start as they should and still grow want a normalisation: the missing one is the cause.
        network = partial(networks.plain_residual, depth=whole(rng, 20, 40), width=min(plan.options["width"], 40))
        return Change(plan, "residual-sum", {"network": network}, accepted=("missing-normalization",))
    only(_is_table_mlp(plan))
    network = _deep(plan, rng, depth, one_of(rng, "relu", "leaky_relu"), gain)
    return Change(plan, "gain", {"network": network, "adjust": healthy.framework_values}, accepted=DRAWN)


def missing_normalization(plan: Plan, rng: np.random.Generator) -> Change:
    """The healthy network is as deep and has its normalisations."""
    if plan.architecture == "cnn":
        only(plan.norms and plan.data == "digits" and plan.activation != "tanh")
        whole_plan = healthy.convolutional(rng, plan.data, (whole(rng, 6, 10),) * whole(rng, 10, 14), norm=True)
        plan = _as_trained(whole_plan, plan)
        return Change(plan, "conv-stack", {"network": plan.network(norm=False)}, accepted=FADING[:2])
    if plan.style == "residual":
        only(plan.options.get("norm", True) and "scale" not in plan.options)
        plan = replace(plan, options={**plan.options, "depth": whole(rng, 16, 28), "near_identity": False})
        network = partial(networks.plain_residual, depth=plan.options["depth"], width=plan.options["width"])
        return Change(plan, "residual-blocks", {"network": network}, accepted=GROWTH)
    only(plan.style == "stack" and plan.options["norm"])
    widths = (plan.widths[0],) * whole(rng, 10, 24)
    data = (plan.data, plan.problem, plan.task)
    plan = _as_trained(healthy.stacked(rng, data, widths, plan.activation, plan.options["norm"]), plan)
    return Change(plan, "deep-stack", {"network": plan.network(norm=None)}, accepted=FADING[:2])


def _as_trained(plan: Plan, like: Plan) -> Plan:
    """The plan, trained as the other one."""
    names = ("optimizer", "lr", "settings", "batch_size", "steps", "clip", "schedule")
    return replace(plan, **{name: getattr(like, name) for name in names})


# Units --------------------------------------------------------------------------------------------------------------


def silent(patient: Patient) -> bool:
    """Whether the network gives the same for whatever it sees, and that is a number."""
    with patient.framework.no_grad():
        output = patient.framework.numpy(patient.model(patient.batch[0]))
    return bool(np.isfinite(output).all() and output.std(0).max() <= 1e-4 * (1 + np.abs(output).max()))


def dying_relu(plan: Plan, rng: np.random.Generator) -> Change:
    """Biases or weights far below zero, or a few steps at a rate far too high before it is seen."""
    only(plan.activation == "relu" and plan.hidden and plan.style in ("stack", "perceptron", "convolutions"))
    only(not plan.norms and not plan.options.get("norm"))
    kind = one_of(rng, "bias", "bias", "weights", "spike")
    if kind == "spike":
        factor = between(rng, 60, 300)
        history = trained(whole(rng, 4, 10), lr=plan.lr * factor)
        return Change(plan, "after-spike", {"history": history}, evident=silent)
    if kind == "weights":
        # Pixels are never negative, so weights that all are leave nothing of them; they are also drawn wrongly.
        only(plan.data == "digits" and plan.problem.__name__ != "standard_digits")
        adjust = weights.normal(between(rng, 0.02, 0.1), plan.hidden[0][0], mean=-between(rng, 0.1, 0.4))
        return Change(plan, "negative-weights", {"adjust": after(plan, adjust)}, plan.hidden[0], DRAWN)
    layers = plan.hidden if happens(rng, 0.3) else (one_of(rng, *plan.hidden),)
    adjust = weights.bias(-between(rng, 2, 30), *(layer[0] for layer in layers))
    return Change(plan, "bias", {"adjust": after(plan, adjust)}, paths(layers))


def saturated_activation(plan: Plan, rng: np.random.Generator) -> Change:
    """Weights or biases that drive a tanh, a sigmoid or a gate to its ends."""
    if plan.style == "recurrent":
        return _saturated_recurrence(plan, rng)
    only(plan.activation in ("tanh", "sigmoid") and plan.hidden and not plan.norms and not plan.options.get("norm"))
    layer = one_of(rng, *plan.hidden)
    if happens(rng, 0.5):
        # Weights too large for the activation are the saturation's cause, and drawn wrongly in so many words.
        adjust = weights.scaled({layer[0]: between(rng, 20, 200)})
        return Change(plan, "weights", {"adjust": after(plan, adjust)}, layer, DRAWN)
    adjust = weights.bias(one_of(rng, -1, 1) * between(rng, 5, 30), layer[0])
    return Change(plan, "bias", {"adjust": after(plan, adjust)}, layer)


def _saturated_recurrence(plan: Plan, rng: np.random.Generator) -> Change:
    only(plan.options["layers"] == 1 and "bidirectional" not in plan.options)
    kind = plan.options["kind"]
    if kind == "RNN":
        if happens(rng, 0.5):
            adjust = weights.scaled({"rnn": between(rng, 20, 200)})
            return Change(plan, "weights", {"adjust": after(plan, adjust)}, ("rnn",), DRAWN)
        adjust = weights.bias(one_of(rng, -1, 1) * between(rng, 3, 15), "rnn")
        return Change(plan, "bias", {"adjust": after(plan, adjust)}, ("rnn",))
    # An LSTM's output gate that is shut, or a GRU's state that is never renewed.
    gate, sign = (3, -1) if kind == "LSTM" else (1, 1)
    adjust = weights.gate_bias(gate, sign * between(rng, 6, 20))
    return Change(plan, "gate", {"adjust": after(plan, adjust)}, ("rnn",))


# First values -------------------------------------------------------------------------------------------------------


def wrong_initialization(plan: Plan, rng: np.random.Generator) -> Change:
    """Weights far too small or far too large: all of them, a layer, or the last one."""
    kind = one_of(rng, "small", "large", "layer", "output")
    # Weights too large for tanh or sigmoid saturate it, and in a deep stack those too small are the vanishing itself.
    too_large = ("saturated-activation",) if plan.activation in ("tanh", "sigmoid") else ()
    if kind == "output":
        adjust = weights.scaled({plan.out: between(rng, 50, 500)})
        return Change(plan, "large-output", {"adjust": after(plan, adjust)}, (plan.out,))
    if kind == "layer":
        only(plan.hidden)
        layer = one_of(rng, *plan.hidden)
        large = happens(rng, 0.7)
        factor = between(rng, 30, 300) if large else between(rng, 1e-4, 1e-3)
        variant = "large-layer" if large else "small-layer"
        adjust = after(plan, weights.scaled({layer[0]: factor}))
        return Change(plan, variant, {"adjust": adjust}, layer, too_large if large else ())
    if kind == "large":
        return Change(plan, "large", {"adjust": weights.normal(between(rng, 1, 5))}, accepted=too_large)
    deep = ("vanishing-gradient",) if plan.is_plain_mlp and len(plan.hidden) >= 4 else ()
    return Change(plan, "small", {"adjust": weights.normal(between(rng, 1e-4, 1e-2))}, accepted=deep)


def symmetric_initialization(plan: Plan, rng: np.random.Generator) -> Change:
    """Constant weights in the whole network or in two layers in a row."""
    only(not plan.options.get("dropout") and plan.style in ("stack", "perceptron", "convolutions", "recurrent"))
    value = 0.0 if happens(rng, 0.25) else between(rng, 0.01, 0.2)
    variant = "constant" if value else "zeros"
    if plan.style == "recurrent":
        only("bidirectional" not in plan.options)
        return Change(plan, variant, {"adjust": weights.constant(value)}, ("rnn",))
    if len(plan.hidden) < 2 or happens(rng, 0.5):
        return Change(plan, variant, {"adjust": weights.constant(value)})
    # Units stay equal only where those that read them do not tell them apart, so two layers in a row are constant.
    first = whole(rng, 0, len(plan.hidden) - 2)
    pair = plan.hidden[first : first + 2]
    adjust = weights.constant(value, *(layer[0] for layer in pair))
    return Change(plan, f"{variant}-layers", {"adjust": after(plan, adjust)}, paths(pair))


# Recurrence and normalisation ---------------------------------------------------------------------------------------


def _is_simple_recurrence(plan: Plan) -> bool:
    return plan.style == "recurrent" and plan.options["layers"] == 1 and "bidirectional" not in plan.options


def bptt_vanishing(plan: Plan, rng: np.random.Generator) -> Change:
    """Recurrence too small, or gates shut, where the end has to know of the beginning."""
    only(_is_simple_recurrence(plan) and plan.data in ("recall", "digits", "regression"))
    kind = plan.options["kind"]
    if kind == "RNN":
        adjust = after(plan, weights.recurrence(between(rng, 0.02, 0.3)))
        return Change(plan, "small-recurrence", {"adjust": adjust}, ("rnn",))
    bias = -between(rng, 3, 6)
    if kind == "LSTM":
        return Change(plan, "forget-gate", {"adjust": after(plan, weights.gate_bias(1, bias))}, ("rnn",))
    shut = (weights.gate_bias(0, bias), weights.gate_bias(1, bias))
    return Change(plan, "gates-shut", {"adjust": after(plan, *shut)}, ("rnn",))


def bptt_exploding(plan: Plan, rng: np.random.Generator) -> Change:
    """Recurrence that makes the state grow, and nothing that clips."""
    only(_is_simple_recurrence(plan))
    kind = plan.options["kind"]
    only(kind != "GRU")
    if kind == "LSTM":
        adjust = after(plan, weights.recurrence(between(rng, 5, 10)), weights.gate_bias(1, 2.0))
        return Change(plan, "lstm-gain", {"adjust": adjust, "clip": None}, ("rnn",))
    fields = {"adjust": after(plan, weights.recurrence(between(rng, 2, 5))), "clip": None}
    if happens(rng, 0.5):
        return Change(plan, "tanh-gain", fields, ("rnn",))
    return Change(plan, "relu-gain", {**fields, "network": plan.network(nonlinearity="relu")}, ("rnn",))


def dead_batchnorm(plan: Plan, rng: np.random.Generator) -> Change:
    """Scales of nothing, statistics that stand still, batches of two or three, an epsilon that hides the rest."""
    only(plan.norms)
    kind = one_of(rng, "scale", "scale", "momentum", "batch", "epsilon")
    if kind == "batch":
        return Change(plan, "small-batches", {"batch_size": whole(rng, 2, 3)}, plan.norms)
    if kind == "momentum":
        return Change(plan, "still-statistics", {"adjust": after(plan, weights.momentum(0.0))}, plan.norms)
    norms = plan.norms if happens(rng, 0.4) else (one_of(rng, *plan.norms),)
    if kind == "epsilon":
        adjust = _epsilon(between(rng, 1e3, 1e6), norms)
        return Change(plan, "epsilon", {"adjust": after(plan, adjust)}, norms)
    scale = 0.0 if happens(rng, 0.5) else between(rng, 1e-6, 1e-4)
    return Change(plan, "scale", {"adjust": after(plan, weights.norm_scale(scale, *norms))}, norms)


def _epsilon(value: float, norms: tuple[str, ...]) -> Adjust:
    """What is added to the variance hides it."""

    def adjust(f: Any, model: Any) -> None:
        for path in norms:
            model.get_submodule(path).eps = value

    return adjust


FAULTS = {
    "vanishing-gradient": vanishing_gradient,
    "exploding-gradient": exploding_gradient,
    "dying-relu": dying_relu,
    "saturated-activation": saturated_activation,
    "wrong-initialization": wrong_initialization,
    "symmetric-initialization": symmetric_initialization,
    "missing-normalization": missing_normalization,
    "bptt-vanishing": bptt_vanishing,
    "bptt-exploding": bptt_exploding,
    "dead-batchnorm": dead_batchnorm,
}
