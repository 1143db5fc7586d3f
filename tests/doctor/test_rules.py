"""Sick networks are found sick, by the right name and in the right place; healthy ones are not accused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.doctor import CODES, Finding, Limits, Severity
from chainrule.doctor.diagnosis import examination_of
from chainrule.doctor.measurements import ThroughTime
from chainrule.doctor.neighbours import relation
from chainrule.doctor.rules import EFFECTS, judge, ordered, signal, suspected
from chainrule.doctor.rules.experience import knows_its_batch
from chainrule.doctor.subjects import subject_of
from chainrule.doctor.trial import on_batch

F = nn.functional
RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 20)).astype(np.float32)
CLASSES = RNG.integers(0, 4, 64)
NUMBERS = RNG.normal(size=(64, 1)).astype(np.float32)


def stack(depth, activation, width=32, outputs=4, init=True):
    nn.random.manual_seed(0)
    layers = [nn.Linear(20, width), activation()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), activation()]
    model = nn.Sequential(*layers, nn.Linear(width, outputs))
    if init and activation is nn.ReLU:
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
    return model


def causes(model, loss=F.cross_entropy, batch=(X, CLASSES), **given):
    report = cr.diagnose(model, loss, batch, **given)
    return [(f.code, f.layer) for f in report.findings if not f.follows_from and f.severity >= Severity.WARNING]


def changed(model, place, weight=None, bias=None):
    if weight is not None:
        model[place].weight.data = weight(model[place].weight.detach().numpy()).astype(np.float32)
    if bias is not None:
        model[place].bias.data = bias(model[place].bias.detach().numpy()).astype(np.float32)
    return model


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.LeakyReLU])
def test_a_healthy_network_is_not_accused(activation):
    model = stack(3, activation)
    assert causes(model, optimizer=cr.optim.Adam(model.parameters())) == []


def test_a_healthy_residual_network_of_a_hundred_layers_is_not_accused():
    model = nn.MLP(20, 32, 4, depth=100, residual=True, norm="layer", init="auto")
    assert causes(model, optimizer=cr.optim.Adam(model.parameters())) == []


def test_healthy_regression_is_not_accused():
    model = stack(2, nn.Tanh, outputs=1)
    assert causes(model, F.mse_loss, (X, NUMBERS)) == []


def test_thirty_sigmoid_layers_vanish_and_the_report_says_by_what():
    report = cr.diagnose(stack(30, nn.Sigmoid), F.cross_entropy, (X, CLASSES))
    first = report.findings[0]
    assert (first.code, first.severity) == ("vanishing-gradient", Severity.SEVERE)
    assert first.evidence["ratio"] < 1e-18
    assert first.evidence["activations_share"] == pytest.approx(0.25, abs=0.02)
    assert 0.4 < first.evidence["weights_share"] < 0.8
    assert "0.25 at most" in first.cause


def test_weights_ten_times_too_large_are_a_matter_of_initialisation():
    model = stack(6, nn.ReLU)
    for place in range(0, 12, 2):
        changed(model, place, weight=lambda w: 10 * w)
    [(code, layer), *others] = causes(model)
    assert code == "wrong-initialization"
    assert layer in {str(place) for place in range(0, 12, 2)}
    assert others == []


def test_many_layers_each_a_little_too_strong_explode():
    model = stack(30, nn.ReLU)
    for place in range(0, 60, 2):
        changed(model, place, weight=lambda w: 1.8 * w)
    assert causes(model)[0][0] == "exploding-gradient"


def test_a_bias_that_switches_units_off_is_found_where_it_is():
    model = changed(stack(3, nn.ReLU), 2, bias=lambda b: b - 20)
    assert causes(model)[0] == ("dying-relu", "2")


def test_a_normalisation_that_switches_units_off_is_named_and_not_the_layer_before_it():
    model = nn.Sequential(
        nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4)
    )
    assert causes(changed(model, 3, bias=lambda b: b - 20)) == [("dying-relu", "3")]


def test_where_the_signal_fades_anyway_units_that_are_off_are_no_cause():
    model = stack(24, nn.ReLU, width=8, init=False)
    report = cr.diagnose(model, F.cross_entropy, (X, CLASSES))
    assert max(a.zero_units for a in report.examination.activations) > Limits().dead_units
    assert report.findings[0].code == "vanishing-gradient"
    assert [f.severity for f in report.findings if f.code == "dying-relu"] == [Severity.NOTE]


def test_saturation_is_found_where_it_is():
    model = changed(stack(3, nn.Tanh), 2, bias=lambda b: b + 5)
    assert causes(model)[0] == ("saturated-activation", "2")


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_constant_weights_are_symmetric(value):
    model = stack(2, nn.Tanh)
    for place in (0, 2, 4):
        changed(model, place, weight=lambda w: np.full_like(w, value), bias=np.zeros_like)
    assert causes(model)[0][0] == "symmetric-initialization"


def test_a_last_layer_that_starts_at_zero_is_usual():
    assert causes(changed(stack(2, nn.ReLU), 4, weight=np.zeros_like)) == []


def test_pixels_from_0_to_255_are_unscaled():
    assert causes(stack(2, nn.ReLU), batch=(np.abs(X) * 100, CLASSES))[0] == ("unscaled-input", "0")


def test_a_batch_normalisation_in_front_makes_up_for_unscaled_inputs():
    model = nn.Sequential(nn.BatchNorm1d(20), stack(2, nn.ReLU))
    assert causes(model, batch=(np.abs(X) * 100, CLASSES)) == []


@pytest.mark.parametrize(
    "last, loss, batch",
    [
        (nn.Softmax(-1), F.cross_entropy, (X, CLASSES)),
        (nn.ReLU(), F.cross_entropy, (X, CLASSES)),
        (nn.Softmax(-1), F.nll_loss, (X, CLASSES)),
        (nn.Sigmoid(), F.binary_cross_entropy_with_logits, (X, np.eye(4, dtype=np.float32)[CLASSES])),
        (nn.Sigmoid(), F.mse_loss, (X, 10 * RNG.normal(size=(64, 4)).astype(np.float32))),
    ],
)
def test_a_last_activation_that_does_not_fit_the_loss_is_found(last, loss, batch):
    model = nn.Sequential(*stack(2, nn.ReLU), last)
    assert causes(model, loss, batch)[0] == ("loss-activation-mismatch", "5")


@pytest.mark.parametrize(
    "outputs, loss, batch",
    [
        (1, F.mse_loss, (X, CLASSES.astype(np.float32)[:, None])),
        (1, F.cross_entropy, (X, np.zeros(64, int))),
        (4, F.binary_cross_entropy_with_logits, (X, 3 * np.eye(4, dtype=np.float32)[CLASSES])),
    ],
)
def test_a_loss_of_the_wrong_kind_is_found(outputs, loss, batch):
    assert causes(stack(2, nn.ReLU, outputs=outputs), loss, batch)[0] == ("wrong-loss", "")


@pytest.mark.parametrize("last, found", [(nn.Softmax(-1), True), (nn.Identity(), False)])
def test_squares_of_one_hot_classes_are_suspected_behind_a_softmax_only(last, found):
    model = nn.Sequential(*stack(2, nn.ReLU), last)
    report = cr.diagnose(model, F.mse_loss, (X, np.eye(4, dtype=np.float32)[CLASSES]))
    assert ("wrong-loss" in [finding.code for finding in suspected(report.examination, Limits())]) is found


def test_squares_of_probabilities_of_classes_are_a_proper_score():
    model = nn.Sequential(*stack(2, nn.ReLU), nn.Softmax(-1))
    assert causes(model, lambda o, t: F.mse_loss(o, np.eye(4, dtype=np.float32)[t]), (X, CLASSES)) == []


def test_counts_are_quantities_and_so_is_a_probability():
    counts = np.random.default_rng(0).poisson(1.5, 64)
    assert set(counts) == set(range(counts.max() + 1))
    for targets in (counts, CLASSES > 1):
        column = targets.astype(np.float32)[:, None]
        assert causes(stack(2, nn.ReLU, outputs=1), F.mse_loss, (X, column)) == []


def test_a_comparison_that_broadcasts_is_found():
    loss = lambda output, target: ((output - target) ** 2).mean()
    assert causes(stack(2, nn.ReLU, outputs=1), loss, (X, NUMBERS[:, 0]))[0] == ("wrong-loss", "")


class Forked(nn.Module):
    def __init__(self, detach=False):
        self.a, self.b, self.spare, self.detach = nn.Linear(20, 16), nn.Linear(16, 4), nn.Linear(16, 4), detach

    def forward(self, x):
        h = self.a(x).tanh()
        return self.b(h.detach() if self.detach else h)


def test_a_parameter_that_takes_no_part_is_found():
    assert causes(Forked()) == [("unused-parameter", "spare")]


def test_a_detached_part_is_found_with_what_it_cuts_off():
    report = cr.diagnose(Forked(detach=True), F.cross_entropy, (X, CLASSES))
    first = report.findings[0]
    assert (first.code, first.layer) == ("detached-graph", "a")
    assert "detach() cuts the gradient's path: a runs and cannot learn" in first.cause


class Detach(nn.Module):
    def forward(self, x):
        return x.detach()


def test_of_what_is_cut_off_a_layer_with_weights_is_named_before_its_normalisation():
    model = nn.Sequential(nn.Linear(20, 16), nn.LayerNorm(16), Detach(), nn.Linear(16, 4))
    assert cr.diagnose(model, F.cross_entropy, (X, CLASSES)).findings[0].layers[:2] == ("0", "1")


def test_parameters_that_the_optimizer_does_not_hold_are_told():
    model = stack(2, nn.ReLU)
    assert causes(model, optimizer=cr.optim.SGD(model[0].parameters(), lr=0.1))[0] == ("unused-parameter", "2")


def test_the_first_value_that_is_not_finite_is_traced_to_its_operation_and_line():
    class Logarithm(nn.Module):
        def __init__(self):
            self.a = nn.Linear(20, 4)

        def forward(self, x):
            return np.log(F.relu(self.a(x)))  # here

    report = cr.diagnose(Logarithm(), F.cross_entropy, (X, CLASSES))
    first = report.findings[0]
    assert (first.code, first.evidence["operation"], first.evidence["direction"]) == ("non-finite", "log", "forward")
    path, line = first.evidence["line"].rsplit(":", 1)
    assert "# here" in Path(path).read_text().splitlines()[int(line) - 1]


def test_a_gradient_that_is_not_finite_is_traced_to_the_operation_it_goes_back_through():
    class Root(nn.Module):
        def __init__(self):
            self.a = nn.Linear(20, 4)

        def forward(self, x):
            return np.sqrt(F.relu(self.a(x)))

    first = cr.diagnose(Root(), F.cross_entropy, (X, CLASSES)).findings[0]
    assert (first.code, first.evidence["operation"], first.evidence["direction"]) == ("non-finite", "sqrt", "backward")


@pytest.mark.parametrize(("first", "operation"), [(0, "softmax"), (1, "log")])
def test_infinities_that_a_mask_is_made_of_are_meant_and_those_of_a_logarithm_are_not(first, operation):
    mask = np.where(np.tri(5, k=-1, dtype=bool), 0, -np.inf).astype(np.float32)
    mask[0, :first] = 0  # where there is something for the first row, nothing is wrong with the mask

    class Masked(nn.Module):
        def __init__(self):
            self.embed, self.out = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            x = self.embed(x.reshape(-1, 5, 4))
            weights = F.softmax((x @ x.swapaxes(1, 2) + mask) / 2, dim=-1)
            logits = self.out((weights @ x).mean(1))
            return logits if first == 0 else logits + np.log(F.relu(logits))

    found = cr.diagnose(Masked(), F.cross_entropy, (X, CLASSES)).findings[0]
    assert (found.code, found.evidence["operation"]) == ("non-finite", operation)
    assert ("infinite ones" in found.cause) == (operation == "softmax")


def with_gaps(rows, columns):
    inputs = X.copy()
    inputs[np.ix_(rows, columns)] = np.nan
    return inputs


def test_numbers_missing_in_the_data_are_found_where_the_batch_has_none():
    data = (with_gaps([7, 11, 13], [2, 5]), CLASSES)
    first = cr.diagnose(stack(2, nn.ReLU), F.cross_entropy, (data[0][:5], data[1][:5]), data=data).findings[0]
    assert (first.code, first.evidence["operation"]) == ("non-finite", "input")
    assert f"not finite in 3 of {len(X)} examples, in 2 of 20 features; the first of them is example 7" in first.cause


def test_targets_missing_in_the_data_are_found_unless_the_loss_leaves_them_out():
    targets = np.ones((len(X), 1), np.float32)
    targets[9] = np.nan

    def of_the_known(output, target):
        known = np.isfinite(target)
        return F.mse_loss(output[known], target[known])

    model, batch = nn.Linear(20, 1), (X[:5], targets[:5])
    first = cr.diagnose(model, F.mse_loss, batch, data=(X, targets)).findings[0]
    assert f"The targets are not finite in 1 of {len(X)} examples" in first.cause
    assert "non-finite" not in dict(causes(model, of_the_known, batch, data=(X, targets)))


def test_missing_numbers_that_the_network_fills_in_are_no_fault():
    class Filled(nn.Module):
        def __init__(self):
            self.a = nn.Linear(20, 4)

        def forward(self, x):
            return self.a(np.nan_to_num(x))

    data = (with_gaps([7], [2]), CLASSES)
    assert "non-finite" not in dict(causes(Filled(), F.cross_entropy, (data[0][:5], data[1][:5]), data=data))


def test_a_batch_normalisation_with_scale_zero_is_dead():
    model = nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    model[1].weight.data = np.zeros(16, np.float32)
    assert causes(model)[0] == ("dead-batchnorm", "1")


def test_one_unit_in_the_middle_is_a_bottleneck():
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 1), nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 4))
    assert ("bottleneck", "2") in causes(model)


def test_the_single_unit_is_the_cause_where_it_is_all_that_a_normalisation_has_of_an_example():
    model = nn.Sequential(
        nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 1), nn.LayerNorm(1), nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 4)
    )
    assert causes(model)[0] == ("bottleneck", "2")


@pytest.mark.parametrize(("left", "found"), [(0.3, False), (0.7, True)])
def test_a_single_unit_before_a_single_number_is_a_bottleneck_where_no_copy_learns_the_batch(left, found):
    nn.random.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 1), nn.Tanh(), nn.Linear(1, 1))
    optimizer = cr.optim.SGD(model.parameters(), lr=0.01)
    exam = cr.diagnose(model, F.mse_loss, (X, NUMBERS), optimizer=optimizer).examination
    [trial] = exam.trials
    trial = replace(trial, losses=(trial.level,) * 61, best=0.9 * trial.level, lowest=left * trial.level, learned=left)
    judged = judge(replace(exam, trials=(trial,)), Limits())
    assert (("bottleneck", "2") in [(finding.code, finding.layer) for finding in judged]) == found


def test_what_fades_in_a_single_recurrent_layer_is_not_suspected_of_fading_in_depth():
    class Sequence(nn.Module):
        def __init__(self):
            self.rnn, self.out = nn.LSTM(1, 8, batch_first=True), nn.Linear(8, 4)

        def forward(self, x):
            return self.out(self.rnn(self.first(x) if hasattr(self, "first") else x)[0][:, -1])

    nn.random.manual_seed(0)
    short, deep = Sequence(), Sequence()
    deep.first = nn.Sequential(nn.Linear(1, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 1))
    short.first = nn.Linear(1, 1)
    found = {}
    for name, model in (("short", short), ("deep", deep)):
        exam = cr.diagnose(model, F.cross_entropy, (X[:, :, None], CLASSES)).examination
        limits = Limits(vanishing=0.1, suspecting=True)
        found[name] = [finding.code for finding in signal.vanishing_gradient(exam, limits)]
        assert list(signal.vanishing_gradient(exam, replace(limits, suspecting=False)))
    assert found == {"short": [], "deep": ["vanishing-gradient"]}


@pytest.mark.parametrize(
    ("momentum", "clip", "lr", "found"),
    [(0.9, None, 0.01, ["vanishing-gradient"]), (0.9, 1e-4, 0.01, []), (0.999, None, 0.01, []), (0.9, None, 1e-8, [])],
)
def test_a_batch_that_stays_for_the_steps_sake_does_not_say_that_the_gradient_vanishes(momentum, clip, lr, found):
    model = stack(4, nn.GELU)
    optimizer = cr.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    subject = subject_of(model, F.cross_entropy, (X, CLASSES), optimizer=optimizer, clip_norm=clip)
    exam = replace(examination_of(subject), trials=(on_batch(subject, steps=20),))
    seen = [layer.error_signal for layer in exam.layers]
    limits = Limits(vanishing=0.5 * seen[0] / seen[-1], fading=2 * seen[0] / seen[-1])
    assert [finding.code for finding in signal.vanishing_gradient(exam, limits)] == found
    with_data = replace(exam, trials=(*exam.trials, replace(exam.trials[0], kind="data")))  # an experiment tells then
    assert not [*signal.vanishing_gradient(with_data, limits)]


def test_a_learning_rate_that_moves_nothing_is_found():
    model = stack(2, nn.ReLU)
    assert causes(model, optimizer=cr.optim.SGD(model.parameters(), lr=1e-9))[0][0] == "learning-rate-too-low"


def spoiled(depth, factor):
    model = stack(depth, nn.ReLU)
    for place in range(0, 2 * depth, 2):
        changed(model, place, weight=lambda w: factor * w)
    return model


def test_an_error_signal_grown_fifteenfold_explodes_and_one_grown_fivefold_does_not():
    grown = {n: cr.diagnose(spoiled(10, n), F.cross_entropy, (X, CLASSES)) for n in (1.2, 1.6)}
    codes = {n: [f.code for f in report.findings] for n, report in grown.items()}
    assert "exploding-gradient" not in codes[1.2]
    assert "exploding-gradient" in codes[1.6]


def test_what_large_weights_multiply_explodes_though_the_last_layer_makes_up_for_it():
    exam = cr.diagnose(spoiled(12, 1.3), F.cross_entropy, (X, CLASSES)).examination
    *layers, last = exam.layers
    hidden = replace(exam, layers=(*layers, replace(last, error_signal=layers[0].error_signal / 3)))
    usual = [replace(layer, weight=replace(layer.weight, std=layer.weight.std / 1.3)) for layer in hidden.layers]
    assert judge(hidden, Limits())[0].code == "exploding-gradient"
    assert "exploding-gradient" not in [f.code for f in judge(replace(hidden, layers=tuple(usual)), Limits())]


def test_large_weights_under_which_nothing_is_learned_explode_sooner():
    model = spoiled(12, 1.3)
    optimizer = cr.optim.SGD(model.parameters(), lr=0.01)
    exam = cr.diagnose(model, F.cross_entropy, (X, CLASSES), optimizer=optimizer).examination
    first, *rest = (replace(layer, error_signal=1.0) for layer in exam.layers)
    grown = replace(exam, layers=(replace(first, error_signal=Limits().exploding / 2), *rest))
    trial = next(trial for trial in exam.trials if trial.kind == "same")
    for left, found in ((0.9, True), (0.1, False)):
        made = replace(trial, losses=(1.0,) * 60 + (left,) * 20, longer=None, chance=1.0)
        codes = [f.code for f in judge(replace(grown, trials=(made,)), Limits())]
        assert ("exploding-gradient" in codes) == found


def test_behind_normalisations_the_error_signal_may_grow_ten_times_as_much():
    signals = Limits().exploding, Limits().exploding_normalized
    layers = [nn.Sequential(nn.Linear(20, 20), nn.BatchNorm1d(20), nn.ReLU()) for _ in range(12)]
    exam = cr.diagnose(nn.Sequential(*layers, nn.Linear(20, 4)), F.cross_entropy, (X, CLASSES)).examination
    first, *rest = exam.layers
    grown = replace(exam, layers=(replace(first, error_signal=3 * signals[0] * rest[-1].error_signal), *rest))
    assert "exploding-gradient" not in [f.code for f in judge(grown, Limits())]
    bare = replace(grown, layers=tuple(replace(layer, normalization=None) for layer in grown.layers))
    assert "exploding-gradient" in [f.code for f in judge(bare, Limits())]


def test_weights_that_training_made_large_are_not_called_wrongly_initialised():
    model = spoiled(3, 8)
    assert causes(model)[0][0] == "wrong-initialization"
    for place in (0, 2, 4, 6):
        changed(model, place, bias=lambda b: b - 20)
    assert "wrong-initialization" not in [code for code, _ in causes(model)]


class Shared(nn.Module):
    """One layer twice; its units are all off in the second run."""

    def __init__(self):
        self.first, self.again, self.out = nn.Linear(20, 32), nn.Linear(32, 32), nn.Linear(32, 4)
        self.again.weight.data = np.abs(self.again.weight.detach().numpy())

    def forward(self, x):
        h = F.relu(self.again(F.relu(self.first(x))))
        return self.out(F.relu(self.again(h - 20)))


def test_a_unit_that_is_on_in_one_of_a_layers_runs_is_not_dead():
    nn.random.manual_seed(0)
    exam = cr.diagnose(Shared(), F.cross_entropy, (X, CLASSES)).examination
    _first, once, again = exam.activations
    assert (once.output.zeros < 0.5, again.output.zeros) == (True, 1.0)
    assert again.zero_units == once.zero_units < 0.5


# Through time -------------------------------------------------------------------------------------------------------

SEQUENCES = RNG.normal(size=(16, 12, 5)).astype(np.float32)


class Recurrent(nn.Module):
    def __init__(self, gain):
        nn.random.manual_seed(0)
        self.rnn, self.out = nn.RNN(5, 16, batch_first=True, nonlinearity="relu"), nn.Linear(16, 4)
        if gain is not None:
            q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))
            self.rnn.weight_hh_l0.data = (gain * q).astype(np.float32)
            self.rnn.weight_ih_l0.data = self.rnn.weight_ih_l0.detach().numpy() / 10

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


@pytest.mark.parametrize("gain, code", [(0.2, "bptt-vanishing"), (2.0, "bptt-exploding"), (1.0, None), (None, None)])
def test_the_factor_per_time_step_decides_whether_a_recurrence_vanishes_or_explodes(gain, code):
    found = causes(Recurrent(gain), batch=(SEQUENCES, CLASSES[:16]))
    assert found == ([] if code is None else [(code, "rnn")])


# The loss and the data ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "radius", "found"), [(8.0, 5.0, True), (8.0, 1.2, False), (2.0, 5.0, False)])
def test_growth_over_a_few_steps_is_told_where_the_recurrent_weights_are_far_too_large(norm, radius, found):
    exam = cr.diagnose(stack(1, nn.ReLU), F.cross_entropy, (X, CLASSES)).examination
    time = ThroughTime("rnn", "lstm", (norm, *[1.0] * 7), (), norm ** (1 / 7), radius)
    assert any(f.code == "bptt-exploding" for f in judge(replace(exam, time=(time,)), Limits())) == found


@pytest.mark.parametrize(
    "loss, outputs, targets",
    [
        (lambda output, target: output[np.arange(64), target].mean() - output.mean(), 4, CLASSES),
        (lambda output, target: -((output - target) ** 2).mean(), 1, NUMBERS),
    ],
)
def test_a_loss_that_pushes_the_output_away_from_the_targets_has_the_wrong_sign(loss, outputs, targets):
    report = cr.diagnose(stack(2, nn.ReLU, outputs=outputs), loss, (X, targets), thorough=True)
    assert report.findings[0].code == "wrong-loss"
    assert "its sign is wrong" in report.findings[0].cause


def groups(shuffled):
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, 400)
    inputs = (3 * np.eye(4)[labels] @ rng.normal(size=(4, 20)) + rng.normal(size=(400, 20))).astype(np.float32)
    return inputs, rng.permutation(labels) if shuffled else labels


@pytest.mark.parametrize("shuffled", [False, True])
def test_labels_that_have_nothing_to_do_with_the_inputs_are_found(shuffled):
    x, y = groups(shuffled)
    model = stack(2, nn.ReLU)
    optimizer = cr.optim.Adam(model.parameters(), lr=0.01)
    found = causes(model, batch=(x[:64], y[:64]), data=(x, y), optimizer=optimizer, thorough=True)
    assert found[:1] == ([("shuffled-labels", "")] if shuffled else [])


def test_labels_that_near_examples_share_are_not_called_shuffled_whatever_a_network_makes_of_them():
    x, y = groups(shuffled=True)
    report = cr.diagnose(stack(2, nn.ReLU), F.cross_entropy, (x[:64], y[:64]), data=(x, y), thorough=True)
    exam = report.examination
    assert [f.code for f in judge(exam, Limits())] == ["shuffled-labels"]
    assert judge(replace(exam, relation=replace(exam.relation, neighbours=5.0)), Limits()) == ()


def test_near_examples_have_like_targets_unless_these_are_shuffled():
    for shuffled in (False, True):
        x, y = groups(shuffled)
        seen = relation(subject_of(stack(1, nn.ReLU), F.cross_entropy, (x[:8], y[:8]), data=(x, y)))
        assert (seen.neighbours > 20 and seen.features > 20) != shuffled
        assert (abs(seen.neighbours) < 4 and abs(seen.features) < 4) == shuffled


def test_the_row_that_the_targets_are_off_by_is_noticed_even_where_some_are_right():
    x, y = groups(shuffled=False)
    rows = np.arange(len(y))
    for place in (0, len(y) // 4):
        lost = y[np.where(rows < place, rows, (rows + 1) % len(y))]
        model = stack(1, nn.ReLU)
        report = cr.diagnose(model, F.cross_entropy, (x[:64], lost[:64]), data=(x, lost), thorough=True)
        assert report.findings[0].code == "shuffled-labels"
        assert report.examination.relation.shifted > 20


def test_targets_of_many_columns_are_looked_at_too():
    x, y = groups(shuffled=False)
    wide = np.eye(4, dtype=np.float32)[y] @ np.random.default_rng(0).normal(size=(4, 300)).astype(np.float32)
    for order in (slice(None), np.random.default_rng(1).permutation(len(y))):
        seen = relation(subject_of(stack(1, nn.ReLU, outputs=300), F.mse_loss, (x, wide), data=(x, wide[order])))
        assert (seen.neighbours > 20) == isinstance(order, slice)


def test_features_that_are_nearly_copies_of_each_other_are_ill_conditioned():
    common = RNG.normal(size=(64, 1))
    x = (common + 0.05 * RNG.normal(size=(64, 20))).astype(np.float32)
    report = cr.diagnose(stack(2, nn.ReLU), F.cross_entropy, (x, CLASSES))
    first = report.findings[0]
    assert first.code == "ill-conditioned"
    values = np.linalg.eigvalsh(np.corrcoef(x.astype(np.float64).T))
    assert first.evidence["common"] == pytest.approx(values[-1] / values.sum(), rel=1e-4)


def test_two_examples_tell_nothing_of_features_but_a_batch_normalisation_over_them_is_dead():
    x = np.float32([[0.001, 1], [0.0011, 900]])[:, np.arange(20) % 2]
    model = nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    codes = [code for code, _ in causes(model, batch=(x / 500, CLASSES[:2]))]
    assert codes[0] == "dead-batchnorm"
    assert "unscaled-input" not in codes


def test_running_statistics_that_never_follow_are_told():
    model = nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    assert causes(model) == []
    model[1].momentum = 0.0
    assert causes(model)[0] == ("dead-batchnorm", "1")


# Gradients that do not arrive, values that are not finite -----------------------------------------------------------


class Chooses(nn.Module):
    """`a` matters, but by a choice that has no derivative; `unread` is computed and thrown away."""

    def __init__(self):
        self.a, self.unread, self.table = nn.Linear(20, 16), nn.Linear(20, 16), nn.Embedding(16, 4)

    def forward(self, x):
        self.unread(x)
        return self.table(np.argmax(self.a(x).detach().numpy(), axis=1))


def test_what_matters_without_a_gradient_is_cut_off_and_what_does_not_matter_is_unused():
    found = dict(causes(Chooses()))
    assert found == {"detached-graph": "a", "unused-parameter": "unread"}


class First(nn.Module):
    def forward(self, x):
        return np.log(x)


def test_what_is_not_finite_before_anything_is_recorded_is_traced_to_its_module():
    x = np.abs(X)
    x[0, 0] = 0
    first = cr.diagnose(nn.Sequential(First(), nn.Linear(20, 4)), F.cross_entropy, (x, CLASSES)).findings[0]
    assert (first.code, first.layer) == ("non-finite", "0")


@pytest.mark.parametrize(("steps", "found"), [(100, []), (100_000, ["learning-rate-too-low"])])
def test_a_rate_that_a_schedule_is_about_to_raise_is_not_too_low_unless_that_takes_too_long(steps, found):
    model = stack(2, nn.ReLU)
    optimizer = cr.optim.SGD(model.parameters(), lr=1e-3)
    cr.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / steps)
    report = cr.diagnose(model, F.cross_entropy, (X, CLASSES), optimizer=optimizer, thorough=True)
    assert [f.code for f in report.findings if not f.follows_from] == found


# Steps --------------------------------------------------------------------------------------------------------------


def trained(lr, optimizer=cr.optim.SGD, **options):
    model = stack(2, nn.ReLU)
    given = optimizer(model.parameters(), lr=lr, **options)
    return cr.diagnose(model, F.cross_entropy, (X, CLASSES), optimizer=given, thorough=True)


def test_a_first_step_several_times_as_long_as_the_weights_is_too_long():
    first = trained(3.0, cr.optim.Adam).findings[0]
    assert first.code == "learning-rate-too-high"
    assert first.evidence["longest_first_step"] > Limits().update_leap


def test_a_first_step_that_throws_the_weights_far_is_put_to_the_test_where_the_loss_falls_again():
    exam = trained(0.1, momentum=0.9).examination
    assert judge(exam, Limits()) == ()
    far = tuple(replace(t, update_ratios=(4.0, 0.01)) if t.kind == "same" else t for t in exam.trials)
    assert judge(replace(exam, trials=far), Limits()) == ()
    assert "learning-rate-too-high" in [f.code for f in suspected(replace(exam, trials=far), Limits())]
    quick = tuple(replace(t, best=None, longer=None) for t in far)  # nothing is put to the test
    assert [f.code for f in judge(replace(exam, trials=quick), Limits())] == ["learning-rate-too-high"]


def test_steps_that_are_long_because_inputs_are_tiny_are_none_too_long():
    nn.random.manual_seed(0)
    model = nn.Linear(20, 4)
    small, classes = 0.1 * X, (X @ RNG.normal(size=(20, 4))).argmax(1)
    optimizer = cr.optim.SGD(model.parameters(), lr=300.0)
    report = cr.diagnose(model, F.cross_entropy, (small, classes), optimizer=optimizer, thorough=True)
    assert report.examination.trials[0].update_ratios[0] > 3 * Limits().update_leap
    assert report.healthy, report.findings


def test_momentum_that_takes_hundreds_of_steps_to_settle_oscillates():
    assert [f.code for f in trained(0.05, momentum=0.9).findings] == []
    first = trained(0.05, momentum=0.999).findings[0]
    assert (first.code, first.evidence["momentum"]) == ("oscillating-loss", 0.999)
    assert "1386 steps" in first.cause or "1385 steps" in first.cause


def test_a_weight_decay_stronger_than_the_gradient_keeps_the_batch_from_being_learned():
    first = trained(0.1, momentum=0.9, weight_decay=0.5).findings[0]
    assert first.code == "cannot-overfit-batch"
    assert "weight decay of 0.5" in first.cause


# Order --------------------------------------------------------------------------------------------------------------


def finding(code, severity=Severity.SEVERE):
    return Finding(code, "", severity, {}, "")


def test_effects_stand_behind_their_cause_and_say_so():
    given = [finding("slow-convergence"), finding("vanishing-gradient", Severity.WARNING)]
    first, second = ordered(given)
    assert (first.code, first.follows_from) == ("vanishing-gradient", "")
    assert (second.code, second.follows_from) == ("slow-convergence", "vanishing-gradient")


def test_no_two_faults_bring_each_other_about():
    assert EFFECTS.keys() <= CODES.keys()
    assert not [(a, b) for a, effects in EFFECTS.items() for b in effects if a in EFFECTS.get(b, ())]


def test_a_recurrence_that_explodes_is_why_the_gradient_of_its_layer_does_and_no_others():
    in_time, there, elsewhere = (
        Finding(code, layer, Severity.SEVERE, {}, "", (layer,))
        for code, layer in (("bptt-exploding", "rnn"), ("exploding-gradient", "rnn"), ("exploding-gradient", "body"))
    )
    assert [f.code for f in ordered([there, in_time])] == ["bptt-exploding", "exploding-gradient"]
    assert [f.follows_from for f in ordered([elsewhere, in_time])] == ["", ""]


@pytest.mark.parametrize(("off", "first"), [(1.0, "dying-relu"), (0.9, "exploding-gradient")])
def test_what_explodes_behind_a_layer_that_is_all_off_is_no_cause(off, first):
    exploding = Finding("exploding-gradient", "", Severity.SEVERE, {}, "", ())
    dying = Finding("dying-relu", "", Severity.SEVERE, {"zero_units": off}, "", ())
    assert ordered([exploding, dying])[0].code == first


@pytest.mark.parametrize("code", ["bottleneck", "ill-conditioned"])
def test_steps_are_too_long_for_what_makes_the_loss_curve_where_they_will_do_without_it(code):
    steps = finding("learning-rate-too-high")
    seen, proved = finding(code, Severity.WARNING), replace(finding(code, Severity.WARNING), evidence={"treated": 1.0})
    assert [f.follows_from for f in ordered([seen, steps])] == ["", ""]
    assert [f.code for f in ordered([steps, proved]) if not f.follows_from] == [code]
    both = replace(steps, evidence={"treated": 1.0})
    assert [f.follows_from for f in ordered([proved, both])] == ["", ""]


def test_shuffled_labels_are_a_last_resort():
    for code in CODES.keys() - {"shuffled-labels", "slow-convergence", "cannot-overfit-batch", "oscillating-loss"}:
        cause, effect = ordered([finding("shuffled-labels"), finding(code)])
        assert (cause.code, effect.follows_from) == (code, code)


def test_many_dead_units_are_a_cause_of_their_own_and_some_only_follow():
    dead, fades = finding("dying-relu"), finding("vanishing-gradient", Severity.WARNING)
    assert [f.code for f in ordered([dead, fades]) if not f.follows_from] == ["dying-relu"]
    some = finding("dying-relu", Severity.NOTE)
    assert [f.follows_from for f in ordered([some, fades])] == ["", ""]
    large = replace(finding("wrong-initialization"), evidence={"scale": 9.0})
    assert [f.follows_from for f in ordered([large, dead])] == ["", "dying-relu"]
    small = replace(large, evidence={"scale": 0.01})
    assert [f.follows_from for f in ordered([small, dead])] == ["", "wrong-initialization"]


# What is usual, though it looks odd ---------------------------------------------------------------------------------


class Branch(nn.Module):
    def __init__(self):
        self.a, self.norm = nn.Linear(32, 32), nn.BatchNorm1d(32)
        self.norm.weight.data = np.zeros(32, np.float32)

    def forward(self, x):
        return x + self.norm(self.a(x).relu())


def test_a_residual_branch_may_start_with_scale_zero():
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), *[Branch() for _ in range(4)], nn.Linear(32, 4))
    assert causes(model, optimizer=cr.optim.SGD(model.parameters(), lr=0.1)) == []


def test_a_loss_that_does_not_use_the_targets_is_found():
    loss = lambda output, target: (output**2).mean()
    assert causes(stack(2, nn.ReLU), loss)[0] == ("wrong-loss", "")


def test_copies_are_found_though_dropout_gives_them_different_gradients():
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4))
    for place in (0, 3, 5):
        changed(model, place, weight=lambda w: 0 * w + 0.1, bias=lambda b: 0 * b)
    code, layer = causes(model)[0]
    assert (code, layer) in {("symmetric-initialization", "0"), ("symmetric-initialization", "3")}


def test_orthogonal_weights_into_a_wider_layer_are_no_wrong_initialisation():
    model = nn.Sequential(nn.Linear(1, 128), nn.Tanh(), nn.Linear(128, 1))
    nn.init.orthogonal_(model[0].weight)
    assert float(np.std(model[0].weight.detach().numpy())) < 0.12
    assert causes(model, F.mse_loss, (X[:, :1], NUMBERS)) == []
    changed(model, 0, weight=lambda w: 0.01 * w)
    assert causes(model, F.mse_loss, (X[:, :1], NUMBERS))[0] == ("wrong-initialization", "0")


def test_class_numbers_as_quantities_are_found_though_the_batch_has_not_every_class():
    def distance(output, target):
        return ((output - target.reshape(-1, 1)) ** 2).mean()

    rare = np.random.default_rng(0).choice([0, 3, 7, 20], 64)
    assert causes(stack(2, nn.ReLU, outputs=28), distance, (X, rare))[0] == ("wrong-loss", "")


def test_a_rare_feature_and_a_mostly_empty_input_are_not_unscaled():
    sparse = np.zeros((64, 4000), np.float32)
    sparse[np.arange(64), RNG.integers(0, 4000, 64)] = 1
    model = nn.Sequential(nn.Linear(4000, 16), nn.ReLU(), nn.Linear(16, 4))
    assert causes(model, batch=(sparse, CLASSES)) == []
    pixels = X.copy()
    pixels[:, 0] = 0
    pixels[5, 0] = 1 / 255
    assert causes(stack(2, nn.ReLU), batch=(pixels, CLASSES)) == []
    assert causes(stack(2, nn.ReLU), batch=(1e-3 * X, CLASSES))[0][0] == "unscaled-input"


class Pooled(nn.Module):
    """The steps of a sequence weighted by one score each."""

    def __init__(self):
        self.embed, self.score, self.out = nn.Linear(5, 16), nn.Linear(16, 1), nn.Linear(16, 4)

    def forward(self, x):
        x = F.relu(self.embed(x.reshape(-1, 4, 5)))
        return self.out((F.softmax(self.score(x), 1) * x).sum(1))


def test_one_score_per_step_is_no_bottleneck_and_neither_is_that_of_an_autoencoder():
    assert causes(Pooled()) == []
    narrow = nn.Sequential(
        nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 2), nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 20)
    )
    assert causes(narrow, F.mse_loss, (X, X)) == []
    assert causes(narrow, F.mse_loss, (X, RNG.normal(size=(64, 24))[:, :20].astype(np.float32))) == []


def test_features_that_the_optimizer_leaves_as_they_are_are_a_note():
    model = stack(2, nn.ReLU)
    report = cr.diagnose(model, F.cross_entropy, (X, CLASSES), optimizer=cr.optim.SGD(model[4].parameters(), lr=0.1))
    assert [(f.code, f.severity) for f in report.findings] == [("unused-parameter", Severity.NOTE)]


@pytest.mark.parametrize("kind, gate, value", [("LSTM", 0, -10), ("LSTM", 3, -10), ("GRU", 1, 10)])
def test_a_gate_that_is_shut_is_a_saturated_activation(kind, gate, value):
    class Reader(nn.Module):
        def __init__(self):
            self.rnn, self.out = getattr(nn, kind)(5, 16, 2, batch_first=True), nn.Linear(16, 4)

        def forward(self, x):
            return self.out(self.rnn(x.reshape(-1, 4, 5))[0][:, -1])

    nn.random.manual_seed(0)
    model = Reader()
    assert causes(model) == []
    bias = model.rnn.bias_ih_l1.detach().numpy().copy()
    bias[16 * gate : 16 * (gate + 1)] = value
    model.rnn.bias_ih_l1.data = bias
    assert causes(model)[0] == ("saturated-activation", "rnn")


def test_input_weights_too_large_are_a_matter_of_initialisation_and_recurrent_ones_alone_explode():
    class Reader(nn.Module):
        def __init__(self):
            self.rnn = nn.RNN(2, 32, batch_first=True, nonlinearity="relu")
            self.out = nn.Linear(32, 4)

        def forward(self, x):
            return self.out(self.rnn(x.reshape(-1, 10, 2))[0][:, -1])

    nn.random.manual_seed(0)
    model = Reader()
    model.rnn.weight_hh_l0.data = 8 * model.rnn.weight_hh_l0.detach().numpy()
    assert causes(model)[0] == ("bptt-exploding", "rnn")
    model.rnn.weight_ih_l0.data = 60 * model.rnn.weight_ih_l0.detach().numpy()
    assert causes(model)[0] == ("wrong-initialization", "rnn")


# What a network has learned already ---------------------------------------------------------------------------------


def test_what_keeps_a_network_from_learning_is_a_note_where_it_has_learned():
    model = stack(2, nn.ReLU)
    optimizer = cr.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(model(X), CLASSES).backward()
        optimizer.step()
    changed(model, 0, weight=lambda w: 20 * w, bias=lambda b: 20 * b)
    changed(model, 2, weight=lambda w: w / 20)
    report = cr.diagnose(model, F.cross_entropy, (X, CLASSES))
    assert report.examination.loss.value < 0.1 * report.examination.loss.dealt
    assert [(f.code, f.severity) for f in report.findings] == [("wrong-initialization", Severity.NOTE)]
    changed(model, 4, weight=lambda w: np.random.default_rng(0).permutation(w))
    assert causes(model)[0][0] == "wrong-initialization"


def test_large_answers_that_fit_the_targets_by_chance_are_none_that_were_learned():
    targets = X @ RNG.normal(size=(20, 1)).astype(np.float32)
    exam = cr.diagnose(stack(1, nn.ReLU, outputs=1), F.mse_loss, (X, targets)).examination
    variance = float(targets.var())
    for share, known in ((0.5, True), (1.1, False)):
        loss = replace(exam.loss, value=share * variance, dealt=3 * variance, dealt_spread=0.1 * variance)
        assert knows_its_batch(replace(exam, loss=loss), Limits()) == known


def test_a_layer_of_constant_weights_was_not_trained_whatever_the_answers():
    model = changed(stack(2, nn.ReLU), 2, weight=lambda w: 0 * w + 0.1, bias=lambda b: 0 * b)
    exam = cr.diagnose(model, F.cross_entropy, (X, CLASSES)).examination
    layers = [replace(layer, twins=0.9 if layer.path == "2" else layer.twins) for layer in exam.layers]
    exam = replace(exam, layers=tuple(layers), loss=replace(exam.loss, value=0.1, dealt=2.0, dealt_spread=0.1))
    assert knows_its_batch(exam, Limits())
    assert [f.severity for f in judge(exam, Limits()) if f.code == "symmetric-initialization"] == [Severity.SEVERE]


def test_inputs_that_are_all_0_are_told_as_such_and_not_by_what_they_do_to_units():
    model = nn.Sequential(nn.Linear(20, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4))
    for module in (model[0], model[1]):
        module.bias.data = np.zeros(32, np.float32)
    assert causes(model, batch=(0 * X, CLASSES)) == [("cannot-overfit-batch", "")]


def test_matrices_of_a_recurrent_layer_are_judged_one_by_one():
    class Reader(nn.Module):
        def __init__(self):
            self.rnn, self.out = nn.LSTM(100, 8, batch_first=True), nn.Linear(8, 4)

        def forward(self, x):
            return self.out(self.rnn(x)[0][:, -1])

    nn.random.manual_seed(0)
    model = Reader()
    x = RNG.normal(size=(32, 4, 100)).astype(np.float32)
    assert causes(model, batch=(x, CLASSES[:32])) == []
    model.rnn.weight_ih_l0.data = RNG.normal(size=(32, 100)).astype(np.float32)
    assert causes(model, batch=(x, CLASSES[:32]))[0] == ("wrong-initialization", "rnn")


class Sines(nn.Module):
    """A network of Sitzmann et al. 2020, without the factor where `factor` is 1."""

    def __init__(self, factor):
        self.factor, self.a, self.b, self.out = factor, nn.Linear(20, 32), nn.Linear(32, 32), nn.Linear(32, 1)
        self.b.weight.data = RNG.uniform(-1, 1, (32, 32)).astype(np.float32) * np.float32((6 / 32) ** 0.5 / 30)

    def forward(self, x):
        return self.out(cr.numpy.sin(self.factor * self.b(F.relu(self.a(x)))))


def test_small_weights_are_right_where_a_factor_makes_up_for_them():
    nn.random.manual_seed(0)
    assert causes(Sines(30.0), F.mse_loss, (X, NUMBERS)) == []
    nn.random.manual_seed(0)
    model = Sines(1.0)
    model.b.bias.data = np.zeros(32, np.float32)
    assert causes(model, F.mse_loss, (X, NUMBERS))[0] == ("wrong-initialization", "b")


class Tied(nn.Module):
    """An embedding whose weights make the answers as well."""

    def __init__(self):
        self.embed, self.hidden = nn.Embedding(30, 16), nn.Linear(16, 16)
        nn.init.normal_(self.embed.weight, 0, 0.02)

    def forward(self, x):
        return F.tanh(self.hidden(self.embed(x))) @ self.embed.weight.T


def test_an_embedding_that_makes_the_answers_too_is_a_first_layer_and_a_last_one():
    words = RNG.integers(0, 30, 64)
    report = cr.diagnose(Tied(), F.cross_entropy, (words, (words + 1) % 30))
    assert report.healthy
    assert [layer.kind for layer in report.examination.layers] == ["embedding", "linear", "product"]


def test_what_a_loss_is_written_with_is_no_activation_of_the_network():
    def quantile(output, target):
        return (0.9 * F.relu(target - output) + 0.1 * F.relu(output - target)).mean()

    model = stack(2, nn.Tanh, outputs=1)
    batch = (X, 0 * NUMBERS + 30)  # one of the two is 0 throughout
    assert causes(model, quantile, batch) == []
    assert {a.name for a in cr.diagnose(model, quantile, batch).examination.activations} == {"tanh"}


def test_what_tells_no_example_apart_is_found_though_the_loss_falls_far_from_where_it_started():
    model = changed(stack(2, nn.ReLU, outputs=1), 4, bias=lambda b: b + 8)
    alike = np.repeat(X[:1], 64, axis=0)  # only the mean can be learned
    optimizer = cr.optim.Adam(model.parameters(), lr=0.05)
    report = cr.diagnose(model, F.mse_loss, (alike, NUMBERS), optimizer=optimizer, thorough=True)
    trial = report.examination.trials[0]
    assert min(trial.best, trial.lowest) < 0.1 * trial.level
    assert "cannot-overfit-batch" in [finding.code for finding in report.findings]


def test_absolute_errors_of_targets_out_of_reach_do_use_the_targets():
    assert causes(stack(2, nn.ReLU, outputs=1), F.l1_loss, (X, 0.1 * NUMBERS + 5)) == []


def test_a_small_batch_of_one_class_says_nothing_of_the_loss():
    assert causes(stack(2, nn.ReLU), batch=(X[:16], 0 * CLASSES[:16])) == []


def test_small_weights_before_a_normalisation_are_no_explosion():
    nn.random.manual_seed(0)
    layers = [nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU()]
    model = changed(nn.Sequential(*layers, nn.Linear(32, 4)), 0, weight=lambda w: w / 1000)
    report = cr.diagnose(model, F.cross_entropy, (X, CLASSES))
    first, *_, last = report.examination.layers
    assert first.error_signal > 150 * last.error_signal
    assert report.healthy


# Gradients that never come ------------------------------------------------------------------------------------------


class Formed(nn.Module):
    """Two layers, a third one beside them, and what is made of them."""

    def __init__(self, form):
        super().__init__()
        nn.random.manual_seed(0)
        self.first, self.beside, self.last = nn.Linear(20, 16), nn.Linear(20, 16), nn.Linear(16, 4)
        self.form = form

    def forward(self, x):
        return self.last(self.form(F.relu(self.first(x)), F.relu(self.beside(x))))


@pytest.mark.parametrize("form", [lambda h, g: h + 0.0 * g, lambda h, g: h + np.zeros((1, 16), np.float32) * g])
def test_what_is_multiplied_by_zero_is_unused(form):
    assert causes(Formed(form)) == [("unused-parameter", "beside")]


@pytest.mark.parametrize("step", [cr.numpy.round, cr.numpy.floor, cr.numpy.sign])
def test_what_is_flat_everywhere_cuts_the_graph(step):
    [(code, layer)] = causes(Formed(lambda h, g: step(3 * h) + g))
    assert (code, layer) == ("detached-graph", "first")


def test_a_branch_that_is_left_out_by_chance_is_not_unused():
    draws = np.random.default_rng(0)
    draws.uniform()
    assert causes(Formed(lambda h, g: h + g if draws.uniform() < 0.6 else h)) == []


def test_what_waits_behind_a_last_layer_of_zeros_is_not_unused():
    assert causes(changed(stack(2, nn.SiLU), 4, weight=lambda w: 0 * w)) == []


def test_units_that_are_off_whatever_the_weights_are_dead_and_not_cut_off():
    codes = [code for code, _ in causes(Formed(lambda h, g: F.relu(h - 50) + 0.1 * g))]
    assert "detached-graph" not in codes
    assert "unused-parameter" not in codes


def test_a_group_without_a_learning_rate_is_not_moved():
    model = stack(2, nn.Tanh)
    groups = [{"params": [*model[0].parameters(), *model[4].parameters()]}, {"params": [*model[2].parameters()]}]
    groups[1]["lr"] = 0.0
    assert causes(model, optimizer=cr.optim.Adam(groups, lr=1e-3)) == [("unused-parameter", "2")]


def test_a_layer_that_was_exchanged_after_the_optimizer_was_made_is_not_moved():
    model = stack(2, nn.Tanh)
    optimizer = cr.optim.Adam(model.parameters())
    model[0] = nn.Linear(20, 32)
    report = cr.diagnose(model, F.cross_entropy, (X, CLASSES), optimizer=optimizer)
    assert [(f.code, f.layer, f.severity) for f in report.findings] == [("unused-parameter", "0", Severity.WARNING)]
    assert "took its place" in report.findings[0].cause


# First values and normalisations ------------------------------------------------------------------------------------


def test_weights_of_one_sign_add_up():
    model = stack(2, nn.ReLU)
    for place in (0, 2, 4):
        changed(model, place, weight=lambda w: RNG.uniform(0, 1, w.shape))
    [(code, _), *_] = causes(model, batch=(abs(X), CLASSES))
    assert code == "wrong-initialization"


@pytest.mark.parametrize(("std", "found"), [(1.0, []), (20.0, [("wrong-initialization", "0")])])
def test_vectors_that_are_looked_up_may_be_too_large(std, found):
    nn.random.manual_seed(0)
    model = nn.Sequential(nn.Embedding(50, 8), nn.Flatten(), nn.Linear(40, 4))
    nn.init.normal_(model[0].weight, 0.0, std)
    assert causes(model, batch=(RNG.integers(0, 50, (64, 5)), CLASSES)) == found


def passing_through(normalization):
    nn.random.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 32), normalization, nn.ReLU(), nn.Linear(32, 4))


@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.BatchNorm1d, nn.RMSNorm])
def test_any_normalisation_with_a_scale_next_to_nothing_passes_nothing_on(kind):
    model = passing_through(kind(32))
    nn.init.constant_(model[1].weight, 1e-4)
    assert causes(model)[0] == ("dead-batchnorm", "1")


def test_a_normalisation_that_adds_far_more_than_the_variance_passes_nothing_on():
    assert causes(passing_through(nn.BatchNorm1d(32, eps=100.0)))[0] == ("dead-batchnorm", "1")
    assert causes(passing_through(nn.BatchNorm1d(32, eps=1e-3))) == []


def test_all_sick_normalisations_are_named():
    model = nn.Sequential(
        nn.Linear(20, 16), nn.BatchNorm1d(16, momentum=0.0), nn.ReLU(), nn.Linear(16, 16),
        nn.BatchNorm1d(16, momentum=0.0), nn.ReLU(), nn.Linear(16, 4),
    )  # fmt: skip
    report = cr.diagnose(model, F.cross_entropy, (X, CLASSES))
    assert [f.layers for f in report.findings] == [("1", "4")]


def residual(std):
    nn.random.manual_seed(0)
    model = nn.MLP(20, 32, 4, depth=4, residual=True, norm="layer")
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and std(name) is not None:
            nn.init.normal_(parameter, 0.0, std(name))
    return model


def test_branches_may_start_small_but_not_the_whole_network():
    names = [name for name, p in residual(lambda name: None).named_parameters() if p.ndim > 1]
    assert causes(residual(lambda name: 1e-4 if name in names[2:3] else None)) == []
    assert causes(residual(lambda name: 1e-4))[0][0] == "wrong-initialization"


def test_states_that_a_recurrence_drives_to_their_ends_are_its_effect():
    nn.random.manual_seed(0)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.read, self.recur, self.out = nn.Linear(5, 24), nn.Linear(24, 24), nn.Linear(24, 4)
            nn.init.orthogonal_(self.recur.weight, 8.0)

        def forward(self, x):
            h = cr.numpy.tanh(self.read(x[:, 0]))
            for step in range(1, 12):
                h = cr.numpy.tanh(self.recur(h) + self.read(x[:, step]))
            return self.out(h)

    x = RNG.normal(size=(64, 12, 5)).astype(np.float32)
    report = cr.diagnose(Network(), F.cross_entropy, (x, CLASSES), optimizer=None)
    assert (report.findings[0].code, report.findings[0].layer) == ("bptt-exploding", "recur")
    assert {f.follows_from for f in report.findings if f.code == "saturated-activation"} <= {"bptt-exploding"}


class BagOfWords(nn.Module):
    """The mean of the vectors of the words that occur, or their sum."""

    def __init__(self, mean):
        super().__init__()
        self.mean = mean
        self.vectors, self.out = nn.Linear(400, 24, bias=False), nn.Linear(24, 4)
        nn.init.normal_(self.vectors.weight)

    def forward(self, counts):
        vectors = self.vectors(counts)
        return self.out(F.tanh(vectors / counts.sum(1, keepdims=True) if self.mean else vectors))


@pytest.mark.parametrize(("mean", "found"), [(True, []), (False, [("wrong-initialization", "vectors")])])
def test_large_weights_of_a_first_layer_are_right_where_a_few_words_are_counted_and_their_mean_taken(mean, found):
    nn.random.manual_seed(0)
    counts = np.random.default_rng(0).multinomial(20, np.full(400, 1 / 400), 64).astype(np.float32)
    assert causes(BagOfWords(mean), batch=(counts, CLASSES)) == found


class Scaled(nn.Module):
    """Weights of variance 1, and a factor behind each layer that divides by the root of its fan-in; or not."""

    def __init__(self, divides):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(20, 64), nn.Linear(64, 64), nn.Linear(64, 4)
        self.divides = divides
        for layer in (self.first, self.second, self.out):
            nn.init.normal_(layer.weight)

    def forward(self, x):
        for layer in (self.first, self.second):
            x = F.relu(layer(x) * (2 / layer.in_features) ** 0.5 if self.divides else layer(x))
        return self.out(x) / 8 if self.divides else self.out(x)


@pytest.mark.parametrize(("divides", "found"), [(True, []), (False, [("wrong-initialization", "out")])])
def test_large_weights_are_right_where_what_they_make_is_divided_by_as_much(divides, found):
    nn.random.manual_seed(0)
    assert causes(Scaled(divides)) == found


def test_a_batch_without_the_rare_class_tells_nothing_of_what_was_learned():
    nn.random.manual_seed(0)
    model = nn.Linear(20, 1)
    optimizer = cr.optim.SGD(model.parameters(), lr=0.5)
    batch = X, np.zeros((64, 1), np.float32)
    report = cr.diagnose(model, F.binary_cross_entropy_with_logits, batch, optimizer=optimizer, thorough=True)
    assert report.examination.trials[0].learned is None
    assert report.healthy, report.findings


def test_a_line_through_noise_need_not_fit_its_batch_but_a_network_of_many_parameters_must():
    nn.random.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = cr.optim.Adam(model.parameters(), lr=0.01)
    exam = cr.diagnose(model, F.mse_loss, (X[:, :4], NUMBERS), optimizer=optimizer, thorough=True).examination
    assert judge(exam, Limits()) == ()
    many = (replace(exam.parameters[0], shape=(1, 2000)), *exam.parameters[1:])
    assert [f.code for f in judge(replace(exam, parameters=many), Limits())] == ["cannot-overfit-batch"]


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 8, batch_first=True, bidirectional=True)
        self.out = nn.Linear(16, 4)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


def test_a_bidirectional_layer_read_at_the_last_step_has_no_unused_parameter():
    nn.random.manual_seed(0)
    assert "unused-parameter" not in [code for code, _ in causes(Reader(), batch=(X.reshape(64, 5, 4), CLASSES))]


def test_a_part_that_is_never_called_is_named_before_a_bidirectional_layer_read_at_the_last_step():
    nn.random.manual_seed(0)
    model = Reader()
    model.spare = nn.Linear(16, 4)
    assert ("unused-parameter", "spare") in causes(model, batch=(X.reshape(64, 5, 4), CLASSES))
