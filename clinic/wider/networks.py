"""Healthy networks, written as those in `clinic.networks`."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from clinic.frameworks import Framework
from clinic.networks import stack
from clinic.problems import Problem

# Multilayer perceptrons ---------------------------------------------------------------------------------------------


def nested(f: Framework, problem: Problem) -> Any:
    """`Sequential`s with names inside of one another."""
    nn: Any = f.nn
    encoder = nn.Sequential()
    encoder.add_module("widen", nn.Sequential(nn.Linear(problem.features, 60), nn.Tanh()))
    encoder.add_module("narrow", nn.Sequential(nn.Linear(60, 20), nn.Tanh()))
    model = nn.Sequential()
    model.add_module("encoder", encoder)
    model.add_module("classifier", nn.Linear(20, problem.outputs))
    return model


def gated(f: Framework, problem: Problem, *, depth: int = 4, width: int = 32) -> Any:
    """Blocks x + W₃·(silu(W₁·n) ⊙ W₂·n), n = RMSNorm(x), as in Shazeer 2020, "GLU Variants Improve Transformer"."""
    nn: Any = f.nn
    return nn.Sequential(
        nn.Linear(problem.features, width),
        *[gated_block(f, width) for _ in range(depth)],
        nn.RMSNorm(width),
        nn.Linear(width, problem.outputs),
    )


def gated_block(f: Framework, width: int) -> Any:
    """A block of `gated`."""
    nn: Any = f.nn
    F = f.functional

    class GatedBlock(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.RMSNorm(width)
            self.gate = nn.Linear(width, 2 * width, bias=False)
            self.up = nn.Linear(width, 2 * width, bias=False)
            self.down = nn.Linear(2 * width, width, bias=False)

        def forward(self, x: Any) -> Any:
            normal = self.norm(x)
            return x + self.down(F.silu(self.gate(normal)) * self.up(normal))

    return GatedBlock()


def siamese(f: Framework, problem: Problem, *, detach: bool = False) -> Any:
    """Two inputs through one encoder, and what both are compared; with `detach`, cut off behind the encoder."""
    nn: Any = f.nn

    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = stack(f, problem, 48, activation="GELU")[:2]
            self.compare = nn.Sequential(nn.Linear(96, 32), nn.GELU(), nn.Linear(32, problem.outputs))

        def forward(self, x: Any) -> Any:
            first, second = self.encoder(x[:, 0]), self.encoder(x[:, 1])
            both = f.cat([first, second], 1)
            return self.compare(both.detach() if detach else both)

    return Siamese()


def autoencoder(f: Framework, problem: Problem, *widths: int, activation: str = "ReLU") -> Any:
    """Narrower and narrower to a code, and back to pixels between 0 and 1."""
    nn: Any = f.nn

    def layers(*sizes: int) -> list[Any]:
        return [
            module
            for fan_in, fan_out in pairwise(sizes)
            for module in (nn.Linear(fan_in, fan_out), getattr(nn, activation)())
        ]

    class Autoencoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = (problem.features, *widths)
            self.encoder = nn.Sequential(*layers(*sizes)[:-1])
            self.decoder = nn.Sequential(*layers(*sizes[:0:-1]), nn.Linear(sizes[1], sizes[0]), nn.Sigmoid())

        def forward(self, x: Any) -> Any:
            return self.decoder(self.encoder(x))

    return Autoencoder()


def bag_of_vectors(f: Framework, problem: Problem, *, vocabulary: int, width: int = 16, detach: bool = False) -> Any:
    """The mean of the vectors of all that is in a basket; with `detach`, the vectors are looked up behind its back."""
    nn: Any = f.nn

    class BagOfVectors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vectors = nn.Embedding(vocabulary, width)
            self.out = nn.Sequential(nn.Linear(width, 32), nn.ReLU(**f.inplace), nn.Linear(32, problem.outputs))

        def forward(self, x: Any) -> Any:
            vectors = self.vectors.weight.detach()[x] if detach else self.vectors(x)
            return self.out(vectors.mean(1))

    return BagOfVectors()


# Convolution --------------------------------------------------------------------------------------------------------


def group_norm_cnn(
    f: Framework, problem: Problem, *, depth: int = 3, channels: int = 16, norm: bool = True, gain: float | None = None
) -> Any:
    """Residual blocks x + conv(silu(norm(x))); kernels have the variance gain²/fan-in where a gain is given."""
    nn: Any = f.nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.GroupNorm(4, channels) if norm else nn.Identity()
            self.act = nn.SiLU()
            self.conv = nn.Conv2d(channels, channels, 3, padding=1)
            if gain is not None:
                nn.init.normal_(self.conv.weight, 0.0, gain / (9 * channels) ** 0.5)

        def forward(self, x: Any) -> Any:
            return x + self.conv(self.act(self.norm(x)))

    class GroupNormCNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(1, channels, 3, stride=2, padding=1)
            self.blocks = nn.Sequential(*[Block() for _ in range(depth)])
            self.norm = nn.GroupNorm(4, channels) if norm else nn.Identity()
            self.head = nn.Linear(channels * 16, problem.outputs)

        def forward(self, x: Any) -> Any:
            x = self.norm(self.blocks(self.stem(x)))
            return self.head(x.reshape(len(x), -1))

    return GroupNormCNN()


def strided_cnn(
    f: Framework, problem: Problem, *, channels: tuple[int, int, int] = (12, 24, 24), activation: str = "LeakyReLU"
) -> Any:
    """Strides instead of pooling, and the mean of each channel at the end; all in one `Sequential`."""
    nn: Any = f.nn
    act = getattr(nn, activation)
    first, second, third = channels
    return nn.Sequential(
        nn.Conv2d(1, first, 3, padding=1),
        act(),
        nn.Conv2d(first, second, 3, stride=2, padding=1),
        act(),
        nn.Conv2d(second, third, 3, padding=1),
        act(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * third, problem.outputs),
    )


def wave_cnn(f: Framework, problem: Problem) -> Any:
    """Dilated convolutions along time with batch normalisation, and the mean over time."""
    nn: Any = f.nn
    F = f.functional

    class WaveCNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv1d(1, 16, 5, padding=2)
            self.bn1 = nn.BatchNorm1d(16)
            self.conv2 = nn.Conv1d(16, 24, 5, padding=4, dilation=2)
            self.bn2 = nn.BatchNorm1d(24)
            self.head = nn.Linear(24, problem.outputs)

        def forward(self, x: Any) -> Any:
            x = F.elu(self.bn1(self.conv1(x.swapaxes(1, 2))))
            x = F.elu(self.bn2(self.conv2(x)))
            return self.head(x.mean(2))

    return WaveCNN()


def pooled_character_cnn(f: Framework, problem: Problem, *, vocabulary: int, width: int = 16) -> Any:
    """Pieces of three characters, and the largest value of each kernel along the text."""
    nn: Any = f.nn
    F = f.functional

    class PooledCharacterCNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(vocabulary, width)
            self.conv = nn.Conv1d(width, 48, 3, padding=1)
            self.hidden = nn.Linear(48 * 2, 32)
            self.out = nn.Linear(32, problem.outputs)

        def forward(self, x: Any) -> Any:
            x = F.gelu(self.conv(self.embed(x).swapaxes(1, 2)))
            x = F.max_pool1d(x, problem.features // 2)
            return self.out(F.gelu(self.hidden(x.reshape(len(x), -1))))

    return PooledCharacterCNN()


# Recurrence ---------------------------------------------------------------------------------------------------------


def averaged_recurrence(f: Framework, problem: Problem, *, kind: str, width: int = 24, layers: int = 1) -> Any:
    """A recurrent layer read in both directions, and the mean of what it says over time."""
    nn: Any = f.nn

    class AveragedRecurrence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = getattr(nn, kind)(problem.features, width, layers, batch_first=True, bidirectional=True)
            self.head = nn.Linear(2 * width, problem.outputs)

        def forward(self, x: Any) -> Any:
            outputs, _ = self.encoder(x)
            return self.head(outputs.mean(1))

    return AveragedRecurrence()


def unrolled_cell(f: Framework, problem: Problem, *, width: int = 32, normalize: bool = True) -> Any:
    """An LSTM cell called in a loop, its last state normalised; without `normalize` it is forgotten."""
    nn: Any = f.nn

    class UnrolledCell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTMCell(problem.features, width)
            self.norm = nn.LayerNorm(width)
            self.head = nn.Linear(width, problem.outputs)

        def forward(self, x: Any) -> Any:
            state: Any = None
            for step in range(x.shape[1]):
                state = self.cell(x[:, step], state)
            return self.head(self.norm(state[0]) if normalize else state[0])

    return UnrolledCell()


def writer(f: Framework, problem: Problem, *, kind: str, vocabulary: int, width: int = 32, tied: bool = False) -> Any:
    """A recurrent layer over characters that says one at each of its last steps, by the same vectors if `tied`."""
    nn: Any = f.nn
    steps = problem.targets.shape[1]

    class Writer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(vocabulary, width)
            self.rnn = getattr(nn, kind)(width, width, batch_first=True)
            self.out = nn.Linear(width, vocabulary)
            if tied:
                nn.init.normal_(self.embed.weight, 0.0, width**-0.5)
                self.out.weight = self.embed.weight

        def forward(self, x: Any) -> Any:
            outputs, _ = self.rnn(self.embed(x))
            return self.out(outputs[:, -steps:])

    return Writer()


# Attention ----------------------------------------------------------------------------------------------------------


def patch_transformer(f: Framework, problem: Problem, *, width: int = 32, layers: int = 2, dropout: float = 0.1) -> Any:
    """An encoder of the framework's own layers, read at a token of its own, as in Dosovitskiy et al. 2021."""
    nn: Any = f.nn
    steps = problem.inputs.shape[1]
    rng = np.random.default_rng(0)
    token, places = rng.normal(0, 0.02, (1, 1, width)), rng.normal(0, 0.02, (steps + 1, width))

    class PatchTransformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = nn.Linear(problem.features, width)
            self.token = f.parameter(token)
            self.places = f.parameter(places)
            layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout, batch_first=True, activation="gelu")
            self.encoder = nn.TransformerEncoder(layer, layers)
            self.head = nn.Linear(width, problem.outputs)

        def forward(self, x: Any) -> Any:
            tokens = self.token + f.tensor(np.zeros((len(x), 1, width), np.float32))
            x = f.cat([tokens, self.project(x)], 1) + self.places
            return self.head(self.encoder(x)[:, 0])

    return PatchTransformer()


