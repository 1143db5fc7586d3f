"""Sick settings: networks and losses that were planned wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain

from clinic import networks as tuning_networks
from clinic.blind.layers import broken, data, losses, networks
from clinic.blind.layers.healthy import HEALTHY
from clinic.faults import networks as broken_before
from clinic.healthy import stack
from clinic.sickness import CHAINRULE, TORCH, Sickness, spoiled

sick = partial(spoiled, HEALTHY)


def _non_finite() -> Iterator[Sickness]:
    fault = "non-finite"
    yield sick(
        fault,
        "log-without-one",
        "mlp-frequencies",
        network=broken.between(lambda x: x.log(), stack(), after=0),
        layers=("0",),
        frameworks=CHAINRULE,
    )
    yield sick(
        fault, "pruned-rows", "mlp-digits-weight-norm", adjust=broken.no_direction("4"), layers=("4",), frameworks=TORCH
    )
    yield sick(fault, "masked-root", "cnn-digits-branches", network=broken.masked_root, layers=("root",))
    yield sick(fault, "empty-texts", "mlp-bags", prepare=data.emptied(0.05))
    yield sick(fault, "deviance-of-zero", "mlp-sales", loss=losses.deviance)


def _unused_parameter() -> Iterator[Sickness]:
    fault = "unused-parameter"
    yield sick(
        fault,
        "left-out-column",
        "mlp-census",
        network=partial(networks.table, read=(0, 1)),
        layers=("tables.2",),
    )
    yield sick(
        fault,
        "same-branch-twice",
        "cnn-digits-branches",
        network=partial(networks.branches_cnn, twice=True),
        layers=("five",),
        harm=False,
    )
    yield sick(fault, "unheard-question", "mlp-questions", network=partial(networks.asked, asks=False), layers=("ask",))
    yield sick(
        fault,
        "optimizer-made-before",
        "mlp-attributes",
        history=broken.optimizer_before("0", "2"),
        layers=("0", "2"),
    )


def _detached_graph() -> Iterator[Sickness]:
    fault = "detached-graph"
    yield sick(
        fault,
        "rounded-code",
        "mlp-images-codes",
        network=partial(networks.binary_autoencoder, straight=False),
        layers=("encoder", "encoder.0", "encoder.1"),
    )
    tables = ("tables", "tables.0", "tables.1", "tables.2")
    yield sick(fault, "kinds-by-hand", "mlp-census", network=broken.kinds_by_hand, layers=tables, frameworks=CHAINRULE)
    yield sick(fault, "gate-in-numpy", "mlp-questions", network=partial(networks.asked, by_hand=True), layers=("ask",))
    down = ("down", "down.0", "down.1", "down.2")
    yield sick(
        fault,
        "code",
        "cnn-denoised",
        network=partial(networks.convolutional_autoencoder, detach=True),
        layers=down,
        frameworks=TORCH,
    )


def _loss_activation_mismatch() -> Iterator[Sickness]:
    fault = "loss-activation-mismatch"
    yield sick(
        fault,
        "softmax-of-properties",
        "mlp-attributes",
        network=tuning_networks.ending_in("Softmax", 64, 32, dim=1),
        layers=("5",),
    )
    asked = HEALTHY["mlp-questions"]
    yield sick(
        fault,
        "relu-before-sigmoid",
        asked.name,
        network=broken_before.ending_in_function(asked.network, "relu"),
        layers=("", "net", "net.out"),
        frameworks=CHAINRULE,
    )
    yield sick(
        fault,
        "softmax-of-pixels",
        "mlp-images-tied",
        network=partial(networks.tied_autoencoder, ending="softmax"),
        layers=("",),
    )
    yield sick(
        fault,
        "sigmoid-before-counts",
        "mlp-sales",
        network=tuning_networks.ending_in("Sigmoid", 32, 32),
        layers=("5",),
        frameworks=TORCH,
    )
    # A softmax of one number is 1.
    census = HEALTHY["mlp-census"]
    yield sick(
        fault,
        "softmax-of-one",
        census.name,
        network=broken_before.ending_in_function(census.network, "softmax", dim=1),
        layers=("", "net", "net.out"),
    )
    yield sick(
        fault,
        "tanh-before-numbers",
        "mlp-regression-plain",
        network=tuning_networks.ending_in("Tanh", 48, 48, hidden="SiLU"),
        layers=("5",),
    )


def _wrong_loss() -> Iterator[Sickness]:
    fault = "wrong-loss"
    yield sick(fault, "other-way-round", "mlp-questions", loss=losses.other_way_round)
    yield sick(fault, "without-square", "mlp-regression-plain", loss=losses.without_square, frameworks=CHAINRULE)
    yield sick(fault, "positives-weigh-100", "mlp-attributes", loss=losses.positives_weigh(100.0))
    yield sick(fault, "mean-over-batch-first", "mlp-images-tied", loss=losses.mean_over_batch_first, frameworks=TORCH)
    yield sick(fault, "rate-for-count", "mlp-sales", loss=losses.rate_for_count)
    yield sick(fault, "brightness", "cnn-denoised", loss=losses.brightness, frameworks=CHAINRULE)
    yield sick(fault, "class-of-first", "cnn-pulses", loss=losses.class_of_first)


def _bottleneck() -> Iterator[Sickness]:
    fault = "bottleneck"
    yield sick(
        fault,
        "pooled-first",
        "cnn-digits-branches",
        network=partial(networks.branches_cnn, pooled=True),
        layers=("pool",),
    )
    yield sick(
        fault,
        "code-of-one-channel",
        "cnn-denoised",
        network=partial(networks.convolutional_autoencoder, channels=1),
        layers=("down.2", "down"),
    )
    yield sick(fault, "one-unit", "mlp-attributes", network=stack(64, 1, 32), layers=("2", "3"), frameworks=CHAINRULE)
    yield sick(
        fault,
        "stride-24",
        "cnn-pulses",
        network=partial(networks.pulse_cnn, stride=24, channels=1),
        layers=("0", "1"),
    )
    yield sick(
        fault,
        "two-numbers",
        "mlp-images-tied",
        network=partial(networks.tied_autoencoder, width=2),
        layers=("encode",),
        frameworks=TORCH,
    )


def _cannot_overfit_batch() -> Iterator[Sickness]:
    fault = "cannot-overfit-batch"
    yield sick(fault, "straight-leaky", "mlp-parity", network=partial(broken.straight, widths=(32, 32)))
    yield sick(fault, "noise", "mlp-attributes", network=broken.noise_before(2, 30.0, 64, 32))
    yield sick(fault, "dropout-0.98", "mlp-digits-noisy-input", network=partial(networks.noisy_input, p=0.98))


SICK = tuple(
    chain(
        _non_finite(),
        _unused_parameter(),
        _detached_graph(),
        _loss_activation_mismatch(),
        _wrong_loss(),
        _bottleneck(),
        _cannot_overfit_batch(),
    )
)
