"""A drawn network is the same in PyTorch and in chainrule, and what is wrong with it can be seen without training."""

import numpy as np
import pytest
from clinic import drawn
from clinic.drawn import CODES, record

PROOFS = {key: proof for key, proof in record.read().items() if proof.attempt is not None}


def in_torch(number, proof):
    """The setting of a kept sick number of seed 1, and its case."""
    it = drawn.sick(1, number, proof.attempt)
    return drawn.sickness_of(it.change, it.case.fault, f"1.{number}", "torch").setting, it.case


def kept_with(*faults):
    numbers = [int(key[2:]) for key in PROOFS if key.startswith("1.") and key[2:].isdigit()]
    chosen = [number for number in numbers if drawn.fault_of(number) in faults]
    return pytest.mark.parametrize("number", chosen, ids=lambda number: f"{number}-{drawn.fault_of(number)}")


@pytest.mark.parametrize("number", range(25), ids=CODES.__getitem__)
def test_both_frameworks_are_given_the_same_architecture_and_data(number):
    it = drawn.sick(21, number)
    for setting in (it.change.plan.setting("21"), drawn.sickness_of(it.change, it.case.fault, "21", "torch").setting):
        mine, theirs = setting.patient("torch", 0), setting.patient("chainrule", 0)
        shapes = {name: tuple(p.shape) for name, p in mine.model.named_parameters()}
        assert shapes == {name: tuple(p.shape) for name, p in theirs.model.named_parameters()}
        assert [path for path, _ in mine.model.named_modules()] == [path for path, _ in theirs.model.named_modules()]
        for part in range(2):
            np.testing.assert_array_equal(mine.batch[part].numpy(), theirs.batch[part])


def gradients(patient):
    inputs, targets = patient.batch
    loss = patient.loss_fn(patient.model(inputs), targets)
    loss.backward()
    return loss, {name: p.grad for name, p in patient.model.named_parameters()}


@kept_with("unused-parameter", "detached-graph")
def test_what_is_unused_or_cut_off_gets_no_gradient_or_has_no_optimizer_and_the_rest_does(number):
    setting, case = in_torch(number, PROOFS[f"1.{number}"])
    patient = setting.patient("torch", 0)
    _, grads = gradients(patient)
    held = {id(p) for group in patient.optimizer.param_groups for p in group["params"]}
    without = {name for name, p in patient.model.named_parameters() if grads[name] is None or id(p) not in held}
    assert without
    assert without != set(grads)
    assert all(any(name.startswith(f"{layer}.") for layer in case.layers) for name in without)


@kept_with("non-finite")
def test_a_not_finite_number_is_in_the_loss_or_in_a_gradient(number):
    setting, _ = in_torch(number, PROOFS[f"1.{number}"])
    loss, grads = gradients(setting.patient("torch", 0))
    assert not all(value.isfinite().all() for value in (loss, *grads.values()) if value is not None)


@kept_with("vanishing-gradient")
def test_the_first_layers_gradient_is_less_than_a_hundredth_of_the_last_ones(number):
    setting, _ = in_torch(number, PROOFS[f"1.{number}"])
    _, grads = gradients(setting.patient("torch", 0))
    first, *_, last = [float(grad.norm()) for grad in grads.values() if grad.ndim > 1]
    assert first < 1e-2 * last
