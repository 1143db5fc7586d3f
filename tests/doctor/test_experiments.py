"""What is only suspected is put to the test on copies: proved where taking it away helps, dropped where it does not."""

import numpy as np
import pytest
from sick_networks import Framework, digits, finding, mlp

import chainrule as cr
from chainrule import nn, optim
from chainrule.doctor import Limits, Severity
from chainrule.doctor.diagnosis import examination_of
from chainrule.doctor.experiments import experiments
from chainrule.doctor.subjects import subject_of

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
    first, report = examined(normalized(2e-4))
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


def half_trained(noise):
    """A network that has learned digits, so many of whose labels are any; its rate is at the end of a decay."""
    nn.random.manual_seed(0)
    model = headed(48)
    generator = np.random.default_rng(0)
    labels = np.where(generator.random(len(Y)) < noise, generator.integers(0, 10, len(Y)), Y)
    optimizer = optim.Adam(model.parameters(), lr=0.003)
    for _ in range(200 if noise else 20):
        rows = generator.choice(len(X), 64)
        optimizer.zero_grad()
        F.cross_entropy(model(X[rows]), labels[rows]).backward()
        optimizer.step()
    return model, labels


@pytest.mark.parametrize(("noise", "found"), [(0.5, None), (0.0, ("learning-rate-too-low", ""))])
def test_a_trained_network_steps_too_little_where_longer_steps_help_on_other_examples_and_not_where_noise_is_left(
    noise, found
):
    model, labels = half_trained(noise)
    first, _ = examined(model, targets=labels, lr=2e-5)
    assert first == found


@pytest.mark.parametrize(("batch", "tested"), [(3, True), (4, False)])
def test_a_batch_normalisation_of_few_examples_is_tested_with_more_of_them(batch, tested):
    nn.random.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 10))
    optimizer, images = optim.SGD(model.parameters(), lr=0.1, momentum=0.9), X.reshape(-1, 1, 8, 8)
    report = cr.diagnose(
        model, F.cross_entropy, (images[:batch], Y[:batch]), optimizer=optimizer, data=(images, Y), thorough=True
    )
    assert ("batch-size" in [experiment.remedy for experiment in report.examination.experiments]) == tested
    assert ("dead-batchnorm" in [finding.code for finding in report.findings]) == tested


@pytest.mark.parametrize(("code", "found"), [(1, ("bottleneck", "2")), (12, None)])
def test_a_code_of_one_number_is_a_bottleneck_and_one_of_twelve_is_none(code, found):
    nn.random.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, code), nn.Linear(code, 32), nn.ReLU(), nn.Linear(32, 64)
    )
    first, _ = examined(model, F.mse_loss, X)
    assert first == found


class LastState(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.rnn = nn.LSTM(1, width, batch_first=True)
        self.out = nn.Linear(width, 1)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


@pytest.mark.parametrize(("width", "found"), [(1, ("bottleneck", "rnn")), (16, None)])
def test_a_state_of_one_unit_before_one_number_is_proved_too_narrow_though_wider_ones_start_slowly(width, found):
    generator = np.random.default_rng(0)
    rates, phases = generator.uniform(0.2, 1.0, (600, 1)), generator.uniform(0, 2 * np.pi, (600, 1))
    waves = np.sin(rates * np.arange(16) + phases).astype(np.float32)[:, :, None]
    targets = (4.3 * (rates - 0.6)).astype(np.float32)
    nn.random.manual_seed(0)
    model = LastState(width)
    optimizer = optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    report = cr.diagnose(
        model, F.mse_loss, (waves[:48], targets[:48]), optimizer=optimizer, data=(waves, targets), thorough=True
    )
    serious = [(f.code, f.layer) for f in report.findings if f.severity >= Severity.WARNING]
    assert next(iter(serious), None) == found


@pytest.mark.parametrize(
    ("common", "lr", "found"), [(6.0, 0.1, "ill-conditioned"), (6.0, 3.0, "learning-rate-too-high"), (0.0, 0.1, None)]
)
def test_steps_that_will_do_with_whitened_inputs_are_too_long_for_correlated_ones_only(common, lr, found):
    generator = np.random.default_rng(0)
    own, shared = generator.normal(size=(600, 10)), generator.normal(size=(600, 1))
    inputs = ((own + common * shared) / np.sqrt(1 + common**2)).astype(np.float32)
    targets = np.tanh(own[:, :3] - own[:, 3:6]).sum(axis=1, keepdims=True).astype(np.float32)
    nn.random.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    report = cr.diagnose(
        model, F.mse_loss, (inputs[:32], targets[:32]), optimizer=optimizer, data=(inputs, targets), thorough=True
    )
    serious = [f.code for f in report.findings if f.severity >= Severity.WARNING]
    assert next(iter(serious), None) == found


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


def test_steps_that_dropout_makes_too_long_are_its_effect():
    nn.random.manual_seed(0)
    codes, report = stepped(plain(0.95), 5.0)
    assert codes == ["cannot-overfit-batch"]
    assert [f.code for f in report.findings if f.follows_from == "cannot-overfit-batch"]
    assert report.findings[0].layer == "2"


def table():
    """Ten features that have nothing in common, and the network for them."""
    nn.random.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 1))
    return model, np.random.default_rng(0).normal(size=(800, 10)).astype(np.float32)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_a_loss_that_asks_for_a_quantile_is_none_too_wrong_though_the_usual_one_comes_nearer(share):
    model, own = table()
    noise = np.random.default_rng(1).normal(size=(800, 1))
    targets = np.float32(own[:, :1] + own[:, 1:2] + noise)
    pinball = lambda o, t: (F.relu(t - o) * share + F.relu(o - t) * (1 - share)).mean()
    assert trained_by(model, own, targets, pinball, lr=0.05) == ([], [])


