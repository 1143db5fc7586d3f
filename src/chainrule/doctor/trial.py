"""Trials: short training runs that show what the user's own settings do, and what this network could do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle

import numpy as np

from chainrule.doctor.measurements import Trial, mean_at_end
from chainrule.doctor.rates import USUAL, adam, describe, own_optimizer, reached, tune
from chainrule.doctor.subjects import DoctorError, Subject
from chainrule.doctor.training import (
    Progress,
    Split,
    finite_dealt_losses,
    held_out_dealt_losses,
    held_out_loss,
    length,
    loss_of,
    rehearsal,
    silent,
    split_of,
    train,
    warming_up,
)

QUICK_STEPS = 7
THOROUGH_STEPS = 60
MUCH_LEFT, LONGER = 0.5, 4
"""Where a tuned copy has left so much of the loss, others are trained so many times as long."""

LIKE_ANYBODYS = 0.95
"""The same where its answers fit the targets hardly better than when they are dealt out: by where the loss started it
may have fallen far, as of dropout that makes it huge.
"""

PASSES = 8

DEALS, CERTAIN = 20, 4.0
"""How often held-out answers are given to others, and by how many standard deviations their own must be better: luck
alone comes so far once in 30000 times.
"""

STUCK = 0.3
"""Where the own optimiser has left so much of it, and a tuned copy half of that, its step length is looked into."""


def on_batch(
    subject: Subject,
    *,
    steps: int = QUICK_STEPS,
    tuned: bool = False,
    dealt: float | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Trial:
    """Train a copy on the subject's one batch with its own optimiser, in the mode the network is in.

    Args:
        subject: the network; left as it was. Without an optimiser, Adam with a tuned learning rate takes its place.
        steps: how many.
        tuned: train a second copy as long, by Adam with the learning rate of a range test. It costs about 1.5 times
            as many steps again.
        dealt: the loss where answers are given to other examples' targets, if it is known already.
        seed: of the random generators.
        progress: told of every step.

    Raises:
        DoctorError: the network cannot be copied, or a step fails.
    """
    started = time.perf_counter()
    own = subject.optimizer is not None
    again = partial(cycle, [subject.batch])
    rate = tune(subject, again, steps, seed, progress) if tuned or not own else None
    best, learned = None, None
    if tuned and rate is not None:
        best, learned = _by_heart(subject, steps, (rate,), 0.0, seed, progress)
    with rehearsal(subject, seed) as copy:
        copy = copy if own or rate is None else adam(copy, rate)
        copy = warming_up(copy, _warm_up(subject)) if own and tuned else copy
        deals = finite_dealt_losses(copy, seed=seed) if dealt is None else [dealt]
        copy.seed(seed)
        run = train(copy, again(), steps, ratios=True, progress=progress, what="training on one batch")
        last = loss_of(copy) if run.finite else math.nan
        words = describe(copy)
    trial = Trial(
        "same",
        words if own else f"{words} (tuned; none was given)",
        (*run.losses, *([last] if run.finite else [])),
        tuple(run.gradient_norms),
        None if subject.clip_norm is None else float(np.mean(run.clipped)),
        tuple(run.update_ratios),
        None,
        best,
        "" if best is None else f"Adam, lr {rate:.3g}",
        0.0,
        float(np.mean(deals)) if deals else None,
        best_rate=rate,
        first_updates=run.first_updates if own else {},
    )
    if best is not None and rate is not None:
        trial = _looked_at_longer(subject, replace(trial, learned=learned), best, rate, seed, progress)
    return replace(trial, seconds=time.perf_counter() - started)


def _looked_at_longer(subject: Subject, trial: Trial, best: float, rate: float, seed: int, progress: Progress) -> Trial:
    """The trial with further ones, where its end does not tell: a few steps may be too few for a healthy network."""
    again, steps = partial(cycle, [subject.batch]), len(trial.losses) - 1
    rate_of_own = float(subject.optimizer_options.get("lr", 0.0))
    if rate_of_own and math.isfinite(trial.end):
        behind = trial.end > STUCK * trial.level and best < 0.5 * trial.end
        longer = partial(reached, subject, again, LONGER * steps, seed=seed, progress=progress, equip=_own)
        if behind:
            trial = replace(trial, longer=longer(rate_of_own))
        if behind or trial.rises > trial.level:
            slower = [_mean_loss(subject, steps, rate_of_own / factor, seed, progress) for factor in (10, 100)]
            trial = replace(trial, slower=min(slower))
    if min(best, trial.end) > MUCH_LEFT * trial.level or (trial.learned or 0.0) > LIKE_ANYBODYS:
        lowest, learned = _by_heart(subject, LONGER * steps, (rate, *USUAL), trial.level, seed, progress)
        trial = replace(trial, lowest=lowest, learned=learned)
    return trial


def _own(copy: Subject, rate: float) -> Subject:
    """The copy with another rate, which is raised as far as its own would be."""
    times = _warm_up(copy)
    return warming_up(own_optimizer(copy, rate), times)


def _warm_up(subject: Subject) -> float:
    return float(subject.optimizer_options.get("warm_up", 1.0))


def _mean_loss(subject: Subject, steps: int, rate: float, seed: int, progress: Progress) -> float:
    """The mean loss over a run of the own optimiser with another learning rate."""
    with rehearsal(subject, seed) as copy:
        run = train(_own(copy, rate), cycle([subject.batch]), steps, progress=progress, what="shorter steps")
    return float(np.mean(run.losses)) if run.finite else math.inf


def _by_heart(
    subject: Subject, steps: int, rates: Sequence[float], level: float, seed: int, progress: Progress
) -> tuple[float, float | None]:
    """The lowest loss on the one batch with any of these rates of Adam, and its share of what dealt answers cost."""
    lowest, learned = math.inf, None
    for rate in dict.fromkeys(rates):
        with rehearsal(subject, seed) as copy:
            copy = adam(copy, rate)
            run = train(copy, cycle([subject.batch]), steps, progress=progress, what="learning one batch by heart")
            loss = mean_at_end(run.losses) if run.finite else math.inf
            # Several passes with one deal each, for dropout has a say in every one of them.
            dealt = [cost for k in range(PASSES) for cost in finite_dealt_losses(copy, seed=seed + k, deals=1)]
        if loss < lowest:
            lowest, learned = loss, loss / float(np.mean(dealt)) if any(dealt) else None
        if lowest <= MUCH_LEFT * level:
            break
    return lowest, learned


# Batches of the data ------------------------------------------------------------------------------------------------


def on_data(
    subject: Subject, *, steps: int = THOROUGH_STEPS, seed: int = 0, progress: Progress = silent
) -> Trial | None:
    """Train a copy on a few batches of the data until it knows them, and see whether that helps on held-out data.

    Adam with a tuned learning rate does the training, so that nothing is blamed on the labels which is the
    optimiser's fault. The last loss of `validation` is to be compared with `chance`, what the trained network's answers
    cost when each is given to another example's targets: where they are equal, nothing was learned that holds. Where
    it looks like that, another copy is trained on all of the data, four times as long: some things take that.

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
    split = split_of(subject, most=max(4 * max(length(subject.batch), 2), 256), seed=seed)
    if split is None:
        return None
    trial = _on_split(subject, split, steps, seed, progress)
    if trial.beyond_chance is None or trial.beyond_chance > CERTAIN:
        return trial
    whole = split_of(subject, seed=seed)
    longer = None if whole is None else _on_split(subject, whole, LONGER * steps, seed, progress)
    better = longer is not None and (longer.beyond_chance or 0.0) > CERTAIN
    return longer if better and longer is not None else trial


