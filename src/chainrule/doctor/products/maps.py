"""What the products of both frameworks have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from chainrule.doctor import statistics
from chainrule.doctor.lanczos import Product
from chainrule.doctor.subjects import DoctorError, Subject, leaves


@dataclass(frozen=True)
class JacobianProducts:
    """A Jacobian by its products.

    Attributes:
        push: the Jacobian times a tangent (JVP).
        pull: the transposed Jacobian times a cotangent (VJP).
        columns, rows: lengths of tangents and cotangents.
    """

    push: Product
    pull: Product
    columns: int
    rows: int


def join(arrays: Sequence[Any]) -> np.ndarray:
    """Arrays as one flat vector of float64."""
    return np.concatenate([np.asarray(statistics.as_numpy(a), dtype=np.float64).reshape(-1) for a in arrays])


def split(vector: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """A flat vector as arrays of these shapes."""
    ends = np.cumsum([prod(shape) for shape in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(vector, ends), shapes, strict=True)]


def first_floating(output: Any) -> Any:
    """The first array of floating point numbers in a module's output."""
    return next((leaf for leaf in leaves(output) if "float" in str(leaf.dtype)), None)


def check_once(subject: Subject, seen: Sequence[str], *paths: str) -> None:
    """See that the modules at `paths` are among those that ran, each once."""
    for path in paths:
        if seen.count(path) != 1:
            raise DoctorError(
                f"the Jacobian between layers of {type(subject.model).__name__} needs modules that run once with a "
                f"floating point output; {path!r} ran {seen.count(path)} times"
            )
