"""The clinic's PyTorch networks are what their labels say, and like their chainrule likenesses."""

import numpy as np
import pytest
import torch
from clinic.cases import WRITTEN as CASES

TORCH = [case for case in CASES.values() if case.framework == "torch"]
LIKE = [case for case in TORCH if f"{case.group}-chainrule" in CASES]


def by_name(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def paths(patient):
    return {path for path, _ in patient.model.named_modules()}


@by_name(TORCH)
def test_a_patient_has_the_layers_of_its_label_and_its_batch_runs(case):
    patient = case.make(0)
    assert set(case.layers) <= paths(patient)
    inputs, targets = patient.batch
    assert len(inputs) == len(targets) == patient.batch_size
    loss = patient.loss_fn(patient.model(inputs), targets)
    assert loss.shape == ()
    assert loss.requires_grad


@by_name(LIKE)
def test_likenesses_have_the_same_data_parameters_and_label(case):
    other = CASES[f"{case.group}-chainrule"]
    mine, theirs = case.make(0), other.make(0)
    for part in range(2):
        np.testing.assert_array_equal(mine.data[part].numpy(), theirs.data[part])
        np.testing.assert_array_equal(mine.batch[part].numpy(), theirs.batch[part])
    shapes = {name: tuple(p.shape) for name, p in mine.model.named_parameters()}
    assert shapes == {name: tuple(p.shape) for name, p in theirs.model.named_parameters()}
    assert (case.fault, case.accepted, case.layers, case.half) == (
        other.fault,
        other.accepted,
        other.layers,
        other.half,
    )


@by_name([case for case in TORCH if case.fault in ("unused-parameter", "detached-graph") and case.layers])
def test_what_is_unused_or_cut_off_gets_no_gradient_or_has_no_optimizer_and_the_rest_does(case):
    patient = case.make(0)
    inputs, targets = patient.batch
    patient.loss_fn(patient.model(inputs), targets).backward()
    held = {p for group in patient.optimizer.param_groups for p in group["params"]}
    without = {
        name for name, p in patient.model.named_parameters() if p.grad is None or not p.grad.any() or p not in held
    }
    assert without
    assert all(any(name.startswith(f"{layer}.") for layer in case.layers) for name in without)


@by_name([case for case in TORCH if case.fault == "non-finite"])
def test_a_not_finite_number_is_in_the_loss_or_in_a_gradient(case):
    patient = case.make(0)
    inputs, targets = patient.batch
    loss = patient.loss_fn(patient.model(inputs), targets)
    loss.backward()
    values = [loss, *(p.grad for p in patient.model.parameters() if p.grad is not None)]
    assert not all(value.isfinite().all() for value in values)


def gradient_norms(patient):
    """Of the weights that have one, from the first to the last."""
    inputs, targets = patient.batch
    patient.loss_fn(patient.model(inputs), targets).backward()
    return [float(p.grad.norm()) for p in patient.model.parameters() if p.ndim > 1 and p.grad is not None]


@by_name([case for case in TORCH if case.fault == "vanishing-gradient"])
def test_the_first_layers_gradient_is_less_than_a_thousandth_of_the_last_ones(case):
    first, *_, last = gradient_norms(case.make(0))
    assert first < 1e-3 * last


BLANK = "mlp-digits-zero-head"  # whose last layer lets nothing through before its first step


@by_name(
    [c for c in TORCH if c.fault is None and c.architecture not in ("rnn", "lstm") and not c.name.startswith(BLANK)]
)
def test_the_first_layers_gradient_of_a_healthy_network_is_more_than_a_hundredth_of_the_last_ones(case):
    first, *_ = norms = gradient_norms(case.make(0))
    assert first > 1e-2 * norms[-1]


@by_name([case for case in TORCH if case.fault in ("bptt-vanishing", "bptt-exploding")])
def test_the_gradient_by_the_first_step_is_orders_of_magnitude_off_that_by_the_last(case):
    patient = case.make(0)
    seen = []

    def watch(module, args):
        """Of a layer that reads a whole sequence, or of one that is called at each step."""
        seen.append(args[0] if args[0].requires_grad else args[0].detach().requires_grad_())
        seen[-1].retain_grad()
        return (seen[-1], *args[1:])

    patient.model.get_submodule(case.layers[0]).register_forward_pre_hook(watch)
    gradient_norms(patient)
    by_step = seen[0].grad.norm(dim=(0, 2)) if len(seen) == 1 else [x.grad.norm() for x in seen]
    if case.fault == "bptt-vanishing":
        assert by_step[0] < 1e-6 * by_step[-1]
    else:
        assert by_step[0] > 1e2 * by_step[-1]


@by_name([case for case in TORCH if case.fault == "saturated-activation" and case.layers])
def test_most_outputs_of_a_saturated_layer_are_at_the_activations_end(case):
    patient = case.make(0)
    outputs = []
    for module in map(patient.model.get_submodule, case.layers):
        if isinstance(module, torch.nn.Linear | torch.nn.RNNBase):  # what an activation is fed, or the state
            module.register_forward_hook(
                lambda module, args, y: outputs.append(y[0] if isinstance(y, tuple) else y.tanh())
            )
    patient.model(patient.batch[0])
    assert outputs
    assert all((y.abs() > 0.99).float().mean() > 0.6 for y in outputs)


def test_the_random_numbers_outside_are_left_alone():
    before = torch.get_rng_state()
    patient = CASES["mlp-digits-frozen-healthy-torch"].make(0)  # which has a dropout
    patient.train(3)
    patient.score()
    assert torch.equal(torch.get_rng_state(), before)


def test_trained_with_the_same_first_values_both_frameworks_come_to_the_same():
    ours = CASES["mlp-digits-healthy-chainrule"].make(0)
    theirs = CASES["mlp-digits-healthy-torch"].make(0)
    start = {name: torch.from_numpy(np.array(value.data)) for name, value in ours.model.state_dict().items()}
    theirs.model.load_state_dict(start)
    ours.train(20)
    theirs.train(20)
    expected = theirs.model.state_dict()
    for name, value in ours.model.state_dict().items():
        np.testing.assert_allclose(value.data, expected[name].numpy(), rtol=1e-3, atol=1e-4)
