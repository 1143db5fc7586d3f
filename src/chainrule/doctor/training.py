"""Training a copy of a network for some steps, and the data it is trained on.

A run is repeatable for a seed and leaves no trace: random generators, the network, its hooks and its optimiser are as
before.
"""

from __future__ import annotations

import math
import statistics as median_of
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import optree

from chainrule.doctor import statistics
from chainrule.doctor.subjects import DoctorError, Subject, leaves, parts

Progress = Callable[[str, int, int], None]
"""Told what is going on, how many parts of it are done, and how many there are."""


def silent(what: str, done: int, of: int) -> None:
    """Progress for those who do not want any."""


MEASURED_STEPS = 2
"""At how many steps the length of the update is measured: copying all parameters costs as much as a fifth of a step."""

# One run ------------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """What happened in the steps of a training run.

    Attributes:
        losses: before each step.
        gradient_norms: at each step, before any clipping.
        clipped: whether each step was.
        update_ratios: median of ‖update‖/‖weight‖ over the weight matrices at the first steps, where it was asked for.
        first_updates: ‖update‖/‖parameter‖ of each parameter at the first of them.
    """

    losses: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    clipped: list[bool] = field(default_factory=list)
    update_ratios: list[float] = field(default_factory=list)
    first_updates: dict[str, float] = field(default_factory=dict)

    @property
    def finite(self) -> bool:
        """Whether every loss and every gradient was."""
        return all(map(math.isfinite, [*self.losses, *self.gradient_norms]))


@contextmanager
def rehearsal(subject: Subject, seed: int) -> Iterator[Subject]:
    """A copy to train, with random generators that start from `seed`; afterwards they are as before.

    Raises:
        DoctorError: the network cannot be copied.
    """
    with subject.undisturbed():
        subject.seed(seed)
        yield subject.copy()


def train(
    subject: Subject,
    batches: Iterator[Any],
    steps: int,
    *,
    ratios: bool = False,
    progress: Progress = silent,
    what: str = "training a copy",
) -> Run:
    """Train a copy, until something is not finite at the latest.

    Raises:
        DoctorError: a step fails.
    """
    run = Run()
    for number, batch in enumerate(islice(batches, steps)):
        before = _snapshot(subject) if ratios and number < MEASURED_STEPS else {}
        try:
            with np.errstate(all="ignore"):
                step = subject.step(batch)
        except Exception as error:
            said = str(error).strip().splitlines()
            raise DoctorError(f"a training step fails: {said[0] if said else type(error).__name__}") from error
        _go_on_with_rates(subject)
        run.losses.append(step.loss)
        run.gradient_norms.append(step.gradient_norm)
        run.clipped.append(step.clipped)
        if not run.finite:
            break
        if before:
            updates = _updates(subject, before)
            run.first_updates = run.first_updates or updates
            run.update_ratios.append(_typical(updates, before))
        progress(what, number + 1, steps)
    return run


def warming_up(subject: Subject, times: float) -> Subject:
    """The subject, whose rates rise by as much as they are in each step, until they are so many times larger.

    That is the warm-up of a schedule as far as it can be known from its first rate: raised evenly, it is at its full
    rate after so many steps (Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.2).
    """
    if 1 < times < math.inf:
        for group in subject.optimizer.param_groups:
            group["rise"], group["full"] = float(group["lr"]), float(group["lr"]) * times
    return subject


def falling(subject: Subject, steps: int) -> Subject:
    """The subject, whose rates fall to a tenth in so many steps, along half a cosine, where they have a schedule.

    Where it leads cannot be seen from its first rate, but most end so (Loshchilov and Hutter 2017, "SGDR", equation 5),
    and a network that swings at its full rate comes to rest then.
    """
    scheduled = subject.optimizer is not None and any("initial_lr" in group for group in subject.optimizer.param_groups)
    return cooling(subject, steps) if scheduled else subject


def cooling(subject: Subject, steps: int) -> Subject:
    """The subject, whose rates fall to a tenth in so many steps, along half a cosine, with a schedule or without.

    The same fall serves copies that are compared after coming to rest; the training to come has one to nothing, see
    `remedies.cooldown`.
    """
    for group in subject.optimizer.param_groups:
        group["fallen"], group["falls"] = 0, steps
    return subject


def _go_on_with_rates(subject: Subject) -> None:
    """Have rates rise and fall as schedules do."""
    for group in () if subject.optimizer is None else subject.optimizer.param_groups:
        if group.get("fallen", math.inf) < group.get("falls", 0):
            before, group["fallen"] = _cosine(group["fallen"] / group["falls"]), group["fallen"] + 1
            highest = "full" if "rise" in group else "lr"
            group[highest] = float(group[highest]) * _cosine(group["fallen"] / group["falls"]) / before
        if "rise" in group:
            group["lr"] = min(float(group["lr"]) + group["rise"], group["full"])


def _cosine(share: float) -> float:
    """What is left of a rate that falls to a tenth, after a share of the steps."""
    return 0.55 + 0.45 * math.cos(math.pi * share)


def loss_of(subject: Subject, batch: Any = None) -> float:
    """The loss on a batch, in the mode the network is in; nothing is recorded."""
    with subject.quietly(), np.errstate(all="ignore"):
        return float(statistics.as_numpy(subject.array(subject.run(batch)[1])))


def _snapshot(subject: Subject) -> dict[str, np.ndarray]:
    return {path: np.array(statistics.as_numpy(subject.array(p))) for path, p in subject.parameters()}


def _updates(subject: Subject, before: dict[str, np.ndarray]) -> dict[str, float]:
    """How far each parameter has moved, as a share of its norm; those that were 0 are left out. The arrays in
    `before` are overwritten by the differences, for new ones would cost as much as all else here.
    """
    now = {path: statistics.as_numpy(subject.array(p)) for path, p in subject.parameters()}
    sizes = {path: statistics.norm(old) for path, old in before.items()}
    moved = {path: np.subtract(now[path], old, out=old) for path, old in before.items()}
    return {path: statistics.norm(moved[path]) / size for path, size in sizes.items() if size}


def _typical(updates: dict[str, float], before: dict[str, np.ndarray]) -> float:
    """The median over matrices and kernels: a bias near 0 says nothing by its own size."""
    weights = [ratio for path, ratio in updates.items() if before[path].ndim >= 2]
    return float(median_of.median(weights or updates.values() or [0.0]))


def dealt_losses(subject: Subject, batch: Any = None, seed: int = 0, deals: int = 3, output: Any = None) -> list[float]:
    """The losses on a batch where each answer is given to another example's target, dealt out several times.

    A network that tells no example from another loses nothing by it. Nothing is recorded.

    Args:
        subject: the network.
        batch: inputs and targets; the subject's own by default.
        seed: of the deals.
        deals: how many.
        output: the network's, where it is known.

    Raises:
        DoctorError: the targets cannot be dealt out anew: there are none, or only one, or all are alike.
    """
    inputs, targets = parts(subject.batch if batch is None else batch)
    count = 0 if targets is None else length(targets)
    if count < 2 or _all_alike(subject, targets):
        raise DoctorError("there are no targets to deal out anew")
    generator = np.random.default_rng(seed)
    losses = []
    with subject.quietly(), np.errstate(all="ignore"):
        output = subject.output((inputs, targets)) if output is None else output
        for _ in range(deals):
            order = generator.permutation(count)
            others = np.empty(count, dtype=order.dtype)
            others[order] = np.roll(order, 1)  # a cycle through all: nobody keeps its own
            losses.append(subject.number(subject.loss(output, (inputs, take(targets, others)))))
    return losses


def _all_alike(subject: Subject, targets: Any) -> bool:
    """Whether every example has the same target, as in a batch that no rare class happens to be in."""
    arrays = [statistics.as_numpy(subject.array(leaf)) for leaf in leaves(targets)]
    return bool(arrays) and all(bool((array == array[:1]).all()) for array in arrays)


def finite_dealt_losses(subject: Subject, *, seed: int = 0, deals: int = 3, output: Any = None) -> list[float]:
    """`dealt_losses` on the subject's batch; empty where there can be none, or they are not finite."""
    try:
        losses = dealt_losses(subject, seed=seed, deals=deals, output=output)
    except Exception:  # targets or a loss of a kind of their own
        return []
    return losses if all(map(math.isfinite, losses)) else []


