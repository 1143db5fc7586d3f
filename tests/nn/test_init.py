"""Initialisers draw from the distributions they are named after, with the variance of their formula."""

import math

import numpy as np
import pytest

from chainrule import nn

init = nn.init
FAN_IN, FAN_OUT = 400, 300


def weights(dtype=np.float64):
    nn.random.manual_seed(0)
    return nn.Parameter(np.empty((FAN_OUT, FAN_IN), dtype))


@pytest.mark.parametrize(
    "fill, variance",
    [
        (lambda w: init.xavier_uniform_(w), 2 / 700),
        (lambda w: init.xavier_normal_(w), 2 / 700),
        (lambda w: init.xavier_normal_(w, gain=5 / 3), 25 / 9 * 2 / 700),
        (lambda w: init.kaiming_uniform_(w, nonlinearity="relu"), 2 / 400),
        (lambda w: init.kaiming_normal_(w, nonlinearity="relu"), 2 / 400),
        (lambda w: init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"), 2 / 300),
        (lambda w: init.kaiming_normal_(w, a=0.5), 2 / (1 + 0.25) / 400),
        (lambda w: init.kaiming_uniform_(w, nonlinearity="tanh"), 25 / 9 / 400),
        (lambda w: init.normal_(w, std=0.3), 0.09),
        (lambda w: init.uniform_(w, -2, 2), 4 / 3),
    ],
)
def test_the_variance_is_that_of_the_formula(fill, variance):
    w = weights()
    assert fill(w) is w
    n = w.size  # the relative standard error of a variance is at most √(2/n)
    np.testing.assert_allclose(w.data.var(), variance, rtol=5 * math.sqrt(2 / n))
    assert abs(w.data.mean()) < 5 * math.sqrt(variance / n)


def test_uniform_initialisers_stay_within_their_bounds_and_fill_them():
    for fill, bound in ((init.xavier_uniform_, math.sqrt(6 / 700)), (init.kaiming_uniform_, math.sqrt(6 / 400))):
        values = np.abs(fill(weights()).data)
        assert 0.999 * bound < values.max() <= bound


def test_a_linear_layer_starts_evenly_between_plus_and_minus_one_over_the_root_of_its_inputs():
    nn.random.manual_seed(0)
    layer = nn.Linear(400, 300)
    for parameter in (layer.weight, layer.bias):
        assert 0.98 / 20 < np.abs(parameter.data).max() <= 1 / 20


def test_axes_after_the_second_multiply_both_fans():
    w = nn.Parameter(np.empty((64, 16, 5, 5)))
    init.kaiming_normal_(w, nonlinearity="relu")
    np.testing.assert_allclose(w.data.var(), 2 / (16 * 25), rtol=0.05)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (6, 2, 2)])
def test_orthogonal_rows_or_columns_are_orthonormal_times_the_gain(shape):
    w = init.orthogonal_(nn.Parameter(np.empty(shape)), gain=3.0)
    matrix = w.data.reshape(shape[0], -1)
    product = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(product, 9 * np.eye(len(product)), atol=1e-12)


def test_constants_fill():
    w = weights()
    assert set(init.zeros_(w).data.flat) == {0}
    assert set(init.ones_(w).data.flat) == {1}
    assert set(init.constant_(w, 0.5).data.flat) == {0.5}


@pytest.mark.parametrize(
    "gain, expected",
    [
        (init.calculate_gain("linear"), 1),
        (init.calculate_gain("sigmoid"), 1),
        (init.calculate_gain("tanh"), 5 / 3),
        (init.calculate_gain("relu"), math.sqrt(2)),
        (init.calculate_gain("leaky_relu"), math.sqrt(2 / (1 + 1e-4))),
        (init.calculate_gain("leaky_relu", 1), 1),
        (init.calculate_gain("selu"), 0.75),
    ],
)
def test_the_gain_makes_up_for_the_activation(gain, expected):
    assert gain == pytest.approx(expected, rel=1e-12)


def test_float32_and_float64_start_from_the_same_numbers():
    single, double = init.normal_(weights(np.float32)), init.normal_(weights())
    np.testing.assert_array_equal(single.data, double.data.astype(np.float32))


def test_initialising_is_not_recorded_and_keeps_the_parameter_trainable():
    w = init.normal_(weights())
    assert w.is_leaf
    assert w.requires_grad


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: init.calculate_gain("swish"), "no gain is known for 'swish'"),
        (lambda: init.kaiming_normal_(weights(), mode="fan"), "mode must be 'fan_in' or 'fan_out'"),
        (lambda: init.xavier_normal_(nn.Parameter(np.empty(3))), r"shape \(out, in, \.\.\.\), got shape \(3,\)"),
        (lambda: init.orthogonal_(nn.Parameter(np.empty(3))), r"got shape \(3,\)"),
    ],
)
def test_an_initialiser_says_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
