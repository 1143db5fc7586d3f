"""Remedies for the two ends of a network: the scale of its inputs, and a loss that fits outputs and targets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.doctor import statistics
from chainrule.doctor.measurements import Loss
from chainrule.doctor.remedies.operations import Calls
from chainrule.doctor.remedies.surgery import CannotApply, Surgery, parent_of
from chainrule.doctor.subjects import leaves, parts

# Inputs -------------------------------------------------------------------------------------------------------------


def input_scaling(surgery: Surgery) -> None:
    """Put a fixed module in front that takes each feature to mean 0 and variance 1, and missing values to the mean.

    Source: LeCun et al. 1998, "Efficient BackProp", section 4.3.
    """
    if surgery.code == "non-finite" and _scaled_within(surgery):
        return
    if _looks_up(surgery) and _scaled_before(surgery):
        return
    values = _input_values(surgery)
    first = surgery.exam.layers[0] if surgery.exam.layers else None
    channels = first is not None and first.kind == "convolution"
    axis = 1 if channels or values.ndim >= 4 else values.ndim - 1
    Standardize = surgery.define("Standardize")
    surgery.put("", surgery.new("Sequential", surgery.fitted(Standardize(values, axis)), surgery.subject.model))
    surgery.statements.append(f"model = nn.Sequential(Standardize(inputs, {axis}), model)  # inputs: those to train on")
    missing = "" if np.isfinite(values).all() else f", {_REPLACED}"
    surgery.words.append(f"inputs standardised by a fixed module in front of the network{missing}")


_REPLACED = "NaN replaced by the mean, infinities by the farthest value there is"


def _looks_up(surgery: Surgery) -> bool:
    """Whether some of the inputs are numbers of things, which must stay as they are."""
    return any(layer.kind == "embedding" for layer in surgery.exam.layers)


def _scaled_before(surgery: Surgery) -> bool:
    """Whether what a layer that was named is given, the inputs among it, could be scaled in front of that layer."""
    path = next((place for place in surgery.where if place and surgery.kind(place) == "Linear"), "")
    if not path:
        return False
    subject, module = surgery.subject, surgery.modules[path]
    given: list[np.ndarray] = []
    batch = subject.data if subject.data is not None else subject.batch
    hook = module.register_forward_pre_hook(
        lambda _, arguments: given.append(statistics.as_numpy(subject.array(arguments[0])).copy())
    )
    try:
        with subject.undisturbed(), subject.quietly(), np.errstate(all="ignore"):
            subject.output(batch)
    finally:
        hook.remove()
    if not given or given[0].dtype.kind != "f":
        return False
    axis = given[0].ndim - 1
    Standardize = surgery.define("Standardize")
    surgery.put(path, surgery.new("Sequential", surgery.fitted(Standardize(given[0], axis)), module))
    surgery.statements.append(
        f'replace("{path}", nn.Sequential(Standardize(given, {axis}), model.get_submodule("{path}")))'
        "  # given: what it is given of those to train on"
    )
    surgery.words.append(f"what {path} is given standardised by a fixed module before it")
    return True


def _scaled_within(surgery: Surgery) -> bool:
    """Whether the first NaN or infinity was the work of a module without parameters, whose output is now scaled.

    Such a module prepares the data, and what it makes is to the rest of the network what inputs are.
    """
    origin, modules = surgery.exam.origin, surgery.modules
    module = modules.get(origin.path) if origin is not None and origin.path else None
    if origin is None or origin.direction != "forward" or module is None or any(True for _ in module.parameters()):
        return False
    made: list[np.ndarray] = []
    subject = surgery.subject
    batch = subject.data if subject.data is not None else subject.batch
    hook = module.register_forward_hook(
        lambda _, given, output: made.append(statistics.as_numpy(subject.array(output)).copy())
    )
    try:
        with subject.undisturbed(), subject.quietly(), np.errstate(all="ignore"):
            subject.output(batch)
    finally:
        hook.remove()
    values = made[0]
    if values.dtype.kind != "f" or values.ndim < 2:
        return False
    axis = 1 if values.ndim >= 4 else values.ndim - 1
    Standardize = surgery.define("Standardize")
    scaled = surgery.new("Sequential", module, surgery.fitted(Standardize(values, axis)))
    surgery.put(origin.path, scaled)
    surgery.statements += [
        f'layer = model.get_submodule("{origin.path}")',
        f'replace("{origin.path}", nn.Sequential(layer, Standardize(layer(inputs), {axis})))  # what it is given',
    ]
    surgery.words.append(f"what {origin.path} makes standardised by a fixed module after it, {_REPLACED}")
    return True


def _input_values(surgery: Surgery) -> np.ndarray:
    """The numbers that the network is given, of all examples there are."""
    subject = surgery.subject
    given, _ = parts(subject.data if subject.data is not None else subject.batch)
    inputs = leaves(given)
    if len(inputs) != 1 or given is not inputs[0]:
        raise CannotApply("the network takes several inputs; standardise each of them in the data")
    values = statistics.as_numpy(subject.array(inputs[0]))
    if values.dtype.kind != "f" or values.ndim < 2:
        raise CannotApply(f"inputs of type {values.dtype} and shape {values.shape} have no features to standardise")
    return values


MOST_FEATURES = 512
"""Beyond so many, a matrix of features by features costs more than it gains."""


def input_whitening(surgery: Surgery) -> None:
    """Put a fixed module in front that makes the features uncorrelated, each of mean 0 and variance 1: those of a
    table, or of each step of sequences.

    Source: LeCun et al. 1998, "Efficient BackProp", section 4.3.
    """
    values = _input_values(surgery)
    first = surgery.exam.layers[0] if surgery.exam.layers else None
    channels = first is not None and first.kind == "convolution" and values.ndim > 2
    if values.ndim > 3 or channels or not 2 <= values.shape[-1] <= MOST_FEATURES:
        raise CannotApply(
            f"inputs of shape {values.shape} are no table and no sequences of 2 to {MOST_FEATURES} features"
        )
    if not np.isfinite(values).all():
        raise CannotApply("there are missing values among the inputs")
    Whiten = surgery.define("Whiten")
    surgery.put("", surgery.new("Sequential", surgery.fitted(Whiten(values)), surgery.subject.model))
    surgery.statements.append("model = nn.Sequential(Whiten(inputs), model)  # inputs: those to train on")
    surgery.words.append("inputs made uncorrelated by a fixed module in front of the network")


LONG_TAIL = 10.0
"""Standard deviations: of a thousand numbers of a normal distribution none lies half as far from the mean, and of an
exponential one none so far.
"""


def input_logarithm(surgery: Surgery) -> None:
    """Put a fixed module in front that takes the logarithm of features with long tails, and then standardises all.

    Source: Box and Cox 1964, "An Analysis of Transformations", of which this is λ = 0; for numbers of either sign.
    """
    values = _input_values(surgery)
    features = _with_long_tails(values) if values.ndim <= 3 and np.isfinite(values).all() else []
    if not features:
        raise CannotApply("there is no feature with a long tail that a logarithm would make shorter")
    Logarithm = surgery.define("Logarithm")
    surgery.put("", surgery.new("Sequential", surgery.fitted(Logarithm(values, features)), surgery.subject.model))
    surgery.statements.append(
        f"model = nn.Sequential(Logarithm(inputs, {features}), model)  # inputs: those to train on"
    )
    surgery.words.append(
        f"a fixed module in front that takes logarithms of {len(features)} inputs with long tails and standardises all"
    )


def _with_long_tails(values: np.ndarray) -> list[int]:
    """The features some of whose values lie very far out, and less than half as far where logarithms are taken."""
    rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
    size = np.maximum(np.quantile(np.abs(rows), 0.05, axis=0), 1e-30)
    farthest, then = (_farthest(x) for x in (rows, np.sign(rows) * np.log1p(np.abs(rows) / size)))
    return np.flatnonzero((farthest > LONG_TAIL) & (then < farthest / 2)).tolist()


def _farthest(rows: np.ndarray) -> np.ndarray:
    """By how many standard deviations the farthest value of each feature differs from its mean."""
    return np.abs(rows - rows.mean(0)).max(0) / np.maximum(rows.std(0), 1e-30)


# The loss -----------------------------------------------------------------------------------------------------------

LAST_MODULES = {
    "softmax": "Softmax", "log_softmax": "LogSoftmax", "sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "ReLU",
    "relu6": "ReLU6", "hardtanh": "Hardtanh", "softplus": "Softplus", "leaky_relu": "LeakyReLU",
}  # fmt: skip


@dataclass(frozen=True)
class FixedLoss:
    """A loss in place of another one, with the outputs and the targets brought into the form it takes.

    Attributes:
        functional: `nn.functional` of the framework.
        name: of the loss in there.
        outputs, targets: what is done to each first; see `_FORMS`.
    """

    functional: Any
    name: str
    outputs: str
    targets: str

    def __call__(self, output: Any, target: Any) -> Any:
        output, target = _FORMS[self.outputs](output, target), _FORMS[self.targets](target, output)
        return getattr(self.functional, self.name)(output, target)

    @property
    def code(self) -> str:
        """As a lambda expression."""
        output, target = _CODE[self.outputs], _CODE[self.targets]
        call = f"nn.functional.{self.name}({output.format('output', 'target')}, {target.format('target', 'output')})"
        return f"loss_fn = lambda output, target: {call}"


_FORMS: dict[str, Callable[[Any, Any], Any]] = {
    "as they are": lambda x, other: x,
    "columns": lambda x, other: x.reshape(-1, x.shape[-1]),
    "flat": lambda x, other: x.reshape(-1),
    "argmax": lambda x, other: x.argmax(-1),
    "flat argmax": lambda x, other: x.argmax(-1).reshape(-1),
    "flat integers": lambda x, other: _integers(x).reshape(-1),
    "shaped": lambda x, other: x.reshape(tuple(other.shape)),
    "shaped like": lambda x, other: _as_type(x, other).reshape(tuple(other.shape)),
    "log": lambda x, other: x.clip(1e-7, 1.0).log(),
    "log columns": lambda x, other: x.clip(1e-7, 1.0).log().reshape(-1, x.shape[-1]),
    "logit": lambda x, other: (x.clip(1e-6, 1 - 1e-6) / (1 - x.clip(1e-6, 1 - 1e-6))).log(),
}
_CODE = {
    "as they are": "{0}",
    "columns": "{0}.reshape(-1, {0}.shape[-1])",
    "flat": "{0}.reshape(-1)",
    "argmax": "{0}.argmax(-1)",
    "flat argmax": "{0}.argmax(-1).reshape(-1)",
    "flat integers": "{0}.astype(int).reshape(-1)",
    "shaped": "{0}.reshape({1}.shape)",
    "shaped like": "{0}.astype({1}.dtype).reshape({1}.shape)",
    "log": "{0}.clip(1e-7, 1.0).log()",
    "log columns": "{0}.clip(1e-7, 1.0).log().reshape(-1, {0}.shape[-1])",
    "logit": "({0}.clip(1e-6, 1 - 1e-6) / (1 - {0}.clip(1e-6, 1 - 1e-6))).log()",
}
"""Forms of outputs and targets, as functions of (it, the other) and as code; `.astype` is `.to` in PyTorch."""


def _integers(x: Any) -> Any:
    return x.long() if hasattr(x, "long") else np.asarray(x).astype(np.int64)


def _as_type(x: Any, like: Any) -> Any:
    return x.to(like.dtype) if hasattr(x, "to") else np.asarray(x).astype(like.dtype)


def loss(surgery: Surgery) -> None:
    """Make the last activation, the loss and the targets fit."""
    seen = surgery.exam.loss
    if seen is None:
        raise CannotApply("no loss was seen")
    if seen.targets is None:
        raise CannotApply("the batch has no targets that a loss could fit")
    if seen.name in ("cross_entropy", "nll_loss") or _classes(seen):
        _for_classes(surgery, seen)
    elif _binary(seen):
        _for_two_classes(surgery, seen)
    else:
        _for_numbers(surgery, seen)


_PLAIN = ("CrossEntropyLoss", "BCEWithLogitsLoss", "MSELoss", "L1Loss", "HuberLoss", "SmoothL1Loss")


def _suspect(surgery: Surgery) -> bool:
    """Whether a loss that ends in the right operation may be wrong all the same: its author's own function may change
    outputs, targets or the sign, or weigh them.
    """
    own = surgery.subject.loss_fn
    weighed = any(getattr(own, name, None) is not None for name in ("weight", "pos_weight"))
    known = getattr(surgery.nn.functional, getattr(own, "__name__", ""), None) is own
    return surgery.code == "wrong-loss" and (weighed or not (known or type(own).__name__ in _PLAIN))


def _width(seen: Loss) -> int:
    return seen.output_shape[-1] if len(seen.output_shape) > 1 else 1


def _one_hot(seen: Loss) -> bool:
    width, targets = _width(seen), seen.targets
    assert targets is not None
    whole = seen.targets_whole and targets.smallest == 0 and targets.largest == 1
    return whole and width > 2 and seen.targets_shape == seen.output_shape and abs(targets.mean * width - 1) < 1e-6


def _classes(seen: Loss) -> bool:
    """Whether the targets are names of more classes than two, or of two with an output for each."""
    targets = seen.targets
    assert targets is not None
    counted = seen.targets_whole and targets.smallest == 0 and seen.classes is not None
    one_each = _width(seen) > targets.largest and _width(seen) > 1 and seen.targets_shape != seen.output_shape
    several = (seen.classes or 0) > 2 and seen.classes == targets.largest + 1 and seen.targets_integer
    return _one_hot(seen) or bool(counted and (one_each or several))


def _binary(seen: Loss) -> bool:
    targets = seen.targets
    assert targets is not None
    named = seen.name.startswith("binary_cross_entropy")
    alike = _width(seen) == 1 or seen.targets_shape == seen.output_shape  # one of two, or several properties
    return seen.targets_whole and targets.smallest >= 0 and targets.largest == 1 and (alike or named)


def _for_classes(surgery: Surgery, seen: Loss) -> None:
    """cross_entropy on logits."""
    targets = seen.targets
    assert targets is not None
    classes = int(targets.largest) + 1
    if _width(seen) < classes and not _one_hot(seen):
        _widen_output(surgery, classes)
    elif targets.smallest < 0:
        raise CannotApply("targets below 0 are no class numbers")
    last = seen.follows[0] if seen.follows else ""
    form = "as they are"
    if last in LAST_MODULES and last != "log_softmax" and not _removed(surgery, seen, last):
        forms = {"softmax": "log", "sigmoid": "logit"}
        if last not in forms:
            raise CannotApply(_by_hand(surgery, seen, last))
        form = forms[last]
    if form == "as they are" and seen.name == "cross_entropy" and not _one_hot(seen) and not _suspect(surgery):
        if not surgery.words:
            raise CannotApply("cross_entropy fits these outputs and targets already")
        return  # without the activation, the loss there was is right
    of_columns = len(seen.output_shape) > 2 and seen.targets_shape in (seen.output_shape[:-1], seen.output_shape)
    if _one_hot(seen):
        target = "flat argmax" if of_columns else "argmax"
    else:
        target = "as they are" if seen.targets_integer and len(seen.targets_shape) == 1 else "flat integers"
    if of_columns:
        form = {"as they are": "columns", "log": "log columns"}.get(form, form)
    _put_loss(surgery, "cross_entropy", form, target, seen)


def _for_two_classes(surgery: Surgery, seen: Loss) -> None:
    """binary_cross_entropy_with_logits on logits, targets of the outputs' shape."""
    last = seen.follows[0] if seen.follows else ""
    form = "as they are"
    if last in LAST_MODULES and not _removed(surgery, seen, last):
        if last != "sigmoid":
            raise CannotApply(_by_hand(surgery, seen, last))
        form = "logit"
    if form == "as they are" and seen.name == "binary_cross_entropy_with_logits" and not _suspect(surgery):
        if seen.output_shape == seen.targets_shape and not surgery.words:
            raise CannotApply("binary_cross_entropy_with_logits fits these outputs and targets already")
        if seen.output_shape == seen.targets_shape:
            return
    _put_loss(surgery, "binary_cross_entropy_with_logits", form, "shaped like", seen)


