"""The expression language: what it computes, and what it refuses."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule.explain import explain
from chainrule.explain.language import ExpressionError, Program, value_of

NAMES = ("a", "b", "c")
atoms = st.sampled_from(NAMES) | st.integers(1, 9).map(str) | st.sampled_from(["0.5", "1.25"])


def extended(inner):
    pairs = st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})")
    calls = st.tuples(st.sampled_from(["tanh", "sin", "cos"]), inner).map(lambda t: f"{t[0]}({t[1]})")
    powers = inner.map(lambda x: f"({x})**2")
    return pairs | calls | powers | inner.map(lambda x: f"-{x}")


def of_python(expression, functions, inputs):
    """The oracle: Python itself, on an expression that this file made up."""
    return eval(expression, functions, inputs)  # noqa: S307


@given(st.recursive(atoms, extended, max_leaves=8), st.tuples(*[st.floats(-1.5, 1.5)] * 3))
def test_an_expression_has_the_value_and_gradient_that_python_and_grad_give_it(expression, values):
    inputs = dict(zip(NAMES, values, strict=True))
    used = Program(expression).names
    if not used:
        return
    given_inputs = {name: inputs[name] for name in used}
    functions = {"tanh": np.tanh, "sin": np.sin, "cos": np.cos}
    numbers = {name: math.tanh if name == "tanh" else getattr(math, name) for name in functions}
    e = explain(Program(f"r = {expression} + 0*({' + '.join(used)})"), check=False, **given_inputs)
    assert float(e.result.value) == pytest.approx(of_python(expression, numbers, given_inputs), rel=1e-12, abs=1e-12)

    def again(*args):
        return of_python(expression, functions, dict(zip(used, args, strict=True))) + 0 * sum(args)

    expected = cr.grad(again, argnums=tuple(range(len(used))))(*given_inputs.values())
    for name, g in zip(used, expected, strict=True):
        assert float(e.gradient(name).value) == pytest.approx(g, rel=1e-9, abs=1e-9)


REFUSED = {
    "__import__('os')": "__import__",
    "import os": "import os",
    "a; from os import path": "from os import path",
    "a.real": "a.real",
    "a.__class__.__bases__": "a.__class__.__bases__",
    "(lambda: a)()": "lambda: a",
    "open('x')": "open",
    "eval('a')": "eval",
    "a if a else 1": "a if a else 1",
    "[a for a in a]": "[a for a in a]",
    "f'{a}'": "f'{a}'",
    "'text'": "'text'",
    "a ^ 2": "a ^ 2",
    "a and a": "a and a",
    "(a := 2)": "a := 2",
    "a, b = 1": "a, b",
    "sin = 2": "sin",
    "sum(*a)": "*a",
    "sum(a, **a)": "a",
    "sum(a, axis=a)": "a",
    "a[a]": "a",
    "{1: a}": "{1: a}",
    "def f(): pass": "def f(): pass",
    "tanhh(a)": "tanhh",
    "a + σσ(a)": "σσ",
    "1j * a": "1j",
    "None": "None",
    "del a": "del a",
    "~a": "~a",
}


@pytest.mark.parametrize("source", REFUSED)
def test_what_is_not_on_the_list_is_refused_and_underlined(source):
    with pytest.raises(ExpressionError) as caught:
        Program(source)
    assert "\n" not in str(caught.value)
    line, marks = caught.value.underlined.splitlines()
    start = marks.index("^")
    assert line[start : len(marks)] == REFUSED[source]


@pytest.mark.parametrize("source", ["", "a +", "(a", "a b", "a\x00b", "((((" * 200, "a" * 30_000, "-" * 5000 + "a"])
def test_text_that_is_no_expression_is_one_clear_error(source):
    with pytest.raises(ExpressionError) as caught:
        Program(source)
    assert "\n" not in str(caught.value)


def test_a_spelling_mistake_is_answered_with_the_nearest_function():
    with pytest.raises(ExpressionError, match="did you mean sigmoid"):
        Program("sigmoyd(a)")


def test_a_huge_power_is_an_error_and_not_a_long_wait():
    with pytest.raises(ExpressionError):
        explain(Program("a * 9**9**9**9"), a=1.0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        ("-1/3", -1 / 3),
        ("[[.1,.2],[.3,.4]]", [[0.1, 0.2], [0.3, 0.4]]),
        ("pi/2", math.pi / 2),
        ("1e-3", 1e-3),
    ],
)
def test_values_are_numbers_and_lists(text, value):
    np.testing.assert_array_equal(value_of(text), value)


@pytest.mark.parametrize("text", ["", "x", "[1,[2]]", "a=1", "'1'", "1;2", "open('x')"])
def test_anything_else_is_no_value(text):
    with pytest.raises(ExpressionError):
        value_of(text)


def test_an_error_in_a_step_underlines_that_step():
    program = Program("z = W@x; L = sum(z)")
    with pytest.raises(ExpressionError) as caught:
        explain(program, W=np.ones((1, 3)), x=np.ones(2))
    line, marks = caught.value.underlined.splitlines()
    assert line[marks.index("^") : len(marks)] == "W@x"
    assert "3 columns against 2 rows" in str(caught.value)
