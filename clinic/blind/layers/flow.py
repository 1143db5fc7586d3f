"""Sick settings: values and gradients that do not go through, or grow, or are all alike."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain

from clinic.blind.layers import broken, networks
from clinic.blind.layers.healthy import HEALTHY
from clinic.faults import weights
from clinic.healthy import stack
from clinic.sickness import CHAINRULE, TORCH, Sickness, spoiled

sick = partial(spoiled, HEALTHY)

#: Weights of a deep plain stack that are too large or too small are why its gradient grows or fades.
_DRAWN = ("wrong-initialization",)


def _vanishing_gradient() -> Iterator[Sickness]:
    fault = "vanishing-gradient"
    yield sick(fault, "no-carry", "mlp-digits-highway", network=partial(networks.highway, carry=False))
    yield sick(
        fault,
        "short-rows",
        "mlp-digits-weight-norm",
        network=partial(networks.weight_normed, length=0.1),
        accepted=_DRAWN,
    )
    yield sick(
        fault,
        "sigmoid-9",
        "cnn-pulses",
        network=partial(broken.deep_pulse_cnn, depth=9, activation="Sigmoid"),
    )
    yield sick(
        fault, "sigmoid-9", "mlp-attributes", network=stack(*[32] * 9, activation="Sigmoid"), frameworks=CHAINRULE
    )


def _exploding_gradient() -> Iterator[Sickness]:
    fault = "exploding-gradient"
    yield sick(fault, "shortcut-doubled", "mlp-digits-rezero", network=partial(networks.rezero, shortcut=2.0))
    yield sick(
        fault,
        "long-rows",
        "mlp-digits-weight-norm",
        network=partial(networks.weight_normed, depth=8, length=8.0),
        accepted=_DRAWN,
    )
    yield sick(
        fault,
        "orthogonal-gain-4",
        "mlp-regression-plain",
        network=stack(*[48] * 8, activation="SiLU"),
        adjust=broken.orthogonal(4.0),
        accepted=_DRAWN,
    )

    yield sick(fault, "summed-windows", "cnn-denoised", network=broken.summed_windows)


def _dying_relu() -> Iterator[Sickness]:
    fault = "dying-relu"
    yield sick(fault, "norm-shift", "cnn-shapes", adjust=weights.bias(-6.0, "2.norm"), layers=("2.norm", "2.act"))
    yield sick(
        fault,
        "raw-mean-subtracted",
        "mlp-attributes",
        network=broken.between(lambda x: x - 8, stack(64, 32), after=3),
        layers=("3", "4"),
    )
    yield sick(fault, "after-raw-batches", "mlp-attributes", history=broken.after_raw_batches(8, 16.0, 1.0))
    # The weights' size is right, it is their sign that leaves nothing of pixels, which are never negative.
    yield sick(fault, "negative-weights", "mlp-questions", adjust=broken.negative("look"), layers=("look",))

    sales = HEALTHY["mlp-sales"]
    yield sick(
        fault,
        "relu-of-minus-square",
        sales.name,
        network=broken.between(lambda x: -(x**2), sales.network, after=3),
        layers=("3", "4"),
        frameworks=CHAINRULE,
    )


def _saturated_activation() -> Iterator[Sickness]:
    fault = "saturated-activation"
    yield sick(fault, "gates-shut", "mlp-questions", adjust=weights.bias(-12.0, "ask"), layers=("ask",))
    # Weights from 0 to 4 add up where pixels are never negative: drawn too large, and why the code is flat.
    yield sick(
        fault,
        "uniform-0-4",
        "mlp-images-codes",
        adjust=weights.uniform(0, 4, "encoder"),
        layers=("encoder", "encoder.0", "encoder.1"),
        accepted=_DRAWN,
    )
    yield sick(
        fault,
        "large-tied-weights",
        "mlp-images-tied",
        adjust=weights.normal(4.0),
        layers=("encode",),
        accepted=_DRAWN,
        frameworks=TORCH,
    )
    yield sick(
        fault,
        "tanh-bias",
        "mlp-parity",
        adjust=weights.bias(7.0, "0"),
        layers=("0", "1"),
        frameworks=CHAINRULE,
    )


def _wrong_initialization() -> Iterator[Sickness]:
    fault = "wrong-initialization"
    hidden = ("1", "1.linear", "2", "2.linear")
    yield sick(
        fault,
        "not-divided-by-pace",
        "mlp-regression-tides",
        adjust=weights.uniform(-((6 / 48) ** 0.5), (6 / 48) ** 0.5, "1", "2"),
        layers=hidden,
    )
    yield sick(
        fault,
        "wide-vectors",
        "mlp-census",
        adjust=weights.normal(30.0, "tables"),
        layers=("tables", "tables.0", "tables.1", "tables.2"),
    )
    yield sick(fault, "unit-normal", "cnn-denoised", adjust=weights.normal(1.0))
    yield sick(fault, "1e-3", "mlp-regression-plain", adjust=weights.normal(1e-3))


def _symmetric_initialization() -> Iterator[Sickness]:
    fault = "symmetric-initialization"
    yield sick(fault, "copied-units", "mlp-parity", adjust=broken.copies_of_first("0", "2"), layers=("0", "1", "2"))
    experts = tuple(f"experts.{place}" for place in range(6))
    yield sick(
        fault,
        "copied-experts",
        "mlp-spirals-experts",
        adjust=broken.one_expert,
        layers=("experts", *experts, "gate", "gate.2"),
    )
    yield sick(fault, "share-of-fan-in", "mlp-regression-plain", adjust=broken.share_of_fan_in)
    yield sick(
        fault,
        "box-kernels",
        "cnn-denoised",
        adjust=weights.constant(0.05),
        frameworks=CHAINRULE,
    )


def _missing_normalization() -> Iterator[Sickness]:
    fault = "missing-normalization"
    # A framework's default values are below what ReLU asks for: the signal fades for that reason, and because nothing
    # brings it back.
    fading = ("vanishing-gradient", "wrong-initialization")
    yield sick(
        fault,
        "deep-convolutions",
        "cnn-shapes-deep",
        network=partial(networks.shape_cnn, depth=8, channels=8, norm="none"),
        accepted=fading,
    )
    yield sick(
        fault,
        "deep-separable",
        "cnn-digits-separable",
        network=partial(networks.separable_cnn, more=6, norm=False),
        accepted=fading,
        frameworks=TORCH,
    )
    # What drifts forward grows backward as well: the same chain of Jacobians, named from its other end.
    yield sick(
        fault,
        "sum-of-blocks",
        "mlp-digits-dropped-blocks",
        network=broken.plain_sum,
        accepted=("exploding-gradient",),
    )
    yield sick(
        fault,
        "deep-stack",
        "mlp-digits-single",
        network=stack(*[40] * 14, activation="ELU"),
        accepted=fading,
        frameworks=TORCH,
    )


def _dead_batchnorm() -> Iterator[Sickness]:
    fault = "dead-batchnorm"
    norms = tuple(f"{place}.norm" for place in (0, 2, 3))
    yield sick(fault, "epsilon-1e5", "cnn-shapes", adjust=broken.epsilon(1e5), layers=norms)
    yield sick(
        fault,
        "one-for-all",
        "cnn-shapes-deep",
        network=partial(networks.shape_cnn, depth=8, channels=8, norm="one"),
        layers=("0.norm",),
    )
    yield sick(
        fault,
        "norm-of-one-pixel",
        "cnn-digits-separable",
        network=partial(networks.separable_cnn, late_norm=True),
        layers=("5",),
    )
    yield sick(
        fault,
        "norm-of-one-number",
        "mlp-census",
        network=partial(networks.table, norm_each=True),
        layers=("norm",),
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
        _dead_batchnorm(),
    )
)
