"""What a loss asks for is told by outputs that are free to follow it, whatever the network."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.doctor.aim import aim
from chainrule.doctor.subjects import subject_of

F = nn.functional
RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 5)).astype(np.float32)
CLASSES = np.arange(64) % 4
TWO = (np.arange(64) % 2).astype(np.float32)[:, None]
NUMBERS = RNG.normal(3, 2, size=(64, 1)).astype(np.float32)


def asked_for(loss, targets, outputs, last=None):
    layers = [nn.Linear(5, outputs)] + ([] if last is None else [last])
    return aim(subject_of(nn.Sequential(*layers), loss, (X, targets)))


@pytest.mark.parametrize(
    ("loss", "targets", "outputs", "last"),
    [
        (F.cross_entropy, CLASSES, 4, None),
        (lambda o, t: F.cross_entropy(o, t, label_smoothing=0.2), CLASSES, 4, None),
        (F.nll_loss, CLASSES, 4, nn.LogSoftmax(1)),
        (lambda o, t: -o[np.arange(64), t].log().mean(), CLASSES, 4, nn.Softmax(1)),
        (F.binary_cross_entropy_with_logits, TWO, 1, None),
        (lambda o, t: F.relu(1 - o * (2 * t - 1)).mean(), TWO, 1, None),
        (F.mse_loss, NUMBERS, 1, None),
        (F.l1_loss, NUMBERS, 1, None),
        (lambda o, t: (o.exp() - np.abs(t) * o).mean(), np.round(NUMBERS).clip(0), 1, None),
    ],
)
def test_a_loss_that_fits_asks_for_the_targets(loss, targets, outputs, last):
    assert asked_for(loss, targets, outputs, last).after > 0.9


@pytest.mark.parametrize(
    ("loss", "targets", "outputs"),
    [
        (lambda o, t: F.cross_entropy(o, (t + 1) % 4), CLASSES, 4),
        (lambda o, t: F.cross_entropy(o, t[::-1].copy()), CLASSES, 4),
        (lambda o, t: F.cross_entropy(o[:1], t[:1]), CLASSES, 4),
        (lambda o, t: F.relu(1 - o * t).mean(), TWO, 1),
        (lambda o, t: (o.mean() - t.mean()) ** 2, NUMBERS, 1),
        (lambda o, t: ((o - t.reshape(-1)) ** 2).mean(), NUMBERS, 1),
    ],
)
def test_a_loss_that_asks_for_something_else_is_wrong(loss, targets, outputs):
    assert asked_for(loss, targets, outputs).after < 0.9
    model = nn.Linear(5, outputs)
    report = cr.diagnose(model, loss, (X, targets), optimizer=cr.optim.Adam(model.parameters()), thorough=True)
    assert report.findings[0].code == "wrong-loss"


def test_padding_that_the_loss_leaves_out_is_not_asked_for():
    def without_padding(o, t):
        return -(F.log_softmax(o, 1)[np.arange(64), t] * (t > 0)).sum() / 48

    assert asked_for(without_padding, CLASSES, 4).after > 0.9


def test_embeddings_and_targets_that_never_change_have_no_answers_to_ask_for():
    assert asked_for(lambda o, t: (o**2).mean(), CLASSES, 16) is None
    assert asked_for(F.mse_loss, np.ones((64, 1), np.float32), 1) is None


def test_answers_of_a_thousand_are_taken_for_numbers_and_overflow_nowhere():
    model = nn.Linear(5, 4)
    model.weight.data = 1000 * model.weight.detach().numpy()
    with np.errstate(over="raise"):
        assert aim(subject_of(model, F.cross_entropy, (X, CLASSES))).after > 0.9
