"""Healthy settings: half of usual make, half odd for reasons that people have."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from clinic import networks as tuning_networks
from clinic.blind.layers import networks
from clinic.blind.layers.problems import (
    attributes,
    bags,
    census,
    denoised,
    digit_bytes,
    fraud,
    frequencies,
    parity,
    pulses,
    questions,
    sales,
    shapes,
    tides,
)
from clinic.frameworks import Framework
from clinic.healthy import MOMENTUM, binary_cross_entropy, stack
from clinic.problems import digit_images, digits, friedman
from clinic.setting import Loss, Setting, squared_error
from clinic.wider.healthy import NESTEROV
from clinic.wider.problems import images, spirals, standard_digits

# Losses -------------------------------------------------------------------------------------------------------------


def poisson(f: Framework) -> Loss:
    """The negative log likelihood of counts, of a rate above 0, but for a constant."""

    def loss(rate: Any, count: Any) -> Any:
        return (rate - f.tensor(count) * (rate + 1e-6).log()).mean()

    return loss


def brier(f: Framework) -> Loss:
    """The squared distance of probabilities to zeros and a one; Brier 1950."""

    def loss(probabilities: Any, target: Any) -> Any:
        wanted = np.eye(probabilities.shape[1], dtype=np.float32)[f.numpy(target)]
        return ((probabilities - f.tensor(wanted)) ** 2).sum(1).mean()

    return loss


# Schedules ----------------------------------------------------------------------------------------------------------


def long_warm_up(step: int) -> float:
    """From next to nothing, over half of the training."""
    return min(1.0, (step + 1) / 150)


SETTINGS = (
    # Of usual make
    Setting("mlp-attributes", attributes, stack(64, 32), 0.2, "SGD", MOMENTUM, binary_cross_entropy),
    Setting("mlp-census", census, networks.table, 0.005, loss=binary_cross_entropy, steps=300),
    Setting("mlp-questions", questions, networks.asked, 0.005, loss=binary_cross_entropy, steps=300),
    Setting("mlp-bags", bags, networks.bag_of_words, 0.02, "AdamW", steps=200),
    Setting("mlp-parity", parity, stack(32, 32, activation="Tanh"), 0.1, "SGD", NESTEROV, steps=300),
    Setting(
        "mlp-regression-plain", friedman, stack(48, 48, activation="SiLU"), 0.2, "SGD", loss=squared_error, steps=400
    ),
    Setting("mlp-digits-rezero", standard_digits, networks.rezero, 0.02, "SGD", MOMENTUM),
    Setting("mlp-digits-weight-norm", standard_digits, networks.weight_normed, 0.003),
    Setting("mlp-images-tied", images, networks.tied_autoencoder, 0.01, loss=squared_error, steps=300),
    Setting("cnn-shapes", shapes, networks.shape_cnn, 0.05, "SGD", MOMENTUM, batch_size=32, steps=250),
    Setting("cnn-pulses", pulses, networks.pulse_cnn, 0.003, "AdamW"),
    Setting("cnn-denoised", denoised, networks.convolutional_autoencoder, 0.005, loss=squared_error, steps=300),
    Setting("cnn-digits-branches", digit_images, networks.branches_cnn, 0.01),
    # Odd networks
    Setting("mlp-digits-highway", digits, networks.highway, 0.005),
    Setting("mlp-digits-dropped-blocks", digits, networks.dropped_blocks, 0.003, "AdamW"),
    Setting("mlp-images-codes", images, networks.binary_autoencoder, 0.005, loss=squared_error, steps=300),
    Setting("mlp-regression-tides", tides, networks.sines, 0.001, loss=squared_error, steps=400),
    Setting("mlp-spirals-experts", spirals, networks.experts, 0.02, steps=300),
    Setting(
        "cnn-shapes-deep",
        shapes,
        partial(networks.shape_cnn, depth=8, channels=8),
        0.1,
        "SGD",
        MOMENTUM,
        steps=250,
    ),
    Setting("cnn-digits-separable", digit_images, networks.separable_cnn, 0.01, "RMSprop"),
    # Odd data
    Setting("mlp-sales", sales, tuning_networks.ending_in("Softplus", 32, 32), 0.01, loss=poisson, steps=500),
    Setting("mlp-frequencies", frequencies, stack(), 100.0, "SGD", steps=300),
    Setting("mlp-fraud", fraud, stack(24, activation="GELU"), 0.01, loss=binary_cross_entropy),
    Setting("cnn-digits-bytes", digit_bytes, networks.bytes_cnn, 0.005, batch_size=24),
    # Odd training
    Setting(
        "mlp-digits-brier",
        digits,
        tuning_networks.ending_in("Softmax", 64, dim=1),
        0.01,
        loss=brier,
    ),
    Setting(
        "mlp-digits-single",
        standard_digits,
        stack(40, 40, 40, norm="LayerNorm", activation="ELU"),
        0.01,
        "SGD",
        batch_size=2,
        steps=800,
    ),
    Setting(
        "mlp-digits-slow-start",
        digits,
        stack(64, 64, activation="GELU"),
        0.01,
        "AdamW",
        schedule=long_warm_up,
        steps=300,
    ),
    Setting("mlp-digits-noisy-input", digits, networks.noisy_input, 0.005, steps=250),
)

HEALTHY = {setting.name: setting for setting in SETTINGS}
