"""A network in words: the first line of a run, the title of its picture."""

from __future__ import annotations

from chainrule.train.config import RECURRENT, Config
from chainrule.train.problem import Problem


def describe_network(config: Config, problem: Problem) -> str:
    """The network of a configuration as one phrase, such as `MLP 64 → 256 → 10, relu`."""
    if config.model in RECURRENT:
        parts = _recurrent(config)
    elif config.model == "transformer":
        parts = _transformer(config)
    else:
        parts = [_widths(config, problem), str(config.activation)]
        parts += ["residual"] * bool(config.residual)
        parts += [f"{config.norm} norm"] * (config.norm != "none")
    parts += [f"dropout {config.dropout:g}"] * bool(config.dropout)
    if config.shift or config.turn:
        parts.append(f"images moved by up to {config.shift:g} pixels and {config.turn:g}°")
    name = config.model if config.model == "transformer" else config.model.upper()
    return f"{name} {', '.join(parts)}"


def _widths(config: Config, problem: Problem) -> str:
    hidden: list[object] = [config.width] * config.depth
    if config.model == "cnn":
        hidden = [f"{config.depth} × {config.width} filters of {config.kernel} × {config.kernel}"]
    elif config.depth > 4:
        hidden = [f"{config.depth} × {config.width}"]
    return " → ".join(map(str, [problem.inputs, *hidden, problem.outputs]))


def _recurrent(config: Config) -> list[str]:
    layers = f"{config.depth} × {config.width}" if config.depth > 1 else str(config.width)
    anew = f", anew after {config.context}" if config.context else ""
    return [layers, f"{config.bptt} steps back through time{anew}"]


def _transformer(config: Config) -> list[str]:
    return [
        f"of {config.depth} blocks of {config.width}",
        f"{config.heads} heads",
        str(config.activation),
        f"context {config.context}",
    ]
