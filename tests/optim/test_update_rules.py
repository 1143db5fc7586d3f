"""Update rules give the numbers worked out by hand, and are pure functions of arrays of any library."""

import array_api_strict as strict
import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim


def trajectory(make, gradients, start=1.0, dtype=np.float64):
    """The values of a scalar parameter after steps with these gradients."""
    parameter = nn.Parameter(np.array([start], dtype))
    optimizer = make([parameter])
    values = []
    for g in gradients:
        parameter.grad = np.array([g], dtype)
        optimizer.step()
        values.append(parameter.item())
    return values


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, [0.9, 0.7, 0.9]),
        # v = 1, 0.5·1 + 2 = 2.5, 0.5·2.5 − 2 = −0.75
        ({"momentum": 0.5}, [0.9, 0.65, 0.725]),
        # v = 1 (undamped), 0.5 + 0.75·2 = 2, 1 − 0.75·2 = −0.5
        ({"momentum": 0.5, "dampening": 0.25}, [0.9, 0.7, 0.75]),
        # d = g + 0.5·v = 1.5, 3.25, −2.375
        ({"momentum": 0.5, "nesterov": True}, [0.85, 0.525, 0.7625]),
        # g + 0.5·p = 1.5, 2 + 0.425, −2 + 0.30375
        ({"weight_decay": 0.5}, [0.85, 0.6075, 0.777125]),
    ],
)
def test_sgd_takes_the_steps_worked_out_by_hand(options, expected):
    steps = trajectory(lambda p: optim.SGD(p, lr=0.1, **options), [1.0, 2.0, -2.0])
    np.testing.assert_allclose(steps, expected, rtol=1e-12)


def test_adams_first_step_is_the_learning_rate_against_the_sign_of_the_gradient():
    for g in (1e-3, -7.0, 1e5):
        (value,) = trajectory(lambda p: optim.Adam(p, lr=0.1, eps=0.0), [g])
        np.testing.assert_allclose(value, 1 - 0.1 * np.sign(g), rtol=1e-12)


def test_adam_takes_the_second_step_worked_out_by_hand():
    # m = 0.9·0.1·1 + 0.1·2, v = 0.999·0.001·1 + 0.001·4, over 1 − 0.9² and 1 − 0.999²
    m, v = (0.09 + 0.2) / 0.19, (0.000999 + 0.004) / 0.001999
    steps = trajectory(lambda p: optim.Adam(p, lr=0.1), [1.0, 2.0])
    np.testing.assert_allclose(steps[1], steps[0] - 0.1 * m / (np.sqrt(v) + 1e-8), rtol=1e-12)


def test_amsgrad_divides_by_the_largest_mean_square_so_far():
    betas = (0.0, 0.0)  # m = g and v = g² of this step alone
    plain = trajectory(lambda p: optim.Adam(p, lr=0.1, betas=betas, eps=0.0), [4.0, 1.0])
    largest = trajectory(lambda p: optim.Adam(p, lr=0.1, betas=betas, eps=0.0, amsgrad=True), [4.0, 1.0])
    np.testing.assert_allclose(plain, [0.9, 0.8], rtol=1e-12)
    np.testing.assert_allclose(largest, [0.9, 0.9 - 0.1 / 4], rtol=1e-12)


def test_weight_decay_of_adamw_shrinks_and_that_of_adam_is_part_of_the_gradient():
    (shrunk,) = trajectory(lambda p: optim.AdamW(p, lr=0.1, weight_decay=0.5), [0.0])
    np.testing.assert_allclose(shrunk, 1 - 0.1 * 0.5, rtol=1e-12)
    (moved,) = trajectory(lambda p: optim.Adam(p, lr=0.1, weight_decay=0.5, eps=0.0), [0.0])
    np.testing.assert_allclose(moved, 1 - 0.1, rtol=1e-12)


