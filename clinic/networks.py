"""Healthy networks, written as their users write them: modules and functions, nested blocks, several heads.

Each function takes the framework and the problem and gives a new network with the framework's own first values.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from clinic.frameworks import Framework
from clinic.problems import ALPHABET, Problem

# Multilayer perceptrons ---------------------------------------------------------------------------------------------


def stack(
    f: Framework,
    problem: Problem,
    *widths: int,
    activation: str = "ReLU",
    norm: str | None = None,
    dropout: float = 0.0,
) -> Any:
    """Linear layers and activations one after the other in a `Sequential`, with normalisation or dropout in between."""
    nn: Any = f.nn
    modules = []
    inplace = f.inplace if activation == "ReLU" else {}
    for fan_in, fan_out in pairwise((problem.features, *widths)):
        modules += [nn.Linear(fan_in, fan_out)]
        modules += [getattr(nn, norm)(fan_out)] if norm else []
        modules += [getattr(nn, activation)(**inplace)]
        modules += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*modules, nn.Linear(widths[-1] if widths else problem.features, problem.outputs))


def ending_in(activation: str, *widths: int, hidden: str = "ReLU", **options: Any) -> Any:
    """A stack with an activation after its last layer."""

    def make(f: Framework, problem: Problem) -> Any:
        model = stack(f, problem, *widths, activation=hidden)
        return model.append(getattr(f.nn, activation)(**options))

    return make


def functional_mlp(f: Framework, problem: Problem, *, activation: str = "relu", width: int = 48) -> Any:
    """Two hidden layers whose activation is a function called in `forward`."""
    nn: Any = f.nn
    act = getattr(f.functional, activation)

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden1 = nn.Linear(problem.features, width)
            self.hidden2 = nn.Linear(width, width)
            self.out = nn.Linear(width, problem.outputs)

        def forward(self, x: Any) -> Any:
            x = act(self.hidden1(x))
            x = act(self.hidden2(x))
            return self.out(x)

    return Classifier()


def residual_mlp(
    f: Framework, problem: Problem, *, depth: int = 6, width: int = 32, norm: bool = True, near_identity: bool = False
) -> Any:
    """Blocks x + W₂·relu(W₁·norm(x)).

    Args:
        f: the framework.
        problem: the problem.
        depth: number of blocks.
        width: of all of them.
        norm: whether the blocks begin with a layer normalisation, and the head with another.
        near_identity: whether W₂ starts at zero, so that a block changes nothing at first.
    """
    nn: Any = f.nn
    F = f.functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(width) if norm else nn.Identity()
            self.fc1 = nn.Linear(width, width)
            self.fc2 = nn.Linear(width, width)
            if near_identity:
                nn.init.zeros_(self.fc2.weight)

        def forward(self, x: Any) -> Any:
            return x + self.fc2(F.relu(self.fc1(self.norm(x))))

    class ResidualMLP(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(problem.features, width)
            self.blocks = nn.ModuleList([Block() for _ in range(depth)])
            self.norm = nn.LayerNorm(width) if norm else nn.Identity()
            self.head = nn.Linear(width, problem.outputs)

        def forward(self, x: Any) -> Any:
            x = self.embed(x)
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x))

    return ResidualMLP()


def plain_residual(f: Framework, problem: Problem, *, depth: int, width: int = 32, scale: float = 1.0) -> Any:
    """Blocks x + scale·W₂·relu(W₁·x) with He's values and no normalisation.

    A scale of 1/√depth keeps the size of the sum; with 1, each block about doubles the variance.
    """
    nn: Any = f.nn
    F = f.functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = nn.Linear(width, width)
            self.fc2 = nn.Linear(width, width)
            nn.init.kaiming_normal_(self.fc1.weight, nonlinearity="relu")
            nn.init.kaiming_normal_(self.fc2.weight, nonlinearity="linear")

        def forward(self, x: Any) -> Any:
            return x + scale * self.fc2(F.relu(self.fc1(x)))

    class PlainResidual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(problem.features, width)
            self.blocks = nn.Sequential(*[Block() for _ in range(depth)])
            self.head = nn.Linear(width, problem.outputs)

        def forward(self, x: Any) -> Any:
            return self.head(self.blocks(self.embed(x)))

    return PlainResidual()


def two_heads(f: Framework, problem: Problem) -> Any:
    """A trunk with two heads, which gives a pair: the classes, and whether the class is odd."""
    nn: Any = f.nn

    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(nn.Linear(problem.features, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU())
            self.class_head = nn.Linear(48, problem.outputs)
            self.parity_head = nn.Linear(48, 2)

        def forward(self, x: Any) -> Any:
            x = self.trunk(x)
            return self.class_head(x), self.parity_head(x)

    return TwoHeads()


def shared_layer(
    f: Framework,
    problem: Problem,
    *,
    times: int = 3,
    width: int = 40,
    activation: str = "relu",
    gain: float | None = None,
) -> Any:
    """One hidden layer used several times; its weights have the variance gain²/fan-in where a gain is given."""
    nn: Any = f.nn
    act = getattr(f.functional, activation)

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(problem.features, width)
            self.again = nn.Linear(width, width)
            self.out = nn.Linear(width, problem.outputs)
            if gain is not None:
                nn.init.normal_(self.again.weight, 0.0, gain / width**0.5)

        def forward(self, x: Any) -> Any:
            x = act(self.first(x))
            for _ in range(times):
                x = act(self.again(x))
            return self.out(x)

    return Shared()


def frozen_features(f: Framework, problem: Problem) -> Any:
    """A first layer that is meant to stay as it is, a dropout, and a trained rest."""
    nn: Any = f.nn
    features = nn.Sequential(nn.Linear(problem.features, 128), nn.ReLU())
    features.requires_grad_(False)
    return nn.Sequential(features, nn.Dropout(0.1), nn.Linear(128, 32), nn.GELU(), nn.Linear(32, problem.outputs))


def with_input_norm(f: Framework, problem: Problem) -> Any:
    """A network that scales its inputs itself, so that they may be of any size."""
    nn: Any = f.nn
    return nn.Sequential(nn.BatchNorm1d(problem.features), *stack(f, problem, 48, 48))


def character_mlp(f: Framework, problem: Problem) -> Any:
    """The vectors of all characters side by side through one hidden layer."""
    nn: Any = f.nn
    F = f.functional

    class CharacterMLP(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(len(ALPHABET), 8)
            self.hidden = nn.Linear(8 * problem.features, 64)
            self.out = nn.Linear(64, problem.outputs)

        def forward(self, x: Any) -> Any:
            x = self.embed(x)
            x = F.relu(self.hidden(x.reshape(len(x), -1)))
            return self.out(x)

    return CharacterMLP()


# Convolution --------------------------------------------------------------------------------------------------------


def small_cnn(f: Framework, problem: Problem, *, activation: str = "relu") -> Any:
    """Two convolutions with pooling, activations and pooling as functions."""
    nn: Any = f.nn
    F = f.functional
    act = getattr(F, activation)

    class SmallCNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
            self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
            self.fc = nn.Linear(16 * 2 * 2, problem.outputs)

        def forward(self, x: Any) -> Any:
            x = F.max_pool2d(act(self.conv1(x)), 2)
            x = F.max_pool2d(act(self.conv2(x)), 2)
            return self.fc(x.reshape(len(x), -1))

    return SmallCNN()


def batch_norm_cnn(f: Framework, problem: Problem) -> Any:
    """Convolution, batch normalisation and ReLU twice, all of them modules, in nested `Sequential`s."""
    nn: Any = f.nn

    def block(channels_in: int, channels_out: int) -> Any:
        return nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(**f.inplace),
            nn.MaxPool2d(2),
        )

    return nn.Sequential(block(1, 8), block(8, 16), nn.Flatten(), nn.Linear(64, problem.outputs))


def residual_cnn(f: Framework, problem: Problem, *, channels: int = 12, blocks: int = 3) -> Any:
    """Residual blocks whose last normalisation starts at zero, as in Goyal et al. 2017, section 5.1."""
    nn: Any = f.nn
    F = f.functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(channels)
            self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(channels)
            nn.init.zeros_(self.bn2.weight)

        def forward(self, x: Any) -> Any:
            y = F.relu(self.bn1(self.conv1(x)))
            return F.relu(x + self.bn2(self.conv2(y)))

    class ResidualCNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(1, channels, 3, stride=2, padding=1)
            self.blocks = nn.Sequential(*[Block() for _ in range(blocks)])
            self.pool = nn.AdaptiveAvgPool2d((2, 2))
            self.head = nn.Linear(channels * 2 * 2, problem.outputs)

        def forward(self, x: Any) -> Any:
            x = self.pool(self.blocks(F.relu(self.stem(x))))
            return self.head(x.reshape(len(x), -1))

    return ResidualCNN()


def character_cnn(f: Framework, problem: Problem) -> Any:
    """Characters through two convolutions along the text."""
    nn: Any = f.nn
    F = f.functional

    class CharacterCNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(len(ALPHABET), 12)
            self.conv1 = nn.Conv1d(12, 32, 3)
            self.conv2 = nn.Conv1d(32, 32, 3)
            self.out = nn.Linear(32 * (problem.features - 4), problem.outputs)

        def forward(self, x: Any) -> Any:
            x = self.embed(x).swapaxes(1, 2)
            x = F.relu(self.conv2(F.relu(self.conv1(x))))
            return self.out(x.reshape(len(x), -1))

    return CharacterCNN()


def signal_cnn(f: Framework, problem: Problem) -> Any:
    """A wave through two convolutions along time."""
    nn: Any = f.nn

    class SignalCNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv1d(1, 12, 5, stride=2, padding=2),
                nn.ReLU(**f.inplace),
                nn.Conv1d(12, 16, 3, stride=2, padding=1),
                nn.ReLU(**f.inplace),
            )
            self.hidden = nn.Linear(16 * 6, 32)
            self.out = nn.Linear(32, problem.outputs)

        def forward(self, x: Any) -> Any:
            x = self.features(x.reshape(len(x), 1, 24))
            return self.out(f.functional.relu(self.hidden(x.reshape(len(x), -1))))

    return SignalCNN()


# Recurrence ---------------------------------------------------------------------------------------------------------


def recurrent(f: Framework, problem: Problem, *, kind: str, width: int = 32, layers: int = 1, **options: Any) -> Any:
    """A recurrent layer (`RNN`, `LSTM` or `GRU`) whose last output is read by a linear one."""
    nn: Any = f.nn

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = getattr(nn, kind)(problem.features, width, layers, batch_first=True, **options)
            self.out = nn.Linear(width * (1 + options.get("bidirectional", False)), problem.outputs)

        def forward(self, x: Any) -> Any:
            outputs, _ = self.rnn(x)
            return self.out(outputs[:, -1])

    return Recurrent()


def character_rnn(
    f: Framework, problem: Problem, *, kind: str, width: int = 40, layers: int = 1, **options: Any
) -> Any:
    """Characters as vectors through a recurrent layer."""
    nn: Any = f.nn

    class CharacterRNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(len(ALPHABET), 12)
            self.rnn = getattr(nn, kind)(12, width, layers, batch_first=True, **options)
            self.out = nn.Linear(width * (1 + options.get("bidirectional", False)), problem.outputs)

        def forward(self, x: Any) -> Any:
            outputs, _ = self.rnn(self.embed(x))
            return self.out(outputs[:, -1])

    return CharacterRNN()


# Attention ----------------------------------------------------------------------------------------------------------


def transformer(f: Framework, problem: Problem, *, width: int = 24, layers: int = 2, norm_first: bool = False) -> Any:
    """Encoder blocks over the steps of a sequence, read at their mean."""
    nn: Any = f.nn
    steps = problem.inputs.shape[1]
    places = np.random.default_rng(0).normal(0, 0.1, (steps, width))

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(problem.features, width)
            self.places = f.parameter(places)
            self.layers = nn.ModuleList(
                [
                    nn.TransformerEncoderLayer(width, 2, 2 * width, 0.0, batch_first=True, norm_first=norm_first)
                    for _ in range(layers)
                ]
            )
            self.norm = nn.LayerNorm(width)
            self.out = nn.Linear(width, problem.outputs)

        def forward(self, x: Any) -> Any:
            x = self.embed(x) + self.places
            for layer in self.layers:
                x = layer(x)
            return self.out(self.norm(x.mean(1)))

    return Transformer()


def character_transformer(
    f: Framework, problem: Problem, *, width: int = 24, layers: int = 2, earlier_only: bool = False
) -> Any:
    """Characters through blocks of hand-written attention, read at the last one.

    With `earlier_only` each looks at those before it: the first one has none, and its softmax is of nothing but −∞.
    """
    nn: Any = f.nn
    F = f.functional
    before = np.tri(problem.features, k=-1, dtype=bool)
    mask = np.where(before, 0.0, -np.inf).astype(np.float32)
    places = np.random.default_rng(0).normal(0, 0.1, (problem.features, width))

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Linear(width, width)
            self.key = nn.Linear(width, width)
            self.value = nn.Linear(width, width)
            self.out = nn.Linear(width, width)

        def forward(self, x: Any) -> Any:
            scores = self.query(x) @ self.key(x).swapaxes(1, 2) / width**0.5
            scores = scores + f.tensor(mask) if earlier_only else scores
            return self.out(F.softmax(scores, dim=-1) @ self.value(x))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1 = nn.LayerNorm(width)
            self.attention = Attention()
            self.norm2 = nn.LayerNorm(width)
            self.feed_forward = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

        def forward(self, x: Any) -> Any:
            x = x + self.attention(self.norm1(x))
            return x + self.feed_forward(self.norm2(x))

    class CharacterTransformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(len(ALPHABET), width)
            self.places = f.parameter(places)
            self.blocks = nn.Sequential(*[Block() for _ in range(layers)])
            self.norm = nn.LayerNorm(width)
            self.out = nn.Linear(width, problem.outputs)

        def forward(self, x: Any) -> Any:
            x = self.blocks(self.embed(x) + self.places)
            return self.out(self.norm(x[:, -1]))

    return CharacterTransformer()
