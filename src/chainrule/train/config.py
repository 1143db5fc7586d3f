"""`Config`: everything that decides how a run comes out, its defaults, and what cannot be combined.

Two runs of equal configurations have equal results. How the command line spells these options is in `chainrule.cli`;
what is built from them is in `build`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any

from chainrule.nn.activations import ACTIVATIONS
from chainrule.nn.init import BY_NAME as INITIALIZERS
from chainrule.train.errors import RunError

NORMS = ("none", "batch", "layer")
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")
SCHEDULES = ("cosine", "step", "constant")
DTYPES = ("float32", "float64")
TASKS = ("classification", "regression")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The options of a run, all of them decided.

    Attributes:
        data: path of the table to learn from; None for the bundled digits.
        target: the column to learn.
        task: "classification" or "regression"; None to let the target decide.
        drop: columns to leave out.
        depth: number of hidden layers.
        width: units in each.
        activation, init, norm: names; see `chainrule.nn.MLP`.
        residual: whether hidden layers add to their input instead of replacing it.
        dropout: share of hidden units set to zero in a training step, from 0 to below 1.
        optimizer: one of `OPTIMIZERS`.
        lr: the highest learning rate of the schedule.
        momentum: of sgd and rmsprop; None for the others.
        weight_decay: L2 penalty; decoupled in adamw.
        schedule: how the learning rate falls, one of `SCHEDULES`.
        warmup: epochs (or a part of one) over which the learning rate first rises from 0.
        clip_norm: gradients of a larger global norm are scaled down to it; None for no limit.
        clip_value: gradients are cut at ±clip_value, element by element; None for no limit.
        batch_size: rows per step.
        epochs: passes through the training rows.
        dtype: "float32" or "float64", of parameters and data.
        compile: whether steps run as machine code; it rounds differently.
        seed: of the initial parameters, the order of the rows and dropout.
    """

    data: str | None
    target: str | None
    task: str | None
    drop: tuple[str, ...]
    depth: int
    width: int
    activation: str
    init: str
    norm: str
    residual: bool
    dropout: float
    optimizer: str
    lr: float
    momentum: float | None
    weight_decay: float
    schedule: str
    warmup: float
    clip_norm: float | None
    clip_value: float | None
    batch_size: int
    epochs: int
    dtype: str
    compile: bool
    seed: int

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def choose(cls, **given: Any) -> Config:
        """The configuration with these options, and for those left out (or None) defaults that suit the rest.

        Raises:
            RunError: an option is out of range, or two do not go together.
        """
        given = {name: value for name, value in given.items() if value is not None}
        return cls(**(_defaults(given) | given))

    def to_dict(self) -> dict[str, Any]:
        """The options as JSON keeps them."""
        return asdict(self) | {"drop": list(self.drop)}

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> Config:
        """The configuration that `to_dict` described.

        Raises:
            RunError, TypeError: it is none.
        """
        return cls(**(dict(options) | {"drop": tuple(options.get("drop", ()))}))

    def differences(self, given: Mapping[str, Any]) -> list[str]:
        """What `given` (None: not given) would change here, as `--lr is 0.1 there, not 0.2`."""
        return [
            f"{option(name)} is {_spelled(getattr(self, name))} there, not {_spelled(value)}"
            for name, value in given.items()
            if value is not None and value != getattr(self, name)
        ]


def _spelled(value: Any) -> str:
    if value is None or value == ():
        return "not set"
    return "on" if value is True else "off" if value is False else str(value)


def option(name: str) -> str:
    """How the command line spells an attribute of `Config`."""
    return "--" + name.replace("_", "-")


# Defaults ----------------------------------------------------------------------------------------------------------


# They depend on depth, because what is done to every layer adds up on the way through: steps of the optimiser, and the
# noise of dropout. So both are shared out among the layers. Few layers learn the digits by heart within some epochs:
# those epochs are many, the layers are wide, and dropout and weight decay keep them from it. Many layers are hard
# enough to train as it is: they get fewer epochs, half the width, nothing that weakens the signal, and one epoch to
# warm up in, as their first steps are the most dangerous. How far a table of the user's own can be learned by heart is
# not known here, so nothing is done against it unasked.

DEEP = 10
"""Hidden layers from which on a network gets the defaults of a deep one."""

LEARNING_RATES = {"adam": 0.03, "adamw": 0.03, "sgd": 0.15, "rmsprop": 0.01}
"""What all layers together learn at, by optimiser."""

