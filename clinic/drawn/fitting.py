"""Faults of how a network is fitted: its data, its steps, and what is enforced on them."""

from __future__ import annotations

from typing import Any

import numpy as np

from clinic.case import Patient
from clinic.drawn.change import Change, only
from clinic.drawn.healthy import Plan
from clinic.drawn.lot import between, happens, one_of, whole
from clinic.drawn.signal import after
from clinic.faults import data, weights
from clinic.faults.data import Prepare
from clinic.problems import Problem

# Steps --------------------------------------------------------------------------------------------------------------


def learning_rate_too_high(plan: Plan, rng: np.random.Generator) -> Change:
    """30 to 1000 times as high."""
    return Change(plan, "rate", {"lr": plan.lr * between(rng, 30, 1000)})


def learning_rate_too_low(plan: Plan, rng: np.random.Generator) -> Change:
    """A 3000th to a millionth."""
    return Change(plan, "rate", {"lr": plan.lr / between(rng, 3000, 1e6)})


def swings(patient: Patient) -> bool:
    """Whether the loss over all examples comes back to twice its lowest, and remains a number."""
    inputs, targets = patient.data
    losses = []
    with patient.framework.no_grad():
        losses.append(float(patient.loss_fn(patient.model(inputs), targets)))
    for _ in range(30):
        patient.train(7)
        with patient.framework.no_grad(), np.errstate(all="ignore"):
            losses.append(float(patient.loss_fn(patient.model(inputs), targets)))
    if not np.isfinite(losses).all():
        return False
    return bool(np.max(np.array(losses) / np.minimum.accumulate(losses)) > 2)


def oscillating_loss(plan: Plan, rng: np.random.Generator) -> Change:
    """Momentum that hardly ever forgets, or a rate just beyond stability."""
    # A learning rate somewhat beyond 2/curvature, or one that momentum makes so, is too high: that is why it swings.
    high = ("learning-rate-too-high",)
    only(plan.has_momentum and plan.clip is None)
    if happens(rng, 0.7):
        momentum = round(1 - between(rng, 5e-4, 1e-2), 5)
        settings = {**plan.settings, "momentum": momentum}
        return Change(plan, "momentum", {"options": settings}, accepted=high, evident=swings)
    return Change(plan, "rate", {"lr": plan.lr * between(rng, 4, 20)}, accepted=high, evident=swings)


def slow_convergence(plan: Plan, rng: np.random.Generator) -> Change:
    """A 20th to a 200th of the rate, or no momentum and a smaller rate."""
    # "Slow" and "the steps are too short" are one thing where nothing but the step was changed.
    low = ("learning-rate-too-low",)
    if plan.has_momentum and happens(rng, 0.4):
        settings = {name: value for name, value in plan.settings.items() if name != "momentum"}
        fields = {"options": settings, "lr": plan.lr * between(rng, 0.03, 0.3)}
        return Change(plan, "no-momentum", fields, accepted=low)
    return Change(plan, "rate", {"lr": plan.lr / between(rng, 20, 200)}, accepted=low)


def always_clipped(plan: Plan, rng: np.random.Generator) -> Change:
    """A largest norm that every gradient is above."""
    only(plan.optimizer == "SGD")
    return Change(plan, "norm", {"clip": between(rng, 1e-4, 5e-3)})


# Inputs -------------------------------------------------------------------------------------------------------------


def some_scaled(factor: float, features: tuple[int, ...]) -> Prepare:
    """Some features in a unit far too small for them."""

    def prepare(problem: Problem, rng: np.random.Generator) -> Problem:
        units = np.ones(problem.features, np.float32)
        units[list(features)] = factor
        return problem.with_inputs(lambda inputs: inputs * units)

    return prepare


def unscaled_input(plan: Plan, rng: np.random.Generator) -> Change:
    """All inputs far too large, too small or off the origin, or some features."""
    only(not plan.characters)
    kind = one_of(rng, "large", "large", "offset", "small", "features")
    if kind == "features":
        only(plan.data in ("blobs", "regression") and plan.architecture == "mlp")
        count = plan.problem().features
        only(count >= 4)
        chosen = tuple(int(place) for place in rng.choice(count, whole(rng, 1, count // 3), replace=False))
        # One feature of another scale than the rest is what makes the loss ill-conditioned.
        return Change(
            plan,
            "features",
            {"prepare": some_scaled(between(rng, 100, 10_000), chosen)},
            accepted=("ill-conditioned",),
        )
    factor = between(rng, 1e-5, 1e-3) if kind == "small" else between(rng, 50, 5000)
    offset = factor * between(rng, 0.5, 10) if kind == "offset" else 0.0
    return Change(plan, kind, {"prepare": data.scaled(factor, offset)})


def ill_conditioned(plan: Plan, rng: np.random.Generator) -> Change:
    """Features of all scales or nearly copies of each other, or layers out of balance."""
    only(plan.architecture == "mlp" and plan.optimizer == "SGD")
    kind = one_of(rng, "scales", "correlated", "unbalanced")
    if kind == "unbalanced":
        # One layer far too large and the next too small: the function is the same, its curvature is not, and the
        # layers' first values are as wrong as the words say.
        only(plan.is_plain_mlp and plan.activation in ("relu", "leaky_relu") and len(plan.hidden) >= 2)
        first = whole(rng, 0, len(plan.hidden) - 2)
        one, other = plan.hidden[first], plan.hidden[first + 1]
        factor = between(rng, 30, 300) ** one_of(rng, -1, 1)
        adjust = weights.scaled({one[0]: factor, other[0]: 1 / factor})
        layers = (one[0], other[0])
        return Change(
            plan, "unbalanced-layers", {"adjust": after(plan, adjust)}, layers, accepted=("wrong-initialization",)
        )
    only(plan.data in ("blobs", "regression") and plan.problem().features >= 4)
    if kind == "correlated":
        return Change(plan, "correlated", {"prepare": data.correlated(round(1 - between(rng, 1e-3, 0.1), 4))})
    # Features of very different scales make the loss ill-conditioned because they are not scaled.
    prepare = data.scales(between(rng, 3e-4, 3e-3), between(rng, 3, 30))
    return Change(plan, "scales", {"prepare": prepare}, accepted=("unscaled-input",))


# Targets ------------------------------------------------------------------------------------------------------------


def shuffled_labels(plan: Plan, rng: np.random.Generator) -> Change:
    """Targets of other examples: permuted, sorted or shifted."""
    kind = one_of(rng, "permuted", "permuted", "sorted", "next-row", "lost-row")
    prepare: Any = {
        "permuted": data.shuffled,
        "sorted": data.sorted_targets,
        "next-row": data.next_target,
        "lost-row": data.lost_row(round(rng.uniform(0.05, 0.3), 2)),
    }[kind]
    return Change(plan, kind, {"prepare": prepare})


FAULTS = {
    "learning-rate-too-high": learning_rate_too_high,
    "learning-rate-too-low": learning_rate_too_low,
    "oscillating-loss": oscillating_loss,
    "slow-convergence": slow_convergence,
    "always-clipped": always_clipped,
    "unscaled-input": unscaled_input,
    "ill-conditioned": ill_conditioned,
    "shuffled-labels": shuffled_labels,
}
