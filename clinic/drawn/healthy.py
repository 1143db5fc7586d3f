"""Healthy settings by lot: what people usually train, in small. The distribution is in docs/clinic.md.

A draw is a `Plan`: how the setting is put together, so that a fault can change a part of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from clinic import networks
from clinic.drawn import networks as written
from clinic.drawn import problems
from clinic.drawn.lot import between, by_share, happens, one_of, whole
from clinic.frameworks import Framework
from clinic.healthy import binary_cross_entropy, near_linear_recurrence, open_forget_gate
from clinic.problems import Problem, digit_images, digit_rows, digits, friedman, recall, signals, text
from clinic.setting import Loss, Setting, cross_entropy, squared_error
from clinic.wider.problems import standard_digits

SHARES = {"mlp": 0.4, "cnn": 0.2, "rnn": 0.12, "lstm": 0.13, "transformer": 0.15}
ACTIVATIONS = {"relu": 0.5, "tanh": 0.15, "gelu": 0.1, "silu": 0.07, "leaky_relu": 0.08, "elu": 0.05, "sigmoid": 0.05}
MODULES = {
    "relu": "ReLU",
    "tanh": "Tanh",
    "gelu": "GELU",
    "silu": "SiLU",
    "leaky_relu": "LeakyReLU",
    "elu": "ELU",
    "sigmoid": "Sigmoid",
    "identity": "Identity",
}
LOSSES: dict[str, Callable[[Framework], Loss]] = {
    "classes": cross_entropy,
    "binary": binary_cross_entropy,
    "numbers": squared_error,
}

Network = Callable[[Framework, Problem], Any]
Adjust = Callable[[Framework, Any], None]


def framework_values(f: Framework, model: Any) -> None:
    """The framework's own first values."""


@dataclass(frozen=True)
class Plan:
    """A healthy setting, and what one has to know of its network to spoil it.

    Attributes:
        architecture: mlp, cnn, rnn, lstm or transformer.
        style: how the network is written: stack, perceptron, residual, convolutions, recurrent or attention.
        data: as in `Case`.
        problem: the data.
        task: classes, binary (one output) or numbers.
        build: the network, of framework, problem and `options`.
        options: of `build`.
        activation: of the hidden layers.
        hidden: hidden layers in their order, each the paths of the layer and of its activation if that is a module.
        norms: paths of batch normalisations that all values go through.
        out: path of the last layer.
        optimizer, lr, settings, batch_size, steps, clip, schedule: as in `Setting`, whose `options` are `settings`.
        adjust: what is done to the framework's first values.
    """

    architecture: str
    style: str
    data: str
    problem: Callable[[], Problem]
    task: str
    build: Callable[..., Any]
    options: Mapping[str, Any]
    activation: str = "relu"
    hidden: tuple[tuple[str, ...], ...] = ()
    norms: tuple[str, ...] = ()
    out: str = "out"
    optimizer: str = "Adam"
    lr: float = 0.003
    settings: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 64
    steps: int = 200
    clip: float | None = None
    schedule: Callable[[int], float] | None = None
    adjust: Adjust = framework_values

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the hidden layers of an MLP."""
        return tuple(self.options["widths"])

    @property
    def characters(self) -> bool:
        """Whether the inputs are characters, which have no scale."""
        return self.data in ("text", "recall")

    @property
    def is_plain_mlp(self) -> bool:
        """Whether it is an MLP of hidden layers one after the other and nothing in between."""
        return self.style in ("stack", "perceptron") and not self.norms and not self.options.get("norm")

    @property
    def has_momentum(self) -> bool:
        """Whether it is trained by gradient descent with momentum."""
        return "momentum" in self.settings

    def network(self, **changes: Any) -> Network:
        """The network, with changes in its options."""
        return partial(self.build, **{**self.options, **changes})

    def adjusted(self) -> Network:
        """The network with its first values, for what is to be put inside of another one."""

        def make(f: Framework, problem: Problem) -> Any:
            model = self.network()(f, problem)
            self.adjust(f, model)
            return model

        return make

    def setting(self, name: str) -> Setting:
        """The setting, under a name."""
        return Setting(
            name=f"{self.architecture}-{self.data}-{name}",
            problem=self.problem,
            network=self.network(),
            lr=self.lr,
            optimizer=self.optimizer,
            options=self.settings,
            loss=LOSSES[self.task],
            clip=self.clip,
            batch_size=self.batch_size,
            steps=self.steps,
            schedule=self.schedule,
            adjust=self.adjust,
        )


def plan(rng: np.random.Generator, architecture: str | None = None) -> Plan:
    """A healthy setting by lot, of any architecture or the one given."""
    architecture = architecture or by_share(rng, SHARES)
    draw = {"mlp": _mlp, "cnn": _cnn, "rnn": _recurrent, "lstm": _recurrent, "transformer": _transformer}
    return _trained(rng, draw[architecture](rng, architecture))


# Multilayer perceptrons ---------------------------------------------------------------------------------------------


def stack(f: Framework, problem: Problem, *, widths: tuple[int, ...], **options: Any) -> Any:
    """`clinic.networks.stack` with its widths as an option."""
    return networks.stack(f, problem, *widths, **options)


def he_values(f: Framework, model: Any) -> None:
    """He's values for all layers but the last, which are the ones whose outputs a ReLU sees."""
    layers = [module for module in model.modules() if getattr(module, "in_features", 0)]
    for layer in layers[:-1]:
        f.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")


