"""`diagnose`: examine a network, judge what was measured, and report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from chainrule.doctor.aim import aim
from chainrule.doctor.anatomy import with_common_of_data
from chainrule.doctor.curvature import curvature
from chainrule.doctor.examination import examine, with_updates
from chainrule.doctor.experiments import experiments
from chainrule.doctor.limits import Limits
from chainrule.doctor.measurements import Examination
from chainrule.doctor.neighbours import relation
from chainrule.doctor.report import Report
from chainrule.doctor.rules import disputed, judge, suspected
from chainrule.doctor.rules.experience import trial_of
from chainrule.doctor.singular import singular
from chainrule.doctor.subjects import DoctorError, Subject, subject_of
from chainrule.doctor.through_time import through_time
from chainrule.doctor.training import Progress, silent
from chainrule.doctor.trial import trials


def diagnose(
    model: Any,
    loss_fn: Callable,
    batch: Any,
    *,
    optimizer: Any = None,
    data: Any = None,
    clip_norm: float | None = None,
    thorough: bool = False,
    limits: Limits | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Report:
    """What is wrong with a network, where, why, and what proves it.

        report = cr.diagnose(model, nn.functional.cross_entropy, (x, y), optimizer=optimizer)
        print(report)

    The network is left as it was: parameters, buffers, gradients, hooks and random generators.

    Args:
        model: a `chainrule.nn.Module` or a `torch.nn.Module`.
        loss_fn: `loss_fn(output, targets)`, one number.
        batch: (inputs, targets) of one training step. Inputs may be one array, a tuple of them or a dict.
        optimizer: what it is trained with; without one, nothing is said about step lengths.
        data: (inputs, targets) to draw batches from in trials.
        clip_norm: the norm gradients are clipped to in each step, if they are.
        thorough: also train copies for some hundred steps, on the batch and on the data, and measure the loss's
            curvature and the singular values of the layers' Jacobians. Without, it costs about as much as 14 steps of
            training.
        limits: the numbers beyond which something is called wrong.
        seed: of what is drawn at random.
        progress: called with what is going on, how many parts of it are done, and how many there are.

    Raises:
        DoctorError: the network cannot be run on the batch, or not be looked into.
    """
    subject = subject_of(model, loss_fn, batch, optimizer=optimizer, data=data, clip_norm=clip_norm)
    limits = limits or Limits()
    exam = examination_of(subject, thorough=thorough, seed=seed, progress=progress)
    if thorough:
        exam = _tested(subject, exam, limits, seed, progress)
    return Report(judge(exam, limits), exam, subject, limits)


OF_ITS_STEPS = frozenset({"slow-convergence", "oscillating-loss"})
"""What shows that the network's own optimiser does not get on: other suspicions are tested with a tuned one."""


def _tested(subject: Subject, exam: Examination, limits: Limits, seed: int, progress: Progress) -> Examination:
    """With experiments on what is suspected."""
    if subject.optimizer is not None and (rivals := disputed(exam, limits)):
        return replace(exam, experiments=experiments(subject, exam, rivals, seed=seed, progress=progress))
    suspicions = suspected(exam, limits)
    if not suspicions:
        return exam
    own = trial_of(exam, "same")
    behind = any(finding.code in OF_ITS_STEPS for finding in judge(exam, limits))
    tuned = None if own is None or not (behind or subject.optimizer is None) else own.best_rate
    if subject.optimizer is None and tuned is None:
        return exam
    made = experiments(subject, exam, suspicions, tuned=tuned, seed=seed, progress=progress)
    return replace(exam, experiments=made)


def examination_of(
    subject: Subject, *, thorough: bool = False, seed: int = 0, progress: Progress = silent
) -> Examination:
    """All measurements: of one pass, of trials, through time, and, if thorough, of the curvature.

    Raises:
        DoctorError: as `diagnose`.
    """
    progress("one step, watched", 0, 1)
    exam = examine(subject)
    progress("one step, watched", 1, 1)
    if exam.origin is not None or (exam.loss is not None and not exam.loss.recorded):
        return exam  # there is nothing to train
    notes = [*exam.notes]
    time, missing = through_time(subject, seed=seed)
    notes += missing
    dealt = None if exam.loss is None else exam.loss.dealt
    tried, missing = trials(subject, thorough=thorough, dealt=dealt, seed=seed, progress=progress)
    notes += missing
    exam = replace(exam, time=(*exam.time, *time), trials=tried, notes=tuple(notes))
    exam = with_updates(exam, next((trial.first_updates for trial in tried if trial.kind == "same"), {}))
    return _measured_closely(subject, exam, seed, progress) if thorough else exam


def _measured_closely(subject: Subject, exam: Examination, seed: int, progress: Progress) -> Examination:
    """With curvature, singular values, what the data's targets have to do with the inputs, and what the loss asks for,
    where they can be had.
    """
    jacobians, missing = singular(subject, exam, seed=seed, progress=progress)
    notes, bent = [*exam.notes, *missing], None
    try:
        bent = curvature(subject, seed=seed, progress=progress)
    except DoctorError as error:
        notes.append(str(error))
    return replace(
        exam,
        curvature=bent,
        singular=jacobians,
        relation=relation(subject, seed=seed),
        aim=aim(subject, seed=seed),
        inputs=with_common_of_data(subject, exam.inputs),
        notes=tuple(notes),
    )
