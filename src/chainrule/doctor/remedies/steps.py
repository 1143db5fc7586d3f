"""Remedies for the length of steps: clipping, the learning rate, another optimiser."""

from __future__ import annotations

from statistics import median

from chainrule.doctor.rates import adam, own_optimizer, tune
from chainrule.doctor.remedies.surgery import CannotApply, Surgery, number

USUAL_NORM = 1.0


def clipping(surgery: Surgery) -> None:
    """Clip the gradient's norm to 1, or, where clipping never rests, to three times its usual norm.

    Source: Pascanu et al. 2013, "On the difficulty of training recurrent neural networks", algorithm 1, and half to ten
    times the average norm as threshold.
    """
    old = surgery.subject.clip_norm
    norms = [norm for trial in surgery.exam.trials for norm in trial.gradient_norms]
    if surgery.code == "always-clipped":
        if not norms:
            norms = [surgery.subject.copy().step().gradient_norm]
        new = float(number(3 * median(norms)))
    elif old is not None and old <= USUAL_NORM:
        raise CannotApply(f"gradients are clipped to norm {number(old)} already")
    else:
        new = USUAL_NORM
    surgery.subject = surgery.subject.with_(clip_norm=new)
    before = "" if old is None else f" instead of {number(old)}"
    surgery.words.append(f"gradients clipped to norm {number(new)}{before}")
    surgery.statements.append(
        f"# in the training loop, after loss.backward():  {surgery.tools.clip}(model.parameters(), {number(new)})"
    )


def learning_rate(surgery: Surgery) -> None:
    """The learning rate of a range test, with the optimiser there is."""
    subject = surgery.subject
    if subject.optimizer is None:
        raise CannotApply("no optimiser was given whose learning rate could be changed")
    if "lr" not in subject.optimizer.param_groups[0]:
        raise CannotApply(f"{type(subject.optimizer).__name__} has no learning rate")
    old = float(subject.optimizer.param_groups[0]["lr"])
    found = tune(subject, surgery.batches, surgery.steps, surgery.seed, surgery.progress, own_optimizer)
    if found == old:
        raise CannotApply(f"a range test finds no learning rate that does better than {number(old)}")
    surgery.subject = own_optimizer(subject, float(number(found)))
    surgery.words.append(f"learning rate {number(found)} instead of {number(old)}, from a range test")


def optimizer(surgery: Surgery) -> None:
    """Adam, whose steps have the same length in each direction, with the learning rate of a range test."""
    subject = surgery.subject
    options = subject.optimizer_options
    if str(options.get("name", "")).startswith("Adam"):
        raise CannotApply(f"it is {options['name']} already")
    found = tune(subject, surgery.batches, surgery.steps, surgery.seed, surgery.progress)
    surgery.subject = adam(subject, float(number(found)))
    old = f" instead of {options['name']}" if options else ""
    surgery.words.append(f"Adam with learning rate {number(found)}{old}, nothing clipped")
