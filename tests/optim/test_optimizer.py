"""An optimiser knows its parameters, keeps what it needs of each, and can stop and go on exactly."""

import copy
import json

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim


def parameters(*values):
    return [nn.Parameter(np.array([float(value)])) for value in values]


def step(optimizer, *gradients):
    for parameter, g in zip(optimizer._parameters(), gradients, strict=True):
        parameter.grad = None if g is None else np.array([float(g)])
    optimizer.step()


def test_groups_have_options_of_their_own_over_common_defaults():
    a, b = parameters(1, 1)
    optimizer = optim.SGD([{"params": [a], "lr": 1.0}, {"params": b}], lr=0.1)
    step(optimizer, 1, 1)
    assert (a.item(), b.item()) == (0, 0.9)
    c = nn.Parameter(np.ones(1))
    optimizer.add_param_group({"params": [c], "lr": 0.5})
    step(optimizer, 0, 0, 1)
    assert c.item() == 0.5


def test_options_may_be_changed_between_steps():
    (p,) = parameters(1)
    optimizer = optim.SGD([p], lr=0.1)
    step(optimizer, 1)
    optimizer.param_groups[0]["lr"] = 0.5
    step(optimizer, 1)
    np.testing.assert_allclose(p.item(), 0.4)


def test_a_parameter_without_a_gradient_stays_and_its_steps_are_not_counted():
    a, b = parameters(1, 1)
    optimizer = optim.Adam([a, b], lr=0.1, eps=0.0)
    step(optimizer, 1, None)
    assert b.item() == 1
    step(optimizer, 1, 1)  # the first step of b, the second of a: both of length lr
    np.testing.assert_allclose([a.item(), b.item()], [0.8, 0.9], rtol=1e-12)
    assert [optimizer.state[p]["step"] for p in (a, b)] == [2, 1]


def test_float32_and_float64_parameters_may_be_in_one_group():
    a, b = nn.Parameter(np.ones(1, np.float32)), nn.Parameter(np.ones(1))
    optimizer = optim.Adam([a, b], lr=0.1)
    (a.sum() + b.sum()).backward()
    optimizer.step()
    assert (a.dtype, b.dtype) == (np.float32, np.float64)


def test_a_gradient_of_another_dtype_does_not_change_that_of_the_parameter():
    p = nn.Parameter(np.ones(1, np.float32))
    p.grad = cr.tensor([1.0])
    optim.SGD([p], lr=0.5).step()
    assert p.dtype == np.float32
    assert p.item() == 0.5


def test_a_recorded_gradient_moves_the_parameter_by_its_value():
    p = nn.Parameter(np.array([3.0]))
    (p**2).sum().backward(create_graph=True)
    optim.SGD([p], lr=0.5).step()
    assert p.item() == 0
    assert p.is_leaf


def test_zero_grad_forgets_or_makes_zeros():
    a, b = parameters(1, 1)
    optimizer = optim.SGD([a, b], lr=0.1)
    a.grad = np.ones(1)
    optimizer.zero_grad(set_to_none=False)
    assert a.grad.item() == 0
    assert b.grad is None
    optimizer.zero_grad()
    assert a.grad is None


def test_a_closure_is_called_before_the_step_and_its_loss_returned():
    (p,) = parameters(3)
    optimizer = optim.SGD([p], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9
    assert p.item() == 0


def test_repr_lists_the_groups():
    assert repr(optim.SGD(parameters(1, 2), lr=0.1)) == (
        "SGD(\n  group 0: 2 parameters, lr=0.1, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False\n)"
    )


# Mistakes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params, error, message",
    [
        ([], ValueError, "no parameters to optimise; was an iterator"),
        ([{"params": []}], ValueError, "no parameters in the group"),
        ([{"parameters": []}], TypeError, "a group is a dict with 'params'"),
        (nn.Parameter(1.0), TypeError, "got one Parameter; give a list or model.parameters()"),
        ([np.ones(1)], TypeError, "parameter 0 must be a tensor, got ndarray"),
        (nn.Linear(1, 1).named_parameters(), TypeError, "give model.parameters"),
        ([nn.Parameter(1.0) * 2], ValueError, "only leaves have a value of their own"),
    ],
)
def test_what_cannot_be_optimised_is_refused(params, error, message):
    with pytest.raises(error, match=f"SGD: .*{message}"):
        optim.SGD(params, lr=0.1)


