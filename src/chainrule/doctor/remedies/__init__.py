"""Remedies: what can be done about a finding, tried on copies. `finding.CODES` says which fit what.

Each is a function that changes the network in a `Surgery` and says what it did, or raises `CannotApply`. They are
the same for both frameworks; what they need of one is in `own` and `torch`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import cycle

import numpy as np

from chainrule.doctor.measurements import Examination
from chainrule.doctor.remedies import fitting, recurrent, signal, steps, units, wiring
from chainrule.doctor.remedies.surgery import CannotApply, Surgery, Treatment
from chainrule.doctor.subjects import Subject
from chainrule.doctor.training import Progress, silent

__all__ = ["REMEDIES", "CannotApply", "Treatment", "apply"]

REMEDIES: dict[str, Callable[[Surgery], None]] = {
    "gradient-path": wiring.gradient_path,
    "through-path": wiring.through_path,
    "leaving-out": wiring.leaving_out,
    "guarding": wiring.guarding,
    "activation": units.activation,
    "width": units.width,
    "lasting-state": units.lasting_state,
    "initialization": signal.initialization,
    "usual-initialization": signal.usual_initialization,
    "forget-gate-bias": recurrent.forget_gate_bias,
    "bounded-state": units.bounded_state,
    "shorter-time": recurrent.shorter_time,
    "normalization": signal.normalization,
    "usual-normalization": signal.usual_normalization,
    "residual": signal.residual,
    "loss": fitting.loss,
    "input-scaling": fitting.input_scaling,
    "input-whitening": fitting.input_whitening,
    "input-logarithm": fitting.input_logarithm,
    "batch-size": steps.batch_size,
    "regularization": steps.regularization,
    "all-parameters": steps.all_parameters,
    "momentum": steps.momentum,
    "optimizer": steps.optimizer,
    "clipping": steps.clipping,
    "learning-rate": steps.learning_rate,
}
"""By the names that findings call them, in the order in which several are applied."""


def apply(
    name: str,
    subject: Subject,
    exam: Examination,
    *,
    code: str = "",
    where: tuple[str, ...] = (),
    training_steps: int = 100,
    batches: Callable | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Treatment:
    """Apply a remedy to a copy.

    Args:
        name: one of `REMEDIES`.
        subject: the network; left as it was.
        exam: what was measured of it.
        code: of the finding that asks for the remedy.
        where: paths of the modules to treat; empty for everywhere.
        training_steps: how many steps are planned, for a learning rate that fits them.
        batches: makes the batches of that training; by default the subject's one, again and again.
        seed: of whatever is drawn.
        progress: told of everything that takes long.

    Raises:
        CannotApply: it does not fit this network, or what comes of it does not run.
        DoctorError: the network cannot be copied.
    """
    with subject.undisturbed():
        subject.seed(seed)
        batches = batches or (lambda: cycle([subject.batch]))
        surgery = Surgery(subject.copy(), exam, code, where, training_steps, batches, seed, progress)
        REMEDIES[name](surgery)
        treatment = surgery.done()
        _check(treatment)
        return replace(treatment, subject=treatment.subject.copy())  # what was assigned in here is put back


def _check(treatment: Treatment) -> None:
    """See that the cured network runs."""
    subject = treatment.subject
    try:
        with subject.undisturbed(), subject.quietly(), np.errstate(all="ignore"):
            subject.run()
            subject.model.eval()
            subject.run()
    except Exception as error:
        said = str(error).strip().splitlines()
        raise CannotApply(
            f"the network does not run with it: {said[0] if said else type(error).__name__} (does its forward reach "
            "into the module that was replaced?)"
        ) from None
