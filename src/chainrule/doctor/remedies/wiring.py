"""Remedies for forwards that cut the gradient's path or make NaN: the same forwards, with single operations altered.

A forward is the user's code, which nobody but its author can rewrite. What can be done from outside is to run it with
what `cuts` the path of no effect, with operations kept from the points where they are not defined, or with a path for
the gradient around what has no derivative. `own` and `torch` have the modules that do the first two.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.doctor import statistics
from chainrule.doctor.remedies.operations import Guards
from chainrule.doctor.remedies.surgery import CannotApply, Surgery, parent_of
from chainrule.doctor.subjects import DoctorError, Subject, leaves


def gradient_path(surgery: Surgery) -> None:
    """Open the path of the gradient: without what cuts it, or around what has no derivative.

    Around it leads a straight-through estimator. Source: Bengio et al. 2013, "Estimating or Propagating Gradients
    Through Stochastic Neurons for Conditional Computation", section 4.
    """
    _open(surgery, exact=True)


def through_path(surgery: Surgery) -> None:
    """The same, but what has no derivative is left out where it is all that is done between two layers."""
    _open(surgery, exact=False)


def _open(surgery: Surgery, exact: bool) -> None:
    lost = _lost(surgery)
    if not lost:
        raise CannotApply("no layer was found whose gradient is cut off")
    if _without_cuts(surgery, lost):
        if not exact:
            raise CannotApply("without what cuts it the gradient's path is open")
    elif not _bridged(surgery, exact) or _unreached(surgery.subject, lost):
        cut = next((cut.path for cut in surgery.exam.cuts), "")
        raise CannotApply(
            f"the gradient's path is cut in {surgery.forward_of(cut)}, between layers whose outputs and inputs "
            "differ in shape; put something in that place that has a derivative"
        )


def _lost(surgery: Surgery) -> set[str]:
    """Paths of the parameters that get no gradient and should."""
    layers = [path for cut in surgery.exam.cuts for path in cut.layers]
    loss = surgery.exam.loss
    if loss is not None and not loss.recorded:
        layers = [layer.path for layer in surgery.exam.layers]
    owned = [path for path, parameter in surgery.subject.parameters() if surgery.subject.requires_grad(parameter)]
    return {path for path in owned if any(path == layer or path.startswith(f"{layer}.") for layer in layers)}


def _without_cuts(surgery: Surgery, lost: set[str]) -> bool:
    """Run the modules in which a path is cut, or all where that is not enough, with the cuts of no effect. Whether all
    parameters get a gradient then; else nothing is changed.
    """
    modules = surgery.modules
    inside = ["" if cut.operation == "no_grad" else cut.path for cut in surgery.exam.cuts if cut.operation]
    paths = dict.fromkeys([path for path in inside if path in modules] or [""])
    outermost = [path for path in paths if not any(_within(path, other) for other in paths)]
    for places in dict.fromkeys([tuple(outermost), ("",)]):
        recorded = {path: surgery.tools.recorded(modules[path]) for path in places}
        for path, module in recorded.items():
            surgery.put(path, module)
        if not _unreached(surgery.subject, lost) and any(module.cuts.places for module in recorded.values()):
            for path, module in recorded.items():
                surgery.words.append(f"{module.cuts.words} taken out of the forward of {path or surgery.exam.model}")
                surgery.statements += module.cuts.statements
            return True
        for path in places:
            surgery.put(path, modules[path])
    return False


def _within(path: str, other: str) -> bool:
    return path != other and (other == "" or path.startswith(f"{other}."))


def _unreached(subject: Subject, wanted: set[str]) -> set[str]:
    """Which of these parameters get no gradient from the batch; all where the network does not run.

    One of zeros counts where others of the same module get more: weights of a state that is still zero when it is read
    say nothing of its path.
    """
    with subject.undisturbed():
        try:
            _, loss = subject.run()
        except Exception:  # the user's code, given what it does not expect
            return wanted
        if not subject.is_recorded(loss):
            return wanted
        parameters = [(path, p) for path, p in subject.parameters() if subject.requires_grad(p)]
        gradients = subject.gradients(loss, [p for _, p in parameters])
    found = {path: gradient for (path, _), gradient in zip(parameters, gradients, strict=True) if gradient is not None}
    moved = {parent_of(path) for path, gradient in found.items() if statistics.as_numpy(subject.array(gradient)).any()}
    reached = [path for path in found if parent_of(path) in moved]
    return {path for path in wanted if not any(_is(path, other) for other in reached)}


def _is(path: str, now: str) -> bool:
    """Whether a parameter's path is the one that another had before modules were put around its own."""
    return now.replace("inner.", "") == path.replace("inner.", "")


# Around what has no derivative --------------------------------------------------------------------------------------


def _bridged(surgery: Surgery, exact: bool) -> bool:
    """Whether a way around was found: from the last output with a gradient to the next input without, of its shape."""
    gap = _gap(surgery)
    if gap is None:
        return False
    before, part, after = gap
    Tapped, Bridged = surgery.define("Tapped"), surgery.define("Bridged")
    modules = surgery.modules
    tap = Tapped(modules[before])
    surgery.put(before, tap)
    surgery.put(after, Bridged(modules[after], tap, part, exact))
    surgery.statements += [
        f'tap = Tapped(model.get_submodule("{before}"))',
        f'replace("{before}", tap)',
        f'replace("{after}", Bridged(model.get_submodule("{after}"), tap, {part}, {exact}))',
    ]
    surgery.words.append(
        f"the gradient led from {after} straight to {before}, past what has no derivative between them"
        if exact
        else f"{after} given what {before} makes, without what has no derivative between them"
    )
    return True