def _for_numbers(surgery: Surgery, seen: Loss) -> None:
    """mse_loss, or the loss there was, on outputs that reach the targets and are of their shape."""
    last = seen.follows[0] if seen.follows else ""
    meant = surgery.code != "loss-activation-mismatch" and _reaches(last, seen)
    fits = meant or last not in LAST_MODULES or last in ("leaky_relu", "softplus")
    if not fits and not _removed(surgery, seen, last) and not _left_out(surgery, seen.follows_path, last):
        raise CannotApply(_by_hand(surgery, seen, last))
    regression = ("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss")
    name = seen.name if seen.name in regression else "mse_loss"
    reshaped = seen.output_shape != seen.targets_shape
    if seen.name in regression and not reshaped and not _suspect(surgery):
        if not surgery.words:
            raise CannotApply(f"{seen.name} fits these outputs and targets already")
        return
    if int(np.prod(seen.output_shape)) != int(np.prod(seen.targets_shape)):
        raise CannotApply(f"outputs {seen.output_shape} and targets {seen.targets_shape} differ in number")
    _put_loss(surgery, name, "shaped" if reshaped else "as they are", "as they are", seen)


_RANGES = {
    "sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "hardtanh": (-1.0, 1.0), "relu6": (0.0, 6.0),
    "relu": (0.0, math.inf),
}  # fmt: skip
"""Between which numbers the outputs of activations lie; those of the others do not lie anywhere one by one."""


