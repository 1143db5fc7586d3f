"""The networks whose training steps are timed: their sizes, the parameters they start from, and their data.

Parameters have the names and shapes they have in PyTorch, and so in chainrule: one `state_dict` starts all contenders.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from benchmarks.contenders import Float32


class Network(ABC):
    """A training step: forward, softmax cross-entropy, backward, plain SGD; all in float32.

    Attributes:
        batch: how many inputs there are in it, the same in every step.
        learning_rate: of SGD.
    """

    name: str
    batch: int
    learning_rate: float
    tolerance: ClassVar[float] = 1e-4
    results: ClassVar[int] = 50

    @property
    def vanishing(self) -> bool:
        """Whether gradients fall below the smallest normal float32."""
        return False

    @abstractmethod
    def state_dict(self) -> dict[str, Float32]:
        """The first parameters."""

    @abstractmethod
    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs, and the class of every row that the network makes of them."""


@dataclass(frozen=True)
class MLP(Network):
    """A ReLU network.

    Attributes:
        widths: units of the input, of each hidden layer, and of the output (the classes).
        batch: rows of the batch, the same one in every step.
        learning_rate: of SGD.
        near_identity: start hidden layers near the identity (Le, Jaitly, Hinton 2015, "A Simple Way to Initialize
            Recurrent Networks of Rectified Linear Units") and the last one small. Otherwise all start as `nn.Linear`
            does in PyTorch and here, evenly from ±1/√inputs; the gradients of a hundred such layers vanish below the
            smallest normal float32, and what a framework does with subnormal numbers is part of its time.
    """

    name: str
    widths: tuple[int, ...]
    batch: int
    learning_rate: float
    near_identity: bool = False

    kind: ClassVar[str] = "mlp"

    @property
    def vanishing(self) -> bool:
        """Whether gradients fall below the smallest normal float32."""
        return len(self.widths) > 50 and not self.near_identity

    @property
    def layers(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each layer."""
        return list(pairwise(self.widths))

    def parameters(self) -> list[tuple[Float32, Float32]]:
        """Weight (out, in) and bias (out,) of every layer."""
        rng = np.random.default_rng(0)
        pairs = []
        for fan_in, fan_out in self.layers:
            weight, bias = (_even(rng, fan_in, *shape) for shape in ((fan_out, fan_in), (fan_out,)))
            if self.near_identity:
                weight = np.eye(fan_in) + 0.01 * weight if fan_in == fan_out else 0.1 * weight
                bias = 0.01 * bias
            pairs.append((weight.astype(np.float32), bias.astype(np.float32)))
        return pairs

    def state_dict(self) -> dict[str, Float32]:
        """`parameters` under the names they have in a `Sequential` of linear layers with an activation in between."""
        return {
            f"{2 * place}.{name}": value
            for place, pair in enumerate(self.parameters())
            for name, value in zip(("weight", "bias"), pair, strict=True)
        }

    def data(self) -> tuple[Float32, np.ndarray]:
        """Inputs (batch, in) and class indices (batch,)."""
        rng = np.random.default_rng(1)
        inputs = rng.standard_normal((self.batch, self.widths[0])).astype(np.float32)
        return inputs, rng.integers(0, self.widths[-1], self.batch)


@dataclass(frozen=True)
class LSTM(Network):
    """One LSTM layer, and a linear layer that tells the class of every step.

    With a loss of every step, gradients do not vanish through time, however long that is.

    Attributes:
        steps: the length of the sequences.
        batch: how many of them there are.
        features: of a step's input.
        width: of the state.
    """

    name: str
    steps: int
    batch: int
    features: int
    width: int
    learning_rate: float = 2.0

    kind: ClassVar[str] = "lstm"
    classes: ClassVar[int] = 10

    def state_dict(self) -> dict[str, Float32]:
        """As `nn.LSTM` and `nn.Linear` start: evenly from ±1/√width."""
        rng = np.random.default_rng(0)
        gates = 4 * self.width
        shapes = {
            "lstm.weight_ih_l0": (gates, self.features),
            "lstm.weight_hh_l0": (gates, self.width),
            "lstm.bias_ih_l0": (gates,),
            "lstm.bias_hh_l0": (gates,),
            "head.weight": (self.classes, self.width),
            "head.bias": (self.classes,),
        }
        return {name: _even(rng, self.width, *shape).astype(np.float32) for name, shape in shapes.items()}

    def data(self) -> tuple[Float32, np.ndarray]:
        """Inputs (steps, batch, features) and class indices (steps·batch,)."""
        rng = np.random.default_rng(1)
        inputs = rng.standard_normal((self.steps, self.batch, self.features)).astype(np.float32)
        return inputs, rng.integers(0, self.classes, self.steps * self.batch)


@dataclass(frozen=True)
class CNN(Network):
    """Convolution, ReLU and pooling for every entry of `channels`, then a linear layer.

    Convolutions are 3×3 and keep the size of the picture, pooling takes the largest of 2×2.
    """

    name: str
    side: int
    channels: tuple[int, ...]
    batch: int
    learning_rate: float = 0.01

    kind: ClassVar[str] = "cnn"
    classes: ClassVar[int] = 10

    @property
    def convolutions(self) -> list[tuple[int, int]]:
        """Channels before and after each."""
        return list(pairwise((1, *self.channels)))

    @property
    def flat(self) -> int:
        """Numbers that are left of a picture before the linear layer."""
        return self.channels[-1] * (self.side >> len(self.channels)) ** 2

    def state_dict(self) -> dict[str, Float32]:
        """As `nn.Conv2d` and `nn.Linear` start; the names are those in a `Sequential`."""
        rng = np.random.default_rng(0)
        shapes: dict[str, tuple[int, ...]] = {
            f"{3 * place}": (after, before, 3, 3) for place, (before, after) in enumerate(self.convolutions)
        }
        shapes[f"{3 * len(self.channels) + 1}"] = (self.classes, self.flat)
        return {
            f"{place}.{name}": _even(rng, int(np.prod(shape[1:])), *part).astype(np.float32)
            for place, shape in shapes.items()
            for name, part in (("weight", shape), ("bias", shape[:1]))
        }

    def data(self) -> tuple[Float32, np.ndarray]:
        """Pictures (batch, 1, side, side) and class indices (batch,)."""
        rng = np.random.default_rng(1)
        pictures = rng.standard_normal((self.batch, 1, self.side, self.side)).astype(np.float32)
        return pictures, rng.integers(0, self.classes, self.batch)


@dataclass(frozen=True)
class GPT(Network):
    """Embeddings of tokens and places, causal transformer blocks with normalisation first, a linear layer at the end.

    Attributes:
        layers, width, heads: of the blocks, whose inner layer is four times as wide, with the exact GELU.
        tokens: the length of the texts.
        batch: how many of them there are.
    """

    name: str
    layers: int
    width: int
    heads: int
    tokens: int
    batch: int
    learning_rate: float = 0.1

    kind: ClassVar[str] = "gpt"
    vocabulary: ClassVar[int] = 65

    def state_dict(self) -> dict[str, Float32]:
        """Under the names of `nn.TransformerEncoder`, here "blocks"; linear layers as `nn.Linear`, embeddings N(0, 1).

        Normalisations start as ones and zeros.
        """
        rng = np.random.default_rng(0)
        tables = {"token.weight": self.vocabulary, "place.weight": self.tokens}
        parameters = {name: rng.standard_normal((rows, self.width)) for name, rows in tables.items()}
        for name, (fan_in, fan_out) in self._linear():
            weight, bias = f"{name}weight", f"{name}bias"
            parameters |= {weight: _even(rng, fan_in, fan_out, fan_in), bias: _even(rng, fan_in, fan_out)}
        for name in self._norms():
            parameters |= {f"{name}.weight": np.ones(self.width), f"{name}.bias": np.zeros(self.width)}
        return {name: value.astype(np.float32) for name, value in parameters.items()}

    def _linear(self) -> Iterator[tuple[str, tuple[int, int]]]:
        for layer in range(self.layers):
            block = f"blocks.layers.{layer}."
            yield f"{block}self_attn.in_proj_", (self.width, 3 * self.width)
            yield f"{block}self_attn.out_proj.", (self.width, self.width)
            yield f"{block}linear1.", (self.width, 4 * self.width)
            yield f"{block}linear2.", (4 * self.width, self.width)
        yield "head.", (self.width, self.vocabulary)

    def _norms(self) -> list[str]:
        return ["blocks.norm", *(f"blocks.layers.{layer}.norm{i}" for layer in range(self.layers) for i in (1, 2))]

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Tokens (batch, tokens) and the token that follows each (batch·tokens,)."""
        rng = np.random.default_rng(1)
        text = rng.integers(0, self.vocabulary, (self.batch, self.tokens + 1))
        return text[:, :-1].copy(), text[:, 1:].ravel()


def _even(rng: np.random.Generator, fan_in: int, *shape: int) -> np.ndarray:
    """Numbers from ±1/√fan_in, as PyTorch's and chainrule's linear layers start."""
    bound = 1 / np.sqrt(fan_in)
    return rng.uniform(-bound, bound, shape)