def test_rmsprop_takes_the_steps_worked_out_by_hand():
    # v = 0.25·1 = 0.25, then 0.75·0.25 + 0.25·4 = 1.1875
    first, second = 1 / 0.5, 2 / np.sqrt(1.1875)
    steps = trajectory(lambda p: optim.RMSprop(p, lr=0.1, alpha=0.75, eps=0.0), [1.0, 2.0])
    np.testing.assert_allclose(steps, [1 - 0.1 * first, 1 - 0.1 * (first + second)], rtol=1e-12)
    steps = trajectory(lambda p: optim.RMSprop(p, lr=0.1, alpha=0.75, eps=0.0, momentum=0.5), [1.0, 2.0])
    np.testing.assert_allclose(steps[1], 1 - 0.1 * (first + (0.5 * first + second)), rtol=1e-12)
    # centred: v − m² = 0.25 − 0.25², then 1.1875 − (0.75·0.25 + 0.25·2)²
    first, second = 1 / np.sqrt(0.1875), 2 / np.sqrt(1.1875 - 0.6875**2)
    steps = trajectory(lambda p: optim.RMSprop(p, lr=0.1, alpha=0.75, eps=0.0, centered=True), [1.0, 2.0])
    np.testing.assert_allclose(steps, [1 - 0.1 * first, 1 - 0.1 * (first + second)], rtol=1e-12)


EVERY_RULE = [
    lambda p: optim.SGD(p, lr=0.1),
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1, weight_decay=0.1),
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    lambda p: optim.Adam(p, lr=0.1, weight_decay=0.1, amsgrad=True),
    lambda p: optim.AdamW(p, lr=0.1),
    lambda p: optim.RMSprop(p, lr=0.1, momentum=0.9, centered=True, weight_decay=0.1),
]


@pytest.mark.parametrize("make", EVERY_RULE)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_values_and_state_keep_their_shape_and_dtype(make, dtype, shape):
    parameter = nn.Parameter(np.ones(shape, dtype))
    optimizer = make([parameter])
    for _ in range(2):
        parameter.grad = np.full(shape, 0.5, dtype)
        optimizer.step()
    arrays = [parameter.data, *(value for name, value in optimizer.state.get(parameter, {}).items() if name != "step")]
    assert {(array.shape, array.dtype) for array in arrays} == {(shape, np.dtype(dtype))}
    assert np.isfinite(parameter.data).all()


@pytest.mark.parametrize("make", EVERY_RULE)
def test_a_rule_runs_on_arrays_of_any_library_and_gives_the_same(make):
    gradients = np.random.default_rng(0).standard_normal((3, 4))
    results = []
    for xp in (np, strict):
        parameter = cr.tensor(xp.asarray(np.arange(4.0)), requires_grad=True)
        optimizer = make([parameter])
        for g in gradients:
            parameter.grad = cr.tensor(xp.asarray(g))
            optimizer.step()
        assert type(parameter.data) is type(xp.asarray(1.0))
        results.append(np.asarray(parameter.data))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-12)


@pytest.mark.parametrize("make", EVERY_RULE)
def test_a_step_never_writes_into_an_array_that_something_else_may_hold(make):
    parameter = nn.Parameter(np.ones(3))
    optimizer = make([parameter])
    for _ in range(3):
        loss = (parameter * parameter).sum()
        held = [parameter.data, *optimizer.state.get(parameter, {}).values()]
        before = [np.copy(array) for array in held]
        parameter.grad = np.full(3, 0.5)
        optimizer.step()
        for array, copy in zip(held, before, strict=True):
            np.testing.assert_array_equal(array, copy)
    value = held[0].copy()
    parameter.grad = None
    loss.backward()  # of the graph recorded before the last step: 2p at the value p had then
    np.testing.assert_allclose(parameter.grad.data, 2 * value)


@pytest.mark.parametrize("make", EVERY_RULE)
def test_a_convex_function_goes_down(make):
    parameter = nn.Parameter(np.array([3.0, -2.0]))
    optimizer = make([parameter])
    losses = []
    for _ in range(50):
        optimizer.zero_grad()
        loss = (parameter**2).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