def causal_transformer(
    f: Framework, problem: Problem, *, vocabulary: int, width: int = 32, layers: int = 2, tied: bool = True
) -> Any:
    """Attention to what was before and gated blocks; a character at each of the last steps, by the same vectors."""
    nn: Any = f.nn
    F = f.functional
    read, said = problem.features, problem.targets.shape[1]
    rng = np.random.default_rng(0)
    places = rng.normal(0, 0.1, (read, width))

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.RMSNorm(width)
            self.project = nn.Linear(width, 3 * width, bias=False)
            self.out = nn.Linear(width, width, bias=False)

        def forward(self, x: Any) -> Any:
            joint = self.project(self.norm(x))
            query, key, value = (joint[:, :, part * width : (part + 1) * width] for part in range(3))
            return x + self.out(F.scaled_dot_product_attention(query, key, value, is_causal=True))

    class CausalTransformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(vocabulary, width)
            self.places = f.parameter(places)
            self.blocks = nn.Sequential(*[part for _ in range(layers) for part in (Attention(), gated_block(f, width))])
            self.norm = nn.RMSNorm(width)
            self.out = nn.Linear(width, vocabulary, bias=False)
            nn.init.normal_(self.embed.weight, 0.0, width**-0.5)
            if tied:
                self.out.weight = self.embed.weight

        def forward(self, x: Any) -> Any:
            x = self.blocks(self.embed(x) + self.places)
            return self.out(self.norm(x[:, -said:]))

    return CausalTransformer()
