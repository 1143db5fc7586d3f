"""Rules about training: the length of the steps, the course of the loss, clipping, and how the loss curves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from statistics import median

from chainrule.doctor.finding import Finding, Severity
from chainrule.doctor.limits import Limits
from chainrule.doctor.measurements import Examination, Relation, Trial
from chainrule.doctor.rules.experience import inputs_are_all_alike, knows_its_batch, knows_something, trial_of
from chainrule.doctor.rules.words import number, percent


def learning_rate_too_high(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """On the same batch, the loss grows; or a step is as long as the weights themselves."""
    trial = trial_of(exam, "same", "watched")
    if trial is None or len(trial.losses) < 2 or not math.isfinite(trial.losses[0]):
        return
    start, end = trial.losses[0], trial.end
    length = median(trial.update_ratios[:2]) if trial.update_ratios else 0.0
    grows = end > limits.loss_growth * trial.level + 1e-3
    leap = max(trial.update_ratios[:2], default=0.0)
    long = length > limits.update_high if trial.best is not None else length > 1
    stuck = long and end > 0.9 * trial.level and (trial.best is None or _shorter_helps(trial))
    overshoots = (limits.suspecting or _shorter_helps(trial)) and _oscillates(trial)
    if not (grows or stuck or leap > limits.update_leap or overshoots):
        return
    if _gets_there(trial) and not limits.suspecting:
        return
    if not grows and (trial.learned or 0.0) > limits.like_anybodys:
        return  # nor does a tuned copy tell one example from another: the steps are not what keeps it from that
    rate = exam.optimizer.get("lr")
    yield Finding(
        "learning-rate-too-high",
        "",
        Severity.SEVERE,
        {"lr": rate, "loss_before": start, "loss_after": end, "largest_loss": max(map(_bad, trial.losses[1:])),
         "update_ratio": length, "longest_first_step": leap, "tuned_loss": trial.best,
         "limits": (limits.loss_growth, limits.update_high, limits.update_leap)},
        f"{trial.optimizer}: in {len(trial.losses) - 1} steps on the same batch the loss went from {number(start)} to "
        f"{number(end)}, and one step moved the weights by {percent(min(length, 99))} of their size.",
    )  # fmt: skip


GOT_THERE = 0.2
"""Share of the loss of a network that knows nothing, under which one has learned its batch."""


def _gets_there(trial: Trial) -> bool:
    """Whether the batch is learned in the end, however far the first steps went: with inputs or weights that are small
    these are long by any measure, and a loss that rises may fall further afterwards (Lewkowycz et al. 2020, "The Large
    Learning Rate Phase of Deep Learning"). Whether that holds on other batches is for an experiment to say; a quick
    look makes none.
    """
    least = min(trial.end, math.inf if trial.longer is None else trial.longer)
    return trial.best is not None and least < GOT_THERE * trial.level


def _shorter_helps(trial: Trial) -> bool:
    """Whether the same optimiser has half the loss, on average, with a tenth or a hundredth of its rate: the experiment
    that tells steps that are too long from a loss that is slow to fall, or noisy, for other reasons.
    """
    return trial.slower is not None and 2 * trial.slower < trial.mean


def _bad(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf


def learning_rate_too_low(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """Steps that leave the weights where they are, though the gradient arrives."""
    moved = {parameter.path for parameter in exam.parameters if parameter.optimized is not False}
    own = [layer for layer in exam.layers if moved.intersection(layer.parameters) and layer.gradient_norm]
    ratios = [layer.update_ratio for layer in own if layer.update_ratio is not None]
    if not exam.optimizer or not ratios:
        return
    warming = _warms_up(exam, limits)
    length = median(ratios) * (_warm_up(exam) if warming else 1)
    trial = trial_of(exam, "same", "watched")
    idle = trial is not None and len(trial.losses) > 1 and _fall(trial) < 0.01
    tuned = trial is not None and trial.best is not None and trial.losses[0] - trial.best > 0.1 * abs(trial.losses[0])
    # Where it knows something already, there may be little left to step for.
    short = length < limits.update_low and not knows_its_batch(exam, limits)
    over = trial is not None and 2 * _warm_up(exam) < len(trial.losses)  # most of the steps had their full length
    slow = idle and (over or not warming) and tuned and length < 100 * limits.update_low * _first_step(exam)
    short |= slow and not knows_something(exam, limits)
    if not (short or (limits.suspecting and _is_behind(trial_of(exam, "same"), limits))):
        return
    yield Finding(
        "learning-rate-too-low",
        "",
        Severity.SEVERE if length < limits.update_low else Severity.WARNING,
        {"lr": exam.optimizer.get("lr"), "update_ratio": length, "limit": limits.update_low},
        f"A step of {exam.optimizer.get('name')} with lr {exam.optimizer.get('lr', 0.0):.3g} moves the weights by "
        f"{number(length)} of their size; about 1e-3 is usual. The gradient arrives, the step makes nothing of it.",
    )


def steps_go_nowhere(exam: Examination, limits: Limits) -> bool:
    """Whether the settings of the optimiser alone keep it from learning: it clips steps to a small part, forgets
    none, or makes them so short that no weight moves. A batch that stays then says nothing of the network.
    """
    clipped = next(always_clipped(exam, limits), None) is not None
    low = next(learning_rate_too_low(exam, limits), None)
    return clipped or _momentum(exam) > limits.momentum or (low is not None and low.severity == Severity.SEVERE)


def _first_step(exam: Examination) -> float:
    """How many times as long as those after it the first step may be: RMSprop's mean of squares starts at zero, and
    unlike Adam's is not corrected for that.
    """
    if exam.optimizer.get("name") != "RMSprop":
        return 1.0
    return 1 / math.sqrt(max(1 - float(exam.optimizer.get("alpha", 0.99)), 1e-6))


def _warms_up(exam: Examination, limits: Limits) -> bool:
    """Whether the steps are short only because a schedule is about to make them longer, within a usual time."""
    return 1 < _warm_up(exam) < limits.warm_up


def _warm_up(exam: Examination) -> float:
    """How many times larger the full rate is than the first step's."""
    factor = exam.optimizer.get("warm_up", 1.0)
    return factor if isinstance(factor, float) else 1.0


def _fall(trial: Trial) -> float:
    """By which share of itself the loss fell."""
    return (trial.losses[0] - trial.losses[-1]) / max(abs(trial.losses[0]), 1e-12)


def oscillating_loss(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """The loss on one batch goes up and down by more than it falls."""
    trial = trial_of(exam, "same")
    if trial is None:
        return
    endless = len(trial.losses) >= 8 and _momentum(exam) > limits.momentum
    overshoots = _shorter_helps(trial) and (_oscillates(trial) or _comes_back(trial)) and not _gets_there(trial)
    if not (overshoots or endless):
        return
    changes, ups, turns, way = _course(trial)
    said = (
        f"In {len(changes)} steps on the same batch the loss rose by {number(ups)} in all and fell by {number(way)} in "
        "the end"
    )
    yield Finding(
        "oscillating-loss",
        "",
        Severity.WARNING,
        {
            "rises": ups,
            "fall": way,
            "turns": turns,
            "steps": len(changes),
            "momentum": _momentum(exam),
            "limit": limits.momentum,
        },
        f"{said}. With momentum {_momentum(exam):g} it takes {_half_life(exam):.0f} steps until the weights' swings "
        "about a minimum are half as wide."
        if endless
        else f"{said}: {trial.optimizer} overshoots.",
    )


def _course(trial: Trial) -> tuple[list[float], float, float, float]:
    """The changes of the loss, the sum of its rises, the share of turns, and how far it fell in the end."""
    changes = [b - a for a, b in pairwise(trial.losses)]
    turns = sum(a * b < 0 for a, b in pairwise(changes)) / max(len(changes) - 1, 1)
    return changes, trial.rises, turns, trial.losses[0] - trial.losses[-1]


def _oscillates(trial: Trial) -> bool:
    """Whether the loss rose by more than it fell, turning again and again."""
    if len(trial.losses) < 8 or not all(map(math.isfinite, trial.losses)):
        return False
    _, ups, turns, way = _course(trial)
    return ups > 0.5 * trial.level and ups > way and turns > 0.1


def _momentum(exam: Examination) -> float:
    momentum = exam.optimizer.get("momentum", 0.0)
    return momentum if isinstance(momentum, float) and momentum < 1 else 0.0


def _half_life(exam: Examination) -> float:
    """In how many steps heavy-ball momentum halves a swing: its amplitude goes with momentum^(steps/2)."""
    return 2 * math.log(0.5) / math.log(_momentum(exam))


def _comes_back(trial: Trial) -> bool:
    """Whether the loss was much lower already: slow swings, as of too much momentum."""
    if len(trial.losses) < 8 or not all(map(math.isfinite, trial.losses)):
        return False
    return trial.end > 2 * min(trial.losses) and trial.end > 0.3 * trial.level


def slow_convergence(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """A tuned copy of the network gets much further than the own optimiser does, even with four times the steps."""
    trial = trial_of(exam, "same")
    if not _is_behind(trial, limits):
        return
    assert trial is not None
    over = _warm_up(exam) > len(trial.losses)  # before the steps had their full length
    if over or (knows_something(exam, limits) and not limits.suspecting):
        return
    start, end = trial.losses[0], trial.end
    yield Finding(
        "slow-convergence",
        "",
        Severity.WARNING,
        {"loss": end, "longer": trial.longer, "tuned_loss": trial.best, "steps": len(trial.losses) - 1,
         "limits": (limits.slow, limits.slow_left)},
        f"In {len(trial.losses) - 1} steps on one batch {trial.optimizer} brings the loss from {number(start)} to "
        f"{number(end)}, and in four times as many to {number(trial.longer)}; {trial.best_optimizer} brings it to "
        f"{number(trial.best)}.",
    )  # fmt: skip


def _is_behind(trial: Trial | None, limits: Limits) -> bool:
    """Whether a tuned copy comes far further on one batch than the own optimiser, even with four times the steps."""
    if trial is None or trial.best is None or trial.longer is None or _shorter_helps(trial):
        return False
    further = trial.end > limits.slow * trial.best
    further |= trial.level - trial.best > limits.slow * (trial.level - trial.longer)
    return further and trial.longer > limits.slow_left * trial.level


def cannot_overfit_batch(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """Even a tuned copy cannot learn one batch by heart."""
    if inputs_are_all_alike(exam):
        yield _nothing_to_go_by(exam)
        return
    if limits.suspecting and _is_one_linear_layer(exam):
        yield _without_activations(exam)
        return
    if limits.suspecting and max(exam.dropout.values(), default=0.0) > limits.dropout:
        yield _left_out(exam, limits)
        return
    trial = trial_of(exam, "same")
    if trial is None or trial.best is None or len(trial.losses) < 50 or min(trial.losses) < 0:
        return  # of a loss that goes below 0 nobody knows how much is left
    level = max(trial.level, 1e-12)
    own = min(_bad(loss) for loss in (*trial.losses, math.inf if trial.longer is None else trial.longer)) / level
    pulled = _decay_over_gradient(exam)
    beyond = own > limits.overfit and pulled > (0.01 if limits.suspecting else 1)
    if beyond or (limits.suspecting and _decays_fast(exam, pulled)):
        yield _held_down(exam, trial, own, pulled, limits)
        return
    left = min(trial.best / level, own, math.inf if trial.lowest is None else trial.lowest / level)
    stays = left > limits.overfit and (limits.suspecting or trial.learned is None or trial.learned >= limits.learned)
    if not (stays or (trial.learned or 0.0) > limits.like_anybodys):
        return
    if not (limits.suspecting or _could_hold_it(exam)):
        return
    yield Finding(
        "cannot-overfit-batch",
        "",
        Severity.SEVERE,
        {"share_left": left, "limit": limits.overfit, "learned": trial.learned, "steps": len(trial.losses) - 1},
        f"After {len(trial.losses) - 1} steps on one batch {percent(left)} of the loss is left, with "
        f"{trial.best_optimizer} and four times the steps too: something in the model or the loss is broken; this is "
        "no matter of generalisation.",
    )


def _could_hold_it(exam: Examination) -> bool:
    """Whether the network has as many parameters as the batch has targets: fewer fit so much of noise only."""
    held = sum(math.prod(p.shape) for p in exam.parameters if p.trainable and p.optimized is not False)
    targets = None if exam.loss is None else exam.loss.targets
    return targets is None or held >= targets.count


def _is_one_linear_layer(exam: Examination) -> bool:
    """Whether several linear layers follow each other, and nothing between them is not linear."""
    linear = all(layer.kind == "linear" for layer in exam.layers)
    return linear and len(exam.layers) > 1 and not exam.activations and not exam.normalizations


def _without_activations(exam: Examination) -> Finding:
    return Finding(
        "cannot-overfit-batch",
        "",
        Severity.SEVERE,
        {"layers": len(exam.layers), "activations": 0},
        f"There is no activation between the {len(exam.layers)} linear layers: together they are a single one, and "
        "cannot learn what no linear function tells.",
    )


def _left_out(exam: Examination, limits: Limits) -> Finding:
    path, share = max(exam.dropout.items(), key=lambda entry: entry[1])
    return Finding(
        "cannot-overfit-batch",
        path,
        Severity.SEVERE,
        {"dropout": share, "limit": limits.dropout},
        f"{path} leaves out {percent(share)} of what it is given and multiplies the rest to make up for it: what the "
        "next layer is given is mostly noise.",
    )


FAST_DECAY = 0.02
"""Share of themselves that weights lose in a step, by which they forget in fifty: usual decays take thousands."""


def _decays_fast(exam: Examination, pulled: float) -> bool:
    """Whether weight decay alone would leave nothing of the weights in a short training; optimisers that divide the
    decay by its own size, too, go by which is larger, it or the gradient.
    """
    if exam.optimizer.get("name") in _SCALE_FREE - {"AdamW"}:
        return pulled > 1
    rate, decay = exam.optimizer.get("lr", 0.0), exam.optimizer.get("weight_decay", 0.0)
    if not isinstance(rate, float) or not isinstance(decay, float):
        return False
    return rate * decay * _warm_up(exam) > FAST_DECAY


def _nothing_to_go_by(exam: Examination) -> Finding:
    return Finding(
        "cannot-overfit-batch",
        "",
        Severity.SEVERE,
        {"inputs": exam.inputs[0].spread.mean},
        f"All inputs of the batch are {number(exam.inputs[0].spread.mean)}: the network has nothing to tell its "
        f"{exam.examples} examples apart by.",
    )


def _held_down(exam: Examination, trial: Trial, left: float, pulled: float, limits: Limits) -> Finding:
    return Finding(
        "cannot-overfit-batch",
        "",
        Severity.SEVERE,
        {"share_left": left, "limit": limits.overfit, "steps": len(trial.losses) - 1,
         "weight_decay": exam.optimizer.get("weight_decay"), "decay_over_gradient": pulled},
        f"After {len(trial.losses) - 1} steps on one batch {percent(left)} of the loss is left: the weight decay of "
        f"{exam.optimizer.get('weight_decay')} pulls the weights to zero {number(pulled)} times as hard as the "
        "gradient moves them. Usual are 1e-5 to 1e-2.",
    )  # fmt: skip


def _decay_over_gradient(exam: Examination) -> float:
    """‖decay·weight‖ over ‖gradient‖, the median over the layers; AdamW steps by the gradient's sign, so to say."""
    decay = exam.optimizer.get("weight_decay", 0.0)
    if not isinstance(decay, float) or decay <= 0:
        return 0.0
    by_sign = exam.optimizer.get("name") == "AdamW"
    pulls = [
        decay * layer.weight_norm / (math.sqrt(layer.weight.count) if by_sign else layer.gradient_norm)
        for layer in exam.layers
        if layer.gradient_norm
    ]
    return median(pulls) if pulls else 0.0


def shuffled_labels(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """What a copy learned by heart does not help on held-out data, nor are the targets of near examples alike; or those
    of the next row are.
    """
    trial, related = trial_of(exam, "data"), exam.relation
    if related is not None and related.shifted > max(limits.displaced, 2 * related.neighbours):
        yield _displaced(related, limits)
        return
    if trial is None or trial.validation is None or related is None or len(trial.losses) < 20:
        return
    before, after = trial.validation
    fall = _fall(trial)
    chance = before if trial.chance is None else trial.chance
    signs = (related.neighbours, trial.beyond_chance or 0.0)
    if after < limits.held_out * chance or max(signs) > limits.related or related.features > limits.related_feature:
        return
    yield Finding(
        "shuffled-labels",
        "",
        Severity.SEVERE,
        {
            "training_fall": fall,
            "held_out_before": before,
            "held_out_after": after,
            "chance": trial.chance,
            "beyond_chance": trial.beyond_chance,
            "neighbours": related.neighbours,
            "features": related.features,
            "limits": (limits.related, limits.related_feature),
        },
        f"In {len(trial.losses) - 1} steps the training loss fell by {percent(fall)}, the loss on held-out examples "
        f"went from {number(before)} to {number(after)}, no better than with exchanged answers; and among "
        f"{related.examples} examples, near ones have no more alike targets than any. The labels may be in another "
        "order than the inputs.",
    )


def _displaced(related: Relation, limits: Limits) -> Finding:
    return Finding(
        "shuffled-labels",
        "",
        Severity.SEVERE,
        {"neighbours": related.neighbours, "shifted": related.shifted, "limit": limits.displaced},
        f"Among {related.examples} examples, the targets of the row before or after agree with those of near examples "
        f"by {number(related.shifted)} standard deviations of chance, their own by {number(related.neighbours)}: from "
        "some row on each input has the target of another one. A row may be missing, or a header counted as one.",
    )


def always_clipped(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """Every step is clipped, and by a large factor."""
    for trial in exam.trials:
        if trial.clipped is None or trial.clipped < limits.clipped or not trial.gradient_norms:
            continue
        norm = exam.optimizer.get("clip_norm")
        typical = median(trial.gradient_norms)
        factor = typical / norm if isinstance(norm, float) and norm else math.inf
        few = trial.kind == "same" and len(trial.losses) < 20
        if factor < limits.clipping * (10 if few else 1) or not (limits.suspecting or _clipping_costs(exam, trial)):
            continue
        yield Finding(
            "always-clipped",
            "",
            Severity.WARNING,
            {"clipped": trial.clipped, "clip_norm": norm, "gradient_norm": typical, "limit": limits.clipped},
            f"{percent(trial.clipped)} of the steps are clipped: gradients have norm {number(typical)}, and are cut to "
            f"{number(norm if isinstance(norm, float) else None)}. The learning rate in effect is {number(factor)} "
            "times smaller than it says.",
        )
        return


_SCALE_FREE = frozenset({"Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta", "Lion"})


def _clipping_costs(exam: Examination, trial: Trial) -> bool:
    """Not where the optimiser divides by the gradient's size anyway, nor where the batch is learned all the same."""
    learns = trial.kind == "same" and len(trial.losses) >= 20 and trial.end < 0.3 * trial.level
    return exam.optimizer.get("name") not in _SCALE_FREE and not learns


def ill_conditioned(exam: Examination, limits: Limits) -> Iterator[Finding]:
    """The Hessian's eigenvalues span too many orders of magnitude, or those of the inputs' correlations do."""
    curvature = exam.curvature
    yield from _correlated(exam, limits)
    if curvature is None or not curvature.condition > limits.condition:
        return
    yield Finding(
        "ill-conditioned",
        "",
        Severity.WARNING,
        {"largest": curvature.largest, "smallest": curvature.smallest, "condition": curvature.condition,
         "limit": limits.condition},
        f"The loss curves {number(curvature.condition)} times more in one direction than in another (eigenvalues from "
        f"{number(curvature.smallest)} to {number(curvature.largest)}): a step short enough for the one is nothing in "
        "the other.",
    )  # fmt: skip


def _correlated(exam: Examination, limits: Limits) -> Iterator[Finding]:
    given = exam.inputs[0] if exam.inputs and exam.inputs[0].examples >= limits.feature_examples else None
    share = 0.0 if given is None or given.common is None else given.common
    others = 0 if given is None else given.shape[-1] - 1
    condition = share * others / max(1 - share, 1e-12)
    if given is None or not (share > limits.common and condition > limits.common_condition and others > 1):
        return
    yield Finding(
        "ill-conditioned",
        "",
        Severity.WARNING,
        {"common": share, "condition": condition, "limits": (limits.common, limits.common_condition)},
        f"{percent(share)} of the variance of the {others + 1} input features, scaled alike, lies in one direction: "
        f"they are nearly copies of each other. The loss curves about {number(condition)} times more along it than "
        "across, where the differences are; whiten the inputs, or take away what the features have in common.",
    )
