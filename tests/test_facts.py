"""The worked numbers a person can check on a whiteboard, to all the digits that are printed."""

import math

import numpy as np
import pytest

import chainrule as cr


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def test_squared_error_of_one_neuron():
    def loss(w, x, b, y):
        return (w * x + b - y) ** 2

    value, gradients = cr.value_and_grad(loss, argnums=(0, 1, 2, 3))(2.0, 3.0, 1.0, 8.0)
    assert value == 1
    assert gradients == (-6, -4, -2, 2)


def test_squared_error_step_by_step():
    w, x, b, y = (cr.tensor(v, requires_grad=True) for v in (2.0, 3.0, 1.0, 8.0))
    steps = [w * x]
    steps.append(steps[-1] + b)
    steps.append(steps[-1] - y)
    steps.append(steps[-1] ** 2)
    for step in steps:
        step.retain_grad()
    steps[-1].backward()
    assert [s.item() for s in steps] == [6, 7, -1, 1]
    assert [s.grad.item() for s in steps] == [-2, -2, -2, 1]


@pytest.mark.parametrize(
    ("point", "q", "f", "gradient"),
    [((-2.0, 5.0, -4.0), 3, -12, (-4, -4, 3)), ((2.0, 3.0, 4.0), 5, 20, (4, 4, 5))],
)
def test_sum_times_factor(point, q, f, gradient):
    x, y, z = (cr.tensor(v, requires_grad=True) for v in point)
    s = x + y
    s.retain_grad()
    product = s * z
    product.backward()
    assert (s.item(), product.item()) == (q, f)
    assert (x.grad.item(), y.grad.item(), z.grad.item()) == gradient
    assert s.grad.item() == gradient[0]


@pytest.mark.parametrize("x", [-3.0, 0.0, 0.5, 7.0])
def test_a_value_used_twice_adds_both_paths(x):
    assert cr.grad(lambda x: x * x)(x) == 2 * x


@pytest.mark.parametrize("x", [-1.0, 0.0, 2.5])
def test_chain_through_a_square(x):
    assert cr.grad(lambda x: (3 * x + 2) ** 2)(x) == pytest.approx(6 * (3 * x + 2), rel=1e-15)


def test_polynomial():
    assert cr.value_and_grad(lambda x: x**2 + 3 * x + 1)(2.0) == (11, 7)


def test_two_sigmoids_in_a_row():
    def steps(w1, b1, w2, b2):
        z1 = 1.0 * w1 + b1
        h1 = sigmoid(z1)
        z2 = h1 * w2 + b2
        return z1, h1, z2, sigmoid(z2)

    values = steps(0.5, 0.1, -0.3, 0.2)
    assert [f"{v:.9f}" for v in values] == ["0.600000000", "0.645656306", "0.006303108", "0.501575772"]
    gradients = cr.grad(lambda *p: steps(*p)[-1], argnums=(0, 1, 2, 3))(0.5, 0.1, -0.3, 0.2)
    assert [f"{g:.9f}" for g in gradients] == ["-0.017158648", "-0.017158648", "0.161412473", "0.249997517"]


def test_forward_mode_table():
    def steps(x1, x2):
        product, sine = x1 * x2, np.sin(x1)
        return x1, x2, product, sine, product + sine

    values, tangents = cr.jvp(steps, (2.0, 3.0), (1.0, 0.0))
    assert [f"{v:.6f}" for v in values] == ["2.000000", "3.000000", "6.000000", "0.909297", "6.909297"]
    assert [f"{t:.6f}" for t in tangents] == ["1.000000", "0.000000", "3.000000", "-0.416147", "2.583853"]


def test_two_layer_classifier():
    x = np.array([1.0, 2.0])
    parameters = {
        "W1": np.array([[0.1, 0.2], [0.3, 0.4]]),
        "b1": np.array([0.1, 0.1]),
        "W2": np.array([[0.5, 0.6], [0.7, 0.8]]),
        "b2": np.array([0.1, 0.1]),
    }

    def loss(p, dz1, dz2):
        z1 = p["W1"] @ x + p["b1"] + dz1
        h1 = np.maximum(z1, 0)
        z2 = p["W2"] @ h1 + p["b2"] + dz2
        probabilities = np.exp(z2) / np.exp(z2).sum()
        return -np.log(probabilities[0]), (z1, z2, probabilities)

    zero = np.zeros(2)
    (value, (z1, z2, p)), (g, dz1, dz2) = cr.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(
        parameters, zero, zero
    )

    def shown(array):
        return [[f"{v:.6f}" for v in row] for row in np.atleast_2d(array)]

    assert f"{value:.6f}" == "0.889260"
    assert shown(z1) == [["0.600000", "1.200000"]]
    assert shown(z2) == [["1.120000", "1.480000"]]
    assert shown(p) == [["0.410960", "0.589040"]]
    assert shown(dz2) == shown(g["b2"]) == [["-0.589040", "0.589040"]]
    assert shown(g["W2"]) == [["-0.353424", "-0.706849"], ["0.353424", "0.706849"]]
    assert shown(dz1) == shown(g["b1"]) == [["0.117808", "0.117808"]]
    assert shown(g["W1"]) == [["0.117808", "0.235616"], ["0.117808", "0.235616"]]


