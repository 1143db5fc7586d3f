"""The clinic's labels are true and its patients are what an examiner needs, as far as chainrule alone can tell."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from clinic import blind, healthy, measure, sick, wider
from clinic.__main__ import main
from clinic.case import Case, score
from clinic.cases import CASES as ALL
from clinic.cases import WRITTEN as CASES
from clinic.frameworks import missing
from clinic.measure import Measured, holds
from typer.testing import CliRunner

from chainrule import nn

FAULTS = [
    "vanishing-gradient",
    "exploding-gradient",
    "dying-relu",
    "saturated-activation",
    "wrong-initialization",
    "symmetric-initialization",
    "missing-normalization",
    "non-finite",
    "learning-rate-too-high",
    "learning-rate-too-low",
    "oscillating-loss",
    "slow-convergence",
    "unused-parameter",
    "detached-graph",
    "unscaled-input",
    "loss-activation-mismatch",
    "wrong-loss",
    "bottleneck",
    "cannot-overfit-batch",
    "shuffled-labels",
    "bptt-vanishing",
    "bptt-exploding",
    "always-clipped",
    "dead-batchnorm",
    "ill-conditioned",
]
SICK = [case for case in CASES.values() if case.fault]
HEALTHY = [case for case in CASES.values() if not case.fault]


def named(part, framework="chainrule"):
    (case,) = [case for case in CASES.values() if part in case.name and case.framework == framework]
    return case


def of_fault(fault):
    return [case for case in SICK if case.fault == fault and case.framework == "chainrule"]


def healthy_twin(case):
    """The healthy case that a sick one was made of: the one with the longest name that its name begins with."""
    twins = [other for other in HEALTHY if case.name.startswith(f"{other.group.removesuffix('-healthy')}-")]
    longest = max(len(twin.group) for twin in twins)
    (twin,) = [twin for twin in twins if len(twin.group) == longest and twin.framework == case.framework]
    return twin


def by_name(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def gradients_after_one_loss(patient):
    inputs, targets = patient.batch
    with np.errstate(all="ignore"):
        loss = patient.loss_fn(patient.model(inputs), targets)
        loss.backward()
    return loss, {name: p.grad for name, p in patient.model.named_parameters()}


# The list -----------------------------------------------------------------------------------------------------------


def test_a_name_is_kebab_case_and_tells_architecture_data_and_framework():
    for name, case in CASES.items():
        assert re.fullmatch(r"[a-z0-9.]+(-[a-z0-9.]+)*", name)
        assert name.startswith(f"{case.architecture}-")
        assert name.endswith(f"-{case.framework}")
        assert case.name == name


def test_there_are_enough_networks_of_every_kind():
    for cases, enough in ((SICK, 500), (HEALTHY, 200)):
        assert len(cases) >= enough
        assert {case.architecture for case in cases} == {"mlp", "cnn", "rnn", "lstm", "transformer"}
        assert len({case.data for case in cases}) >= 10
        assert {case.framework for case in cases} == {"chainrule", "torch"}


def test_every_fault_is_there_in_three_networks_and_both_frameworks_and_there_is_no_other():
    assert {case.fault for case in SICK} == set(FAULTS)
    for fault in FAULTS:
        cases = [case for case in SICK if case.fault == fault]
        assert len({case.group for case in cases}) >= 3
        assert {case.framework for case in cases} == {"chainrule", "torch"}


def test_a_second_answer_is_a_fault_and_not_the_first():
    for case in SICK:
        assert set(case.accepted) <= set(FAULTS) - {case.fault}
        assert case.answers == {case.fault, *case.accepted}
    assert not any(case.answers or case.layers for case in HEALTHY)


def test_no_name_is_given_twice():
    settings = (*healthy.SETTINGS, *wider.SETTINGS, *blind.SETTINGS)
    sicknesses = (*sick.SICK, *wider.SICK, *blind.SICK)
    assert len(CASES) == 2 * len(settings) + sum(len(sickness.frameworks) for sickness in sicknesses)


def test_every_healthy_twin_is_a_case_too():
    for part in (wider, blind):
        assert {sickness.healthy.name for sickness in part.SICK} <= {setting.name for setting in part.SETTINGS}


# The patients -------------------------------------------------------------------------------------------------------


@by_name([case for case in CASES.values() if case.framework == "chainrule"])
def test_a_patient_has_the_layers_of_its_label_and_its_batch_runs(case):
    patient = case.make(0)
    assert set(case.layers) <= {path for path, _ in patient.model.named_modules()}
    inputs, targets = patient.batch
    assert len(inputs) == len(targets) == patient.batch_size
    with np.errstate(all="ignore"):
        loss = patient.loss_fn(patient.model(inputs), targets)
    assert loss.shape == ()
    assert loss.requires_grad


def test_a_patient_is_the_same_from_the_same_seed_and_another_from_another():
    case = named("mlp-digits-healthy")
    first, again, other = (case.make(seed).model.state_dict() for seed in (0, 0, 1))
    assert all(np.array_equal(first[name].data, again[name].data) for name in first)
    assert not any(np.array_equal(first[name].data, other[name].data) for name in first)


def test_the_random_numbers_outside_are_left_alone():
    before = nn.random.get_rng_state()
    patient = named("mlp-digits-frozen-healthy").make(0)  # which has a dropout
    patient.train(3)
    patient.score()
    assert nn.random.get_rng_state() == before


def test_training_in_two_parts_is_training_at_once():
    case = named("cnn-digits-norm-healthy")
    at_once, in_parts = case.make(0), case.make(0)
    at_once.train(6)
    in_parts.train(2)
    in_parts.score()
    in_parts.train(4)
    expected = at_once.model.state_dict()
    for name, value in in_parts.model.state_dict().items():
        np.testing.assert_array_equal(value.data, expected[name].data)


def test_a_cured_copy_comes_to_what_the_healthy_twin_comes_to():
    case = named("mlp-digits-always-clipped-1e-3")
    patient = case.make(0)
    replace(patient, clip=None).train(case.steps)
    assert patient.score() == patient.healthy_score > 90


# What was done, seen without training -------------------------------------------------------------------------------


@by_name([*of_fault("unused-parameter"), *of_fault("detached-graph")])
def test_what_is_unused_or_cut_off_gets_no_gradient_or_has_no_optimizer_and_the_rest_does(case):
    patient = case.make(0)
    _, gradients = gradients_after_one_loss(patient)
    held = {id(p) for group in patient.optimizer.param_groups for p in group["params"]}
    parameters = dict(patient.model.named_parameters())
    without = {
        name
        for name, grad in gradients.items()
        if grad is None or not grad.data.any() or id(parameters[name]) not in held
    }
    assert without
    assert without != set(gradients)
    assert all(any(name.startswith(f"{layer}.") for layer in case.layers) for name in without)


@by_name(of_fault("non-finite"))
def test_a_not_finite_number_is_in_the_loss_or_in_a_gradient(case):
    loss, gradients = gradients_after_one_loss(case.make(0))
    grads = [grad.data for grad in gradients.values() if grad is not None]
    assert not all(np.isfinite(values).all() for values in [loss.data, *grads])


@by_name([case for case in of_fault("dying-relu") if case.layers])
def test_most_units_of_a_dead_layer_are_below_zero_for_the_whole_batch(case):
    patient = case.make(0)
    outputs = []
    patient.model.get_submodule(case.layers[0]).register_forward_hook(
        lambda module, args, y: outputs.append((y[0] if isinstance(y, tuple) else y).data)
    )
    patient.model(patient.batch[0])
    (pre_activation,) = outputs
    largest = pre_activation.max(axis=(0, *range(2, pre_activation.ndim)))
    assert np.mean(largest <= 0) > 0.5


def test_a_symmetric_layer_stays_symmetric_as_it_trains():
    case = named("mlp-digits-functional-symmetric-initialization")
    patient = case.make(0)
    patient.train(20)
    weight = patient.model.get_submodule(case.layers[0]).weight.data
    np.testing.assert_allclose(weight, weight[:1].repeat(len(weight), 0), atol=1e-5)


@by_name(of_fault("shuffled-labels"))
def test_shuffled_labels_are_the_same_labels_of_other_examples(case):
    shuffled, healthy = case.make(0), healthy_twin(case).make(0)
    np.testing.assert_array_equal(np.sort(shuffled.data[1], axis=0), np.sort(healthy.data[1], axis=0))
    np.testing.assert_array_equal(shuffled.data[0], healthy.data[0])
    moved = np.mean(shuffled.data[1] != healthy.data[1])
    assert moved > 0.8 * np.mean(np.random.default_rng(0).permutation(healthy.data[1]) != healthy.data[1])


@by_name([case for case in of_fault("dying-relu") if not case.layers])
def test_most_units_of_a_layer_are_below_zero_after_a_spike(case):
    patient = case.make(0)
    silent = []

    def watch(module, args, y):
        silent.append(np.mean(y.data.max(axis=(0, *range(2, y.data.ndim))) <= 0))

    for module in patient.model.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(watch)
    patient.model(patient.batch[0])
    assert max(silent) > 0.5


@by_name([case for case in of_fault("oscillating-loss") if case.architecture == "mlp"])
def test_an_oscillating_loss_comes_back_to_twice_its_lowest(case):
    patient = case.make(0)
    inputs, targets = patient.data
    losses = []
    for _ in range(40):
        patient.train(case.steps // 40)
        losses.append(patient.loss_fn(patient.model(inputs), targets).item())
    assert np.max(np.array(losses) / np.minimum.accumulate(losses)) > 2


# Figures ------------------------------------------------------------------------------------------------------------


def test_the_kept_figures_bear_out_every_label():
    measured = measure.read()
    assert set(measured) == set(CASES)
    assert [name for name, case in CASES.items() if not holds(case, measured[name])] == []


@pytest.mark.parametrize("name", ["mlp-digits-learning-rate-too-low-1e-6", "mlp-blobs-healthy"])
def test_measuring_again_bears_the_label_out(name):
    case = named(name)
    assert holds(case, measure.measure(case, seeds=(0,)))


def test_a_label_is_not_borne_out_by_a_sick_network_that_does_well_or_a_healthy_one_that_does_not():
    sick, healthy = named("mlp-digits-always-clipped-1e-3"), named("mlp-digits-healthy")
    assert holds(sick, Measured(score=90, healthy=95, seconds=1))
    assert not holds(sick, Measured(score=93, healthy=95, seconds=1))
    assert holds(replace(sick, harm=False), Measured(score=93, healthy=95, seconds=1))
    assert holds(healthy, Measured(score=95, healthy=95, seconds=1))
    assert not holds(healthy, Measured(score=50, healthy=50, seconds=1))


def test_figures_written_join_those_that_were_there(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "FIGURES", tmp_path / "measured.json")
    first, second = [*CASES][:2]
    measure.write({first: Measured(1, 2, 3), "no case any more": Measured(0, 0, 0)})
    measure.write({second: Measured(4, 5, 6)})
    assert measure.read() == {first: Measured(1, 2, 3), second: Measured(4, 5, 6)}
    assert [*json.loads(measure.FIGURES.read_text())] == [first, second]


def test_scores_are_accuracy_or_explained_variance_and_zero_for_what_is_not_finite():
    classes = np.array([0, 1, 1, 0])
    logits = np.array([[2, 1], [0, 3], [5, 4], [9, 8]])
    assert score(logits, classes) == 75
    assert score(np.where(logits == 9, np.nan, logits), classes) == 0
    column = np.array([[0.0], [1.0], [1.0], [0.0]])
    assert score(np.array([[-1.0], [2.0], [0.1], [-0.2]]), column) == 100  # logits
    assert score(np.array([[0.1], [0.7], [0.6], [0.4]]), column) == 100  # probabilities
    numbers = np.array([[1.0], [2.0], [3.0], [6.0]])
    assert score(numbers, numbers) == 100
    assert score(np.full((4, 1), 3.0), numbers) == 0
    assert score(numbers * 100, numbers) == 0


# The command --------------------------------------------------------------------------------------------------------


def run(*arguments):
    import typer

    app = typer.Typer()
    app.command()(main)
    return CliRunner().invoke(app, [*arguments])


def test_the_list_shows_the_chosen_half_of_the_chosen_cases():
    here = [case for case in ALL.values() if not missing(case.framework) and "bottleneck" in case.name]
    chosen = [case for case in here if case.half == "held-out"]
    assert 0 < len(chosen) < len(here)
    printed = run("--list", "--half", "held-out", "--only", "bottleneck").output
    assert f"sick networks: {len(chosen)}, different faults: 1, healthy networks: 0" in printed
    assert "tuning" not in printed


def test_a_name_that_no_case_has_is_refused_in_words():
    refused = run("--only", "no-such-thing")
    assert refused.exit_code == 2
    assert "no-such-thing" in refused.output


def test_measuring_prints_the_table_and_keeps_the_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "FIGURES", tmp_path / "measured.json")
    name = named("mlp-blobs-healthy").name
    result = run("--measure", "--only", name)
    assert result.exit_code == 0
    assert [*measure.read()] == [name]
    assert "✓" in result.output


def test_measuring_fails_where_a_label_is_not_borne_out(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "FIGURES", tmp_path / "measured.json")
    monkeypatch.setitem(measure.GOOD, "blobs", 99.0)
    result = run("--measure", "--only", named("mlp-blobs-healthy").name)
    assert result.exit_code == 1
    assert "the label is not borne out" in result.output


def test_a_case_says_what_it_is():
    assert "mlp-blobs" in repr(named("mlp-blobs-healthy"))
    assert isinstance(named("mlp-blobs-healthy"), Case)
