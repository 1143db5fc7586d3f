"""Remedies for the size of signals: initialisation, normalisation, residual connections."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from chainrule.doctor.examination import examine
from chainrule.doctor.measurements import Examination, Layer
from chainrule.doctor.remedies import recurrent
from chainrule.doctor.remedies.surgery import CannotApply, Surgery, parent_of
from chainrule.doctor.vocabulary import ACTIVATIONS

# Initialisation -----------------------------------------------------------------------------------------------------


def initialization(surgery: Surgery) -> None:
    """Draw weights anew, by the activation that follows each layer."""
    if surgery.where and all(layer.kind == "embedding" for layer in surgery.layers()) and _draw_tables(surgery):
        return
    layers = _to_initialize(surgery)
    is_all = len(layers) == sum(layer.kind != "embedding" for layer in surgery.exam.layers)
    if is_all and _draw_tables(surgery):  # what the layers are given is as large as the tables now
        surgery.exam = replace(examine(surgery.subject), time=surgery.exam.time)
        layers = _to_initialize(surgery)
    initialize(surgery, [(layer, layer.activation.name if layer.activation else "linear") for layer in layers])


LARGE_TABLE = 0.5
"""Standard deviation from which a table that is added to others drowns them."""


SMALL_VECTORS, LARGE_VECTORS = 0.01, 2.5
"""Standard deviations of vectors that are looked up which are too far from the usual one, 1."""


def _draw_tables(surgery: Surgery) -> bool:
    """Draw large tables that no layer reads, such as those of places in a text, as small as vectors of words are; and
    vectors that are looked up as usual, where they are far from that. Whether there were any.
    """
    looked_up = {path for layer in surgery.exam.layers if layer.kind == "embedding" for path in layer.parameters}
    odd = [
        path
        for path, p in surgery.subject.parameters()
        if path in looked_up and not SMALL_VECTORS < float(surgery.numbers(p).std()) < LARGE_VECTORS
    ]
    if odd:
        _draw(surgery, {("normal_", "mean=0, std=1"): odd})
        surgery.words.append(f"{', '.join(odd)} drawn anew, as usual for vectors that are looked up")
    read = {path for layer in surgery.exam.layers for path in layer.parameters}
    owned = {path: p for path, p in surgery.subject.parameters() if path not in read and len(p.shape) >= 2}
    large = [path for path, p in owned.items() if float(surgery.numbers(p).std()) > LARGE_TABLE]
    ways: dict[tuple[str, ...], list[str]] = {}
    for path in large:
        ways.setdefault(("normal_", f"mean=0, std={owned[path].shape[-1] ** -0.5:.3g}"), []).append(path)
    if ways:
        _draw(surgery, ways)
        surgery.words.append(f"{', '.join(large)} drawn anew, as small as vectors of words are")
    return bool(odd or ways)


def _to_initialize(surgery: Surgery) -> list[Layer]:
    """The layers named; all of them where at least half are."""
    all_layers = [
        layer
        for layer in surgery.exam.layers
        if layer.kind != "embedding" or (surgery.where and surgery.concerns(layer.path))
    ]
    named = [layer for layer in all_layers if surgery.concerns(layer.path)]
    if not all_layers:
        raise CannotApply("there is no layer to initialise")
    return named if 0 < len(named) < len(all_layers) / 2 else all_layers


def usual_initialization(surgery: Surgery) -> None:
    """Draw weights anew as the framework does when a layer is made."""
    paths = list(dict.fromkeys(layer.path for layer in _to_initialize(surgery)))
    modules = surgery.modules
    known = [path for path in paths if hasattr(modules.get(path), "reset_parameters")]
    if not known:
        raise CannotApply("no layer is a module of nn, which would know how its weights are usually drawn")
    for path in known:
        modules[path].reset_parameters()
    surgery.for_each(known, "model.get_submodule(path).reset_parameters()")
    if len(paths) == len({layer.path for layer in surgery.exam.layers if layer.kind != "embedding"}):
        _draw_tables(surgery)
    places = ", ".join(known) if len(known) <= 6 else f"{len(known)} layers"
    surgery.words.append(f"weights of {places} drawn anew, as usual for such layers")


def initialize(surgery: Surgery, layers: Sequence[tuple[Layer, str]]) -> None:
    """Draw the weights of layers anew, each with the name of the activation after it. Biases become 0.

    - Rectifiers and their smooth relatives: He's normal distribution (He et al. 2015).
    - tanh, and no activation: an orthogonal matrix (Saxe et al. 2013), or Xavier's where a layer is no plain matrix.
    - sigmoid: the same times 4, the biases such that the mean input gives 0. As σ(z) = (1 + tanh(z/2))/2, the network
      is then the one with tanh and an orthogonal matrix (Glorot and Bengio 2010 have the factor 4).
    - Vectors that are looked up: standard normal.
    - Recurrent layers: Xavier's for the input, an orthogonal matrix for each gate, forget gates open.

    The last layer of a branch that others are added to starts 1/√n as large, n the number of branches (Radford et al.
    2019); all layers of branches do where it is not known which is the last, or nothing normalises the sum. Tables that
    are no layers, such as places that are added to words, are drawn small as those are.
    """
    modules = surgery.modules
    ways: dict[tuple[str, ...], list[str]] = {}
    shrunk = _ends_of_branches(surgery.exam)
    branches = max(len(shrunk), 1)
    scaled: dict[str, list[str]] = {}
    for layer, activation in layers:
        if layer.kind == "recurrent" and any(".weight_hh" in f".{path}" for path in layer.parameters):
            recurrent.initialize(surgery, layer)
            continue
        owned = dict(surgery.subject.parameters())
        present = [path for path in _parameters_at(layer, modules) if path in owned]
        factors = [path for path in present if _is_factor(path, owned[path], modules.get(layer.path), surgery.nn)]
        if factors:
            scaled[layer.path] = factors
        for path in present:
            if path in factors:
                continue
            many = len(owned[path].shape) >= 2
            flipped = layer.kind == "product" and type(modules.get(layer.path)).__name__ != "Linear"
            way = _way(layer, activation, len(owned[path].shape), flipped) if many else ("zeros_", "0")
            if many and layer.path in shrunk and branches > 1:
                way = (*way, f"{1 / math.sqrt(branches):.3g}")
            ways.setdefault(way, []).append(path)
        if activation == "sigmoid" and layer.kind == "linear":
            ways.setdefault(("centre",), []).extend(path for path in present if len(owned[path].shape) == 1)
    if ways:
        _draw(surgery, ways)
        drawn = list(dict.fromkeys(layer.path for layer, _ in layers if layer.kind != "recurrent"))
        names = dict.fromkeys(_SOURCES[way[0]] for way in ways if way[0] in _SOURCES)
        places = ", ".join(drawn) if len(drawn) <= 6 else f"{len(drawn)} layers"
        surgery.words.append(f"weights of {places} drawn anew ({', '.join(names)}), biases 0")
    _fit_factors(surgery, scaled)


def _is_factor(path: str, parameter: Any, module: Any, nn: Any) -> bool:
    """Whether a parameter of a layer of the user's own is no bias, but what its weights are multiplied by."""
    own = module is not None and not hasattr(nn, type(module).__name__)
    return own and len(parameter.shape) < 2 and "bias" not in path.rpartition(".")[2]


