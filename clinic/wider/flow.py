"""Sick settings: values and gradients that do not go through, or grow, or are all alike."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain

from clinic import networks as tuning_networks
from clinic.faults import networks as broken
from clinic.faults import weights
from clinic.healthy import orthogonal_recurrence, stack
from clinic.setting import trained
from clinic.sickness import CHAINRULE, TORCH, Sickness, spoiled
from clinic.wider import networks
from clinic.wider.healthy import HEALTHY

sick = partial(spoiled, HEALTHY)

#: Weights of a deep plain stack that are drawn too large or too small are why its gradient grows or fades.
_DRAWN = ("wrong-initialization",)


def _vanishing_gradient() -> Iterator[Sickness]:
    fault = "vanishing-gradient"
    yield sick(fault, "sigmoid-10", "mlp-spirals", network=stack(*[24] * 10, activation="Sigmoid"))
    yield sick(
        fault,
        "sigmoid-code",
        "mlp-images",
        network=lambda f, problem: networks.autoencoder(f, problem, 48, 40, 32, 24, 16, 8, activation="Sigmoid"),
    )
    yield sick(
        fault,
        "repeated-sigmoid",
        "mlp-digits-leaky",
        network=partial(tuning_networks.shared_layer, times=12, width=48, activation="sigmoid"),
        frameworks=TORCH,
    )
    yield sick(
        fault,
        "conv-sigmoid-8",
        "cnn-digits-strided",
        network=partial(broken.deep_cnn, depth=8, activation="Sigmoid"),
        frameworks=CHAINRULE,
    )


def _exploding_gradient() -> Iterator[Sickness]:
    fault = "exploding-gradient"
    yield sick(
        fault,
        "leaky-gain-2.6",
        "mlp-digits-leaky",
        network=partial(broken.deep_mlp, depth=14, width=40, activation="leaky_relu", gain=2.6),
        accepted=_DRAWN,
    )
    yield sick(
        fault,
        "repeated-gain-2.8",
        "mlp-circles-rings",
        network=partial(tuning_networks.shared_layer, times=14, activation="relu", gain=2.8),
        accepted=_DRAWN,
        frameworks=CHAINRULE,
    )
    yield sick(
        fault,
        "conv-gain-3.4",
        "cnn-digits-strided",
        network=partial(broken.deep_cnn, depth=7, gain=3.4),
        accepted=_DRAWN,
        frameworks=TORCH,
    )
    # The 1/√depth that was left out is what kept the sum in bounds, and so would a normalisation.
    yield sick(
        fault,
        "branches-unscaled",
        "mlp-digits-branches",
        network=partial(tuning_networks.plain_residual, depth=32, width=40),
        accepted=("missing-normalization",),
    )


def _dying_relu() -> Iterator[Sickness]:
    fault = "dying-relu"
    yield sick(fault, "negative-bias", "mlp-spirals", adjust=weights.bias(-2.5, "2"), layers=("2", "3"))
    yield sick(
        fault,
        "negative-bias",
        "cnn-digits-strided",
        network=partial(networks.strided_cnn, activation="ReLU"),
        adjust=weights.bias(-1.5, "4"),
        layers=("4", "5"),
        frameworks=TORCH,
    )
    yield sick(
        fault,
        "negative-bias",
        "mlp-baskets",
        adjust=weights.bias(-3.0, "out.0"),
        layers=("out.0", "out.1"),
        frameworks=CHAINRULE,
    )
    yield sick(fault, "after-spike", "mlp-digits-pruned", history=trained(7, lr=3.0))
    # Pixels are never negative, so weights that nearly all are leave nothing of them, and are drawn wrongly too.
    yield sick(
        fault,
        "negative-weights",
        "mlp-digits-pruned",
        adjust=weights.normal(0.08, "0", mean=-0.12),
        layers=("0", "1"),
        accepted=_DRAWN,
        frameworks=CHAINRULE,
    )


def _saturated_activation() -> Iterator[Sickness]:
    fault = "saturated-activation"
    # Weights too large for tanh or sigmoid are both the saturation's cause and drawn wrongly in so many words.
    yield sick(
        fault,
        "tanh-wide-weights",
        "mlp-digits-log-softmax",
        adjust=weights.normal(5.0, "0"),
        layers=("0", "1"),
        accepted=_DRAWN,
    )
    yield sick(
        fault,
        "sigmoid-bias",
        "mlp-digits-odd",
        network=stack(72, 24, activation="Sigmoid"),
        adjust=weights.bias(14.0, "0"),
        layers=("0", "1"),
        frameworks=CHAINRULE,
    )
    yield sick(
        fault,
        "tanh-bias",
        "mlp-blobs-nested",
        adjust=weights.bias(-8.0, "encoder.narrow"),
        layers=("encoder.narrow.0", "encoder.narrow.1", "encoder.narrow"),
    )
    yield sick(
        fault,
        "tanh-bias",
        "rnn-digits-steps",
        adjust=weights.both(orthogonal_recurrence, weights.bias(5.0, "rnn")),
        layers=("rnn",),
        frameworks=TORCH,
    )


def _wrong_initialization() -> Iterator[Sickness]:
    fault = "wrong-initialization"
    yield sick(fault, "uniform-0-1", "mlp-digits-thin", adjust=weights.uniform(0, 1))
    yield sick(fault, "1e-4", "cnn-digits-group-norm", adjust=weights.normal(1e-4))
    # In a deep stack, weights that are too small are the vanishing itself.
    yield sick(
        fault,
        "0.03-deep",
        "mlp-blobs-nested",
        network=stack(*[30] * 8, activation="Tanh"),
        adjust=weights.normal(0.03),
        accepted=("vanishing-gradient",),
        frameworks=TORCH,
    )
    yield sick(fault, "unit-normal", "transformer-text-writer", adjust=weights.normal(1.0), frameworks=CHAINRULE)
    yield sick(
        fault, "large-output", "mlp-digits-leaky", adjust=weights.normal(20.0, "6"), layers=("6",), frameworks=TORCH
    )
    yield sick(fault, "large-recurrence", "lstm-waves", adjust=weights.normal(5.0, "encoder"), layers=("encoder",))


def _symmetric_initialization() -> Iterator[Sickness]:
    fault = "symmetric-initialization"
    yield sick(fault, "constant", "mlp-blobs-nested", adjust=weights.constant(0.1))
    yield sick(fault, "constant-kernels", "cnn-digits-strided", adjust=weights.constant(0.01), frameworks=TORCH)
    yield sick(
        fault,
        "constant",
        "rnn-digits-columns",
        adjust=weights.constant(0.1),
        layers=("encoder",),
        frameworks=CHAINRULE,
    )
    yield sick(fault, "zeros", "mlp-spirals", adjust=weights.constant(0.0))


def _missing_normalization() -> Iterator[Sickness]:
    fault = "missing-normalization"
    # A framework's default values are below what ReLU asks for: the signal fades for that reason, and because nothing
    # brings it back.
    yield sick(
        fault,
        "deep-stack",
        "mlp-digits-narrow-batches",
        network=stack(*[48] * 15),
        accepted=("vanishing-gradient", "wrong-initialization"),
    )
    # What drifts forward grows backward as well: the same chain of Jacobians, named from its other end.
    growth = ("exploding-gradient",)
    yield sick(
        fault,
        "residual-convolutions",
        "cnn-digits-group-norm",
        network=partial(networks.group_norm_cnn, depth=12, norm=False, gain=1.67),
        accepted=growth,
    )
    yield sick(
        fault,
        "blocks",
        "transformer-digits-patches",
        network=partial(broken.transformer_without_norm, layers=10, width=16),
        accepted=growth,
        frameworks=TORCH,
    )


def _bptt_vanishing() -> Iterator[Sickness]:
    fault = "bptt-vanishing"
    place = ("rnn",)
    yield sick(fault, "small-recurrence", "rnn-digits-steps", adjust=weights.recurrence(0.1), layers=place)
    yield sick(
        fault,
        "gates-shut",
        "rnn-copy",
        adjust=weights.both(weights.gate_bias(0, -6.0), weights.gate_bias(1, -6.0)),
        layers=place,
    )
    yield sick(
        fault, "forget-gate-shut", "lstm-text-first", adjust=weights.gate_bias(1, -6.0), layers=place, frameworks=TORCH
    )


def _bptt_exploding() -> Iterator[Sickness]:
    fault = "bptt-exploding"
    place = ("rnn",)
    yield sick(
        fault,
        "relu-gain-1.7",
        "rnn-digits-steps",
        network=partial(tuning_networks.recurrent, kind="RNN", width=40, nonlinearity="relu"),
        adjust=weights.recurrence(1.7),
        clip=None,
        layers=place,
    )
    yield sick(
        fault,
        "tanh-gain-5",
        "rnn-copy",
        network=partial(networks.writer, kind="RNN", vocabulary=6, width=48),
        adjust=weights.recurrence(5.0),
        clip=None,
        layers=place,
        frameworks=CHAINRULE,
    )
    yield sick(
        fault,
        "lstm-gain-12",
        "lstm-text-first",
        adjust=weights.both(weights.recurrence(12.0), weights.gate_bias(1, 2.0)),
        clip=None,
        layers=place,
        frameworks=TORCH,
    )


def _dead_batchnorm() -> Iterator[Sickness]:
    fault = "dead-batchnorm"
    yield sick(fault, "zero-scale", "mlp-digits-narrow-batches", adjust=weights.norm_scale(0.0, "4"), layers=("4",))
    yield sick(
        fault,
        "zero-scale",
        "cnn-waves",
        adjust=weights.norm_scale(0.0, "bn1", "bn2"),
        layers=("bn1", "bn2"),
        frameworks=CHAINRULE,
    )
    # A momentum of 0.9999 elsewhere is one of 0.0001 here.
    yield sick(fault, "slow-statistics", "cnn-waves", adjust=weights.momentum(1e-4), layers=("bn1", "bn2"))
    yield sick(fault, "batch-of-2", "mlp-digits-narrow-batches", batch_size=2, layers=("1", "4"), frameworks=TORCH)


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
