"""Whether targets have anything to do with inputs, without any network: near examples should have like targets.

The targets of the nearest neighbours are compared with an example's own, and so are they after the targets were dealt
out anew, which is what chance would give. Single features are looked at too, for there are tasks where one of many
decides. A relation that neither shows may still be there (a frequency with a random phase): this is one witness of two.

The targets of the rows before and after are compared too: where these fit an example's neighbours better than its own,
a row was lost or a header counted, and the targets belong to other inputs from there on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.doctor import statistics
from chainrule.doctor.measurements import Relation
from chainrule.doctor.subjects import Subject, leaves, parts
from chainrule.doctor.training import length, take

EXAMPLES = 1024
NEIGHBOURS = 5
DEALS = 20
LARGEST_TARGETS = 64
"""Targets of more columns are told by so many sums of them with random signs."""


def relation(subject: Subject, *, seed: int = 0) -> Relation | None:
    """How much the targets of the data depend on the inputs, in standard deviations of what chance gives.

    Args:
        subject: the network with its data.
        seed: of the examples drawn and of the deals.

    Returns:
        None where there are no data, fewer than 32 examples, inputs that never change or targets that never do.
    """
    if subject.data is None or length(subject.data) < 32:
        return None
    generator = np.random.default_rng(seed)
    count = length(subject.data)
    rows = generator.permutation(count)[:EXAMPLES]
    inputs, targets = parts(subject.data)
    given, whole = _table(subject, take(inputs, rows), len(rows)), _table(subject, targets, count)
    if given is None or whole is None:
        return None
    if whole.shape[1] > LARGEST_TARGETS:
        whole = whole @ generator.choice([-1.0, 1.0], (whole.shape[1], LARGEST_TARGETS))
    near, wanted = _nearest(given), whole[rows]

    def by_neighbours(wanted: np.ndarray) -> float:
        return float(np.sum(wanted * wanted[near].mean(1)))

    def by_features(wanted: np.ndarray) -> float:
        return float(np.max(np.sum((given.T @ wanted) ** 2, axis=1)))

    return Relation(
        len(rows),
        _beyond_chance(by_neighbours, wanted, generator),
        _beyond_chance(by_features, wanted, generator),
        max(_beyond_chance(by_neighbours, whole[(rows + step) % count], generator) for step in (-1, 1)),
    )


ROUNDS = 3
"""Of finding the row from which on targets are others': each round knows better which of the near ones are right."""


def parting(subject: Subject, data: Any, step: int) -> int:
    """The row from which on the targets of near examples agree better with those `step` rows on than with their own."""
    count = length(data)
    rows = np.sort(np.random.default_rng(0).permutation(count)[:EXAMPLES])
    inputs, targets = parts(data)
    given, whole = _table(subject, take(inputs, rows), len(rows)), _table(subject, targets, count)
    if given is None or whole is None:
        return 0
    near = _nearest(given)
    own, other = whole[rows], whole[(rows + step) % count]
    place = 0
    for _ in range(ROUNDS):
        right = np.where(np.arange(len(rows))[:, None] < place, own, other)[near].mean(1)
        gain = np.concatenate([[0.0], np.cumsum(np.sum((own - other) * right, axis=1))])
        place = int(np.argmax(gain))
    return int(rows[place]) if place < len(rows) else count


def _beyond_chance(score: Callable[[np.ndarray], float], wanted: np.ndarray, generator: np.random.Generator) -> float:
    """By how many standard deviations a score of the targets exceeds that of targets dealt out anew."""
    chance = [score(wanted[generator.permutation(len(wanted))]) for _ in range(DEALS)]
    return float((score(wanted) - np.mean(chance)) / max(float(np.std(chance)), 1e-30))


def _table(subject: Subject, tree: Any, rows: int) -> np.ndarray | None:
    """One row per example, columns of mean 0 and variance 1; numbers of things become one column for each thing."""
    arrays = [statistics.as_numpy(subject.array(leaf)) for leaf in leaves(tree)]
    columns = [_indicators(a.reshape(rows, -1)) if a.dtype.kind in "iub" else a.reshape(rows, -1) for a in arrays]
    if not columns:
        return None
    table = np.concatenate(columns, axis=1).astype(np.float64)
    table = table[:, np.isfinite(table).all(axis=0)]
    spread = table.std(axis=0)
    moving = spread > 1e-9 * np.maximum(np.abs(table).max(axis=0, initial=0.0), 1e-30)
    return (table[:, moving] - table[:, moving].mean(axis=0)) / spread[moving] if moving.any() else None


LARGEST_KINDS = 200


def _indicators(numbers: np.ndarray) -> np.ndarray:
    kinds = np.unique(numbers)
    if len(kinds) > LARGEST_KINDS:
        return numbers
    return (numbers[:, :, None] == kinds).reshape(len(numbers), -1)


def _nearest(given: np.ndarray) -> np.ndarray:
    """The numbers of the nearest other rows of each row."""
    squares = np.sum(given**2, axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * (given @ given.T)
    np.fill_diagonal(distances, np.inf)
    return np.argpartition(distances, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
