"""Healthy networks for sequences, written as those in `clinic.networks`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from clinic.frameworks import Framework
from clinic.problems import Problem

# Recurrence ---------------------------------------------------------------------------------------------------------


def read_at(f: Framework, outputs: Any, place: str) -> Any:
    """What is taken of a sequence's outputs (batch, steps, units): the last, the mean, the largest, or all."""
    if place == "largest":
        steps = outputs.shape[1]
        return f.functional.max_pool1d(outputs.swapaxes(1, 2), steps).reshape(len(outputs), -1)
    return {"last": lambda: outputs[:, -1], "mean": lambda: outputs.mean(1), "all": lambda: outputs}[place]()


def reader(
    f: Framework,
    problem: Problem,
    *,
    kind: str,
    width: int = 32,
    layers: int = 1,
    vocabulary: int | None = None,
    vectors: int = 12,
    place: str = "last",
    **options: Any,
) -> Any:
    """Tokens as vectors, or numbers, through a recurrent layer; read at a place of `read_at` by a linear layer."""
    nn: Any = f.nn
    directions = 2 if options.get("bidirectional") else 1

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(vocabulary, vectors) if vocabulary else nn.Identity()
            fan_in = vectors if vocabulary else problem.features
            self.rnn = getattr(nn, kind)(fan_in, width, layers, batch_first=True, **options)
            self.head = nn.Linear(directions * width, problem.outputs)

        def forward(self, x: Any) -> Any:
            outputs, _ = self.rnn(self.embed(x))
            return self.head(read_at(f, outputs, place))

    return Reader()


def leaky_recurrence(
    f: Framework, problem: Problem, *, width: int = 24, leak: float = 0.15, activation: str = "tanh"
) -> Any:
    """States that follow slowly, h ← (1 − a)·h + a·tanh(W·x + U·h), written as a loop over two linear layers.

    Source: Jaeger et al. 2007, "Optimization and applications of echo state networks with leaky-integrator neurons".
    """
    nn: Any = f.nn
    act: Callable[[Any], Any] = getattr(f.functional, activation) if activation != "linear" else lambda x: x

    class LeakyRecurrence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.read = nn.Linear(problem.features, width)
            self.recur = nn.Linear(width, width, bias=False)
            self.head = nn.Linear(width, problem.outputs)

        def forward(self, x: Any) -> Any:
            state: Any = f.tensor(np.zeros((len(x), width), np.float32))
            for step in range(x.shape[1]):
                state = (1 - leak) * state + leak * act(self.read(x[:, step]) + self.recur(state))
            return self.head(state)

    return LeakyRecurrence()


def normalized_cell(f: Framework, problem: Problem, *, width: int = 32) -> Any:
    """A GRU cell called in a loop; what it says at the end is normalised and goes through a hidden layer."""
    nn: Any = f.nn

    class NormalizedCell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(problem.features, width)
            self.norm = nn.LayerNorm(width)
            self.head = nn.Sequential(nn.Linear(width, 32), nn.ReLU(**f.inplace), nn.Linear(32, problem.outputs))

        def forward(self, x: Any) -> Any:
            state: Any = None
            for step in range(x.shape[1]):
                state = self.cell(x[:, step], state)
            return self.head(self.norm(state))

    return NormalizedCell()


