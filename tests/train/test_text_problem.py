"""A text to learn: divided, recognised again, refused where it is too short."""

import math

import numpy as np
import pytest

from chainrule import nn
from chainrule.data import DataError
from chainrule.train import Config
from chainrule.train.build import build_model
from chainrule.train.text_problem import TextProblem

LINE = "It was a bright cold day in April, and the clocks were striking thirteen.\n"


@pytest.fixture
def problem(tmp_path):
    """Return a function that writes a text and gives its problem."""

    def load(text=20 * LINE, model="lstm", **options):
        (tmp_path / "book.txt").write_text(text)
        options = {"batch_size": 3, "width": 4, **options}
        return TextProblem.load(Config.choose(model=model, data=str(tmp_path / "book.txt"), **options))

    return load


def test_the_last_tenth_is_held_out_and_known_by_the_characters_of_the_whole(problem):
    found = problem(20 * LINE + "ß")
    assert len(found.train) == 1333
    assert found.vocabulary.decode([*found.train, *found.test]) == 20 * LINE + "ß"
    assert found.inputs == found.outputs == len(set(LINE)) + 1
    assert found.saved() == {"characters": "".join(sorted(set(LINE + "ß")))}


def test_one_changed_character_changes_the_fingerprint(problem):
    assert problem().fingerprint == problem().fingerprint
    assert problem(20 * LINE + "!").fingerprint != problem(20 * LINE + "?").fingerprint


@pytest.mark.parametrize("model", ["lstm", "transformer"])
def test_rows_are_as_long_as_gradients_go_back_or_the_context_is_wide(problem, model):
    option = {"lstm": "bptt", "transformer": "context"}[model]
    found = problem(model=model, **{option: 9})
    inputs, targets = found.batch(found.epoch(0)[0])
    assert inputs.shape == targets.shape == (3, 9)
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])


@pytest.mark.parametrize(
    "options, anew",
    [
        ({"bptt": 10}, [True, False, False, False, False, False]),
        ({"bptt": 10, "context": 30}, [True, False, False, True, False, False]),
        ({"context": 30}, [True, True, True, True, True, True]),
    ],
)
def test_the_state_starts_anew_with_every_epoch_and_after_every_context(problem, options, anew):
    assert [problem(**options).starts_anew(number) for number in range(6)] == anew


def test_a_context_without_bptt_means_gradients_through_all_of_it(problem):
    assert problem(context=30).length == 30


@pytest.mark.parametrize(
    "text, options, message",
    [
        (
            "short",
            {},
            "book.txt: 5 characters are too few: 4 are learned from, and a step of --batch-size 3 and --bptt",
        ),
        (20 * LINE, {"bptt": 500}, r"1,332 are learned from.* --bptt 500 takes 1,501; give a longer text, or make"),
        (20 * LINE, {"model": "transformer", "context": 444}, "--context 444 takes 1,333"),
    ],
)
def test_a_text_too_short_for_one_step_is_refused_with_the_numbers(problem, text, options, message):
    with pytest.raises(DataError, match=message):
        problem(text, **options)


def test_a_text_just_long_enough_makes_one_step(problem):
    assert len(problem(bptt=443).epoch(0)) == 1  # 3 · 443 and the character after them are 1330 of 1332


@pytest.mark.parametrize("model", ["gru", "transformer"])
def test_quality_is_told_in_bits_and_as_perplexity(problem, model):
    found = problem(model=model, heads=2 if model == "transformer" else None)
    nn.random.manual_seed(0)
    network = build_model(found.config, found.inputs, found.outputs)
    measures = found.measure(network)
    for part in ("train", "test"):
        assert measures[f"{part}_bpc"] == pytest.approx(measures[f"{part}_loss"] / math.log(2))
        assert measures[f"{part}_perplexity"] == pytest.approx(2 ** measures[f"{part}_bpc"])
    assert measures["test_perplexity"] == pytest.approx(len(set(LINE)), rel=0.3)  # it knows nothing yet


@pytest.mark.parametrize("model", ["lstm", "transformer"])
def test_a_sample_is_the_same_for_the_same_seed_and_leaves_the_random_numbers_of_training_alone(problem, model):
    found = problem(model=model, dropout=0.5)
    network = build_model(found.config, found.inputs, found.outputs)
    before = nn.random.get_rng_state()
    assert found.sample(network, 1) == found.sample(network, 1) != found.sample(network, 2)
    assert nn.random.get_rng_state() == before
    assert set(found.sample(network, 1)) <= set(LINE)
