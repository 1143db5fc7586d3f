"""Networks and histories that are wrong by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from clinic.blind.layers import networks
from clinic.blind.layers.problems import LEVELS
from clinic.case import Patient
from clinic.faults.weights import Adjust
from clinic.frameworks import Framework
from clinic.networks import stack
from clinic.problems import Problem

# Through the network ------------------------------------------------------------------------------------------------


def function(f: Framework, change: Callable[[Any], Any]) -> Any:
    """A module that does nothing but this."""
    nn: Any = f.nn

    class Function(nn.Module):
        def forward(self, x: Any) -> Any:
            return change(f.tensor(x))

    return Function()


def between(change: Callable[[Any], Any], network: Any, *, after: int) -> Any:
    """A `Sequential` with a function after so many of its modules."""

    def make(f: Framework, problem: Problem) -> Any:
        modules = [*network(f, problem)]
        return f.nn.Sequential(*modules[:after], function(f, change), *modules[after:])

    return make


def deep_pulse_cnn(f: Framework, problem: Problem, *, depth: int, activation: str) -> Any:
    """Convolutions of one width along time, read at their means over eight pieces."""
    nn: Any = f.nn
    layers = []
    for place in range(depth):
        layers += [nn.Conv1d(12 if place else 2, 12, 5, padding=2), getattr(nn, activation)()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(8), nn.Flatten(), nn.Linear(96, problem.outputs))


def summed_windows(f: Framework, problem: Problem, *, depth: int = 5, channels: int = 6) -> Any:
    """Convolutions, each smoothed by the sum over three by three pixels where their mean was meant."""
    nn: Any = f.nn

    class Smooth(nn.Module):
        def __init__(self, channels_in: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(channels_in, channels, 3, padding=1)

        def forward(self, x: Any) -> Any:
            return 9 * f.functional.avg_pool2d(f.functional.gelu(self.conv(x)), 3, 1, 1)

    return nn.Sequential(
        *[Smooth(channels if place else 1) for place in range(depth)], nn.Conv2d(channels, 1, 3, padding=1)
    )


def plain_sum(f: Framework, problem: Problem, *, depth: int = 16, width: int = 32) -> Any:
    """The blocks of `networks.dropped_blocks` with He's values, and no normalisation anywhere."""
    model = networks.dropped_blocks(f, problem, depth=depth, width=width)
    nn: Any = f.nn
    for block in model[1 : 1 + depth]:
        block.norm = nn.Identity()
        for layer in (block.fc1, block.fc2):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    model[1 + depth] = nn.Identity()
    return model


# First values -------------------------------------------------------------------------------------------------------


def negative(path: str) -> Adjust:
    """No weight of a layer is above 0."""

    def adjust(f: Framework, model: Any) -> None:
        f.set_values(model.get_submodule(path).weight, lambda weight: -np.abs(weight))

    return adjust


def copies_of_first(path: str, following: str) -> Adjust:
    """All units of a layer are copies of its first, and the next layer reads them alike."""

    def adjust(f: Framework, model: Any) -> None:
        layer = model.get_submodule(path)
        f.set_values(layer.weight, lambda weight: np.repeat(weight[:1], len(weight), 0))
        f.set_values(layer.bias, lambda bias: np.repeat(bias[:1], len(bias), 0))
        f.set_values(model.get_submodule(following).weight, lambda weight: np.repeat(weight[:, :1], weight.shape[1], 1))

    return adjust


def one_expert(f: Framework, model: Any) -> None:
    """All experts are copies of the first one, and the gate likes all of them alike."""
    state = model.experts[0].state_dict()
    for expert in model.experts:
        expert.load_state_dict(state)
    f.nn.init.zeros_(model.gate[2].weight)
    f.nn.init.zeros_(model.gate[2].bias)


def orthogonal(gain: float) -> Adjust:
    """Every matrix keeps the size of what it is given, times a gain."""

    def adjust(f: Framework, model: Any) -> None:
        for parameter in model.parameters():
            if parameter.ndim > 1:
                f.nn.init.orthogonal_(parameter, gain)

    return adjust


def share_of_fan_in(f: Framework, model: Any) -> None:
    """Each unit takes the mean of what it gets."""
    for parameter in model.parameters():
        f.nn.init.constant_(parameter, 1 / parameter.shape[1] if parameter.ndim > 1 else 0.0)


