"""Networks of any size, written as one writes them once the sizes are options.

The functions beside the builders tell the paths of a network's layers without making it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from clinic.frameworks import Framework
from clinic.problems import ALPHABET, Problem

#: A hidden layer's path, and those of the activation behind it if that is a module.
Paths = list[tuple[str, ...]]


def stack_paths(depth: int, *, norm: bool, dropout: bool) -> tuple[Paths, list[str], str]:
    """Of `clinic.networks.stack`: hidden layers, normalisations, and the last layer."""
    size = 2 + norm + dropout
    hidden: Paths = [(str(place * size), str(place * size + 1 + norm)) for place in range(depth)]
    return hidden, [str(place * size + 1) for place in range(depth)] if norm else [], str(depth * size)


def perceptron(
    f: Framework,
    problem: Problem,
    *,
    widths: Sequence[int],
    activation: str = "relu",
    dropout: float = 0.0,
    vector: int = 0,
    forgotten: int | None = None,
    slip: int | None = None,
    cut: tuple[int, str] | None = None,
) -> Any:
    """Hidden layers in a `ModuleList`, their activation a function called in `forward`.

    Args:
        f: the framework.
        problem: the problem.
        widths: of the hidden layers.
        activation: name of the function, or "identity" for none.
        dropout: the share that is dropped behind each hidden layer.
        vector: length of a character's vector where the inputs are characters, or 0.
        forgotten: a layer that is made and never called.
        slip: a layer that is called again where the next one was meant.
        cut: a layer whose output is cut off, and how: "detach", "numpy" or "no_grad".
    """
    nn: Any = f.nn
    act = getattr(f.functional, activation, lambda x: x)
    features = vector * problem.features if vector else problem.features

    class Perceptron(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            if vector:
                self.embed = nn.Embedding(len(ALPHABET), vector)
            self.hidden = nn.ModuleList([nn.Linear(*pair) for pair in pairwise((features, *widths))])
            self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
            self.out = nn.Linear(widths[-1], problem.outputs)

        def forward(self, x: Any) -> Any:
            if vector:
                x = self.embed(x).reshape(len(x), -1)
            for place in range(len(self.hidden)):
                if place == forgotten:
                    continue
                layer = self.hidden[place - 1 if slip is not None and place == slip + 1 else place]
                if cut == (place, "no_grad"):
                    with f.no_grad():
                        x = act(layer(x))
                    continue
                x = self.dropout(act(layer(x)))
                if cut == (place, "detach"):
                    x = x.detach()
                elif cut == (place, "numpy"):
                    x = f.tensor(f.numpy(x))
            return self.out(x)

    return Perceptron()


def perceptron_paths(depth: int) -> Paths:
    """Of the hidden layers of a `perceptron`."""
    return [(f"hidden.{place}",) for place in range(depth)]


def convolutions(
    f: Framework,
    problem: Problem,
    *,
    dimensions: int,
    channels: Sequence[int],
    activation: str = "ReLU",
    norm: bool = False,
    strided: bool = False,
    flat: bool = False,
    size: int = 8,
    cut: bool = False,
) -> Any:
    """Convolutions, of which the first two halve the size, and a linear layer.

    Args:
        f: the framework.
        problem: the problem.
        dimensions: 2 for images; 1 for waves, and for characters, which become vectors of 12 first.
        channels: of each convolution.
        activation: name of the module.
        norm: whether batch normalisations come before the activations.
        strided: whether strides halve the size, or pooling.
        flat: whether all is one `Sequential`.
        size: of the input.
        cut: whether the features are computed without recording.
    """
    nn: Any = f.nn
    characters = problem.inputs.dtype.kind == "i"
    convolution, normalisation, pool = (
        getattr(nn, f"{kind}{dimensions}d") for kind in ("Conv", "BatchNorm", "MaxPool")
    )
    body = []
    for place, (before, after) in enumerate(pairwise((12 if characters else 1, *channels))):
        halved = place < 2
        body += [convolution(before, after, 3, stride=2 if halved and strided else 1, padding=1)]
        body += [normalisation(after)] if norm else []
        body += [getattr(nn, activation)(**(f.inplace if activation == "ReLU" else {}))]
        body += [pool(2)] if halved and not strided else []
    head = nn.Linear(channels[-1] * (size // 4) ** dimensions, problem.outputs)
    if flat and not characters:
        return nn.Sequential(*body, nn.Flatten(), head)

    class Convolutions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            if characters:
                self.embed = nn.Embedding(len(ALPHABET), 12)
            self.features = nn.Sequential(*body)
            self.head = head

        def forward(self, x: Any) -> Any:
            if characters:
                x = self.embed(x).swapaxes(1, 2)
            if cut:
                with f.no_grad():
                    x = self.features(x)
            else:
                x = self.features(x)
            return self.head(x.reshape(len(x), -1))

    return Convolutions()


def convolution_paths(depth: int, *, norm: bool, strided: bool, flat: bool) -> tuple[Paths, list[str], str]:
    """Of `convolutions`: hidden layers, normalisations, and the last layer."""
    prefix, place = "" if flat else "features.", 0
    hidden: Paths = []
    norms = []
    for layer in range(depth):
        hidden.append((f"{prefix}{place}", f"{prefix}{place + 1 + norm}"))
        norms += [f"{prefix}{place + 1}"] if norm else []
        place += 2 + norm + (layer < 2 and not strided)
    return hidden, norms, str(place + 1) if flat else "head"