def test_a_parameter_given_twice_is_refused_within_and_across_groups():
    (p,) = parameters(1)
    with pytest.raises(ValueError, match="is there twice"):
        optim.SGD([p, p], lr=0.1)
    with pytest.raises(ValueError, match="is there twice"):
        optim.SGD([{"params": [p]}, {"params": [p]}], lr=0.1)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda p: optim.SGD(p, lr=-1), "SGD: lr must not be negative, got -1"),
        (lambda p: optim.SGD(p, lr=float("nan")), "SGD: lr must not be negative, got nan"),
        (lambda p: optim.SGD(p, momentum=-0.1), "momentum must not be negative"),
        (lambda p: optim.SGD(p, nesterov=True), "nesterov needs a positive momentum and no dampening"),
        (lambda p: optim.Adam(p, betas=(0.9, 1.0)), r"betas must be two numbers in \[0, 1\), got \(0\.9, 1\.0\)"),
        (lambda p: optim.AdamW(p, weight_decay=-1), "AdamW: weight_decay must not be negative"),
        (lambda p: optim.RMSprop(p, alpha=1.0), r"alpha must be in \[0, 1\)"),
        (lambda p: optim.SGD([{"params": p, "lr": -2}]), "lr must not be negative, got -2"),
    ],
)
def test_an_option_out_of_range_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make(parameters(1))


# Saving and loading -----------------------------------------------------------------------------------------

MAKERS = [
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
    lambda p: optim.Adam(p, lr=0.1, amsgrad=True),
    lambda p: optim.RMSprop(p, lr=0.1, momentum=0.5, centered=True),
]


@pytest.mark.parametrize("make", MAKERS)
def test_a_loaded_optimiser_continues_to_the_same_values(make, tmp_path):
    first = make(parameters(1, 2))
    for g in (1, -3):
        step(first, g, 2 * g)
    nn.save({"optimizer": first.state_dict()}, tmp_path / "state")
    second = make([nn.Parameter(p.data) for p in first._parameters()])
    second.load_state_dict(nn.load(tmp_path / "state")["optimizer"])
    for g in (0.5, 2):
        step(first, g, -g)
        step(second, g, -g)
    assert [p.item() for p in first._parameters()] == [p.item() for p in second._parameters()]


def test_a_state_dict_is_plain_arrays_and_values_that_later_steps_leave_alone():
    optimizer = optim.Adam(parameters(1, 2), lr=0.1)
    step(optimizer, 1, None)
    state = optimizer.state_dict()
    assert json.loads(json.dumps(state["param_groups"]))[0]["params"] == [0, 1]
    assert set(state["state"]) == {0}
    assert type(state["state"][0]["exp_avg"]) is np.ndarray
    before = state["state"][0]["exp_avg"].copy()
    step(optimizer, 5, 5)
    np.testing.assert_array_equal(state["state"][0]["exp_avg"], before)
    assert state["state"][0]["step"] == 1


def test_options_are_loaded_too():
    optimizer = optim.SGD(parameters(1), lr=0.1)
    optimizer.load_state_dict(optim.SGD(parameters(1), lr=0.7).state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.7


def changed(path, value):
    optimizer = optim.Adam(parameters(1), lr=0.1)
    step(optimizer, 1)
    state = optimizer.state_dict()
    inner = state
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return state


@pytest.mark.parametrize(
    "state, message",
    [
        ({}, "not the state dict of an optimiser"),
        (optim.Adam(parameters(1, 2)).state_dict(), r"groups of \[2\] parameters, this optimiser has groups of \[1\]"),
        (optim.SGD(parameters(1)).state_dict(), "lacks the options .*is it of another optimiser"),
        (
            changed(["state", 0, "exp_avg"], np.ones(2)),
            r"exp_avg of parameter 0 has shape \(2,\), the parameter \(1,\)",
        ),
        (changed(["state", 0, "exp_avg"], None), r"parameter 0 lacks \['exp_avg'\]"),
        (changed(["state", 4], {}), "a parameter 4, which is not here"),
        (changed(["param_groups", 0, "lr"], -1.0), "lr must not be negative"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(state, message):
    optimizer = optim.Adam(parameters(1), lr=0.1)
    step(optimizer, 1)
    before = repr(optimizer.state_dict())
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)
    assert repr(optimizer.state_dict()) == before


def test_a_deep_copy_of_model_and_optimiser_goes_on_by_itself():
    model = nn.Linear(2, 2)
    optimizer = cr.optim.Adam(model.parameters(), lr=0.1)

    def step(model, optimizer):
        optimizer.zero_grad()
        (model(np.ones((1, 2), np.float32)) ** 2).sum().backward()
        optimizer.step()
        return model.weight.detach().numpy().copy()

    step(model, optimizer)
    twin_model, twin_optimizer = copy.deepcopy((model, optimizer))
    before = model.weight.detach().numpy().copy()
    first = step(twin_model, twin_optimizer)
    np.testing.assert_array_equal(model.weight.detach().numpy(), before)
    np.testing.assert_array_equal(step(model, optimizer), first)
