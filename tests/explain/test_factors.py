"""The product of Jacobians along a chain of layers."""

import numpy as np
import pytest

from chainrule import nn
from chainrule.explain import explain
from chainrule.nn import functional as F

X = np.random.default_rng(0).standard_normal((32, 16)).astype(np.float32)
T = np.arange(32) % 3


def factors(m):
    return explain(m, X, loss=lambda output: F.cross_entropy(output, T), check=False).factors


def lengths(m):
    """The gradient's length at the output of each hidden activation, from plain hooks."""
    seen = []
    for part in m.layers:
        if isinstance(part, (nn.Sigmoid, nn.ReLU)):
            part.register_forward_hook(
                lambda module, args, out: (
                    out.register_hook(lambda g: seen.append(float(np.linalg.norm(g.data)))) and None
                )
            )
    F.cross_entropy(m(X), T).backward()
    return seen


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize(("layers", "bound"), [(10, "9.5e-07"), (20, "9.1e-13")])
def test_a_chain_of_sigmoids_has_at_most_a_quarter_per_layer(layers, bound):
    def chain(x):
        for _ in range(layers):
            x = F.sigmoid(x)
        return x

    found = explain(chain, x=0.0).factors
    assert len(found) == layers
    assert [f.bound for f in found] == pytest.approx([0.25] * layers, rel=1e-6)
    assert f"{found[-1].product_bound:.1e}" == bound
    assert 0 < found[-1].product <= found[-1].product_bound
    assert found[-1].factor == pytest.approx(0.25)  # at 0, where it starts


def test_four_sigmoids_leave_256_times_less():
    def chain(x):
        for _ in range(4):
            x = F.sigmoid(x)
        return x

    found = explain(chain, x=0.0).factors
    assert round(1 / found[-1].product_bound) == 256
    assert f"{found[-1].product_bound:.4f}" == "0.0039"


def test_factors_are_the_ratios_of_the_actual_gradients():
    nn.random.manual_seed(0)
    m = nn.MLP(16, 16, 3, depth=6, activation="sigmoid")
    found, measured = factors(m), lengths(m)
    products = [f.product / found[0].product for f in found[: len(measured)]]
    assert products == pytest.approx([length / measured[0] for length in measured], rel=1e-4)


def test_shares_of_activation_and_weights_multiply_to_the_factor():
    nn.random.manual_seed(0)
    for f in factors(nn.MLP(16, 16, 3, depth=6, activation="sigmoid"))[1:]:
        assert f.activations * f.weights == pytest.approx(f.factor, rel=1e-4)
        assert f.factor <= f.bound * (1 + 1e-6)


def test_residual_blocks_keep_the_gradient_where_sigmoid_layers_lose_it():
    nn.random.manual_seed(0)
    plain = factors(nn.MLP(16, 16, 3, depth=20, activation="sigmoid"))
    residual = factors(nn.MLP(16, 16, 3, depth=20, activation="sigmoid", residual=True))
    assert plain[-1].product / plain[0].product < 1e-8
    assert 0.1 < residual[-1].product / residual[0].product < 10
    blocks = [f for f in residual if f.around]
    assert len(blocks) >= 19
    assert all(1 < f.bound < 2 for f in blocks)


def test_he_initialisation_keeps_a_relu_network_near_one_per_layer():
    nn.random.manual_seed(0)
    found = factors(nn.MLP(16, 256, 3, depth=10, activation="relu", init="kaiming_normal"))
    assert 0.8 < np.exp(np.mean([np.log(f.factor) for f in found[1:-1]])) < 1.25


def test_a_short_graph_has_no_table():
    assert explain(lambda x: np.tanh(x) * 2.0, x=1.0).factors == []