def _fit_factors(surgery: Surgery, scaled: dict[str, list[str]]) -> None:
    """Bring factors of weights, layer after layer, to where the layer's output on the batch has variance 1.

    Source: Salimans and Kingma 2016, "Weight Normalization", section 3.
    """
    for path, factors in scaled.items():
        made: list[float] = []
        hook = surgery.modules[path].register_forward_hook(
            lambda _, given, output, made=made: made.append(float(surgery.numbers(output).std()))
        )
        try:
            with surgery.subject.undisturbed(), surgery.subject.quietly(), np.errstate(all="ignore"):
                surgery.subject.run()
        finally:
            hook.remove()
        if not made or not 0 < made[0] < math.inf:
            continue
        factor = float(f"{1 / made[0]:.3g}")
        owned = dict(surgery.subject.parameters())
        for name in factors:
            surgery.tools.fill(owned[name], surgery.numbers(owned[name]) * factor)
            surgery.statements.append(f'parameters["{name}"].data = parameters["{name}"].data * {factor:g}')
        surgery.words.append(f"{', '.join(factors)} times {factor:g}, so that what {path} makes has variance 1")


def _ends_of_branches(exam: Examination) -> set[str]:
    """Paths of the layers whose outputs are added up."""
    skipped = [layer for layer in exam.layers if layer.skipped]
    owners = dict.fromkeys(parent_of(layer.path) for layer in skipped)
    if len(owners) == 1 or len(exam.normalizations) < len(owners):
        return {layer.path for layer in skipped}
    return {[layer.path for layer in skipped if parent_of(layer.path) == owner][-1] for owner in owners}


