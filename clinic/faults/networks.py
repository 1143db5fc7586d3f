"""Networks that are wrong by themselves: too deep for their activation, cut, too narrow, or with a forbidden operation.

Each function takes the framework and the problem, as those in `clinic.networks`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from clinic import networks
from clinic.frameworks import Framework
from clinic.problems import ALPHABET, Problem

# Too deep -----------------------------------------------------------------------------------------------------------


def deep_mlp(
    f: Framework,
    problem: Problem,
    *,
    depth: int,
    width: int = 32,
    activation: str = "sigmoid",
    gain: float | None = None,
) -> Any:
    """Layers in a `ModuleList`, their activation a function; weights of variance gain²/fan-in where a gain is given."""
    nn: Any = f.nn
    act = getattr(f.functional, activation)

    class DeepMLP(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.input = nn.Linear(problem.features, width)
            self.hidden = nn.ModuleList([nn.Linear(width, width) for _ in range(depth - 1)])
            self.output = nn.Linear(width, problem.outputs)
            if gain is not None:
                for layer in self.hidden:
                    nn.init.normal_(layer.weight, 0.0, gain / width**0.5)

        def forward(self, x: Any) -> Any:
            x = act(self.input(x))
            for layer in self.hidden:
                x = act(layer(x))
            return self.output(x)

    return DeepMLP()


def deep_cnn(f: Framework, problem: Problem, *, depth: int, activation: str = "ReLU", gain: float | None = None) -> Any:
    """Convolutions of eight channels one after the other without any normalisation."""
    nn: Any = f.nn
    body = []
    for place in range(depth):
        convolution = nn.Conv2d(8 if place else 1, 8, 3, padding=1)
        if gain is not None:
            nn.init.normal_(convolution.weight, 0.0, gain / (9 * (8 if place else 1)) ** 0.5)
        body += [convolution, getattr(nn, activation)()]

    class DeepCNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(*body)
            self.pool = nn.MaxPool2d(4)
            self.head = nn.Linear(8 * 4, problem.outputs)

        def forward(self, x: Any) -> Any:
            return self.head(self.pool(self.body(x)).reshape(len(x), -1))

    return DeepCNN()


def transformer_without_norm(f: Framework, problem: Problem, *, layers: int = 6, width: int = 24) -> Any:
    """Encoder blocks whose normalisations were left out; projections start with He's variance."""
    nn: Any = f.nn
    F = f.functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
            self.fc1 = nn.Linear(width, 2 * width)
            self.fc2 = nn.Linear(2 * width, width)
            nn.init.kaiming_normal_(self.fc1.weight, nonlinearity="relu")
            nn.init.kaiming_normal_(self.fc2.weight, nonlinearity="relu")

        def forward(self, x: Any) -> Any:
            x = x + self.attention(x, x, x)[0]
            return x + self.fc2(F.relu(self.fc1(x)))

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(problem.features, width)
            self.blocks = nn.Sequential(*[Block() for _ in range(layers)])
            self.out = nn.Linear(width, problem.outputs)

        def forward(self, x: Any) -> Any:
            return self.out(self.blocks(self.embed(x)).mean(1))

    return Transformer()


# The last activation ------------------------------------------------------------------------------------------------