def test_logarithms_of_counts_are_no_worse_answers_than_counts():
    model, own = table()
    counts = np.float32(np.random.default_rng(1).poisson(np.exp(own[:, :1] - own[:, 1:2])))
    found, proofs = trained_by(model, own, counts, lambda o, t: (o.exp() - o * t).mean(), lr=0.01)
    assert (found, proofs) == ([], [])


@pytest.mark.parametrize(("weight", "found"), [(3.0, ([], [])), (1000.0, (["wrong-loss"], ["loss"]))])
def test_a_loss_that_hardly_looks_at_one_class_is_proved_wrong_by_the_usual_one(weight, found):
    model, own = table()
    noise = np.random.default_rng(1).normal(size=(800, 1))
    targets = np.float32(own[:, :1] + own[:, 1:2] + 0.5 * noise > 0)
    loss = lambda o, t: F.binary_cross_entropy_with_logits(o, t, pos_weight=np.float32([weight]))
    assert trained_by(model, own, targets, loss, lr=0.02) == found


@pytest.mark.parametrize(("summed", "found"), [(False, ([], [])), (True, (["ill-conditioned"], ["input-whitening"]))])
def test_correlated_features_that_plain_steps_are_slow_along_are_proved_by_whitening(summed, found):
    model, own = table()
    targets = np.tanh(2 * own[:, :1]) + own[:, 5:6]
    sums = np.cumsum(own, axis=1)
    inputs = sums / sums.std(axis=0) if summed else own
    assert trained_by(model, inputs, targets, F.mse_loss, lr=0.2, momentum=0.0) == found


def stepped(model, lr, warm_up=0, **options):
    """A diagnosis of what SGD does to the digits, at once or after so many steps of warm-up."""
    optimizer = optim.SGD(model.parameters(), lr=lr, **options)
    if warm_up:
        optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / warm_up, 1.0))
    report = cr.diagnose(model, F.cross_entropy, (X[:32], Y[:32]), optimizer=optimizer, data=(X, Y), thorough=True)
    return [f.code for f in report.findings if f.severity >= Severity.WARNING and not f.follows_from], report


@pytest.mark.parametrize(
    ("lr", "found"), [(0.1, []), (0.0005, ["learning-rate-too-low"]), (20.0, ["learning-rate-too-high"])]
)
def test_a_rate_is_judged_by_what_it_is_after_the_warm_up(lr, found):
    nn.random.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    assert stepped(model, lr, warm_up=20)[0] == found


def test_weights_that_decay_at_once_are_the_cause_and_nothing_else_is_suspected():
    nn.random.manual_seed(0)
    layers = [layer for _ in range(6) for layer in (nn.Linear(24, 24), nn.LayerNorm(24), nn.ReLU())]
    model = nn.Sequential(nn.Linear(64, 24), *layers, nn.Linear(24, 10))
    found, report = stepped(model, 0.03, momentum=0.9, weight_decay=5.0)
    assert found == ["cannot-overfit-batch"]
    assert report.examination.experiments == ()


@pytest.mark.parametrize(("target", "found"), [("curved", ["cannot-overfit-batch"]), ("straight", [])])
def test_layers_without_activations_are_proved_to_be_one_where_the_targets_are_curved(target, found):
    nn.random.manual_seed(0)
    inputs = np.random.default_rng(0).normal(size=(1200, 6)).astype(np.float32)
    straight = inputs[:, :1] - 0.5 * inputs[:, 1:2]
    targets = straight + (0.4 * inputs[:, 2:3] ** 2 if target == "curved" else 0)
    targets = (targets - targets.mean()).astype(np.float32)
    model = nn.Sequential(nn.Linear(6, 24), nn.Linear(24, 24), nn.Linear(24, 1))
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    batch = inputs[:64], targets[:64]
    report = cr.diagnose(model, F.mse_loss, batch, optimizer=optimizer, data=(inputs, targets), thorough=True)
    assert [f.code for f in report.findings if f.severity >= Severity.WARNING] == found


