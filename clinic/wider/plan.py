"""Sick settings: networks and losses that were planned wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain

from clinic import networks as tuning_networks
from clinic.faults import data, losses
from clinic.faults import networks as broken_before
from clinic.healthy import stack
from clinic.sickness import CHAINRULE, TORCH, Sickness, spoiled
from clinic.wider import broken, networks
from clinic.wider.healthy import GOODS, HEALTHY, huber

sick = partial(spoiled, HEALTHY)


def _non_finite() -> Iterator[Sickness]:
    fault = "non-finite"
    columns = HEALTHY["rnn-digits-columns"]
    yield sick(fault, "length-of-zeros", columns.name, network=broken.unit_steps(columns.network), layers=("scale",))
    yield sick(fault, "mean-of-none", "mlp-baskets", network=broken.mean_of_rare_goods, layers=("mean",))
    yield sick(fault, "no-spread", "mlp-digits-zero-head", prepare=data.standardized_without_epsilon)
    yield sick(fault, "log-of-output", "mlp-ratings", loss=losses.squared_difference_of_logarithms, frameworks=TORCH)
    yield sick(fault, "share-of-zero", "mlp-images", loss=losses.relative_error, frameworks=CHAINRULE)


def _unused_parameter() -> Iterator[Sickness]:
    fault = "unused-parameter"
    yield sick(
        fault,
        "skipped-block",
        "mlp-digits-branches",
        network=broken.skipped_block,
        layers=("blocks.5",),
        harm=False,
    )
    yield sick(
        fault,
        "skipped-norm",
        "lstm-regression-cell",
        network=partial(networks.unrolled_cell, normalize=False),
        layers=("norm",),
        harm=False,
        frameworks=CHAINRULE,
    )
    baskets, patches = HEALTHY["mlp-baskets"], HEALTHY["transformer-digits-patches"]
    yield sick(
        fault,
        "unread-table",
        baskets.name,
        network=broken.with_unread(baskets.network, "popularity", lambda f: f.nn.Embedding(GOODS, 1)),
        layers=("popularity",),
        harm=False,
        frameworks=TORCH,
    )
    yield sick(
        fault,
        "unread-norm",
        patches.name,
        network=broken.with_unread(patches.network, "final_norm", lambda f: f.nn.LayerNorm(32)),
        layers=("final_norm",),
        harm=False,
    )


def _detached_graph() -> Iterator[Sickness]:
    fault = "detached-graph"
    yield sick(
        fault,
        "comparison",
        "mlp-pairs",
        network=partial(networks.siamese, detach=True),
        layers=("encoder", "encoder.0", "encoder.1"),
    )
    yield sick(
        fault,
        "weight-by-hand",
        "mlp-baskets",
        network=partial(networks.bag_of_vectors, vocabulary=GOODS, detach=True),
        layers=("vectors",),
        frameworks=TORCH,
    )
    coder = ("encoder", *(f"encoder.{place}" for place in range(3)))
    yield sick(fault, "binary-code", "mlp-images", network=broken.binary_code, layers=coder)


def _loss_activation_mismatch() -> Iterator[Sickness]:
    fault = "loss-activation-mismatch"
    yield sick(
        fault,
        "sigmoid-before-softmax",
        "mlp-digits-pruned",
        network=tuning_networks.ending_in("Sigmoid", 80, 40),
        layers=("5",),
    )
    yield sick(
        fault,
        "softmax-of-batch",
        "mlp-digits-leaky",
        network=tuning_networks.ending_in("Softmax", 96, 64, 32, hidden="LeakyReLU", dim=0),
        layers=("7",),
    )
    yield sick(
        fault,
        "tanh-before-numbers",
        "mlp-ratings",
        network=tuning_networks.ending_in("Tanh", 48, 24),
        layers=("5",),
        frameworks=CHAINRULE,
    )
    writing = HEALTHY["lstm-text-writer"]
    yield sick(
        fault,
        "softmax-each-step",
        writing.name,
        network=broken_before.ending_in_function(writing.network, "softmax", dim=2),
        layers=("", "net", "net.out"),
        frameworks=TORCH,
    )
    yield sick(
        fault,
        "no-log-softmax",
        "mlp-digits-log-softmax",
        network=stack(56, activation="Tanh"),
        layers=("2",),
        frameworks=TORCH,
    )


def _wrong_loss() -> Iterator[Sickness]:
    fault = "wrong-loss"
    yield sick(fault, "squares-of-indices", "mlp-blobs-nested", loss=losses.squared_distance_to_index)
    yield sick(fault, "broadcast", "mlp-noisy", loss=losses.column_against_row)
    yield sick(fault, "means", "mlp-ratings", loss=losses.difference_of_means, frameworks=TORCH)
    yield sick(fault, "hinge-of-zeros", "mlp-moons", loss=losses.hinge_of_zeros_and_ones)
    yield sick(fault, "hinge-of-zeros", "cnn-scrambled", loss=losses.hinge_of_zeros_and_ones, frameworks=TORCH)
    yield sick(fault, "sign", "mlp-regression-arm", loss=losses.negative(huber), frameworks=CHAINRULE)


def _bottleneck() -> Iterator[Sickness]:
    fault = "bottleneck"
    yield sick(fault, "two-units", "mlp-digits-wide", network=stack(128, 2, 128, activation="GELU"), layers=("2", "3"))
    yield sick(
        fault,
        "one-channel",
        "cnn-digits-strided",
        network=partial(networks.strided_cnn, channels=(12, 1, 24)),
        layers=("2", "3"),
        frameworks=CHAINRULE,
    )
    yield sick(
        fault,
        "code-of-one",
        "mlp-images",
        network=lambda f, problem: networks.autoencoder(f, problem, 32, 1),
        layers=("encoder.2", "encoder"),
    )
    yield sick(
        fault,
        "one-number-each",
        "mlp-baskets",
        network=partial(networks.bag_of_vectors, vocabulary=GOODS, width=1),
        layers=("vectors",),
        frameworks=TORCH,
    )
    yield sick(
        fault,
        "one-unit",
        "rnn-digits-columns",
        network=partial(networks.averaged_recurrence, kind="GRU", width=1),
        layers=("encoder",),
        frameworks=TORCH,
    )


def _cannot_overfit_batch() -> Iterator[Sickness]:
    fault = "cannot-overfit-batch"
    yield sick(fault, "linear", "mlp-spirals", network=partial(broken_before.without_activation, widths=(64, 64, 64)))
    yield sick(fault, "dropout-0.92", "mlp-digits-odd", network=stack(72, 24, dropout=0.92))


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