def _points(rng: np.random.Generator) -> tuple[str, Callable[[], Problem], str]:
    """Data of a table or a picture: its name, the problem and the task."""
    kinds: list[Callable[[], Problem]] = [digits, standard_digits]
    data = by_share(rng, {"digits": 0.4, "blobs": 0.2, "circles": 0.15, "regression": 0.25})
    seed = whole(rng, 0, 10**6)
    if data == "digits":
        return data, one_of(rng, *kinds), "classes"
    if data == "blobs":
        return data, partial(problems.clouds, seed, whole(rng, 3, 8), whole(rng, 2, 20)), "classes"
    if data == "circles":
        one_output = happens(rng, 0.5)
        count = 2 if one_output else whole(rng, 2, 3)
        return data, partial(problems.rings, seed, count, one_output), "binary" if one_output else "classes"
    kinds = [
        friedman,
        partial(problems.noisy_friedman, seed, between(rng, 0.05, 0.2)),
        partial(problems.smooth, seed, whole(rng, 4, 12), between(rng, 0.02, 0.2)),
    ]
    return data, one_of(rng, *kinds), "numbers"


def _widths(rng: np.random.Generator, depth: int) -> tuple[int, ...]:
    """Equal ones, or each half or so of the one before."""
    first = whole(rng, 2, 16) * 8
    if happens(rng, 0.6):
        return (first,) * depth
    return tuple(max(12, first >> place) for place in range(depth))


def _mlp(rng: np.random.Generator, architecture: str) -> Plan:
    kind = by_share(rng, {"plain": 0.55, "deep": 0.15, "residual": 0.15, "characters": 0.15})
    if kind == "characters":
        widths = _widths(rng, whole(rng, 1, 2))
        return _perceptron(rng, ("text", text, "classes"), widths, vector=whole(rng, 6, 16))
    data = _points(rng)
    if kind == "residual":
        return _residual(rng, data)
    if kind == "deep":
        return _deep(rng, data)
    widths = _widths(rng, whole(rng, 1, 4))
    if happens(rng, 0.5):
        return _perceptron(rng, data, widths)
    return stacked(rng, data, widths, by_share(rng, _activations(len(widths))), None)


def _activations(depth: int) -> dict[str, float]:
    """Sigmoids are for one or two hidden layers."""
    return {name: share for name, share in ACTIVATIONS.items() if name != "sigmoid" or depth <= 2}


def _perceptron(rng: np.random.Generator, data: Any, widths: tuple[int, ...], vector: int = 0) -> Plan:
    name, problem, task = data
    activation = by_share(rng, _activations(len(widths)))
    dropout = round(rng.uniform(0.1, 0.3), 2) if happens(rng, 0.15) and name == "digits" else 0.0
    options = {"widths": widths, "activation": activation, "dropout": dropout, "vector": vector}
    return Plan(
        "mlp",
        "perceptron",
        name,
        problem,
        task,
        written.perceptron,
        options,
        activation,
        tuple(written.perceptron_paths(len(widths))),
        adjust=he_values if activation == "relu" and happens(rng, 0.3) else framework_values,
    )


