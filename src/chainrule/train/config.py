"""`Config`: everything that decides how a run comes out, and what cannot be combined.

Two runs of equal configurations have equal results. What is chosen for options left out is in `defaults`, how the
command line spells them in `chainrule.cli`, what is built from them in `build`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from chainrule.data.columns import READERS
from chainrule.nn.activations import ACTIVATIONS
from chainrule.nn.init import BY_NAME as INITIALIZERS
from chainrule.train.defaults import defaults
from chainrule.train.errors import RunError

MODELS = ("mlp", "cnn", "lstm", "gru", "transformer")
RECURRENT = ("lstm", "gru")
TEXT_MODELS = (*RECURRENT, "transformer")
NORMS = ("none", "batch", "layer")
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")
SCHEDULES = ("cosine", "step", "constant")
DTYPES = ("float32", "float64")
TASKS = ("classification", "regression")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The options of a run, all of them decided; None for what the model has not got.

    Attributes:
        model: what is trained, one of `MODELS`. Those of `TEXT_MODELS` learn the characters of a text.
        data: path of the table or text to learn from; None for the bundled digits or the bundled text.
        target: the column to learn.
        task: "classification" or "regression"; None to let the target decide.
        drop: columns to leave out.
        depth: number of hidden layers: of a cnn convolutions, of a transformer blocks.
        width: units in each; of a cnn filters.
        activation, init, norm: names; see `chainrule.nn.MLP`.
        residual: whether hidden layers add to their input instead of replacing it.
        dropout: share of hidden units set to zero in a training step, from 0 to below 1.
        kernel: height and width of a cnn's kernels.
        shift, turn: pixels and degrees by which a cnn's training images are moved at most, each time anew.
        heads: of a transformer's attention.
        context: characters that a transformer sees at once; of lstm and gru, after which the state starts anew, None
            for never within an epoch.
        bptt: steps that an lstm's or gru's gradients go back through time; the state goes on beyond them, detached.
        optimizer: one of `OPTIMIZERS`.
        lr: the highest learning rate of the schedule.
        momentum: of sgd and rmsprop; None for the others.
        weight_decay: L2 penalty; decoupled in adamw.
        schedule: how the learning rate falls, one of `SCHEDULES`.
        warmup: epochs (or a part of one) over which the learning rate first rises from 0.
        clip_norm: gradients of a larger global norm are scaled down to it; None for no limit.
        clip_value: gradients are cut at ±clip_value, element by element; None for no limit.
        batch_size: rows per step; of a text, stretches of it.
        epochs: passes through the training data.
        dtype: "float32" or "float64", of parameters and data.
        compile: whether steps run as machine code; it rounds differently.
        seed: of the initial parameters, the order of the rows and dropout.
    """

    model: str = "mlp"
    data: str | None
    target: str | None
    task: str | None
    drop: tuple[str, ...]
    depth: int
    width: int
    activation: str | None
    init: str | None
    norm: str | None
    residual: bool | None
    dropout: float
    kernel: int | None = None
    shift: float | None = None
    turn: float | None = None
    heads: int | None = None
    context: int | None = None
    bptt: int | None = None
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
        return cls(**(defaults(given) | given))

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


# What is allowed ---------------------------------------------------------------------------------------------------


APPLIES_TO = {
    "activation": ("mlp", "cnn", "transformer"),
    "init": ("mlp", "cnn"),
    "norm": ("mlp", "cnn"),
    "residual": ("mlp", "cnn"),
    "kernel": ("cnn",),
    "shift": ("cnn",),
    "turn": ("cnn",),
    "heads": ("transformer",),
    "context": TEXT_MODELS,
    "bptt": RECURRENT,
}
"""The models that have an option, where not all do."""


def _check(config: Config) -> None:
    _require_one_of("model", config.model, MODELS)
    for name, models in APPLIES_TO.items():
        if config.model not in models and getattr(config, name) is not None:
            raise RunError(f"{option(name)} is an option of --model {_listed(models)}; {config.model} has none")
    choices: dict[str, Collection[str]] = {
        "activation": ACTIVATIONS,
        "init": INITIALIZERS,
        "norm": NORMS,
        "optimizer": OPTIMIZERS,
        "schedule": SCHEDULES,
        "dtype": DTYPES,
        "task": TASKS,
    }
    for name, names in choices.items():
        if getattr(config, name) is not None:
            _require_one_of(name, getattr(config, name), names)
    _check_ranges(config)
    _check_data(config)
    _check_combinations(config)


