"""What is measured: `networks`, derivatives of the functions in `problems`, the numbers they start from.

Everything here is plain NumPy and depends on nothing but a seed, so every process makes the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from benchmarks import problems
from benchmarks.contenders import Float32, Float64
from benchmarks.networks import CNN, GPT, LSTM, MLP


@dataclass(frozen=True)
class Scalar:
    """The gradient of tanh(x)² + x at a float: what one call costs where there is next to nothing to compute."""

    name: str = "gradient of tanh(x)² + x"
    at: float = 1.0

    kind: ClassVar[str] = "scalar"
    tolerance: ClassVar[float] = 1e-4
    results: ClassVar[int] = 2


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


@dataclass(frozen=True)
class Derivative:
    """A derivative of a function of arrays, in float64.

    Attributes:
        wanted:
            "gradient": the value, and its gradient by every argument;
            "newton": gradient and diagonal of the Hessian, which is all there is of it, by the one argument;
            "blocks": the rows of the Jacobian of a bundle adjustment that are not zero.
        function: of an array namespace, the arguments and the constants.
        arguments: what is differentiated by.
        constants: what else the function takes.
        indices: arrays of integers that are part of the function, by keyword.
    """

    name: str
    wanted: str
    function: Callable[..., Any]
    arguments: Callable[[], tuple[Float64, ...]]
    constants: Callable[[], tuple[Float64, ...]] = tuple
    indices: Callable[[], dict[str, np.ndarray]] = dict

    kind: ClassVar[str] = "derivative"
    tolerance: ClassVar[float] = 1e-8
    results: ClassVar[int] = 2


@dataclass(frozen=True)
class Loop:
    """The value and the gradient of a function of a list of floats, a Python loop or recursion, in float64.

    Attributes:
        function: takes a sequence of numbers.
        arguments: the numbers.
        symbol: the name of the function in C++, see `contenders/c/scalar_loops.cpp`.
    """

    name: str
    function: Callable[[Any], Any]
    arguments: Callable[[], Float64]
    symbol: str

    kind: ClassVar[str] = "loop"
    tolerance: ClassVar[float] = 1e-8
    results: ClassVar[int] = 2


def _numbers(*shape: int, seed: int = 0) -> Float64:
    return np.random.default_rng(seed).standard_normal(shape)


def _mixture(components: int = 25, dimensions: int = 10) -> tuple[Float64, ...]:
    factors = 0.3 * _numbers(components, dimensions * (dimensions + 1) // 2, seed=2)
    return _numbers(components), _numbers(components, dimensions, seed=1), factors


def _mixture_constants(points: int = 1000, dimensions: int = 10) -> tuple[Float64, ...]:
    diagonal = np.eye(dimensions)
    return _numbers(points, dimensions, seed=3), np.tril(np.ones_like(diagonal), -1), diagonal


def _mixture_indices(dimensions: int = 10) -> dict[str, np.ndarray]:
    column, row = np.triu_indices(dimensions, 1)  # below the diagonal, column by column
    places = np.diag(np.arange(dimensions))
    places[row, column] = dimensions + np.arange(len(row))
    return {"places": places}


def _observations(cameras: int = 49, points: int = 7776, observations: int = 31843) -> tuple[Float64, ...]:
    """Camera, point and weight of each observation; the points lie in front of the cameras."""
    rng = np.random.default_rng(0)
    camera = np.column_stack(
        [
            0.1 * rng.standard_normal((cameras, 3)), 0.1 * rng.standard_normal((cameras, 3)),
            500 + 10 * rng.standard_normal(cameras), rng.standard_normal((cameras, 2)),
            0.01 * rng.standard_normal((cameras, 2)),
        ]
    )  # fmt: skip
    point = rng.standard_normal((points, 3)) + np.array([0, 0, 10])
    weight = rng.uniform(0.5, 1.5, observations)
    return camera[rng.integers(0, cameras, observations)], point[rng.integers(0, points, observations)], weight


MLPS = (
    MLP("MLP 2-16-16-2", (2, 16, 16, 2), batch=32, learning_rate=0.05),
    MLP("MLP 64-128-128-10", (64, 128, 128, 10), batch=64, learning_rate=0.05),
    MLP("MLP 784-512-512-10", (784, 512, 512, 10), batch=128, learning_rate=0.01),
    MLP("MLP 64, 100 layers of 64, 10", (64, *[64] * 100, 10), batch=64, learning_rate=0.01),
    MLP("the same, near the identity", (64, *[64] * 100, 10), batch=64, learning_rate=0.01, near_identity=True),
    MLP("MLP 1024-2048-2048-1024-10", (1024, 2048, 2048, 1024, 10), batch=256, learning_rate=0.01),
)
NETWORKS = (
    LSTM("LSTM, 64 steps, batch 32, 64→128", steps=64, batch=32, features=64, width=128),
    LSTM("LSTM, 256 steps, batch 16, 32→64", steps=256, batch=16, features=32, width=64),
    CNN("CNN 1×28×28, conv16-pool-conv32-pool-10, batch 64", side=28, channels=(16, 32), batch=64),
    GPT("GPT, 2 layers, width 128, 4 heads, 64 tokens, batch 8", layers=2, width=128, heads=4, tokens=64, batch=8),
)
SCALAR = Scalar()
DEEP = (
    Deep("50 layers of tanh", "tanh"),
    Deep("50 layers of batch norm and ReLU", "batch norm, ReLU"),
)
DERIVATIVES = (
    Derivative(
        "gradient of a log-sum-exp, n 640,000", "gradient", problems.log_sum_exp, lambda: (_numbers(640_000),)
    ),
    Derivative(
        "gradient of a Gaussian mixture, d 10, k 25, n 1000", "gradient", problems.gaussian_mixture,
        _mixture, _mixture_constants, _mixture_indices,
    ),
    Derivative(
        "Hessian diagonal of k-means, k 10, d 16, n 10,000", "newton", problems.k_means,
        lambda: (_numbers(10, 16),), lambda: (_numbers(10_000, 16, seed=1),),
    ),
    Derivative(
        "Jacobian of a bundle adjustment, 31,843 observations", "blocks", problems.reprojection,
        _observations, lambda: (100 * _numbers(31843, 2, seed=1),),
    ),
)  # fmt: skip
LOOPS = (
    Loop("7×7 determinant by minors", problems.determinant, lambda: _numbers(49), "determinant"),
    Loop(
        "100 Runge-Kutta steps of Lotka-Volterra", problems.lotka_volterra,
        lambda: np.array([1.5, 1.0, 3.0, 1.0]), "lotka_volterra",
    ),
)  # fmt: skip

Timed = MLP | LSTM | CNN | GPT | Scalar | Derivative | Loop
Case = Timed | Deep
CASES: dict[str, Case] = {case.name: case for case in (*MLPS, *NETWORKS, SCALAR, *DERIVATIVES, *LOOPS, *DEEP)}