def _reaches(last: str, seen: Loss) -> bool:
    """Whether all targets lie where an activation's outputs do, so that it may be meant to be there."""
    low, high = _RANGES.get(last, (0.0, 0.0))
    assert seen.targets is not None
    return low <= seen.targets.smallest <= seen.targets.largest <= high


def _put_loss(surgery: Surgery, name: str, outputs: str, targets: str, seen: Loss) -> None:
    if outputs == targets == "as they are":
        new: Callable = getattr(surgery.nn.functional, name)
        code = f"loss_fn = nn.functional.{name}"
    else:
        new = fixed = FixedLoss(surgery.nn.functional, name, outputs, targets)
        code = fixed.code
    surgery.subject = surgery.subject.with_(loss_fn=new)
    if surgery.subject.framework == "torch":
        code = code.replace(".astype(int)", ".long()").replace(".astype(", ".to(")
    surgery.statements.append(code)
    old = f" instead of {seen.name}" if seen.name and seen.name != name else ""
    form = "" if outputs == targets == "as they are" else ", outputs and targets brought into the form it takes"
    surgery.words.append(f"{name} as the loss{old}{form}")


def _removed(surgery: Surgery, seen: Loss, last: str) -> bool:
    """Whether the last activation was a module, which is now the identity, or a call that could be left out."""
    if surgery.kind(seen.follows_path) != LAST_MODULES[last]:
        undone = last in _UNDONE and (last != "softmax" or seen.sums_to_one > ALONG_CLASSES)
        return not undone and _left_out(surgery, seen.follows_path, last)
    if any(layer.activation and layer.activation.path == seen.follows_path for layer in surgery.exam.layers[:-1]):
        return False  # the same module serves hidden layers too
    surgery.put(seen.follows_path, surgery.new("Identity"))
    surgery.statements.append(f'replace("{seen.follows_path}", nn.Identity())')
    surgery.words.append(f"{last} at the end ({seen.follows_path}) taken out")
    return True


