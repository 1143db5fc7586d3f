"""`MLP`: a multilayer perceptron from a few choices, what `chainrule train` builds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.nn import init as initialisers
from chainrule.nn.activations import ACTIVATIONS
from chainrule.nn.containers import Residual, Sequential
from chainrule.nn.dropout import Dropout
from chainrule.nn.linear import Linear
from chainrule.nn.module import Module
from chainrule.nn.normalization import BatchNorm1d, LayerNorm
from chainrule.nn.sizes import as_size
from chainrule.transforms.placement import MemoryBudget

NORMALIZATIONS: dict[str, Callable[..., Module]] = {"batch": BatchNorm1d, "layer": LayerNorm}


class MLP(Module):
    """Fully connected layers.

    Plain, every hidden layer is

        Linear, normalisation, activation, dropout

    and a last Linear makes the outputs. With `residual=True` the first hidden layer brings the input to the common
    width, and each further one is a block around which its input passes unchanged (pre-activation: He et al. 2016,
    "Identity Mappings in Deep Residual Networks"):

        x + Linear(dropout(activation(normalisation(x))))

    followed by one more normalisation and activation before the last Linear. With n blocks, the weights of each
    block's Linear are scaled by 1/√n at the start, so that the sum of n branches is as large as one and hundreds of
    layers train (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3).

    Args:
        in_features: length of the input's last axis.
        hidden: widths of the hidden layers, or one width for `depth` of them.
        out_features: length of the output's last axis.
        depth: number of hidden layers, where `hidden` is one width.
        activation: a name of `nn.activations.ACTIVATIONS`.
        norm: None, "batch" or "layer".
        residual: whether inputs pass around the hidden layers.
        init: how weights start, a name of `nn.init.BY_NAME`; biases start at zero then. "auto" is Xavier for sigmoid,
            tanh and linear, and He (Kaiming) for the ReLU family, both uniform. None leaves PyTorch's default.
        dropout: probability of dropping a hidden unit while training.
        checkpoint: where to put checkpoints among `layers`, as in `Sequential`.
        dtype: of the parameters.

    Attributes:
        layers: the `Sequential` that does the work.

    Raises:
        ValueError: a choice is not known, or with `residual` the widths differ.
    """

    def __init__(
        self,
        in_features: int,
        hidden: int | Sequence[int],
        out_features: int,
        *,
        depth: int | None = None,
        activation: str = "relu",
        norm: str | None = None,
        residual: bool = False,
        init: str | None = "auto",
        dropout: float = 0.0,
        checkpoint: str | int | MemoryBudget | None = None,
        dtype: Any = np.float32,
    ) -> None:
        widths = _widths(hidden, depth)
        if residual and len(set(widths)) > 1:
            raise ValueError(f"MLP: residual connections need hidden layers of one width, got {widths}")
        _check_choice("activation", activation, ACTIVATIONS)
        _check_choice("norm", norm, {None: None, **NORMALIZATIONS})
        _check_choice("init", init, {None: None, **initialisers.BY_NAME})

        def before(width: int) -> list[Module]:
            """What a signal of this width goes through before the next Linear."""
            parts = [NORMALIZATIONS[norm](width, dtype=dtype)] if norm else []
            parts.append(ACTIVATIONS[activation]())
            return [*parts, Dropout(dropout)] if dropout else parts

        layers: list[Module] = []
        width = in_features
        for place, next_width in enumerate(widths):
            linear = Linear(width, next_width, dtype=dtype)
            if init is not None:
                _initialise(linear, init, activation)
            if residual and place:
                linear.weight.data = linear.weight.data / math.sqrt(len(widths) - 1)
                layers.append(Residual(Sequential(*before(width), linear)))
            else:
                layers += [linear] if residual else [linear, *before(next_width)]
            width = next_width
        if residual and widths:
            layers += before(width)
        output = Linear(width, out_features, dtype=dtype)
        if init is not None:
            _initialise(output, init, "linear")
        self.layers = Sequential(*layers, output, checkpoint=checkpoint)

    def forward(self, x: Any) -> Any:
        return self.layers(x)


def _widths(hidden: int | Sequence[int], depth: int | None) -> list[int]:
    if isinstance(hidden, Sequence):
        if depth is not None and depth != len(hidden):
            raise ValueError(f"MLP: depth={depth} does not fit the {len(hidden)} widths {list(hidden)}; leave it out")
        return [as_size("MLP: a hidden width", width) for width in hidden]
    depth = 1 if depth is None else depth
    if depth < 0:
        raise ValueError(f"MLP: depth must not be negative, got {depth}")
    return [as_size("MLP: hidden", hidden)] * depth


def _check_choice(name: str, choice: Any, known: dict) -> None:
    if choice not in known:
        listed = ", ".join(map(repr, known))
        raise ValueError(f"MLP: {name}={choice!r} is not known; choose one of {listed}")


def _initialise(linear: Linear, init: str, activation: str) -> None:
    initialisers.BY_NAME[init](linear.weight, activation)
    if linear.bias is not None:
        initialisers.zeros_(linear.bias)