def _gap(surgery: Surgery) -> tuple[str, int | None, str] | None:
    """Paths of the two modules between which a path is cut, and which part of what the first makes is meant."""
    subject = surgery.subject
    found: list[tuple[str, int | None, str]] = []
    made: list[tuple[str, int | None, tuple[int, ...]]] = []
    given = {id(leaf) for leaf in leaves(subject.batch)}

    def enters(path: str, arguments: tuple) -> None:
        x = next(iter(leaves(arguments)), None)
        if x is None or found or id(x) in given or not made or subject.is_recorded(x):
            return
        alike = [(other, part) for other, part, shape in made if shape == tuple(x.shape)]
        if alike:
            found.append((*alike[-1], path))

    def leaves_with(path: str, output: Any) -> None:
        several = isinstance(output, tuple)
        made.extend(
            (path, k if several else None, tuple(x.shape))
            for k, x in reversed([*enumerate(output if several else [output])])
            if hasattr(x, "shape") and subject.is_recorded(x)
        )

    hooks = []
    for path, module in list(surgery.modules.items())[1:]:
        hooks.append(module.register_forward_pre_hook(lambda _, arguments, path=path: enters(path, arguments)))
        hooks.append(module.register_forward_hook(lambda _, arguments, output, path=path: leaves_with(path, output)))
    try:
        with subject.undisturbed():
            subject.run()
    except Exception as error:
        raise DoctorError(f"the network does not run: {error}") from None
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


# Left out ------------------------------------------------------------------------------------------------------------


def leaving_out(surgery: Surgery) -> None:
    """Take out modules of the user's own that have no parameters and give back as many numbers as they are given.

    Whatever they are for, the network runs without them; those that are activations stay.
    """
    activations = {activation.path for activation in surgery.exam.activations}
    own = {
        path: module
        for path, module in surgery.modules.items()
        if path and path not in activations and _is_own(module, surgery.nn)
    }
    changing = _changing(surgery.subject, own)
    if not changing:
        raise CannotApply("there is no module without parameters but those of nn that the network would run without")
    for path in changing:
        surgery.put(path, surgery.new("Identity"))
        surgery.words.append(f"{path} ({type(own[path]).__name__}) taken out")
    surgery.for_each(changing, "replace(path, nn.Identity())")


def _is_own(module: Any, nn: Any) -> bool:
    """Whether a module is neither one of the framework's nor made of others, and has nothing to learn."""
    alone = not any(True for _ in module.children()) and not any(True for _ in module.parameters())
    return alone and not hasattr(nn, type(module).__name__)


def _changing(subject: Subject, modules: dict[str, Any]) -> list[str]:
    """Paths of those modules that make other numbers of what they are given, in the same shape."""
    found: dict[str, None] = {}

    def looked_at(path: str, given: tuple, made: Any) -> None:
        if len(given) != 1 or not hasattr(made, "shape") or tuple(given[0].shape) != tuple(made.shape):
            return
        before, after = (statistics.as_numpy(subject.array(x)) for x in (given[0], made))
        if before.dtype == after.dtype and not np.array_equal(before, after):
            found[path] = None

    hooks = [
        module.register_forward_hook(lambda _, given, made, path=path: looked_at(path, given, made))
        for path, module in modules.items()
    ]
    try:
        with subject.undisturbed(), subject.quietly(), np.errstate(all="ignore"):
            subject.run()
    finally:
        for hook in hooks:
            hook.remove()
    return [*found]


# Not finite ---------------------------------------------------------------------------------------------------------


def guarding(surgery: Surgery) -> None:
    """Keep operations from the points where they are not defined: logarithms and roots from 0, divisors from 0."""
    origin = surgery.exam.origin
    if origin is None:
        raise CannotApply("no value was seen that is not finite")
    modules = surgery.modules
    alike = [path for path, module in modules.items() if type(module) is type(modules.get(origin.path))]
    paths = alike if origin.path else [""]
    for path in paths:
        surgery.put(path, surgery.tools.altered(modules[path], Guards()))
    if paths != [""] and not _is_finite(surgery.subject):  # what nobody records a gradient of is not seen to break
        for path in paths:
            surgery.put(path, modules[path])
        paths = [""]
        surgery.put("", surgery.tools.altered(surgery.subject.model, Guards()))
    place = f"the forward of {', '.join(paths) if paths != [''] else surgery.exam.model}"
    surgery.words.append(f"logarithms, roots, divisors and softmax in {place} kept from where they are not defined")
    surgery.statements.append(f"# in {place}:  {origin.operation} given numbers that it is defined for")


def _is_finite(subject: Subject) -> bool:
    with subject.undisturbed(), subject.quietly(), np.errstate(all="ignore"):
        output, _ = subject.run()
    return all(np.isfinite(statistics.as_numpy(subject.array(x))).all() for x in leaves(output))
