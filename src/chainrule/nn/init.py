"""Initialisers: fill a parameter with fresh numbers, in place, and return it. PyTorch's names and defaults.

All draws are made in float64 by the generator of `nn.random` and then rounded, so a float32 and a float64 network
of the same seed start from the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from chainrule.core.blank import Blank
from chainrule.core.tensor import Tensor
from chainrule.nn.parameter import _without_values
from chainrule.nn.random import generator

T = TypeVar("T", bound=Tensor)

_FIXED_GAINS = {"linear": 1.0, "identity": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """How much wider weights must be drawn to make up for what an activation takes away.

    Args:
        nonlinearity: "linear", "identity", "sigmoid" (1), "tanh" (5/3), "relu" (√2), "selu" (3/4) or "leaky_relu"
            (√(2/(1 + slope²))).
        param: the negative slope of "leaky_relu"; 0.01 if left out.

    Raises:
        ValueError: no gain is known for the activation.
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else float(param)
        return math.sqrt(2 / (1 + slope**2))
    if nonlinearity not in _FIXED_GAINS:
        known = ", ".join([*_FIXED_GAINS, "leaky_relu"])
        raise ValueError(f"calculate_gain: no gain is known for {nonlinearity!r}; known are {known}")
    return _FIXED_GAINS[nonlinearity]


# Given numbers ----------------------------------------------------------------------------------------------


def constant_(tensor: T, val: float) -> T:
    """Every element `val`."""
    return _fill(tensor, lambda: np.full(tensor.shape, val))


def zeros_(tensor: T) -> T:
    """Every element 0. For the weights of a hidden layer this is a trap: its units stay identical for ever."""
    return constant_(tensor, 0.0)


def ones_(tensor: T) -> T:
    """Every element 1."""
    return constant_(tensor, 1.0)


# Given distributions ----------------------------------------------------------------------------------------


def uniform_(tensor: T, a: float = 0.0, b: float = 1.0) -> T:
    """Elements drawn evenly from [a, b)."""
    return _fill(tensor, lambda: generator().uniform(a, b, tensor.shape))


def normal_(tensor: T, mean: float = 0.0, std: float = 1.0) -> T:
    """Elements drawn from a normal distribution."""
    return _fill(tensor, lambda: generator().normal(mean, std, tensor.shape))


# Variances that keep a signal's size from layer to layer ----------------------------------------------------
# A uniform distribution on [−b, b] has variance b²/3.


def xavier_uniform_(tensor: T, gain: float = 1.0) -> T:
    """Uniform with variance gain²·2/(fan_in + fan_out), for tanh and sigmoid.

    Source: Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks",
    equation 16.
    """
    bound = math.sqrt(3) * _xavier_std(tensor, gain)
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: T, gain: float = 1.0) -> T:
    """Normal with variance gain²·2/(fan_in + fan_out); see `xavier_uniform_`."""
    return normal_(tensor, 0.0, _xavier_std(tensor, gain))


def kaiming_uniform_(tensor: T, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> T:
    """Uniform with variance gain²/fan, for ReLU and its kin (2/fan_in with nonlinearity="relu").

    Args:
        tensor: weights of shape (out, in, ...).
        a: negative slope of a leaky ReLU.
        mode: "fan_in" keeps the size of the signal going forward, "fan_out" of the gradient coming back.
        nonlinearity: the activation after the layer, as in `calculate_gain`.

    Source: He et al. 2015, "Delving Deep into Rectifiers", equations 10 and 14.
    """
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor: T, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> T:
    """Normal with variance gain²/fan; see `kaiming_uniform_`."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity))


def orthogonal_(tensor: T, gain: float = 1.0) -> T:
    """A random matrix with orthonormal rows or columns (whichever are fewer), times `gain`.

    Axes after the first are taken together. Source: Saxe et al. 2013, "Exact solutions to the nonlinear dynamics of
    learning in deep linear neural networks".
    """
    _fans(tensor)
    rows = tensor.shape[0]
    columns = tensor.size // max(rows, 1)

    def draw() -> Any:
        q, r = np.linalg.qr(generator().normal(size=(max(rows, columns), min(rows, columns))))
        q = q * np.sign(np.diag(r))  # makes the distribution uniform (Mezzadri 2007, section 5)
        return gain * (q if rows >= columns else q.T).reshape(tensor.shape)

    return _fill(tensor, draw)


def _fans(tensor: Tensor) -> tuple[int, int]:
    """Fan in and fan out: how many inputs an output reads, and how many outputs an input feeds."""
    if tensor.ndim < 2:
        raise ValueError(f"fan in and fan out need weights of shape (out, in, ...), got shape {tensor.shape}")
    out_features, in_features, *window = tensor.shape
    return in_features * math.prod(window), out_features * math.prod(window)


def _xavier_std(tensor: Tensor, gain: float) -> float:
    return gain * math.sqrt(2 / max(sum(_fans(tensor)), 1))


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"kaiming: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    fan = _fans(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan, 1))


def _fill(tensor: T, values: Callable[[], Any]) -> T:
    if not isinstance(tensor._value, Blank):
        tensor.data = values()
    return tensor


# No numbers at all ------------------------------------------------------------------------------------------


@contextmanager
def without_values() -> Iterator[None]:
    """Parameters made inside have a shape and a dtype but no numbers, and need no memory.

        with nn.init.without_values():
            model = nn.Sequential(*[nn.Linear(12288, 12288) for _ in range(96)])
        cr.memory(model).estimate((32, 2048, 12288))

    Such a network can print itself, count its parameters and have its memory estimated; it cannot compute.
    """
    token = _without_values.set(True)
    try:
        yield
    finally:
        _without_values.reset(token)


# Chosen by name ---------------------------------------------------------------------------------------------


def _rectifier(nonlinearity: str) -> str:
    """The activation whose gain serves: smooth relatives of ReLU have none of their own."""
    return nonlinearity if nonlinearity in _FIXED_GAINS or nonlinearity == "leaky_relu" else "relu"


#: Initialisers of a weight by name, given the activation after it.
BY_NAME: dict[str, Callable[[Tensor, str], Tensor]] = {
    "xavier_uniform": lambda weight, activation: xavier_uniform_(weight),
    "xavier_normal": lambda weight, activation: xavier_normal_(weight),
    "kaiming_uniform": lambda weight, activation: kaiming_uniform_(weight, nonlinearity=_rectifier(activation)),
    "kaiming_normal": lambda weight, activation: kaiming_normal_(weight, nonlinearity=_rectifier(activation)),
    "orthogonal": lambda weight, activation: orthogonal_(weight, calculate_gain(_rectifier(activation))),
    "zeros": lambda weight, activation: zeros_(weight),
    "auto": lambda weight, activation: BY_NAME[
        "xavier_uniform" if activation in ("sigmoid", "tanh", "linear") else "kaiming_uniform"
    ](weight, activation),
}
