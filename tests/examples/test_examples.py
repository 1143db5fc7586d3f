"""The examples, at small sizes: each shows what it says it shows."""

import numpy as np
import pytest
from examples import deep_sigmoid, greedy_pretraining, long_memory, long_sequence

import chainrule as cr
from chainrule import nn
from chainrule.data import load_digits, split


def test_a_deep_sigmoid_network_stays_at_chance_and_learns_when_it_is_pretrained_layer_by_layer():
    sizes = greedy_pretraining.Sizes(depth=6, width=32, pretraining=4, training=10)
    data = split(load_digits().to_dataset(), test_fraction=0.2, seed=0)
    plain = greedy_pretraining.run("sigmoid", sizes, data, seed=0)
    pretrained = greedy_pretraining.run(greedy_pretraining.PRETRAINED, sizes, data, seed=0)
    assert plain.train_accuracy < 0.15
    assert plain.losses[-1] == pytest.approx(np.log(10), abs=0.05)
    assert min(pretrained.train_accuracy, pretrained.test_accuracy) > 0.6
    reach = [result.gradients[0] / result.gradients[-1] for result in (plain, pretrained)]
    assert reach[1] > 30 * reach[0]


def test_pretraining_leaves_the_last_layer_and_trains_each_other_one_to_rebuild_its_input():
    sizes = greedy_pretraining.Sizes(depth=2, width=24)
    model = greedy_pretraining.STARTS["sigmoid"](sizes)
    x = load_digits().to_dataset().inputs[:256]
    first, *_, last = greedy_pretraining.linear_layers(model)
    before = last.weight.data.copy(), rebuilt(first, x)
    greedy_pretraining.pretrain(model, x, epochs=60, seed=0)
    assert (last.weight.data == before[0]).all()
    assert rebuilt(first, x) > before[1] + 0.2


def rebuilt(layer, x):
    """How well what a layer's units are reading resembles x: correlation with Wᵀ·h, pixel means taken off."""
    h = 1 / (1 + np.exp(-(x @ layer.weight.data.T + layer.bias.data)))
    back = h @ layer.weight.data
    return np.corrcoef((back - back.mean(axis=0)).ravel(), (x - x.mean(axis=0)).ravel())[0, 1]


def test_an_lstm_solves_the_adding_problem_where_a_plain_network_does_not():
    sizes = long_memory.Sizes(length=30, width=16, steps=800, lr=0.02)
    plain, lstm = (long_memory.run(name, sizes, seed=0) for name in ("RNN", "LSTM"))
    assert plain.solved_after is None
    assert plain.error > 0.1
    assert lstm.solved_after < 800
    assert lstm.error < 0.02
    assert lstm.before.layers[0].remaining[-1] < 1e-3 < 0.1 < lstm.after.layers[0].remaining[-1]


def test_the_sum_is_that_of_one_marked_number_in_each_half():
    x, y = long_memory.sequences(np.random.default_rng(0), 11, 50)
    assert (x[:5, :, 1].sum(axis=0) == 1).all()
    assert (x[5:, :, 1].sum(axis=0) == 1).all()
    np.testing.assert_allclose(y, [x[x[:, k, 1] == 1, k, 0].sum() for k in range(50)], rtol=1e-6)


def test_a_mapped_sequence_is_learned_from_chunk_by_chunk(tmp_path):
    long_sequence.write_streams(tmp_path / "x.npy", 6000, seed=0)
    done = long_sequence.train(tmp_path / "x.npy", k=50, width=16, seed=0, stages=4)
    assert [stage.steps for stage in done] == [1500, 3000, 4500, 5999]
    assert done[-1].error < min(done[0].error, done[-1].simple_error)


@pytest.mark.parametrize(
    "example, arguments, shown",
    [
        (greedy_pretraining, ["--depth=2", "--width=8", "--pretraining=1", "--training=1", "--seeds=1"], "pretrained"),
        (long_memory, ["--length=5", "--width=4", "--steps=3", "--seeds=1"], "spectral radius"),
        (long_sequence, ["--steps=200", "--k=30", "--width=4"], "largest memory"),
    ],
)
def test_each_runs_from_the_command_line_prints_a_table_and_draws(example, arguments, shown, tmp_path, capsys):
    draws = hasattr(example, "draw")
    example.main([*arguments, *([f"--png={tmp_path / 'picture.png'}"] if draws else [])])
    assert shown in capsys.readouterr().out
    assert not draws or (tmp_path / "picture.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("example", [greedy_pretraining, long_memory, long_sequence])
def test_help_and_sizes_that_make_no_sense_are_answered_in_words(example, capsys):
    with pytest.raises(SystemExit) as stop:
        example.main(["--help"])
    assert stop.value.code == 0
    assert "python examples/" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        example.main(["--width", "0"])
    assert stop.value.code == 2
    assert "at least 1" in (error := capsys.readouterr().err) or "a layer 1" in error


def test_the_doctor_finds_that_the_deep_sigmoid_network_vanishes():
    nn.random.manual_seed(0)
    made = deep_sigmoid.make()
    report = cr.diagnose(made["model"], made["loss"], made["batch"], optimizer=made["optimizer"])
    assert report.findings[0].code == "vanishing-gradient"
