"""Seeded draws of rows: training and test parts, and the minibatches of an epoch.

Every draw is a function of its arguments alone, so a run can be resumed from (seed, epoch, batch index)
without replaying what came before.
"""

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray

from chainrule.data.dataset import DataError, Dataset


def split(dataset: Dataset, test_fraction: float = 0.2, *, seed: int) -> tuple[Dataset, Dataset]:
    """Divide the rows at random into a training and a test part.

    For classification the parts are stratified: each class gives `test_fraction` of its rows to the test
    part, to within one row, and keeps at least one training row. Where no class has two rows, and for
    regression, all rows are drawn alike. Both parts keep the order of the rows.

    Args:
        dataset: what to divide, at least 2 rows.
        test_fraction: share of the rows for the test part, strictly between 0 and 1.
        seed: non-negative; the same seed gives the same parts.

    Returns:
        The training part and the test part; neither is empty.

    Raises:
        DataError: there are fewer than 2 rows.
        ValueError: `test_fraction` or `seed` is out of range.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction is a share strictly between 0 and 1, got {test_fraction}")
    if len(dataset) < 2:
        raise DataError(f"a training and a test part need at least 2 rows, the data set has {len(dataset)}")
    strata = dataset.targets if dataset.task == "classification" else np.zeros(len(dataset), np.int64)
    counts = np.bincount(strata)
    if counts.max() == 1:
        strata, counts = np.zeros_like(strata), np.array([len(dataset)])
    is_test = np.zeros(len(dataset), dtype=bool)
    rng = seeded(seed)
    for stratum, test_count in enumerate(_test_counts(counts, test_fraction)):
        is_test[rng.permutation(np.flatnonzero(strata == stratum))[:test_count]] = True
    return dataset.take(np.flatnonzero(~is_test)), dataset.take(np.flatnonzero(is_test))


def batches(
    rows: int, batch_size: int, *, seed: int, epoch: int = 0, drop_last: bool = False
) -> list[NDArray[np.int64]]:
    """Return the minibatches of one epoch: a fresh permutation of the row numbers, cut into pieces.

    A run that stopped before batch `index` of an epoch goes on with `batches(...)[index:]`.

    Args:
        rows: how many rows there are to draw from.
        batch_size: rows per batch; the last batch holds what is left over.
        seed: non-negative seed of the whole run.
        epoch: number of the epoch, from 0; every epoch has its own permutation.
        drop_last: leave out a last batch that is smaller than the others, as batch normalisation may want.

    Returns:
        Arrays of row numbers, int64 of shape (batch_size,), to index inputs and targets with.

    Raises:
        ValueError: an argument is out of range.
    """
    if rows < 1 or batch_size < 1:
        raise ValueError(f"rows and batch_size are at least 1, got rows={rows}, batch_size={batch_size}")
    order = seeded(seed, epoch).permutation(rows)
    stop = rows - rows % batch_size if drop_last else rows
    return [order[start : start + batch_size] for start in range(0, stop, batch_size)]


def _test_counts(counts: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """Share the test rows out among classes of `counts` rows by largest remainder (Hamilton's method)."""
    total = max(round(fraction * int(counts.sum())), 1)
    quotas = counts * fraction
    shares: NDArray[np.int64] = np.floor(quotas).astype(np.int64)
    largest_remainder_first = np.argsort(shares - quotas, kind="stable")
    shares[largest_remainder_first[: max(total - int(shares.sum()), 0)]] += 1
    np.minimum(shares, np.maximum(counts - 1, 0), out=shares)  # every class keeps a training row
    return shares


def seeded(seed: int, *stream: int) -> Generator:
    """Return the generator of a seed, and within it of numbers such as an epoch's, all not negative."""
    if min(seed, *stream, 0) < 0:
        raise ValueError(f"seeds and epochs are not negative, got {(seed, *stream)}")
    return Generator(PCG64(SeedSequence(seed, spawn_key=stream)))
