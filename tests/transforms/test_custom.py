"""`custom_vjp`: the user's own rule, and derivatives through it."""

import numpy as np
import pytest

import chainrule as cr


@cr.custom_vjp
def log1pexp(x):
    return np.log(1 + np.exp(x))


log1pexp.defvjp(
    lambda x: (np.logaddexp(0.0, x), x),
    lambda x, g: (g / (1 + np.exp(-x)),),
)


def sigma(x):
    return 1 / (1 + np.exp(-x))


def test_the_rule_is_used_where_the_plain_one_overflows():
    assert cr.grad(log1pexp)(1000.0) == 1.0
    assert log1pexp(0.0) == pytest.approx(np.log(2))


def test_derivatives_of_any_order_follow():
    x = 0.3
    s = sigma(x)
    assert cr.grad(cr.grad(log1pexp))(x) == pytest.approx(s * (1 - s))
    assert cr.hvp(log1pexp, x, 1.0) == pytest.approx(s * (1 - s))
    assert cr.grad(cr.grad(cr.grad(log1pexp)))(x) == pytest.approx(s * (1 - s) * (1 - 2 * s))


def test_create_graph_goes_through_the_rule():
    t = cr.tensor(0.3, requires_grad=True)
    log1pexp(t).backward(create_graph=True)
    g, t.grad = t.grad, None
    g.backward()
    s = sigma(0.3)
    assert t.grad.item() == pytest.approx(s * (1 - s))


def test_forward_mode_alone_is_refused():
    with pytest.raises(cr.GradientError, match=r"log1pexp.*forward-mode"):
        cr.jvp(log1pexp, (1.0,), (1.0,))


def test_a_rule_that_lies_is_believed():
    @cr.custom_vjp
    def f(x):
        return x * x

    f.defvjp(lambda x: (x * x, None), lambda _, g: (g * 42,))
    assert cr.grad(f)(1.0) == 42


def test_several_arguments_pytrees_and_outputs():
    @cr.custom_vjp
    def f(p, y, n):
        return p["a"] * y * n, y + 1

    f.defvjp(
        lambda p, y, n: ((p["a"] * y * n, y + 1), (p["a"], y, n)),
        lambda r, g: ({"a": g[0] * r[1] * r[2]}, g[0] * r[0] * r[2] + g[1], None),
    )
    g = cr.grad(lambda p, y: f(p, y, 3)[0] + f(p, y, 3)[1] * 10, argnums=(0, 1))({"a": 2.0}, 5.0)
    assert g == ({"a": 15.0}, 16.0)


def test_the_rule_runs_once_for_all_inputs():
    calls = []

    @cr.custom_vjp
    def f(x, y):
        return x * y

    def backward(residuals, g):
        calls.append(1)
        return g * residuals[1], g * residuals[0]

    f.defvjp(lambda x, y: (x * y, (x, y)), backward)
    assert cr.grad(f, argnums=(0, 1))(2.0, 3.0) == (3, 2)
    assert len(calls) == 1


def test_a_rule_of_the_wrong_shape_or_number_is_named():
    @cr.custom_vjp
    def f(x):
        return x * 2

    f.defvjp(lambda x: (x * 2, None), lambda _, g: (g.sum(),))
    with pytest.raises(ValueError, match=r"f: .*shape \(\).*\(3,\)"):
        cr.grad(lambda x: f(x).sum())(np.ones(3))
    f.defvjp(lambda x: (x * 2, None), lambda _, g: (g, g))
    with pytest.raises(ValueError, match="tuple of 1"):
        cr.grad(lambda x: f(x).sum())(np.ones(3))


def test_a_rule_must_be_given_before_use():
    @cr.custom_vjp
    def f(x):
        return x

    with pytest.raises(cr.GradientError, match="defvjp"):
        f(1.0)