_SOURCES = {"kaiming_normal_": "He", "orthogonal_": "orthogonal", "xavier_uniform_": "Xavier"}


_AROUND_ZERO = frozenset({"tanh", "sigmoid", "hardtanh", "softsign", "hardsigmoid", "sin"})
"""Activations that are steepest at 0 and flatter on both sides."""


def _parameters_at(layer: Layer, modules: dict[str, Any]) -> Sequence[str]:
    """Paths of a layer's parameters: those it was seen to read, or those of a module that was put in its place."""
    module = modules.get(layer.path)
    if module is None or layer.kind == "product" or f"{layer.path}.weight" not in layer.parameters:
        return layer.parameters
    return [f"{layer.path}.{name}" for name, _ in module.named_parameters()]


def _way(layer: Layer, activation: str, ndim: int, flipped: bool) -> tuple[str, ...]:
    """An initialiser of `nn.init` and its further arguments, as code; `flipped` for weights of inputs by outputs."""
    if layer.kind == "embedding":
        return "normal_", ""
    if activation in ACTIVATIONS and activation not in _AROUND_ZERO:
        rectifier = 'a=0.1, nonlinearity="leaky_relu"' if activation == "leaky_relu" else 'nonlinearity="relu"'
        return "kaiming_normal_", ('mode="fan_out", ' if flipped else "") + rectifier
    gain = 4.0 if activation in ("sigmoid", "hardsigmoid") else 1.0
    plain = ndim == 2 and layer.kind in ("linear", "product") and activation != "linear"
    return ("orthogonal_" if plain else "xavier_uniform_"), ("" if gain == 1 else f"gain={gain:g}")


def _draw(surgery: Surgery, ways: dict[tuple[str, ...], list[str]]) -> None:
    owned = dict(surgery.subject.parameters())
    surgery.statements.append("parameters = dict(model.named_parameters())")
    for way, paths in ways.items():
        if way == ("centre",):
            continue
        kind, arguments, *shrunk = way
        if kind == "zeros_":
            lines = ["nn.init.zeros_(parameters[path])"]
        else:
            lines = [f"nn.init.{kind}(parameters[path]{', ' + arguments if arguments else ''})"]
        if shrunk:
            lines.append(f"parameters[path].data = parameters[path].data * {shrunk[0]}")
        for path in paths:
            getattr(surgery.nn.init, kind)(owned[path], **_options(arguments if kind != "zeros_" else ""))
            if shrunk:
                surgery.tools.fill(owned[path], surgery.numbers(owned[path]) * float(shrunk[0]))
        surgery.for_each(paths, *lines)
    for path in ways.get(("centre",), []):
        weight = owned.get(f"{parent_of(path)}.weight")
        if weight is not None:
            surgery.tools.fill(owned[path], -0.5 * surgery.numbers(weight).sum(axis=1))
    if ways.get(("centre",)):
        owners = [parent_of(path) for path in ways[("centre",)]]
        surgery.for_each(owners, 'parameters[path + ".bias"].data = -0.5 * parameters[path + ".weight"].data.sum(1)')


def _options(arguments: str) -> dict[str, Any]:
    """Keyword arguments that were written as code: numbers and strings."""
    pairs = [part.split("=") for part in arguments.split(", ") if part]
    return {name: value.strip('"') if value.startswith('"') else float(value) for name, value in pairs}


# Normalisation ------------------------------------------------------------------------------------------------------

ENOUGH_EXAMPLES = 16
"""From this length of a batch on, its own mean and variance are good enough for batch normalisation."""


