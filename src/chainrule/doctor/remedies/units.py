"""Remedies for units: another activation, and a wider layer."""

from __future__ import annotations

from typing import Any

from chainrule.doctor.measurements import Activation, Layer
from chainrule.doctor.remedies.calls import exchange
from chainrule.doctor.remedies.signal import initialize
from chainrule.doctor.remedies.surgery import CannotApply, Surgery
from chainrule.doctor.vocabulary import BOUNDED, RECTIFIERS

MODULES = {
    "relu": "ReLU", "leaky_relu": "LeakyReLU", "elu": "ELU", "gelu": "GELU", "silu": "SiLU", "softplus": "Softplus",
    "sigmoid": "Sigmoid", "tanh": "Tanh", "relu6": "ReLU6", "hardtanh": "Hardtanh", "selu": "SELU",
    "softsign": "Softsign", "hardsigmoid": "Hardsigmoid", "hardswish": "Hardswish", "mish": "Mish",
    "log_expit": "LogSigmoid",
}  # fmt: skip
"""Modules of activations, by chainrule's names for the operations."""

_LEAKY = "LeakyReLU(0.1)"


def activation(surgery: Surgery) -> None:
    """Exchange activations: those that saturate for ReLU, rectifiers that are off for leaky ones."""
    found = [a for a in _hidden(surgery) if a.name in MODULES and _replacement(a.name, surgery.code)]
    if not found and not surgery.exam.activations and surgery.code == "cannot-overfit-batch":
        _put_activations(surgery)
        return
    if not found:
        raise CannotApply("there is no hidden activation that another one would improve on")
    last = surgery.exam.layers[-1].activation
    kept = "" if last is None else last.path  # a module that also makes the output
    swapped = {a.path: a for a in found if a.path != kept and surgery.kind(a.path) == MODULES[a.name]}
    if not swapped and _exchanged_calls(surgery, found):
        return
    if not swapped:
        where = found[0].path or surgery.exam.model
        raise CannotApply(
            f"{found[0].name} is called as a function in the forward of {where}; use a module "
            f"(nn.{MODULES[found[0].name]}), or exchange the call there by hand"
        )
    for new in dict.fromkeys(_replacement(a.name, surgery.code) for a in swapped.values()):
        paths = [path for path, a in swapped.items() if _replacement(a.name, surgery.code) == new]
        old = ", ".join(sorted({MODULES[swapped[path].name] for path in paths}))
        for path in paths:
            surgery.put(path, surgery.new("LeakyReLU", 0.1) if new == _LEAKY else surgery.new("ReLU"))
        surgery.words.append(f"{old} exchanged for {new.partition('(')[0]} in {_listed(paths)}")
        call = new if "(" in new else f"{new}()"
        surgery.for_each(paths, f"replace(path, nn.{call})")
        rectified = "leaky_relu" if new == _LEAKY else "relu"
        fed = [layer for layer in surgery.exam.layers if layer.activation and layer.activation.path in paths]
        initialize(surgery, [(layer, rectified) for layer in fed if layer.kind in ("linear", "convolution", "product")])


def _exchanged_calls(surgery: Surgery, found: list[Activation]) -> bool:
    """Whether activations that forwards call as functions could be exchanged for relu there."""
    last = surgery.exam.layers[-1].activation
    calls = {a.path: a.name for a in found if _replacement(a.name, surgery.code) == "ReLU"}
    if last is not None:
        calls.pop(last.path, None)  # that forward makes the output with one
    functional, modules = surgery.nn.functional, surgery.modules
    done = [
        path for path, name in calls.items() if path in modules and exchange(modules[path], name, "relu", functional)
    ]
    for path in done:
        place = f"the forward of {path or surgery.exam.model}"
        surgery.words.append(f"{calls[path]} exchanged for relu in {place}")
        surgery.statements.append(f"# in {place}:  relu instead of {calls[path]}")
    fed = [layer for layer in surgery.exam.layers if layer.activation and layer.activation.path in done]
    if done:
        initialize(surgery, [(layer, "relu") for layer in fed if layer.kind in ("linear", "convolution", "product")])
    return bool(done)


def _put_activations(surgery: Surgery) -> None:
    """A ReLU after each layer but the last one: without any, all of them together are one linear layer."""
    modules = surgery.modules
    bare = [layer for layer in surgery.exam.layers[:-1] if layer.kind in ("linear", "convolution")]
    plain = [layer for layer in bare if surgery.kind(layer.path) in ("Linear", "Conv1d", "Conv2d")]
    if not plain:
        raise CannotApply("no Linear or convolution was found, as a module, that a ReLU could be put after")
    for layer in plain:
        surgery.put(layer.path, surgery.new("Sequential", modules[layer.path], surgery.new("ReLU")))
    paths = [layer.path for layer in plain]
    surgery.for_each(paths, "replace(path, nn.Sequential(model.get_submodule(path), nn.ReLU()))")
    surgery.words.append(f"ReLU put after {_listed(paths)}: without it, all layers together are one")


