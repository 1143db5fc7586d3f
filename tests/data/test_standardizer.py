"""Standardised columns have mean 0 and standard deviation 1, and the statistics survive JSON."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chainrule.data import DataError, Standardizer

MATRICES = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=st.floats(-1e6, 1e6, width=32)
)


def test_mean_and_population_std_are_those_of_the_closed_form():
    scale = Standardizer.fit(np.array([[1.0, -4.0], [3.0, 4.0]]))
    assert scale.mean.tolist() == [2, 0]
    assert scale.std.tolist() == [1, 4]
    assert scale(np.array([[2.0, 8.0]])).tolist() == [[0, 2]]


@given(MATRICES)
def test_columns_that_vary_get_mean_0_and_std_1(rows):
    standard = Standardizer.fit(rows)(rows)
    varies = np.ptp(rows, axis=0) > 1e-6 * np.abs(rows).max(axis=0)
    np.testing.assert_allclose(standard.mean(axis=0)[varies], 0, atol=1e-6)
    np.testing.assert_allclose(standard.std(axis=0)[varies], 1, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e300, -1e-300])
def test_a_constant_column_is_centred_and_not_scaled(value):
    rows = np.full((7, 1), value)
    scale = Standardizer.fit(rows)
    assert scale.std.tolist() == [1]
    np.testing.assert_allclose(scale(rows), 0, atol=abs(value) * 1e-15)


def test_a_spread_too_small_for_its_square_is_not_scaled():
    assert Standardizer.fit(np.array([[0.0], [1e-200]])).std.tolist() == [1]


@given(MATRICES)
def test_inverse_undoes_the_standardising(rows):
    scale = Standardizer.fit(rows)
    np.testing.assert_allclose(scale.inverse(scale(rows)), rows, rtol=1e-9, atol=1e-9 * np.abs(rows).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_of_the_rows_is_kept_and_statistics_are_float64(dtype):
    rows = np.array([[1, 2], [3, 5]], dtype=dtype)
    scale = Standardizer.fit(rows)
    assert scale.mean.dtype == scale.std.dtype == np.float64
    assert scale(rows).dtype == scale.inverse(rows).dtype == dtype


def test_float32_statistics_are_summed_in_float64():
    rows = np.linspace(1000, 1001, 20_000, dtype=np.float32).reshape(-1, 2)
    scale, exact = Standardizer.fit(rows), rows.astype(np.float64)
    np.testing.assert_allclose(scale.mean, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(scale.std, exact.std(axis=0), rtol=1e-12)


@given(MATRICES)
def test_json_keeps_the_statistics_exactly(rows):
    scale = Standardizer.fit(rows)
    kept = Standardizer.from_dict(json.loads(json.dumps(scale.to_dict())))
    assert kept.mean.tolist() == scale.mean.tolist()
    assert kept.std.tolist() == scale.std.tolist()


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"mean": [0.0]},
        {"mean": [0.0], "std": [1.0], "more": []},
        {"mean": [0.0, 1.0], "std": [1.0]},
        {"mean": [0.0], "std": [0.0]},
        {"mean": [0.0], "std": [-1.0]},
        {"mean": [float("nan")], "std": [1.0]},
        {"mean": [0.0], "std": [float("inf")]},
        {"mean": [[0.0]], "std": [[1.0]]},
        {"mean": ["a"], "std": [1.0]},
    ],
)
def test_a_kept_state_that_makes_no_sense_is_refused(state):
    with pytest.raises(ValueError, match=r"standardizer|mean|float"):
        Standardizer.from_dict(state)


@pytest.mark.parametrize("rows", [np.zeros((0, 2)), np.zeros(3), np.zeros((1, 2, 3))])
def test_fitting_needs_rows_and_columns(rows):
    with pytest.raises(DataError, match="rows, columns"):
        Standardizer.fit(rows)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_a_column_without_finite_variance_is_named(value):
    with pytest.raises(DataError, match=r"column\(s\) \[1\]"):
        Standardizer.fit(np.array([[1.0, value], [2.0, -1.0]]))


@pytest.mark.parametrize("shape", [(3, 2), (3,), (1, 3, 1)])
def test_rows_of_another_width_are_refused(shape):
    scale = Standardizer(np.zeros(1), np.ones(1))
    for apply in (scale, scale.inverse):
        with pytest.raises(ValueError, match=r"takes \(rows, 1\)"):
            apply(np.zeros(shape))
