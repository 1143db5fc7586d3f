"""The rules: from what was measured to what is wrong. Each is a generator of findings; none runs anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from chainrule.doctor.finding import Finding, Severity
from chainrule.doctor.limits import Limits
from chainrule.doctor.measurements import Examination, Experiment
from chainrule.doctor.rules import fitting, signal, training, units, wiring
from chainrule.doctor.rules.experience import inputs_are_all_alike, knows_its_batch
from chainrule.doctor.rules.words import number

RULES: tuple[Callable[[Examination, Limits], Iterator[Finding]], ...] = (
    wiring.non_finite,
    wiring.detached_graph,
    wiring.unused_parameter,
    fitting.wrong_loss,
    fitting.loss_activation_mismatch,
    units.symmetric_initialization,
    fitting.unscaled_input,
    wiring.dead_batchnorm,
    signal.wrong_initialization,
    units.dying_relu,
    units.saturated_activation,
    signal.exploding_gradient,
    signal.vanishing_gradient,
    signal.through_time,
    wiring.bottleneck,
    training.always_clipped,
    training.learning_rate_too_high,
    training.learning_rate_too_low,
    training.shuffled_labels,
    training.oscillating_loss,
    training.ill_conditioned,
    signal.missing_normalization,
    training.cannot_overfit_batch,
    training.slow_convergence,
)
"""All rules, causes before their effects."""

EFFECTS: dict[str, frozenset[str]] = {
    "non-finite": frozenset({"*"}),
    "detached-graph": frozenset({"cannot-overfit-batch", "slow-convergence", "vanishing-gradient"}),
    "unused-parameter": frozenset({"cannot-overfit-batch", "slow-convergence", "learning-rate-too-low"}),
    "wrong-loss": frozenset({"cannot-overfit-batch", "slow-convergence", "oscillating-loss"}),
    "loss-activation-mismatch": frozenset({
        "cannot-overfit-batch", "slow-convergence", "saturated-activation",
    }),
    "symmetric-initialization": frozenset({
        "wrong-initialization", "vanishing-gradient", "cannot-overfit-batch", "slow-convergence", "dying-relu",
        "missing-normalization", "learning-rate-too-low",
    }),
    "unscaled-input": frozenset({
        "saturated-activation", "exploding-gradient", "dying-relu", "learning-rate-too-high", "oscillating-loss",
        "ill-conditioned", "missing-normalization", "cannot-overfit-batch", "slow-convergence", "vanishing-gradient",
    }),
    "dead-batchnorm": frozenset({
        "vanishing-gradient", "cannot-overfit-batch", "slow-convergence", "dying-relu", "exploding-gradient",
        "learning-rate-too-high", "oscillating-loss",
    }),
    "wrong-initialization": frozenset({
        "exploding-gradient", "vanishing-gradient", "saturated-activation", "dying-relu", "missing-normalization",
        "learning-rate-too-high", "learning-rate-too-low", "cannot-overfit-batch", "slow-convergence",
        "oscillating-loss", "bptt-exploding", "bptt-vanishing", "ill-conditioned",
    }),
    "dying-relu": frozenset({"vanishing-gradient", "cannot-overfit-batch", "slow-convergence"}),
    "saturated-activation": frozenset({
        "vanishing-gradient", "cannot-overfit-batch", "slow-convergence", "bptt-vanishing",
    }),
    "exploding-gradient": frozenset({
        "learning-rate-too-high", "oscillating-loss", "missing-normalization", "cannot-overfit-batch",
        "slow-convergence", "ill-conditioned", "always-clipped",
    }),
    "vanishing-gradient": frozenset({
        "missing-normalization", "cannot-overfit-batch", "slow-convergence", "learning-rate-too-low",
        "ill-conditioned",
    }),
    "bptt-exploding": frozenset({
        "learning-rate-too-high", "oscillating-loss", "slow-convergence", "always-clipped", "saturated-activation",
        "cannot-overfit-batch",
    }),
    "bptt-vanishing": frozenset({"slow-convergence", "cannot-overfit-batch"}),
    "bottleneck": frozenset({
        "cannot-overfit-batch", "slow-convergence", "vanishing-gradient", "bptt-vanishing", "dying-relu",
    }),
    "always-clipped": frozenset({"slow-convergence", "learning-rate-too-low", "cannot-overfit-batch"}),
    "learning-rate-too-high": frozenset({"oscillating-loss", "slow-convergence", "dying-relu"}),
    "learning-rate-too-low": frozenset({"slow-convergence"}),
    "ill-conditioned": frozenset({"slow-convergence"}),
    "missing-normalization": frozenset({"slow-convergence", "learning-rate-too-high", "oscillating-loss"}),
    "shuffled-labels": frozenset({"slow-convergence", "cannot-overfit-batch", "oscillating-loss"}),
    "cannot-overfit-batch": frozenset({"slow-convergence"}),
    "oscillating-loss": frozenset({"slow-convergence"}),
}  # fmt: skip
"""What each fault brings about: these are told as its effects, after it."""


OF_DROPOUT = frozenset({
    "learning-rate-too-high", "oscillating-loss", "slow-convergence", "exploding-gradient", "missing-normalization",
    "always-clipped", "dying-relu", "saturated-activation",
})  # fmt: skip
"""What dropout brings about besides: it multiplies what it leaves, so that there is enough of it on average."""


def _effects_of(finding: Finding) -> frozenset[str]:
    return EFFECTS.get(finding.code, frozenset()) | (OF_DROPOUT if "dropout" in finding.evidence else frozenset())


def brings_about(cause: Finding, effect: Finding) -> bool:
    """Whether one finding is told as the effect of another."""
    if cause.severity < Severity.WARNING or cause.code == effect.code:
        return False
    if "dropout" in effect.evidence and cause.code in OF_DROPOUT:
        return False
    if effect.code == "learning-rate-too-high" and cause.code in BEND:
        return "treated" in cause.evidence and "treated" not in effect.evidence
    if effect.code == "shuffled-labels":  # a last resort: what keeps a network from learning looks like it
        return cause.code not in EFFECTS["shuffled-labels"]
    if (cause.code, effect.code) == ("bptt-exploding", "exploding-gradient"):
        return cause.layer == effect.layer  # it grows in time, not in depth
    if (cause.code, effect.code) == ("wrong-initialization", "dying-relu") and effect.severity == Severity.SEVERE:
        return cause.evidence.get("scale", 0.0) < 1  # where weights are small, biases alone decide
    if (cause.code, effect.code) == ("dying-relu", "exploding-gradient"):  # nothing gets past a layer that is all off
        return cause.evidence.get("zero_units", 0.0) == 1
    if (cause.code, effect.code) == ("dying-relu", "wrong-initialization"):  # a step too long makes weights large, too
        return cause.severity == Severity.SEVERE and effect.evidence.get("scale", 0.0) > 1
    if (cause.code, effect.code) == ("bottleneck", "dead-batchnorm"):  # normalised within each example, of one unit
        alone = cause.evidence.get("units") == effect.evidence.get("examples") == 1
        return alone and effect.evidence.get("kind") != "batch_norm"
    if (cause.code, effect.code) == ("dead-batchnorm", "unused-parameter"):  # what always gives the same has no slope
        return cause.evidence.get("examples") == 1
    return not _effects_of(cause).isdisjoint({effect.code, "*"})


PROVABLE = frozenset({
    "wrong-initialization", "symmetric-initialization", "dying-relu", "saturated-activation", "vanishing-gradient",
    "exploding-gradient", "missing-normalization", "bptt-vanishing", "bptt-exploding", "bottleneck", "dead-batchnorm",
    "wrong-loss", "unscaled-input", "ill-conditioned", "always-clipped", "learning-rate-too-high",
    "learning-rate-too-low", "slow-convergence", "cannot-overfit-batch", "unused-parameter", "oscillating-loss",
})  # fmt: skip
"""What can be taken away from a copy, to see what comes of it."""

_BEFORE_LEARNING = frozenset({
    "vanishing-gradient", "exploding-gradient", "bptt-vanishing", "bptt-exploding", "wrong-initialization",
    "symmetric-initialization", "missing-normalization", "dying-relu", "saturated-activation", "bottleneck",
})  # fmt: skip
"""What keeps a network from learning. One that knows its batch has learned all the same: it is told in a note."""


def _is_past(finding: Finding) -> bool:
    """Whether learning shows that a finding does not keep from it; no training leaves all weights of a layer alike."""
    alike = finding.evidence.get("twins", 0.0) == 1 or finding.evidence.get("weight_std", 1.0) < 1e-6
    return finding.code in _BEFORE_LEARNING and not alike


def judge(exam: Examination, limits: Limits) -> tuple[Finding, ...]:
    """Every finding, causes first and the most severe of them at the top; effects carry the code of their cause."""
    found = [finding for rule in RULES for finding in rule(exam, limits)]
    proved = _proved(exam, limits)
    known = {finding.code for finding in proved} | _refuted(exam)
    found = [*proved, *(f for f in found if f.code not in known)]
    if inputs_are_all_alike(exam):
        found = [f for f in found if f.code not in _BEFORE_LEARNING | {"unused-parameter"}]  # there are no signals
    if knows_its_batch(exam, limits):
        found = [replace(f, severity=Severity.NOTE) if _is_past(f) else f for f in found]
    return ordered(found)


SYMPTOMS = frozenset({
    "cannot-overfit-batch", "slow-convergence", "oscillating-loss", "shuffled-labels",
})  # fmt: skip
"""What does not say where it comes from: where nothing else was found, the cause is still to be looked for."""


_OF_STEPS = frozenset({"learning-rate-too-high", "learning-rate-too-low", "slow-convergence", "oscillating-loss"})


SPECIFIC = frozenset({"bottleneck", "dead-batchnorm"})
"""What is suspected even where an effect of it was found, for what takes it away would not take away anything else; and
tested first, for the same reason.
"""


def suspected(exam: Examination, limits: Limits) -> tuple[Finding, ...]:
    """What might be wrong, but is not proved; nothing where a cause was found.

    A network that knows its batch can learn: only its steps may be too long, as in fine-tuning, too short, or swing.
    """
    serious = {finding.code for finding in judge(exam, limits) if finding.severity >= Severity.WARNING}
    if inputs_are_all_alike(exam):
        return ()
    causes = serious - (SYMPTOMS if not _decays(exam, limits) else SYMPTOMS - {"cannot-overfit-batch"})
    codes = _OF_STEPS if knows_its_batch(exam, limits) else PROVABLE
    codes -= serious & {"oscillating-loss"}
    found = [f for f in _beyond(exam, limits.of_suspicion) if f.code in codes - causes]
    found = [f for f in found if not causes or (_is_specific(f) and causes <= _effects_of(f))]
    return tuple(sorted(found, key=lambda f: f.code not in SPECIFIC and "dropout" not in f.evidence))


BEND = frozenset({"bottleneck", "ill-conditioned"})
"""What makes a loss curve so much that steps are too long which would do without it."""


def disputed(exam: Examination, limits: Limits) -> tuple[Finding, ...]:
    """Steps that are too long, and before them what may make them so: without it the same steps would do."""
    found = [finding for finding in judge(exam, limits) if finding.severity >= Severity.WARNING]
    steps = [f for f in found if f.code == "learning-rate-too-high" and not f.follows_from]
    bend = [f for f in found if f.code in BEND and not f.follows_from]
    return (*bend, *steps) if bend and steps else ()


def _is_specific(finding: Finding) -> bool:
    """Whether it is worth a test beside a cause. A layer of several units that is made wider brings the next one along,
    drawn anew: that may be what helps.
    """
    return "dropout" in finding.evidence or (finding.code in SPECIFIC and finding.evidence.get("units", 1) == 1)


def _decays(exam: Examination, limits: Limits) -> bool:
    """Whether a batch that cannot be learned says where that comes from: from the weight decay."""
    return any("decay_over_gradient" in finding.evidence for finding in training.cannot_overfit_batch(exam, limits))


def _beyond(exam: Examination, limits: Limits) -> list[Finding]:
    found = [finding for rule in RULES for finding in rule(exam, limits)]
    return [finding for finding in found if finding.severity >= Severity.WARNING]


def _proved(exam: Examination, limits: Limits) -> list[Finding]:
    """What was suspected and borne out by an experiment."""
    proofs = {experiment.code: experiment for experiment in exam.experiments if experiment.proves}
    if not proofs:
        return []
    found = [finding for finding in _beyond(exam, limits.of_suspicion) if finding.code in proofs]
    return [_with_proof(finding, proofs[finding.code]) for finding in found]


REFUTABLE = frozenset({"slow-convergence"})
"""What is none where the network does well on other examples: on one batch it may be on a plateau for longer."""

WELL = 0.9
"""So many answers right, or so much of the variance explained."""


def _refuted(exam: Examination) -> set[str]:
    """What was put to the test and not borne out."""
    tested = [experiment for experiment in exam.experiments if experiment.code in REFUTABLE]
    well = {x.code for x in tested if x.measure != "loss" and x.later > WELL}
    return well - {experiment.code for experiment in tested if experiment.proves}


def _with_proof(finding: Finding, proof: Experiment) -> Finding:
    """The finding with the figures of the experiment."""
    done = "; ".join(proof.words)
    said = (
        f"The experiment: without it ({done}), a copy comes to {proof.measure} {number(proof.treated)} in "
        f"{proof.steps} steps, the network itself to {number(proof.untreated)}, and to {number(proof.later)} in four "
        "times as many."
    )
    figures = {"measure": proof.measure, "treated": proof.treated, "untreated": proof.untreated, "later": proof.later}
    return replace(
        finding,
        severity=Severity.WARNING,
        evidence={**finding.evidence, **figures},
        cause=f"{finding.cause} {said}",
    )


def judge_flow(exam: Examination, limits: Limits) -> tuple[Finding, ...]:
    """What there is to say of the way of the error signal, where nothing else was looked at."""
    return ordered([*signal.exploding_gradient(exam, limits), *signal.vanishing_gradient(exam, limits)])


def ordered(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The same findings, those that others bring about marked and put behind."""
    marked: list[Finding] = []
    for finding in findings:
        causes = [other.code for other in findings if brings_about(other, finding)]
        marked.append(replace(finding, follows_from=causes[0]) if causes else finding)
    return tuple(sorted(marked, key=lambda finding: (finding.follows_from != "", -finding.severity)))
