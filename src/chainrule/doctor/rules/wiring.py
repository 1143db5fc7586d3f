"""Rules about how things are put together: values that are not finite, gradients that arrive nowhere, normalisations
without statistics, and layers too narrow for what must pass through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from chainrule.doctor.finding import Finding, Severity
from chainrule.doctor.limits import Limits
from chainrule.doctor.measurements import Examination, Gaps, Normalization
from chainrule.doctor.rules.experience import trial_of
from chainrule.doctor.rules.words import number, percent


def non_finite(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """A NaN or an infinity, and the operation that made it first."""
    origin = exam.origin
    if origin is None:
        return
    given = origin.inputs[0] if origin.inputs else None
    fed = "" if given is None else f" from numbers between {number(given.smallest)} and {number(given.largest)}"
    fed += " and infinite ones" if given is not None and given.not_finite else ""
    where = f" in {origin.path}" if origin.path else ""
    gaps = origin.gaps
    figures = {} if gaps is None else {"examples": gaps.examples, "first": gaps.first, "features": gaps.features}
    line = f", at {origin.line}" if origin.line else ""
    yield Finding(
        "non-finite",
        origin.path,
        Severity.SEVERE,
        {"operation": origin.operation, "direction": origin.direction, "line": origin.line,
         "smallest": given and given.smallest, "largest": given and given.largest, **figures},
        _of_gaps(origin.operation, gaps)
        if gaps is not None
        else f"{origin.operation}{where} makes the first value that is not finite, in the {origin.direction} pass{fed}"
        f"{line}.",
        (origin.path,),
    )  # fmt: skip


def _of_gaps(what: str, gaps: Gaps) -> str:
    columns = "" if gaps.of_features == 1 else f", in {gaps.features} of {gaps.of_features} features"
    return (
        f"The {what}s are not finite in {gaps.examples} of {gaps.of} examples{columns}; the first of them is example "
        f"{gaps.first}. One such number makes the loss, and with the next step all weights, NaN: fill them in, or "
        "leave these examples out."
    )


def detached_graph(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """Layers that ran and whose gradients get lost."""
    if exam.loss is not None and not exam.loss.recorded:
        yield Finding(
            "detached-graph",
            "",
            Severity.SEVERE,
            {"recorded": False},
            "The loss depends on no parameter that asks for a gradient: it was computed inside no_grad, from a "
            "detached or converted value, or all parameters are frozen.",
            tuple(layer.path for layer in exam.layers),
        )
        return
    if not exam.cuts:
        return
    cut = exam.cuts[0]
    lost = cut.layers
    with_weights = {layer.path for layer in exam.layers}
    named = sorted(lost, key=lambda path: path in with_weights)[::-1]  # the last first, and normalisations after them
    how = {"detach": "detach()", "no_grad": "no_grad"}.get(
        cut.operation, "a conversion or an operation without derivative"
    )
    place = f" in {cut.path}" if cut.path else ""
    yield Finding(
        "detached-graph",
        named[0] if named else cut.path,
        Severity.SEVERE,
        {"operation": cut.operation, "layers": len(lost)},
        f"{how}{place} cuts the gradient's path: {', '.join(lost[:4])}{', ...' if len(lost) > 4 else ''} "
        f"{'runs' if len(lost) == 1 else 'run'} and cannot learn.",
        tuple(dict.fromkeys([*named, *(c.path for c in exam.cuts)])),
    )


def _reconstructs(exam: Examination) -> bool:
    """Whether the targets are as many numbers as the inputs are: an autoencoder is narrow on purpose."""
    loss = exam.loss
    if loss is None or loss.targets is None or not exam.inputs:
        return False
    return loss.targets.count == exam.inputs[0].spread.count > exam.examples and not loss.targets_integer


def _learns_its_batch(exam: Examination) -> bool:
    """Whether the network learned its batch in a few steps: then enough passes through its narrowest layer."""
    trial = trial_of(exam, "same")
    return trial is not None and len(trial.losses) >= 20 and trial.end < 0.2 * trial.level


def _never_learns_its_batch(exam: Examination, limits: Limits) -> bool:
    """Whether most of the loss on one batch stays, however long a copy is trained and with any of the usual rates."""
    trial = trial_of(exam, "same")
    if trial is None or trial.best is None or trial.lowest is None:
        return False
    return min(trial.best, trial.lowest, trial.end) > limits.overfit * trial.level > 0


def unused_parameter(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """Parameters that the loss does not depend on, or that no optimiser moves."""
    if exam.loss is not None and not exam.loss.recorded:
        return
    cut = tuple(f"{path}." for found in exam.cuts for path in found.layers)
    idle = [
        parameter.path
        for parameter in exam.parameters
        if parameter.trainable and not parameter.reached and not parameter.path.startswith(cut)
    ]
    idle.sort(key=_is_of_way_back)
    forgotten = [p.path for p in exam.parameters if p.trainable and p.reached and p.optimized is False]
    replaced = any(p.replaced for p in exam.parameters)
    for paths, why, severity in (
        (
            idle,
            "no gradient reaches it: the forward pass does not use it",
            Severity.NOTE if all(map(_is_of_way_back, idle)) else Severity.WARNING,
        ),
        (
            forgotten,
            "it has a gradient, but the optimizer does not move it"
            + (": it holds another one of that shape, from before this one took its place" if replaced else ""),
            Severity.NOTE if _lower_part(exam, forgotten) and not (replaced or limits.suspecting) else Severity.WARNING,
        ),
    ):
        if paths:
            owner = paths[0].rpartition(".")[0] or paths[0]
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            yield Finding(
                "unused-parameter",
                owner,
                severity,
                {"parameters": tuple(paths)},
                f"{paths[0]}{more}: {why}.",
                tuple(dict.fromkeys(path.rpartition(".")[0] or path for path in paths)),
            )


def _is_of_way_back(path: str) -> bool:
    """Whether it takes the state of the way back in time: read at the last step, that way has just begun, at 0."""
    name = path.rpartition(".")[2]
    return name.startswith("weight_hh_") and name.endswith("_reverse")


def _lower_part(exam: Examination, paths: list[str]) -> bool:
    """Whether parameters are all those of the first layers, and no others: features that are left as they are."""
    held = [not set(layer.parameters) & set(paths) for layer in exam.layers]
    return bool(held) and held[-1] and held == sorted(held)


def dead_batchnorm(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """A normalisation that passes nothing on, sees one number per channel, or goes by statistics that are foreign."""
    if not exam.normalizations:
        return
    runs = Counter(norm.path for norm in exam.normalizations)
    sick = [(norm, why) for norm in exam.normalizations if (why := _why_dead(exam, norm, limits, runs[norm.path]))]
    if not sick:
        return
    norm, why = sick[0]
    yield Finding(
        "dead-batchnorm",
        norm.path,
        Severity.SEVERE,
        {"kind": norm.name, "dead": norm.dead, "examples": norm.examples,
         "running_mismatch": norm.running_mismatch or 0.0, "momentum": norm.momentum, "epsilon": norm.epsilon,
         "limits": (limits.dead_channels, limits.running_mismatch, limits.batchnorm_numbers,
                    limits.batchnorm_momentum, limits.epsilon)},
        f"{norm.path} does not normalise: {why}.",
        tuple(dict.fromkeys(other.path for other, _ in sick)),
    )  # fmt: skip


def _why_dead(exam: Examination, norm: Normalization, limits: Limits, runs: int) -> str:
    """What keeps a normalisation that runs so often from passing on what it is given; empty if nothing does."""
    mismatch = norm.running_mismatch or 0.0
    batch_norm = norm.name == "batch_norm"
    if norm.uses_batch and norm.examples <= 1:
        return "it takes mean and variance over a single number, so its output is its bias whatever the input"
    if batch_norm and norm.uses_batch and norm.examples < limits.batchnorm_numbers:
        return f"it takes mean and variance over {norm.examples} numbers, so that little more than their order is left"
    if batch_norm and norm.uses_batch and exam.examples < limits.batchnorm_numbers and limits.suspecting:
        return f"it takes mean and variance over {exam.examples} examples, whose {norm.examples} numbers are much alike"
    if norm.uses_batch and norm.training and norm.momentum is not None:
        if norm.momentum < limits.batchnorm_momentum:
            return (
                f"with momentum {norm.momentum:g} its running statistics do not follow the batches', and in evaluation "
                "mode it goes by those it started with"
            )
        if norm.momentum > limits.batchnorm_momentum_high:
            return (
                f"with momentum {norm.momentum:g} its running statistics are those of the last batch, so that in "
                f"evaluation mode it goes by {norm.examples} numbers"
            )
    if batch_norm and norm.uses_batch and norm.momentum is not None and runs > 1 and limits.suspecting:
        return f"it is called {runs} times, so that its running statistics are those of none of the places"
    if norm.dead > limits.dead_channels and (limits.suspecting or not norm.skipped):
        return f"{percent(norm.dead)} of its channels have scale 0, nearly, or put out the same for every example"
    if norm.epsilon > limits.epsilon and norm.epsilon > 10 * norm.variance:
        return f"ε = {norm.epsilon:g} is added to a variance of {number(norm.variance)}, so that nearly nothing is left"
    if batch_norm and not norm.uses_batch and norm.training and mismatch > limits.running_mismatch:
        return (
            f"it goes by running statistics that are {number(mismatch)} standard deviations off this batch while the "
            "network trains"
        )
    return ""


FEW_NUMBERS = 2
"""Vectors that are looked up may be much shorter than there are of them; with so few numbers each it is a question."""


def bottleneck(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """A hidden layer several times narrower than those around it, and than the classes that must be told apart."""
    if not limits.suspecting and (_reconstructs(exam) or _learns_its_batch(exam)):
        return
    strict = limits.suspecting or _never_learns_its_batch(exam, limits)
    few = FEW_NUMBERS if limits.suspecting else 0
    layers = [layer for layer in exam.layers if layer.kind != "embedding" or layer.units <= few]
    loss = exam.loss
    for place in range(len(layers) - 1):
        layer, after = layers[place], layers[place + 1]
        wide = min(layer.fan_in, after.units) if layer.kind == "linear" else after.units
        if strict and layer.units == 1:  # of all that it is given, at all places and times
            wide = max(wide, layer.input.count // max(exam.examples, 1))
        outputs = layers[-1].units
        many = layer.size > layer.units and layer.kind == "convolution" and layer.units > 1
        if layer.skipped or (many and not limits.suspecting) or (layer.units > 1 and _reconstructs(exam)):
            continue
        too_few = layer.units * limits.bottleneck <= outputs or (layer.units == 1 and wide > 1)
        if loss is not None and too_few and layer.units * limits.bottleneck <= wide:
            yield Finding(
                "bottleneck",
                layer.path,
                Severity.WARNING,
                {"units": layer.units, "before": layer.fan_in, "after": after.units, "outputs": outputs,
                 "limit": limits.bottleneck},
                f"All that {after.path} learns of the input passes through the {layer.units} "
                f"{'unit' if layer.units == 1 else 'units'} of {layer.path}, between {layer.fan_in} before and "
                f"{after.units} after, for {outputs} outputs.",
                (layer.path,),
            )  # fmt: skip
            return
