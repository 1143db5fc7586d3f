"""The sick settings of the tuning half, by fault."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from clinic import networks
from clinic.faults import data, losses, weights
from clinic.faults import networks as broken
from clinic.healthy import HEALTHY, near_linear_recurrence, stack
from clinic.setting import trained
from clinic.sickness import BOTH, CHAINRULE, TORCH, Sickness, spoiled

sick = partial(spoiled, HEALTHY)

#: In a deep plain stack with a framework's default values, which have a sixth of the variance that ReLU asks for, the
#: signal fades both ways for that reason and because nothing brings it back: all three names say what is there.
_FADING = ("vanishing-gradient", "wrong-initialization", "missing-normalization")


def _vanishing_gradient() -> Iterator[Sickness]:
    fault = "vanishing-gradient"
    yield sick(fault, "sigmoid-20", "mlp-digits", network=stack(*[32] * 20, activation="Sigmoid"))
    yield sick(fault, "sigmoid-8", "mlp-circles", network=partial(broken.deep_mlp, depth=8), frameworks=CHAINRULE)
    yield sick(fault, "sigmoid-12", "mlp-regression", network=partial(broken.deep_mlp, depth=12), frameworks=TORCH)
    yield sick(
        fault,
        "relu-default-init",
        "mlp-blobs",
        network=stack(*[32] * 20),
        accepted=_FADING,
    )
    yield sick(fault, "conv-sigmoid", "cnn-digits-sgd", network=partial(broken.deep_cnn, depth=6, activation="Sigmoid"))
    yield sick(
        fault,
        "stacked-sigmoid",
        "mlp-digits-functional",
        network=partial(broken.deep_mlp, depth=14, width=48),
        frameworks=TORCH,
    )


def _exploding_gradient() -> Iterator[Sickness]:
    fault = "exploding-gradient"
    # In a plain stack the size of the weights is the cause of the explosion, and both names say so.
    initialization = ("wrong-initialization",)
    yield sick(
        fault,
        "relu-gain-2",
        "mlp-digits",
        network=partial(broken.deep_mlp, depth=16, activation="relu", gain=2.4),
        accepted=initialization,
    )
    yield sick(
        fault,
        "relu-gain-3",
        "mlp-regression",
        network=partial(broken.deep_mlp, depth=10, activation="relu", gain=3.0),
        accepted=initialization,
        frameworks=CHAINRULE,
    )
    yield sick(
        fault,
        "conv-gain-2",
        "cnn-digits-sgd",
        network=partial(broken.deep_cnn, depth=10, gain=2.4),
        accepted=initialization,
    )
    # Blocks that start as they should and still grow want a normalisation: the missing one is the cause.
    yield sick(
        fault,
        "residual-sum",
        "mlp-blobs",
        network=partial(networks.plain_residual, depth=24),
        accepted=("missing-normalization",),
        frameworks=TORCH,
    )


def _dying_relu() -> Iterator[Sickness]:
    fault = "dying-relu"
    yield sick(fault, "negative-bias", "mlp-digits", adjust=weights.bias(-3.0, "2"), layers=("2", "3"))
    yield sick(
        fault, "negative-bias", "mlp-digits-functional", adjust=weights.bias(-4.0, "hidden2"), layers=("hidden2",)
    )
    yield sick(fault, "negative-bias", "cnn-digits", adjust=weights.bias(-2.0, "conv2"), layers=("conv2",))
    # Pixels are never negative, so weights that all are leave nothing of them; they are also drawn wrongly.
    yield sick(
        fault,
        "negative-weights",
        "mlp-digits",
        adjust=weights.normal(0.1, "0", mean=-0.15),
        layers=("0", "1"),
        accepted=("wrong-initialization",),
        frameworks=CHAINRULE,
    )
    yield sick(fault, "after-spike", "mlp-blobs", history=trained(8, lr=3.0), frameworks=BOTH)
    yield sick(fault, "after-spike", "cnn-digits-sgd", history=trained(6, lr=6.0), frameworks=TORCH)
    yield sick(
        fault,
        "negative-bias",
        "cnn-regression",
        adjust=weights.bias(-4.0, "features.2"),
        layers=("features.2", "features.3"),
        frameworks=TORCH,
    )


def _saturated_activation() -> Iterator[Sickness]:
    fault = "saturated-activation"
    # Weights too large for tanh are both the saturation's cause and a wrong initialisation in so many words.
    initialization = ("wrong-initialization",)
    yield sick(fault, "tanh-unit-normal", "mlp-digits-tanh", adjust=weights.normal(3.0), accepted=initialization)
    yield sick(
        fault,
        "tanh-bias",
        "mlp-digits-tanh",
        adjust=weights.bias(9.0, "hidden1"),
        layers=("hidden1",),
    )
    yield sick(
        fault,
        "tanh-large",
        "mlp-regression",
        network=partial(networks.functional_mlp, activation="tanh"),
        adjust=weights.normal(3.0, "hidden1", "hidden2"),
        layers=("hidden1", "hidden2"),
        accepted=initialization,
    )
    yield sick(
        fault,
        "inputs-to-state",
        "rnn-digits",
        adjust=weights.both(weights.normal(5.0, "rnn"), weights.recurrence(1.0)),
        layers=("rnn",),
        accepted=initialization,
    )
    yield sick(
        fault,
        "output-gate",
        "lstm-digits",
        adjust=weights.gate_bias(3, -10.0),
        layers=("rnn",),
        frameworks=CHAINRULE,
    )


def _wrong_initialization() -> Iterator[Sickness]:
    fault = "wrong-initialization"
    yield sick(fault, "tiny", "mlp-digits", adjust=weights.normal(0.001))
    yield sick(fault, "unit-normal", "mlp-digits-functional", adjust=weights.normal(1.0), frameworks=CHAINRULE)
    yield sick(fault, "unit-normal", "mlp-regression", adjust=weights.normal(1.0))
    yield sick(fault, "large-layer", "cnn-digits-sgd", adjust=weights.normal(3.0, "conv2"), layers=("conv2",))
    yield sick(fault, "unit-normal", "cnn-text", adjust=weights.normal(1.0), frameworks=TORCH)
    yield sick(fault, "large-output", "mlp-digits", adjust=weights.normal(5.0, "4"), layers=("4",))
    yield sick(fault, "unit-normal", "transformer-digits", adjust=weights.normal(1.0), frameworks=CHAINRULE)
    yield sick(fault, "unit-normal", "lstm-text", adjust=weights.normal(2.0, "rnn"), layers=("rnn",), frameworks=TORCH)


def _symmetric_initialization() -> Iterator[Sickness]:
    fault = "symmetric-initialization"
    yield sick(fault, "constant", "mlp-digits", adjust=weights.constant(0.05))
    yield sick(fault, "zeros", "mlp-circles", adjust=weights.constant(0.0), frameworks=CHAINRULE)
    yield sick(
        fault,
        "constant-layers",
        "mlp-digits-functional",
        adjust=weights.constant(0.02, "hidden1", "hidden2"),
        layers=("hidden1", "hidden2"),
    )
    yield sick(
        fault, "constant-kernels", "cnn-digits", adjust=weights.constant(0.1, "conv1", "conv2"), frameworks=TORCH
    )
    yield sick(fault, "constant", "lstm-digits", adjust=weights.constant(0.05), layers=("rnn",))
    yield sick(fault, "constant", "mlp-regression", adjust=weights.constant(0.1), frameworks=TORCH)


def _missing_normalization() -> Iterator[Sickness]:
    fault = "missing-normalization"
    # What drifts forward grows backward as well: the same chain of Jacobians, named from its other end.
    growth = ("exploding-gradient",)
    yield sick(
        fault,
        "residual-blocks",
        "mlp-digits-residual",
        network=partial(networks.plain_residual, depth=20),
        accepted=growth,
    )
    yield sick(
        fault,
        "residual-blocks",
        "mlp-regression-residual",
        network=partial(networks.plain_residual, depth=30),
        accepted=growth,
        frameworks=CHAINRULE,
    )
    yield sick(
        fault,
        "deep-stack",
        "mlp-digits-deep",
        network=stack(*[32] * 16),
        accepted=_FADING,
    )
    yield sick(
        fault,
        "conv-stack",
        "cnn-digits-norm",
        network=partial(broken.deep_cnn, depth=10),
        accepted=_FADING,
    )
    yield sick(
        fault,
        "blocks",
        "transformer-digits-sgd",
        network=partial(broken.transformer_without_norm, layers=7),
        accepted=growth,
        frameworks=TORCH,
    )


def _non_finite() -> Iterator[Sickness]:
    fault = "non-finite"
    yield sick(fault, "log-of-zero", "mlp-digits", network=broken.logarithm_of_pixels, layers=("0",))
    yield sick(fault, "zero-by-zero", "mlp-digits-tanh", network=broken.scaled_by_spread, layers=("scale",))
    yield sick(fault, "sqrt-of-zero", "mlp-blobs", network=broken.distances_to_examples, layers=("distances",))
    yield sick(
        fault,
        "masked-out",
        "transformer-text",
        network=partial(networks.character_transformer, earlier_only=True),
        layers=("blocks.0.attention",),
    )
    yield sick(
        fault,
        "exp-overflow",
        "mlp-digits-functional",
        loss=losses.logarithm_of_softmax,
        prepare=data.scaled(1000.0),
        # The inputs are what makes exp overflow, so that one may say either.
        accepted=("unscaled-input",),
        frameworks=CHAINRULE,
    )
    yield sick(fault, "gaps", "mlp-regression", prepare=data.with_gaps(0.02))
    yield sick(fault, "gaps", "lstm-regression", prepare=data.with_gaps(0.01), frameworks=TORCH)


def _learning_rate_too_high() -> Iterator[Sickness]:
    fault = "learning-rate-too-high"
    yield sick(fault, "x100", "mlp-digits", lr=10.0)
    yield sick(fault, "x100", "cnn-digits", lr=1.0)
    yield sick(fault, "x1000", "mlp-regression-residual", lr=3.0, frameworks=CHAINRULE)
    yield sick(fault, "x100", "lstm-text", lr=1.0)
    yield sick(fault, "x100", "transformer-digits", lr=0.3, frameworks=TORCH)
    yield sick(fault, "x40", "mlp-blobs", lr=2.0, frameworks=TORCH)
    yield sick(fault, "x100", "rnn-digits", lr=0.5, frameworks=CHAINRULE)


def _learning_rate_too_low() -> Iterator[Sickness]:
    fault = "learning-rate-too-low"
    yield sick(fault, "1e-6", "mlp-digits", lr=1e-6)
    yield sick(fault, "1e-6", "cnn-digits", lr=1e-6)
    yield sick(fault, "div-10000", "mlp-regression", lr=5e-6, frameworks=CHAINRULE)
    yield sick(fault, "1e-6", "lstm-digits", lr=1e-6)
    yield sick(fault, "1e-6", "transformer-digits", lr=1e-6, frameworks=TORCH)
    yield sick(fault, "div-10000", "mlp-circles-binary", lr=1e-6, frameworks=TORCH)
    yield sick(fault, "div-10000", "rnn-text", lr=5e-7, frameworks=CHAINRULE)


def _oscillating_loss() -> Iterator[Sickness]:
    fault = "oscillating-loss"
    # A learning rate somewhat beyond 2/curvature, or one that momentum makes so, is too high: that is why it swings.
    high = ("learning-rate-too-high",)
    heavy = {"momentum": 0.999}
    yield sick(fault, "momentum-0.999", "mlp-digits", options=heavy, accepted=high)
    yield sick(fault, "momentum-0.999", "mlp-regression", options=heavy, accepted=high)
    yield sick(fault, "momentum-0.999", "cnn-digits-sgd", options=heavy, accepted=high, frameworks=TORCH)
    yield sick(fault, "momentum-0.999", "lstm-digits-sgd", options=heavy, accepted=high, frameworks=CHAINRULE)
    yield sick(fault, "beyond-stability", "mlp-regression", lr=0.3, accepted=high, frameworks=TORCH)
    yield sick(fault, "beyond-stability", "mlp-circles", lr=2.0, accepted=high, frameworks=CHAINRULE)


def _slow_convergence() -> Iterator[Sickness]:
    fault = "slow-convergence"
    # "Slow" and "the steps are too short" are one thing where nothing but the step was changed.
    low = ("learning-rate-too-low",)
    yield sick(fault, "div-100", "mlp-digits", lr=0.001, accepted=low)
    yield sick(fault, "div-30", "cnn-digits", lr=0.0003, accepted=low)
    yield sick(fault, "no-momentum", "lstm-digits-sgd", lr=0.02, options={}, accepted=low)
    yield sick(fault, "no-momentum", "transformer-digits-sgd", lr=0.005, options={}, accepted=low, frameworks=TORCH)
    yield sick(fault, "div-100", "mlp-regression", lr=0.0005, accepted=low, frameworks=CHAINRULE)
    yield sick(fault, "div-50", "rnn-regression", lr=0.0002, accepted=low, frameworks=TORCH)


def _unused_parameter() -> Iterator[Sickness]:
    fault = "unused-parameter"
    yield sick(
        fault,
        "forgotten-layer",
        "mlp-digits-functional",
        network=broken.forgotten_layer,
        layers=("hidden3",),
        harm=False,
    )
    yield sick(
        fault, "forgotten-head", "mlp-digits-heads", loss=losses.classes_only, layers=("parity_head",), harm=False
    )
    yield sick(fault, "slip", "cnn-digits", network=broken.same_convolution_twice, layers=("conv3",), harm=False)
    yield sick(
        fault,
        "unread",
        "lstm-digits",
        network=broken.unread_recurrence,
        layers=("second",),
        harm=False,
        frameworks=CHAINRULE,
    )
    # The parameter is the network's own, so the network is the place.
    yield sick(
        fault,
        "temperature",
        "transformer-digits",
        network=broken.unused_temperature,
        harm=False,
        frameworks=TORCH,
    )


def _detached_graph() -> Iterator[Sickness]:
    fault = "detached-graph"
    trunk = ("trunk", "trunk.0", "trunk.1", "trunk.2", "trunk.3")
    yield sick(fault, "trunk", "mlp-digits-tanh", network=broken.detached_trunk, layers=trunk)
    yield sick(fault, "numpy", "mlp-digits-functional", network=broken.through_numpy, layers=("hidden",))
    yield sick(fault, "no-grad", "cnn-digits", network=broken.features_without_gradient, layers=("conv1", "conv2"))
    yield sick(
        fault,
        "state",
        "lstm-text",
        network=broken.detached_recurrence,
        layers=("embed", "rnn"),
        frameworks=TORCH,
    )
    yield sick(fault, "argmax", "mlp-blobs", network=broken.hard_choice, layers=("encode",), frameworks=CHAINRULE)


def _unscaled_input() -> Iterator[Sickness]:
    fault = "unscaled-input"
    yield sick(fault, "bytes", "mlp-digits", prepare=data.scaled(255.0))
    yield sick(fault, "bytes", "cnn-digits-sgd", prepare=data.scaled(255.0))
    yield sick(fault, "metres", "mlp-regression", prepare=data.scaled(200.0, 1000.0))
    yield sick(fault, "offset", "mlp-blobs", prepare=data.scaled(100.0, 500.0), frameworks=CHAINRULE)
    yield sick(fault, "offset", "cnn-regression", prepare=data.scaled(100.0, 2000.0), frameworks=TORCH)
    yield sick(fault, "micro", "mlp-circles", prepare=data.scaled(1e-4), frameworks=TORCH)
    yield sick(fault, "bytes", "rnn-digits", prepare=data.scaled(255.0), frameworks=CHAINRULE)


def _loss_activation_mismatch() -> Iterator[Sickness]:
    fault = "loss-activation-mismatch"
    yield sick(
        fault, "softmax-twice", "mlp-digits", network=networks.ending_in("Softmax", 48, 48, dim=1), layers=("5",)
    )
    yield sick(
        fault,
        "softmax-twice",
        "cnn-digits-sgd",
        network=broken.ending_in_function(networks.small_cnn, "softmax", dim=1),
        layers=("", "net", "net.fc"),
    )
    yield sick(
        fault,
        "sigmoid-twice",
        "mlp-circles-brief",
        network=networks.ending_in("Sigmoid", 32, 32),
        layers=("5",),
    )
    yield sick(fault, "relu-before-softmax", "mlp-blobs", network=networks.ending_in("ReLU", 32, 32), layers=("5",))
    yield sick(fault, "no-log-softmax", "mlp-digits-functional", loss=losses.without_softmax, layers=("out",))
    yield sick(
        fault,
        "softmax-twice",
        "lstm-digits-sgd",
        network=broken.ending_in_function(partial(networks.recurrent, kind="LSTM"), "softmax", dim=1),
        layers=("", "net", "net.out"),
        frameworks=TORCH,
    )
    yield sick(
        fault,
        "relu-before-numbers",
        "mlp-regression",
        network=networks.ending_in("ReLU", 48, 48),
        layers=("5",),
        frameworks=CHAINRULE,
    )


def _wrong_loss() -> Iterator[Sickness]:
    fault = "wrong-loss"
    yield sick(fault, "squares-of-indices", "mlp-digits-tanh", loss=losses.squared_distance_to_index)
    yield sick(fault, "distance-to-index", "cnn-digits", loss=losses.absolute_distance_to_index)
    yield sick(fault, "broadcast", "mlp-regression", loss=losses.column_against_row)
    yield sick(fault, "broadcast", "lstm-regression", loss=losses.column_against_row, frameworks=CHAINRULE)
    yield sick(fault, "without-targets", "mlp-blobs", loss=losses.confidence)
    yield sick(fault, "sign", "transformer-text", loss=losses.wrong_sign, frameworks=TORCH)


def _bottleneck() -> Iterator[Sickness]:
    fault = "bottleneck"
    yield sick(fault, "one-unit", "mlp-digits", network=stack(48, 1, 48), layers=("2", "3"))
    yield sick(fault, "one-unit-tanh", "mlp-blobs", network=stack(32, 1, 32, activation="Tanh"), layers=("2", "3"))
    yield sick(fault, "one-channel", "cnn-digits", network=broken.narrow_cnn, layers=("squeeze", "pool"))
    yield sick(
        fault,
        "one-unit",
        "lstm-digits",
        network=partial(networks.recurrent, kind="LSTM", width=1),
        layers=("rnn",),
    )
    yield sick(
        fault, "one-unit", "transformer-digits", network=broken.narrow_transformer, layers=("out.0", "out.1", "out")
    )


def _cannot_overfit_batch() -> Iterator[Sickness]:
    fault = "cannot-overfit-batch"
    yield sick(fault, "linear", "mlp-circles", network=broken.without_activation)
    yield sick(fault, "linear", "mlp-circles-binary", network=broken.without_activation, frameworks=TORCH)
    yield sick(fault, "dropout-0.95", "mlp-digits-functional", network=broken.heavy_dropout)
    yield sick(fault, "integer-pixels", "cnn-digits", prepare=data.zeroed, frameworks=CHAINRULE)
    yield sick(fault, "integer-pixels", "mlp-digits", prepare=data.zeroed, frameworks=TORCH)
    yield sick(
        fault,
        "weight-decay",
        "mlp-digits",
        options={"momentum": 0.9, "weight_decay": 0.3},
        frameworks=CHAINRULE,
    )


def _shuffled_labels() -> Iterator[Sickness]:
    fault = "shuffled-labels"
    for healthy, frameworks in (
        ("mlp-digits", BOTH),
        ("mlp-blobs", CHAINRULE),
        ("mlp-regression", BOTH),
        ("cnn-digits", BOTH),
        ("lstm-digits", TORCH),
        ("mlp-circles", TORCH),
        ("transformer-digits", CHAINRULE),
    ):
        yield sick(fault, "permuted", healthy, prepare=data.shuffled, frameworks=frameworks)


def _recurrence_from_healthy(gain: float) -> Any:
    """The small inputs of the healthy network, with another recurrence."""
    return weights.both(near_linear_recurrence, weights.recurrence(gain))


def _bptt_vanishing() -> Iterator[Sickness]:
    fault = "bptt-vanishing"
    place = ("rnn",)
    yield sick(fault, "small-recurrence", "rnn-recall", adjust=_recurrence_from_healthy(0.2), layers=place)
    yield sick(fault, "small-recurrence", "rnn-digits-scan", adjust=weights.recurrence(0.05), layers=place)
    yield sick(fault, "forget-gate-shut", "lstm-recall", adjust=weights.gate_bias(1, -4.0), layers=place)


def _bptt_exploding() -> Iterator[Sickness]:
    fault = "bptt-exploding"
    place = ("rnn",)
    relu = partial(networks.recurrent, kind="RNN", width=48, nonlinearity="relu")
    yield sick(
        fault,
        "relu-gain-2",
        "rnn-digits-scan",
        network=relu,
        adjust=weights.recurrence(2.0),
        clip=None,
        layers=place,
    )
    yield sick(fault, "tanh-gain-3", "rnn-recall", adjust=_recurrence_from_healthy(3.0), clip=None, layers=place)
    yield sick(
        fault,
        "relu-gain-4",
        "rnn-digits",
        network=relu,
        adjust=weights.recurrence(4.0),
        layers=place,
        frameworks=TORCH,
    )
    yield sick(
        fault,
        "relu-gain-2",
        "rnn-regression",
        network=partial(networks.recurrent, kind="RNN", nonlinearity="relu"),
        adjust=weights.recurrence(2.0),
        clip=None,
        layers=place,
        frameworks=CHAINRULE,
    )
    yield sick(
        fault,
        "lstm-gain-8",
        "lstm-recall",
        adjust=weights.both(weights.recurrence(8.0), weights.gate_bias(1, 2.0)),
        clip=None,
        layers=place,
        frameworks=TORCH,
    )


def _always_clipped() -> Iterator[Sickness]:
    fault = "always-clipped"
    yield sick(fault, "1e-3", "mlp-digits", clip=1e-3)
    yield sick(fault, "1e-3", "cnn-digits-sgd", clip=1e-3)
    yield sick(fault, "1e-3", "lstm-digits-sgd", clip=1e-3)
    yield sick(fault, "1e-3", "transformer-digits-sgd", clip=1e-3, frameworks=TORCH)
    yield sick(fault, "5e-3", "mlp-regression", clip=5e-3, frameworks=CHAINRULE)


def _dead_batchnorm() -> Iterator[Sickness]:
    fault = "dead-batchnorm"
    yield sick(
        fault,
        "zero-scale",
        "mlp-digits-deep",
        adjust=weights.norm_scale(0.0, "13"),
        layers=("13",),
    )
    yield sick(fault, "zero-scale", "cnn-digits-norm", adjust=weights.norm_scale(0.0, "1.1"), layers=("1.1",))
    yield sick(
        fault,
        "no-statistics",
        "cnn-digits-norm",
        adjust=weights.momentum(0.0),
        layers=("0.1", "1.1"),
    )
    yield sick(
        fault,
        "no-statistics",
        "mlp-digits-raw",
        adjust=weights.momentum(0.0),
        layers=("0",),
        frameworks=TORCH,
    )
    # Each of the ten normalisations is as bad as the other.
    yield sick(fault, "batch-of-2", "mlp-digits-deep", batch_size=2, frameworks=CHAINRULE)


def _ill_conditioned() -> Iterator[Sickness]:
    fault = "ill-conditioned"
    # Features of very different scales make the loss ill-conditioned because they are not scaled.
    unscaled = ("unscaled-input",)
    yield sick(fault, "scales", "mlp-regression", prepare=data.scales(1e-3, 1e1), accepted=unscaled)
    yield sick(fault, "scales", "mlp-blobs", prepare=data.scales(1e-3, 1e1), accepted=unscaled, frameworks=TORCH)
    yield sick(fault, "correlated", "mlp-regression", prepare=data.correlated(0.9))
    yield sick(fault, "correlated", "mlp-blobs", prepare=data.correlated(0.99))
    # One layer a hundred times too large and the next too small: the function is the same, its curvature is not, and
    # the layers' first values are as wrong as the words say.
    yield sick(
        fault,
        "unbalanced-layers",
        "mlp-digits",
        adjust=weights.scaled({"0": 0.01, "2": 100.0}),
        layers=("0", "2"),
        accepted=("wrong-initialization",),
    )


def _all() -> Iterator[Sickness]:
    for of_one_fault in (
        _vanishing_gradient,
        _exploding_gradient,
        _dying_relu,
        _saturated_activation,
        _wrong_initialization,
        _symmetric_initialization,
        _missing_normalization,
        _non_finite,
        _learning_rate_too_high,
        _learning_rate_too_low,
        _oscillating_loss,
        _slow_convergence,
        _unused_parameter,
        _detached_graph,
        _unscaled_input,
        _loss_activation_mismatch,
        _wrong_loss,
        _bottleneck,
        _cannot_overfit_batch,
        _shuffled_labels,
        _bptt_vanishing,
        _bptt_exploding,
        _always_clipped,
        _dead_batchnorm,
        _ill_conditioned,
    ):
        yield from of_one_fault()


SICK = tuple(_all())
