"""Every worked trace of the field, value by value, in every rendering of `explain`."""

import json
import re

import numpy as np
import pytest

import chainrule as cr
from chainrule.explain import explain
from chainrule.explain.language import Program, value_of

CLASSIFIER = {"W1": [[0.1, 0.2], [0.3, 0.4]], "b1": [0.1, 0.1], "W2": [[0.5, 0.6], [0.7, 0.8]], "b2": [0.1, 0.1]}

#: expression, inputs, values of steps, gradients; rounded to the decimals that are written here.
TRACES = {
    "squared error of one neuron": (
        "mul = w*x; add = mul + b; sub = add - y; L = sub**2",
        {"w": 2, "x": 3, "b": 1, "y": 8},
        {"mul": "6", "add": "7", "sub": "-1", "L": "1"},
        {"sub": "-2", "add": "-2", "mul": "-2", "w": "-6", "b": "-2", "x": "-4", "y": "2"},
    ),
    "sum times factor": (
        "q = x + y; f = q*z",
        {"x": -2, "y": 5, "z": -4},
        {"q": "3", "f": "-12"},
        {"q": "-4", "x": "-4", "y": "-4", "z": "3"},
    ),
    "sum times factor, elsewhere": (
        "q = x + y; f = q*z",
        {"x": 2, "y": 3, "z": 4},
        {"q": "5", "f": "20"},
        {"x": "4", "y": "4", "z": "5"},
    ),
    "a value used twice": ("x*x", {"x": 7}, {"L": "49"}, {"x": "14"}),
    "chain through a square": ("(3*x + 2)**2", {"x": 1.5}, {"L": "42.25"}, {"x": "39"}),
    "polynomial": ("y = x**2 + 3*x + 1", {"x": 2}, {"y": "11"}, {"x": "7"}),
    "two sigmoids in a row": (
        "z1 = x*w1 + b1; h1 = sigmoid(z1); z2 = h1*w2 + b2; f = sigmoid(z2)",
        {"x": 1, "w1": 0.5, "b1": 0.1, "w2": -0.3, "b2": 0.2},
        {"z1": "0.600000000", "h1": "0.645656306", "z2": "0.006303108", "f": "0.501575772"},
        {"w1": "-0.017158648", "b1": "-0.017158648", "w2": "0.161412473", "b2": "0.249997517"},
    ),
    "two-layer classifier": (
        "z1 = W1@x + b1; h1 = relu(z1); z2 = W2@h1 + b2; L = cross_entropy(z2, t)",
        {**CLASSIFIER, "x": [1, 2], "t": 0},
        {"z1": ["0.6", "1.2"], "h1": ["0.6", "1.2"], "z2": ["1.12", "1.48"], "L": "0.889260"},
        {
            "z2": ["-0.589040", "0.589040"],
            "W2": [["-0.353424", "-0.706849"], ["0.353424", "0.706849"]],
            "b2": ["-0.589040", "0.589040"],
            "h1": ["0.117808", "0.117808"],
            "z1": ["0.117808", "0.117808"],
            "W1": [["0.117808", "0.235616"], ["0.117808", "0.235616"]],
            "b1": ["0.117808", "0.117808"],
        },
    ),
}


def explained(trace):
    expression, inputs, _, _ = TRACES[trace]
    program = Program(expression)
    values = {name: value_of(str(value)) for name, value in inputs.items()}
    return explain(program, wrt=[name for name in values if name not in program.targets], digits=12, **values)


def agree(value, written):
    """Whether a value, rounded to as many decimals as are written, is what is written."""
    written = np.asarray(written)
    value = np.asarray(value, dtype=float)
    assert value.shape == written.shape
    for number, text in zip(value.reshape(-1), written.reshape(-1), strict=True):
        decimals = len(str(text).partition(".")[2])
        assert f"{number:.{decimals}f}" == text, (number, text)


@pytest.mark.parametrize("trace", TRACES)
def test_the_rows_have_the_worked_numbers(trace):
    e = explained(trace)
    _, _, values, gradients = TRACES[trace]
    for name, written in values.items():
        agree(e.step(name).value, written)
    for name, written in gradients.items():
        agree(e.gradient(name).value, written)
        assert e.gradient(name).shape_fits
    assert e.verdict.ok
    assert {finding.grade for finding in e.verdict.findings.values()} == {"excellent"}


def test_the_classifier_keeps_the_probabilities_that_its_gradient_reads():
    e = explained("two-layer classifier")
    kept = {k.what.text: k for k in e.step("L").kept}
    agree(kept["p"].value, ["0.410960", "0.589040"])
    assert [r.text for r in kept["p"].read_for] == ["z2"]


def test_the_local_derivative_of_the_square_is_a_formula_and_a_number():
    e = explained("squared error of one neuron")
    (path,) = e.gradient("sub").paths
    assert (path.local.text, float(path.local_value)) == ("2·sub", -2)


def test_a_value_used_twice_shows_two_paths_and_their_sum():
    e = explained("a value used twice")
    gradient = e.gradient("x")
    assert [float(path.contribution) for path in gradient.paths] == [7, 7]
    assert "7 + 7 = 14" in str(e)


def test_forward_mode_has_the_worked_values_and_tangents():
    program = Program("p = x1*x2; s = sin(x1); f = p + s")
    e = explain(program, x1=2.0, x2=3.0, mode="forward", seed="x1")
    rows = {row.step.name.text: row for row in e.tangents}
    values = {"x1": "2", "x2": "3", "p": "6", "s": "0.909297", "f": "6.909297"}
    tangents = {"x1": "1", "x2": "0", "p": "3", "s": "-0.416147", "f": "2.583853"}
    for name in values:
        agree(rows[name].step.value, values[name])
        agree(rows[name].value, tangents[name])
    assert e.verdict.findings["the seed"].grade == "excellent"


# In every rendering ------------------------------------------------------------------------------------------------


def numbers_in(text):
    text = text.replace("−", "-").replace(r" \cdot 10^{", "e").replace("}", " ")
    return [float(found) for found in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", text)]


@pytest.mark.parametrize("trace", TRACES)
@pytest.mark.parametrize("format", ["text", "markdown", "latex", "json"])
def test_every_rendering_shows_the_worked_numbers(trace, format):
    shown = numbers_in(explained(trace).to(format))
    _, _, values, gradients = TRACES[trace]
    for written in (*values.values(), *gradients.values()):
        for text in np.asarray(written).reshape(-1):
            decimals = len(str(text).partition(".")[2])
            assert any(f"{number:.{decimals}f}" == text for number in shown), text


@pytest.mark.parametrize("trace", TRACES)
def test_the_json_says_the_same_as_the_rows(trace):
    e = explained(trace)
    data = json.loads(e.to("json"))
    by_name = {step["name"]["text"]: step for step in data["steps"]}
    _, _, values, gradients = TRACES[trace]
    for name, written in values.items():
        agree(by_name[name]["value"], written)
    found = {gradient["of"]: gradient for gradient in data["gradients"]}
    for name, written in gradients.items():
        agree(found[name]["value"], written)


def test_a_python_function_gives_the_names_of_its_variables():
    def loss(w, x, b, y):
        prediction = w * x + b
        error = prediction - y
        return error**2

    e = explain(loss, w=2, x=3, b=1, y=8)
    assert [step.name.text for step in e.steps] == ["w", "x", "b", "y", "v1", "prediction", "error", "loss"]
    assert [float(e.gradient(name).value) for name in "wxby"] == [-6, -4, -2, 2]
    assert cr.explain is explain
