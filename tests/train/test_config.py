"""Options: what is chosen for those left out, and which are refused."""

import json

import pytest

from chainrule.train import Config, RunError
from chainrule.train.config import APPLIES_TO, MODELS


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


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_defaults_that_are_allowed_and_options_of_its_own_only(model):
    config = Config.choose(model=model)
    for name, models in APPLIES_TO.items():
        if name not in ("context", "norm", "residual"):
            assert (getattr(config, name) is not None) == (model in models), name
    assert config.compile
    assert not Config.choose(model=model, compile=False).compile


def test_gradients_of_a_recurrent_network_go_back_64_steps_or_through_a_given_context():
    assert (Config.choose(model="lstm").bptt, Config.choose(model="lstm").context) == (64, None)
    assert (Config.choose(model="gru", context=100).bptt, Config.choose(model="gru", context=100).context) == (100, 100)
    assert Config.choose(model="lstm", context=100, bptt=10).bptt == 10


@pytest.mark.parametrize("width, heads", [(128, 4), (6, 2), (7, 1)])
def test_the_default_number_of_heads_divides_the_width(width, heads):
    assert Config.choose(model="transformer", width=width).heads == heads


def test_a_gradient_limit_of_ones_own_takes_the_place_of_the_default():
    assert (Config.choose(model="lstm").clip_norm, Config.choose(model="lstm", clip_value=0.1).clip_norm) == (1.0, None)


def test_a_configuration_from_before_there_were_other_models_is_that_of_a_perceptron():
    config = Config.choose(depth=3)
    new = ("model", "kernel", "shift", "turn", "heads", "context", "bptt")
    assert Config.from_dict({key: value for key, value in config.to_dict().items() if key not in new}) == config


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
        ({"model": "rnn"}, "--model 'rnn' is not one of mlp, cnn, lstm, gru, transformer"),
        ({"model": "cnn", "depth": 0}, "--depth is at least 1, not 0"),
        ({"model": "cnn", "kernel": 2}, "--kernel is an odd number, so that images keep their size, not 2"),
        ({"model": "cnn", "turn": 360.0}, "--turn is below 360 and not negative"),
        ({"model": "cnn", "shift": -1.0}, "--shift is a number not negative"),
        ({"model": "cnn", "data": "t.csv", "target": "y"}, "images of the handwritten digits only: leave out --data"),
        ({"model": "lstm", "activation": "relu"}, "--activation is an option of --model mlp, cnn and transformer; lst"),
        ({"model": "lstm", "residual": True}, "--residual is an option of --model mlp and cnn; lstm has none"),
        ({"model": "lstm", "heads": 2}, "--heads is an option of --model transformer; lstm has none"),
        ({"model": "lstm", "bptt": 0}, "--bptt is at least 1"),
        ({"model": "lstm", "context": 100, "bptt": 64}, "--context 100 is not a multiple of --bptt 64"),
        ({"model": "lstm", "data": "t.CSV"}, "learns the characters of a text, and t.CSV is a table"),
        ({"model": "lstm", "data": "t.txt", "target": "y"}, "--target is about a table of your own: --model lstm"),
        ({"model": "transformer", "bptt": 8}, "--bptt is an option of --model lstm and gru; transformer has none"),
        ({"model": "transformer", "width": 10, "heads": 4}, "--heads 4 does not divide --width 10"),
        ({"data": "book.txt"}, "book.txt is no table; to learn its characters, add --model lstm, gru or transformer"),
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
