"""Faults of how a network is put together: operations, parts and losses that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from clinic.case import Patient
from clinic.drawn.change import Change, only
from clinic.drawn.healthy import Network, Plan, framework_values
from clinic.drawn.lot import between, happens, one_of, whole
from clinic.faults import data, losses
from clinic.faults import networks as broken
from clinic.frameworks import Framework
from clinic.problems import Problem
from clinic.setting import squared_error
from clinic.wider.broken import with_unread

Operation = Callable[[Framework, Any], Any]

# Not finite ---------------------------------------------------------------------------------------------------------


def logarithm(f: Framework, x: Any) -> Any:
    """Of pixels, most of which are 0."""
    return -f.tensor(x).log()


def own_spread(f: Framework, x: Any) -> Any:
    """Standardised over the batch without an epsilon: 0/0 where a pixel is the same in all images."""
    x = f.tensor(x)
    centred = x - x.mean(0)
    return centred / (centred**2).mean(0) ** 0.5


def own_length(f: Framework, x: Any) -> Any:
    """Divided by the sum of the example's row or image, which may be 0."""
    x = f.tensor(x)
    return x / x.sum(-1).reshape(*x.shape[:-1], 1)


def root(f: Framework, x: Any) -> Any:
    """Square roots of what a ReLU gives: the derivative at 0 is infinite."""
    return x.sqrt()


def overflowing(beta: float) -> Operation:
    """A softplus by hand, whose exponential overflows."""
    return lambda f, x: (1 + (beta * x).exp()).log() / beta


def inside(network: Network) -> dict[str, Any]:
    """The fields of a network inside of another, whose first values it has already."""
    return {"network": network, "adjust": framework_values}


def module_of(f: Framework, operation: Operation) -> Any:
    """An operation as a module."""
    nn: Any = f.nn

    class Transform(nn.Module):
        def forward(self, x: Any) -> Any:
            return operation(f, x)

    return Transform()


