"""Steps that machine code takes at once in eager code: the same numbers and the same graph as one by one."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core import native
from chainrule.nn import functional as F

ACTIVATIONS = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "softplus": F.softplus,
    "tanh": np.tanh,
    "sigmoid": F.sigmoid,
}
LAYERS = {
    "Linear": (lambda: nn.Linear(48, 96), (64, 48)),
    "Linear of sequences": (lambda: nn.Linear(24, 40), (8, 16, 24)),
    "Conv2d": (lambda: nn.Conv2d(3, 8, 3), (4, 3, 14, 14)),
    "LayerNorm": (lambda: nn.LayerNorm(80), (64, 80)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(80), (64, 80)),
}


def gradients(layer, activation, x, *, watched: bool) -> list[np.ndarray]:
    layer.zero_grad()
    inputs = cr.tensor(x, requires_grad=True)
    between = layer(inputs)
    if watched:
        between.register_hook(lambda g: None)
    weights = np.random.default_rng(1).standard_normal(between.shape).astype(x.dtype)
    (activation(between) * weights).sum().backward()
    return [inputs.grad.numpy(), *[parameter.grad.numpy() for parameter in layer.parameters()]]


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
@pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)
def test_the_way_back_is_the_same_to_the_last_bit_whether_somebody_looks_between_or_not(make, shape, activation):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    layer = make()
    for plain, watched in zip(*[gradients(layer, activation, x, watched=w) for w in (False, True)], strict=True):
        np.testing.assert_array_equal(plain, watched)


def test_a_value_used_twice_gets_the_cotangents_of_both_uses():
    layer, x = nn.Linear(64, 64), np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    for use in (lambda h: F.relu(h) + h, lambda h: F.relu(h) * F.gelu(h), lambda h: F.relu(F.relu(h) - h)):
        plain = gradients(layer, use, x, watched=False)
        with cr.no_native():
            expected = gradients(layer, use, x, watched=True)
        for ours, theirs in zip(plain, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)


def nodes(tensor) -> list[tuple]:
    seen, rows = [tensor._node], []
    for node in seen:
        rows.append(
            (node.primitive and node.primitive.name, node.shape, [len(kept) for _, _, kept in node.edges or ()])
        )
        seen += [parent for parent, _, _ in node.edges or ()]
    return rows


@pytest.mark.parametrize("width", [3, 80])
def test_linear_and_relu_of_a_sequential_leave_the_graph_values_and_gradients_of_two_calls(width):
    model = nn.Sequential(nn.Linear(20, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.ReLU())
    x = cr.tensor(np.random.default_rng(0).standard_normal((96, 20)).astype(np.float32))
    outcomes = []
    for watched in (False, True):
        handles = [module.register_forward_hook(lambda *_: None) for module in model] if watched else []
        model.zero_grad()
        y = model(x)
        graph = nodes(y)
        (y * y).sum().backward()
        outcomes.append(
            (graph, y.numpy() if not y.requires_grad else y.data, [p.grad.data for p in model.parameters()])
        )
        for handle in handles:
            handle.remove()
    (graph, y, grads), (graph_by_hand, y_by_hand, grads_by_hand) = outcomes
    assert graph == graph_by_hand
    np.testing.assert_array_equal(y, y_by_hand)
    for ours, theirs in zip(grads, grads_by_hand, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("most", [0, 10**6])
def test_many_other_shapes_before_do_not_part_what_is_done_at_once_from_what_is_not(most, monkeypatch):
    monkeypatch.setattr(native, "MOST_PROGRAMS", most)
    layers = [nn.Linear(37, 41), nn.ReLU(), nn.Linear(41, 43), nn.ReLU()]
    x = cr.tensor(np.random.default_rng(0).standard_normal((39, 37)).astype(np.float32))

    def one_by_one(x):
        for layer in layers:
            x = layer(x)
            x.register_hook(lambda g: None)
        return x

    outcomes = []
    for network in (nn.Sequential(*layers), one_by_one):
        for layer in layers:
            layer.zero_grad()
        y = network(x)
        (y * y).sum().backward()
        outcomes.append([y.data, *[p.grad.data for layer in layers for p in layer.parameters()]])
        monkeypatch.setattr(native, "MOST_PROGRAMS", 0)  # from now on nothing new is compiled
    for ours, theirs in zip(*outcomes, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_module_with_a_forward_of_its_own_or_a_hook_is_called():
    called = []
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU())
    model[1].register_forward_hook(lambda *_: called.append("hook"))
    model[3].forward = lambda x: called.append("forward") or x
    model(cr.tensor(np.ones((2, 4), np.float32)))
    assert called == ["hook", "forward"]


def test_what_does_not_fit_is_said_by_the_module_it_does_not_fit():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with pytest.raises(ValueError, match=r"linear: an input of shape \(2, 5\)") as raised:
        model(cr.tensor(np.ones((2, 5), np.float32)))
    assert raised.value.__notes__ == ["in module 0 (Linear)"]
    with pytest.raises(TypeError, match="the parameters are float32, the input is float64"):
        model(cr.tensor(np.ones((2, 4))))


def test_an_anomaly_between_the_two_is_told_where_it_is_made():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    x = cr.tensor(np.full((2, 4), -np.inf, np.float32))
    with cr.detect_anomaly(), np.errstate(all="ignore"), pytest.raises(cr.AnomalyError, match="linear made a value"):
        model(x)