def _hidden(surgery: Surgery) -> list[Activation]:
    """The activations of the layers to treat, or at the places to treat; not the network's last."""
    exam = surgery.exam
    last = exam.layers[-1].activation if exam.layers else None
    of_layers = [layer.activation for layer in surgery.layers() if layer.activation]
    at_places = [a for a in exam.activations if surgery.where and surgery.concerns(a.path)]
    return [a for a in dict.fromkeys([*at_places, *of_layers]) if a != last]


_OFF = frozenset({"dying-relu", "vanishing-gradient", "slow-convergence", "cannot-overfit-batch"})
"""Findings that units which are off may be the cause of."""


def _replacement(name: str, code: str) -> str:
    if name in RECTIFIERS - {"hardtanh"}:
        return _LEAKY if code in _OFF else ""
    return "ReLU" if name in BOUNDED or name in ("softplus", "log_expit") else ""


def _listed(paths: list[str]) -> str:
    return ", ".join(paths) if len(paths) <= 6 else f"{', '.join(paths[:3])}, ..., {paths[-1]} ({len(paths)} places)"


# Width --------------------------------------------------------------------------------------------------------------


def width(surgery: Surgery) -> None:
    """Widen a bottleneck to the narrower of the widths around it."""
    places = list(surgery.exam.layers)
    narrow = next((k for k, layer in enumerate(places[:-1]) if surgery.where and surgery.concerns(layer.path)), None)
    if narrow is None:
        raise CannotApply("no hidden layer was named as the bottleneck")
    layer, after = places[narrow], places[narrow + 1]
    modules = surgery.modules
    kinds = surgery.kind(layer.path), surgery.kind(after.path)
    if kinds[0] in ("RNN", "LSTM", "GRU") and kinds[1] == "Linear":
        _widen_recurrent(surgery, layer, after)
        return
    if kinds != ("Linear", "Linear"):
        raise CannotApply(f"only nn.Linear layers can be widened; {layer.path} and the one after it are {kinds}")
    others = [other.units for other in places[:-1] if other is not layer and other.kind == "linear"]
    wide = max([min(layer.fan_in, after.units), *others[-1:]])
    between = [
        (path, module)
        for path, module in modules.items()
        if getattr(module, "num_features", None) == layer.units and path == layer.normalization
    ]
    old = modules[layer.path], modules[after.path]
    _put_linear(surgery, layer.path, layer.fan_in, wide, old[0])
    _put_linear(surgery, after.path, wide, after.units, old[1])
    for path, module in between:
        kind = type(module).__name__
        surgery.put(path, surgery.new(kind, wide))
        surgery.statements.append(f'replace("{path}", nn.{kind}({wide}))')
    surgery.words.append(f"{layer.path} widened from {layer.units} to {wide} units")
    named = {place: _activation_name(place) for place in (layer, after)}
    initialize(surgery, list(named.items()))


WIDTH_OF_STATE = 32
"""A state is made at least so wide: it has to hold what was read so far."""

_RECURRENT_OPTIONS = {"num_layers": 1, "nonlinearity": "tanh", "bias": True, "batch_first": False, "dropout": 0.0}


def _widen_recurrent(surgery: Surgery, layer: Layer, after: Layer) -> None:
    """A recurrent layer, and the linear one that reads it, as wide as the inputs and outputs, 32 units at least."""
    old, reader = surgery.modules[layer.path], surgery.modules[after.path]
    if old.bidirectional or getattr(old, "proj_size", 0):
        raise CannotApply(f"{layer.path} is bidirectional or has projections; widen it by hand")
    if reader.in_features != old.hidden_size:
        raise CannotApply(f"{after.path} reads {reader.in_features} numbers, and {layer.path} makes {old.hidden_size}")
    kind, wide = surgery.kind(layer.path), max(old.input_size, after.units, WIDTH_OF_STATE)
    given = {
        name: getattr(old, name) for name, usual in _RECURRENT_OPTIONS.items() if getattr(old, name, usual) != usual
    }
    surgery.put(layer.path, surgery.new(kind, old.input_size, wide, **given))
    options = "".join(f", {name}={value!r}" for name, value in given.items())
    surgery.statements.append(f'replace("{layer.path}", nn.{kind}({old.input_size}, {wide}{options}))')
    _put_linear(surgery, after.path, wide, after.units, reader)
    surgery.words.append(f"{layer.path} widened from {old.hidden_size} to {wide} units, and {after.path} with it")


def _put_linear(surgery: Surgery, path: str, given: int, made: int, old: Any) -> None:
    bias = old.bias is not None
    surgery.put(path, surgery.new("Linear", given, made, bias=bias))
    surgery.statements.append(f'replace("{path}", nn.Linear({given}, {made}{"" if bias else ", bias=False"}))')


def _activation_name(layer: Layer) -> str:
    return layer.activation.name if layer.activation else "linear"