def _check_ranges(config: Config) -> None:
    least_depth = 0 if config.model == "mlp" else 1
    least = {"depth": least_depth, "seed": 0} | dict.fromkeys(
        ("width", "kernel", "heads", "context", "bptt", "batch_size", "epochs"), 1
    )
    for name, least_value in least.items():
        value = getattr(config, name)
        if value is not None and value < least_value:
            raise RunError(f"{option(name)} is at least {least_value}, not {value}")
    for name in ("lr", "clip_norm", "clip_value"):
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise RunError(f"{option(name)} is a positive number, not {value}")
    limits = {"weight_decay": math.inf, "warmup": math.inf, "shift": math.inf, "turn": 360, "dropout": 1, "momentum": 1}
    for name, limit in limits.items():
        value = getattr(config, name)
        if value is not None and not 0 <= value < limit:
            below = "a number" if limit == math.inf else f"below {limit} and"
            raise RunError(f"{option(name)} is {below} not negative, got {value}")


def _check_data(config: Config) -> None:
    """Whether there is data of the kind that the model learns from."""
    suffix = None if config.data is None else Path(config.data).suffix.lower()
    if config.model in TEXT_MODELS:
        if suffix in READERS:
            raise RunError(
                f"--model {config.model} learns the characters of a text, and {config.data} is a table; "
                "leave out --model, or give a text"
            )
        asks_for_table = f"--model {config.model} learns a text: --data FILE.txt is all it takes"
    else:
        asks_for_table = "add --data FILE"
    if config.model == "cnn" and config.data is not None:
        raise RunError("--model cnn learns the images of the handwritten digits only: leave out --data")
    if config.model == "mlp" and suffix == ".txt":
        raise RunError(f"{config.data} is no table; to learn its characters, add --model lstm, gru or transformer")
    if config.data is None or config.model in TEXT_MODELS:
        for name in ("target", "task", "drop"):
            if getattr(config, name):
                raise RunError(f"{option(name)} is about a table of your own: {asks_for_table}")
    elif config.target is None:
        raise RunError("--data needs --target COLUMN: the column to learn")


def _check_combinations(config: Config) -> None:
    if config.residual and config.depth < 2:
        raise RunError(f"--residual needs --depth 2 or more; at depth {config.depth} there is no layer to go around")
    if config.kernel is not None and config.kernel % 2 == 0:
        raise RunError(f"--kernel is an odd number, so that images keep their size, not {config.kernel}")
    if config.heads is not None and config.width % config.heads:
        raise RunError(f"--heads {config.heads} does not divide --width {config.width}")
    if config.bptt is not None and config.context is not None and config.context % config.bptt:
        raise RunError(f"--context {config.context} is not a multiple of --bptt {config.bptt}")
    if config.momentum is not None and config.optimizer not in ("sgd", "rmsprop"):
        raise RunError(f"--momentum is an option of sgd and rmsprop; {config.optimizer} has moments of its own")
    if config.clip_norm is not None and config.clip_value is not None:
        raise RunError("--clip-norm and --clip-value exclude each other: choose one")
    if config.norm == "batch" and config.batch_size == 1:
        raise RunError("--norm batch takes statistics over a batch, so --batch-size must be 2 or more")
    if config.warmup >= config.epochs:
        raise RunError(f"--warmup {config.warmup:g} is not shorter than the run of {config.epochs} epochs")


def _listed(names: Collection[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _require_one_of(name: str, value: Any, names: Collection[str]) -> None:
    if value not in names:
        nearest = get_close_matches(str(value), names, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise RunError(f"{option(name)} {value!r} is not one of {', '.join(names)}.{hint}")


OPTIONS = tuple(field.name for field in fields(Config))
"""The names of all options."""