DROPOUT, MOST_DROPOUT = 1.2, 0.4
"""What all layers together drop of the digits, and the most that one does."""


def _share(of_all_layers: float, depth: int) -> float:
    """What one layer gets, to two digits: there are so many hidden layers and the last."""
    return float(f"{of_all_layers / (max(depth, 0) + 1):.2g}")  # a negative depth is refused later, by name


def _defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """A value for every option, chosen to suit those that are given."""
    depth, optimizer = given.get("depth", 2), given.get("optimizer", "adam")
    deep = depth >= DEEP
    overfits = given.get("data") is None and not deep
    return {
        "data": None,
        "target": None,
        "task": None,
        "drop": (),
        "depth": depth,
        "width": 128 if deep else 256,
        "activation": "relu",
        "init": "auto",
        "norm": "none",
        "residual": False,
        "dropout": min(MOST_DROPOUT, _share(DROPOUT, depth)) if overfits else 0.0,
        "optimizer": optimizer,
        "lr": _share(LEARNING_RATES.get(optimizer, 0.03), depth),
        "momentum": {"sgd": 0.9, "rmsprop": 0.0}.get(optimizer),
        "weight_decay": 0.01 if optimizer == "adamw" else 5e-4 if overfits else 0.0,
        "schedule": "cosine",
        "warmup": 1.0 if deep and given.get("epochs", 2) > 1 else 0.0,
        "clip_norm": None,
        "clip_value": None,
        "batch_size": 64,
        "epochs": 20 if deep else 60,
        "dtype": "float32",
        "compile": True,
        "seed": 0,
    }


# What is allowed ---------------------------------------------------------------------------------------------------


def _check(config: Config) -> None:
    choices: dict[str, Collection[str]] = {
        "activation": ACTIVATIONS,
        "init": INITIALIZERS,
        "norm": NORMS,
        "optimizer": OPTIMIZERS,
        "schedule": SCHEDULES,
        "dtype": DTYPES,
    }
    for name, names in choices.items():
        _require_one_of(name, getattr(config, name), names)
    if config.task is not None:
        _require_one_of("task", config.task, TASKS)
    for name, least in {"depth": 0, "width": 1, "batch_size": 1, "epochs": 1, "seed": 0}.items():
        value = getattr(config, name)
        if value < least:
            raise RunError(f"{option(name)} is at least {least}, not {value}")
    for name in ("lr", "clip_norm", "clip_value"):
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise RunError(f"{option(name)} is a positive number, not {value}")
    for name, limit in {"weight_decay": math.inf, "warmup": math.inf, "dropout": 1, "momentum": 1}.items():
        value = getattr(config, name)
        if value is not None and not 0 <= value < limit:
            below = "a number" if limit == math.inf else f"below {limit} and"
            raise RunError(f"{option(name)} is {below} not negative, got {value}")
    _check_combinations(config)


def _check_combinations(config: Config) -> None:
    if config.data is None:
        for name in ("target", "task", "drop"):
            if getattr(config, name):
                raise RunError(f"{option(name)} is about a table of your own: add --data FILE")
    elif config.target is None:
        raise RunError("--data needs --target COLUMN: the column to learn")
    if config.residual and config.depth < 2:
        raise RunError(f"--residual needs --depth 2 or more; at depth {config.depth} there is no layer to go around")
    if config.momentum is not None and config.optimizer not in ("sgd", "rmsprop"):
        raise RunError(f"--momentum is an option of sgd and rmsprop; {config.optimizer} has moments of its own")
    if config.clip_norm is not None and config.clip_value is not None:
        raise RunError("--clip-norm and --clip-value exclude each other: choose one")
    if config.norm == "batch" and config.batch_size == 1:
        raise RunError("--norm batch takes statistics over a batch, so --batch-size must be 2 or more")
    if config.warmup >= config.epochs:
        raise RunError(f"--warmup {config.warmup:g} is not shorter than the run of {config.epochs} epochs")


def _require_one_of(name: str, value: Any, names: Collection[str]) -> None:
    if value not in names:
        nearest = get_close_matches(str(value), names, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise RunError(f"{option(name)} {value!r} is not one of {', '.join(names)}.{hint}")


OPTIONS = tuple(field.name for field in fields(Config))
"""The names of all options."""
