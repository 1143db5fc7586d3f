"""Loss, accuracy, RMSE and R², against their definitions."""

import numpy as np
import pytest

from chainrule import nn
from chainrule.data import Standardizer
from chainrule.train import measures
from chainrule.train.measures import measure, outputs_of


def test_accuracy_is_the_share_of_rows_whose_largest_output_is_the_target():
    logits = np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0], [5.0, 4.0]])
    found = measure(nn.Identity(), nn.functional.cross_entropy, logits, np.array([0, 1, 1, 0]), None)
    assert found["accuracy"] == 0.75
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert found["loss"] == pytest.approx(-np.log(probabilities[range(4), [0, 1, 1, 0]]).mean())


def test_rmse_is_in_the_targets_units_and_r2_is_the_explained_share_of_the_variance():
    rng = np.random.default_rng(0)
    truth = rng.normal(1000, 50, size=(30, 1))
    guess = truth + rng.normal(0, 10, size=(30, 1))
    scale = Standardizer.fit(truth)
    found = measure(nn.Identity(), nn.functional.mse_loss, scale(guess), scale(truth), scale)
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((guess - truth) ** 2)))
    assert found["r2"] == pytest.approx(1 - np.sum((guess - truth) ** 2) / np.sum((truth - truth.mean()) ** 2))


def test_r2_of_a_constant_target_is_undefined():
    scale = Standardizer(np.zeros(1), np.ones(1))
    found = measure(nn.Identity(), nn.functional.mse_loss, np.ones((3, 1)), np.zeros((3, 1)), scale)
    assert np.isnan(found["r2"])


def test_the_network_is_measured_in_evaluation_mode_and_left_in_the_mode_it_was_in():
    model = nn.Sequential(nn.Dropout(0.5))
    inputs = np.ones((10, 10), np.float32)
    np.testing.assert_array_equal(outputs_of(model, inputs), inputs)
    assert model.training


def test_how_many_rows_go_through_at_once_makes_no_difference(monkeypatch):
    model, inputs = nn.Linear(3, 2, dtype=np.float64), np.random.default_rng(0).normal(size=(11, 3))
    at_once = outputs_of(model, inputs)
    monkeypatch.setattr(measures, "ROWS_AT_ONCE", 4)
    np.testing.assert_allclose(outputs_of(model, inputs), at_once, rtol=1e-14)
