"""Rules about how things are put together: values that are not finite, gradients that arrive nowhere, normalisations
without statistics, and layers too narrow for what must pass through.
"""

from __future__ import annotations

from collections.abc import Iterator

from chainrule.doctor.finding import Finding, Severity
from chainrule.doctor.limits import Limits
from chainrule.doctor.measurements import Examination
from chainrule.doctor.rules.experience import trial_of
from chainrule.doctor.rules.words import number, percent


def non_finite(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """A NaN or an infinity, and the operation that made it first."""
    origin = exam.origin
    if origin is None:
        return
    given = origin.inputs[0] if origin.inputs else None
    fed = "" if given is None else f" from numbers between {number(given.smallest)} and {number(given.largest)}"
    where = f" in {origin.path}" if origin.path else ""
    line = f", at {origin.line}" if origin.line else ""
    yield Finding(
        "non-finite",
        origin.path,
        Severity.SEVERE,
        {"operation": origin.operation, "direction": origin.direction, "line": origin.line,
         "smallest": given and given.smallest, "largest": given and given.largest},
        f"{origin.operation}{where} makes the first value that is not finite, in the {origin.direction} pass{fed}"
        f"{line}.",
        (origin.path,),
    )  # fmt: skip


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
    how = {"detach": "detach()", "no_grad": "no_grad"}.get(
        cut.operation, "a conversion or an operation without derivative"
    )
    place = f" in {cut.path}" if cut.path else ""
    yield Finding(
        "detached-graph",
        lost[-1] if lost else cut.path,
        Severity.SEVERE,
        {"operation": cut.operation, "layers": len(lost)},
        f"{how}{place} cuts the gradient's path: {', '.join(lost[:4])}{', ...' if len(lost) > 4 else ''} "
        f"{'runs' if len(lost) == 1 else 'run'} and cannot learn.",
        tuple(dict.fromkeys([*reversed(lost), *(c.path for c in exam.cuts)])),
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
    forgotten = [p.path for p in exam.parameters if p.trainable and p.reached and p.optimized is False]
    for paths, why, severity in (
        (idle, "no gradient reaches it: the forward pass does not use it", Severity.WARNING),
        (
            forgotten,
            "it has a gradient, but the optimizer does not hold it",
            Severity.NOTE if _lower_part(exam, forgotten) else Severity.WARNING,
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


def _lower_part(exam: Examination, paths: list[str]) -> bool:
    """Whether parameters are all those of the first layers, and no others: features that are left as they are."""
    held = [not set(layer.parameters) & set(paths) for layer in exam.layers]
    return bool(held) and held[-1] and held == sorted(held)


def dead_batchnorm(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """A batch normalisation whose scale is zero, that sees one number per channel, or goes by foreign statistics."""
    for norm in exam.normalizations:
        if norm.name != "batch_norm":
            continue
        mismatch, standing = norm.running_mismatch or 0.0, limits.batchnorm_momentum
        if norm.uses_batch and norm.examples <= 1:
            why = "it takes mean and variance over a single number, so its output is its bias whatever the input"
        elif norm.uses_batch and norm.examples < limits.batchnorm_numbers:
            why = (
                f"it takes mean and variance over {norm.examples} numbers, so that little more than their order is left"
            )
        elif norm.uses_batch and norm.training and norm.momentum is not None and standing > norm.momentum:
            why = (
                f"with momentum {norm.momentum:g} its running statistics never follow the batches', and in evaluation "
                "mode it goes by those it started with"
            )
        elif norm.dead > limits.dead_channels and not norm.skipped:
            why = f"{percent(norm.dead)} of its channels have scale 0 or put out the same for every example"
        elif not norm.uses_batch and norm.training and mismatch > limits.running_mismatch:
            why = (
                f"it goes by running statistics that are {number(mismatch)} standard deviations off this batch while "
                "the network trains"
            )
        else:
            continue
        yield Finding(
            "dead-batchnorm",
            norm.path,
            Severity.SEVERE,
            {"dead": norm.dead, "examples": norm.examples, "running_mismatch": mismatch,
             "momentum": norm.momentum,
             "limits": (limits.dead_channels, limits.running_mismatch, limits.batchnorm_numbers,
                        limits.batchnorm_momentum)},
            f"{norm.path} does not normalise: {why}.",
            (norm.path,),
        )  # fmt: skip
        return


def bottleneck(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """A hidden layer several times narrower than those around it, and than the classes that must be told apart."""
    if _reconstructs(exam) or _learns_its_batch(exam):
        return
    layers = [layer for layer in exam.layers if layer.kind != "embedding"]
    loss = exam.loss
    for place in range(len(layers) - 1):
        layer, after = layers[place], layers[place + 1]
        before = layer.fan_in if layer.kind == "linear" else layer.units * 4
        wide = min(before, after.units)
        outputs = layers[-1].units
        if layer.skipped or (layer.size > layer.units and layer.kind == "convolution" and layer.units > 1):
            continue
        too_few = layer.units * limits.bottleneck <= outputs or (layer.units == 1 and wide > 1)
        if loss is not None and too_few and layer.units * limits.bottleneck <= wide:
            yield Finding(
                "bottleneck",
                layer.path,
                Severity.WARNING,
                {"units": layer.units, "before": before, "after": after.units, "outputs": outputs,
                 "limit": limits.bottleneck},
                f"All that {after.path} learns of the input passes through the {layer.units} "
                f"{'unit' if layer.units == 1 else 'units'} of {layer.path}, between {before} before and {after.units} "
                f"after, for {outputs} outputs.",
                (layer.path,),
            )  # fmt: skip
            return
