"""Remedies tried and ranked, and repair: on chainrule's networks, measured against the untreated one."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from sick_networks import Framework, digits, examined, finding, mlp, pasted, prescribed

from chainrule import nn, optim, tensor
from chainrule.doctor import DoctorError
from chainrule.doctor.bench import Bench, Outcome, Trainee, better
from chainrule.doctor.examination import examine
from chainrule.doctor.limits import Limits
from chainrule.doctor.pairing import pairing
from chainrule.doctor.prescription import prescribe, repair
from chainrule.doctor.remedies.cooldown import cooldown_code
from chainrule.doctor.report import Report
from chainrule.doctor.rules import judge
from chainrule.doctor.scores import Score, score_of
from chainrule.doctor.search import Search, _best
from chainrule.doctor.subjects import subject_of

OURS = Framework(nn, optim, lambda a: a, nn.random.manual_seed)
X, Y = digits()


@pytest.fixture(scope="module")
def deep():
    """The 30-layer sigmoid network, diagnosed and treated."""
    report = examined(OURS, mlp(OURS, 30, 32, "Sigmoid"), X[:600], Y[:600])
    return report, prescribe(report, steps=40)


def test_thirty_sigmoid_layers_are_found_and_cured_by_at_least_two_remedies(deep):
    report, prescription = deep
    assert "vanishing-gradient" in [finding.code for finding in report.findings]
    assert prescription.untreated.score.value < 0.2
    helped = [cure for cure in prescription.cures if cure.helped]
    assert len({name for cure in helped for name in cure.remedies}) >= 2
    for cure in helped:
        assert cure.after.flow is None or cure.after.flow > 1e10 * prescription.untreated.flow
    assert prescription.best.after.score.value > 0.5


def test_the_best_cure_stands_first_and_those_that_did_not_help_stand_last(deep):
    cures = deep[1].cures
    assert cures[0] is deep[1].best
    helped = [cure.helped for cure in cures]
    assert helped == sorted(helped, reverse=True)


def test_the_printed_prescription_names_every_remedy_with_its_figures(deep):
    shown = str(deep[1])
    for cure in deep[1].cures:
        assert cure.name in shown
        assert f"{cure.after.score.value:.1%}" in shown
    assert "measured on held-out data" in shown


def test_the_same_seed_gives_the_same_prescription():
    report = examined(OURS, mlp(OURS, 3, activation="Sigmoid"), X, Y)
    one, other = (prescribe(report, steps=4, seed=3) for _ in range(2))
    assert str(one) == str(other)


def test_a_remedy_that_changes_nothing_does_not_count_as_help():
    report = examined(OURS, mlp(OURS), X, Y)
    prescription = prescribed(report, "exploding-gradient", steps=20)
    clipped = next(cure for cure in prescription.cures if cure.remedies == ("clipping",))
    assert not clipped.helped


def test_without_data_the_batch_is_what_is_measured_on():
    report = examined(OURS, mlp(OURS, 8, activation="Sigmoid"), X, Y, data=False)
    prescription = prescribed(report, "vanishing-gradient", steps=30)
    assert prescription.measured_on == "the batch"
    assert prescription.best is not None
    assert prescription.best.after.loss < prescription.untreated.loss


def test_progress_is_told_of_every_remedy():
    report = examined(OURS, mlp(OURS, 4, activation="Sigmoid"), X, Y, data=False)
    told = []
    prescribed(report, "vanishing-gradient", steps=2, progress=lambda what, done, of: told.append(what))
    for name in ("activation", "normalization", "initialization", "residual"):
        assert f"trying {name}" in told


def test_a_report_from_a_file_cannot_be_treated():
    report = examined(OURS, mlp(OURS), X, Y)
    with pytest.raises(DoctorError, match="read from a file"):
        prescribe(Report((finding("bottleneck"),), report.examination, None))


# Better -------------------------------------------------------------------------------------------------------------


def outcome(loss, accuracy=math.nan, noise=0.02, start=2.0):
    return Outcome(start, loss, Score("" if math.isnan(accuracy) else "accuracy", accuracy, noise), None)


@pytest.mark.parametrize(
    "one, other, same_loss, is_better",
    [
        (outcome(1.0, 0.9), outcome(1.0, 0.5), True, True),
        (outcome(1.0, 0.91), outcome(1.0, 0.90), True, False),
        (outcome(0.5, 0.90), outcome(1.0, 0.90), True, True),
        (outcome(0.5, 0.90), outcome(1.0, 0.90), False, False),
        (outcome(0.5, 0.80), outcome(1.0, 0.90), True, False),
        (outcome(0.5), outcome(1.0), True, True),
        (outcome(0.9), outcome(1.0), True, False),
        (outcome(math.nan), outcome(1.0), True, False),
        (outcome(1.0, 0.3), outcome(math.nan), True, True),
        (outcome(50.0, 0.3), outcome(math.nan), True, False),
    ],
)
def test_better_means_more_than_chance_or_a_clearly_lower_loss(one, other, same_loss, is_better):
    assert better(one, other, same_loss) is is_better


# Scores -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "output, targets, name, value",
    [
        ([[2, 1], [0, 1]], [0, 0], "accuracy", 0.5),
        ([[[2, 1], [0, 1]]], [[0, 1]], "accuracy", 1.0),
        ([[0.9], [0.2]], [1.0, 0.0], "accuracy", 1.0),
        ([[3.0], [-0.2]], [1.0, 1.0], "accuracy", 0.5),
        ([[3.0], [-0.2], [0.2]], [[1.0], [-1.0], [-1.0]], "accuracy", 2 / 3),
        ([[2, 1, 0], [0, 1, 2]], [[1, 0, 0], [0, 1, 0]], "accuracy", 0.5),
        ([[1.5], [2.5], [3.5]], [1.5, 2.5, 3.5], "R²", 1.0),
        ([[2.5], [2.5], [2.5]], [1.5, 2.5, 3.5], "R²", 0.0),
    ],
)
def test_a_score_is_the_accuracy_of_classes_or_the_explained_variance_of_numbers(output, targets, name, value):
    found = score_of(np.array(output, float), np.array(targets))
    assert found.name == name
    assert found.value == pytest.approx(value)


@pytest.mark.parametrize(
    ("output", "targets", "otherwise"),
    [
        ([[-3.0], [-0.5], [0.1], [5.0]], [0.0, 0.0, 1.0, 40.0], 1.0),
        ([[3.0], [0.5], [-0.1], [-5.0]], [0.0, 0.0, 1.0, 40.0], 0.0),
        ([[0.9], [0.9], [0.9], [0.9]], [1.0, 0.0, 0.0, 0.0], 0.5),
        ([[0.9], [0.9], [0.1], [0.1]], [1.0, 0.0, 0.0, 0.0], 5 / 6),
    ],
)
def test_answers_may_be_meant_for_the_order_of_numbers_or_for_classes_that_count_alike(output, targets, otherwise):
    found = score_of(np.array(output), np.array(targets)[:, None])
    assert found.otherwise == pytest.approx(otherwise)
    assert found.value < found.otherwise or otherwise == 0


def test_answers_that_are_not_finite_have_no_score():
    assert math.isnan(score_of(np.array([[np.nan, 1.0]]), np.array([0])).value)


# Repair -------------------------------------------------------------------------------------------------------------


def repaired(model, **given):
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return repair(
        model,
        nn.functional.cross_entropy,
        (X[:64], Y[:64]),
        optimizer=optimizer,
        data=(X, Y),
        **{"steps": 40, **given},
    )


def test_repair_returns_a_network_that_trains_where_the_users_own_did_not(tmp_path):
    model = mlp(OURS, 12, activation="Sigmoid")
    found = repaired(model)
    assert found.cured
    assert found.words
    assert "vanishing-gradient" in found.summary
    trained = []
    for network, optimizer in ((found.model, found.optimizer), (model, optim.SGD(model.parameters(), lr=0.05))):
        for start in [*range(0, 1600, 64)] * 4:
            optimizer.zero_grad()
            loss = found.loss_fn(network(X[start : start + 64]), Y[start : start + 64])
            loss.backward()
            optimizer.step()
        trained.append(float(loss.detach()))
    assert trained[0] < 0.6 * trained[1]
    twin = mlp(OURS, 12, activation="Sigmoid")
    done = pasted(tmp_path, found.code, model=twin, loss_fn=None, optimizer=None, inputs=X)
    assert repr(done["model"]) == repr(found.model)


def test_a_repaired_network_is_trained_at_its_rate_for_two_thirds_and_then_at_less_and_less():
    model = mlp(OURS, 6, activation="Sigmoid")
    found = repair(
        model, nn.functional.cross_entropy, (X, Y), optimizer=optim.SGD(model.parameters(), lr=0.1), steps=20
    )
    rate = found.optimizer.param_groups[0]["lr"]
    schedule = found.scheduler(9)
    rates = []
    for _ in range(10):
        rates.append(found.optimizer.param_groups[0]["lr"] / rate)
        schedule.step()
    np.testing.assert_allclose(rates, [1, 1, 1, 1, 1, 1, 1, 2 / 3, 1 / 3, 0], atol=1e-12)
    assert "LambdaLR" in found.code
    with pytest.raises(ValueError, match="one step or more, not 0"):
        found.scheduler(0)


def test_an_optimizer_with_a_schedule_is_not_given_another_in_the_code():
    optimizer = optim.SGD(mlp(OURS).parameters(), lr=0.1)
    assert "LambdaLR" in cooldown_code(optimizer.param_groups)
    optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    assert cooldown_code(optimizer.param_groups) == ""


def test_a_healthy_network_comes_back_as_it_is():
    model = mlp(OURS)
    found = repaired(model)
    assert found.cured
    assert found.model is model
    assert found.code == ""
    assert "Nothing to repair" in found.summary


class Detached(nn.Module):
    """A network whose two layers `between` cuts apart."""

    def __init__(self, between, width=16):
        super().__init__()
        self.first, self.out = nn.Linear(64, 16), nn.Linear(width, 10)
        self.between = between

    def forward(self, x):
        return self.out(self.between(self.first(x)))


def test_a_detached_value_is_attached_again_with_its_activation():
    nn.random.manual_seed(0)
    found = repaired(Detached(lambda h: h.tanh().detach()))
    assert found.cured
    assert found.by_hand == ""
    assert "detach()" in found.words[0]
    assert found.words[0].endswith("taken out of the forward of Detached")
    found.loss_fn(found.model(X[:64]), Y[:64]).backward()
    assert all(parameter.grad is not None for parameter in found.model.parameters())


def test_a_gradient_is_led_past_what_has_no_derivative():
    nn.random.manual_seed(0)
    found = repaired(Detached(lambda h: tensor(np.sign(h.detach().numpy()))))
    assert found.cured
    assert "between them" in found.words[0]
    found.loss_fn(found.model(X[:64]), Y[:64]).backward()
    assert all(parameter.grad is not None for parameter in found.model.parameters())


def test_repair_says_when_it_cannot():
    nn.random.manual_seed(0)
    found = repaired(Detached(lambda h: tensor(np.sign(h.detach().numpy()[:, :8])), 8))
    assert found.by_hand.startswith("detached-graph: ")
    assert "layers whose outputs and inputs differ in shape" in found.by_hand


def test_inputs_that_never_vary_are_the_users_to_mend():
    model = mlp(OURS)
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    found = repair(model, nn.functional.cross_entropy, (0 * X[:64], Y[:64]), optimizer=optimizer, steps=5)
    assert not found.cured
    assert found.by_hand.startswith("constant inputs: every number that the network is given is ")


def test_examples_that_are_all_the_same_are_the_users_to_mend():
    model = mlp(OURS)
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    same = np.repeat(X[:1], len(X), axis=0)
    found = repair(
        model, nn.functional.cross_entropy, (same[:64], Y[:64]), optimizer=optimizer, data=(same, Y), steps=5
    )
    assert found.by_hand.startswith(f"constant inputs: all {len(X)} examples have the same 64 numbers as inputs")


def test_an_optimizer_that_holds_a_part_of_the_network_is_given_the_rest():
    model = mlp(OURS)
    optimizer = optim.SGD([model[4].bias], lr=0.1)
    found = repair(model, nn.functional.cross_entropy, (X[:64], Y[:64]), optimizer=optimizer, data=(X, Y), steps=20)
    held = {id(p) for group in found.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in found.model.parameters()}


def test_a_cause_that_no_remedy_reaches_is_the_users_to_mend_and_the_reason_is_told():
    class Narrow(nn.Module):
        def __init__(self):
            self.first, self.squeeze, self.last = nn.Linear(64, 24), nn.Linear(24, 1), nn.Linear(1, 10)

        def forward(self, x):
            return self.last(self.squeeze(self.first(x).relu())[:, :1].tanh())

    nn.random.manual_seed(0)
    found = repaired(Narrow())
    assert "bottleneck" in [finding.code for finding in found.report.findings]
    assert found.by_hand.startswith("bottleneck: ")
    assert "does not run with a wider squeeze" in found.by_hand


def test_not_to_diverge_is_not_enough_for_a_cure_that_knows_nothing():
    nn.random.manual_seed(0)
    widths = [64, *range(32, 24, -1)]
    hidden = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    model = nn.Sequential(*hidden, nn.Linear(widths[-1], 10))
    for layer in model[::2]:
        layer.weight.data = 30 * layer.weight.data
    optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    found = repair(model, nn.functional.cross_entropy, (X[:64], Y[:64]), optimizer=optimizer, data=(X, Y), steps=1)
    assert not found.prescription.untreated.finite
    assert found.prescription.best.after.steps == 4
    assert not found.prescription.best.after.tells_nothing


def test_where_nothing_is_learned_yet_a_remedy_is_taken_after_which_nothing_is_found():
    report = examined(OURS, mlp(OURS, 12, activation="Sigmoid"), X[:64], Y[:64])
    search = Search.of(report, report.subject, 1, 0, lambda *_: None)
    search._improve([*search.asked])
    relief = search._relief()
    assert relief is not None
    treated = examine(relief.treatment.subject)
    assert "vanishing-gradient" in [f.code for f in judge(examine(report.subject), report.limits)]
    assert "vanishing-gradient" not in [f.code for f in judge(treated, report.limits)]
    learned = replace(search.untreated.outcome, score=Score("accuracy", 0.5, 0.02, 0.1))
    search.untreated.outcome = learned
    assert search._relief() is None


def test_where_nothing_helps_what_is_asked_for_first_is_tried_with_other_rates_and_optimizers_too():
    classes = np.random.default_rng(0).integers(0, 10, len(Y))  # of which nothing can be learned
    report = examined(OURS, mlp(OURS, 12, activation="Sigmoid"), X, classes)
    search = Search.of(report, report.subject, 2, 0, lambda *_: None)
    search.run()
    first = next(name for name in search.asked if name not in search.refused)
    assert {f"{first} + learning-rate", f"{first} + optimizer"} <= {cure.name for cure in search.cures}


def test_what_is_not_proved_to_help_is_not_called_a_repair(deep):
    _, prescription = deep
    unproved = next(cure for cure in prescription.cures if not cure.helped)
    shown = str(replace(prescription, best=unproved))
    assert "In so many steps nothing is learned with any remedy" in shown
    assert f"Best: {unproved.name}" not in shown


def test_a_momentum_that_swings_is_repaired_by_another_optimizer():
    model = mlp(OURS)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.999)
    found = repair(model, nn.functional.cross_entropy, (X[:64], Y[:64]), optimizer=optimizer, data=(X, Y), steps=40)
    assert found.cured
    assert isinstance(found.optimizer, optim.Adam)


def test_a_batch_of_two_is_made_longer_where_normalizations_need_it():
    nn.random.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 10))
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    found = repair(model, nn.functional.cross_entropy, (X[:2], Y[:2]), optimizer=optimizer, data=(X, Y), steps=40)
    assert found.batch_size == 64
    assert "batches of 64 examples instead of 2" in found.words


def test_several_remedies_are_put_on_top_of_each_other_where_each_helps():
    found = repaired(nn.Sequential(*mlp(OURS, 5, activation="Sigmoid"), nn.Softmax(1)), steps=40)
    best = found.prescription.best
    assert len(best.remedies) > 1
    singles = [cure for cure in found.prescription.cures if len(cure.remedies) == 1]
    assert all(best.after.score.value > cure.after.score.value for cure in singles)


def test_what_is_wrong_with_the_loss_is_repaired_with_it():
    model = nn.Sequential(*mlp(OURS), nn.Softmax(1))
    found = repaired(model)
    assert found.cured
    assert "softmax at the end (5) taken out" in found.words
    assert not any(isinstance(module, nn.Softmax) for module in found.model.modules())


def test_what_diagnosis_is_silent_about_is_searched_for_all_the_same(monkeypatch):
    monkeypatch.setattr(Report, "healthy", True)
    generator = np.random.default_rng(0)
    angles, rings = generator.uniform(0, 2 * np.pi, 800), generator.integers(0, 2, 800)
    x = ((1 + rings) * np.stack([np.cos(angles), np.sin(angles)])).T.astype(np.float32)
    nn.random.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), nn.Linear(16, 16), nn.Linear(16, 2))
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    found = repair(
        model, nn.functional.cross_entropy, (x[:64], rings[:64]), optimizer=optimizer, data=(x, rings), steps=40
    )
    assert "ReLU put after 0, 1: without it, all layers together are one" in found.words
    assert found.prescription.best.after.score.value > found.prescription.untreated.score.value + 0.2


@pytest.mark.parametrize(("accuracy", "waited_for"), [(0.1, [2, 2]), (0.6, [2, 2, 4, 4])])
def test_a_network_that_is_far_behind_a_cured_one_is_not_waited_for(monkeypatch, accuracy, waited_for):
    report = examined(OURS, mlp(OURS), X, Y)
    search = Search.of(report, report.subject, 1, 0, lambda *_: None)
    search._improve([], with_paces=True)
    first = search.tried[0]
    first.trainee.outcome = Outcome(2.3, 0.1, Score("accuracy", 0.95, 0.03, 0.1), None, 1)
    search.untreated.outcome = Outcome(2.3, 2.3, Score("accuracy", accuracy, 0.03, 0.1), None, 1)
    trained = []
    monkeypatch.setattr(Bench, "train", lambda bench, trainee, steps: trained.append(steps))
    assert search._lasts(first.cure, search.untreated, (2, 4))
    assert trained == waited_for


@pytest.mark.parametrize(
    ("spoiled", "words"),
    [
        (lambda y: y[::-1].copy(), "the targets put in reverse order"),
        (lambda y: np.roll(y, -1), "each input given the target of the row before"),
        (lambda y: np.concatenate([y[:300], np.roll(y[300:], -1)]), "from some row on, each input given the target"),
    ],
)
def test_targets_beside_the_wrong_inputs_are_put_beside_the_right_ones(spoiled, words):
    targets = spoiled(Y)
    subject = OURS.subject(mlp(OURS), nn.functional.cross_entropy, X, targets, data=(X, targets))
    found = pairing(subject, Limits(), seed=0)
    assert words in found.words
    inputs, paired = found((X, targets))
    own = {row.tobytes(): label for row, label in zip(X, Y, strict=True)}
    assert all(own[row.tobytes()] == label for row, label in zip(inputs, paired, strict=True))
    assert len(paired) > 0.96 * len(Y)


def test_shuffled_targets_have_no_order_that_they_could_be_put_in():
    targets = np.random.default_rng(0).permutation(Y)
    subject = OURS.subject(mlp(OURS), nn.functional.cross_entropy, X[:64], targets[:64], data=(X, targets))
    assert pairing(subject, Limits(), seed=0) is None


# Changes of the steps -------------------------------------------------------------------------------------------------


def trained(rate, loss, score, start=2.3, kind="Adam"):
    """A copy with a learning rate, and what it has come to."""
    layer = nn.Linear(2, 2)
    optimizer = getattr(optim, kind)(layer.parameters(), lr=rate)
    subject = subject_of(layer, nn.functional.cross_entropy, (X[:4, :2], Y[:4]), optimizer=optimizer)
    return Trainee(subject, None, iter(()), Outcome(start, loss, Score("accuracy", score, 0.03), None, 200))


def test_of_other_rates_the_one_with_the_best_answers_is_taken_and_of_those_the_one_with_the_least_loss():
    own, lower, higher = trained(1e-3, 0.8, 0.8), trained(3e-3, 0.40, 0.93), trained(1e-2, 0.39, 0.93)
    assert _best([lower, higher], own) is higher
    far_ahead = trained(3e-3, 0.5, 0.99)
    assert _best([higher, far_ahead], own) is far_ahead


def test_another_rate_or_optimizer_that_is_no_better_changes_nothing():
    own = trained(3e-3, 0.4, 0.93)
    assert _best([trained(1e-3, 0.42, 0.93)], own) is own
    assert _best([trained(1e-3, 0.395, 0.93, kind="RMSprop")], own) is own
