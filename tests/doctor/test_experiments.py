"""What is only suspected is put to the test on copies: proved where taking it away helps, dropped where it does not."""

import numpy as np
import pytest
from sick_networks import Framework, digits

import chainrule as cr
from chainrule import nn, optim
from chainrule.doctor import Limits, Severity

OURS = Framework(nn, optim, lambda a: a, nn.random.manual_seed)
X, Y = digits(800)
F = nn.functional


def examined(model, loss=F.cross_entropy, targets=Y, lr=0.005, parameters=None):
    optimizer = optim.Adam(parameters or model.parameters(), lr=lr)
    report = cr.diagnose(model, loss, (X[:32], targets[:32]), optimizer=optimizer, data=(X, targets), thorough=True)
    first = next(
        ((f.code, f.layer) for f in report.findings if f.severity >= Severity.WARNING and not f.follows_from), None
    )
    return first, report


def normalized(momentum):
    nn.random.manual_seed(0)
    return nn.Sequential(
        nn.Linear(64, 24), nn.BatchNorm1d(24, momentum=momentum), nn.ReLU(),
        nn.Linear(24, 24), nn.BatchNorm1d(24, momentum=momentum), nn.ReLU(), nn.Linear(24, 10),
    )  # fmt: skip


def test_running_statistics_that_lag_behind_are_proved_by_going_without_them():
    first, report = examined(normalized(1e-3))
    assert first == ("dead-batchnorm", "1")
    [proof] = [experiment for experiment in report.examination.experiments if experiment.proves]
    assert proof.remedy == "batch-statistics"
    assert proof.treated > proof.untreated + 0.05
    assert "batch" in report.findings[0].cause
    assert report.findings[0].evidence["treated"] == proof.treated


def test_running_statistics_of_the_usual_momentum_are_not_suspected():
    first, report = examined(normalized(0.1))
    assert first is None
    assert "dead-batchnorm" not in [experiment.code for experiment in report.examination.experiments]


@pytest.mark.parametrize(("code", "found"), [(1, ("bottleneck", "2")), (12, None)])
def test_a_code_of_one_number_is_a_bottleneck_and_one_of_twelve_is_none(code, found):
    nn.random.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, code), nn.Linear(code, 32), nn.ReLU(), nn.Linear(32, 64)
    )
    first, _ = examined(model, F.mse_loss, X)
    assert first == found


def headed(width):
    nn.random.manual_seed(0)
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))


def test_an_optimizer_that_holds_the_head_alone_is_proved_wrong_where_the_features_are_no_good():
    model = headed(16)
    first, report = examined(model, lr=0.02, parameters=[*model[4].parameters()])
    assert first == ("unused-parameter", "0")
    assert report.findings[0].evidence["treated"] > report.findings[0].evidence["later"]


def test_an_optimizer_that_holds_the_head_alone_is_right_where_the_features_were_trained():
    model = headed(16)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    for step in range(200):
        rows = slice(32 * (step % 25), 32 * (step % 25 + 1))
        optimizer.zero_grad()
        F.cross_entropy(model(X[rows]), Y[rows]).backward()
        optimizer.step()
    nn.init.zeros_(model[4].weight)
    first, _ = examined(model, lr=0.02, parameters=[*model[4].parameters()])
    assert first is None


def test_an_experiment_leaves_the_network_as_it_was():
    model = normalized(1e-3)
    before = {name: np.array(value.numpy()) for name, value in model.state_dict().items()}
    examined(model)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])


def test_suspicion_begins_nearer_than_proof():
    limits = Limits(vanishing=1e-4)
    assert limits.of_suspicion.vanishing > limits.vanishing
    assert limits.of_suspicion.suspecting
    assert not limits.suspecting


def rings(count=600):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, count)
    radius, angle = 0.6 + 0.8 * labels, generator.uniform(0, 2 * np.pi, count)
    return np.float32(np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)), labels


def trained_by(model, inputs, targets, loss=F.cross_entropy, **options):
    """The cause that is found, and the remedy whose experiment proves it."""
    optimizer = optim.SGD(model.parameters(), **{"lr": 0.1, "momentum": 0.9, **options})
    batch = inputs[:64], targets[:64]
    report = cr.diagnose(model, loss, batch, optimizer=optimizer, data=(inputs, targets), thorough=True)
    causes = [f.code for f in report.findings if f.severity >= Severity.WARNING and not f.follows_from]
    return causes, [experiment.remedy for experiment in report.examination.experiments if experiment.proves]


@pytest.mark.parametrize("between", [nn.Identity, nn.ReLU])
def test_layers_without_anything_between_them_cannot_learn_rings(between):
    nn.random.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 32), between(), nn.Linear(32, 32), between(), nn.Linear(32, 2))
    found, _ = trained_by(model, *rings())
    assert found == (["cannot-overfit-batch"] if between is nn.Identity else [])


def plain(dropout=0.0):
    nn.random.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Dropout(dropout), nn.Linear(48, 10))


@pytest.mark.parametrize("rate", [0.1, 8.0])
def test_steps_that_swing_about_on_the_data_are_too_long(rate):
    noisy = np.where(np.random.default_rng(0).uniform(size=len(Y)) < 0.3, np.roll(Y, 1), Y)
    found, _ = trained_by(plain(), X, noisy, lr=rate)
    assert found == ([] if rate == 0.1 else ["learning-rate-too-high"])


@pytest.mark.parametrize(("dropout", "found"), [(0.3, []), (0.95, ["cannot-overfit-batch"])])
def test_dropout_that_leaves_too_little_is_proved_by_less_of_it(dropout, found):
    assert trained_by(plain(dropout), X, Y)[0] == found


def table():
    """Ten features that have nothing in common, and the network for them."""
    nn.random.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 1))
    return model, np.random.default_rng(0).normal(size=(800, 10)).astype(np.float32)


@pytest.mark.parametrize(("share", "found"), [(0.5, ([], [])), (0.99, (["wrong-loss"], ["loss"]))])
def test_a_loss_that_asks_for_what_hardly_any_target_exceeds_is_proved_wrong_by_the_usual_one(share, found):
    model, own = table()
    noise = np.random.default_rng(1).normal(size=(800, 1))
    targets = np.float32(own[:, :1] + own[:, 1:2] + noise)
    pinball = lambda o, t: (F.relu(t - o) * share + F.relu(o - t) * (1 - share)).mean()
    assert trained_by(model, own, targets, pinball, lr=0.05) == found


@pytest.mark.parametrize(("summed", "found"), [(False, ([], [])), (True, (["ill-conditioned"], ["input-whitening"]))])
def test_correlated_features_that_plain_steps_are_slow_along_are_proved_by_whitening(summed, found):
    model, own = table()
    targets = np.tanh(2 * own[:, :1]) + own[:, 5:6]
    sums = np.cumsum(own, axis=1)
    inputs = sums / sums.std(axis=0) if summed else own
    assert trained_by(model, inputs, targets, F.mse_loss, lr=0.2, momentum=0.0) == found
