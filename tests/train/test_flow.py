"""Gradient flow: what the probe sees is what the formulas say, and seeing changes nothing."""

import math

import numpy as np
import pytest

from chainrule import nn, optim
from chainrule.train.flow import FlowProbe, LayerFlow, layer_span, typical, verdict, watched_layers

RNG = np.random.default_rng(0)


def watched(model, optimizer, x, y, loss=nn.functional.cross_entropy):
    probe = FlowProbe(model)
    with probe.listening():
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    return probe


def test_a_linear_softmax_classifier_has_the_flow_of_the_textbook():
    x, y = RNG.normal(size=(5, 3)), np.array([0, 1, 1, 0, 1])
    model = nn.Sequential(nn.Linear(3, 2, dtype=np.float64))
    weight, bias = model[0].weight.detach().numpy(), model[0].bias.detach().numpy()
    z = x @ weight.T + bias
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    delta = (p - np.eye(2)[y]) / 5  # p − y, averaged over rows
    gradient = np.linalg.norm(np.concatenate([(delta.T @ x).ravel(), delta.sum(axis=0)]))

    probe = watched(model, optim.SGD(model.parameters(), lr=0.1), x, y)

    (layer,) = probe.flow()
    assert layer.name == "0"
    assert layer.error_signal == pytest.approx(np.linalg.norm(delta))
    assert layer.gradient == pytest.approx(gradient)
    assert layer.update_ratio == pytest.approx(0.1 * np.linalg.norm(delta.T @ x) / np.linalg.norm(weight))
    assert probe.gradient_norm == pytest.approx(gradient)


def test_each_sigmoid_at_its_steepest_takes_three_quarters_of_the_error_signal():
    layers = [nn.Sigmoid() if place % 2 else nn.Linear(1, 1, dtype=np.float64) for place in range(21)]
    model = nn.Sequential(*layers)
    for layer in layers[::2]:
        layer.weight.data, layer.bias.data = np.ones((1, 1)), np.full(1, -0.5)
    layers[0].bias.data = np.zeros(1)  # with x = 0 every sigmoid is at 0, where its slope is 1/4
    flow = watched(
        model, optim.SGD(model.parameters(), lr=0.1), np.zeros((1, 1)), np.ones((1, 1)), nn.functional.mse_loss
    )
    signals = [layer.error_signal for layer in flow.flow()]
    assert signals[0] / signals[-1] == pytest.approx(0.25**10)
    assert f"{0.25**10:.1e}" == "9.5e-07"
    assert verdict(flow.flow()).startswith("VANISHING")
    assert "shrinks by 6 orders of magnitude" in verdict(flow.flow())


def test_watching_a_step_does_not_change_it():
    def after_a_step(step):
        nn.random.manual_seed(0)
        model = nn.MLP(3, 8, 2, depth=2, dropout=0.5)
        optimizer = optim.Adam(model.parameters())
        step(model, optimizer, np.ones((4, 3), np.float32), np.array([0, 1, 0, 1]))
        return [parameter.detach().numpy() for parameter in model.parameters()]

    def unwatched(model, optimizer, x, y):
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    for seen, unseen in zip(after_a_step(watched), after_a_step(unwatched), strict=True):
        np.testing.assert_array_equal(seen, unseen)


def test_nothing_listens_once_the_step_is_over():
    model = nn.MLP(3, 8, 2)
    watched(model, optim.SGD(model.parameters(), lr=0.1), np.ones((4, 3), np.float32), np.array([0, 1, 0, 1]))
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(parameter._node.hooks for parameter in model.parameters())


def test_signals_too_small_for_the_square_of_a_float32_are_still_measured():
    model = nn.Sequential(nn.Linear(2, 2))

    def tiny(z, y):
        return (z * np.float32(1e-30)).sum()

    (layer,) = watched(model, optim.SGD(model.parameters(), lr=0.1), np.ones((1, 2), np.float32), None, tiny).flow()
    assert layer.error_signal == pytest.approx(math.sqrt(2) * 1e-30, rel=1e-6, abs=0)


