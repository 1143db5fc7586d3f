"""Remedies for units: another activation, and a wider layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.doctor.measurements import Activation, Layer
from chainrule.doctor.remedies.calls import exchange
from chainrule.doctor.remedies.operations import Reshapes
from chainrule.doctor.remedies.signal import initialize
from chainrule.doctor.remedies.surgery import CannotApply, Surgery
from chainrule.doctor.vocabulary import ACTIVATIONS, BOUNDED, RECTIFIERS

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
    found = [a for a in _hidden(surgery) if a.name in MODULES and _replacement(a, surgery.code)]
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
        raise CannotApply(
            f"{found[0].name} is called as a function in {surgery.forward_of(found[0].path)}; use a module "
            f"(nn.{MODULES[found[0].name]}), or exchange the call there by hand"
        )
    for new in dict.fromkeys(_replacement(a, surgery.code) for a in swapped.values()):
        paths = [path for path, a in swapped.items() if _replacement(a, surgery.code) == new]
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
    calls = {a.path: a.name for a in found if _replacement(a, surgery.code) == "ReLU"}
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


STRAIGHT = 0.95
"""Root mean square of the local derivative, as a share of its maximum, from which an activation is as good as none."""


def _replacement(activation: Activation, code: str) -> str:
    """What to put in the place of an activation; empty where it can stay."""
    name = activation.name
    if name in RECTIFIERS - {"hardtanh"}:
        return _LEAKY if code in _OFF else ""
    straight = code == "cannot-overfit-batch" and activation.slope > STRAIGHT * ACTIVATIONS[name]
    return "ReLU" if straight or name in BOUNDED or name in ("softplus", "log_expit") else ""


def _listed(paths: list[str]) -> str:
    return ", ".join(paths) if len(paths) <= 6 else f"{', '.join(paths[:3])}, ..., {paths[-1]} ({len(paths)} places)"


def bounded_state(surgery: Surgery) -> None:
    """Plain recurrent layers of rectified units become layers of tanh, whose state cannot grow, drawn anew.

    Source: Pascanu et al. 2013, "On the difficulty of training recurrent neural networks", section 2.1: with tanh the
    error signal grows only where the recurrent matrix's largest singular value exceeds 1, which an orthogonal one's
    does not.
    """
    modules = surgery.modules
    layers = [
        layer
        for layer in surgery.layers("recurrent")
        if surgery.kind(layer.path) in _SIZES and getattr(modules[layer.path], "nonlinearity", "") == "relu"
    ]
    if not layers:
        raise CannotApply("there is no plain recurrent layer of rectified units")
    for layer in layers:
        _replaced(surgery, layer.path, {}, nonlinearity="tanh")
        surgery.words.append(f"tanh instead of relu in {layer.path}")
    initialize(surgery, [(layer, "linear") for layer in layers])


# Width --------------------------------------------------------------------------------------------------------------


def width(surgery: Surgery) -> None:
    """Widen a bottleneck to the narrower of the widths around it, and what reads it with it: the layer after it, or all
    layers that count on its width; and so a forward that brings what it makes into that shape.
    """
    chain = _chain(surgery)
    _widened(surgery, chain, _narrowest(surgery, chain))


def lasting_state(surgery: Surgery) -> None:
    """Widen a recurrent state, and draw its layer such that the state lasts: orthogonal, its forget gates open.

    What must be remembered over many steps is learned late, or never, from a state that fades within a few; what only
    needs the last steps is learned faster from the usual values.
    """
    chain = _chain(surgery)
    k = _narrowest(surgery, chain)
    if surgery.kind(chain[k]) not in _STATES:
        raise CannotApply(f"{chain[k]} has no state that could last")
    _widened(surgery, chain, k)
    initialize(surgery, [(layer, "linear") for layer in surgery.exam.layers if layer.path == chain[k]])


def _chain(surgery: Surgery) -> list[str]:
    """The layers that make so many numbers of what they are given, in the order of the modules."""
    return [path for path, module in surgery.modules.items() if type(module).__name__ in _MAKES]


def _widened(surgery: Surgery, chain: list[str], k: int) -> None:
    """Widen one layer of a chain in the first way with which the network runs."""
    wide = _wide_enough(surgery, chain, k)
    found, model = surgery.modules, surgery.subject.model
    said = len(surgery.words), len(surgery.statements)
    problems: list[str] = []
    for widen, reshapes in ((_widen, False), (_widen_throughout, False), (_widen, True), (_widen_throughout, True)):
        surgery.subject.seed(surgery.seed)
        try:
            treated = widen(surgery, chain, k, wide)
            if reshapes:
                _reshaped(surgery, _made_by(found[chain[k]]), _made_by(surgery.modules[chain[k]]))
            surgery.run()
        except Exception as error:  # what the forward makes of other shapes is anybody's guess
            problems += [str(error).strip().partition("\n")[0]]
            surgery.put("", model)
            for path, module in found.items():
                if path:
                    surgery.put(path, module)
            del surgery.words[said[0] :], surgery.statements[said[1] :]
        else:
            _draw_widened(surgery, treated)
            return
    raise CannotApply(
        problems[0] if len(chain) == k + 1 else f"the network does not run with a wider {chain[k]}: {problems[0]}"
    )


def _widen(surgery: Surgery, chain: list[str], k: int, wide: int) -> list[str]:
    """Widen a layer and the one after it, with normalisations between them. Paths of the two."""
    if len(chain) == k + 1:
        raise CannotApply(f"no layer is known that reads {chain[k]}")
    modules = surgery.modules
    path, after = chain[k], chain[k + 1]
    old = _made_by(modules[path])
    order = [*modules]
    between = [
        place
        for place in order[order.index(path) + 1 : order.index(after)]
        if surgery.kind(place) in _NORMALIZES and _taken_by(modules[place]) == old
    ]
    if _taken_by(modules[after]) % old:
        raise CannotApply(f"{after} reads {_taken_by(modules[after])} numbers, and {path} makes {old}")
    _replaced(surgery, path, {_MAKES[surgery.kind(path)]: wide})
    made = _made_by(surgery.modules[path])
    for place in between:
        _replaced(surgery, place, {_NORMALIZES[surgery.kind(place)]: made})
    if surgery.kind(after) not in _TAKES:
        raise CannotApply(f"{after} is no layer of nn that could be made to read more")
    _replaced(surgery, after, {_TAKES[surgery.kind(after)]: made * (_taken_by(modules[after]) // old)})
    surgery.words.append(f"{path} widened from {old} to {made} units, and {after} with it")
    return [path, after]


def _widen_throughout(surgery: Surgery, chain: list[str], k: int, wide: int) -> list[str]:
    """Widen all layers that make or read as many numbers as a layer makes, but for the network's answers."""
    modules = surgery.modules
    narrow = modules[chain[k]]
    old = int(getattr(narrow, _MAKES[surgery.kind(chain[k])]))
    last = surgery.exam.layers[-1]
    answers = last.path if last.kind != "product" else ""
    changed = []
    for path, module in modules.items():
        kind = type(module).__name__
        names = [table[kind] for table in (_MAKES, _TAKES, _NORMALIZES) if kind in table]
        if path == answers:
            names = [_TAKES[kind]] if kind in _TAKES else []
        sizes = {name: wide for name in names if np.prod(getattr(module, name)) == old}
        if sizes:
            _replaced(surgery, path, sizes)
            changed.append(path)
    surgery.words.append(f"{', '.join(changed)} widened from {old} to {wide} units")
    return changed


