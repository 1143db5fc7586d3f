"""The rows a run learns from: standardised by the training part, held out alike, recognised again."""

import numpy as np
import pytest

from chainrule.data import load_digits, split
from chainrule.train import Config
from chainrule.train.row_problem import SPLIT_SEED, TEST_FRACTION, RowProblem


@pytest.fixture
def table(tmp_path):
    """Return a function that writes a CSV of 40 rows, one cell changed by `nudge`, and gives its problem."""

    def write(nudge=0.0, **options):
        rng = np.random.default_rng(0)
        rows = rng.normal(5, 3, size=(40, 3))
        rows[7, 1] += nudge
        path = tmp_path / "table.csv"
        np.savetxt(path, rows, delimiter=",", header="a,b,y", comments="")
        return RowProblem.load(Config.choose(data=str(path), target="y", **options))

    return write


def test_inputs_have_mean_0_and_deviation_1_on_the_training_rows_and_not_exactly_on_the_others(table):
    problem = table(dtype="float64")
    np.testing.assert_allclose(problem.train_inputs.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(problem.train_inputs.std(axis=0), 1)
    assert not np.allclose(problem.test_inputs.mean(axis=0), 0, atol=1e-3)


def test_regression_targets_are_standardised_and_can_be_put_back(table):
    problem = table(dtype="float64")
    assert problem.outputs == 1
    np.testing.assert_allclose(problem.train_targets.std(axis=0), 1)
    everything = np.concatenate([problem.train_targets, problem.test_targets])
    assert 3 < problem.target_scale.inverse(everything).mean() < 7


def test_digits_are_the_bundled_ones_split_the_same_way_for_every_seed():
    first, second = RowProblem.load(Config.choose(seed=0)), RowProblem.load(Config.choose(seed=1))
    np.testing.assert_array_equal(first.test_inputs, second.test_inputs)
    _, held_out = split(load_digits().to_dataset(), TEST_FRACTION, seed=SPLIT_SEED)
    np.testing.assert_array_equal(first.test_targets, held_out.targets)
    assert first.outputs == 10


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_have_the_dtype_of_the_run(table, dtype):
    problem = table(dtype=dtype)
    arrays = (problem.train_inputs, problem.test_inputs, problem.train_targets, problem.test_targets)
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


def test_one_changed_cell_changes_the_fingerprint(table):
    assert table().fingerprint == table().fingerprint
    assert table(nudge=1e-9).fingerprint != table().fingerprint