# What counts as a layer ----------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """An LSTM that is a part of something else, and a linear layer."""

    def __init__(self):
        self.part = nn.Sequential(nn.LSTM(3, 4, dtype=np.float64))
        self.out = nn.Linear(4, 2, dtype=np.float64)

    def forward(self, x):
        y, _ = self.part(x)
        return self.out(y[-1])


def test_a_recurrent_layer_is_watched_at_its_output_with_all_its_matrices():
    x, y, model = RNG.normal(size=(5, 6, 3)), np.array([0, 1, 1, 0, 1, 1]), Recurrent()
    before = [parameter.data.copy() for parameter in model.part.parameters()]
    seen = []
    with_hook = model.part[0].register_forward_hook(lambda module, inputs, output: seen.append(output[0]))
    probe = watched(model, optim.SGD(model.parameters(), lr=0.1), x, y)
    with_hook.remove()
    first, last = probe.flow()
    assert (first.name, last.name) == ("part.0", "out")

    z = seen[0].detach().numpy()[-1] @ numpy(model.out.weight, 0.1).T + numpy(model.out.bias, 0.1)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    delta = (p - np.eye(2)[y]) / 6
    assert last.error_signal == pytest.approx(np.linalg.norm(delta))
    # Only the last time's output is used, so the signal at the output is that of the linear layer alone.
    assert first.error_signal == pytest.approx(np.linalg.norm(delta @ numpy(model.out.weight, 0.1)))
    matrices = [old for old in before if old.ndim == 2]
    moves = [p.data - old for p, old in zip(model.part.parameters(), before, strict=True) if old.ndim == 2]
    assert first.update_ratio == pytest.approx(whole_norm(moves) / whole_norm(matrices))


def numpy(parameter, lr):
    """A parameter as it was before a step of gradient descent."""
    return parameter.data + lr * parameter.grad.numpy()


def whole_norm(arrays):
    return math.sqrt(sum((array**2).sum() for array in arrays))


@pytest.mark.parametrize(
    "module, spans",
    [
        (nn.Sequential(nn.Conv2d(1, 4, (3, 5)), nn.ReLU(), nn.Linear(2, 3)), ["3×5 conv 1 → 4", "2 → 3"]),
        (nn.Sequential(nn.GRU(2, 3), nn.LSTM(3, 4)), ["GRU 2 → 3", "LSTM 3 → 4"]),
        (nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16), nn.Linear(8, 3)), ["block 8 → 8", "8 → 3"]),
    ],
)
def test_layers_are_watched_whole_and_told_by_kind_and_width(module, spans):
    assert [layer_span(layer) for layer in watched_layers(module).values()] == spans


# In words ------------------------------------------------------------------------------------------------------------


def flow_of(*signals):
    return [LayerFlow(str(place), signal, 1.0, 1e-3) for place, signal in enumerate(signals)]


@pytest.mark.parametrize(
    "signals, words",
    [
        ((0.5, 1.0), "Healthy: the error signal at the first layer is 0.5 times that at the last"),
        ((1e-9, 1e-3, 1.0), "VANISHING: from the last layer (1.0e+00) to the first (1.0e-09) the error signal "
                            "shrinks by 9 orders of magnitude; a step moves the first layer's weights by 1e-03"),
        ((0.0, 1.0), "the error signal shrinks to nothing"),
        ((1e7, 1.0), "EXPLODING: from the last layer (1.0e+00) to the first (1.0e+07) the error signal grows by 7"),
        ((math.inf, 1.0), "EXPLODING: the error signal overflows"),
        ((math.nan, 1.0), "EXPLODING: the error signal overflows"),
        ((0.0, 0.0), "No error signal"),
        ((1.0,), "One layer"),
    ],
)  # fmt: skip
def test_the_verdict_says_what_the_numbers_mean(signals, words):
    assert words in verdict(flow_of(*signals))


def test_typical_flow_is_the_median_layer_by_layer():
    flows = [flow_of(1.0, 10.0), flow_of(3.0, 20.0), flow_of(2.0, 90.0)]
    assert [layer.error_signal for layer in typical(flows)] == [2.0, 20.0]