def _reshaped(surgery: Surgery, old: int, new: int) -> None:
    """Let a forward that brings what it makes into rows of so many numbers make longer rows."""
    surgery.put("", surgery.tools.altered(surgery.subject.model, Reshapes(old, new)))
    surgery.words.append(f"rows of {new} numbers instead of {old} made in the forward of {surgery.exam.model}")
    surgery.statements.append(f"# in the forward of {surgery.exam.model}:  reshape to {new} numbers instead of {old}")


def _draw_widened(surgery: Surgery, paths: list[str]) -> None:
    """Draw two layers that were widened together for each other, if the network's others were not left as usual."""
    if _drawn_as_usual(surgery):
        return
    layers = [layer for layer in surgery.exam.layers if layer.path in paths and layer.kind == "linear"]
    if len(layers) == len(paths) == 2 and surgery.kind(paths[0]):
        initialize(surgery, [(layer, _activation_name(layer)) for layer in layers])


USUAL_SPREAD = 1 / math.sqrt(3)
"""Of weights as the modules draw them, uniformly within 1/√fan-in: their standard deviation times √fan-in."""


def _drawn_as_usual(surgery: Surgery) -> bool:
    """Whether most layers have the spread of weights that their modules gave them."""
    layers = [layer for layer in surgery.exam.layers if layer.kind in ("linear", "convolution")]
    spreads = [layer.weight.std * math.sqrt(layer.fan_in) for layer in layers]
    return bool(spreads) and math.isclose(float(np.median(spreads)), USUAL_SPREAD, rel_tol=0.1)


