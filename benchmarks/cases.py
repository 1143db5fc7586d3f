"""What is measured: networks, functions, the numbers they start from.

Everything here is plain NumPy and depends on nothing but a seed, so every process makes the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from benchmarks.contenders import Float32


@dataclass(frozen=True)
class MLP:
    """A training step of a ReLU network: forward, softmax cross-entropy, backward, plain SGD; all in float32.

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
    def layers(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each layer."""
        return list(pairwise(self.widths))

    def parameters(self) -> list[tuple[Float32, Float32]]:
        """Weight (out, in) and bias (out,) of every layer."""
        rng = np.random.default_rng(0)
        pairs = []
        for fan_in, fan_out in self.layers:
            bound = 1 / np.sqrt(fan_in)
            weight = rng.uniform(-bound, bound, (fan_out, fan_in))
            bias = rng.uniform(-bound, bound, fan_out)
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
class Scalar:
    """The gradient of tanh(x)² + x at a float: what one call costs where there is next to nothing to compute."""

    name: str = "gradient of tanh(x)² + x"
    at: float = 1.0

    kind: ClassVar[str] = "scalar"


@dataclass(frozen=True)
class Deep:
    """A deep network whose forward pass is run for what it keeps, in float32.

    Attributes:
        blocks: number of blocks, each a linear layer from `width` to `width` and what `block` names:
            "tanh", or "batch norm, ReLU" (in training mode).
        batch: rows of the batch.
    """

    name: str
    block: str
    blocks: int = 50
    width: int = 256
    batch: int = 256

    kind: ClassVar[str] = "memory"

    def inputs(self) -> Float32:
        """Shape (batch, width)."""
        return np.random.default_rng(1).standard_normal((self.batch, self.width)).astype(np.float32)


MLPS = (
    MLP("MLP 2-16-16-2", (2, 16, 16, 2), batch=32, learning_rate=0.05),
    MLP("MLP 64-128-128-10", (64, 128, 128, 10), batch=64, learning_rate=0.05),
    MLP("MLP 784-512-512-10", (784, 512, 512, 10), batch=128, learning_rate=0.01),
    MLP("MLP 64, 100 layers of 64, 10", (64, *[64] * 100, 10), batch=64, learning_rate=0.01),
    MLP("the same, near the identity", (64, *[64] * 100, 10), batch=64, learning_rate=0.01, near_identity=True),
    MLP("MLP 1024-2048-2048-1024-10", (1024, 2048, 2048, 1024, 10), batch=256, learning_rate=0.01),
)
SCALAR = Scalar()
DEEP = (
    Deep("50 layers of tanh", "tanh"),
    Deep("50 layers of batch norm and ReLU", "batch norm, ReLU"),
)

Case = MLP | Scalar | Deep
CASES: dict[str, Case] = {case.name: case for case in (*MLPS, SCALAR, *DEEP)}
