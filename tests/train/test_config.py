"""Options: what is chosen for those left out, and which are refused."""

import json

import pytest

from chainrule.train import Config, RunError


def test_without_options_it_is_a_small_relu_network_trained_by_adam():
    config = Config.choose()
    assert (config.depth, config.width, config.activation, config.optimizer) == (2, 256, "relu", "adam")
    assert (config.schedule, config.batch_size, config.dtype, config.seed) == ("cosine", 64, "float32", 0)
    assert config.compile


@pytest.mark.parametrize("optimizer, lr", [("adam", 0.01), ("adamw", 0.01), ("sgd", 0.05), ("rmsprop", 0.0033)])
def test_the_default_learning_rate_is_shared_out_among_the_layers_and_the_given_one_stays(optimizer, lr):
    assert Config.choose(optimizer=optimizer).lr == lr
    assert Config.choose(optimizer=optimizer, depth=299).lr == pytest.approx(lr / 100, rel=0.02)
    assert Config.choose(optimizer=optimizer, depth=299, lr=0.5).lr == 0.5


def test_the_shallow_network_of_the_digits_is_kept_from_learning_them_by_heart_and_no_other():
    held_back = [Config.choose(depth=depth) for depth in (1, 2, 5, 9)]
    assert [config.dropout for config in held_back] == [0.4, 0.4, 0.2, 0.12]
    assert {config.weight_decay for config in held_back} == {5e-4}
    for free in (Config.choose(depth=10), Config.choose(data="t.csv", target="y")):
        assert (free.dropout, free.weight_decay) == (0.0, 0.0)
    assert Config.choose(dropout=0.0, weight_decay=0.0).dropout == 0.0


def test_a_deep_network_is_narrower_trains_for_fewer_epochs_and_warms_up():
    shallow, deep = Config.choose(depth=9), Config.choose(depth=10)
    assert (shallow.width, shallow.epochs, shallow.warmup) == (256, 60, 0.0)
    assert (deep.width, deep.epochs, deep.warmup) == (128, 20, 1.0)


def test_an_option_that_is_none_counts_as_not_given():
    assert Config.choose(depth=None, lr=None) == Config.choose()


@pytest.mark.parametrize("optimizer, momentum", [("sgd", 0.9), ("rmsprop", 0.0), ("adam", None), ("adamw", None)])
def test_momentum_is_chosen_only_where_there_is_one(optimizer, momentum):
    assert Config.choose(optimizer=optimizer).momentum == momentum


def test_a_configuration_survives_json():
    config = Config.choose(data="t.csv", target="y", drop=("a", "b"), depth=3, clip_norm=0.1)
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_name_is_refused_with_the_nearest_that_is_known():
    with pytest.raises(RunError, match=r"--activation 'rleu' is not one of relu, .*Did you mean 'relu'\?"):
        Config.choose(activation="rleu")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"depth": -1}, "--depth is at least 0, not -1"),
        ({"width": 0}, "--width is at least 1"),
        ({"batch_size": 0}, "--batch-size is at least 1"),
        ({"epochs": 0}, "--epochs is at least 1"),
        ({"seed": -1}, "--seed is at least 0"),
        ({"lr": float("nan")}, "--lr is a positive number, not nan"),
        ({"lr": 0.0}, "--lr is a positive number"),
        ({"clip_norm": -1.0}, "--clip-norm is a positive number"),
        ({"dropout": 1.0}, "--dropout is below 1 and not negative"),
        ({"optimizer": "sgd", "momentum": 1.0}, "--momentum is below 1"),
        ({"weight_decay": -0.1}, "--weight-decay is a number not negative"),
        ({"warmup": 60.0}, "--warmup 60 is not shorter than the run of 60 epochs"),
        ({"momentum": 0.9}, "--momentum is an option of sgd and rmsprop; adam"),
        ({"clip_norm": 1.0, "clip_value": 1.0}, "exclude each other"),
        ({"norm": "batch", "batch_size": 1}, "--batch-size must be 2 or more"),
        ({"residual": True, "depth": 1}, "--residual needs --depth 2 or more"),
        ({"target": "y"}, "--target is about a table of your own: add --data FILE"),
        ({"drop": ("y",)}, "--drop is about a table of your own"),
        ({"data": "t.csv"}, "--data needs --target COLUMN"),
        ({"data": "t.csv", "target": "y", "task": "clustering"}, "--task 'clustering' is not one of"),
        ({"dtype": "float16"}, "--dtype 'float16' is not one of float32, float64"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_option_named(options, message):
    with pytest.raises(RunError, match=message):
        Config.choose(**options)


def test_differences_name_each_option_that_changed_and_no_other():
    config = Config.choose(depth=3)
    assert config.differences({"depth": 3, "lr": None, "seed": 0}) == []
    assert config.differences({"depth": 4, "residual": True, "clip_norm": 1.0}) == [
        "--depth is 3 there, not 4",
        "--residual is off there, not on",
        "--clip-norm is not set there, not 1.0",
    ]
