"""The formulas that `explain` prints, evaluated number by number against the gradients."""

import inspect
from string import Template

import numpy as np
import pytest
from explain.formulas import evaluate

import chainrule as cr
from chainrule.explain import explain, notation, reference
from chainrule.ops import network


def known_values(explanation, extra):
    """What the names and symbols in the printed formulas stand for."""
    known = dict(extra)
    for step in explanation.steps:
        known[step.name.text] = step.value
        known |= {kept.what.text: kept.value for kept in step.kept if kept.what.text.isidentifier()}
    for gradient in explanation.gradients:
        known[gradient.symbol.text] = gradient.value
    return known


def check_every_formula(explanation, extra=(), axis=-1):
    known = known_values(explanation, dict(extra))
    checked = 0
    for gradient in explanation.gradients:
        if not gradient.paths:
            continue
        formulas = [gradient.formula.text]
        if gradient.of.is_input:
            formulas.append(explanation.formula(gradient.of.name.text).text)
        for formula in formulas:
            value = evaluate(formula, known, gradient.of.shape, axis)
            np.testing.assert_allclose(
                value, gradient.value, rtol=1e-9, atol=1e-12, err_msg=f"{gradient.symbol} = {formula}"
            )
            checked += 1
    return checked


rng = np.random.default_rng(0)


def normal(*shape):
    return rng.standard_normal(shape)


def test_the_printed_formulas_of_a_two_layer_classifier_are_its_gradients():
    def loss(W1, b1, W2, b2):
        z1 = W1 @ x + b1
        h1 = cr.nn.functional.relu(z1)
        z2 = W2 @ h1 + b2
        L = cr.nn.functional.cross_entropy(z2, np.int64(1))
        return L

    x = normal(4)
    e = explain(loss, W1=normal(5, 4), b1=normal(5), W2=normal(3, 5), b2=normal(3))
    lines = {symbol.text: formula.text for symbol, formula in e.derivation}
    assert lines["dL/dz2"] == "p − y"
    assert lines["dL/dW2"] == "dL/dz2·h1ᵀ"
    assert lines["dL/dh1"] == "W2ᵀ·dL/dz2"
    assert lines["dL/dz1"] == "dL/dh1 ⊙ 1[z1 > 0]"
    assert lines["dL/dW1"] == "dL/dz1·xᵀ"
    assert e.formula("W1").text == "((W2ᵀ·(p − y)) ⊙ 1[z1 > 0])·xᵀ"
    assert check_every_formula(e, {"x": x, "y": np.eye(3)[1]}) == 13


def test_the_printed_formulas_of_a_batch_are_its_gradients():
    def loss(W1, b1, W2, b2):
        z1 = cr.nn.functional.linear(x, W1, b1)
        h1 = np.tanh(z1)
        z2 = h1 @ W2 + b2
        L = cr.nn.functional.cross_entropy(z2, targets)
        return L

    x, targets = normal(6, 4), np.array([0, 1, 2, 2, 1, 0])
    e = explain(loss, W1=normal(5, 4), b1=normal(5), W2=normal(5, 3), b2=normal(3))
    lines = {symbol.text: formula.text for symbol, formula in e.derivation}
    assert lines["dL/db2"] == "Σ dL/dz2"
    assert lines["dL/dz2"] == "(p − y)/n"
    assert check_every_formula(e, {"x": x, "y": np.eye(3)[targets], "n": 6}) > 8


def test_the_printed_formulas_of_a_residual_block_are_its_gradients():
    def loss(x, W1, W2):
        h = np.tanh(W1 @ x)
        y = x + W2 @ h
        L = (y * y).sum()
        return L

    e = explain(loss, x=normal(4), W1=normal(4, 4), W2=normal(4, 4))
    assert e.gradient("x").is_sum
    assert "dL/dy + " in e.gradient("x").formula.text
    assert check_every_formula(e) > 7


def test_the_printed_formulas_of_root_mean_square_normalisation_are_its_gradients():
    def loss(x, w):
        y = network.rms_norm(x, w, 1e-5)
        L = (c * y).sum()
        return L

    c = normal(6, 4)
    assert check_every_formula(explain(loss, x=normal(6, 4), w=normal(4)), {"c": c}) > 3