_UNDONE = frozenset({"softmax", "sigmoid", "log_softmax"})
"""What a loss can undo, or is defined on."""


ALONG_CLASSES = 0.99
"""Share of an output's rows that sum to 1 where softmax was taken along them, rather than along another axis."""


def _left_out(surgery: Surgery, path: str, last: str) -> bool:
    """Whether the last call of an activation could be left out, in the forward of a module or of the nearest one around
    it in which that call is.
    """
    calls = _calls(surgery, path, last)
    while not calls and path:
        path = parent_of(path)
        calls = _calls(surgery, path, last)
    if not calls:
        return False
    surgery.put(path, surgery.tools.altered(surgery.modules[path], Calls(last, left_out=calls)))
    place = f"the forward of {path or surgery.exam.model}"
    surgery.statements.append(f"# in {place}:  without {last} at the end")
    surgery.words.append(f"{last} at the end of {place} taken out")
    return True


def _calls(surgery: Surgery, path: str, name: str) -> int:
    """How often an operation is called in a module; 0 where it is called again after it."""
    subject, whole = surgery.subject.copy(), Calls(name)
    module = dict(subject.modules()).get(path)
    if module is None:
        return 0
    inner = Calls(name, around=whole)
    if path:
        parent, _, last = path.rpartition(".")
        setattr(dict(subject.modules())[parent], last, surgery.tools.altered(module, inner))
    subject = subject.with_(model=surgery.tools.altered(subject.model, whole))
    with subject.undisturbed(), subject.quietly(), np.errstate(all="ignore"):
        subject.run()
    if not path:
        return whole.seen
    return inner.seen if inner.latest == whole.seen else 0


def _by_hand(surgery: Surgery, seen: Loss, last: str) -> str:
    return f"{last} is called as a function in {surgery.forward_of(seen.follows_path)}; take it out there"


def _widen_output(surgery: Surgery, classes: int) -> None:
    last = surgery.exam.layers[-1] if surgery.exam.layers else None
    if last is None or surgery.kind(last.path) != "Linear":
        raise CannotApply(f"{classes} classes need {classes} outputs, and the last layer is no nn.Linear to be widened")
    surgery.put(last.path, surgery.new("Linear", last.fan_in, classes))
    surgery.statements.append(f'replace("{last.path}", nn.Linear({last.fan_in}, {classes}))')
    surgery.words.append(f"{last.path} given {classes} outputs, one for each class")
