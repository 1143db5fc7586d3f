"""Gradient flow in a run: the doctor's numbers are what the formulas say, and its judgement is what is told."""

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.doctor import LayerFlow, Limits, flow_monitor
from chainrule.train.build import build_problem
from chainrule.train.config import Config
from chainrule.train.flow import course, layer_spans, verdict
from chainrule.train.training import Training

RNG = np.random.default_rng(0)


def watched(model, optimizer, x, y, loss=nn.functional.cross_entropy, watch=flow_monitor):
    with watch(model, optimizer) as monitor:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    return monitor.history[-1]


def told(sample):
    return verdict(sample.layers, {finding.code: finding.cause for finding in sample.findings})


def test_a_linear_softmax_classifier_has_the_flow_of_the_textbook():
    x, y = RNG.normal(size=(5, 3)), np.array([0, 1, 1, 0, 1])
    model = nn.Sequential(nn.Linear(3, 2, dtype=np.float64))
    weight, bias = model[0].weight.detach().numpy(), model[0].bias.detach().numpy()
    z = x @ weight.T + bias
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    delta = (p - np.eye(2)[y]) / 5  # p − y, averaged over rows
    gradient = np.linalg.norm(np.concatenate([(delta.T @ x).ravel(), delta.sum(axis=0)]))

    seen = watched(model, optim.SGD(model.parameters(), lr=0.1), x, y)

    (layer,) = seen.layers
    assert layer.name == "0"
    assert layer.error_signal == pytest.approx(np.linalg.norm(delta))
    assert layer.gradient == pytest.approx(np.linalg.norm(delta.T @ x))  # of the weights, as in the doctor's tables
    assert layer.update_ratio == pytest.approx(0.1 * np.linalg.norm(delta.T @ x) / np.linalg.norm(weight))
    assert seen.gradient_norm == pytest.approx(gradient)


def test_each_sigmoid_at_its_steepest_takes_three_quarters_of_the_error_signal():
    layers = [nn.Sigmoid() if place % 2 else nn.Linear(1, 1, dtype=np.float64) for place in range(21)]
    model = nn.Sequential(*layers)
    for layer in layers[::2]:
        layer.weight.data, layer.bias.data = np.ones((1, 1)), np.full(1, -0.5)
    layers[0].bias.data = np.zeros(1)  # with x = 0 every sigmoid is at 0, where its slope is 1/4
    seen = watched(
        model, optim.SGD(model.parameters(), lr=0.1), np.zeros((1, 1)), np.ones((1, 1)), nn.functional.mse_loss
    )
    assert seen.layers[0].error_signal / seen.layers[-1].error_signal == pytest.approx(0.25**10)
    assert f"{0.25**10:.1e}" == "9.5e-07"
    assert told(seen).startswith("VANISHING")
    assert "6 orders of magnitude less. On its way down each layer multiplies it, on average, 0.25" in told(seen)


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

    (layer,) = watched(model, optim.SGD(model.parameters(), lr=0.1), np.ones((1, 2), np.float32), None, tiny).layers
    assert layer.error_signal == pytest.approx(math.sqrt(2) * 1e-30, rel=1e-6, abs=0)


def test_a_look_at_the_flow_alone_and_one_at_everything_tell_the_same():
    def all_of_it(model, optimizer):
        return cr.monitor(model, optimizer=optimizer, every=1, warn=False)

    def seen(watch):
        nn.random.manual_seed(0)
        model = nn.MLP(6, 8, 2, depth=8, activation="sigmoid")
        x, y = np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32), np.arange(16) % 2
        return watched(model, optim.Adam(model.parameters()), x, y, watch=watch)

    flow, everything = seen(flow_monitor), seen(all_of_it)
    assert flow.layers == everything.layers
    assert flow.gradient_norm == everything.gradient_norm
    (finding,) = flow.findings
    assert finding.code == "vanishing-gradient"
    assert finding.cause in [other.cause for other in everything.findings]


# What counts as a layer ----------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """An LSTM that is a part of something else, and a linear layer."""

    def __init__(self):
        self.part = nn.Sequential(nn.LSTM(3, 4, dtype=np.float64))
        self.out = nn.Linear(4, 2, dtype=np.float64)

    def forward(self, x):
        y, _ = self.part(x)
        return self.out(y[-1])