def _on_split(subject: Subject, split: Split, steps: int, seed: int, progress: Progress) -> Trial:
    started = time.perf_counter()
    rate = tune(subject, lambda: split.batches(seed), steps, seed, progress)
    with rehearsal(subject, seed) as copy:
        copy = adam(copy, rate)
        before = held_out_loss(copy, split.held_out)
        run = train(copy, split.batches(seed), steps, ratios=True, progress=progress, what="training on the data")
        last = loss_of(copy, split.training) if run.finite else math.nan
        after = held_out_loss(copy, split.held_out)
        dealt = held_out_dealt_losses(copy, split.held_out, seed, DEALS)
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
        float(np.mean(dealt)),
        float((np.mean(dealt) - after) / max(float(np.std(dealt)), 1e-30)) if run.finite else None,
    )


def trials(
    subject: Subject,
    *,
    thorough: bool = False,
    dealt: float | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[tuple[Trial, ...], tuple[str, ...]]:
    """The trials of a diagnosis: quick ones, 7 steps in all, or thorough ones, about 300; `dealt` as in `on_batch`.

    Returns:
        The trials; and notes on those that could not be made.
    """
    found: list[Trial] = []
    notes: list[str] = []
    attempts: list[Callable[[], Trial | None]] = []
    if thorough:
        long = partial(on_batch, steps=THOROUGH_STEPS, tuned=True)
        attempts.append(lambda: long(subject, dealt=dealt, seed=seed, progress=progress))
        attempts.append(lambda: on_data(subject, seed=seed, progress=progress))
    elif subject.optimizer is not None:
        attempts.append(lambda: on_batch(subject, dealt=dealt, seed=seed, progress=progress))
    for attempt in attempts:
        try:
            trial = attempt()
        except DoctorError as error:
            notes.append(f"no trial: {error}")
        else:
            found += [trial] if trial is not None else []
    return tuple(found), tuple(dict.fromkeys(notes))
