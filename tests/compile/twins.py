"""One training set-up made twice from one seed: one is stepped as it is, the other compiled, and all is compared."""

import warnings
from typing import Any, NamedTuple

import numpy as np

import chainrule as cr
from chainrule import nn

TOLERANCES = {np.dtype(np.float64): {"rtol": 1e-9, "atol": 1e-12}, np.dtype(np.float32): {"rtol": 2e-4, "atol": 2e-6}}


class SetUp(NamedTuple):
    """A step function with everything it changes; `between(number)` is called before step `number`."""

    step: Any
    model: Any
    optimizer: Any = None
    between: Any = None


def batches(count=10, rows=6, inputs=4, outputs=3, dtype=np.float64, labels=False):
    """The same `count` pairs of inputs and targets at every call."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((count, rows, inputs)).astype(dtype)
    y = rng.integers(0, outputs, (count, rows)) if labels else rng.standard_normal((count, rows, outputs)).astype(dtype)
    return list(zip(x, y, strict=True))


def state_of(set_up):
    """Everything a step may have changed, by name, as copies."""
    found = {}
    for name, parameter in set_up.model.named_parameters():
        found[name] = parameter
        found[f"{name}.grad"] = parameter.grad
    found |= dict(set_up.model.named_buffers())
    if set_up.optimizer is not None:
        for number, kept in set_up.optimizer.state_dict()["state"].items():
            found |= {f"state {number} {key}": value for key, value in kept.items()}
    return {name: None if value is None else np.array(as_array(value)) for name, value in found.items()}


def as_array(value):
    return value.detach().numpy() if isinstance(value, cr.Tensor) else np.asarray(value)


def trained(make, data, compiled, **options):
    """The results of all steps, and the state at the end."""
    nn.random.manual_seed(0)
    set_up = make()
    step = cr.compile(set_up.step, strict=True, **options) if compiled else set_up.step
    results = []
    for number, batch in enumerate(data):
        if set_up.between is not None:
            set_up.between(number)
        results.append(cr.numpy.asarray(step(*batch)).detach().numpy().copy())
    return results, state_of(set_up), nn.random.get_rng_state(), step


def assert_trains_alike(make, data, variants=1, **options):
    """Eager and compiled training agree in every loss, parameter, gradient, buffer and random draw."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses, state, draws, _ = trained(make, data, compiled=False)
        found_losses, found, found_draws, step = trained(make, data, compiled=True, **options)
    tolerance = TOLERANCES.get(data[0][0].dtype, TOLERANCES[losses[0].dtype])
    for number, (a, b) in enumerate(zip(found_losses, losses, strict=True)):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, **tolerance, err_msg=f"result of step {number}")
    assert_same_state(found, state)
    assert found_draws == draws
    assert variants is None or len(step.variants) == variants


def assert_same_state(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value is None or found[name] is None:
            assert found[name] is value, name
            continue
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
        tolerance = TOLERANCES.get(value.dtype, {"rtol": 0, "atol": 0})
        np.testing.assert_allclose(found[name], value, **tolerance, err_msg=name)
