"""`grad`, `vjp`, `jvp`, `jacobian`: what they take, what they return, and their errors."""

import numpy as np
import pytest

import chainrule as cr


def test_a_float_gives_a_float():
    g = cr.grad(lambda x: np.tanh(x) ** 2 + x)(1.0)
    assert type(g) is float
    t = np.tanh(1.0)
    assert g == pytest.approx(1 + 2 * t * (1 - t * t), rel=1e-15)


def test_an_array_gives_an_array_of_its_own():
    x = np.ones(3)
    first, second = cr.grad(lambda a, b: (a + b).sum(), argnums=(0, 1))(x, x)
    assert type(first) is np.ndarray
    first[0] = 7  # writable, and no other result's memory
    assert second.tolist() == [1, 1, 1]
    assert x.tolist() == [1, 1, 1]


def test_a_tensor_gives_a_tensor():
    assert isinstance(cr.grad(lambda x: (x * x).sum())(cr.tensor([1.0])), cr.Tensor)


def test_pytrees_come_back_in_their_own_shape():
    tree = {"w": np.ones((2, 3)), "layers": [np.float64(2.0), (3.0, None)]}

    def f(p, x):
        return (p["w"] @ x).sum() * p["layers"][0] + p["layers"][1][0] ** 2

    g = cr.grad(f)(tree, np.arange(3.0))
    assert g["w"].tolist() == [[0, 2, 4], [0, 2, 4]]
    assert g["layers"][0] == 6
    assert g["layers"][1] == (6.0, None)


def test_has_aux_hands_the_rest_through():
    (value, aux), g = cr.value_and_grad(lambda x: (x * x, {"twice": 2 * x}), has_aux=True)(3.0)
    assert (value, g) == (9, 6)
    assert aux == {"twice": 6}
    assert cr.grad(lambda x: (x * x, "text"), has_aux=True)(3.0) == (6, "text")


def test_what_the_result_does_not_depend_on_has_gradient_zero():
    assert cr.grad(lambda x: 3.0)(1.0) == 0
    assert cr.grad(lambda x, y: y * 2.0, argnums=(0, 1))(np.ones(2), 1.0)[0].tolist() == [0, 0]


@pytest.mark.parametrize("bad", [3, True, np.arange(3), [1, 2]])
def test_a_gradient_of_an_integer_is_refused(bad):
    with pytest.raises(TypeError, match="floating point"):
        cr.grad(lambda x: np.sum(x) * 1.0)(bad)


def test_integers_beside_the_differentiated_argument_are_welcome():
    assert cr.grad(lambda x, n: x**n)(2.0, 3) == 12


def test_the_gradient_of_an_array_is_refused_with_a_way_out():
    with pytest.raises(cr.GradientError, match=r"shape \(3,\).*jacobian"):
        cr.grad(lambda x: x * 2)(np.ones(3))


def test_argnums_out_of_range():
    with pytest.raises(ValueError, match="argument 2"):
        cr.grad(lambda x: x, argnums=2)(1.0)


def test_python_mathematics_on_a_traced_value_is_refused():
    import math

    with pytest.raises(cr.GradientError, match=r"math\.tanh"):
        cr.grad(lambda x: math.sin(x) * x)(1.0)


def test_keyword_arguments_are_handed_through():
    assert cr.grad(lambda x, *, k: x * k)(1.0, k=5.0) == 5


def test_vjp_can_be_pulled_many_times():
    value, pull = cr.vjp(lambda x, y: (x * y, x + y), 2.0, 3.0)
    assert value == (6, 5)
    assert pull((1.0, 0.0)) == (3, 2)
    assert pull((0.0, 1.0)) == (1, 1)
    assert pull((1.0, 2.0)) == (5, 4)


def test_vjp_checks_the_cotangents_structure_and_shape():
    _, pull = cr.vjp(lambda x: x * 2, np.ones(3))
    with pytest.raises(ValueError, match="shape"):
        pull(np.ones(2))
    with pytest.raises(ValueError, match="leaves"):
        pull((np.ones(3), np.ones(3)))