def stacked(rng: np.random.Generator, data: Any, widths: tuple[int, ...], activation: str, norm: str | None) -> Plan:
    """A stack of these layers."""
    name, problem, task = data
    dropout = round(rng.uniform(0.1, 0.3), 2) if happens(rng, 0.15) and name == "digits" and not norm else 0.0
    hidden, norms, out = written.stack_paths(len(widths), norm=bool(norm), dropout=bool(dropout))
    return Plan(
        "mlp",
        "stack",
        name,
        problem,
        task,
        stack,
        {"widths": widths, "activation": MODULES[activation], "dropout": dropout, "norm": norm},
        activation,
        tuple(hidden),
        tuple(norms) if norm == "BatchNorm1d" else (),
        out,
        adjust=he_values if activation == "relu" and not norm and happens(rng, 0.3) else framework_values,
    )


def _deep(rng: np.random.Generator, data: Any) -> Plan:
    widths = (whole(rng, 3, 8) * 8,) * whole(rng, 6, 12)
    activation = by_share(rng, {"relu": 0.7, "tanh": 0.1, "gelu": 0.1, "silu": 0.1})
    return stacked(rng, data, widths, activation, by_share(rng, {"BatchNorm1d": 0.65, "LayerNorm": 0.35}))


def _residual(rng: np.random.Generator, data: Any) -> Plan:
    name, problem, task = data
    depth, width = whole(rng, 2, 8), whole(rng, 2, 8) * 8
    hidden = tuple((f"blocks.{place}.fc1",) for place in range(depth))
    if happens(rng, 0.7):
        options = {"depth": depth, "width": width, "near_identity": happens(rng, 0.2)}
        return Plan("mlp", "residual", name, problem, task, networks.residual_mlp, options, hidden=hidden, out="head")
    options = {"depth": depth, "width": width, "scale": depth**-0.5}
    return Plan("mlp", "residual", name, problem, task, networks.plain_residual, options, hidden=hidden, out="head")


# Convolution --------------------------------------------------------------------------------------------------------


def _cnn(rng: np.random.Generator, architecture: str) -> Plan:
    data = by_share(rng, {"digits": 0.6, "text": 0.2, "regression": 0.2})
    if data == "digits" and happens(rng, 0.2):
        channels, blocks = whole(rng, 8, 16), whole(rng, 1, 3)
        hidden = tuple((f"blocks.{place}.conv1",) for place in range(blocks))
        options = {"channels": channels, "blocks": blocks}
        return Plan(
            "cnn",
            "residual",
            data,
            digit_images,
            "classes",
            networks.residual_cnn,
            options,
            hidden=hidden,
            out="head",
        )
    depth = whole(rng, 2, 4)
    first = whole(rng, 6, 12)
    widths = (first, *(whole(rng, first, 20) for _ in range(depth - 1)))
    return convolutional(rng, data, widths, norm=happens(rng, 0.45))


def convolutional(rng: np.random.Generator, data: str, channels: tuple[int, ...], *, norm: bool) -> Plan:
    """Convolutions one after the other."""
    problems_of: dict[str, tuple[Callable[[], Problem], int]] = {
        "digits": (digit_images, 8),
        "text": (text, 16),
        "regression": (problems.signal_channels, 24),
    }
    problem, size = problems_of[data]
    activation = by_share(rng, {"relu": 0.75, "leaky_relu": 0.1, "gelu": 0.1, "tanh": 0.05})
    strided, flat = happens(rng, 0.35), happens(rng, 0.4) and data != "text"
    hidden, norms, out = written.convolution_paths(len(channels), norm=norm, strided=strided, flat=flat)
    options = {
        "dimensions": 2 if data == "digits" else 1,
        "channels": channels,
        "activation": MODULES[activation],
        "norm": norm,
        "strided": strided,
        "flat": flat,
        "size": size,
    }
    return Plan(
        "cnn",
        "convolutions",
        data,
        problem,
        "numbers" if data == "regression" else "classes",
        written.convolutions,
        options,
        activation,
        tuple(hidden),
        tuple(norms),
        out,
    )


# Recurrence and attention -------------------------------------------------------------------------------------------


SEQUENCES: dict[str, Callable[[], Problem]] = {
    "digits": digit_rows,
    "text": text,
    "regression": signals,
    "recall": recall,
}