def no_direction(path: str) -> Adjust:
    """Half of the rows of a normalised weight were pruned to nothing, and nothing has no direction."""

    def adjust(f: Framework, model: Any) -> None:
        def pruned(direction: Any) -> Any:
            direction[::2] = 0
            return direction

        f.set_values(model.get_submodule(path).direction, pruned)

    return adjust


def epsilon(value: float) -> Adjust:
    """Let batch normalisations add this to the variance."""

    def adjust(f: Framework, model: Any) -> None:
        for module in model.modules():
            if hasattr(module, "running_mean"):
                module.eps = value

    return adjust


# Histories ----------------------------------------------------------------------------------------------------------


def after_raw_batches(steps: int, factor: float, lr: float) -> Callable[[Patient], None]:
    """The first batches came from a loader that had not been told of the inputs' scale; that has been mended since."""

    def history(patient: Patient) -> None:
        data = patient.data
        (group,) = patient.optimizer.param_groups
        usual, group["lr"] = group["lr"], lr
        patient.data = data[0] * factor, data[1]
        patient.train(steps)
        patient.data, group["lr"] = data, usual

    return history


def optimizer_before(*places: str) -> Callable[[Patient], None]:
    """The optimiser was made before these modules were put in place of others, and still moves the others."""

    def history(patient: Patient) -> None:
        known = [
            parameter
            for name, parameter in patient.model.named_parameters()
            if not any(name.startswith(f"{place}.") for place in places)
        ]
        (group,) = patient.optimizer.param_groups
        options = {key: group[key] for key in ("momentum", "weight_decay") if key in group}
        patient.optimizer = type(patient.optimizer)(known, lr=group["lr"], **options)

    return history


# Not finite ---------------------------------------------------------------------------------------------------------


def masked_root(f: Framework, problem: Problem) -> Any:
    """√x where there is ink, and 0 elsewhere by a mask, which does not keep 0·∞ out of the gradient."""
    nn: Any = f.nn

    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = f.parameter(np.ones(1))

        def forward(self, x: Any) -> Any:
            ink = f.tensor((f.numpy(x) > 0).astype(np.float32))
            return (self.gain * f.tensor(x)).sqrt() * ink

    class Rooted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.root = Root()
            self.net = networks.branches_cnn(f, problem)

        def forward(self, x: Any) -> Any:
            return self.net(self.root(x))

    return Rooted()


# Unused and cut -----------------------------------------------------------------------------------------------------


def kinds_by_hand(f: Framework, problem: Problem) -> Any:
    """Vectors of kinds are looked up in NumPy, as plain numbers."""
    model = networks.table(f, problem)
    nn: Any = f.nn
    kinds = len(LEVELS)

    class ByHand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tables = model.tables
            self.hidden = model.hidden
            self.out = model.out

        def forward(self, x: Any) -> Any:
            x = f.numpy(x)
            rows = x[:, :kinds].astype(np.int64)
            vectors = [f.numpy(table.weight)[rows[:, place]] for place, table in enumerate(self.tables)]
            features = np.concatenate([*vectors, x[:, kinds:]], 1)
            return self.out(f.functional.relu(self.hidden(f.array(features))))

    return ByHand()


# Unable to learn a batch --------------------------------------------------------------------------------------------


def noise_before(place: int, size: float, *widths: int) -> Any:
    """A stack with noise of this size added before one of its modules as it trains."""

    def make(f: Framework, problem: Problem) -> Any:
        nn: Any = f.nn

        class Noise(nn.Module):
            def forward(self, x: Any) -> Any:
                if not self.training:
                    return x
                noise = f.parameter(np.zeros(x.shape))
                nn.init.normal_(noise, 0.0, size)
                return x + noise.detach()

        modules = [*stack(f, problem, *widths)]
        return nn.Sequential(*modules[:place], Noise(), *modules[place:])

    return make


def straight(f: Framework, problem: Problem, *, widths: tuple[int, ...]) -> Any:
    """Leaky units whose slope below 0 was set to that above."""
    nn: Any = f.nn
    model = stack(f, problem, *widths, activation="LeakyReLU")
    return nn.Sequential(*[nn.LeakyReLU(1.0) if isinstance(module, nn.LeakyReLU) else module for module in model])
