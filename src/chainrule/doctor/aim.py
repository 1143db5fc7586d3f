"""What a loss asks for, without any network: where outputs go that are free to be anything.

Numbers of the outputs' shape, drawn at random, take steps against the loss's gradient. Under a loss that fits the task
they come to answer every example right; what they come to under another one is what the loss really asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.doctor import statistics
from chainrule.doctor.measurements import Aim
from chainrule.doctor.scores import score_of
from chainrule.doctor.subjects import Subject, leaves, parts
from chainrule.doctor.training import length, take

STEPS = 100
EXAMPLES = 64
"""So many at least, if there are data to take targets from."""

FIRST, LAST = 0.2, 0.02
"""Lengths of the first and the last step, as a share of the numbers' spread at the start."""

REACHED = 0.9
"""Of a score: no other start is tried."""


def aim(subject: Subject, *, seed: int = 0) -> Aim | None:
    """How good answers become that are moved by the loss alone.

    Each number steps against the sign of its gradient, by less and less: Bernstein et al. 2018, "signSGD". The scale of
    the start is 1, or the targets' own, whichever comes further.

    Args:
        subject: the network; of its outputs only the shape and the range count.
        seed: of the start.

    Returns:
        None where outputs or targets are several, where no score fits them, or where the loss cannot be had of other
        outputs than the network's.
    """
    with subject.undisturbed(), subject.quietly(), np.errstate(all="ignore"):
        outputs = leaves(subject.output())
    batch = _enough(subject)
    targets = leaves(parts(batch)[1])
    if len(outputs) != 1 or len(targets) != 1 or not len(outputs[0].shape) or length(subject.batch) < 2:
        return None
    made = statistics.as_numpy(subject.array(outputs[0]))
    wanted = statistics.as_numpy(subject.array(targets[0]))
    if made.dtype.kind != "f" or made.shape[0] != length(subject.batch) or not _told_apart(made, wanted):
        return None
    tries = [(scale, _ANY) for scale in dict.fromkeys([1.0, float(np.std(wanted)) or 1.0])]
    best: Aim | None = None
    for scale, domain in [*tries, *((1.0, domain) for domain in _domains_of(made))]:
        generator = np.random.default_rng(seed)
        try:
            found = _freely(subject, batch, outputs[0], domain, wanted, scale, generator)
        except Exception:  # a loss that wants more than the output, or outputs of a kind of their own
            continue
        if found is not None and (best is None or found.after > best.after):
            best = found
        if best is not None and best.after > REACHED:
            break
    return best


def _enough(subject: Subject) -> Any:
    """The batch, or more of the data's examples where it has few."""
    if length(subject.batch) >= EXAMPLES or subject.data is None or length(subject.data) <= length(subject.batch):
        return subject.batch
    return take(subject.data, np.arange(min(EXAMPLES, length(subject.data))))


def _told_apart(made: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether outputs are answers: as many numbers as the targets are, or one for each class and no more."""
    if made.size // len(made) == wanted.size // max(len(wanted), 1):
        return bool(np.ptp(wanted) > 0)
    whole = wanted.dtype.kind in "iu" and wanted.size > 0
    return whole and 0 <= wanted.min() < wanted.max() and wanted.max() + 1 in made.shape[1:]


@dataclass(frozen=True)
class _Domain:
    """Where outputs of a network are, by what made them.

    Attributes:
        start: numbers there, of normal ones.
        kept: brings numbers back there.
    """

    start: Callable[[np.ndarray], np.ndarray]
    kept: Callable[[np.ndarray], np.ndarray]


def _inside(x: np.ndarray) -> np.ndarray:
    return np.clip(x, 1e-3, 1 - 1e-3)


def _summing_to_one(x: np.ndarray) -> np.ndarray:
    return _inside(x) / _inside(x).sum(-1, keepdims=True)


def _logarithms(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


_ANY = _Domain(lambda x: x, lambda x: x)
_SHARES = _Domain(lambda x: 1 / (1 + np.exp(-x)), _inside)
_RATES = _Domain(np.abs, lambda x: np.maximum(x, 1e-3))
_PROBABILITIES = _Domain(lambda x: np.exp(_logarithms(x)), _summing_to_one)
_LOG_PROBABILITIES = _Domain(_logarithms, _logarithms)


def _domains_of(made: np.ndarray) -> list[_Domain]:
    """Where outputs of a network may be: numbers above 0, from 0 to 1, that sum to one, or logarithms of these."""
    many = made.shape[-1] > 1
    if made.min() >= 0:
        of_one = _PROBABILITIES if many and np.allclose(made.sum(-1), 1, atol=1e-3) else _SHARES
        return [of_one, _RATES] if made.max() <= 1 else [_RATES]
    sums_to_one = many and made.max() < 1e-3 and np.allclose(np.exp(made).sum(-1), 1, atol=1e-3)
    return [_LOG_PROBABILITIES] if sums_to_one else []


def _freely(
    subject: Subject,
    batch: Any,
    like: Any,
    domain: _Domain,
    wanted: np.ndarray,
    scale: float,
    generator: np.random.Generator,
) -> Aim | None:
    """Where free outputs go from a start; None where the loss does not stay finite or no score fits."""
    free = domain.start(generator.normal(0, scale, (len(wanted), *like.shape[1:])))
    before, asked = score_of(free, wanted), np.zeros(free.shape, bool)
    for size in scale * np.linspace(FIRST, LAST, STEPS):
        leaf = subject.leaf(subject.constant(free, like))
        with np.errstate(all="ignore"):
            (cotangent,) = subject.gradients(subject.loss(leaf, batch), [leaf])
        pushed = np.zeros_like(free) if cotangent is None else statistics.as_numpy(cotangent)
        if not np.isfinite(pushed).all():
            return None
        free, asked = domain.kept(free - size * np.sign(pushed)), asked | (pushed != 0)
    free, wanted = _without_ignored(free, asked, wanted)
    after = score_of(free, wanted)
    if not after.name:
        return None
    return Aim(after.name, before.value, after.value if after.name == "accuracy" else after.otherwise, wanted.size)


def _without_ignored(free: np.ndarray, asked: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without the class that the loss never looks at, as padding is left out, if two or more others remain."""
    if free.shape == wanted.shape or free.ndim != wanted.ndim + 1:
        return free, wanted
    axis = -1 if free.shape[:-1] == wanted.shape else 1
    looked_at = np.isin(wanted, np.unique(wanted[asked.any(axis)]))
    if np.unique(wanted[~looked_at]).size != 1 or np.unique(wanted[looked_at]).size < 2:
        return free, wanted
    return np.moveaxis(free, axis, -1)[looked_at], wanted[looked_at]