def stacked_cells(f: Framework, problem: Problem, *, width: int = 24, dropout: float = 0.2) -> Any:
    """Two LSTM cells, the second of which reads the first one's states through a dropout."""
    nn: Any = f.nn

    class StackedCells(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lower = nn.LSTMCell(problem.features, width)
            self.upper = nn.LSTMCell(width, width)
            self.drop = nn.Dropout(dropout)
            self.head = nn.Linear(width, problem.outputs)

        def forward(self, x: Any) -> Any:
            low: Any = None
            high: Any = None
            for step in range(x.shape[1]):
                low = self.lower(x[:, step], low)
                high = self.upper(self.drop(low[0]), high)
            return self.head(high[0])

    return StackedCells()


def convolution_first(
    f: Framework,
    problem: Problem,
    *,
    channels: int = 24,
    depth: int = 1,
    norm: bool = True,
    activation: str = "ReLU",
    gain: float | None = None,
) -> Any:
    """Convolutions along time, each batch-normalised and rectified, in front of a GRU.

    Kernels have the variance gain²/fan-in where a gain is given.
    """
    nn: Any = f.nn
    width = 32
    body: list[Any] = []
    for place in range(depth):
        convolution = nn.Conv1d(channels if place else problem.features, channels, 3, padding=1)
        if gain is not None:
            nn.init.normal_(convolution.weight, 0.0, gain / (3 * convolution.in_channels) ** 0.5)
        body += [convolution]
        body += [nn.BatchNorm1d(channels)] if norm else []
        body += [getattr(nn, activation)(**(f.inplace if activation == "ReLU" else {}))]

    class ConvolutionFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(*body)
            self.rnn = nn.GRU(channels, width, batch_first=True)
            self.head = nn.Linear(width, problem.outputs)

        def forward(self, x: Any) -> Any:
            features = self.features(f.tensor(x).swapaxes(1, 2)).swapaxes(1, 2)
            outputs, _ = self.rnn(features)
            return self.head(outputs[:, -1])

    return ConvolutionFirst()


def forecaster(f: Framework, problem: Problem, *, width: int = 32) -> Any:
    """An LSTM that says how far the next values are from the last ones; at first it says: not at all."""
    nn: Any = f.nn

    class Forecaster(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(problem.features, width, batch_first=True)
            self.head = nn.Linear(width, problem.outputs)
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

        def forward(self, x: Any) -> Any:
            outputs, _ = self.rnn(x)
            return f.tensor(x)[:, -1][:, [0, 2]] + self.head(outputs[:, -1])

    return Forecaster()


def encoder_decoder(f: Framework, problem: Problem, *, vocabulary: int, width: int = 48, detach: bool = False) -> Any:
    """A GRU reads, and a cell that begins with its last state writes; with `detach`, the state is cut off between."""
    nn: Any = f.nn
    steps = problem.targets.shape[1]

    class EncoderDecoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(vocabulary, 16)
            self.encoder = nn.GRU(16, width, batch_first=True)
            self.decoder = nn.GRUCell(problem.outputs, width)
            self.out = nn.Linear(width, problem.outputs)

        def forward(self, x: Any) -> Any:
            outputs, _ = self.encoder(self.embed(x))
            state = outputs[:, -1].detach() if detach else outputs[:, -1]
            said: Any = f.tensor(np.zeros((len(x), problem.outputs), np.float32))
            written = []
            for _ in range(steps):
                state = self.decoder(said, state)
                said = self.out(state)
                written.append(said.reshape(len(x), 1, problem.outputs))
            return f.cat(written, 1)

    return EncoderDecoder()


def normalized_layers(
    f: Framework, problem: Problem, *, kind: str = "RNN", depth: int = 3, width: int = 32, norm: bool = True
) -> Any:
    """Recurrent layers one above the other with a layer normalisation after each."""
    nn: Any = f.nn

    class NormalizedLayers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(
                [
                    getattr(nn, kind)(width if place else problem.features, width, batch_first=True)
                    for place in range(depth)
                ]
            )
            self.norms = nn.ModuleList([nn.LayerNorm(width) if norm else nn.Identity() for _ in range(depth)])
            self.head = nn.Linear(width, problem.outputs)

        def forward(self, x: Any) -> Any:
            for place in range(depth):
                x, _ = self.layers[place](x)
                x = self.norms[place](x)
            return self.head(x[:, -1])

    return NormalizedLayers()


# Attention ----------------------------------------------------------------------------------------------------------


def places_of(steps: int, width: int) -> Any:
    """Sines and cosines of the place, as in Vaswani et al. 2017, section 3.5."""
    angle = np.arange(steps)[:, None] / 100 ** (np.arange(width // 2) * 2 / width)
    return np.stack([np.sin(angle), np.cos(angle)], 2).reshape(steps, width).astype(np.float32)


def attention(f: Framework, width: int, heads: int) -> Any:
    """Attention by hand: three projections without bias, heads as an axis of their own."""
    nn: Any = f.nn
    F = f.functional

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Linear(width, width, bias=False)
            self.key = nn.Linear(width, width, bias=False)
            self.value = nn.Linear(width, width, bias=False)
            self.out = nn.Linear(width, width)

        def forward(self, x: Any) -> Any:
            batch, steps, _ = x.shape

            def split(y: Any) -> Any:
                return y.reshape(batch, steps, heads, width // heads).swapaxes(1, 2)

            query, key, value = split(self.query(x)), split(self.key(x)), split(self.value(x))
            weights = F.softmax(query @ key.swapaxes(2, 3) / (width // heads) ** 0.5, dim=-1)
            return self.out((weights @ value).swapaxes(1, 2).reshape(batch, steps, width))

    return Attention()


def block(f: Framework, width: int, *, heads: int = 2, norm: bool = True, drop: float = 0.0, gain: float = 1.0) -> Any:
    """x + attention(norm(x)), and x + W₂·relu(W₁·norm(x)); each branch is left out now and then, example by example.

    Source: Huang et al. 2016, "Deep Networks with Stochastic Depth". With a gain, all weights are multiplied by it.
    """
    nn: Any = f.nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1 = nn.LayerNorm(width) if norm else nn.Identity()
            self.attention = attention(f, width, heads)
            self.norm2 = nn.LayerNorm(width) if norm else nn.Identity()
            self.feed_forward = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
            self.drop = nn.Dropout(drop)
            for weight in self.parameters() if gain != 1 else ():
                if weight.ndim > 1:
                    f.set_values(weight, lambda values: gain * values)

        def forward(self, x: Any) -> Any:
            kept = f.tensor(np.ones((len(x), 1, 1), np.float32))
            x = x + self.drop(kept) * self.attention(self.norm1(x))
            return x + self.drop(kept) * self.feed_forward(self.norm2(x))

    return Block()


def attentive(
    f: Framework,
    problem: Problem,
    *,
    vocabulary: int | None = None,
    width: int = 24,
    depth: int = 2,
    place: str = "mean",
    last: int | None = None,
    order: bool = True,
    norm: bool = True,
    **options: Any,
) -> Any:
    """Blocks of hand-written attention over tokens or numbers, read at a place of `read_at`, or in the last steps."""
    nn: Any = f.nn
    steps = problem.inputs.shape[1]
    places = places_of(steps, width) if order else np.zeros((steps, width), np.float32)

    class Attentive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(vocabulary, width) if vocabulary else nn.Linear(problem.features, width)
            self.blocks = nn.Sequential(*[block(f, width, norm=norm, **options) for _ in range(depth)])
            self.norm = nn.LayerNorm(width) if norm else nn.Identity()
            self.head = nn.Linear(width, problem.outputs)

        def forward(self, x: Any) -> Any:
            x = self.norm(self.blocks(self.embed(x) + f.tensor(places)))
            return self.head(x[:, -last:] if last else read_at(f, x, place))

    return Attentive()


def encoder(
    f: Framework,
    problem: Problem,
    *,
    vocabulary: int | None = None,
    width: int = 24,
    depth: int = 2,
    dropout: float = 0.0,
    place: str = "mean",
    **options: Any,
) -> Any:
    """The framework's own encoder over tokens or numbers."""
    nn: Any = f.nn
    places = places_of(problem.inputs.shape[1], width)

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(vocabulary, width) if vocabulary else nn.Linear(problem.features, width)
            layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout, batch_first=True, **options)
            self.encoder = nn.TransformerEncoder(layer, depth)
            self.head = nn.Linear(width, problem.outputs)

        def forward(self, x: Any) -> Any:
            x = self.encoder(self.embed(x) + f.tensor(places))
            return self.head(read_at(f, x, place))

    return Encoder()


def rezero(
    f: Framework, problem: Problem, *, depth: int = 6, width: int = 24, learned: bool = True, gain: float = 1.0
) -> Any:
    """Blocks x + α·branch(x) without normalisation whose α are learned and begin at zero; or α = 1 for good.

    Source: Bachlechner et al. 2021, "ReZero is All You Need".
    """
    nn: Any = f.nn
    F = f.functional
    places = places_of(problem.inputs.shape[1], width)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention(f, width, 2)
            self.fc1 = nn.Linear(width, 2 * width)
            self.fc2 = nn.Linear(2 * width, width)
            if learned:
                self.share = f.parameter(np.zeros(1))
            for weight in (self.fc1.weight, self.fc2.weight, self.attention.value.weight, self.attention.out.weight):
                nn.init.normal_(weight, 0.0, gain / weight.shape[1] ** 0.5)

        def forward(self, x: Any) -> Any:
            share = self.share if learned else 1.0
            x = x + share * self.attention(x)
            return x + share * self.fc2(F.gelu(self.fc1(x)))

    class ReZero(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(problem.features, width)
            self.blocks = nn.ModuleList([Block() for _ in range(depth)])
            self.head = nn.Linear(width, problem.outputs)

        def forward(self, x: Any) -> Any:
            x = self.embed(x) + f.tensor(places)
            for one in self.blocks:
                x = one(x)
            return self.head(x.mean(1))

    return ReZero()


def attention_pooling(f: Framework, problem: Problem, *, width: int = 24, queries: int = 2) -> Any:
    """A batch-normalised convolution along time, and a few learned questions that are asked of all steps."""
    nn: Any = f.nn
    F = f.functional
    asked = np.random.default_rng(0).normal(0, 0.2, (width, queries))

    class AttentionPooling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(problem.features, width, 5, padding=2, bias=False)
            self.bn = nn.BatchNorm1d(width)
            self.queries = f.parameter(asked)
            self.value = nn.Linear(width, width)
            self.hidden = nn.Linear(queries * width, 32)
            self.out = nn.Linear(32, problem.outputs)

        def forward(self, x: Any) -> Any:
            x = F.relu(self.bn(self.conv(f.tensor(x).swapaxes(1, 2)))).swapaxes(1, 2)
            weights = F.softmax(x @ self.queries, dim=1)
            x = (weights.swapaxes(1, 2) @ self.value(x)).reshape(len(x), -1)
            return self.out(F.relu(self.hidden(x)))

    return AttentionPooling()
