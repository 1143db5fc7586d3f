"""The healthy settings. Some look odd and are fine: frozen, shared, clipped, zero at first, or fed raw inputs."""

from __future__ import annotations

from functools import partial
from typing import Any

from clinic import networks
from clinic.frameworks import Framework
from clinic.problems import (
    Problem,
    binary_circles,
    blobs,
    circles,
    digit_images,
    digit_rows,
    digit_scan,
    digits,
    friedman,
    recall,
    signals,
    text,
)
from clinic.setting import Loss, Setting, squared_error

MOMENTUM = {"momentum": 0.9}


def stack(*widths: int, **options: Any) -> Any:
    """`networks.stack` of these widths, still to be given framework and problem."""

    def make(f: Framework, problem: Problem) -> Any:
        return networks.stack(f, problem, *widths, **options)

    return make


def binary_cross_entropy(f: Framework) -> Loss:
    """The loss of a classifier with one output."""
    return f.nn.BCEWithLogitsLoss()


def both_heads(f: Framework) -> Loss:
    """The class counts most, its parity a little."""

    def loss(output: Any, target: Any) -> Any:
        classes, parity = output
        cross_entropy = f.functional.cross_entropy
        return cross_entropy(classes, target) + 0.3 * cross_entropy(parity, target % 2)

    return loss


def orthogonal_recurrence(f: Framework, model: Any) -> None:
    """Each recurrent matrix keeps the size of the state, as in Le et al. 2015 and Saxe et al. 2013."""
    f.nn.init.orthogonal_(model.rnn.weight_hh_l0)


def near_linear_recurrence(f: Framework, model: Any) -> None:
    """The same with a small input, so that tanh is in its linear part and the state lasts."""
    orthogonal_recurrence(f, model)
    f.set_values(model.rnn.weight_ih_l0, lambda weight: 0.3 * weight)


def open_forget_gate(f: Framework, model: Any) -> None:
    """A forget gate's bias of 2 or so, as in Jozefowicz et al. 2015."""
    width = model.rnn.hidden_size

    def opened(bias: Any) -> Any:
        bias[width : 2 * width] = 2
        return bias

    f.set_values(model.rnn.bias_ih_l0, opened)


def to_bytes(problem: Problem, _: Any) -> Problem:
    """Pixels from 0 to 255, as they are in image files."""
    return problem.with_inputs(lambda inputs: inputs * 255)


SETTINGS = (
    Setting("mlp-digits", digits, stack(48, 48), 0.1, "SGD", MOMENTUM),
    Setting("mlp-digits-tanh", digits, partial(networks.functional_mlp, activation="tanh"), 0.005),
    Setting("mlp-digits-functional", digits, networks.functional_mlp, 0.003),
    Setting("mlp-digits-deep", digits, stack(*[32] * 10, norm="BatchNorm1d"), 0.005),
    Setting("mlp-digits-residual", digits, networks.residual_mlp, 0.003, "AdamW"),
    Setting("mlp-digits-heads", digits, networks.two_heads, 0.005, loss=both_heads),
    Setting("mlp-digits-shared", digits, networks.shared_layer, 0.005),
    Setting("mlp-digits-frozen", digits, networks.frozen_features, 0.005),
    Setting("mlp-digits-raw", digits, networks.with_input_norm, 0.05, "SGD", MOMENTUM, prepare=to_bytes),
    Setting("mlp-digits-linear", digits, stack(), 0.5, "SGD", MOMENTUM),
    Setting("mlp-blobs", blobs, stack(32, 32), 0.05, "SGD", MOMENTUM),
    Setting("mlp-blobs-sigmoid", blobs, stack(32, activation="Sigmoid"), 0.03),
    Setting("mlp-blobs-functional", blobs, partial(networks.functional_mlp, width=24), 0.01, "RMSprop"),
    Setting("mlp-circles", circles, stack(32, 32, activation="Tanh"), 0.1, "SGD", MOMENTUM),
    Setting("mlp-circles-binary", binary_circles, stack(32, 32), 0.01, loss=binary_cross_entropy),
    Setting("mlp-circles-brief", binary_circles, stack(32, 32), 0.1, "SGD", MOMENTUM, binary_cross_entropy, steps=100),
    Setting("mlp-regression", friedman, stack(48, 48), 0.05, "SGD", MOMENTUM, loss=squared_error),
    Setting("mlp-regression-residual", friedman, networks.residual_mlp, 0.003, loss=squared_error, clip=5.0),
    Setting("mlp-text", text, networks.character_mlp, 0.01, steps=250),
    Setting("cnn-digits", digit_images, networks.small_cnn, 0.01),
    Setting("cnn-digits-sgd", digit_images, networks.small_cnn, 0.1, "SGD", MOMENTUM),
    Setting("cnn-digits-norm", digit_images, networks.batch_norm_cnn, 0.05, "SGD", MOMENTUM),
    Setting("cnn-digits-residual", digit_images, networks.residual_cnn, 0.01),
    Setting("cnn-text", text, networks.character_cnn, 0.005, steps=300),
    Setting("cnn-regression", signals, networks.signal_cnn, 0.005, loss=squared_error, steps=300),
    Setting("rnn-digits", digit_rows, partial(networks.recurrent, kind="RNN", width=48), 0.005, steps=300),
    Setting(
        "rnn-digits-scan",
        digit_scan,
        partial(networks.recurrent, kind="RNN", width=48),
        0.004,
        adjust=orthogonal_recurrence,
        clip=1.0,
        steps=300,
    ),
    Setting("rnn-text", text, partial(networks.character_rnn, kind="RNN"), 0.005, steps=300),
    Setting(
        "rnn-recall",
        recall,
        partial(networks.character_rnn, kind="RNN", width=64),
        0.005,
        adjust=near_linear_recurrence,
        clip=1.0,
        steps=300,
    ),
    Setting(
        "rnn-regression",
        signals,
        partial(networks.recurrent, kind="GRU"),
        0.01,
        loss=squared_error,
        steps=300,
        clip=1.0,
    ),
    Setting("lstm-digits", digit_rows, partial(networks.recurrent, kind="LSTM"), 0.01),
    Setting("lstm-digits-sgd", digit_rows, partial(networks.recurrent, kind="LSTM"), 0.5, "SGD", MOMENTUM, steps=300),
    Setting("lstm-text", text, partial(networks.character_rnn, kind="LSTM"), 0.01, steps=300),
    Setting(
        "lstm-recall",
        recall,
        partial(networks.character_rnn, kind="LSTM"),
        0.01,
        adjust=open_forget_gate,
        clip=1.0,
        steps=300,
    ),
    Setting(
        "lstm-regression",
        signals,
        partial(networks.recurrent, kind="LSTM"),
        0.01,
        loss=squared_error,
        steps=300,
        clip=1.0,
    ),
    Setting("transformer-digits", digit_rows, networks.transformer, 0.003),
    Setting(
        "transformer-digits-sgd", digit_rows, partial(networks.transformer, norm_first=True), 0.05, "SGD", MOMENTUM
    ),
    Setting("transformer-text", text, networks.character_transformer, 0.005, steps=300),
    Setting("transformer-regression", signals, networks.transformer, 0.003, loss=squared_error, steps=300),
)

HEALTHY = {setting.name: setting for setting in SETTINGS}