def test_a_recurrent_layer_is_watched_at_its_output():
    x, y, model = RNG.normal(size=(5, 6, 3)), np.array([0, 1, 1, 0, 1, 1]), Recurrent()
    before = {path: parameter.data.copy() for path, parameter in model.named_parameters()}
    states = []
    with_hook = model.part[0].register_forward_hook(lambda module, inputs, output: states.append(output[0]))
    seen = watched(model, optim.SGD(model.parameters(), lr=0.1), x, y)
    with_hook.remove()
    first, last = seen.layers
    assert (first.name, last.name) == ("part.0", "out")

    z = states[0].detach().numpy()[-1] @ before["out.weight"].T + before["out.bias"]
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    delta = (p - np.eye(2)[y]) / 6
    assert last.error_signal == pytest.approx(np.linalg.norm(delta))
    # Only the last time's output is used, so the signal at the output is that of the linear layer alone.
    assert first.error_signal == pytest.approx(np.linalg.norm(delta @ before["out.weight"]))
    moves = [
        np.linalg.norm(dict(model.named_parameters())[path].data - old) / np.linalg.norm(old)
        for path, old in before.items()
        if path.startswith("part") and old.ndim == 2
    ]
    assert first.update_ratio == pytest.approx(max(moves))  # of its two matrices, the one that moves further


@pytest.mark.parametrize(
    "model, spans",
    [
        ("mlp", ["64 → 256", "256 → 256", "256 → 10"]),
        ("cnn", ["3×3 conv 1 → 32", "3×3 conv 32 → 32", "512 → 10"]),
        ("gru", ["embedding 103 → 256", "GRU 256 → 256", "256 → 103"]),
        (
            "transformer",
            ["embedding 103 → 128", "embedding 64 → 128", "attention 128 → 128", "128 → 512", "512 → 128", "128 → 103"],
        ),
    ],
)
def test_every_layer_that_the_doctor_sees_has_a_name_by_kind_and_width(model, spans):
    config = Config.choose(model=model, compile=False)
    problem = build_problem(config)
    training = Training(config, problem)
    inputs, targets = problem.batch(problem.epoch(0)[0])
    training._watched_step(inputs, targets, *training.initial_state(len(inputs)))
    names = layer_spans(training.model)
    seen = [names[layer.name] for layer in training.progress.flow]
    assert [span for span in seen if "→" in span] == seen
    assert list(dict.fromkeys(seen)) == spans


# In words ------------------------------------------------------------------------------------------------------------


def flow_of(*signals):
    return [LayerFlow(str(place), signal, 1.0, 1e-3) for place, signal in enumerate(signals)]


@pytest.mark.parametrize(
    "signals, words",
    [
        ((0.5, 1.0), "Healthy: the error signal at the first layer is 0.5 times that at the last"),
        ((math.inf, 1.0), "EXPLODING: the error signal overflows"),
        ((math.nan, 1.0), "EXPLODING: the error signal overflows"),
        ((0.0, 0.0), "No error signal"),
        ((1.0,), "One layer"),
    ],
)
def test_where_nothing_is_found_the_verdict_says_what_the_numbers_mean(signals, words):
    assert words in verdict(flow_of(*signals), {})


@pytest.mark.parametrize("code, word", [("vanishing-gradient", "VANISHING"), ("exploding-gradient", "EXPLODING")])
def test_the_verdict_is_the_doctors_finding_and_options_that_may_help(code, word):
    line = verdict(flow_of(0.5, 1.0), {code: "So it is."})
    assert line.startswith(f"{word}: So it is. A step moves the first layer's weights by 1e-03 of their size. Try --")


def test_what_was_found_before_the_last_epoch_only_is_told_as_past():
    sick, well = {"vanishing-gradient": "It was."}, {}
    assert course([sick, sick, well]) == (
        "Earlier it was otherwise: vanishing-gradient in 2 of 3 epochs, the last of them 2."
    )
    assert course([sick, sick]) == course([well]) == course([]) == ""


@pytest.mark.parametrize("gain", [0.9, 1.1])
def test_a_run_and_the_doctors_report_draw_the_line_at_the_same_ratio(gain):
    """Just under and just over the doctor's limit, both judge alike: the run has no limits of its own."""
    ratio = gain * Limits().vanishing
    model = nn.Sequential(nn.Linear(4, 4, dtype=np.float64), nn.Linear(4, 4, dtype=np.float64))
    model[1].weight.data = ratio * np.eye(4)
    x, y = RNG.normal(size=(8, 4)), np.arange(8) % 4
    report = cr.diagnose(model, nn.functional.cross_entropy, (x, y))
    seen = watched(model, optim.SGD(model.parameters(), lr=0.1), x, y)
    assert seen.layers[0].error_signal / seen.layers[1].error_signal == pytest.approx(ratio)
    vanishes = "vanishing-gradient" in [finding.code for finding in report.findings]
    assert vanishes == (gain < 1) == told(seen).startswith("VANISHING")
