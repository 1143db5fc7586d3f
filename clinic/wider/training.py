"""Sick settings: data, learning rates and clipping that a healthy network cannot learn with."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain

from clinic.faults import data, weights
from clinic.setting import trained
from clinic.sickness import CHAINRULE, TORCH, Sickness, spoiled
from clinic.wider.healthy import HEALTHY, NESTEROV

sick = partial(spoiled, HEALTHY)


def _learning_rate_too_high() -> Iterator[Sickness]:
    fault = "learning-rate-too-high"
    yield sick(fault, "x150", "mlp-digits-leaky", lr=3.0)
    yield sick(fault, "x200", "cnn-digits-strided", lr=0.6)
    yield sick(fault, "x60", "lstm-text-writer", lr=0.6, frameworks=CHAINRULE)
    yield sick(fault, "x50", "transformer-copy", lr=0.25)
    yield sick(fault, "x100", "cnn-scrambled", lr=0.5, frameworks=CHAINRULE)
    yield sick(fault, "x300", "mlp-noisy", lr=3.0, frameworks=TORCH)


def _learning_rate_too_low() -> Iterator[Sickness]:
    fault = "learning-rate-too-low"
    yield sick(fault, "1e-7", "mlp-spirals", lr=1e-7)
    yield sick(fault, "3e-7", "cnn-waves", lr=3e-7, frameworks=CHAINRULE)
    yield sick(fault, "1e-7", "transformer-copy", lr=1e-7)
    yield sick(fault, "div-100000", "mlp-regression-arm", lr=1e-6, frameworks=TORCH)
    yield sick(fault, "1e-6", "lstm-waves", lr=1e-6, frameworks=TORCH)


def _oscillating_loss() -> Iterator[Sickness]:
    fault = "oscillating-loss"
    # A learning rate somewhat beyond 2/curvature, or one that momentum makes so, is too high: that is why it swings.
    high = ("learning-rate-too-high",)

    def heavy(momentum: float) -> dict[str, float]:
        return {"momentum": momentum}

    yield sick(fault, "momentum-0.9995", "mlp-regression-arm", options=heavy(0.9995), accepted=high)
    yield sick(fault, "momentum-0.998", "mlp-digits-leaky", options=heavy(0.998), accepted=high)
    yield sick(
        fault, "momentum-0.9995", "cnn-digits-group-norm", options=heavy(0.9995), accepted=high, frameworks=TORCH
    )
    yield sick(fault, "momentum-0.999", "mlp-blobs-nested", options=heavy(0.999), accepted=high, frameworks=CHAINRULE)
    yield sick(fault, "beyond-stability", "mlp-overlapping", lr=1.5, accepted=high)


def _slow_convergence() -> Iterator[Sickness]:
    fault = "slow-convergence"
    # "Slow" and "the steps are too short" are one thing where nothing but the step was changed.
    low = ("learning-rate-too-low",)
    yield sick(fault, "div-70", "mlp-digits-wide", lr=3e-5, accepted=low)
    yield sick(fault, "div-80", "cnn-digits-group-norm", lr=1.25e-4, accepted=low, frameworks=CHAINRULE)
    yield sick(fault, "div-60", "transformer-digits-patches", lr=5e-5, accepted=low, frameworks=TORCH)
    yield sick(fault, "div-40", "lstm-text-writer", lr=2.5e-4, accepted=low)
    yield sick(fault, "div-200", "mlp-circles-rings", lr=1e-4, accepted=low, frameworks=CHAINRULE)
    # By the time it is seen, the rate is a hundredth of what it was, and most is still to be learned.
    yield sick(
        fault,
        "decayed",
        "mlp-spirals",
        schedule=lambda step: 0.8**step,
        history=trained(20),
        accepted=low,
        frameworks=TORCH,
    )


def _always_clipped() -> Iterator[Sickness]:
    fault = "always-clipped"
    yield sick(fault, "2e-3", "mlp-digits-leaky", clip=2e-3)
    yield sick(fault, "5e-4", "cnn-digits-group-norm", clip=5e-4, frameworks=TORCH)
    yield sick(fault, "3e-4", "mlp-blobs-nested", clip=3e-4)
    yield sick(fault, "1e-3", "mlp-moons", clip=1e-3, frameworks=CHAINRULE)


def _unscaled_input() -> Iterator[Sickness]:
    fault = "unscaled-input"
    yield sick(fault, "bytes", "mlp-digits-leaky", prepare=data.scaled(80.0, 120.0))
    yield sick(fault, "degrees", "mlp-regression-arm", prepare=data.scaled(180 / 3.14159))
    yield sick(fault, "prices", "mlp-ratings", prepare=data.scaled(5e4, 2e5))
    yield sick(fault, "volts", "rnn-waves", prepare=data.scaled(50.0, 1000.0), frameworks=CHAINRULE)
    yield sick(fault, "offset", "mlp-circles-rings", prepare=data.scaled(20.0, 400.0), frameworks=CHAINRULE)
    yield sick(fault, "kilometres", "mlp-blobs-nested", prepare=data.scaled(1e-3), frameworks=TORCH)


def _shuffled_labels() -> Iterator[Sickness]:
    fault = "shuffled-labels"
    yield sick(fault, "sorted", "mlp-ratings", prepare=data.sorted_targets)
    yield sick(fault, "next-row", "mlp-digits-wide", prepare=data.next_target)
    yield sick(fault, "next-row", "cnn-waves", prepare=data.next_target, frameworks=TORCH)
    yield sick(fault, "lost-row", "mlp-spirals", prepare=data.lost_row(0.1), frameworks=CHAINRULE)
    yield sick(fault, "permuted", "transformer-digits-patches", prepare=data.shuffled, frameworks=CHAINRULE)
    yield sick(fault, "permuted", "mlp-imbalanced", prepare=data.shuffled, frameworks=TORCH)
    yield sick(fault, "sorted", "lstm-waves", prepare=data.sorted_targets, frameworks=TORCH)


def _ill_conditioned() -> Iterator[Sickness]:
    fault = "ill-conditioned"
    # Features of very different scales make the loss ill-conditioned because they are not scaled.
    unscaled = ("unscaled-input",)
    yield sick(fault, "scales", "mlp-overlapping", prepare=data.scales(1e-3, 5.0), accepted=unscaled)
    yield sick(
        fault, "scales", "mlp-regression-arm", prepare=data.scales(1e-3, 10.0), accepted=unscaled, frameworks=TORCH
    )
    yield sick(fault, "correlated", "mlp-regression-arm", prepare=data.correlated(0.995))
    yield sick(fault, "correlated", "mlp-overlapping", prepare=data.correlated(0.995), frameworks=CHAINRULE)
    # One layer far too large and the next too small: the function is the same, its curvature is not, and the layers'
    # first values are as wrong as the words say.
    yield sick(
        fault,
        "unbalanced-layers",
        "mlp-digits-leaky",
        adjust=weights.scaled({"2": 300.0, "4": 1 / 300}),
        layers=("2", "4"),
        accepted=("wrong-initialization",),
    )


def _cannot_overfit_batch() -> Iterator[Sickness]:
    """What data and decay do to it; networks that are not able to are in `plan`."""
    fault = "cannot-overfit-batch"
    yield sick(fault, "first-example", "cnn-waves", prepare=data.first_example, frameworks=CHAINRULE)
    yield sick(fault, "first-example", "mlp-ratings", prepare=data.first_example, frameworks=TORCH)
    yield sick(fault, "weight-decay", "mlp-digits-leaky", options={**NESTEROV, "weight_decay": 0.4})


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
