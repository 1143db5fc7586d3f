"""Remedies for how steps are made: clipping, the learning rate, another optimiser, regularisation, longer batches."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np

from chainrule.doctor.anatomy import dropout_of
from chainrule.doctor.rates import adam, full_rate, own_optimizer, tune
from chainrule.doctor.remedies.surgery import CannotApply, Surgery, Treatment, number
from chainrule.doctor.subjects import Subject
from chainrule.doctor.training import length, take

USUAL_NORM = 1.0

MOST_DROPPED, USUALLY_DROPPED = 0.5, 0.1
"""Share of units to drop beyond which it is turned down, and to what; Srivastava et al. 2014, section A.4, for 0.5."""

MOST_DECAY, USUAL_DECAY = 1e-2, 1e-4
"""The same of weight decay."""

USUAL_BATCH = 64

USUAL_MOMENTUM = 0.9
"""It forgets half of a step in seven, a momentum of 0.99 in seventy; Sutskever et al. 2013, section 2."""


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


def regularization(surgery: Surgery) -> None:
    """Turn dropout and weight decay down to what is usual, where they leave too little to learn with."""
    dropping = [path for path, m in surgery.modules.items() if dropout_of(m) > MOST_DROPPED]
    for path in dropping:
        surgery.modules[path].p = USUALLY_DROPPED
    if dropping:
        surgery.for_each(dropping, f"model.get_submodule(path).p = {USUALLY_DROPPED}")
        surgery.words.append(f"dropout {USUALLY_DROPPED} in {', '.join(dropping)}")
    groups = [] if surgery.subject.optimizer is None else surgery.subject.optimizer.param_groups
    decaying = [group for group in groups if group.get("weight_decay", 0) > MOST_DECAY]
    if decaying:
        surgery.words.append(f"weight decay {USUAL_DECAY:g} instead of {number(decaying[0]['weight_decay'])}")
    for group in decaying:
        group["weight_decay"] = USUAL_DECAY
    if not dropping and not decaying:
        raise CannotApply("there is neither much dropout in modules nor a large weight decay to be turned down")


def momentum(surgery: Surgery) -> None:
    """The usual momentum, where it is larger: what a step was is forgotten before it swings the weights back and forth.

    Source: Goodfellow et al. 2016, "Deep Learning", section 8.3.2: swings die out with the friction, 1 - momentum.
    """
    groups = [] if surgery.subject.optimizer is None else surgery.subject.optimizer.param_groups
    swinging = [group for group in groups if group.get("momentum", 0.0) > USUAL_MOMENTUM]
    if not swinging:
        raise CannotApply(f"the optimizer has no momentum larger than {USUAL_MOMENTUM:g}")
    surgery.words.append(f"momentum {USUAL_MOMENTUM:g} instead of {swinging[0]['momentum']:.6g}")
    for group in swinging:
        group["momentum"] = USUAL_MOMENTUM


def batch_size(surgery: Surgery) -> None:
    """More examples in each step, so that their mean and variance say something.

    Source: Wu and He 2018, "Group Normalization", figure 1.
    """
    subject = surgery.subject
    count = length(subject.batch)
    available = 0 if subject.data is None else length(subject.data)
    if count >= USUAL_BATCH:
        raise CannotApply(f"{count} examples in a batch are enough")
    if available < 2 * USUAL_BATCH:
        raise CannotApply(f"no data were given that batches of more than {count} examples could be drawn from")
    rows = np.random.default_rng(surgery.seed).choice(available, USUAL_BATCH, replace=False)
    surgery.subject = subject.with_(batch=take(subject.data, rows))
    surgery.words.append(f"batches of {USUAL_BATCH} examples instead of {count}")
    surgery.statements.append(f"# in the training loop:  batches of {USUAL_BATCH} examples")


def all_parameters(surgery: Surgery) -> None:
    """Give the optimiser the trainable parameters that it does not hold."""
    subject = surgery.subject
    if subject.optimizer is None:
        raise CannotApply("no optimiser was given that could lack parameters")
    held = {id(p) for group in subject.optimizer.param_groups for p in group["params"]}
    missing = [(path, p) for path, p in subject.parameters() if subject.requires_grad(p) and id(p) not in held]
    if not missing:
        raise CannotApply("the optimizer holds it; let the forward use what it makes, or take it out of the network")
    group = subject.optimizer.param_groups[0]
    group["params"] = [*group["params"], *(p for _, p in missing)]
    paths = [path for path, _ in missing]
    named = ", ".join(paths) if len(paths) <= 6 else f"{len(paths)} parameters"
    surgery.words.append(f"the optimizer made to move {named} too")


def learning_rate(surgery: Surgery) -> None:
    """The learning rate of a range test, with the optimiser there is."""
    subject = surgery.subject
    if subject.optimizer is None:
        raise CannotApply("no optimiser was given whose learning rate could be changed")
    if "lr" not in subject.optimizer.param_groups[0]:
        raise CannotApply(f"{type(subject.optimizer).__name__} has no learning rate")
    old = full_rate(subject)
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
    surgery.subject, words = _with_adam(subject, float(number(found)))
    surgery.words.append(words)


def _with_adam(subject: Subject, rate: float) -> tuple[Subject, str]:
    """The subject with Adam, and that in words.

    Clipping stays where it only cuts off what is unusual: one step that is far too long ends a training with Adam, too.
    """
    options, clip = subject.optimizer_options, subject.clip_norm
    words = f"Adam with learning rate {number(rate)}" + (f" instead of {options['name']}" if options else "")
    made = adam(subject, rate)
    if clip is None:
        return made, words
    if clip < USUAL_NORM:
        return made, f"{words}, nothing clipped"
    return made.with_(clip_norm=clip), words


RATES = (1e-3, 3e-3, 1e-2)
"""Learning rates that Adam is often given."""

NEAR = 1.5
"""Rates that differ by no larger factor are one."""


def paces(subject: Subject, rates: Sequence[float] = RATES, far: bool = False) -> list[tuple[str, Treatment]]:
    """The network with other learning rates, `far` ones too, and with Adam, by the names of the remedies."""
    if subject.optimizer is None or "lr" not in subject.optimizer.param_groups[0]:
        return []
    old = full_rate(subject)
    is_adam = str(subject.optimizer_options["name"]).startswith("Adam")
    factors = (1 / 3, 3, 1 / 10, 10, 1 / 100, 100) if far else (1 / 3, 3)
    usual = rates if is_adam else ()
    own = [rate for rate in dict.fromkeys([*(old * factor for factor in factors), *usual]) if rate > 0]
    made = []
    for rate in [rate for rate in own if not 1 / NEAR < rate / old < NEAR]:
        words = f"learning rate {number(rate)} instead of {number(old)}"
        copy = subject.copy()
        made.append(("learning-rate", Treatment(own_optimizer(copy, float(number(rate))), (words,), (), ())))
    for rate in () if is_adam else rates:
        copy, words = _with_adam(subject.copy(), rate)
        made.append(("optimizer", Treatment(copy, (words,), (), ())))
    return made