def test_changing_what_vjp_returned_does_not_change_what_it_pulls():
    value, pull = cr.vjp(np.tanh, np.zeros(3))
    value[:] = 100
    assert pull(np.ones(3))[0].tolist() == [1, 1, 1]
    seed = np.ones(3)
    (g,) = cr.vjp(lambda x: x + 0.0, np.zeros(3))[1](seed)
    g[0] = 7
    assert seed.tolist() == [1, 1, 1]


def test_floats_in_floats_out():
    value, g = cr.value_and_grad(np.tanh)(1.0)
    assert type(value) is type(g) is float
    assert [type(v) for v in cr.jvp(np.sin, (1.0,), (1.0,))] == [float, float]


def test_jvp_of_pytrees():
    value, tangent = cr.jvp(lambda p: {"y": p["a"] * p["b"]}, ({"a": 2.0, "b": 3.0},), ({"a": 1.0, "b": 10.0},))
    assert value["y"] == 6
    assert tangent["y"] == 23


def test_jvp_checks_structure_and_shape():
    with pytest.raises(ValueError, match="structure"):
        cr.jvp(lambda x: x, (1.0,), (1.0, 2.0))
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        cr.jvp(lambda x: x, (np.ones(3),), (np.ones(2),))
    with pytest.raises(TypeError, match="tuples"):
        cr.jvp(lambda x: x, 1.0, 1.0)


def test_forward_and_reverse_are_transposes():
    rng = np.random.default_rng(0)
    A, x, v, u = (
        rng.standard_normal((4, 3)),
        rng.standard_normal(3),
        rng.standard_normal(3),
        rng.standard_normal(4),
    )

    def f(x):
        return np.tanh(A @ x) + x.sum()

    pushed = cr.jvp(f, (x,), (v,))[1]
    (pulled,) = cr.vjp(f, x)[1](u)
    assert u @ pushed == pytest.approx(pulled @ v, rel=1e-13)


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
@pytest.mark.parametrize(("n", "m"), [(2, 5), (5, 2), (1, 1), (3, 3)])
def test_jacobian_in_every_mode(mode, n, m):
    rng = np.random.default_rng(n * m)
    A, x = rng.standard_normal((m, n)), rng.standard_normal(n)
    J = cr.jacobian(lambda x: np.sin(A @ x), mode=mode)(x)
    np.testing.assert_allclose(J, np.cos(A @ x)[:, None] * A, rtol=1e-13)


def test_jacobian_shapes_are_output_then_input():
    J = cr.jacobian(lambda x, y: np.outer(x, y), argnums=(0, 1))(np.ones(2), np.ones(3))
    assert [j.shape for j in J] == [(2, 3, 2), (2, 3, 3)]
    J = cr.jacobian(lambda p: {"s": p["a"].sum(), "v": p["a"] * p["b"]})({"a": np.ones(2), "b": 2.0})
    assert J["v"]["a"].tolist() == [[2, 0], [0, 2]]
    assert J["s"]["b"].shape == ()
    assert J["v"]["b"].tolist() == [1, 1]


def test_jacobian_refuses_an_unknown_mode():
    with pytest.raises(ValueError, match="sideways"):
        cr.jacobian(lambda x: x, mode="sideways")


def test_jacobian_takes_the_cheaper_mode():
    calls = {"wide": 0, "tall": 0}

    def wide(x):
        calls["wide"] += 1
        return x[:2] * 1.0

    def tall(x):
        calls["tall"] += 1
        return np.concatenate([x, x, x])

    cr.jacobian(wide)(np.ones(50))
    cr.jacobian(tall)(np.ones(2))
    assert calls["wide"] == 1  # reverse: one run, two walks
    assert calls["tall"] <= 3  # forward: a run per input, beside the one that counts the outputs


def test_empty_arrays_have_empty_gradients():
    assert cr.grad(lambda x: x.sum())(np.ones((0, 3))).shape == (0, 3)
    assert cr.jacobian(lambda x: x * 2)(np.ones(0)).shape == (0, 0)


def test_forward_mode_keeps_no_graph():
    import tracemalloc

    def chain(depth):
        def f(x):
            for _ in range(depth):
                x = np.tanh(x) * 1.01
            return x

        return f

    x = np.ones(20_000)

    def peak(depth):
        tracemalloc.start()
        cr.jvp(chain(depth), (x,), (x,))
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return high

    assert peak(100) < 1.2 * peak(10)
