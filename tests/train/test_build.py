"""The options arrive in the parts they are meant for."""

import numpy as np
import pytest

from chainrule import nn, optim
from chainrule.core.tensor import Tensor
from chainrule.train import Config
from chainrule.train.build import build_clip, build_model, build_optimizer, build_schedule, build_step


def built(**options):
    """The model and the optimiser of a small configuration."""
    config = Config.choose(**({"width": 4, "depth": 3} | options))
    model = build_model(config, 5, 2)
    return config, model, build_optimizer(config, model)


@pytest.mark.parametrize(
    "options, kind, expected",
    [
        ({"optimizer": "adam", "lr": 0.1, "weight_decay": 0.2}, optim.Adam, {"lr": 0.1, "weight_decay": 0.2}),
        ({"optimizer": "adamw"}, optim.AdamW, {"weight_decay": 0.01}),
        ({"optimizer": "sgd", "momentum": 0.3}, optim.SGD, {"lr": 0.037, "momentum": 0.3, "weight_decay": 5e-4}),
        ({"optimizer": "rmsprop", "momentum": 0.3}, optim.RMSprop, {"momentum": 0.3}),
    ],
)
def test_the_optimiser_has_the_options(options, kind, expected):
    _, _, optimizer = built(**options)
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert {name: group[name] for name in expected} == expected


def test_the_network_has_the_options():
    _, model, _ = built(activation="tanh", norm="layer", residual=True, dropout=0.5, dtype="float64", init="zeros")
    parts = list(model.modules())
    for kind, count in ((nn.Linear, 4), (nn.Tanh, 3), (nn.LayerNorm, 3), (nn.Residual, 2), (nn.Dropout, 3)):
        assert sum(isinstance(part, kind) for part in parts) == count
    assert {parameter.dtype for parameter in model.parameters()} == {np.dtype("float64")}
    assert not model.layers[0].weight.detach().numpy().any()


@pytest.mark.parametrize(
    "schedule, expected",
    [
        ("constant", [1, 1, 1, 1, 1, 1, 1, 1]),
        ("step", [1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]),
        ("cosine", [(1 + np.cos(np.pi * step / 8)) / 2 for step in range(8)]),
    ],
)
def test_the_learning_rate_follows_the_schedule_step_by_step(schedule, expected):
    config, _, optimizer = built(schedule=schedule, lr=1.0, epochs=4)
    rates = build_schedule(config, optimizer, batches_per_epoch=2)
    seen = []
    for _ in range(8):
        seen.append(optimizer.param_groups[0]["lr"])
        rates.step()
    assert seen == pytest.approx(expected)


def test_clipping_keeps_the_direction_or_cuts_each_element():
    weight = nn.Parameter(np.zeros(2))
    for options, expected in (({"clip_norm": 1.0}, [0.6, -0.8]), ({"clip_value": 1.0}, [1.0, -1.0]), ({}, [3.0, -4.0])):
        weight.grad = np.array([3.0, -4.0])
        clip = build_clip(Config.choose(**options))
        if clip is not None:
            clip([weight])
        np.testing.assert_allclose(weight.grad.numpy(), expected, rtol=1e-6)


def test_a_step_moves_every_parameter_and_reads_no_number_on_the_way(monkeypatch):
    nn.random.manual_seed(0)
    config, model, optimizer = built(clip_value=0.1, activation="tanh")
    step = build_step(model, nn.functional.cross_entropy, optimizer, build_clip(config))
    inputs, targets = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32), np.array([0, 1, 0, 1, 1, 0])
    before = [parameter.data.copy() for parameter in model.parameters()]

    def reading(tensor):
        raise AssertionError("a number was read")

    with monkeypatch.context() as patch:
        for name in ("item", "numpy", "__float__", "__bool__", "__int__"):
            patch.setattr(Tensor, name, reading)
        loss, state = step(inputs, targets)
    assert state == ()
    assert loss.shape == ()
    assert 0.2 < loss.item() < 5
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert not np.array_equal(parameter.data, old)
