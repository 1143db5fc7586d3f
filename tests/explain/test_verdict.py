"""The verdict against central differences is a verdict: it can be bad."""

import numpy as np

import chainrule as cr
from chainrule import nn
from chainrule.explain import explain
from chainrule.explain.recording import record
from chainrule.explain.verdict import verdict_on
from chainrule.nn import functional as F


def test_a_wrong_rule_is_called_a_bug():
    @cr.custom_vjp
    def cube(x):
        return x * x * x

    cube.defvjp(lambda x: (x * x * x, x), lambda x, g: (g * 2 * x * x,))
    e = explain(lambda x, w: cube(x) * w, x=2.0, w=3.0)
    assert e.verdict.findings["x"].grade == "bug"
    assert e.verdict.findings["w"].grade == "excellent"
    assert not e.verdict.ok
    assert "bug" in str(e)


def test_it_is_the_gradient_of_the_table_that_is_judged():
    recording = record(lambda x: x * x, (), {"x": 2.0})
    (leaf,) = [tensor._node for tensor in recording.inputs.values()]
    assert verdict_on(recording, 1.0, {leaf: np.array(4.0)}, {leaf: "x"}).ok
    assert not verdict_on(recording, 1.0, {leaf: np.array(4.1)}, {leaf: "x"}).ok


def test_a_kink_is_said_to_be_a_kink():
    e = explain(lambda x: F.relu(x) * 2.0, x=0.0)
    assert e.verdict.findings["x"].grade == "kink"
    assert "kink" in str(e)


def test_a_function_that_draws_new_numbers_is_not_judged():
    rng = np.random.default_rng(0)
    e = explain(lambda x: x * rng.standard_normal(), x=2.0)
    assert e.verdict.findings == {}
    assert "another value each time" in str(e)


def test_dropout_is_judged_on_one_mask():
    nn.random.manual_seed(0)
    m = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    e = explain(m, np.ones((2, 3), np.float32), loss=lambda output: (output * output).sum())
    assert {finding.grade for finding in e.verdict.findings.values()} == {"excellent"}


def test_float32_gradients_are_judged_in_float64():
    x = np.linspace(0.1, 1, 5, dtype=np.float32)
    e = explain(lambda x: (np.tanh(x) ** 3).sum(), x=x)
    assert e.verdict.findings["x"].grade == "excellent"
    assert e.gradient("x").value.dtype == np.float32


def test_a_tensor_has_no_function_to_compare_with():
    x = cr.tensor(2.0, requires_grad=True)
    assert "no function to run again" in str(explain(x * x))


def test_the_tangent_of_an_array_is_compared_too():
    e = explain(lambda x: np.tanh(x) * x, x=np.array([1.0, 2.0]), mode="forward", seed={"x": [1.0, -1.0]})
    assert e.verdict.findings["the seed"].grade == "excellent"


def test_a_function_that_fails_nearby_is_not_judged():
    def strict(x):
        if float(x.detach() if hasattr(x, "detach") else x) != 2.0:
            raise ValueError("only at 2")
        return x * x

    e = explain(strict, x=2.0)
    assert e.verdict.findings == {}
    assert "fails near its inputs: only at 2" in str(e)
    assert float(e.gradient("x").value) == 4