def normalization(surgery: Surgery) -> None:
    """Mend normalisations that pass nothing on, or put new ones after layers that have none."""
    if surgery.code == "dead-batchnorm":
        _mend(surgery)
        return
    if any(layer.skipped for layer in surgery.exam.layers):
        _normalize_branches(surgery)
        return
    done: dict[str, list[str]] = {}
    modules = surgery.modules
    treated = _between_layers(surgery)
    for layer in treated:
        made = _normalization_for(surgery, layer, modules)
        if made is None:
            continue
        kind, *sizes = made
        new = surgery.new(kind, *sizes)
        surgery.put(layer.path, surgery.new("Sequential", modules[layer.path], new))
        call = f"nn.{kind}({', '.join(map(str, sizes))})"
        done.setdefault(call, []).append(layer.path)
    if not done:
        raise CannotApply("no Linear or convolution was found, as a module, that has no normalisation after it")
    for call, paths in done.items():
        surgery.for_each(paths, f"replace(path, nn.Sequential(model.get_submodule(path), {call}))")
    kinds = ", ".join(dict.fromkeys(call[3:].partition("(")[0] for call in done))
    count = sum(map(len, done.values()))
    surgery.words.append(f"{kinds} put after {count} {'layer' if count == 1 else 'layers'}, before the activation")


def _normalize_branches(surgery: Surgery) -> None:
    """A LayerNorm at the entry of each branch that a path leads around, and before the last layer.

    Source: Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture", figure 1 (b).
    """
    layers = [layer for layer in surgery.exam.layers if layer.kind in ("linear", "attention")]
    entries = [layer for layer, before in zip(layers, [None, *layers], strict=False) if _enters(layer, before)]
    if layers and layers[-1] is surgery.exam.layers[-1]:
        entries.append(layers[-1])
    modules = surgery.modules
    sizes = {layer.path: _features(modules.get(layer.path)) for layer in entries}
    sizes = {path: size for path, size in sizes.items() if size}
    if len(surgery.exam.normalizations) >= len(sizes) / 2:
        raise CannotApply("no branch was found that begins with a Linear or an attention, as a module, and has none")
    Normalized = surgery.define("Normalized")
    for path, size in sizes.items():
        surgery.put(path, Normalized(modules[path], surgery.new("LayerNorm", size)))
    for size in dict.fromkeys(sizes.values()):
        paths = [path for path, other in sizes.items() if other == size]
        surgery.for_each(paths, f"replace(path, Normalized(model.get_submodule(path), nn.LayerNorm({size})))")
    surgery.words.append(f"LayerNorm put before {len(sizes)} layers, where branches begin and before the last layer")


def _enters(layer: Layer, before: Layer | None) -> bool:
    """Whether a branch begins with a layer: it is given what none before it made."""
    if not layer.skipped:
        return False
    if before is None or not before.skipped or "attention" in (layer.kind, before.kind):
        return True
    same_input = before.input == layer.input  # query, key and value of an attention
    return same_input or parent_of(before.path) != parent_of(layer.path)


def _features(module: Any) -> int:
    """How many features a module is given; 0 where it is none that says so."""
    kind = type(module).__name__
    return int(getattr(module, {"Linear": "in_features", "MultiheadAttention": "embed_dim"}.get(kind, ""), 0))


def _between_layers(surgery: Surgery) -> list[Layer]:
    """Layers to treat: all but the last one, those without normalisation."""
    last = surgery.exam.layers[-1:]
    return [
        layer
        for layer in surgery.layers("linear", "convolution")
        if layer.normalization is None and layer not in last and not _repeated(surgery, layer)
    ]


def _repeated(surgery: Surgery, layer: Layer) -> bool:
    """Whether the module at a layer's path is no layer itself, but a network that calls one as a function."""
    return f"{layer.path}.weight" not in layer.parameters


def _normalization_for(surgery: Surgery, layer: Layer, modules: dict[str, Any]) -> tuple | None:
    module = modules.get(layer.path)
    kind = type(module).__name__
    many = surgery.exam.examples >= ENOUGH_EXAMPLES
    if kind in ("Conv1d", "Conv2d"):
        channels = module.out_channels  # type: ignore[union-attr]
        return (f"BatchNorm{kind[4:]}", channels) if many else ("GroupNorm", 1, channels)
    if kind != "Linear":
        return None
    features = module.out_features  # type: ignore[union-attr]
    return ("BatchNorm1d", features) if many and layer.size == features else ("LayerNorm", features)