def ending_in_function(network: Any, activation: str, **options: Any) -> Any:
    """A network inside of one that applies an activation in its `forward`."""

    def make(f: Framework, problem: Problem) -> Any:
        nn: Any = f.nn

        class Probabilities(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = network(f, problem)

            def forward(self, x: Any) -> Any:
                return getattr(f.functional, activation)(self.net(x), **options)

        return Probabilities()

    return make


# Too narrow ---------------------------------------------------------------------------------------------------------


def narrow_cnn(f: Framework, problem: Problem) -> Any:
    """A convolution to one channel, of which the mean alone is passed on."""
    nn: Any = f.nn
    F = f.functional

    class NarrowCNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
            self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
            self.squeeze = nn.Conv2d(16, 1, 1)
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.fc1 = nn.Linear(1, 32)
            self.fc2 = nn.Linear(32, problem.outputs)

        def forward(self, x: Any) -> Any:
            x = F.max_pool2d(F.relu(self.conv1(x)), 2)
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            x = self.pool(self.squeeze(x)).reshape(len(x), 1)
            return self.fc2(F.relu(self.fc1(x)))

    return NarrowCNN()


def narrow_transformer(f: Framework, problem: Problem, *, width: int = 24, units: int = 1, **options: Any) -> Any:
    """A transformer whose result goes through one unit, or a few."""
    model = networks.transformer(f, problem, width=width, **options)
    nn: Any = f.nn
    model.out = nn.Sequential(nn.Linear(width, units), nn.Tanh(), nn.Linear(units, problem.outputs))
    return model


# Unused and cut -----------------------------------------------------------------------------------------------------


def forgotten_layer(f: Framework, problem: Problem) -> Any:
    """Three hidden layers are made, two are called."""
    nn: Any = f.nn
    F = f.functional

    class Forgotten(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden1 = nn.Linear(problem.features, 48)
            self.hidden2 = nn.Linear(48, 48)
            self.hidden3 = nn.Linear(48, 48)
            self.out = nn.Linear(48, problem.outputs)

        def forward(self, x: Any) -> Any:
            x = F.relu(self.hidden1(x))
            x = F.relu(self.hidden2(x))
            return self.out(x)

    return Forgotten()


def same_convolution_twice(f: Framework, problem: Problem) -> Any:
    """A slip of the pen: conv2 is called where conv3 was meant."""
    nn: Any = f.nn
    F = f.functional

    class Slip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
            self.conv2 = nn.Conv2d(12, 12, 3, padding=1)
            self.conv3 = nn.Conv2d(12, 12, 3, padding=1)
            self.fc = nn.Linear(12 * 2 * 2, problem.outputs)

        def forward(self, x: Any) -> Any:
            x = F.max_pool2d(F.relu(self.conv1(x)), 2)
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            x = F.relu(self.conv2(x))
            return self.fc(x.reshape(len(x), -1))

    return Slip()


def unread_recurrence(f: Framework, problem: Problem) -> Any:
    """A second recurrent layer whose output nobody reads."""
    nn: Any = f.nn

    class Unread(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.LSTM(problem.features, 32, batch_first=True)
            self.second = nn.LSTM(32, 32, batch_first=True)
            self.out = nn.Linear(32, problem.outputs)

        def forward(self, x: Any) -> Any:
            first, _ = self.first(x)
            _second, _ = self.second(first)
            return self.out(first[:, -1])

    return Unread()


def unused_temperature(f: Framework, problem: Problem) -> Any:
    """A transformer with a parameter of its own that `forward` forgets."""
    model = networks.transformer(f, problem)
    model.temperature = f.parameter(np.ones(1))
    return model


def detached_trunk(f: Framework, problem: Problem) -> Any:
    """`detach()` between trunk and head."""
    nn: Any = f.nn

    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(nn.Linear(problem.features, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh())
            self.head = nn.Linear(12, problem.outputs)

        def forward(self, x: Any) -> Any:
            features = self.trunk(x)
            return self.head(features.detach())

    return Detached()


def through_numpy(f: Framework, problem: Problem) -> Any:
    """An excursion to NumPy after the first layer."""
    nn: Any = f.nn
    F = f.functional

    class ThroughNumPy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Linear(problem.features, 8)
            self.norm = nn.LayerNorm(8)
            self.out = nn.Linear(8, problem.outputs)

        def forward(self, x: Any) -> Any:
            x = F.relu(self.hidden(x))
            x = f.tensor(np.clip(f.numpy(x), 0, 6))
            return self.out(self.norm(x))

    return ThroughNumPy()


def features_without_gradient(f: Framework, problem: Problem) -> Any:
    """Convolutions inside of `no_grad`, as one runs a pretrained part; but these were never trained."""
    nn: Any = f.nn
    F = f.functional

    class WithoutGradient(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
            self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
            self.fc = nn.Linear(4 * 2 * 2, problem.outputs)

        def forward(self, x: Any) -> Any:
            with f.no_grad():
                x = F.max_pool2d(F.relu(self.conv1(x)), 2)
                x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            return self.fc(x.reshape(len(x), -1))

    return WithoutGradient()


def detached_recurrence(f: Framework, problem: Problem) -> Any:
    """The last state of an LSTM, cut off, as one cuts a state that goes on into the next batch."""
    nn: Any = f.nn

    class DetachedState(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(len(ALPHABET), 12)
            self.rnn = nn.LSTM(12, 24, batch_first=True)
            self.out = nn.Linear(24, problem.outputs)

        def forward(self, x: Any) -> Any:
            _, (state, _) = self.rnn(self.embed(x))
            return self.out(state.detach()[0])

    return DetachedState()


def hard_choice(f: Framework, problem: Problem) -> Any:
    """The hidden layer's largest unit chosen by `argmax`, which has no derivative."""
    nn: Any = f.nn
    table = np.eye(24, dtype=np.float32)

    class HardChoice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode = nn.Linear(problem.features, 24)
            self.decode = nn.Linear(24, problem.outputs)

        def forward(self, x: Any) -> Any:
            chosen = self.encode(x).argmax(1)
            return self.decode(f.tensor(table[f.numpy(chosen)]))

    return HardChoice()


# Not finite ---------------------------------------------------------------------------------------------------------


def logarithm_of_pixels(f: Framework, problem: Problem) -> Any:
    """log(x) of pixels, most of which are 0."""
    nn: Any = f.nn

    class Optical(nn.Module):
        def forward(self, x: Any) -> Any:
            return -f.tensor(x).log()

    return nn.Sequential(Optical(), *networks.stack(f, problem, 48, 48))


def scaled_by_spread(f: Framework, problem: Problem) -> Any:
    """Standardised over the batch without an epsilon: 0/0 where a pixel is the same in all images."""
    nn: Any = f.nn

    class Standardise(nn.Module):
        def forward(self, x: Any) -> Any:
            return (x - x.mean(0)) / ((x - x.mean(0)) ** 2).mean(0) ** 0.5

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = Standardise()
            self.net = networks.stack(f, problem, 48)

        def forward(self, x: Any) -> Any:
            return self.net(self.scale(x))

    return Classifier()


def distances_to_examples(f: Framework, problem: Problem) -> Any:
    """Distances to centres that are training examples: the derivative of √ is infinite where one is 0."""
    nn: Any = f.nn
    examples = problem.inputs[:: len(problem.inputs) // 40]

    class Distances(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.centres = f.parameter(examples)

        def forward(self, x: Any) -> Any:
            differences = x.reshape(len(x), 1, problem.features) - self.centres
            return (differences**2).sum(2).sqrt()

    class RadialBasis(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.distances = Distances()
            self.out = nn.Linear(len(examples), problem.outputs)

        def forward(self, x: Any) -> Any:
            return self.out(self.distances(x))

    return RadialBasis()


# Unable to learn a batch --------------------------------------------------------------------------------------------


def without_activation(f: Framework, problem: Problem, *, widths: tuple[int, ...] = (32, 32)) -> Any:
    """Linear layers with nothing in between, which together are one."""
    nn: Any = f.nn
    sizes = (problem.features, *widths, problem.outputs)
    return nn.Sequential(*[nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairwise(sizes)])


def heavy_dropout(f: Framework, problem: Problem, *, p: float = 0.95) -> Any:
    """A dropout that was given the share to drop where the share to keep was meant."""
    nn: Any = f.nn
    return nn.Sequential(
        nn.Linear(problem.features, 48),
        nn.ReLU(),
        nn.Dropout(p),
        nn.Linear(48, 48),
        nn.ReLU(),
        nn.Dropout(p),
        nn.Linear(48, problem.outputs),
    )