def test_matrix_product_rule():
    rng = np.random.default_rng(0)
    W, x, delta = rng.standard_normal((3, 4)), rng.standard_normal((4, 5)), rng.standard_normal((3, 5))
    _, pull = cr.vjp(lambda W, x: W @ x, W, x)
    dW, dx = pull(delta)
    np.testing.assert_allclose(dW, delta @ x.T, rtol=1e-15)
    np.testing.assert_allclose(dx, W.T @ delta, rtol=1e-15)


def test_softmax_cross_entropy_gradient_is_p_minus_y():
    z = np.random.default_rng(1).standard_normal((6, 4))
    targets = np.array([0, 3, 1, 1, 2, 0])
    g = cr.grad(lambda z: cr.nn.functional.cross_entropy(z, targets, reduction="sum"))(z)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(g, p - np.eye(4)[targets], rtol=1e-12, atol=1e-15)


def test_batch_norm_gradient_has_its_three_terms():
    rng = np.random.default_rng(2)
    z, g, eps = rng.standard_normal((8, 3)), rng.standard_normal((8, 3)), 1e-5
    layer = cr.nn.BatchNorm1d(3, eps=eps).to(np.float64)
    _, pull = cr.vjp(lambda z: layer(z), z)
    normal = (z - z.mean(0)) / np.sqrt(z.var(0) + eps)
    direct, through_mean, through_variance = g, g.mean(0), normal * (g * normal).mean(0)
    (dz,) = pull(g)
    expected = (direct - through_mean - through_variance) / np.sqrt(z.var(0) + eps)
    np.testing.assert_allclose(np.asarray(dz.detach() if hasattr(dz, "detach") else dz), expected, rtol=1e-10)


def test_maximum_and_relu_route_to_the_winner():
    assert cr.grad(np.maximum, argnums=(0, 1))(2.0, 1.0) == (1, 0)
    assert cr.grad(np.maximum, argnums=(0, 1))(1.0, 2.0) == (0, 1)
    gate = cr.grad(lambda z: cr.nn.functional.relu(z).sum())(np.array([-1.0, 0.0, 2.0]))
    np.testing.assert_array_equal(gate, [0, 0, 1])


@pytest.mark.parametrize(
    ("f", "bound", "derivative"),
    [(sigmoid, 0.25, lambda y: y * (1 - y)), (np.tanh, 1.0, lambda y: 1 - y * y)],
)
def test_slope_of_a_squashing_function(f, bound, derivative):
    z = np.linspace(-6, 6, 101)
    slope = cr.grad(lambda z: f(z).sum())(z)
    np.testing.assert_allclose(slope, derivative(f(z)), rtol=1e-12)
    assert slope.max() == pytest.approx(bound, rel=1e-12)
    assert slope.argmax() == 50


@pytest.mark.parametrize(("layers", "bound"), [(10, "9.5e-07"), (20, "9.1e-13")])
def test_a_chain_of_sigmoids_shrinks_the_gradient_below_its_bound(layers, bound):
    def chain(x):
        for _ in range(layers):
            x = sigmoid(x)
        return x

    assert f"{0.25**layers:.1e}" == bound
    assert 0 < cr.grad(chain)(0.0) <= 0.25**layers


def test_residual_jacobian_is_identity_plus_that_of_the_branch():
    rng = np.random.default_rng(3)
    W, x = rng.standard_normal((4, 4)), rng.standard_normal(4)

    def branch(x):
        return np.tanh(W @ x)

    np.testing.assert_allclose(cr.jacobian(lambda x: x + branch(x))(x), np.eye(4) + cr.jacobian(branch)(x), rtol=1e-14)


def test_clipping_keeps_the_direction():
    p = cr.nn.Parameter(np.zeros(3))
    p.grad = np.array([3.0, 4.0, 12.0])
    norm = cr.optim.clip_grad_norm_([p], max_norm=6.5)
    assert float(norm) == 13
    np.testing.assert_allclose(np.asarray(p.grad), np.array([3.0, 4.0, 12.0]) * 0.5, rtol=1e-6)


def test_gradient_has_its_parameters_shape():
    rng = np.random.default_rng(4)
    shapes = [(3, 1), (1, 4), (), (4,), (2, 3, 4)]
    arrays = [rng.standard_normal(s) for s in shapes]
    gradients = cr.grad(lambda *a: (a[0] * a[1] + a[2] * a[3] - a[4]).sum(), argnums=range(5))(*arrays)
    assert [np.shape(g) for g in gradients] == shapes


def test_tiny_numbers_of_the_field():
    assert f"{0.2**20:.2e}" == "1.05e-14"
    assert math.isclose(cr.grad(lambda x: x**50)(0.5), 50 * 0.5**49, rel_tol=1e-14)
