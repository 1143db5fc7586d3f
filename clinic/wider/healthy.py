"""Healthy settings: many look odd, for reasons that their users have."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from clinic import networks as tuning_networks
from clinic.frameworks import Framework
from clinic.healthy import MOMENTUM, binary_cross_entropy, open_forget_gate, orthogonal_recurrence, stack
from clinic.problems import ALPHABET, digit_images, digit_scan, digits, recall, signals
from clinic.setting import Loss, Setting, squared_error, trained
from clinic.wider import networks
from clinic.wider.problems import (
    GOODS,
    arm,
    baskets,
    clouds,
    copy,
    digit_columns,
    digit_patches,
    images,
    mislabelled_digits,
    moons,
    noisy,
    odd_digits,
    overlapping_clouds,
    pairs,
    rare_clouds,
    ratings,
    rings,
    scrambled,
    sentences,
    spirals,
    standard_digits,
    wave_pieces,
    waves,
)

NESTEROV = {"momentum": 0.9, "nesterov": True}
CHARACTERS = len(ALPHABET)

# Losses -------------------------------------------------------------------------------------------------------------


def smoothed_cross_entropy(f: Framework) -> Loss:
    """A tenth of the probability is spread over all classes, so that the loss never comes near zero."""
    return f.nn.CrossEntropyLoss(label_smoothing=0.1)


def balanced_cross_entropy(f: Framework) -> Loss:
    """Rare classes count more."""
    return f.nn.CrossEntropyLoss(weight=f.tensor(np.array([0.5, 1.5, 3.0], np.float32)))


def negative_log_likelihood(f: Framework) -> Loss:
    """Of log-probabilities."""
    return f.nn.NLLLoss()


def huber(f: Framework) -> Loss:
    """Squares near zero, absolute values farther off."""
    return f.nn.HuberLoss()


def each_step(f: Framework) -> Loss:
    """Cross-entropy over all steps of all examples."""

    def loss(output: Any, target: Any) -> Any:
        return f.functional.cross_entropy(output.reshape(-1, output.shape[-1]), target.reshape(-1))

    return loss


# First values and schedules -----------------------------------------------------------------------------------------


def zero_head(f: Framework, model: Any) -> None:
    """A last layer that says nothing at first."""
    f.nn.init.zeros_(model[-1].weight)
    f.nn.init.zeros_(model[-1].bias)


def pruned(f: Framework, model: Any) -> None:
    """Four in five weights of the first layer are gone."""
    kept = np.random.default_rng(40).uniform(size=model[0].weight.shape) < 0.2
    f.set_values(model[0].weight, lambda weight: weight * kept / 0.2**0.5)


def frozen_stem(f: Framework, model: Any) -> None:
    """A first layer that is meant to stay as it is."""
    model[0].requires_grad_(False)


def warm_up(step: int) -> float:
    """From a tenth in the first step to all in the thirtieth, then slowly down."""
    return min(1.0, 0.1 + step / 30) * 0.5 ** (step / 200)


def cosine(step: int) -> float:
    """Half a cosine over 250 steps, to a twentieth."""
    return 0.05 + 0.95 * 0.5 * (1 + float(np.cos(np.pi * min(step / 250, 1))))


SETTINGS = (
    # Of usual make, in other sizes
    Setting("mlp-digits-leaky", standard_digits, stack(96, 64, 32, activation="LeakyReLU"), 0.02, "SGD", NESTEROV),
    Setting("mlp-digits-wide", digits, stack(512, activation="GELU"), 0.002, "AdamW", {"weight_decay": 0.05}),
    Setting("mlp-digits-thin", digits, stack(*[16] * 4, activation="ELU"), 0.01, batch_size=32, steps=250),
    Setting("mlp-digits-silu", standard_digits, stack(40, 40, 40, activation="SiLU"), 0.005, "RMSprop"),
    Setting("mlp-blobs-nested", clouds, networks.nested, 0.1, "SGD", NESTEROV, batch_size=48),
    Setting(
        "mlp-circles-rings", rings, partial(tuning_networks.functional_mlp, activation="elu", width=20), 0.02, "AdamW"
    ),
    Setting("mlp-spirals", spirals, stack(64, 64, 64), 0.005, clip=0.3, batch_size=100, steps=300),
    Setting("mlp-regression-arm", arm, stack(64, 64, activation="Tanh"), 0.1, "SGD", MOMENTUM, huber, schedule=cosine),
    # Odd networks
    Setting(
        "mlp-digits-branches",
        digits,
        partial(tuning_networks.plain_residual, depth=24, width=40, scale=24**-0.5),
        0.001,
    ),
    Setting("mlp-digits-gated", digits, networks.gated, 0.004, "AdamW", loss=smoothed_cross_entropy, schedule=warm_up),
    Setting("mlp-digits-zero-head", digits, stack(64, 64, activation="SiLU"), 0.005, adjust=zero_head),
    Setting("mlp-digits-pruned", digits, stack(80, 40), 0.05, "SGD", NESTEROV, adjust=pruned, batch_size=96),
    Setting(
        "mlp-digits-log-softmax",
        digits,
        tuning_networks.ending_in("LogSoftmax", 56, hidden="Tanh", dim=1),
        0.2,
        "SGD",
        MOMENTUM,
        negative_log_likelihood,
    ),
    Setting("mlp-digits-narrow-batches", digits, stack(48, 48, norm="BatchNorm1d"), 0.002, batch_size=8, steps=300),
    Setting("mlp-digits-odd", odd_digits, stack(72, 24, dropout=0.2), 0.005, "AdamW", loss=binary_cross_entropy),
    Setting("mlp-pairs", pairs, networks.siamese, 0.01, loss=binary_cross_entropy, steps=300),
    Setting(
        "mlp-images",
        images,
        lambda f, problem: networks.autoencoder(f, problem, 32, 8),
        0.01,
        loss=squared_error,
        steps=300,
    ),
    Setting("mlp-baskets", baskets, partial(networks.bag_of_vectors, vocabulary=GOODS), 0.02, steps=300),
    # Odd data
    Setting(
        "mlp-digits-mislabelled", mislabelled_digits, stack(256, dropout=0.6), 0.003, "AdamW", {"weight_decay": 0.1}
    ),
    Setting("mlp-imbalanced", rare_clouds, stack(24, 24, activation="GELU"), 0.01, loss=balanced_cross_entropy),
    Setting("mlp-overlapping", overlapping_clouds, stack(32), 0.05, "SGD", MOMENTUM),
    Setting("mlp-moons", moons, stack(24, 24, activation="Tanh"), 0.3, "SGD", NESTEROV, binary_cross_entropy),
    Setting("mlp-noisy", noisy, stack(32, 16, activation="GELU"), 0.01, "AdamW", {"weight_decay": 0.2}, squared_error),
    Setting("mlp-ratings", ratings, stack(48, 24), 0.005, "RMSprop", loss=squared_error, batch_size=50),
    # Odd times to look
    Setting(
        "mlp-digits-converged", digits, stack(64, activation="Tanh"), 0.01, history=trained(400, lr=0.02), steps=50
    ),
    Setting(
        "mlp-spirals-fine-tuned",
        spirals,
        stack(48, 48, activation="SiLU"),
        1e-4,
        history=trained(250, lr=0.02),
        steps=100,
    ),
    # Images
    Setting("cnn-digits-group-norm", digit_images, networks.group_norm_cnn, 0.01, "SGD", NESTEROV, batch_size=32),
    Setting("cnn-digits-strided", digit_images, networks.strided_cnn, 0.003, "RMSprop", batch_size=48),
    Setting(
        "cnn-digits-frozen-stem",
        digit_images,
        networks.strided_cnn,
        0.05,
        "SGD",
        NESTEROV,
        adjust=frozen_stem,
        steps=250,
    ),
    Setting("cnn-waves", waves, networks.wave_cnn, 0.005, "AdamW", batch_size=16, steps=250),
    Setting(
        "cnn-scrambled",
        scrambled,
        partial(networks.pooled_character_cnn, vocabulary=CHARACTERS),
        0.005,
        loss=binary_cross_entropy,
        steps=300,
    ),
    # Sequences
    Setting("rnn-digits-columns", digit_columns, partial(networks.averaged_recurrence, kind="GRU"), 0.01, clip=1.0),
    Setting(
        "rnn-digits-steps",
        digit_scan,
        partial(tuning_networks.recurrent, kind="RNN", width=40),
        0.003,
        "RMSprop",
        adjust=orthogonal_recurrence,
        clip=2.0,
        steps=300,
    ),
    Setting(
        "rnn-waves",
        waves,
        partial(tuning_networks.recurrent, kind="GRU", width=24, layers=2, dropout=0.1),
        0.01,
        clip=1.0,
    ),
    Setting(
        "rnn-copy",
        copy,
        partial(networks.writer, kind="GRU", vocabulary=6, width=48),
        0.01,
        loss=each_step,
        clip=1.0,
        steps=300,
    ),
    Setting("lstm-waves", waves, partial(networks.averaged_recurrence, kind="LSTM", width=16), 0.02, steps=250),
    Setting("lstm-regression-cell", signals, networks.unrolled_cell, 0.01, "AdamW", loss=squared_error, steps=180),
    Setting(
        "lstm-text-writer",
        sentences,
        partial(networks.writer, kind="LSTM", vocabulary=CHARACTERS, width=48, tied=True),
        0.01,
        loss=each_step,
        batch_size=32,
        steps=250,
    ),
    Setting(
        "lstm-text-first",
        recall,
        partial(tuning_networks.character_rnn, kind="LSTM", width=28),
        0.015,
        "AdamW",
        adjust=open_forget_gate,
        clip=2.0,
        steps=300,
    ),
    Setting("transformer-digits-patches", digit_patches, networks.patch_transformer, 0.003, "AdamW"),
    Setting(
        "transformer-text-writer",
        sentences,
        partial(networks.causal_transformer, vocabulary=CHARACTERS),
        0.005,
        "AdamW",
        loss=each_step,
        batch_size=32,
        steps=250,
    ),
    Setting(
        "transformer-copy",
        copy,
        partial(networks.causal_transformer, vocabulary=6, width=24),
        0.005,
        loss=each_step,
        steps=250,
    ),
    Setting(
        "transformer-waves",
        wave_pieces,
        partial(networks.patch_transformer, width=24, dropout=0.0),
        0.004,
        batch_size=48,
        steps=250,
        schedule=warm_up,
    ),
)

HEALTHY = {setting.name: setting for setting in SETTINGS}
