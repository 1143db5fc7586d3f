"""Sick settings: data, learning rates and clipping that a healthy network cannot learn with."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain

from clinic.blind.layers import data, losses
from clinic.blind.layers.healthy import HEALTHY
from clinic.faults import data as tuning_data
from clinic.healthy import binary_cross_entropy
from clinic.setting import cross_entropy, trained
from clinic.sickness import CHAINRULE, TORCH, Sickness, spoiled

sick = partial(spoiled, HEALTHY)


def _learning_rate_too_high() -> Iterator[Sickness]:
    fault = "learning-rate-too-high"
    # Sums over examples and columns make the gradient, and with plain momentum the step, as many times longer.
    yield sick(fault, "sum-of-examples", "mlp-attributes", loss=losses.times(64 * 5, binary_cross_entropy))
    yield sick(fault, "x100", "cnn-denoised", lr=0.5)
    yield sick(fault, "x400", "mlp-census", lr=2.0, frameworks=TORCH)
    # The rate that is to come after a cautious start was given in percent.
    yield sick(
        fault,
        "after-warm-up",
        "mlp-digits-rezero",
        schedule=lambda step: 1.0 if step < 20 else 100.0,
        history=trained(20),
        frameworks=CHAINRULE,
    )
    yield sick(fault, "x300", "cnn-digits-branches", lr=3.0, frameworks=CHAINRULE)


def _learning_rate_too_low() -> Iterator[Sickness]:
    fault = "learning-rate-too-low"
    yield sick(fault, "1e-7", "mlp-questions", lr=1e-7)
    # Divided by the number of examples once more.
    yield sick(fault, "mean-of-mean", "cnn-shapes", loss=losses.times(1 / 1400, cross_entropy))
    yield sick(fault, "1e-6", "mlp-spirals-experts", lr=1e-6, frameworks=CHAINRULE)
    # A decay that was meant for epochs, taken at each step.
    yield sick(
        fault,
        "decayed-each-step",
        "cnn-pulses",
        schedule=lambda step: 0.5**step,
        history=trained(12),
        accepted=("slow-convergence",),
        frameworks=TORCH,
    )


def _oscillating_loss() -> Iterator[Sickness]:
    fault = "oscillating-loss"
    # A learning rate somewhat beyond 2/curvature, or one that momentum makes so, is too high: that is why it swings.
    high = ("learning-rate-too-high",)
    yield sick(fault, "beyond-stability", "mlp-parity", lr=3.0, accepted=high)
    yield sick(fault, "momentum-0.998", "mlp-attributes", options={"momentum": 0.998}, accepted=high)
    yield sick(fault, "momentum-0.999", "cnn-shapes", options={"momentum": 0.999}, accepted=high, frameworks=TORCH)
    yield sick(
        fault, "momentum-0.99", "mlp-digits-rezero", options={"momentum": 0.99}, accepted=high, frameworks=CHAINRULE
    )
    # A cycle whose tops throw away what was learned since the last one.
    yield sick(
        fault,
        "cycle",
        "mlp-attributes",
        schedule=lambda step: 20.0 if step % 10 == 9 else 1.0,
        accepted=high,
        frameworks=TORCH,
    )


def _slow_convergence() -> Iterator[Sickness]:
    fault = "slow-convergence"
    # "Slow" and "the steps are too short" are one thing where nothing but the step was changed, be it that another
    # optimiser makes it shorter at the same rate.
    low = ("learning-rate-too-low",)
    yield sick(fault, "rate-of-adam", "mlp-census", optimizer="SGD", accepted=low)
    yield sick(fault, "rate-of-adam", "mlp-images-tied", optimizer="SGD", accepted=low, frameworks=TORCH)
    yield sick(fault, "rate-of-adam", "cnn-pulses", optimizer="SGD", accepted=low, frameworks=CHAINRULE)
    yield sick(fault, "div-80", "cnn-denoised", lr=6e-5, accepted=low)
    # A usual rate where the inputs are tiny: one may say that it wants to be larger, or that they do.
    yield sick(fault, "usual-rate", "mlp-frequencies", lr=0.5, accepted=(*low, "unscaled-input"))


def _always_clipped() -> Iterator[Sickness]:
    fault = "always-clipped"
    yield sick(fault, "1e-3", "mlp-attributes", clip=1e-3)
    yield sick(fault, "2e-3", "cnn-shapes", clip=2e-3, frameworks=CHAINRULE)
    yield sick(fault, "1e-3", "mlp-regression-plain", clip=1e-3)
    yield sick(fault, "5e-5", "mlp-frequencies", clip=5e-5, frameworks=TORCH)


def _unscaled_input() -> Iterator[Sickness]:
    fault = "unscaled-input"
    # One feature in another unit is what makes directions of the loss so different, too.
    yield sick(
        fault, "salary-column", "mlp-census", prepare=data.column_scaled(5, 2e4, 5e4), accepted=("ill-conditioned",)
    )
    yield sick(fault, "minutes", "mlp-regression-tides", prepare=tuning_data.scaled(60.0))
    yield sick(fault, "converter", "cnn-pulses", prepare=tuning_data.scaled(50.0, 5000.0))
    yield sick(fault, "divided-twice", "mlp-attributes", prepare=tuning_data.scaled(1 / 255), frameworks=TORCH)
    yield sick(fault, "without-logarithm", "mlp-sales", prepare=data.exponentials(3.0), frameworks=CHAINRULE)
    yield sick(fault, "bytes", "cnn-denoised", prepare=tuning_data.scaled(255.0), frameworks=CHAINRULE)


def _shuffled_labels() -> Iterator[Sickness]:
    fault = "shuffled-labels"
    yield sick(fault, "reversed", "mlp-census", prepare=data.reversed_targets)
    yield sick(fault, "transposed", "cnn-shapes", prepare=data.transposed_targets(20))
    yield sick(fault, "late", "cnn-denoised", prepare=data.late_targets(64), frameworks=TORCH)
    yield sick(fault, "columns-by-themselves", "mlp-attributes", prepare=data.columns_by_themselves)
    yield sick(fault, "transposed", "mlp-sales", prepare=data.transposed_targets(25), frameworks=TORCH)
    yield sick(fault, "late", "mlp-bags", prepare=data.late_targets(1), frameworks=CHAINRULE)


def _ill_conditioned() -> Iterator[Sickness]:
    fault = "ill-conditioned"
    yield sick(fault, "running-sums", "mlp-regression-plain", prepare=data.running_sums)
    yield sick(fault, "blurred", "mlp-regression-plain", prepare=data.blurred(1.2), frameworks=TORCH)
    yield sick(fault, "blurred", "mlp-parity", prepare=data.blurred(2.0))
    yield sick(fault, "blurred", "mlp-digits-single", prepare=data.blurred(3.0))
    yield sick(fault, "common-part", "mlp-digits-rezero", prepare=data.with_common_part(8.0), frameworks=TORCH)
    yield sick(fault, "common-part", "mlp-parity", prepare=data.with_common_part(8.0), frameworks=CHAINRULE)


def _cannot_overfit_batch() -> Iterator[Sickness]:
    """What data and decay do to it; networks that are not able to are in `plan`."""
    fault = "cannot-overfit-batch"
    yield sick(fault, "cut-to-whole-numbers", "mlp-sales", prepare=data.cut_to_whole_numbers)
    yield sick(fault, "weight-decay", "mlp-bags", options={"weight_decay": 20.0})
    yield sick(fault, "weight-decay", "cnn-digits-branches", options={"weight_decay": 1.0}, frameworks=TORCH)


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
