"""Trials: short training runs that show what the user's own settings do, and what this network could do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np

from chainrule.doctor.measurements import Trial
from chainrule.doctor.rates import adam, describe, reached, tune
from chainrule.doctor.subjects import DoctorError, Subject
from chainrule.doctor.training import Progress, held_out_loss, length, loss_of, rehearsal, silent, split_of, take, train

QUICK_STEPS = 7
THOROUGH_STEPS = 60
MUCH_LEFT, LONGER = 0.5, 4
"""Where a tuned copy has left so much of the loss, another one is trained so many times as long."""


def on_batch(
    subject: Subject, *, steps: int = QUICK_STEPS, tuned: bool = False, seed: int = 0, progress: Progress = silent
) -> Trial:
    """Train a copy on the subject's one batch with its own optimiser, in the mode the network is in.

    Args:
        subject: the network; left as it was. Without an optimiser, Adam with a tuned learning rate takes its place.
        steps: how many.
        tuned: train a second copy as long, by Adam with the learning rate of a range test. It costs about 1.5 times
            as many steps again.
        seed: of the random generators.
        progress: told of every step.

    Raises:
        DoctorError: the network cannot be copied, or a step fails.
    """
    started = time.perf_counter()
    own = subject.optimizer is not None
    again = partial(cycle, [subject.batch])
    rate = tune(subject, again, steps, seed, progress) if tuned or not own else None
    best = reached(subject, again, steps, rate, seed, progress) if tuned and rate is not None else None
    with rehearsal(subject, seed) as copy:
        copy = copy if own or rate is None else adam(copy, rate)
        run = train(copy, again(), steps, ratios=True, progress=progress, what="training on one batch")
        last = loss_of(copy) if run.finite else math.nan
        words = describe(copy)
    lowest = None
    if best is not None and rate is not None and best > MUCH_LEFT * abs(run.losses[0]):
        lowest = reached(subject, again, LONGER * steps, rate, seed, progress)
    return Trial(
        "same",
        words if own else f"{words} (tuned; none was given)",
        (*run.losses, *([last] if run.finite else [])),
        tuple(run.gradient_norms),
        None if subject.clip_norm is None else float(np.mean(run.clipped)),
        tuple(run.update_ratios),
        None,
        best,
        "" if best is None else f"Adam, lr {rate:.3g}",
        time.perf_counter() - started,
        lowest=lowest,
        first_updates=run.first_updates if own else {},
    )


# Batches of the data ------------------------------------------------------------------------------------------------


def on_data(
    subject: Subject, *, steps: int = THOROUGH_STEPS, seed: int = 0, progress: Progress = silent
) -> Trial | None:
    """Train a copy on a few batches of the data until it knows them, and see whether that helps on held-out data.

    Adam with a tuned learning rate does the training, so that nothing is blamed on the labels which is the
    optimiser's fault. The last loss of `validation` is to be compared with `chance`, what the trained network's answers
    cost when each is given to another example's targets: where they are equal, nothing was learned that holds.

    Args:
        subject: the network with its data; left as it was.
        steps: how many.
        seed: of the random generators, the held-out part and the batches.
        progress: told of every step.

    Returns:
        None where there are no data, or too few.

    Raises:
        DoctorError: the network cannot be copied, or a step fails.
    """
    started = time.perf_counter()
    size = max(length(subject.batch), 2)
    split = split_of(subject, most=max(4 * size, 256), seed=seed)
    if split is None:
        return None
    rate = tune(subject, lambda: split.batches(seed), steps, seed, progress)
    with rehearsal(subject, seed) as copy:
        copy = adam(copy, rate)
        before = held_out_loss(copy, split.held_out)
        run = train(copy, split.batches(seed), steps, ratios=True, progress=progress, what="training on the data")
        last = loss_of(copy, split.training) if run.finite else math.nan
        after = held_out_loss(copy, split.held_out)
        chance = _chance(copy, split.held_out, seed)
    return Trial(
        "data",
        f"Adam, lr {rate:.3g}",
        (*run.losses, *([last] if run.finite else [])),
        tuple(run.gradient_norms),
        None,
        tuple(run.update_ratios),
        (before, after),
        None,
        "",
        time.perf_counter() - started,
        chance,
    )


def _chance(subject: Subject, held_out: Any, seed: int) -> float:
    inputs, targets = held_out
    generator = np.random.default_rng(seed)
    count = length(held_out)
    return float(
        np.mean([held_out_loss(subject, (inputs, take(targets, generator.permutation(count)))) for _ in range(3)])
    )


def trials(
    subject: Subject, *, thorough: bool = False, seed: int = 0, progress: Progress = silent
) -> tuple[tuple[Trial, ...], tuple[str, ...]]:
    """The trials of a diagnosis: quick ones, 7 steps in all, or thorough ones, about 300.

    Returns:
        The trials; and notes on those that could not be made.
    """
    found: list[Trial] = []
    notes: list[str] = []
    attempts: list[Callable[[], Trial | None]] = []
    if thorough:
        attempts.append(lambda: on_batch(subject, steps=THOROUGH_STEPS, tuned=True, seed=seed, progress=progress))
        attempts.append(lambda: on_data(subject, seed=seed, progress=progress))
    elif subject.optimizer is not None:
        attempts.append(lambda: on_batch(subject, seed=seed, progress=progress))
    for attempt in attempts:
        try:
            trial = attempt()
        except DoctorError as error:
            notes.append(f"no trial: {error}")
        else:
            found += [trial] if trial is not None else []
    return tuple(found), tuple(dict.fromkeys(notes))
