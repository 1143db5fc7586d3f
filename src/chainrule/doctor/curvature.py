"""How the loss curves where the network stands: eigenvalues and trace of its Hessian from Hessian-vector products."""

from __future__ import annotations

import numpy as np

from chainrule.doctor.lanczos import hutchinson, lanczos
from chainrule.doctor.measurements import Curvature
from chainrule.doctor.products import hessian_product
from chainrule.doctor.subjects import DoctorError, Subject
from chainrule.doctor.training import Progress, silent

CONVERGED = 0.05
"""A Ritz value counts as an eigenvalue where it is known to this share of itself."""

NOISE = {"float64": 1e-12, "float32": 1e-5}
"""Below this share of the largest, an eigenvalue is rounding. From the products' own error: see the tests."""


def curvature(
    subject: Subject, *, steps: int = 30, samples: int = 10, seed: int = 0, progress: Progress = silent
) -> Curvature:
    """The largest eigenvalue of the Hessian, a condition estimate from below, and the trace.

    Args:
        subject: the network; left as it was.
        steps: Hessian-vector products for the eigenvalues.
        samples: further ones for the trace.
        seed: of the vectors that are drawn.
        progress: told of every product.

    Raises:
        DoctorError: an operation of the network has no second derivative, or the loss is not finite.
    """
    generator = np.random.default_rng(seed)
    done = 0
    try:
        with subject.undisturbed(), np.errstate(all="ignore"):
            product, size = hessian_product(subject)

            def counted(vector: np.ndarray) -> np.ndarray:
                nonlocal done
                done += 1
                progress("Hessian-vector products", done, min(steps, size) + samples)
                return product(vector)

            ritz = lanczos(counted, size, steps, generator)
            trace = hutchinson(counted, size, samples, generator)
    except (RuntimeError, NotImplementedError, np.linalg.LinAlgError, ValueError, TypeError) as error:
        said = str(error).strip().splitlines()
        raise DoctorError(f"the Hessian cannot be measured: {said[0] if said else type(error).__name__}") from error
    sizes = np.abs(ritz.values)
    if not np.isfinite(sizes).all():
        raise DoctorError("the Hessian cannot be measured: it is not finite")
    largest = ritz.values[np.argmax(sizes)]
    floor = NOISE[_precision(subject)] * abs(largest)
    known = sizes[(ritz.residuals <= CONVERGED * sizes) & (sizes > floor)]
    smallest = float(known.min()) if known.size else float(abs(largest))
    condition = float(abs(largest)) / smallest if smallest else 1.0
    return Curvature(float(largest), smallest, condition, trace, done)


def _precision(subject: Subject) -> str:
    names = {str(parameter.dtype).rpartition(".")[2] for _, parameter in subject.parameters()}
    return "float64" if names == {"float64"} else "float32"