def held_out_loss(subject: Subject, held_out: Any) -> float:
    """The loss on held-out data in evaluation mode."""
    return _in_evaluation(loss_of, subject, held_out)


def held_out_dealt_losses(subject: Subject, held_out: Any, seed: int, deals: int) -> list[float]:
    """`dealt_losses` on held-out data in evaluation mode."""
    return _in_evaluation(partial(dealt_losses, seed=seed, deals=deals), subject, held_out)


def _in_evaluation(loss: Callable[[Subject, Any], Any], subject: Subject, data: Any) -> Any:
    with subject.undisturbed():
        subject.model.eval()
        return loss(subject, data)


# Data in two parts --------------------------------------------------------------------------------------------------

LARGEST_HELD_OUT = 512


@dataclass(frozen=True)
class Split:
    """Data in a part to train on and a part held out, with batches as long as the subject's own.

    Attributes:
        training, held_out: (inputs, targets).
        size: length of a batch.
    """

    training: Any
    held_out: Any
    size: int

    def batches(self, seed: int, size: int | None = None) -> Iterator[Any]:
        """Batches without end, in an order drawn anew for each pass; of a size of their own if one is given."""
        generator = np.random.default_rng(seed)
        count = length(self.training)
        size = min(max(size or self.size, 2), count)
        while True:
            order = generator.permutation(count)
            for start in range(0, count - size + 1, size):
                yield take(self.training, order[start : start + size])


def split_of(subject: Subject, *, share: float = 0.25, most: int | None = None, seed: int = 0) -> Split | None:
    """The subject's data in two parts by chance; None where there are none, or too few to hold any out.

    Args:
        subject: the network with its data.
        share: of the examples, to be held out, 512 of them at most.
        most: examples to train on at most; None for all the others.
        seed: of the draw.
    """
    count = 0 if subject.data is None else length(subject.data)
    if count < 8:
        return None
    order = np.random.default_rng(seed).permutation(count)
    held = min(max(int(count * share), 2), LARGEST_HELD_OUT)
    training = order[held:] if most is None else order[held : held + most]
    size = min(max(length(subject.batch), 2), len(training))
    return Split(take(subject.data, training), take(subject.data, order[:held]), size)


def length(tree: Any) -> int:
    """How many examples there are in a batch or in data."""
    arrays = leaves(tree)
    return int(arrays[0].shape[0]) if arrays and len(arrays[0].shape) else 1


def take(tree: Any, rows: np.ndarray) -> Any:
    """Some examples of a batch or of data."""
    return optree.tree_map(lambda leaf: leaf[rows] if hasattr(leaf, "shape") else leaf, tree)