def usual_normalization(surgery: Surgery) -> None:
    """Make normalisations anew whose first values or statistics are not what they usually are."""
    odd = tuple(path for path, module in _normalizations(surgery).items() if _odd(surgery, module))
    if not odd:
        raise CannotApply("there is no normalisation with unusual statistics, scale, shift or momentum")
    surgery.where = odd
    _mend(surgery)


def _normalizations(surgery: Surgery) -> dict[str, Any]:
    return {path: module for path, module in surgery.modules.items() if _NORMALIZATION.fullmatch(type(module).__name__)}


_NORMALIZATION = re.compile(r"(Batch|Layer|Group|RMS|Instance)Norm(\dd)?")


def _odd(surgery: Surgery, module: Any) -> bool:
    """Whether a normalisation has a scale near 0, a shift that nothing it makes comes across, a large ε, statistics
    that hardly move, or none that are taken.
    """
    scale, shift = (
        None if parameter is None else float(abs(surgery.numbers(parameter)).mean())
        for parameter in (getattr(module, "weight", None), getattr(module, "bias", None))
    )
    small = scale is not None and scale < SMALL_SCALE
    shifted = shift is not None and shift > FAR * (scale or 1.0)
    return small or shifted or _stands_still(module) or not module.training or (module.eps or 0.0) > LARGE_EPSILON


SMALL_SCALE, LARGE_EPSILON, SLOW, FAR = 0.05, 0.1, 0.01, 3.0
"""A scale usually starts at 1, ε is 1e-5, and a momentum is 0.1; of numbers of variance 1 hardly any is beyond 3."""


