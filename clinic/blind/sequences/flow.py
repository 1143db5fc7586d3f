"""Sick settings: values and gradients that do not go through, or grow, or are all alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from clinic.blind.sequences import broken, networks
from clinic.blind.sequences.healthy import HEALTHY
from clinic.faults import weights
from clinic.frameworks import Framework
from clinic.healthy import open_forget_gate
from clinic.setting import trained
from clinic.sickness import BOTH, CHAINRULE, TORCH, Sickness, spoiled

sick = partial(spoiled, HEALTHY)

#: Weights of a deep plain stack that are drawn too large or too small are why its gradient grows or fades.
_DRAWN = ("wrong-initialization",)
#: Default values of a deep plain stack are below what its activation asks for, and nothing brings the signal back.
_FADING = ("vanishing-gradient", "wrong-initialization", "missing-normalization")


def recurrences(change: Callable[[Any], Any]) -> weights.Adjust:
    """Change the recurrent matrices of all layers and both directions."""

    def adjust(f: Framework, model: Any) -> None:
        for name, parameter in model.named_parameters():
            if "weight_hh" in name:
                f.set_values(parameter, change)

    return adjust


def orthogonal(gain: float) -> weights.Adjust:
    """Make each square part of every recurrent matrix an orthogonal one times `gain`."""

    def drawn(weight: Any) -> Any:
        width = weight.shape[1]
        rng = np.random.default_rng(0)
        parts = [np.linalg.qr(rng.normal(size=(width, width)))[0] for _ in range(len(weight) // width)]
        return gain * np.concatenate(parts)

    return recurrences(drawn)


def cell_gate(gate: int, value: float, *paths: str) -> weights.Adjust:
    """Give one gate of cells a bias."""

    def adjust(f: Framework, model: Any) -> None:
        for path in paths:
            cell = model.get_submodule(path)
            width = cell.hidden_size

            def changed(values: Any, width: int = width) -> Any:
                values[gate * width : (gate + 1) * width] = value
                return values

            f.set_values(cell.bias_ih, changed)

    return adjust


def epsilon(value: float, *paths: str) -> weights.Adjust:
    """Give normalisations what is added to the variance, as where somebody forgot the minus of 1e-5."""

    def adjust(f: Framework, model: Any) -> None:
        for path in paths:
            model.get_submodule(path).eps = value

    return adjust


def _vanishing_gradient() -> Iterator[Sickness]:
    fault = "vanishing-gradient"
    gestures, filtered = HEALTHY["rnn-gestures"], HEALTHY["rnn-digits-filtered"]
    yield sick(fault, "sigmoid-head-10", gestures.name, network=broken.deep_head(gestures.network, depth=10))
    yield sick(
        fault,
        "eight-layers",
        "lstm-alarms",
        network=partial(networks.reader, kind="LSTM", width=12, layers=8, place="mean"),
        layers=("rnn",),
        accepted=_FADING,
        frameworks=TORCH,
    )
    attentive = HEALTHY["transformer-gestures"]
    yield sick(fault, "sigmoid-front-9", attentive.name, network=broken.deep_front(attentive.network, depth=9))
    yield sick(
        fault,
        "conv-sigmoid-8",
        filtered.name,
        network=partial(networks.convolution_first, depth=8, norm=False, activation="Sigmoid"),
        frameworks=CHAINRULE,
    )


def _exploding_gradient() -> Iterator[Sickness]:
    fault = "exploding-gradient"
    forecasts = HEALTHY["rnn-forecasts"]
    yield sick(
        fault,
        "conv-gain-3",
        "rnn-digits-filtered",
        network=partial(networks.convolution_first, depth=9, norm=False, gain=3.0),
        accepted=_DRAWN,
    )
    yield sick(
        fault,
        "head-gain-2.7",
        forecasts.name,
        network=broken.deep_head(forecasts.network, depth=10, activation="relu", gain=2.7),
        accepted=_DRAWN,
    )
    # Blocks whose values are drawn as they should be, and whose sum still grows, want a normalisation or a share.
    yield sick(
        fault,
        "share-of-one",
        "transformer-digits-rezero",
        network=partial(networks.rezero, depth=7, width=16, learned=False, gain=2**0.5),
        accepted=("missing-normalization",),
        frameworks=TORCH,
    )


def _dying_relu() -> Iterator[Sickness]:
    fault = "dying-relu"
    yield sick(fault, "state-bias", "rnn-latch", adjust=weights.bias(-3.0, "rnn"), layers=("rnn",))
    yield sick(
        fault,
        "norm-bias",
        "rnn-digits-filtered",
        adjust=weights.bias(-5.0, "features.1"),
        layers=("features.1", "features.2"),
    )
    yield sick(fault, "hidden-bias", "transformer-latch", adjust=weights.bias(-6.0, "hidden"), layers=("hidden",))
    yield sick(fault, "after-spike", "rnn-forecasts", history=trained(6, lr=8.0), frameworks=CHAINRULE)


def _saturated_activation() -> Iterator[Sickness]:
    fault = "saturated-activation"
    yield sick(fault, "state-bias", "rnn-gestures", adjust=weights.bias(5.0, "rnn"), layers=("rnn",))
    yield sick(
        fault,
        "input-gate-shut",
        "lstm-adding",
        adjust=weights.both(open_forget_gate, weights.gate_bias(0, -25.0)),
        layers=("rnn",),
        frameworks=CHAINRULE,
    )
    yield sick(
        fault,
        "nothing-written",
        "rnn-latch-gated",
        adjust=weights.gate_bias(1, 30.0),
        layers=("rnn",),
        frameworks=CHAINRULE,
    )
    yield sick(fault, "bias", "rnn-counts", adjust=weights.bias(9.0, "read"), layers=("read",))
    attentive = HEALTHY["transformer-gestures"]
    yield sick(
        fault,
        "tanh-of-tokens",
        attentive.name,
        network=broken.through_tanh(attentive.network),
        adjust=weights.bias(12.0, "embed"),
        layers=("embed.0", "embed.1", "embed"),
        frameworks=CHAINRULE,
    )
    # Weights too large for tanh are both the saturation's cause and drawn wrongly in so many words.
    yield sick(
        fault,
        "large-first-layer",
        "rnn-waves-stack",
        adjust=weights.normal(12.0, "layers.0"),
        layers=("layers.0",),
        accepted=_DRAWN,
        frameworks=TORCH,
    )


def _wrong_initialization() -> Iterator[Sickness]:
    fault = "wrong-initialization"
    yield sick(
        fault, "vectors-of-100", "transformer-reversal", adjust=weights.normal(100.0, "embed"), layers=("embed",)
    )
    yield sick(fault, "tiny", "transformer-gestures", adjust=weights.normal(1e-3))
    yield sick(
        fault,
        "large-head",
        "rnn-forecasts",
        adjust=weights.normal(10.0, "head"),
        layers=("head", "head.0", "head.2"),
        frameworks=CHAINRULE,
    )
    yield sick(fault, "uniform-0-1", "lstm-digits-small-batches", adjust=weights.uniform(0, 1))
    yield sick(fault, "large-gates", "rnn-tags", adjust=weights.normal(4.0, "rnn"), layers=("rnn",), frameworks=TORCH)
    yield sick(fault, "unit-normal", "transformer-sentences", adjust=weights.normal(1.0), frameworks=TORCH)


def _symmetric_initialization() -> Iterator[Sickness]:
    fault = "symmetric-initialization"
    yield sick(fault, "constant", "lstm-gestures", adjust=weights.constant(0.1), layers=("lower", "upper"))
    yield sick(
        fault,
        "constant",
        "rnn-brackets",
        adjust=weights.constant(0.05, "rnn", "head"),
        layers=("rnn",),
        frameworks=TORCH,
    )
    yield sick(
        fault,
        "constant-kernels",
        "rnn-digits-filtered",
        adjust=weights.constant(0.05, "features", "rnn"),
        layers=("features", "features.0", "rnn"),
        frameworks=CHAINRULE,
    )
    yield sick(
        fault,
        "zeros",
        "rnn-reversal",
        adjust=weights.constant(0.0, "encoder", "decoder", "out"),
        layers=("encoder", "decoder", "out"),
    )


def _missing_normalization() -> Iterator[Sickness]:
    fault = "missing-normalization"
    yield sick(
        fault,
        "convolutions",
        "rnn-digits-filtered",
        network=partial(networks.convolution_first, depth=9, norm=False),
        accepted=_FADING,
    )
    # What drifts forward grows backward as well: the same chain of Jacobians, named from its other end.
    growth = ("exploding-gradient",)
    yield sick(
        fault,
        "blocks",
        "transformer-gestures",
        network=partial(networks.attentive, width=16, depth=4, norm=False, gain=6**0.5),
        accepted=growth,
        frameworks=CHAINRULE,
    )
    yield sick(
        fault,
        "dropped-blocks",
        "transformer-digits-dropped",
        network=partial(networks.attentive, width=16, depth=5, drop=0.3, norm=False, gain=6**0.5),
        accepted=growth,
        frameworks=TORCH,
    )


def _bptt_vanishing() -> Iterator[Sickness]:
    fault = "bptt-vanishing"
    yield sick(
        fault,
        "identity-times-0.3",
        "rnn-latch",
        adjust=weights.both(weights.bias(0.0, "rnn"), recurrences(lambda weight: 0.3 * np.eye(len(weight)))),
        layers=("rnn",),
    )
    # Nothing lasts, by the gate or by the matrix; and the gate is as flat there as the state is short-lived.
    flat = ("saturated-activation",)
    yield sick(
        fault,
        "forget-gate-shut",
        "lstm-digits-small-batches",
        adjust=weights.both(weights.gate_bias(1, -12.0), weights.recurrence(0.02)),
        layers=("rnn",),
        accepted=flat,
    )
    yield sick(
        fault,
        "sigmoid-without-leak",
        "rnn-counts",
        network=partial(networks.leaky_recurrence, leak=1.0, activation="sigmoid"),
        layers=("recur",),
    )
    for healthy, frameworks in (("rnn-latch-gated", BOTH), ("lstm-adding", CHAINRULE)):
        yield sick(
            fault,
            "sigmoid-states",
            healthy,
            network=partial(networks.leaky_recurrence, leak=1.0, activation="sigmoid"),
            adjust=lambda f, model: None,
            layers=("recur",),
            frameworks=frameworks,
        )
    yield sick(
        fault,
        "cells-forget",
        "lstm-gestures",
        adjust=weights.both(cell_gate(1, -8.0, "lower", "upper"), orthogonal(0.1)),
        layers=("lower", "upper"),
        frameworks=TORCH,
    )


def _bptt_exploding() -> Iterator[Sickness]:
    fault = "bptt-exploding"
    yield sick(
        fault,
        "steep-states",
        "rnn-counts",
        adjust=lambda f, model: f.nn.init.orthogonal_(model.recur.weight, 25.0),
        layers=("recur",),
    )
    yield sick(fault, "both-layers-gain-4", "rnn-brackets", adjust=orthogonal(4.0), clip=None, layers=("rnn",))
    yield sick(
        fault,
        "relu-gain-1.8",
        "rnn-gestures",
        network=partial(networks.reader, kind="RNN", place="mean", nonlinearity="relu"),
        adjust=orthogonal(1.8),
        clip=None,
        layers=("rnn",),
    )
    yield sick(
        fault, "cell-gain-10", "rnn-forecasts", adjust=orthogonal(10.0), clip=None, layers=("cell",), frameworks=TORCH
    )
    yield sick(
        fault,
        "three-layers-gain-3",
        "rnn-waves-stack",
        adjust=orthogonal(3.0),
        clip=None,
        layers=("layers.0", "layers.1", "layers.2"),
        frameworks=CHAINRULE,
    )
    yield sick(
        fault,
        "lstm-gain-10",
        "lstm-adding",
        adjust=weights.both(open_forget_gate, orthogonal(10.0)),
        clip=None,
        layers=("rnn",),
        frameworks=CHAINRULE,
    )


def _dead_batchnorm() -> Iterator[Sickness]:
    fault = "dead-batchnorm"
    yield sick(
        fault,
        "no-statistics",
        "rnn-digits-filtered",
        adjust=weights.momentum(0.0),
        layers=("features.1",),
    )
    # Behind it comes a ReLU, which has no slope at 0, so that the scale stays as it is.
    yield sick(
        fault,
        "zero-scale",
        "rnn-digits-filtered",
        adjust=weights.norm_scale(0.0, "features.1"),
        layers=("features.1",),
        frameworks=TORCH,
    )
    yield sick(fault, "zero-scale", "transformer-latch", adjust=weights.norm_scale(0.0, "bn"), layers=("bn",))
    yield sick(
        fault, "slow-statistics", "transformer-latch", adjust=weights.momentum(1e-5), layers=("bn",), frameworks=TORCH
    )
    yield sick(
        fault,
        "epsilon-1e5",
        "rnn-waves-stack",
        adjust=epsilon(1e5, "norms.0", "norms.1", "norms.2"),
        layers=("norms.0", "norms.1", "norms.2"),
    )
    yield sick(
        fault, "epsilon-1e5", "rnn-forecasts", adjust=epsilon(1e5, "norm"), layers=("norm",), frameworks=CHAINRULE
    )


SICK = tuple(
    chain(
        _vanishing_gradient(),
        _exploding_gradient(),
        _dying_relu(),
        _saturated_activation(),
        _wrong_initialization(),
        _symmetric_initialization(),
        _missing_normalization(),
        _bptt_vanishing(),
        _bptt_exploding(),
        _dead_batchnorm(),
    )
)
