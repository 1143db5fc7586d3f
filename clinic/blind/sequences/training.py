"""Sick settings: data, learning rates and clipping that a healthy network cannot learn with."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain

from clinic.blind.sequences.data import common_swing, one_sensor, reversed_file, unknown_tokens
from clinic.blind.sequences.healthy import HEALTHY
from clinic.faults import data, weights
from clinic.sickness import CHAINRULE, TORCH, Sickness, spoiled

sick = partial(spoiled, HEALTHY)


def _learning_rate_too_high() -> Iterator[Sickness]:
    fault = "learning-rate-too-high"
    yield sick(fault, "x100", "rnn-brackets", lr=0.8, frameworks=CHAINRULE)
    yield sick(fault, "x100", "lstm-adding", lr=2.0)
    yield sick(fault, "x80", "transformer-reversal", lr=0.4)
    yield sick(fault, "x50", "rnn-digits-filtered", lr=10.0, frameworks=TORCH)
    yield sick(fault, "x1000", "lstm-text-fine-tuned", lr=0.2)


def _learning_rate_too_low() -> Iterator[Sickness]:
    fault = "learning-rate-too-low"
    yield sick(fault, "1e-6", "rnn-tags", lr=1e-6, frameworks=TORCH)
    yield sick(fault, "1e-7", "lstm-gestures", lr=1e-7, frameworks=CHAINRULE)
    yield sick(fault, "3e-7", "transformer-brackets", lr=3e-7)
    yield sick(fault, "div-10000", "rnn-forecasts", lr=5e-6)
    yield sick(fault, "1e-6", "transformer-latch", lr=1e-6, frameworks=CHAINRULE)


def _oscillating_loss() -> Iterator[Sickness]:
    fault = "oscillating-loss"
    # Momentum that sums up a thousand steps makes a usual rate too high: that is why it swings.
    high = ("learning-rate-too-high",)
    heavy = {"momentum": 0.999}
    yield sick(fault, "momentum-0.999", "rnn-forecasts", options=heavy, accepted=high)
    yield sick(fault, "momentum-0.999", "transformer-gestures", options=heavy, accepted=high)
    yield sick(fault, "momentum-0.999", "transformer-latch", options=heavy, accepted=high, frameworks=CHAINRULE)
    yield sick(
        fault, "momentum-0.9995", "rnn-digits-filtered", options={"momentum": 0.9995}, accepted=high, frameworks=TORCH
    )
    yield sick(fault, "momentum-0.9995", "rnn-gestures", options={"momentum": 0.9995}, accepted=high)


def _slow_convergence() -> Iterator[Sickness]:
    fault = "slow-convergence"
    # "Slow" and "the steps are too short" are one thing where nothing but the step was changed.
    low = ("learning-rate-too-low",)
    yield sick(fault, "div-50", "lstm-motifs", lr=4e-4, accepted=low)
    yield sick(fault, "div-60", "rnn-brackets", lr=1e-4, accepted=low, frameworks=TORCH)
    yield sick(fault, "div-100", "rnn-waves-stack", lr=2e-5, accepted=low, frameworks=CHAINRULE)
    yield sick(fault, "plain-sgd", "transformer-reversal", optimizer="SGD", options={}, accepted=low)
    yield sick(fault, "no-momentum", "transformer-gestures", lr=0.005, options={}, accepted=low, frameworks=CHAINRULE)
    # A warm-up counted in steps of another training: it never gets there.
    yield sick(
        fault,
        "warm-up-of-20000",
        "transformer-digits-dropped",
        schedule=lambda step: (step + 1) / 20_000,
        accepted=low,
    )


def _always_clipped() -> Iterator[Sickness]:
    fault = "always-clipped"
    yield sick(fault, "1e-3", "rnn-gestures", clip=1e-3)
    yield sick(fault, "5e-4", "rnn-forecasts", clip=5e-4)
    yield sick(fault, "2e-3", "transformer-gestures", clip=2e-3, frameworks=CHAINRULE)
    yield sick(fault, "1e-3", "lstm-digits-small-batches", clip=1e-3, frameworks=TORCH)
    yield sick(fault, "1e-3", "transformer-latch", clip=1e-3, frameworks=TORCH)


def _unscaled_input() -> Iterator[Sickness]:
    fault = "unscaled-input"
    yield sick(fault, "screen-pixels", "rnn-gestures", prepare=data.scaled(200.0, 600.0))
    yield sick(fault, "kelvin", "lstm-alarms", prepare=data.scaled(10.0, 300.0))
    yield sick(fault, "millivolts", "rnn-forecasts", prepare=data.scaled(1000.0), frameworks=CHAINRULE)
    # One column of the three in another unit is also one that curves the loss far more than the others do.
    yield sick(
        fault,
        "one-sensor",
        "rnn-forecasts",
        prepare=one_sensor(1, 1000.0, 5000.0),
        accepted=("ill-conditioned",),
        frameworks=TORCH,
    )
    yield sick(fault, "screen-pixels", "transformer-gestures", prepare=data.scaled(200.0, 600.0))
    yield sick(fault, "micro", "lstm-adding", prepare=data.scaled(1e-5), frameworks=TORCH)


def _shuffled_labels() -> Iterator[Sickness]:
    fault = "shuffled-labels"
    yield sick(fault, "permuted", "rnn-tags", prepare=data.shuffled, frameworks=CHAINRULE)
    yield sick(fault, "reversed-file", "lstm-motifs", prepare=reversed_file)
    yield sick(fault, "reversed-file", "transformer-brackets", prepare=reversed_file, frameworks=TORCH)
    yield sick(fault, "next-row", "lstm-forecasts", prepare=data.next_target)
    yield sick(fault, "sorted", "rnn-counts", prepare=data.sorted_targets, frameworks=TORCH)
    yield sick(fault, "lost-row", "transformer-gestures", prepare=data.lost_row(0.05), frameworks=CHAINRULE)


def _ill_conditioned() -> Iterator[Sickness]:
    fault = "ill-conditioned"
    yield sick(fault, "common-swing", "rnn-forecasts", prepare=common_swing(0.9999))
    yield sick(fault, "common-swing", "rnn-gestures", prepare=common_swing(0.9999))
    # Features of very different scales make the loss ill-conditioned because they are not scaled.
    yield sick(
        fault,
        "scales",
        "transformer-gestures",
        prepare=data.scales(1e-2, 1e1),
        accepted=("unscaled-input",),
        frameworks=TORCH,
    )
    # One layer far too large and the next too small: the function is the same, its curvature is not, and the layers'
    # first values are as wrong as the words say.
    yield sick(
        fault,
        "unbalanced-layers",
        "rnn-forecasts",
        adjust=weights.scaled({"head.0": 200.0, "head.2": 1 / 200}),
        layers=("head", "head.0", "head.2"),
        accepted=("wrong-initialization",),
        frameworks=CHAINRULE,
    )


def _cannot_overfit_batch() -> Iterator[Sickness]:
    """What data and decay do to it; networks that are not able to are in `plan`."""
    fault = "cannot-overfit-batch"
    yield sick(fault, "unknown-tokens", "transformer-brackets", prepare=unknown_tokens, frameworks=CHAINRULE)
    yield sick(fault, "unknown-tokens", "rnn-reversal", prepare=unknown_tokens, frameworks=TORCH)
    yield sick(fault, "weight-decay", "lstm-alarms", options={"weight_decay": 20.0})


SICK = tuple(
    chain(
        _learning_rate_too_high(),
        _learning_rate_too_low(),
        _oscillating_loss(),
        _slow_convergence(),
        _always_clipped(),
        _unscaled_input(),
        _shuffled_labels(),
        _ill_conditioned(),
        _cannot_overfit_batch(),
    )
)
