"""One generator, whose state can be set by a seed, taken out as plain numbers, and put back."""

import json

import numpy as np
import pytest

from chainrule import nn


def test_the_same_seed_gives_the_same_parameters():
    nn.random.manual_seed(5)
    first = nn.Linear(3, 3)
    nn.random.manual_seed(5)
    np.testing.assert_array_equal(nn.Linear(3, 3).weight.data, first.weight.data)
    assert (nn.Linear(3, 3).weight.data != first.weight.data).any()


def test_the_state_survives_json_and_continues_the_same_draws():
    nn.random.manual_seed(1)
    x = np.ones(7, np.float32)  # float32 draws take half a word each: the state has the other half
    nn.functional.dropout(x)
    state = json.loads(json.dumps(nn.random.get_rng_state()))
    expected = [nn.functional.dropout(x).data for _ in range(3)]
    nn.random.manual_seed(2)
    nn.random.set_rng_state(state)
    for mask in expected:
        np.testing.assert_array_equal(nn.functional.dropout(x).data, mask)


def test_numpys_own_generator_is_left_alone():
    np.random.seed(0)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    nn.random.manual_seed(1)
    nn.Linear(10, 10)
    assert np.random.random() == expected  # noqa: NPY002


@pytest.mark.parametrize("state", [{}, {"bit_generator": "MT19937"}, {"bit_generator": "PCG64", "state": 3}, 7])
def test_what_is_no_state_is_refused_and_changes_nothing(state):
    before = nn.random.get_rng_state()
    with pytest.raises(ValueError, match="set_rng_state: not a state that get_rng_state gave"):
        nn.random.set_rng_state(state)
    assert nn.random.get_rng_state() == before


def test_a_seed_is_a_natural_number():
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        nn.random.manual_seed(-1)
    with pytest.raises(TypeError):
        nn.random.manual_seed(1.5)
