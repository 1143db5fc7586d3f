"""Healthy settings for sequences: half of them usual, half odd for reasons that people have."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from clinic import networks as first_networks
from clinic.blind.sequences import networks
from clinic.blind.sequences.problems import (
    BRACKETS,
    SYMBOLS,
    adding,
    alarms,
    brackets,
    counts,
    forecasts,
    gestures,
    latch,
    one_hot_motifs,
    reversal,
    tags,
)
from clinic.frameworks import Framework
from clinic.healthy import MOMENTUM, binary_cross_entropy, open_forget_gate
from clinic.problems import digit_rows, digits_of_shape, text
from clinic.setting import Setting, squared_error, trained
from clinic.wider import networks as wider_networks
from clinic.wider.healthy import CHARACTERS, NESTEROV, each_step, huber, smoothed_cross_entropy
from clinic.wider.problems import sentences, waves

# First values and schedules -----------------------------------------------------------------------------------------


def identity_recurrence(f: Framework, model: Any) -> None:
    """A rectified state that is kept as it is, as in Le et al. 2015."""
    f.set_values(model.rnn.weight_hh_l0, lambda weight: np.eye(len(weight)))
    f.set_values(model.rnn.bias_ih_l0, np.zeros_like)
    f.set_values(model.rnn.bias_hh_l0, np.zeros_like)


def shut_update_gate(f: Framework, model: Any) -> None:
    """A GRU that begins by keeping 95% of its state in each step, as one wants it for long memories."""
    width = model.rnn.hidden_size

    def shut(bias: Any) -> Any:
        bias[width : 2 * width] = 3
        return bias

    f.set_values(model.rnn.bias_ih_l0, shut)


def frozen_vectors(f: Framework, model: Any) -> None:
    """Vectors that were learned elsewhere, and stay as they are."""
    model.embed.requires_grad_(False)


def long_warm_up(step: int) -> float:
    """The first half of the training comes ever nearer to the full rate, the rest falls by half."""
    return min(1.0, (step + 1) / 120) * 0.5 ** max(0.0, step / 120 - 1)


SETTINGS = (
    # Recurrence as usual
    Setting(
        "rnn-gestures",
        gestures,
        partial(networks.reader, kind="RNN", place="mean"),
        0.1,
        "SGD",
        MOMENTUM,
        clip=1.0,
        steps=300,
    ),
    Setting(
        "rnn-brackets",
        brackets,
        partial(networks.reader, kind="RNN", vocabulary=BRACKETS, layers=2, width=24),
        0.008,
        adjust=frozen_vectors,
        clip=1.0,
        steps=350,
    ),
    Setting(
        "rnn-forecasts", forecasts, networks.normalized_cell, 0.05, "SGD", MOMENTUM, squared_error, clip=2.0, steps=250
    ),
    Setting(
        "rnn-tags",
        tags,
        partial(networks.reader, kind="GRU", vocabulary=CHARACTERS, width=24, place="all", bidirectional=True),
        0.01,
        loss=each_step,
        batch_size=32,
        steps=250,
    ),
    Setting("rnn-digits-filtered", digit_rows, networks.convolution_first, 0.2, "SGD", MOMENTUM, steps=200),
    Setting(
        "lstm-adding",
        adding,
        partial(networks.reader, kind="LSTM"),
        0.02,
        loss=squared_error,
        adjust=open_forget_gate,
        clip=1.0,
        steps=400,
    ),
    Setting("lstm-gestures", gestures, networks.stacked_cells, 0.015, "AdamW", steps=140),
    Setting(
        "lstm-motifs",
        one_hot_motifs,
        partial(networks.reader, kind="LSTM", width=20, place="largest", bidirectional=True),
        0.02,
        loss=binary_cross_entropy,
        steps=250,
    ),
    # Recurrence that looks odd
    Setting(
        "rnn-latch",
        latch,
        partial(networks.reader, kind="RNN", nonlinearity="relu"),
        0.001,
        "RMSprop",
        adjust=identity_recurrence,
        clip=1.0,
        steps=300,
    ),
    Setting(
        "rnn-latch-gated",
        latch,
        partial(networks.reader, kind="GRU", width=20),
        0.01,
        adjust=shut_update_gate,
        steps=250,
    ),
    Setting("rnn-counts", counts, networks.leaky_recurrence, 0.01, loss=huber, steps=250),
    Setting("rnn-waves-stack", waves, networks.normalized_layers, 0.002, clip=0.5, batch_size=48, steps=300),
    Setting(
        "rnn-reversal",
        reversal,
        partial(networks.encoder_decoder, vocabulary=SYMBOLS),
        0.01,
        loss=each_step,
        steps=450,
    ),
    Setting(
        "lstm-alarms",
        alarms,
        partial(networks.reader, kind="LSTM", width=12, place="mean"),
        0.01,
        "AdamW",
        {"weight_decay": 0.3},
        batch_size=12,
        steps=300,
    ),
    Setting("lstm-forecasts", forecasts, networks.forecaster, 0.01, loss=squared_error, steps=200),
    Setting(
        "lstm-digits-small-batches",
        digit_rows,
        partial(first_networks.recurrent, kind="LSTM", width=40),
        0.1,
        "SGD",
        NESTEROV,
        clip=2.0,
        batch_size=6,
        steps=600,
    ),
    Setting(
        "lstm-text-fine-tuned",
        text,
        partial(first_networks.character_rnn, kind="LSTM"),
        2e-4,
        "AdamW",
        history=trained(300, lr=0.01),
        steps=60,
    ),
    # Attention as usual
    Setting(
        "transformer-alarms",
        alarms,
        partial(networks.encoder, width=16, dropout=0.1, activation="gelu"),
        0.003,
        batch_size=48,
        steps=200,
    ),
    Setting(
        "transformer-brackets",
        brackets,
        partial(networks.encoder, vocabulary=BRACKETS),
        0.005,
        "AdamW",
        steps=250,
    ),
    Setting(
        "transformer-reversal",
        reversal,
        partial(networks.attentive, vocabulary=SYMBOLS, last=4),
        0.005,
        loss=each_step,
        steps=250,
    ),
    Setting("transformer-gestures", gestures, networks.attentive, 0.05, "SGD", MOMENTUM, steps=250),
    Setting(
        "transformer-sentences",
        sentences,
        partial(wider_networks.causal_transformer, vocabulary=CHARACTERS, width=24, tied=False),
        0.005,
        loss=each_step,
        batch_size=32,
        steps=250,
    ),
    # Attention that looks odd
    Setting(
        "transformer-digits-dropped",
        digit_rows,
        partial(networks.attentive, depth=4, drop=0.3),
        0.005,
        "AdamW",
        {"weight_decay": 0.1},
        smoothed_cross_entropy,
        schedule=long_warm_up,
        steps=240,
    ),
    Setting(
        "transformer-digits-rezero", partial(digits_of_shape, 8, 8), partial(networks.rezero, depth=4), 0.005, steps=200
    ),
    Setting("transformer-latch", latch, networks.attention_pooling, 0.02, "SGD", NESTEROV, batch_size=48, steps=250),
    Setting(
        "transformer-adding",
        adding,
        partial(networks.attentive, width=16, place="mean"),
        0.005,
        loss=squared_error,
        clip=0.5,
        steps=300,
    ),
)

HEALTHY = {setting.name: setting for setting in SETTINGS}
