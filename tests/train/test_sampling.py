"""Text drawn from a network: by its chances, sharpened by temperature, and repeatable."""

import numpy as np
import pytest

from chainrule import nn
from chainrule.data import DataError, Vocabulary
from chainrule.train.sampling import written

VOCABULARY = Vocabulary("\nabc")
CHANCES = np.array([0.1, 0.2, 0.3, 0.4])


class Independent(nn.Module):
    """Always thinks the same, whatever comes before; remembers what it read."""

    def __init__(self):
        self.read = []

    def following(self, characters, state=None):
        assert not self.training
        self.read.append(characters.tolist())
        return np.log(CHANCES), (state or 0) + len(characters)


def drawn(count, **options):
    return "".join(written(Independent(), VOCABULARY, count, **options))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_characters_come_as_often_as_their_chances_to_the_power_of_one_by_the_temperature(temperature):
    text = drawn(4000, temperature=temperature)
    wanted = CHANCES ** (1 / temperature)
    shares = [text.count(character) / 4000 for character in VOCABULARY.characters]
    np.testing.assert_allclose(shares, wanted / wanted.sum(), atol=0.03)


def test_at_temperature_0_and_close_to_it_the_likeliest_is_taken():
    assert drawn(20, temperature=0) == drawn(20, temperature=5e-324) == "c" * 20


def test_the_same_seed_writes_the_same_and_another_does_not():
    assert drawn(50, seed=1) == drawn(50, seed=1) != drawn(50, seed=2)


def test_the_prompt_is_read_first_and_then_every_character_that_was_written():
    model = Independent()
    text = "".join(written(model, VOCABULARY, 4, prompt="abba"))
    assert model.read == [[1, 2, 2, 1], *([VOCABULARY.characters.index(c)] for c in text[:3])]
    model = Independent()
    list(written(model, VOCABULARY, 1))
    assert model.read == [[0]]  # without a prompt, the beginning of a line
    assert model.training


def test_a_prompt_with_a_character_that_is_not_known_is_refused():
    with pytest.raises(DataError, match="'x' did not occur in the text that was learned"):
        drawn(1, prompt="ax")
