"""What explaining sees, and that it leaves no trace."""

import sys

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core import state
from chainrule.explain import explain
from chainrule.nn import functional as F

X = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
T = np.array([0, 1, 2, 0, 1, 2])


def cross_entropy(output):
    return F.cross_entropy(output, T)


def model():
    nn.random.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3))


def test_a_module_is_explained_by_the_paths_of_its_parameters():
    e = explain(model(), X, loss=cross_entropy)
    names = {g.of.name.text for g in e.inputs}
    assert names == {"0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias"}
    assert e.verdict.ok
    assert e.verdict.findings["0.weight"].size == 20


def test_the_gradients_of_a_module_are_those_of_backward():
    m = model()
    state_then = nn.random.get_rng_state()
    e = explain(m, X, loss=cross_entropy)
    nn.random.set_rng_state(state_then)
    cross_entropy(m(X)).backward()
    for path, parameter in m.named_parameters():
        np.testing.assert_array_equal(e.gradient(path).value, np.asarray(parameter.grad))


def test_explaining_changes_nothing_that_training_computes():
    def trained(explaining):
        m = model()
        optimizer = cr.optim.SGD(m.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            if explaining:
                str(explain(m, X, loss=cross_entropy))
                assert all(p.grad is None for p in m.parameters())
            cross_entropy(m(X)).backward()
            optimizer.step()
            optimizer.zero_grad()
        return {name: np.asarray(value) for name, value in m.state_dict().items()}

    plain, explained = trained(False), trained(True)
    for name, value in plain.items():
        np.testing.assert_array_equal(value, explained[name])
        assert value.dtype == explained[name].dtype


def test_a_function_around_a_module_finds_the_names_of_its_parameters():
    m = model().eval()

    def loss(x):
        logits = m(x)
        return F.cross_entropy(logits, T)

    e = explain(loss, x=X)
    assert {"x", "0.weight", "4.bias"} <= {g.of.name.text for g in e.inputs}
    assert e.step("logits").shape == (6, 3)


def test_nobody_watches_afterwards():
    def fails(x):
        x * 2
        raise KeyError("x")

    earlier = sys.gettrace()
    explain(lambda x: x * x, x=2.0)
    with pytest.raises(KeyError):
        explain(fails, x=2.0)
    assert state.watcher.get() is None
    assert sys.gettrace() is earlier


def test_inputs_stay_as_they_were_and_can_be_written():
    x = np.array([1.0, 2.0])
    explain(lambda x: (x * x).sum(), x=x)
    x[0] = 5
    assert x.tolist() == [5, 2]


# Names -------------------------------------------------------------------------------------------------------------


def names_of(explanation):
    return [step.name.text for step in explanation.steps]


def test_a_name_given_to_several_values_is_numbered():
    def chain(h):
        for _ in range(2):
            h = np.tanh(h)
        return h

    assert names_of(explain(chain, h=0.5)) == ["h⁽¹⁾", "h⁽²⁾", "h⁽³⁾"]


def test_the_outermost_function_names_a_value():
    def inner(a):
        b = a * a
        return b

    def outer(x):
        y = inner(x)
        return y + 1.0

    assert names_of(explain(outer, x=2.0)) == ["x", "y", "outer"]


def test_leaves_of_a_dictionary_are_named_by_their_keys():
    def loss(p):
        z = p["W"] @ np.array([1.0, 2.0]) + p["b"]
        return (z * z).sum()

    e = explain(loss, {"W": np.ones((2, 2)), "b": np.zeros(2)})
    assert {g.of.name.text for g in e.inputs} == {"W", "b"}


def test_assignment_moves_the_name_to_the_new_value():
    def f(x):
        y = x * 2.0
        y += x
        y[0] = 0.0
        return y.sum()

    e = explain(f, x=np.array([1.0, 2.0]))
    assert names_of(e) == ["x", "y⁽¹⁾", "y⁽²⁾", "y⁽³⁾", "f"]
    assert e.gradient("x").value.tolist() == [0, 3]


def test_constants_have_their_names_and_small_ones_their_numbers():
    def f(x):
        factor = np.array([[1.0, 2.0], [3.0, 4.0]])
        z = factor @ x
        return (z * [10.0, 20.0]).sum()

    e = explain(f, x=np.array([1.0, 2.0]))
    assert e.step("z").expression.text == "factor·x"
    assert e.steps[-2].expression.text == "z ⊙ [10 20]"


def test_a_variable_called_g_is_not_mistaken_for_the_gradient():
    def f(W, g):
        y = W @ g
        return (y * y).sum()

    e = explain(f, W=np.ones((2, 2)), g=np.ones(2))
    assert e.gradient("W").formula.text == "df/dy·gᵀ"


# Recorded tensors --------------------------------------------------------------------------------------------------


def test_a_recorded_tensor_is_explained_with_the_names_around_it():
    w = cr.tensor(2.0, requires_grad=True)
    x = cr.tensor(3.0, requires_grad=True)
    product = w * x
    loss = (product - 8.0) ** 2
    e = explain(loss)
    assert names_of(e)[-1] == "loss"
    assert float(e.gradient("w").value) == -12
    assert float(e.step("product").value) == 6
    assert w.grad is None
    loss.backward()  # the graph is still there
    assert w.grad.item() == -12


def test_hooks_of_a_recorded_tensor_are_not_run():
    w = cr.tensor(2.0, requires_grad=True)
    y = w * w
    seen = []
    y.register_hook(seen.append)
    explain(y)
    assert seen == []


def test_values_that_nobody_kept_are_computed_again_or_said_to_be_missing():
    w = cr.tensor([1.0, 2.0], requires_grad=True)
    e = explain(((w + w) * 3.0 + np.ones(2)).sum())
    values = [step.value for step in e.steps]
    assert values[1].tolist() == [2, 4]
    assert values[2] is None or values[2].tolist() == [6, 12]
    assert "not kept" in str(e) or values[3] is not None


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: cr.tensor(1.0), "nothing was recorded"),
        (lambda: cr.tensor(1.0, requires_grad=True), "nothing was recorded"),
    ],
)
def test_a_tensor_without_a_graph_is_a_clear_error(make, told):
    with pytest.raises(cr.GradientError, match=told):
        explain(make())