def test_a_rate_is_too_low_though_the_first_step_of_rmsprop_is_ten_times_as_long_as_the_others():
    nn.random.manual_seed(0)
    model = headed(48)
    optimizer = optim.RMSprop(model.parameters(), lr=2e-6)
    report = cr.diagnose(model, F.cross_entropy, (X[:64], Y[:64]), optimizer=optimizer, data=(X, Y), thorough=True)
    serious = [finding for finding in report.findings if finding.severity >= Severity.WARNING]
    assert [finding.code for finding in serious][:1] == ["learning-rate-too-low"]
    assert serious[0].evidence["update_ratio"] > 1e-5


def test_short_vectors_of_characters_are_not_what_keeps_dead_units_dead():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(16, 5)
            self.hidden = nn.Linear(5 * 64, 48)
            self.out = nn.Linear(48, 10)
            nn.init.constant_(self.hidden.bias, -20.0)

        def forward(self, x):
            return self.out(F.relu(self.hidden(self.embed(x).reshape(len(x), -1))))

    nn.random.manual_seed(0)
    model, levels = Reader(), np.clip(np.int64(4 * X + 8), 0, 15)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    report = cr.diagnose(
        model, F.cross_entropy, (levels[:64], Y[:64]), optimizer=optimizer, data=(levels, Y), thorough=True
    )
    assert (report.findings[0].code, report.findings[0].layer) == ("dying-relu", "hidden")


def of_a_curved_surface(optimizer, **options):
    """The first finding, and the experiments, of a small network that is to learn a smooth function."""
    nn.random.manual_seed(0)
    points = np.random.default_rng(0).uniform(-1, 1, (800, 6)).astype(np.float32)
    heights = np.sin(2 * points[:, :1]) + points[:, 1:2] * points[:, 2:3] + points[:, 3:4]
    heights /= heights.std()
    model = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 1))
    report = cr.diagnose(
        model, F.mse_loss, (points[:32], heights[:32]), optimizer=optimizer(model.parameters(), **options),
        data=(points, heights), thorough=True,
    )  # fmt: skip
    return next((finding.code for finding in report.findings), None), report.examination.experiments


@pytest.mark.parametrize(("momentum", "lr", "found"), [(0.993, 0.02, "oscillating-loss"), (0.985, 0.01, None)])
def test_momentum_that_keeps_a_network_swinging_is_proved_by_the_usual_one_and_some_that_does_not_is_left_alone(
    momentum, lr, found
):
    first, experiments = of_a_curved_surface(optim.SGD, lr=lr, momentum=momentum)
    assert first == found
    assert "momentum" in [experiment.remedy for experiment in experiments]


def test_nothing_else_is_proved_where_a_network_swings_away_from_what_it_had_learned():
    model, shifted = mlp(OURS, 2), X + np.float32(0.5)
    optimizer = optim.SGD(model.parameters(), lr=0.0443, momentum=0.994)
    subject = subject_of(
        model, F.cross_entropy, (shifted[:64], Y[:64]), optimizer=optimizer, data=(shifted, Y)
    )  # fmt: skip
    [tried] = experiments(subject, examination_of(subject), [finding("unscaled-input")])
    assert tried.later < tried.untreated - 0.05
    assert tried.remedy == "input-scaling"
    assert (tried.steps, tried.proves) == (320, False)


def test_the_usual_momentum_is_tried_for_as_long_as_slow_swings_take_though_it_is_behind_at_first():
    _, experiments = of_a_curved_surface(optim.SGD, lr=5e-4, momentum=0.99)
    [tried] = [experiment for experiment in experiments if experiment.remedy == "momentum"]
    assert tried.treated < tried.later
    assert (tried.steps, tried.proves) == (320, False)


@pytest.mark.parametrize(("lr", "found"), [(6e-4, "learning-rate-too-low"), (2e-3, None)])
def test_a_rate_is_too_low_where_ten_times_as_much_gets_further_in_a_quarter_of_the_steps_and_further_still_in_as_many(
    lr, found
):
    first, experiments = of_a_curved_surface(optim.Adam, lr=lr)
    assert first == found
    assert [experiment.steps for experiment in experiments if experiment.proves] == ([320] if found else [])
