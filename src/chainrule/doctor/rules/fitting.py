"""Rules about what goes in and what comes out: the inputs' scale, and whether loss, last activation and targets fit."""

from __future__ import annotations

import math
from collections.abc import Iterator

from chainrule.doctor.finding import Finding, Severity
from chainrule.doctor.limits import Limits
from chainrule.doctor.measurements import Aim, Examination, Loss
from chainrule.doctor.rules.words import number, percent

_REGRESSION = ("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss")


def unscaled_input(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """What reaches the first layer is far from mean 0 and variance 1, or its features are of different scales."""
    given = next((given for given in exam.inputs if not given.integer), None)
    first = next((layer for layer in exam.layers if layer.kind != "embedding"), None)
    if given is None or first is None:
        return
    size = math.hypot(first.input.mean, first.input.std)
    filled = size / math.sqrt(max(1 - first.input.zeros, 1e-12))  # of a 1 among a thousand zeros, 1
    untouched = math.isclose(first.input.std, given.spread.std, rel_tol=1e-3)
    untouched &= exam.examples >= limits.feature_examples
    low, high = given.feature_scales or (1.0, 1.0)
    offset = given.feature_offset or 0.0
    if size > limits.input_rms_high or 0 < filled < limits.input_rms_low:
        ends = f"from {number(first.input.smallest)} to {number(first.input.largest)}"
        what = f"have root mean square {number(size)} ({ends})"
    elif untouched and low > 0 and high / low > limits.feature_ratio:
        what = f"have features of very different scales: standard deviations from {number(low)} to {number(high)}"
    elif untouched and offset > limits.feature_offset:
        what = f"have a feature whose mean is {number(offset)} times its standard deviation"
    else:
        return
    yield Finding(
        "unscaled-input",
        first.path,
        Severity.SEVERE if size > 10 * limits.input_rms_high else Severity.WARNING,
        {"rms": size, "feature_scales": (low, high), "feature_offset": offset,
         "limits": (limits.input_rms_low, limits.input_rms_high, limits.feature_ratio, limits.feature_offset)},
        f"The inputs of {first.path} {what}. Its weights get gradients in proportion, so no single learning rate suits "
        "all of the network; standardise them to mean 0 and variance 1.",
        (first.path,),
    )  # fmt: skip


def loss_activation_mismatch(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """The loss expects something else than the last activation gives."""
    loss = exam.loss
    why = None if loss is None else _mismatch(loss)
    if loss is None or why is None:
        return
    yield Finding(
        "loss-activation-mismatch",
        loss.follows_path or (exam.layers[-1].path if exam.layers else ""),
        Severity.SEVERE,
        {"loss": loss.name, "follows": loss.follows, "output": (loss.output.smallest, loss.output.largest)},
        why,
        tuple(dict.fromkeys([loss.follows_path, exam.layers[-1].path if exam.layers else ""])),
    )


def _mismatch(loss: Loss) -> str | None:
    last = loss.follows[0] if loss.follows else ""
    low, high = loss.output.smallest, loss.output.largest
    targets = loss.targets
    match loss.name:
        case "cross_entropy":
            if last == "softmax" or (loss.sums_to_one > 0.99 and last != "log_softmax"):
                return (
                    "cross_entropy takes logits and applies softmax itself, but it is given probabilities: softmax is "
                    "applied twice, which bounds the logits to [0, 1] and the gradient with them"
                )
            if last in ("sigmoid", "tanh", "relu", "relu6", "hardtanh"):
                return f"cross_entropy takes logits of any size, but {last} limits them to {_range(last)}"
        case "nll_loss":
            if last != "log_softmax" and (high > 0 or last in ("softmax", "linear", "sigmoid", "relu")):
                return (
                    f"nll_loss takes log-probabilities, as log_softmax gives them, but it is given {last or 'others'}"
                )
        case "binary_cross_entropy_with_logits":
            if last in ("sigmoid", "softmax", "tanh", "relu"):
                return (
                    f"binary_cross_entropy_with_logits applies the sigmoid itself, but it is given the output of {last}"
                    f": the probabilities it sees lie within {'[0.5, 0.73]' if last != 'tanh' else '[0.27, 0.73]'}"
                )
        case "binary_cross_entropy":
            if low < 0 or high > 1:
                return f"{loss.name} takes probabilities, but it is given numbers from {number(low)} to {number(high)}"
            if last in ("relu", "tanh"):
                return f"{loss.name} takes probabilities, as a sigmoid gives them, but it is given those of {last}"
            if last == "softmax" and loss.output_shape[-1] == 1:
                return "softmax over a single number is always 1"
        case name if name in _REGRESSION and targets is not None:
            bounds = _BOUNDS.get(last)
            margin = 0.05 * (targets.largest - targets.smallest)
            as_numbers = math.prod(loss.targets_shape) == math.prod(loss.output_shape)
            if (
                bounds
                and as_numbers
                and (targets.smallest < bounds[0] - margin or targets.largest > bounds[1] + margin)
            ):
                return (
                    f"the targets run from {number(targets.smallest)} to {number(targets.largest)}, but {last} gives "
                    f"numbers in {_range(last)} only"
                )
    if last == "softmax" and loss.output_shape and loss.output_shape[-1] == 1:
        return "softmax over a single number is always 1: the output cannot change"
    return None


_BOUNDS = {"sigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "tanh": (-1.0, 1.0), "relu": (0.0, math.inf)}


def _range(name: str) -> str:
    low, high = _BOUNDS.get(name, (-1.0, 1.0))
    return f"[{low:g}, ∞)" if math.isinf(high) else f"[{low:g}, {high:g}]"


def wrong_loss(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """The loss is of the wrong kind for the targets, or is compared with targets of another shape."""
    loss = exam.loss
    why = (
        None
        if loss is None or loss.targets is None
        else _unused(loss) or _misfit(loss, limits) or _opposed(loss, limits)
    )
    why = why or _astray(exam.aim, limits) or (_odd(loss, limits) if limits.suspecting else None)
    if loss is None or why is None:
        return
    yield Finding(
        "wrong-loss",
        "",
        Severity.SEVERE,
        {"loss": loss.name, "output_shape": loss.output_shape, "targets_shape": loss.targets_shape,
         "classes": loss.classes, "whole": loss.targets_whole, "agreement": loss.agreement,
         "asks_for": exam.aim and exam.aim.after, "limits": (limits.opposed, limits.asked_for)},
        why,
        (),
    )  # fmt: skip


def _unused(loss: Loss) -> str | None:
    if loss.uses_targets is False and loss.value:
        return "the loss stays the same when the targets are given to other examples: it does not use them"
    return None


def _misfit(loss: Loss, limits: Limits) -> str | None:
    out, given, targets = loss.output_shape, loss.targets_shape, loss.targets
    assert targets is not None
    width = out[-1] if len(out) > 1 else 1
    labels = loss.targets_whole and targets.smallest >= 0 and (loss.classes or 0) >= 2
    if loss.name in _REGRESSION:
        if math.prod(loss.compared_shape) > max(math.prod(out), math.prod(given)):
            return (
                f"{loss.name} is given outputs of shape {out} and targets of shape {given}, compared in shape "
                f"{loss.compared_shape}: they broadcast, so every output is compared with every target; give both the "
                "same shape"
            )
        asks_for_classes = width > 1 and (loss.agreement or 0.0) > limits.asks_for_classes
        if labels and _class_like(loss) and not asks_for_classes:
            return (
                f"{loss.name} treats the {loss.classes} class numbers as quantities: class 2 would lie between 1 and "
                "3; use cross_entropy"
            )
        one_hot = targets.smallest == 0 and targets.largest == 1 and loss.targets_whole and width > 2
        squashed = bool(loss.follows) and loss.follows[0] in ("softmax", "sigmoid")
        if limits.suspecting and one_hot and squashed and given == out and abs(targets.mean * width - 1) < 1e-6:
            return (
                f"{loss.name} on one-hot classes after {loss.follows[0]}: its gradient fades where the output is most "
                "wrong; use cross_entropy"
            )
    if loss.name.startswith("binary_cross_entropy") and (targets.largest > 1 or targets.smallest < 0):
        return f"{loss.name} takes targets between 0 and 1, but they run to {number(targets.largest)}"
    if loss.name == "binary_cross_entropy_with_logits" and out != given and len(out) != len(given):
        return f"{loss.name} is given outputs of shape {out} and targets of shape {given}; give both the same shape"
    if loss.name in ("cross_entropy", "nll_loss") and width == 1:
        return f"{loss.name} over a single output is always 0: there is only one class"
    return None


def _opposed(loss: Loss, limits: Limits) -> str | None:
    if loss.agreement is None or loss.agreement > limits.opposed:
        return None
    return (
        "to lower the loss, the output must move away from the targets (cosine with the way to them: "
        f"{number(loss.agreement)}): its sign is wrong"
    )


def _astray(aim: Aim | None, limits: Limits) -> str | None:
    if aim is None or aim.after >= limits.asked_for:
        return None
    reached = f"{percent(aim.after)} accuracy" if aim.name == "accuracy" else f"{aim.name} {number(aim.after)}"
    return (
        f"{aim.answers} answers that are free to be anything, moved to where the loss is low, come to {reached}: it "
        "asks for something else than the targets, whatever the network"
    )


def _odd(loss: Loss | None, limits: Limits) -> str | None:
    """Whether there may be more to a loss than its name says, or it has none."""
    if loss is None or (loss.name and (loss.agreement is None or loss.agreement > limits.usual)):
        return None
    said = f"{loss.name} weighs some targets far more than others" if loss.name else "the loss is written by hand"
    return f"{said}, and keeps the answers from what they could be"


def _class_like(loss: Loss) -> bool:
    """Whether whole numbers from 0 up are names of classes rather than counts, of which small ones are frequent.

    Two of them may be quantities: the squared error of a probability is a proper score (Brier 1950).
    """
    width, targets = loss.output_shape[-1] if len(loss.output_shape) > 1 else 1, loss.targets
    assert targets is not None
    classes = loss.classes or 0
    if width > 1:  # an output for each of them, though the batch may not have all
        indices = math.prod(loss.targets_shape) * width == math.prod(loss.output_shape) and targets.largest < width
        return width == classes or (indices and loss.targets_integer)
    all_seen = targets.smallest == 0 and classes == targets.largest + 1
    return all_seen and 2 < classes <= 20 and (loss.targets_integer or loss.targets_even)
