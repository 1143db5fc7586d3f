"""The networks for images and text: what they see, what they carry on, and how far back their gradients go."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.nn import functional as F
from chainrule.train.build import build_step
from chainrule.train.networks import ConvolutionalNetwork, RecurrentNetwork, Transformer

CHARACTERS = 7
TEXT = np.random.default_rng(0).integers(0, CHARACTERS, 40)


def recurrent(kind="lstm", depth=2, dropout=0.0):
    nn.random.manual_seed(0)
    return RecurrentNetwork(kind, CHARACTERS, width=5, depth=depth, dropout=dropout, dtype=np.float64)


def transformer(context=8, dropout=0.0):
    nn.random.manual_seed(0)
    options = {"width": 8, "depth": 2, "heads": 2, "activation": "gelu", "dropout": dropout, "dtype": np.float64}
    model = Transformer(CHARACTERS, context=context, **options)
    for parameter in model.parameters():  # as far apart as after some training
        parameter.data = parameter.data + np.random.default_rng(1).normal(0, 0.3, parameter.shape)
    return model


def cross_entropy(scores, targets):
    return F.cross_entropy(scores.reshape(-1, CHARACTERS), targets.reshape(-1))


def numbers(value):
    return np.asarray(value.detach() if isinstance(value, cr.Tensor) else value)


# State ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_text_read_in_parts_is_scored_as_one_read_at_once(kind):
    model, rows = recurrent(kind), TEXT.reshape(2, 20)
    whole, *after = model(rows, *model.initial_state(2))
    state = model.initial_state(2)
    parts = []
    for start in (0, 4, 8):
        scores, *state = model(rows[:, start : start + (12 if start == 8 else 4)], *state)
        parts.append(numbers(scores))
    np.testing.assert_allclose(np.concatenate(parts, axis=1), numbers(whole), rtol=1e-12)
    for one, other in zip(state, after, strict=True):
        np.testing.assert_allclose(numbers(one), numbers(other), rtol=1e-12)


def step_of(model, rate=1.0):
    """A step of plain gradient descent, so that what the parameters move by is the gradient."""
    return build_step(model, cross_entropy, optim.SGD(model.parameters(), lr=rate), None)


def gradients(model, step, *arguments):
    before = [p.data.copy() for p in model.parameters()]
    loss, state = step(*arguments)
    return loss, state, [old - p.data for old, p in zip(before, model.parameters(), strict=True)]


def loss_of(model, inputs, targets, state):
    with cr.no_grad():
        scores, *_ = model(inputs, *state)
        return cross_entropy(scores, targets).item()


def differences(model, f, count=3, size=1e-5):
    """Central differences of `f()` by some elements of each parameter: (parameter, element, slope)."""
    random = np.random.default_rng(2)
    for place, parameter in enumerate(model.parameters()):
        for element in random.choice(parameter.size, min(count, parameter.size), replace=False):
            values, slopes = parameter.data.copy(), []
            for sign in (1, -1):
                moved = values.copy()
                moved.flat[element] += sign * size
                parameter.data = moved
                slopes.append(sign * f())
            parameter.data = values
            yield place, element, sum(slopes) / (2 * size)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_in_full_the_gradient_goes_back_through_every_step(kind):
    model = recurrent(kind)
    inputs, targets = TEXT[:30].reshape(2, 15), TEXT[1:31].reshape(2, 15)
    state = model.initial_state(2)
    slopes = list(differences(model, lambda: loss_of(model, inputs, targets, state)))
    _, _, found = gradients(model, step_of(model), inputs, targets, *state)
    for place, element, slope in slopes:
        assert found[place].flat[element] == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_truncated_the_state_is_carried_on_and_the_gradient_ends_where_the_chunk_began():
    model = recurrent()
    first, second = (TEXT[start : start + 8].reshape(2, 4) for start in (0, 8))
    _, state, _ = gradients(model, step_of(model, rate=1e-30), first, first, *model.initial_state(2))
    assert all(not part.requires_grad and numbers(part).any() for part in state)
    constant = [numbers(part).copy() for part in state]
    slopes = list(differences(model, lambda: loss_of(model, second, second, constant)))
    through_both = list(differences(model, lambda: loss_of(model, second, second, after(model, first))))
    _, _, found = gradients(model, step_of(model), second, second, *state)
    for place, element, slope in slopes:
        assert found[place].flat[element] == pytest.approx(slope, rel=1e-6, abs=1e-9)
    assert max(abs(one[2] - other[2]) for one, other in zip(slopes, through_both, strict=True)) > 1e-4


def after(model, characters):
    with cr.no_grad():
        return model(characters, *model.initial_state(len(characters)))[1:]


# What is seen --------------------------------------------------------------------------------------------------------


def test_a_transformer_does_not_see_what_comes_later():
    model, rows = transformer(), TEXT[:16].reshape(2, 8)
    changed = rows.copy()
    changed[:, 5] = (changed[:, 5] + 1) % CHARACTERS
    before, now = numbers(model(rows)), numbers(model(changed))
    np.testing.assert_array_equal(before[:, :5], now[:, :5])
    assert (before[:, 5:] != now[:, 5:]).any(axis=-1).all()


def test_what_follows_is_the_same_whether_a_recurrent_network_reads_at_once_or_one_by_one():
    model = recurrent("gru")
    at_once, _ = model.following(TEXT[:9])
    state = None
    for character in TEXT[:9]:
        one_by_one, state = model.following(np.array([character]), state)
    np.testing.assert_allclose(numbers(one_by_one), numbers(at_once), rtol=1e-12)


def test_what_follows_depends_on_the_last_characters_of_a_transformers_context_only():
    model = transformer(context=8)
    state = None
    for character in TEXT[:20]:
        scores, state = model.following(np.array([character]), state)
    np.testing.assert_allclose(numbers(scores), numbers(model(TEXT[None, 12:20]))[0, -1], rtol=1e-12)


def log_likelihood(scores, character):
    scores = numbers(scores)
    return scores[character] - np.log(np.exp(scores).sum())


def test_a_recurrent_network_is_scored_on_every_character_of_each_stream(monkeypatch):
    from chainrule.train import measures
    from chainrule.train.networks import recurrent as module

    monkeypatch.setattr(module, "STREAMS", 3)
    monkeypatch.setattr(module, "STEPS_AT_ONCE", 5)
    model = recurrent()
    likelihoods = []
    for stream in range(3):  # 39 characters are predicted: 13 in each
        for place in range(13):
            scores, _ = model.following(TEXT[13 * stream : 13 * stream + place + 1])
            likelihoods.append(log_likelihood(scores, TEXT[13 * stream + place + 1]))
    assert measures.measure_text(model, TEXT) == pytest.approx(-np.mean(likelihoods))


@pytest.mark.parametrize("context, rows", [(8, 2), (7, 32), (40, 32), (100, 1)])
def test_a_transformer_is_scored_with_at_least_half_a_context_before_each_character(monkeypatch, context, rows):
    from chainrule.train import measures
    from chainrule.train.networks import transformer as module

    monkeypatch.setattr(module, "ROWS_AT_ONCE", rows)
    model = transformer(context)
    length = min(context, 39)
    half = (length + 1) // 2
    likelihoods = []
    for start in range(0, 40 - length, half):
        for place in range(start + length - half, start + length):
            scores, _ = model.following(TEXT[start : place + 1])
            likelihoods.append(log_likelihood(scores, TEXT[place + 1]))
    assert measures.measure_text(model, TEXT) == pytest.approx(-np.mean(likelihoods))


@pytest.mark.parametrize("made", [recurrent, transformer])
def test_dropout_acts_in_training_and_not_when_a_network_is_measured(made):
    from chainrule.train.measures import measure_text

    model = made(dropout=0.5)
    state = model.initial_state(1) if made is recurrent else ()
    random = nn.random.get_rng_state()
    assert measure_text(model, TEXT) == measure_text(model, TEXT)
    assert nn.random.get_rng_state() == random
    assert model.training
    first, second = (model(TEXT[None, :8], *state) for _ in range(2))
    first, second = (numbers(part[0] if isinstance(part, tuple) else part) for part in (first, second))
    assert (first != second).any()


# Images --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize("depth, kernel", [(1, 1), (2, 3), (5, 5)])
def test_a_convolutional_network_has_the_layers_it_is_asked_for(depth, kernel, norm, residual):
    model = ConvolutionalNetwork(
        1, 8, 8, 10, depth=depth, filters=4, kernel=kernel, activation="tanh", norm=norm, residual=residual,
        init="auto", dropout=0.5, dtype=np.float32,
    )  # fmt: skip
    assert model(np.zeros((3, 1, 8, 8), np.float32)).shape == (3, 10)
    parts = list(model.modules())
    normalisation = {None: nn.Softmax, "batch": nn.BatchNorm2d, "layer": nn.GroupNorm}[norm]
    wanted = {nn.Conv2d: depth, nn.Tanh: depth, nn.Linear: 1, nn.MaxPool2d: 1, nn.Dropout: 1}
    wanted |= {normalisation: depth if norm else 0, nn.Residual: depth - 1 if residual else 0}
    for kind, count in wanted.items():
        assert sum(isinstance(part, kind) for part in parts) == count, kind
    assert {part.kernel_size for part in parts if isinstance(part, nn.Conv2d)} == {(kernel, kernel)}
