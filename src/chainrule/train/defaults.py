"""What `Config.choose` decides for options left out: it suits the model, its depth and the data.

They depend on depth, because what is done to every layer adds up on the way through: steps of the optimiser, and the
noise of dropout. So both are shared out among the layers of a perceptron.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Options = Mapping[str, Any]

DEEP = 10
"""Hidden layers from which on a network gets the defaults of a deep one."""


def defaults(given: Options) -> dict[str, Any]:
    """A value for every option, chosen to suit those that are given."""
    model = given.get("model", "mlp")
    return _COMMON | {"model": model} | _BY_MODEL.get(model, _mlp)(given)


_COMMON: dict[str, Any] = {
    "data": None,
    "target": None,
    "task": None,
    "drop": (),
    "activation": None,
    "init": None,
    "norm": None,
    "residual": None,
    "kernel": None,
    "shift": None,
    "turn": None,
    "heads": None,
    "context": None,
    "bptt": None,
    "momentum": None,
    "schedule": "cosine",
    "warmup": 0.0,
    "clip_norm": None,
    "clip_value": None,
    "dtype": "float32",
    "seed": 0,
    "compile": True,
}


# Perceptrons --------------------------------------------------------------------------------------------------------

# Few layers learn the digits by heart within some epochs: those epochs are many, the layers are wide, and dropout and
# weight decay keep them from it. Many layers are hard enough to train as it is: they get fewer epochs, half the width,
# nothing that weakens the signal, and one epoch to warm up in, as their first steps are the most dangerous. How far a
# table of the user's own can be learned by heart is not known here, so nothing is done against it unasked.

LEARNING_RATES = {"adam": 0.03, "adamw": 0.03, "sgd": 0.15, "rmsprop": 0.01}
"""What all layers together learn at, by optimiser."""

DROPOUT, MOST_DROPOUT = 1.2, 0.4
"""What all layers together drop of the digits, and the most that one does."""

MOMENTUM = {"sgd": 0.9, "rmsprop": 0.0}


def _mlp(given: Options) -> dict[str, Any]:
    depth, optimizer = given.get("depth", 2), given.get("optimizer", "adam")
    deep = depth >= DEEP
    overfits = given.get("data") is None and not deep
    return {
        "depth": depth,
        "width": 128 if deep else 256,
        "activation": "relu",
        "init": "auto",
        "norm": "none",
        "residual": False,
        "dropout": min(MOST_DROPOUT, _share(DROPOUT, depth)) if overfits else 0.0,
        "optimizer": optimizer,
        "lr": _share(LEARNING_RATES.get(optimizer, 0.03), depth),
        "momentum": MOMENTUM.get(optimizer),
        "weight_decay": 0.01 if optimizer == "adamw" else 5e-4 if overfits else 0.0,
        "warmup": 1.0 if deep and given.get("epochs", 2) > 1 else 0.0,
        "batch_size": 64,
        "epochs": 20 if deep else 60,
    }


def _share(of_all_layers: float, depth: int) -> float:
    """What one layer gets, to two digits: there are so many hidden layers and the last."""
    return float(f"{of_all_layers / (max(depth, 0) + 1):.2g}")  # a negative depth is refused later, by name


# Images -------------------------------------------------------------------------------------------------------------


def _cnn(given: Options) -> dict[str, Any]:
    """As a perceptron; but images that are never the same twice do more against learning by heart than dropout."""
    depth = given.get("depth", 4)
    chosen = _mlp({**given, "depth": depth})
    return chosen | {
        "width": 32,
        "kernel": 3,
        "dropout": 0.4,
        "lr": _share(LEARNING_RATES.get(chosen["optimizer"], 0.03) / 2, depth),
        "shift": 0.7,
        "turn": 10.0,
    }


# Text ---------------------------------------------------------------------------------------------------------------


def _text(given: Options, optimizer: str, lr: Mapping[str, float]) -> dict[str, Any]:
    """What all that write have in common: one gradient in some hundred is far too large, and is scaled down."""
    optimizer = given.get("optimizer", optimizer)
    return {
        "optimizer": optimizer,
        "lr": lr.get(optimizer, lr["adam"]),
        "momentum": MOMENTUM.get(optimizer),
        "weight_decay": 0.1 if optimizer == "adamw" else 0.0,
        "clip_norm": None if "clip_value" in given else 1.0,
    }


def _recurrent(given: Options) -> dict[str, Any]:
    return _text(given, "adam", {"adam": 3e-3, "adamw": 3e-3, "sgd": 1.0, "rmsprop": 1e-3}) | {
        "depth": 1,
        "width": 256,
        "dropout": 0.0,
        "bptt": given.get("context", 64),
        "batch_size": 32,
        "epochs": 8,
    }


def _transformer(given: Options) -> dict[str, Any]:
    width = given.get("width", 128)
    return _text(given, "adamw", {"adam": 3e-3, "adamw": 3e-3, "sgd": 0.1, "rmsprop": 1e-3}) | {
        "depth": 3,
        "width": width,
        "heads": next(heads for heads in (4, 2, 1) if width % heads == 0),
        "context": 64,
        "activation": "gelu",
        "dropout": 0.0,
        "batch_size": 16,
        "epochs": 12,
        "warmup": 0.3,
    }


_BY_MODEL: dict[str, Callable[[Options], dict[str, Any]]] = {
    "mlp": _mlp,
    "cnn": _cnn,
    "lstm": _recurrent,
    "gru": _recurrent,
    "transformer": _transformer,
}