MUCH_NARROWER = 8
"""Where no layer is named, one is widened that is so many times narrower than both what it reads and the next one."""

WIDTH_OF_STATE = 32
"""A state is made at least so wide: it has to hold what was read so far."""

WIDTH_OF_WORDS = 16
"""The same of vectors that are looked up, for they stand for many things."""


def _narrowest(surgery: Surgery, chain: list[str]) -> int:
    """The place of the layer named; where none is named, of one that is much narrower than those around it."""
    last = surgery.exam.layers[-1]
    read = bool(chain) and last.kind == "product" and last.path == chain[-1]  # its weights also read what it makes
    hidden = range(len(chain) - (not read))
    if surgery.where:
        named = next((k for k in hidden if surgery.concerns(chain[k])), None)
        if named is None:
            raise CannotApply("no hidden layer was named as the bottleneck")
        return named
    sizes = [_made_by(surgery.modules[path]) for path in chain]
    narrow = [k for k in hidden if MUCH_NARROWER * sizes[k] <= _usual_width(surgery, chain, k)]
    if not narrow:
        raise CannotApply(f"no hidden layer is {MUCH_NARROWER} times narrower than what is around it")
    return min(narrow, key=lambda k: sizes[k])


def _usual_width(surgery: Surgery, chain: list[str], k: int) -> int:
    """What there is around a layer, or in the last one of its kind; a state holds more than one step brings."""
    kind, around = surgery.kind(chain[k]), min(_around(surgery, chain, k))
    if kind in _STATES:
        return max(around, WIDTH_OF_STATE)
    return around if kind == "Embedding" else _wide_enough(surgery, chain, k)


def _around(surgery: Surgery, chain: list[str], k: int) -> tuple[int, int]:
    """How many numbers a layer reads, and how many the one after it makes."""
    module = surgery.modules[chain[k]]
    kernel = getattr(module, "kernel_size", (1,)) if type(module).__name__.startswith("Conv") else (1,)
    reads = _taken_by(module) * int(np.prod(kernel)) or WIDTH_OF_WORDS
    following = _made_by(surgery.modules[chain[k + 1]]) if k + 1 < len(chain) else reads
    return reads, following


def _wide_enough(surgery: Surgery, chain: list[str], k: int) -> int:
    kind = surgery.kind(chain[k])
    reads, makes = _around(surgery, chain, k)
    if kind in _STATES:
        return max(reads, makes, WIDTH_OF_STATE)
    if kind == "Embedding":
        return max(makes, WIDTH_OF_WORDS)
    alike = [_made_by(surgery.modules[path]) for path in chain[:-1] if path != chain[k] and surgery.kind(path) == kind]
    return max([min(reads, makes), *alike[-1:]])


_MAKES = {
    "Linear": "out_features", "Conv1d": "out_channels", "Conv2d": "out_channels", "Embedding": "embedding_dim",
    "ConvTranspose1d": "out_channels", "ConvTranspose2d": "out_channels",
    "RNN": "hidden_size", "LSTM": "hidden_size", "GRU": "hidden_size", "RNNCell": "hidden_size",
    "LSTMCell": "hidden_size", "GRUCell": "hidden_size",
}  # fmt: skip
"""What says how many numbers a layer makes of each example, place or step."""