def test_a_freed_graph_is_a_clear_error():
    w = cr.tensor(2.0, requires_grad=True)
    y = w * w * w
    y.backward()
    with pytest.raises(cr.GradientError, match="freed"):
        explain(y)


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: explain(3), TypeError, "a function, a module or a tensor"),
        (lambda: explain(lambda x: x * 2, x=np.ones(2)), cr.GradientError, "seed"),
        (lambda: explain(lambda x: x * 2, x=1.0, mode="up"), ValueError, "mode"),
        (lambda: explain(lambda x: x * 2, y=1.0), TypeError, "cannot be called"),
        (lambda: explain(lambda x: x * 2, x=1.0, wrt="z"), ValueError, "not an input"),
        (lambda: explain(lambda x: 3.0, x=1.0), cr.GradientError, "does not depend"),
        (lambda: explain(lambda x: (x, x), x=1.0), TypeError, "one array"),
        (lambda: explain(lambda x: np.log(x), x=0.0), ValueError, "infinity"),
        (lambda: explain(lambda x, y: x * y, x=1.0, y=1.0, mode="forward"), ValueError, "needs seed"),
        (lambda: explain(lambda x: x * 2, x=1.0, mode="forward", seed={"z": 1}), ValueError, "not an input"),
        (lambda: explain(lambda x: x.sum(), x=np.ones(2), mode="forward", seed={"x": [1]}), ValueError, "shape"),
        (lambda: explain(lambda x: x * 2, x=1.0).step("q"), KeyError, "no value is called"),
        (lambda: explain(lambda x: x * 2, x=1.0).to("pdf"), ValueError, "format"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_misuse_is_a_clear_error(call, error, told):
    with pytest.raises(error, match=told):
        call()