@pytest.mark.parametrize(("name", "axis"), [("batch_norm", 0), ("layer_norm", -1)])
def test_the_printed_formulas_of_a_normalisation_are_its_three_terms(name, axis):
    def loss(x, w, b):
        y = network.batch_norm(x, w, b)[0] if name == "batch_norm" else network.layer_norm(x, w, b)
        L = (c * y).sum()
        return L

    c = normal(6, 4)
    e = explain(loss, x=normal(6, 4), w=normal(4), b=normal(4))
    formula = e.gradient("x").formula.text
    assert formula.startswith("(ĝ − mean(ĝ) − x̂ ⊙ mean(ĝ ⊙ x̂))/√(var + 1e-05)")
    assert check_every_formula(e, {"c": c}, axis) > 5


def test_the_printed_formulas_of_an_lstm_cell_are_its_gradients():
    def loss(Wi, Wf, Wo, Wg, c_0, h_0):
        i = cr.nn.functional.sigmoid(Wi @ h_0)
        f = cr.nn.functional.sigmoid(Wf @ h_0)
        o = cr.nn.functional.sigmoid(Wo @ h_0)
        g = np.tanh(Wg @ h_0)
        c = f * c_0 + i * g
        h = o * np.tanh(c)
        L = (h * h).sum()
        return L

    inputs = {name: normal(3, 3) for name in ("Wi", "Wf", "Wo", "Wg")}
    e = explain(loss, **inputs, c_0=normal(3), h_0=normal(3))
    assert e.gradient("c_0").formula.text == "dL/dc ⊙ f"  # the path through the cell scales by f only
    assert check_every_formula(e) > 20


def test_the_gradients_of_several_outputs_are_joined_in_their_order():
    def loss(x):
        a, b, _ = np.split(x, 3)
        L = (a * b).sum()
        return L

    e = explain(loss, x=normal(6))
    lines = {symbol.text: formula.text for symbol, formula in e.derivation}
    assert lines["dL/dv1"] == "(dL/da, dL/db, 0)"
    assert lines["dL/dx"] == "concat(dL/dv1)"
    np.testing.assert_array_equal(e.gradient("x").value, [*e.step("b").value, *e.step("a").value, 0, 0])


def test_the_printed_formulas_of_attention_are_its_gradients():
    def loss(Q, K, V):
        s = Q @ K.T / np.sqrt(4.0)
        a = cr.nn.functional.softmax(s, dim=-1)
        y = a @ V
        L = (y * y).mean()
        return L

    e = explain(loss, Q=normal(3, 4), K=normal(5, 4), V=normal(5, 2))
    assert check_every_formula(e, {"n": 6}) > 6


# Every declaration -------------------------------------------------------------------------------------------------

ELEMENTWISE = [
    (primitive, index)
    for family in reference.families().values()
    for primitive in family
    if primitive.elementwise
    for index, rule in enumerate(primitive.rules)
    if rule is not None
]

#: Written in words or symbols that this test's reader does not know.
IN_OTHER_SYMBOLS = {"polygamma", "spherical_jn", "jv", "iv", "ive", "j0", "j1", "i0", "i1", "i0e", "i1e"}


@pytest.mark.parametrize(("primitive", "index"), ELEMENTWISE, ids=lambda x: getattr(x, "name", x))
def test_every_elementwise_local_derivative_is_what_its_rule_computes(primitive, index):
    if primitive.name in IN_OTHER_SYMBOLS:
        pytest.skip("written in other symbols")
    parameters = {"alpha": 1.3, "negative_slope": 0.2, "beta": 1.0, "scale": 1, "lambd": 0.5, "slope": 0.2}
    names = inspect.signature(primitive.value).parameters
    static = {name: value for name, value in parameters.items() if name in names}
    points = {name: np.array([0.3, 0.55, 0.8]) + 0.05 * k for k, name in enumerate(primitive.inputs)}
    if primitive.name == "acosh":
        points = {name: value + 1 for name, value in points.items()}
    row = [*points.values(), primitive.value(np, *points.values(), **static)]
    rule = primitive.rules[index]
    expected = rule.local(np, *rule.keep(row, static))
    text = notation.local_template(primitive, index, (3,), static).text
    filled = notation.array_products(notation.Formula(Template(text).safe_substitute(dict.fromkeys([])), "")).text
    for name in sorted(primitive.row, key=len, reverse=True):
        filled = filled.replace(f"${name}", f" {name}_ ")
    known = {f"{name}_": value for name, value in zip(primitive.row, row, strict=True)}
    known |= {"α": 1.3, "slope": 0.2, "a_slope": 0.2}
    np.testing.assert_allclose(evaluate(filled, known, (3,)), np.broadcast_to(expected, (3,)), rtol=1e-9, err_msg=text)
