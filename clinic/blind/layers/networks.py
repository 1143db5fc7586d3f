"""Healthy networks, written as those in `clinic.networks`: tables, several inputs, gates, and convolutions.

What is left out or changed in the sick ones is an argument that says so.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from clinic.blind.layers.problems import LEVELS
from clinic.frameworks import Framework
from clinic.networks import stack
from clinic.problems import Problem

# Tables, words, several inputs --------------------------------------------------------------------------------------


def table(
    f: Framework, problem: Problem, *, width: int = 6, read: tuple[int, ...] = (0, 1, 2), norm_each: bool = False
) -> Any:
    """A vector for each kind, beside the measurements.

    Columns that are not `read` are left out; `norm_each` is to normalise each measurement by itself.
    """
    nn: Any = f.nn
    F = f.functional
    kinds = len(LEVELS)

    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tables = nn.ModuleList([nn.Embedding(level, width) for level in LEVELS])
            self.hidden = nn.Linear(problem.features - kinds + width * len(read), 48)
            self.norm = nn.LayerNorm(1) if norm_each else None
            self.out = nn.Linear(48, problem.outputs)

        def forward(self, x: Any) -> Any:
            numbers = f.numpy(x)[:, :kinds].astype(np.int64)
            vectors = [self.tables[column](f.array(numbers[:, column])) for column in read]
            measured = f.tensor(x[:, kinds:])
            if self.norm is not None:
                measured = self.norm(measured.reshape(len(x), -1, 1)).reshape(len(x), -1)
            return self.out(F.relu(self.hidden(f.cat([*vectors, measured], 1))))

    return Table()


def bag_of_words(f: Framework, problem: Problem, *, width: int = 24) -> Any:
    """The mean of the vectors of all words of a text, then tanh."""
    nn: Any = f.nn
    F = f.functional

    class BagOfWords(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vectors = nn.Linear(problem.features, width, bias=False)
            self.out = nn.Linear(width, problem.outputs)
            nn.init.normal_(self.vectors.weight, 0.0, 1.0)  # as an embedding's are

        def forward(self, counts: Any) -> Any:
            vectors = self.vectors(counts)
            return self.out(F.tanh(vectors / counts.sum(1).reshape(-1, 1)))

    return BagOfWords()


def asked(f: Framework, problem: Problem, *, width: int = 64, asks: bool = True, by_hand: bool = False) -> Any:
    """What is seen is let through gates that the question opens and shuts.

    Without `asks` nobody hears the question; `by_hand` is to reckon the gates in NumPy.

    Source: Dauphin et al. 2017, "Language Modeling with Gated Convolutional Networks", for the gate.
    """
    nn: Any = f.nn
    F = f.functional

    class Asked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.look = nn.Linear(64, width)
            self.ask = nn.Linear(problem.features - 64, width)
            self.compare = nn.Linear(width, 32)
            self.out = nn.Linear(32, problem.outputs)

        def forward(self, x: Any) -> Any:
            seen = F.relu(self.look(x[:, :64]))
            if asks:
                gates = F.sigmoid(self.ask(x[:, 64:]))
                seen = seen * (f.tensor(f.numpy(gates)) if by_hand else gates)
            return self.out(F.relu(self.compare(seen)))

    return Asked()


def experts(f: Framework, problem: Problem, *, count: int = 6, width: int = 2) -> Any:
    """A sum of small networks, weighed by a softmax.

    Source: Jacobs et al. 1991, "Adaptive Mixtures of Local Experts".
    """
    nn: Any = f.nn
    F = f.functional

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Sequential(nn.Linear(problem.features, 24), nn.Tanh(), nn.Linear(24, count))
            self.experts = nn.ModuleList([stack(f, problem, width, activation="Tanh") for _ in range(count)])

        def forward(self, x: Any) -> Any:
            weights = F.softmax(self.gate(x), dim=1)
            return sum(weights[:, place : place + 1] * expert(x) for place, expert in enumerate(self.experts))

    return Experts()


# Autoencoders -------------------------------------------------------------------------------------------------------


def tied_autoencoder(f: Framework, problem: Problem, *, width: int = 24, ending: str = "sigmoid") -> Any:
    """The decoder's matrix is the encoder's, transposed."""
    nn: Any = f.nn
    F = f.functional
    last: dict[str, Any] = {"dim": 1} if ending == "softmax" else {}

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode = nn.Linear(problem.features, width)
            self.bias = f.parameter(np.zeros(problem.features))

        def forward(self, x: Any) -> Any:
            code = F.tanh(self.encode(x))
            return getattr(F, ending)(code @ self.encode.weight + self.bias, **last)

    return Tied()


def binary_autoencoder(f: Framework, problem: Problem, *, width: int = 32, straight: bool = True) -> Any:
    """A code of zeros and ones, through which the gradient goes as if it were not rounded, if `straight`.

    Source: Bengio et al. 2013, "Estimating or Propagating Gradients Through Stochastic Neurons", section 4.
    """
    nn: Any = f.nn

    class Binary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(problem.features, width), nn.Sigmoid())
            self.decoder = nn.Sequential(nn.Linear(width, 48), nn.ReLU(**f.inplace), nn.Linear(48, problem.outputs))

        def forward(self, x: Any) -> Any:
            code = self.encoder(x)
            rounded = f.tensor(f.numpy(code).round())
            return self.decoder(code + (rounded - code).detach() if straight else rounded)

    return Binary()


def convolutional_autoencoder(f: Framework, problem: Problem, *, channels: int = 24, detach: bool = False) -> Any:
    """Strided convolutions down to two by two, and transposed ones back up; with `detach`, cut in the middle."""
    nn: Any = f.nn

    class Denoiser(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Sequential(
                nn.Conv2d(1, 12, 3, stride=2, padding=1), nn.GELU(), nn.Conv2d(12, channels, 3, stride=2, padding=1)
            )
            self.up = nn.Sequential(
                nn.GELU(), nn.ConvTranspose2d(channels, 12, 2, stride=2), nn.GELU(), nn.ConvTranspose2d(12, 1, 2, 2)
            )

        def forward(self, x: Any) -> Any:
            code = self.down(x)
            return self.up(code.detach() if detach else code)

    return Denoiser()


# Deep ones ----------------------------------------------------------------------------------------------------------


def highway(f: Framework, problem: Problem, *, depth: int = 8, width: int = 32, carry: bool = True) -> Any:
    """Layers t⊙relu(W·x) + (1 - t)⊙x whose gates t are mostly shut at first; without `carry`, the first part alone.

    Source: Srivastava et al. 2015, "Highway Networks".
    """
    nn: Any = f.nn
    F = f.functional

    class Highway(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.change = nn.Linear(width, width)
            self.gate = nn.Linear(width, width)
            nn.init.constant_(self.gate.bias, -2.0)

        def forward(self, x: Any) -> Any:
            gate = F.sigmoid(self.gate(x))
            changed = gate * F.relu(self.change(x))
            return changed + (1 - gate) * x if carry else changed

    return nn.Sequential(
        nn.Linear(problem.features, width),
        *[Highway() for _ in range(depth)],
        nn.Linear(width, problem.outputs),
    )


def dropped_blocks(f: Framework, problem: Problem, *, depth: int = 8, width: int = 32, p: float = 0.2) -> Any:
    """Blocks of which each example skips some as it trains.

    Source: Huang et al. 2016, "Deep Networks with Stochastic Depth".
    """
    nn: Any = f.nn
    F = f.functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(width)
            self.fc1 = nn.Linear(width, 2 * width)
            self.fc2 = nn.Linear(2 * width, width)

        def forward(self, x: Any) -> Any:
            kept = F.dropout(f.tensor(np.ones((len(x), 1), np.float32)), p, self.training)
            return x + kept * self.fc2(F.silu(self.fc1(self.norm(x))))

    return nn.Sequential(
        nn.Linear(problem.features, width),
        *[Block() for _ in range(depth)],
        nn.LayerNorm(width),
        nn.Linear(width, problem.outputs),
    )


def rezero(f: Framework, problem: Problem, *, depth: int = 12, width: int = 32, shortcut: float = 1.0) -> Any:
    """Blocks x + a·relu(W·x) without normalisation, a = 0 at first; the x may be multiplied by another `shortcut`.

    Source: Bachlechner et al. 2020, "ReZero is All You Need".
    """
    nn: Any = f.nn
    F = f.functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(width, width)
            self.scale = f.parameter(np.zeros(1))

        def forward(self, x: Any) -> Any:
            return shortcut * x + self.scale * F.relu(self.fc(x))

    class ReZero(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(problem.features, width)
            self.blocks = nn.ModuleList([Block() for _ in range(depth)])
            self.head = nn.Linear(width, problem.outputs)

        def forward(self, x: Any) -> Any:
            x = self.embed(x)
            for block in self.blocks:
                x = block(x)
            return self.head(x)

    return ReZero()


def weight_normed(f: Framework, problem: Problem, *, depth: int = 6, width: int = 40, length: float = 2**0.5) -> Any:
    """Layers whose rows have a direction and a length of their own.

    Source: Salimans & Kingma 2016, "Weight Normalization".
    """
    nn: Any = f.nn
    F = f.functional

    class WeightNorm(nn.Module):
        def __init__(self, fan_in: int, fan_out: int) -> None:
            super().__init__()
            self.direction = f.parameter(np.zeros((fan_out, fan_in)))
            self.length = f.parameter(np.full(fan_out, length))
            self.bias = f.parameter(np.zeros(fan_out))
            nn.init.normal_(self.direction)
            nn.init.uniform_(self.bias, -(fan_in**-0.5), fan_in**-0.5)

        def forward(self, x: Any) -> Any:
            scale = self.length / (self.direction**2).sum(1).sqrt()
            return F.linear(x, self.direction * scale.reshape(-1, 1), self.bias)

    layers = []
    for fan_in, fan_out in pairwise((problem.features, *[width] * depth)):
        layers += [WeightNorm(fan_in, fan_out), nn.ReLU(**f.inplace)]
    return nn.Sequential(*layers, nn.Linear(width, problem.outputs))


def sines(f: Framework, problem: Problem, *, width: int = 48, pace: float = 20.0) -> Any:
    """Sines of ω·(W·x), whose hidden weights are of size √(6/width)/ω.

    Source: Sitzmann et al. 2020, "Implicit Neural Representations with Periodic Activation Functions", section 3.2.
    """
    nn: Any = f.nn

    class Sine(nn.Module):
        def __init__(self, fan_in: int, bound: float) -> None:
            super().__init__()
            self.linear = nn.Linear(fan_in, width)
            nn.init.uniform_(self.linear.weight, -bound, bound)

        def forward(self, x: Any) -> Any:
            return (pace * self.linear(x)).sin()

    bound = (6 / width) ** 0.5 / pace
    return nn.Sequential(
        Sine(problem.features, 1 / problem.features),
        Sine(width, bound),
        Sine(width, bound),
        nn.Linear(width, problem.outputs),
    )


def noisy_input(f: Framework, problem: Problem, *, p: float = 0.4) -> Any:
    """Pixels go missing as it trains."""
    nn: Any = f.nn
    return nn.Sequential(nn.Dropout(p), *stack(f, problem, 128, activation="GELU"))


# Convolution --------------------------------------------------------------------------------------------------------


def shape_cnn(f: Framework, problem: Problem, *, depth: int = 3, channels: int = 12, norm: str = "each") -> Any:
    """Convolution, batch normalisation and ReLU several times; `norm` is for "each", "one" for all, or "none"."""
    nn: Any = f.nn
    shared = nn.BatchNorm2d(channels) if norm == "one" else None

    def normalization() -> Any:
        return shared or (nn.BatchNorm2d(channels) if norm == "each" else nn.Identity())

    class Block(nn.Module):
        def __init__(self, channels_in: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(channels_in, channels, 3, padding=1)
            self.norm = normalization()
            self.act = nn.ReLU(**f.inplace)

        def forward(self, x: Any) -> Any:
            return self.act(self.norm(self.conv(x)))

    first, *rest = (Block(channels if place else 1) for place in range(depth))
    return nn.Sequential(
        first,
        nn.MaxPool2d(2),
        *rest,
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * channels, problem.outputs),
    )


def separable_cnn(
    f: Framework, problem: Problem, *, channels: int = 16, more: int = 0, norm: bool = True, late_norm: bool = False
) -> Any:
    """Convolutions of each channel by itself and then across channels, twice and so many times `more`.

    With or without a `norm` after each; a `late_norm` comes behind the pooling.
    """
    nn: Any = f.nn

    class Separable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
            self.pointwise = nn.Conv2d(channels, channels, 1)
            self.norm = nn.GroupNorm(4, channels) if norm else nn.Identity()

        def forward(self, x: Any) -> Any:
            return f.functional.silu(self.norm(self.pointwise(self.depthwise(x))))

    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        Separable(),
        nn.MaxPool2d(2),
        Separable(),
        *[Separable() for _ in range(more)],
        nn.AdaptiveAvgPool2d(1 if late_norm else 2),
        *([nn.GroupNorm(channels, channels)] if late_norm else []),
        nn.Flatten(),
        nn.Linear((1 if late_norm else 4) * channels, problem.outputs),
    )


def branches_cnn(f: Framework, problem: Problem, *, twice: bool = False, pooled: bool = False) -> Any:
    """Kernels of three sizes side by side; the middle one `twice` instead of the last, or all of it `pooled` before.

    Source: Szegedy et al. 2015, "Going Deeper with Convolutions".
    """
    nn: Any = f.nn
    F = f.functional

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(1) if pooled else nn.Identity()
            self.one = nn.Conv2d(1, 4, 1)
            self.three = nn.Conv2d(1, 8, 3, padding=1)
            self.five = nn.Conv2d(1, 8, 5, padding=2)
            self.mix = nn.Conv2d(20, 16, 3, padding=1)
            self.head = nn.Linear(16 if pooled else 64, problem.outputs)

        def forward(self, x: Any) -> Any:
            x = self.pool(f.tensor(x))
            x = f.cat([self.one(x), self.three(x), self.three(x) if twice else self.five(x)], 1)
            x = F.leaky_relu(self.mix(F.leaky_relu(x)))
            return self.head((x if pooled else F.max_pool2d(x, 4)).reshape(len(x), -1))

    return Branches()


def pulse_cnn(f: Framework, problem: Problem, *, stride: int = 2, channels: int = 16) -> Any:
    """Convolutions along time; everything in one `Sequential`."""
    nn: Any = f.nn
    left = 48 // stride // 2
    return nn.Sequential(
        nn.Conv1d(2, channels, 7, stride=stride, padding=3),
        nn.ELU(),
        nn.Conv1d(channels, 16, 5, stride=2, padding=2),
        nn.ELU(),
        nn.Flatten(),
        nn.Linear(16 * left, 32),
        nn.ELU(),
        nn.Linear(32, problem.outputs),
    )


def bytes_cnn(f: Framework, problem: Problem) -> Any:
    """A network that scales its images itself."""
    nn: Any = f.nn
    return nn.Sequential(
        nn.BatchNorm2d(1),
        nn.Conv2d(1, 16, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(16, 24, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(96, problem.outputs),
    )