_TAKES = {
    "Linear": "in_features", "Conv1d": "in_channels", "Conv2d": "in_channels", "RNNCell": "input_size",
    "ConvTranspose1d": "in_channels", "ConvTranspose2d": "in_channels",
    "RNN": "input_size", "LSTM": "input_size", "GRU": "input_size", "LSTMCell": "input_size", "GRUCell": "input_size",
}  # fmt: skip
"""What says how many it takes."""

_STATES = frozenset(kind for kind, size in _MAKES.items() if size == "hidden_size")

_NORMALIZES = {"BatchNorm1d": "num_features", "BatchNorm2d": "num_features", "LayerNorm": "normalized_shape"}


def _made_by(module: Any) -> int:
    size = int(getattr(module, _MAKES.get(type(module).__name__, ""), 0))
    return 2 * size if getattr(module, "bidirectional", False) else size


def _taken_by(module: Any) -> int:
    kind = type(module).__name__
    size = getattr(module, _TAKES.get(kind) or _NORMALIZES.get(kind, ""), 0)
    return int(np.prod(size))


_SIZES = {
    "Linear": ("in_features", "out_features"),
    "Conv1d": ("in_channels", "out_channels", "kernel_size"),
    "Conv2d": ("in_channels", "out_channels", "kernel_size"),
    "ConvTranspose1d": ("in_channels", "out_channels", "kernel_size"),
    "ConvTranspose2d": ("in_channels", "out_channels", "kernel_size"),
    "Embedding": ("num_embeddings", "embedding_dim"),
    "RNN": ("input_size", "hidden_size"),
    "LSTM": ("input_size", "hidden_size"),
    "GRU": ("input_size", "hidden_size"),
    "RNNCell": ("input_size", "hidden_size"),
    "LSTMCell": ("input_size", "hidden_size"),
    "GRUCell": ("input_size", "hidden_size"),
    "BatchNorm1d": ("num_features",),
    "BatchNorm2d": ("num_features",),
    "LayerNorm": ("normalized_shape",),
}
"""The sizes that a module is made with, in their order."""

_OPTIONS: dict[str, dict[str, Any]] = {
    "convolution": {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1},
    "recurrent": {
        "num_layers": 1, "nonlinearity": "tanh", "batch_first": False, "dropout": 0.0, "bidirectional": False,
    },
}  # fmt: skip
"""Further options, and what they usually are."""


_USUAL = {name: value for options in _OPTIONS.values() for name, value in options.items()}


def _replaced(surgery: Surgery, path: str, sizes: dict[str, int], **changes: Any) -> None:
    """A new module like the one at a path, with other sizes, and changes of its options."""
    old, kind = surgery.modules.get(path), surgery.kind(path)
    if kind not in _SIZES or getattr(old, "proj_size", False):
        raise CannotApply(f"{path or surgery.exam.model} is no layer of nn that could be made wider")
    given = [sizes.get(name, getattr(old, name)) for name in _SIZES[kind]]
    group = "convolution" if kind.startswith("Conv") else "recurrent" if "hidden_size" in _SIZES[kind] else ""
    options: dict[str, Any] = {
        name: getattr(old, name, usual)
        for name, usual in _OPTIONS.get(group, {}).items()
        if _is(old, name) not in (usual, ())
    }
    if getattr(old, "bias", True) is None or getattr(old, "bias", True) is False:
        options["bias"] = False
    options = {name: value for name, value in {**options, **changes}.items() if value != _USUAL.get(name)}
    surgery.put(path, surgery.new(kind, *given, **options))
    written = ", ".join([*map(repr, given), *(f"{name}={value!r}" for name, value in options.items())])
    surgery.statements.append(f'replace("{path}", nn.{kind}({written}))')


def _is(module: Any, name: str) -> Any:
    """An option of a module; of a tuple of equal numbers the one number."""
    value = getattr(module, name, ())
    return value[0] if isinstance(value, tuple) and value and len(set(value)) == 1 else value


def _activation_name(layer: Layer) -> str:
    return layer.activation.name if layer.activation else "linear"