def _recurrent(rng: np.random.Generator, architecture: str) -> Plan:
    data = by_share(rng, {"digits": 0.3, "text": 0.2, "regression": 0.25, "recall": 0.25})
    kind = "LSTM" if architecture == "lstm" else one_of(rng, "RNN", "GRU") if data != "regression" else "GRU"
    problem = SEQUENCES[data]
    build = networks.character_rnn if data in ("text", "recall") else networks.recurrent
    options: dict[str, Any] = {"kind": kind, "width": whole(rng, 3, 6) * 8, "layers": 1 + happens(rng, 0.2)}
    if data == "digits" and happens(rng, 0.2):
        options["bidirectional"] = True
    # Without these, nothing of the first character comes to the end in so few steps.
    memory = {"RNN": near_linear_recurrence, "LSTM": open_forget_gate, "GRU": framework_values}[kind]
    return Plan(
        architecture,
        "recurrent",
        data,
        problem,
        "numbers" if data == "regression" else "classes",
        build,
        options,
        "tanh",
        adjust=memory if data == "recall" else framework_values,
        clip=1.0 if data == "recall" else None,
    )


def _transformer(rng: np.random.Generator, architecture: str) -> Plan:
    data = by_share(rng, {"digits": 0.45, "text": 0.25, "regression": 0.3})
    problem = SEQUENCES[data]
    build: Callable[..., Any] = networks.character_transformer if data == "text" else networks.transformer
    options: dict[str, Any] = {"width": one_of(rng, 16, 24, 32), "layers": by_share(rng, {1: 0.5, 2: 0.35, 3: 0.15})}
    if data != "text":
        options["norm_first"] = happens(rng, 0.5)
    task = "numbers" if data == "regression" else "classes"
    return Plan(architecture, "attention", data, problem, task, build, options)


# Training -----------------------------------------------------------------------------------------------------------

#: Learning rates that suit an optimiser: of Adam and its relatives, and of gradient descent with momentum.
RATES = {
    "mlp": ((2e-3, 1.2e-2), (0.03, 0.15)),
    "cnn": ((2e-3, 1e-2), (0.03, 0.12)),
    "rnn": ((3e-3, 1.2e-2), (0.03, 0.15)),
    "lstm": ((5e-3, 2e-2), (0.2, 0.8)),
    "transformer": ((2e-3, 8e-3), (0.05, 0.2)),
}
OPTIMIZERS = {"Adam": 0.36, "AdamW": 0.14, "momentum": 0.36, "SGD": 0.06, "RMSprop": 0.08}


def _trained(rng: np.random.Generator, it: Plan) -> Plan:
    """The plan with an optimiser that suits it."""
    name = by_share(rng, OPTIMIZERS)
    adaptive, descent = RATES[it.architecture]
    settings: dict[str, Any] = {}
    if name in ("momentum", "SGD"):
        rate = between(rng, *descent) * (0.5 if it.task == "numbers" else 1)
        settings = {"momentum": 0.9} if name == "momentum" else {}
        rate *= 1 if name == "momentum" else 5
    else:
        rate = between(rng, *adaptive) * (0.4 if name == "RMSprop" else 1)
    if happens(rng, 0.15):
        settings["weight_decay"] = between(rng, 1e-4, 1e-2 if name == "AdamW" else 1e-3)
    steps = whole(rng, 15, 40) * 10
    batch_size = one_of(rng, 32, 48, 64, 96, 128)
    if it.architecture != "mlp":  # a step of these takes long, and a case is to be over in two seconds
        steps, batch_size = (
            min(max(steps, 200), 250 if it.architecture in ("cnn", "transformer") else 300),
            min(batch_size, 48),
        )
    return replace(
        it,
        optimizer="SGD" if name == "momentum" else name,
        lr=float(f"{rate:.3g}"),
        settings=settings,
        batch_size=batch_size,
        steps=steps,
        clip=it.clip or (round(rng.uniform(1, 5), 1) if happens(rng, 0.2) else None),
        schedule=_schedule(rng, steps),
    )


def _schedule(rng: np.random.Generator, steps: int) -> Callable[[int], float] | None:
    """Mostly none; a short warm-up, half a cosine to a tenth, or one after the other."""
    kind = by_share(rng, {"none": 0.8, "warm-up": 0.07, "cosine": 0.07, "both": 0.06})
    warm_up = whole(rng, 5, 30)

    def factor(step: int) -> float:
        rising = min(1.0, (step + 1) / warm_up) if kind != "cosine" else 1.0
        falling = 0.55 + 0.45 * math.cos(math.pi * min(1.0, step / steps)) if kind != "warm-up" else 1.0
        return rising * falling

    return None if kind == "none" else factor
