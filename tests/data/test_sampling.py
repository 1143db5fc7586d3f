"""Draws of rows are complete, stratified and repeatable from (seed, epoch)."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.data import DataError, Dataset, batches, load_digits, split


def labelled(targets):
    """Return a classification data set whose one feature is the row number."""
    targets = np.asarray(targets, dtype=np.int64)
    inputs = np.arange(len(targets), dtype=np.float64)[:, None]
    return Dataset(inputs, targets, "classification", ("row",), tuple(range(int(targets.max(initial=0)) + 1)))


def measured(rows):
    """Return a regression data set whose one feature is the row number."""
    inputs = np.arange(rows, dtype=np.float64)[:, None]
    return Dataset(inputs, -inputs, "regression", ("row",))


LABELS = st.lists(st.integers(0, 4), min_size=2, max_size=60)
FRACTIONS = st.floats(0.01, 0.99)
SEEDS = st.integers(0, 2**70)


# split


@given(LABELS, FRACTIONS, SEEDS, st.booleans())
def test_every_row_is_in_exactly_one_part_and_neither_is_empty(labels, fraction, seed, is_regression):
    dataset = measured(len(labels)) if is_regression else labelled(labels)
    train, test = split(dataset, fraction, seed=seed)
    assert sorted([*train.inputs[:, 0], *test.inputs[:, 0]]) == list(range(len(labels)))
    assert len(train) > 0
    assert len(test) > 0


@given(LABELS, FRACTIONS, SEEDS)
def test_rows_keep_their_targets_and_their_order(labels, fraction, seed):
    for part in split(labelled(labels), fraction, seed=seed):
        rows = part.inputs[:, 0].astype(int)
        assert part.targets.tolist() == [labels[row] for row in rows]
        assert (np.diff(rows) > 0).all()


@given(LABELS, FRACTIONS, SEEDS)
def test_each_class_gives_its_share_to_within_one_row_and_keeps_one(labels, fraction, seed):
    counts = np.bincount(labels, minlength=5)
    if counts.max() == 1:
        return
    _, test = split(labelled(labels), fraction, seed=seed)
    taken = np.bincount(test.targets, minlength=5)
    upper = np.minimum(np.floor(counts * fraction) + 1, np.maximum(counts - 1, 0))
    lower = np.minimum(np.floor(counts * fraction), upper)
    assert (taken <= upper).all()
    assert (taken >= lower).all()


def test_the_test_part_has_the_size_that_was_asked_for():
    train, test = split(load_digits().to_dataset(), 0.2, seed=0)
    assert (len(train), len(test)) == (1438, 359)
    assert np.bincount(test.targets).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    train, test = split(measured(10), 0.25, seed=0)
    assert (len(train), len(test)) == (8, 2)


def test_where_no_class_has_two_rows_all_rows_are_drawn_alike():
    train, test = split(labelled([0, 1, 2, 3]), 0.5, seed=0)
    assert (len(train), len(test)) == (2, 2)


def test_a_class_missing_from_the_data_does_no_harm():
    train, test = split(labelled([0, 0, 0, 0, 3, 3, 3, 3]), 0.25, seed=0)
    assert (len(train), len(test)) == (6, 2)


def test_the_seed_decides_the_parts():
    parts = [split(measured(100), 0.3, seed=seed)[1].inputs[:, 0].tolist() for seed in (7, 7, 8)]
    assert parts[0] == parts[1]
    assert parts[0] != parts[2]


def test_every_row_is_drawn_equally_often_over_many_seeds():
    drawn = sum(
        np.bincount(split(measured(10), 0.3, seed=s)[1].inputs[:, 0].astype(int), minlength=10) for s in range(500)
    )
    # 500 draws of probability 0.3: 150 with a standard deviation of 10.2; five of them on either side.
    assert np.abs(drawn - 150).max() < 52


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_a_fraction_outside_0_to_1_is_refused(fraction):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        split(measured(10), fraction, seed=0)


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_rows_cannot_be_split(rows):
    with pytest.raises(DataError, match=f"at least 2 rows, the data set has {rows}"):
        split(measured(rows), 0.5, seed=0)


# batches


@given(st.integers(1, 200), st.integers(1, 250), SEEDS, st.integers(0, 1000))
def test_an_epoch_visits_every_row_once_in_batches_of_one_size(rows, batch_size, seed, epoch):
    epoch_batches = batches(rows, batch_size, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(epoch_batches).tolist()) == list(range(rows))
    assert all(len(batch) == batch_size for batch in epoch_batches[:-1])
    assert len(epoch_batches) == -(-rows // batch_size)
    assert all(batch.dtype == np.int64 for batch in epoch_batches)


@given(st.integers(1, 200), st.integers(1, 250), SEEDS)
def test_drop_last_leaves_out_the_incomplete_batch_alone(rows, batch_size, seed):
    complete = batches(rows, batch_size, seed=seed, drop_last=True)
    everything = batches(rows, batch_size, seed=seed)
    assert len(complete) == rows // batch_size
    for batch, same in zip(complete, everything, strict=False):
        np.testing.assert_array_equal(batch, same)


def test_an_epoch_is_known_from_seed_and_number_in_a_process_without_history():
    code = "from chainrule.data import batches; print([b.tolist() for b in batches(50, 8, seed=3, epoch=41)][2:])"
    resumed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for epoch in range(41):
        batches(50, 8, seed=3, epoch=epoch)
    assert json.loads(resumed.stdout) == [b.tolist() for b in batches(50, 8, seed=3, epoch=41)][2:]


def test_neither_epochs_nor_seeds_nor_the_split_share_a_permutation():
    orders = {
        tuple(np.concatenate(batches(30, 7, seed=seed, epoch=epoch)))
        for seed in (0, 1, 2, 2**32, 2**64)
        for epoch in range(20)
    }
    assert len(orders) == 100


@pytest.mark.parametrize("rows, batch_size, seed, epoch", [(0, 1, 0, 0), (1, 0, 0, 0), (1, 1, -1, 0), (1, 1, 0, -1)])
def test_numbers_out_of_range_are_refused(rows, batch_size, seed, epoch):
    with pytest.raises(ValueError, match=r"at least 1|not negative"):
        batches(rows, batch_size, seed=seed, epoch=epoch)