def _mend(surgery: Surgery) -> None:
    present = _normalizations(surgery)
    seen = {norm.path: norm for norm in surgery.exam.normalizations}
    dead = {path for path, norm in seen.items() if norm.dead or norm.examples < ENOUGH_EXAMPLES // 4}
    sick = {path: m for path, m in present.items() if surgery.concerns(path) or _stands_still(m)}
    if not surgery.where:  # of all there are, those that show something, if any do
        sick = {path: m for path, m in sick.items() if path in dead or _odd(surgery, m)} or sick
    if not sick:
        raise CannotApply("the normalisation is called as a function in a forward; it is no module that can be mended")
    for path, module in sick.items():
        norm = seen.get(path)
        few = norm is not None and norm.uses_batch and norm.examples < ENOUGH_EXAMPLES // 4
        kind, sizes, why = _in_place_of(surgery, module, few)
        surgery.put(path, surgery.new(kind, *sizes).train())
        surgery.statements.append(f'replace("{path}", nn.{kind}({", ".join(map(str, sizes))}))')
        surgery.words.append(
            f"{path} made anew: scale 1, shift 0, fresh statistics, in training mode"
            if not why
            else f"{kind} in the place of {path}, which {why}"
        )


def _in_place_of(surgery: Surgery, module: Any, few: bool) -> tuple[str, tuple, str]:
    """The normalisation to put in the place of a sick one, its sizes, and why it is another one; "" where it is not."""
    kind = type(module).__name__
    if kind.startswith(("Batch", "Instance")):
        features = int(module.num_features)
        if few:
            other, sizes = ("LayerNorm", (features,)) if kind == "BatchNorm1d" else ("GroupNorm", (1, features))
            return other, sizes, "saw too few numbers per channel"
        return kind.replace("Instance", "Batch"), (features,), "" if kind.startswith("Batch") else "saw one example"
    own = (module.num_groups, module.num_channels) if kind == "GroupNorm" else (tuple(module.normalized_shape),)
    if _odd(surgery, module):
        return kind, own, ""
    if kind == "GroupNorm":
        return kind, (1, module.num_channels), "took its groups too small"
    single = math.prod(module.normalized_shape) == 1
    return ("Identity", (), "saw a single number") if single else (kind, own, "")


def _stands_still(module: Any) -> bool:
    """Whether running statistics hardly follow the batches."""
    momentum = getattr(module, "momentum", None)
    return momentum is not None and momentum < SLOW


# Residual connections -----------------------------------------------------------------------------------------------


def residual(surgery: Surgery) -> None:
    """Lead a path around blocks whose output has the shape of their input."""
    spans = list(_spans(surgery))
    if spans:
        _wrap_spans(surgery, spans)
        return
    alone = [layer for layer in _square(surgery) if not (layer.activation and layer.activation.name == "sigmoid")]
    if not alone:
        raise CannotApply(
            "no block has an output of its input's shape, or its parts are put together in a forward, where a path "
            "around them must be written by hand: x = x + block(x)"
        )
    Residual = surgery.define("Residual")
    modules = surgery.modules
    small = f"gain={1 / math.sqrt(len(alone)):.3g}"
    for layer in alone:
        surgery.nn.init.xavier_uniform_(modules[layer.path].weight, **_options(small))
        surgery.put(layer.path, Residual(modules[layer.path]))
    surgery.for_each(
        [layer.path for layer in alone],
        f"nn.init.xavier_uniform_(model.get_submodule(path).weight, {small})",
        "replace(path, Residual(model.get_submodule(path)))",
    )
    places = ", ".join(layer.path for layer in alone) if len(alone) <= 6 else f"{len(alone)} layers"
    surgery.words.append(f"a path around each of {places}, the branches started 1/√{len(alone)} as large")


def _square(surgery: Surgery) -> list[Layer]:
    """Layers that give as many numbers as they take, and have no path around them yet."""
    found = []
    for layer in surgery.exam.layers:
        size = layer.input.count == layer.output.count and layer.fan_in > 0
        if size and layer.kind in ("linear", "convolution") and not layer.skipped and not _repeated(surgery, layer):
            module = surgery.modules.get(layer.path)
            ends = [getattr(module, name, 0) for name in ("in_features", "out_features", "in_channels", "out_channels")]
            if ends[0] == ends[1] and ends[2] == ends[3] and any(ends):
                found.append(layer)
    return found


def _spans(surgery: Surgery) -> Iterator[tuple[str, int, int]]:
    """Blocks of a Sequential: its path, and from where to where what comes between two layers and the later layer."""
    square = {layer.path for layer in _square(surgery)}
    places = {layer.path for layer in surgery.exam.layers}
    for path, module in surgery.modules.items():
        if type(module).__name__ != "Sequential":
            continue
        children = [f"{path}.{name}" if path else name for name, _ in module.named_children()]
        if len(children) != len(module):
            continue  # a module that is there twice
        start = None
        for place, child in enumerate(children):
            holds = any(p == child or p.startswith(f"{child}.") for p in places)
            if not holds:
                continue
            if start is not None and place > start and child in _endings(square, children):
                yield path, start, place + 1
            start = place + 1


def _endings(square: set[str], children: Sequence[str]) -> set[str]:
    """Children that are square layers, or hold nothing but one and its normalisation."""
    return {child for child in children if child in square or f"{child}.0" in square}


def _wrap_spans(surgery: Surgery, spans: Sequence[tuple[str, int, int]]) -> None:
    Residual = surgery.define("Residual")
    count = len(spans)
    for path in dict.fromkeys(path for path, _, _ in spans):
        own = [(start, stop) for where, start, stop in spans if where == path]
        container = surgery.modules[path]
        for start, stop in own:
            layers = [container[k] for k in range(start, stop)]
            for parameter in layers[-1].parameters():
                if len(parameter.shape) >= 2:
                    surgery.tools.fill(parameter, surgery.numbers(parameter) / math.sqrt(count))
            container[start] = Residual(surgery.new("Sequential", *layers))
            for k in range(start + 1, stop):
                container[k] = surgery.new("Identity")
        surgery.statements.append(f'layers = model.get_submodule("{path}")')
        surgery.loop(
            "start, stop",
            [str(span) for span in own],
            "block = [layers[k] for k in range(start, stop)]",
            "for parameter in block[-1].parameters():",
            "    if len(parameter.shape) >= 2:",
            f"        parameter.data = parameter.data / {math.sqrt(count):.6g}",
            "layers[start] = Residual(nn.Sequential(*block))",
            "for k in range(start + 1, stop):",
            "    layers[k] = nn.Identity()",
        )
    surgery.words.append(f"a path around each of {count} blocks, the branches started 1/√{count} as large")
