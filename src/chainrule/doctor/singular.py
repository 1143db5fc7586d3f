"""How much a network stretches signals between two layers: singular values of Jacobians that are never formed."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from chainrule.doctor.lanczos import hutchinson, lanczos
from chainrule.doctor.measurements import Examination, Singular
from chainrule.doctor.products import jacobian_products
from chainrule.doctor.subjects import DoctorError, Subject
from chainrule.doctor.training import Progress, silent


def singular(
    subject: Subject,
    examination: Examination,
    *,
    steps: int = 12,
    samples: int = 4,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[tuple[Singular, ...], tuple[str, ...]]:
    """Largest and typical singular values between the outputs of each two neighbouring layers, on the batch.

    Each is σ of the Jacobian J of the later output by the earlier one: the largest from Lanczos on JᵀJ, the typical
    one, √(‖J‖²/number of singular values), from ‖J·v‖² for random signs v.

    Args:
        subject: the network; left as it was.
        examination: of it, for the order of its layers.
        steps: products with JᵀJ for the largest.
        samples: products with J for the typical one.
        seed: of the vectors that are drawn.
        progress: told of every pair.

    Returns:
        The singular values; and notes, where they could not be measured.
    """
    modules = dict(subject.modules())
    paths = list(dict.fromkeys(layer.path for layer in examination.layers if layer.path in modules))
    pairs = list(pairwise(paths))
    found, notes = [], []
    for number, (start, end) in enumerate(pairs):
        progress("singular values between layers", number, len(pairs))
        try:
            found.append(_between(subject, start, end, steps, samples, np.random.default_rng(seed)))
        except DoctorError as error:
            notes.append(str(error))
        except (RuntimeError, NotImplementedError, ValueError, TypeError) as error:
            said = str(error).strip().splitlines()
            notes.append(f"no singular values between {start!r} and {end!r}: {said[0] if said else type(error)}")
    return tuple(found), tuple(notes)


def _between(
    subject: Subject, start: str, end: str, steps: int, samples: int, generator: np.random.Generator
) -> Singular:
    with subject.undisturbed(), np.errstate(all="ignore"):
        jacobian = jacobian_products(subject, start, end)

        def square(vector: np.ndarray) -> np.ndarray:
            return jacobian.pull(jacobian.push(vector))

        ritz = lanczos(square, jacobian.columns, steps, generator)
        total = hutchinson(square, jacobian.columns, samples, generator)
    count = min(jacobian.columns, jacobian.rows)
    return Singular(start, end, math.sqrt(max(float(ritz.values[-1]), 0.0)), math.sqrt(max(total, 0.0) / count))