def before(network: Network, operation: Operation) -> Network:
    """A network that does something to its inputs first."""

    def make(f: Framework, problem: Problem) -> Any:
        nn: Any = f.nn

        class Prepared(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.scale = module_of(f, operation)
                self.net = network(f, problem)

            def forward(self, x: Any) -> Any:
                return self.net(self.scale(x))

        return Prepared()

    return make


def inserted(network: Network, path: str, operation: Operation) -> Network:
    """A `Sequential` whose module at the path is followed, in its place, by an operation."""

    def make(f: Framework, problem: Problem) -> Any:
        model = network(f, problem)
        *parents, last = path.split(".")
        parent = model.get_submodule(".".join(parents)) if parents else model
        parent[int(last)] = f.nn.Sequential(parent[int(last)], module_of(f, operation))
        return model

    return make


def not_finite(patient: Patient) -> bool:
    """Whether the loss over all examples is no number after a few steps."""
    inputs, targets = patient.data
    patient.train(30)
    with patient.framework.no_grad(), np.errstate(all="ignore"):
        return not np.isfinite(float(patient.loss_fn(patient.model(inputs), targets)))


def non_finite(plan: Plan, rng: np.random.Generator) -> Change:
    """Logarithms of 0, 0/0, roots at 0, exponentials that overflow, gaps in the data, or a mask of nothing."""
    change = partial(Change, plan, evident=not_finite)
    kind = one_of(rng, "input", "hidden", "gaps", "mask", "loss")
    if kind == "gaps":
        only(not plan.characters)
        return change("gaps", {"prepare": data.with_gaps(between(rng, 1e-3, 0.05))})
    if kind == "mask":
        only(plan.architecture == "transformer" and plan.data == "text")
        return change("masked-out", {"network": plan.network(earlier_only=True)}, ("blocks.0.attention",))
    if kind == "loss":
        only(plan.task == "numbers")
        return change("log-of-output", {"loss": losses.squared_difference_of_logarithms})
    if kind == "input":
        only(plan.data == "digits" and getattr(plan.problem, "__name__", "") != "standard_digits")
        operations = {"log-of-zero": logarithm, "no-sum": own_length, "no-spread": own_spread}
        variant = one_of(rng, *operations)
        only(variant != "no-sum" or plan.architecture != "mlp")  # no digit is empty, but rows of one are
        return change(variant, inside(before(plan.adjusted(), operations[variant])), ("scale",))
    only(plan.style in ("stack", "convolutions") and plan.hidden and len(plan.hidden[0]) == 2)
    path = one_of(rng, *plan.hidden)[1]
    layers = (path, f"{path}.1", f"{path}.0")
    if plan.activation == "relu" and happens(rng, 0.6):
        return change("root-of-zero", {"network": inserted(plan.network(), path, root)}, layers)
    operation = overflowing(between(rng, 300, 3000))
    return change("overflow", {"network": inserted(plan.network(), path, operation)}, layers)


# Unused and cut off -------------------------------------------------------------------------------------------------


def unheld(path: str) -> Callable[[Patient], None]:
    """The optimiser was made without a layer."""

    def history(patient: Patient) -> None:
        forgotten = {id(p) for p in patient.model.get_submodule(path).parameters()}
        (group,) = patient.optimizer.param_groups
        group["params"] = [p for p in group["params"] if id(p) not in forgotten]

    return history


def unused_parameter(plan: Plan, rng: np.random.Generator) -> Change:
    """A part that is never called, or that the optimiser does not hold."""
    kind = one_of(rng, "layer", "slip", "optimizer", "unread")
    if kind == "optimizer":
        path = one_of(rng, plan.out, *(layer[0] for layer in plan.hidden))
        if plan.style == "recurrent":
            path = one_of(rng, "rnn", plan.out)
        return Change(plan, "not-held", {"history": unheld(path)}, (path,))
    if kind == "unread":
        only(plan.style in ("perceptron", "residual", "recurrent", "attention"))
        width = whole(rng, 2, 8) * 8
        name, make = one_of(
            rng,
            ("extra_head", lambda f: f.nn.Linear(width, 2)),
            ("projection", lambda f: f.nn.Linear(width, width)),
            ("final_norm", lambda f: f.nn.LayerNorm(width)),
        )
        network = with_unread(plan.network(), name, make)
        return Change(plan, name.replace("_", "-"), {"network": network}, (name,), harm=False)
    # Layers may take each other's place where they are equally wide.
    only(plan.style == "perceptron" and len(set(plan.widths)) == 1)
    widths = (*plan.widths, plan.widths[0]) if len(plan.widths) == 1 else plan.widths
    place = whole(rng, 1, len(widths) - 1)
    if kind == "layer":
        network = plan.network(widths=widths, forgotten=place)
        return Change(plan, "forgotten-layer", {"network": network}, (f"hidden.{place}",), harm=False)
    if place < 2:  # the first layer takes inputs, which are of another width
        widths, place = (*widths, widths[0]), len(widths)
    network = plan.network(widths=widths, slip=place - 1)
    return Change(plan, "slip", {"network": network}, (f"hidden.{place}",), harm=False)


def cut_off(network: Network, path: str, how: str) -> Network:
    """A network, one part of which gives values that are cut off."""

    def make(f: Framework, problem: Problem) -> Any:
        nn: Any = f.nn
        model = network(f, problem)
        *parents, last = path.split(".")
        parent = model.get_submodule(".".join(parents)) if parents else model

        def cut(x: Any) -> Any:
            if isinstance(x, tuple):
                return tuple(cut(part) for part in x)
            return f.tensor(f.numpy(x)) if how == "numpy" else x.detach()

        class Features(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.body = getattr(parent, last)

            def forward(self, x: Any) -> Any:
                if how == "no_grad":
                    with f.no_grad():
                        return self.body(x)
                return cut(self.body(x))

        if last.isdigit():
            parent[int(last)] = Features()
        else:
            setattr(parent, last, Features())
        return model

    return make


def detached_graph(plan: Plan, rng: np.random.Generator) -> Change:
    """Values that are cut off on their way through the network."""
    how = one_of(rng, "detach", "numpy", "no_grad")
    variant = how.replace("_", "-")
    if plan.style == "recurrent":
        embedded = ("embed",) if plan.characters else ()
        network = cut_off(plan.adjusted(), "rnn", how)
        return Change(plan, variant, inside(network), ("rnn", "rnn.body", *embedded))
    only(plan.hidden and plan.style in ("perceptron", "stack", "convolutions") and not plan.norms)
    place = len(plan.hidden) - 1 if happens(rng, 0.7) else whole(rng, 0, len(plan.hidden) - 1)
    layers = tuple(path for layer in plan.hidden[: place + 1] for path in layer)
    embedded = ("embed",) if plan.characters else ()
    if plan.style == "perceptron":
        network = plan.network(cut=(place, how))
        return Change(plan, variant, {"network": network}, (*layers, *embedded))
    path = plan.hidden[place][1]  # the activation, so that all before it is cut off
    network = cut_off(plan.network(), path, how)
    if plan.style == "convolutions" and how == "no_grad":
        network = plan.network(cut=True, flat=False)
        layers = ("features", *(layer if layer.startswith("features") else f"features.{layer}" for layer in layers))
    else:
        layers = (*layers, f"{path}.body")
    return Change(plan, variant, {"network": network}, (*layers, *embedded))


# The last activation and the loss -----------------------------------------------------------------------------------


def loss_activation_mismatch(plan: Plan, rng: np.random.Generator) -> Change:
    """An activation at the end that the loss does not expect, or none where it does."""
    endings = {
        "classes": {"softmax-twice": "Softmax", "relu-before-softmax": "ReLU", "sigmoid-before-softmax": "Sigmoid"},
        "binary": {"sigmoid-twice": "Sigmoid"},
        "numbers": {"relu-before-numbers": "ReLU", "tanh-before-numbers": "Tanh", "sigmoid-before-numbers": "Sigmoid"},
    }[plan.task]
    if plan.task == "classes" and happens(rng, 0.25):
        return Change(plan, "no-log-softmax", {"loss": losses.without_softmax}, (plan.out,))
    variant = one_of(rng, *endings)
    options = {"dim": 1} if variant == "softmax-twice" else {}
    if plan.style == "stack":
        network = ending(plan.network(), endings[variant], options)
        return Change(plan, variant, {"network": network}, (str(int(plan.out) + 1),))
    network = broken.ending_in_function(plan.adjusted(), endings[variant].lower(), **options)
    return Change(plan, variant, inside(network), ("", "net", f"net.{plan.out}"))


def ending(network: Network, activation: str, options: dict[str, Any]) -> Network:
    """A `Sequential` with one more module."""
    return lambda f, problem: network(f, problem).append(getattr(f.nn, activation)(**options))


def wrong_loss(plan: Plan, rng: np.random.Generator) -> Change:
    """A loss of the wrong shape, sign or quantity."""
    of_task: dict[str, dict[str, Any]] = {
        "classes": {
            "squares-of-indices": losses.squared_distance_to_index,
            "distance-to-index": losses.absolute_distance_to_index,
            "without-targets": losses.confidence,
            "sign": losses.wrong_sign,
        },
        "binary": {"hinge-of-zeros": losses.hinge_of_zeros_and_ones, "means": losses.difference_of_means},
        "numbers": {
            "broadcast": losses.column_against_row,
            "means": losses.difference_of_means,
            "sign": losses.negative(squared_error),
        },
    }
    wrong = of_task[plan.task]
    variant = one_of(rng, *wrong)
    return Change(plan, variant, {"loss": wrong[variant]})


# Unable -------------------------------------------------------------------------------------------------------------


def bottleneck(plan: Plan, rng: np.random.Generator) -> Change:
    """One unit, or two where there are ten classes, between wider layers."""
    units = whole(rng, 1, 2) if plan.data in ("digits", "text") else 1
    if plan.style == "recurrent":
        only("bidirectional" not in plan.options)
        return Change(plan, "state", {"network": plan.network(width=units)}, ("rnn",))
    if plan.architecture == "transformer":
        only(plan.data != "text")
        network = partial(broken.narrow_transformer, **plan.options, units=units)
        return Change(plan, "result", {"network": network}, ("out.0", "out.1", "out"))
    if plan.style == "convolutions":
        # The last one, so that no more than some places of one channel are passed on.
        channels = (*plan.options["channels"][:-1], 1)
        return Change(plan, "channel", {"network": plan.network(channels=channels)}, plan.hidden[-1])
    only(plan.style in ("stack", "perceptron"))
    widths = list(plan.widths) if len(plan.widths) >= 3 else [plan.widths[0], plan.widths[-1], plan.widths[-1]]
    place = whole(rng, 1, len(widths) - 2)
    widths[place] = units
    size = 2 + bool(plan.options.get("norm")) + bool(plan.options["dropout"])
    layer = (
        (f"hidden.{place}",)
        if plan.style == "perceptron"
        else (str(place * size), str(place * size + 1 + bool(plan.options["norm"])))
    )
    return Change(plan, "units", {"network": plan.network(widths=tuple(widths))}, layer)


def cannot_overfit_batch(plan: Plan, rng: np.random.Generator) -> Change:
    """No activation, hardly a unit left by dropout, weights that decay to nothing, or inputs destroyed."""
    kind = one_of(rng, "linear", "dropout", "decay", "inputs")
    if kind == "inputs":
        only(plan.data == "digits" and getattr(plan.problem, "__name__", "") != "standard_digits")
        prepare = one_of(rng, data.zeroed, data.first_example)
        return Change(plan, "integers" if prepare is data.zeroed else "first-example", {"prepare": prepare})
    if kind == "decay":
        # So that nothing remains of a weight after some twenty steps.
        decay = {"SGD": 0.05, "AdamW": 0.1, "Adam": 0, "RMSprop": 0}[plan.optimizer] / plan.lr
        decay = decay * between(rng, 0.5, 4) or between(rng, 0.5, 5)
        return Change(plan, "weight-decay", {"options": {**plan.settings, "weight_decay": float(f"{decay:.3g}")}})
    only(plan.is_plain_mlp and not plan.characters)
    if kind == "dropout":
        return Change(plan, "dropout", {"network": plan.network(dropout=round(rng.uniform(0.9, 0.97), 3))})
    only(plan.data in ("circles", "regression"))
    identity = "Identity" if plan.style == "stack" else "identity"
    return Change(plan, "linear", {"network": plan.network(activation=identity)})


FAULTS = {
    "non-finite": non_finite,
    "unused-parameter": unused_parameter,
    "detached-graph": detached_graph,
    "loss-activation-mismatch": loss_activation_mismatch,
    "wrong-loss": wrong_loss,
    "bottleneck": bottleneck,
    "cannot-overfit-batch": cannot_overfit_batch,
}
