"""First values that are wrong. Each function gives what a `Setting` does to a new network.

Paths name the modules whose parameters are meant, with all below them; without any, the whole network is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from clinic.frameworks import Framework

Adjust = Callable[[Framework, Any], None]


def normal(std: float, *paths: str, mean: float = 0.0) -> Adjust:
    """Draw weights from one normal distribution, whatever their fan-in."""

    def adjust(f: Framework, model: Any) -> None:
        for weight in _weights(model, paths):
            f.nn.init.normal_(weight, mean, std)

    return adjust


def uniform(low: float, high: float, *paths: str) -> Adjust:
    """Draw weights from one uniform distribution."""

    def adjust(f: Framework, model: Any) -> None:
        for weight in _weights(model, paths):
            f.nn.init.uniform_(weight, low, high)

    return adjust


def constant(value: float, *paths: str, biases: bool = True) -> Adjust:
    """Give weights, and biases too, one value."""

    def adjust(f: Framework, model: Any) -> None:
        for weight in _weights(model, paths):
            f.nn.init.constant_(weight, value)
        for bias in _vectors(model, paths, "bias") if biases else ():
            f.nn.init.constant_(bias, 0.0)

    return adjust


def scaled(factors: Mapping[str, float]) -> Adjust:
    """Multiply the weights at each path by a factor."""

    def adjust(f: Framework, model: Any) -> None:
        for path, factor in factors.items():
            for weight in _weights(model, (path,)):
                f.set_values(weight, partial(np.multiply, factor))

    return adjust


def bias(value: float, *paths: str) -> Adjust:
    """Give biases one value."""

    def adjust(f: Framework, model: Any) -> None:
        for vector in _vectors(model, paths, "bias"):
            f.nn.init.constant_(vector, value)

    return adjust


def norm_scale(value: float, *paths: str) -> Adjust:
    """Give the scale of normalisations one value."""

    def adjust(f: Framework, model: Any) -> None:
        for vector in _vectors(model, paths, "weight"):
            f.nn.init.constant_(vector, value)

    return adjust


def momentum(value: float, *paths: str) -> Adjust:
    """Let batch normalisations' running statistics follow the batches this fast."""

    def adjust(f: Framework, model: Any) -> None:
        for module in _modules(model, paths):
            if hasattr(module, "running_mean"):
                module.momentum = value

    return adjust


def recurrence(gain: float) -> Adjust:
    """Make every gate's part of the recurrent matrix an orthogonal one times `gain`."""

    def adjust(f: Framework, model: Any) -> None:
        def orthogonal(weight: Any) -> Any:
            width = weight.shape[1]
            rng = np.random.default_rng(0)
            gates = [np.linalg.qr(rng.normal(size=(width, width)))[0] for _ in range(len(weight) // width)]
            return gain * np.concatenate(gates)

        f.set_values(model.rnn.weight_hh_l0, orthogonal)

    return adjust


def gate_bias(gate: int, value: float) -> Adjust:
    """Give one gate of an LSTM or GRU a bias."""

    def adjust(f: Framework, model: Any) -> None:
        width = model.rnn.hidden_size

        def changed(values: Any) -> Any:
            values[gate * width : (gate + 1) * width] = value
            return values

        f.set_values(model.rnn.bias_ih_l0, changed)

    return adjust


def both(*adjusts: Adjust) -> Adjust:
    """One after the other."""

    def adjust(f: Framework, model: Any) -> None:
        for one in adjusts:
            one(f, model)

    return adjust


def _modules(model: Any, paths: tuple[str, ...]) -> Iterator[Any]:
    """The modules at the paths and all below them."""
    for path, module in model.named_modules():
        if not paths or any(path == wanted or path.startswith(f"{wanted}.") for wanted in paths):
            yield module


def _weights(model: Any, paths: tuple[str, ...]) -> Iterator[Any]:
    """Matrices and kernels."""
    for module in _modules(model, paths):
        yield from (p for _, p in module.named_parameters(recurse=False) if p.ndim > 1)


def _vectors(model: Any, paths: tuple[str, ...], name: str) -> Iterator[Any]:
    """Biases, or the scales of normalisations."""
    for module in _modules(model, paths):
        yield from (p for key, p in module.named_parameters(recurse=False) if p.ndim == 1 and key.startswith(name))
