"""Layers compute what their formulas say, on numbers worked out by hand, and refuse what does not fit."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn

F = nn.functional


def floats(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def check_module(module, x, order=2):
    """Gradients of a float64 module by its parameters and its input."""
    parameters = {name: p.data for name, p in module.named_parameters()}
    cr.check_grads(lambda p, x: nn.functional_call(module, p, x), (parameters, x), order=order)


# Linear and what it is wired into ---------------------------------------------------------------------------


def test_the_two_layer_classifier_gives_the_numbers_worked_out_by_hand():
    model = nn.Sequential(nn.Linear(2, 2, dtype=np.float64), nn.ReLU(), nn.Linear(2, 2, dtype=np.float64))
    model.load_state_dict(
        {
            "0.weight": np.array([[0.1, 0.2], [0.3, 0.4]]),
            "0.bias": np.array([0.1, 0.1]),
            "2.weight": np.array([[0.5, 0.6], [0.7, 0.8]]),
            "2.bias": np.array([0.1, 0.1]),
        }
    )
    x = cr.tensor([[1.0, 2.0]])
    hidden = model[1](model[0](x))
    hidden.retain_grad()
    z = model[2](hidden)
    z.retain_grad()
    loss = nn.CrossEntropyLoss()(z, np.array([0]))
    loss.backward()
    by_hand = {
        "hidden": (hidden.data, [[0.6, 1.2]]),
        "logits": (z.data, [[1.12, 1.48]]),
        "probabilities": (F.softmax(z, 1).data, [[0.410960, 0.589040]]),
        "loss": (loss.data, 0.889260),
        "dz2": (z.grad.data, [[-0.589040, 0.589040]]),
        "dW2": (model[2].weight.grad.data, [[-0.353424, -0.706849], [0.353424, 0.706849]]),
        "db2": (model[2].bias.grad.data, [-0.589040, 0.589040]),
        "dh1": (hidden.grad.data, [[0.117808, 0.117808]]),
        "dW1": (model[0].weight.grad.data, [[0.117808, 0.235616], [0.117808, 0.235616]]),
        "db1": (model[0].bias.grad.data, [0.117808, 0.117808]),
    }
    for name, (value, expected) in by_hand.items():
        np.testing.assert_allclose(value, expected, atol=5e-7, err_msg=name)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 4, 3)])
def test_linear_works_over_the_last_axis_of_any_shape(shape, bias):
    layer = nn.Linear(3, 2, bias=bias, dtype=np.float64)
    x = floats(*shape)
    expected = x @ layer.weight.data.T + (layer.bias.data if bias else 0)
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-12)
    check_module(layer, x)


def test_linear_refuses_shapes_and_dtypes_that_do_not_fit():
    layer = nn.Linear(3, 2)
    with pytest.raises(ValueError, match=r"linear: an input of shape \(4, 2\) does not fit a weight of shape \(2, 3\)"):
        layer(floats(4, 2, dtype=np.float32))
    with pytest.raises(TypeError, match=r"parameters are float32, the input is float64 \(shape \(4, 3\)\)"):
        layer(floats(4, 3))
    with pytest.raises(TypeError, match=r"input is int64 .* Convert the input, as in x\.astype") as caught:
        layer(np.ones((4, 3), np.int64))
    assert "model.to" not in str(caught.value)
    with pytest.raises(ValueError, match="Linear: out_features must be at least 1, got 0"):
        nn.Linear(3, 0)
    with pytest.raises(TypeError, match=r"Linear: in_features must be an integer, got 2\.5"):
        nn.Linear(2.5, 1)


def test_linear_takes_lists_in_its_own_dtype():
    assert nn.Linear(2, 1)([[1, 2]]).dtype == np.float32


def test_float32_stays_float32_through_every_layer_and_its_gradients():
    model = nn.Sequential(
        nn.Linear(4, 4), nn.BatchNorm1d(4), nn.LeakyReLU(), nn.Residual(nn.Linear(4, 4)), nn.LayerNorm(4), nn.ELU(),
        nn.Dropout(0.5), nn.GELU(), nn.SiLU(), nn.Softplus(), nn.Sigmoid(), nn.Tanh(), nn.ReLU(), nn.Linear(4, 2),
    )  # fmt: skip
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)(model(floats(8, 4, dtype=np.float32)), np.arange(8) % 2)
    loss.backward()
    assert loss.dtype == np.float32
    assert {p.grad.dtype for p in model.parameters()} == {np.dtype(np.float32)}
    assert {b.dtype for b in model.buffers()} == {np.dtype(np.float32), np.dtype(np.int64)}


@pytest.mark.parametrize(
    "module, at_minus_one, at_two",
    [
        (nn.ReLU(), 0, 2),
        (nn.LeakyReLU(), -0.01, 2),
        (nn.LeakyReLU(0.2), -0.2, 2),
        (nn.ELU(), np.exp(-1) - 1, 2),
        (nn.ELU(alpha=2.0), 2 * (np.exp(-1) - 1), 2),
        (nn.GELU(), -0.15865525393145707, 1.9544997361036416),  # x·Φ(x)
        (nn.SiLU(), -1 / (1 + np.e), 2 / (1 + np.exp(-2))),
        (nn.Softplus(), np.log1p(np.exp(-1)), np.log1p(np.exp(2))),
        (nn.Softplus(beta=2.0), np.log1p(np.exp(-2)) / 2, np.log1p(np.exp(4)) / 2),
        (nn.Sigmoid(), 1 / (1 + np.e), 1 / (1 + np.exp(-2))),
        (nn.Tanh(), np.tanh(-1), np.tanh(2)),
        (nn.Identity(), -1, 2),
        (nn.Softmax(dim=0), 1 / (1 + np.exp(3)), 1 / (1 + np.exp(-3))),
        (nn.LogSoftmax(dim=0), -np.log1p(np.exp(3)), -np.log1p(np.exp(-3))),
    ],
    ids=repr,
)
def test_an_activation_is_its_formula(module, at_minus_one, at_two):
    y = module(cr.tensor([-1.0, 2.0]))
    np.testing.assert_allclose(y.data, [at_minus_one, at_two], rtol=1e-12, atol=1e-15)
    assert list(module.parameters()) == []


def test_gelu_by_the_tanh_formula_is_close_to_the_exact_one_but_not_the_same():
    x = cr.tensor([-1.0, 2.0])
    difference = np.abs((nn.GELU("tanh")(x) - nn.GELU()(x)).data)
    assert (difference > 0).all()
    assert (difference < 1e-3).all()


def test_flatten_keeps_the_batch():
    x = floats(2, 3, 4, 5)
    np.testing.assert_array_equal(nn.Flatten()(x).data, x.reshape(2, 60))
    np.testing.assert_array_equal(nn.Flatten(0, -2)(x).data, x.reshape(24, 5))
    with pytest.raises(IndexError, match=r"shape \(3,\) has no axes 1 to -1"):
        nn.Flatten()(floats(3))


# Containers -------------------------------------------------------------------------------------------------


def test_sequential_is_a_list_that_computes():
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Tanh())
    assert len(model) == 3
    assert [*model] == [model[0], model[1], model[2]]
    assert model[-1] is model[2]
    assert [*model[1:]] == [model[1], model[2]]
    assert [name for name, _ in model[1:].named_children()] == ["0", "1"]
    x = np.ones((1, 1), np.float32)
    np.testing.assert_array_equal(model(x).data, model[2](model[1](model[0](x))).data)
    assert model.append(nn.Identity()) is model
    model[1] = nn.Sigmoid()
    del model[0]
    assert [type(module).__name__ for module in model] == ["Sigmoid", "Tanh", "Identity"]
    assert [name for name, _ in model.named_children()] == ["0", "1", "2"]
    with pytest.raises(IndexError):
        model[3]


def test_sequential_takes_names():
    model = nn.Sequential({"hidden": nn.Linear(1, 2), "output": nn.Linear(2, 1)})
    assert list(model.state_dict()) == ["hidden.weight", "hidden.bias", "output.weight", "output.bias"]
    assert model.hidden is model[0]
    model.append(nn.ReLU())
    assert [name for name, _ in model.named_children()] == ["hidden", "output", "2"]
    taken = nn.Sequential({"1": nn.Linear(1, 1)})
    assert [name for name, _ in taken.append(nn.ReLU()).named_children()] == ["1", "2"]


def test_containers_refuse_what_is_no_module_and_guess_what_was_meant():
    with pytest.raises(TypeError, match=r"did you mean ReLU\(\)\?"):
        nn.Sequential(nn.Linear(1, 1), nn.ReLU)
    with pytest.raises(TypeError, match="ModuleList is made of modules, got 3"):
        nn.ModuleList([3])


def test_modules_in_a_module_list_are_parts_of_its_owner():
    class Stack(nn.Module):
        def __init__(self):
            self.layers = nn.ModuleList([nn.Linear(1, 1) for _ in range(2)])

    assert [name for name, _ in Stack().named_parameters()] == [
        "layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias",
    ]  # fmt: skip


def test_residual_adds_its_input_so_its_jacobian_is_the_identity_plus_that_of_the_inside():
    inner = nn.Linear(3, 3, dtype=np.float64)
    jacobian = cr.jacobian(nn.Residual(inner))(floats(3))
    np.testing.assert_allclose(jacobian.data, np.eye(3) + inner.weight.data, rtol=1e-12)


def test_residual_refuses_a_change_of_shape():
    with pytest.raises(ValueError, match=r"of shape \(4, 3\), to the output of Linear, of shape \(4, 2\)") as caught:
        nn.Sequential(nn.Residual(nn.Linear(3, 2)))(floats(4, 3, dtype=np.float32))
    assert caught.value.__notes__ == ["in module 0 (Residual)"]


# Normalisation ----------------------------------------------------------------------------------------------


def test_batch_norm_in_training_uses_the_batch_and_moves_the_running_statistics():
    layer = nn.BatchNorm1d(1, dtype=np.float64)
    y = layer(np.array([[1.0], [3.0]]))  # mean 2, biased variance 1, unbiased variance 2
    np.testing.assert_allclose(y.data, [[-1 / np.sqrt(1 + 1e-5)], [1 / np.sqrt(1 + 1e-5)]], rtol=1e-12)
    np.testing.assert_allclose(layer.running_mean.data, [0.1 * 2], rtol=1e-12)
    np.testing.assert_allclose(layer.running_var.data, [0.9 * 1 + 0.1 * 2], rtol=1e-12)
    assert layer.num_batches_tracked.item() == 1


def test_batch_norm_in_evaluation_uses_the_running_statistics_and_leaves_them():
    layer = nn.BatchNorm1d(1, dtype=np.float64).eval()
    layer.load_state_dict(
        {"weight": [3.0] * np.ones(1), "bias": np.ones(1), "running_mean": np.array([2.0]),
         "running_var": np.array([4 - 1e-5]), "num_batches_tracked": np.array(7)}
    )  # fmt: skip
    np.testing.assert_allclose(layer(np.array([[6.0]])).data, [[3 * (6 - 2) / 2 + 1]], rtol=1e-12)
    assert layer.running_mean.item() == 2
    assert layer.num_batches_tracked.item() == 7


def test_batch_norm_without_momentum_averages_over_all_batches():
    layer = nn.BatchNorm1d(1, momentum=None, dtype=np.float64)
    for mean in (1.0, 2.0, 6.0):
        layer(np.array([[mean - 1], [mean + 1]]))
    np.testing.assert_allclose(layer.running_mean.data, [3.0], rtol=1e-12)
    np.testing.assert_allclose(layer.running_var.data, [2.0], rtol=1e-12)
    layer.reset_running_stats()
    assert (layer.running_mean.item(), layer.running_var.item(), layer.num_batches_tracked.item()) == (0, 1, 0)


def test_batch_norm_without_running_statistics_uses_the_batch_always():
    layer = nn.BatchNorm1d(2, track_running_stats=False, affine=False)
    x = floats(5, 2, dtype=np.float32)
    np.testing.assert_array_equal(layer(x).data, layer.eval()(x).data)
    assert layer.state_dict() == {}


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 2)])
def test_batch_norm_has_the_right_gradients_in_training_and_evaluation(shape, affine):
    layer, x = nn.BatchNorm1d(3, affine=affine, dtype=np.float64), floats(*shape)
    layer(x)
    check_module(layer, x)
    check_module(layer.eval(), x)


def test_batch_norm_statistics_do_not_hold_on_to_the_graph():
    layer = nn.BatchNorm1d(2)
    layer(floats(4, 2, dtype=np.float32))
    assert layer.running_mean.is_leaf
    assert not layer.running_mean.requires_grad


def test_batch_norm_says_what_does_not_fit():
    layer = nn.BatchNorm1d(3)
    with pytest.raises(ValueError, match="every channel needs more than one value"):
        layer(np.ones((1, 3), np.float32))
    assert layer.num_batches_tracked.item() == 0
    with pytest.raises(ValueError, match=r"has 2 channels \(axis 1\), but running_mean has shape \(3,\)"):
        layer(np.ones((4, 2), np.float32))
    with pytest.raises(ValueError, match=r"needs an input of shape \(batch, 3\)"):
        layer(np.ones(3, np.float32))
    with pytest.raises(TypeError, match="BatchNorm1d: the parameters are float32, the input is float64"):
        layer(np.ones((4, 3)))
    with pytest.raises(ValueError, match="outside training it needs running_mean"):
        F.batch_norm(np.ones((4, 3)), None, None)


def test_layer_norm_has_mean_0_and_variance_1_over_the_last_axes():
    x = floats(4, 3, 5)
    y = nn.LayerNorm((3, 5), eps=0.0, dtype=np.float64)(x).data
    np.testing.assert_allclose(y.mean(axis=(1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=(1, 2)), 1, rtol=1e-12)


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"elementwise_affine": False}])
def test_layer_norm_has_the_right_gradients(options):
    check_module(nn.LayerNorm(4, dtype=np.float64, **options), floats(3, 4))


def test_layer_norm_says_what_does_not_fit():
    with pytest.raises(ValueError, match=r"input of shape \(2, 4\) does not end in the shape \(3,\)"):
        nn.LayerNorm(3)(np.ones((2, 4), np.float32))
    with pytest.raises(ValueError, match=r"weight has shape \(4,\), it must be \(3,\)"):
        F.layer_norm(np.ones((2, 3)), (3,), np.ones(4))


def test_normalize_makes_unit_vectors_and_leaves_zeros():
    y = F.normalize(cr.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True))
    np.testing.assert_allclose(y.data, [[0.6, 0.8], [0, 0]], rtol=1e-12)
    y.sum().backward()
    np.testing.assert_allclose(F.normalize(cr.tensor([[3.0, -1.0]]), p=1).data, [[0.75, -0.25]], rtol=1e-12)


# Dropout ----------------------------------------------------------------------------------------------------


def test_dropout_keeps_the_expected_share_scaled_so_that_the_mean_stays():
    nn.random.manual_seed(0)
    y = nn.Dropout(0.25)(cr.tensor(np.ones(100_000))).data
    assert set(np.unique(y)) == {0, 1 / 0.75}
    assert abs(y.mean() - 1) < 4 * np.sqrt(0.25 / 0.75 / 100_000)


def test_dropout_gives_the_same_mask_for_the_same_seed_and_another_one_next_time():
    layer, x = nn.Dropout(), cr.tensor(np.ones(100))
    nn.random.manual_seed(3)
    first, second = layer(x).data, layer(x).data
    nn.random.manual_seed(3)
    np.testing.assert_array_equal(layer(x).data, first)
    assert (first != second).any()


def test_dropout_lets_the_gradient_through_where_it_let_the_value_through():
    x = cr.tensor(np.ones(100), requires_grad=True)
    y = F.dropout(x, 0.5)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, y.data)


def test_dropout_passes_everything_in_evaluation_and_nothing_at_probability_1():
    x = cr.tensor(np.ones(5))
    assert nn.Dropout().eval()(x) is x
    np.testing.assert_array_equal(nn.Dropout(1.0)(x).data, np.zeros(5))
    with pytest.raises(ValueError, match=r"probability, from 0 to 1, got 1\.5"):
        nn.Dropout(1.5)


# MLP --------------------------------------------------------------------------------------------------------


def kinds(model):
    return [type(module).__name__ for module in model.layers]


def test_a_plain_mlp_is_linear_norm_activation_dropout_and_a_last_linear():
    model = nn.MLP(4, [8, 6], 3, activation="tanh", norm="batch", dropout=0.1)
    assert kinds(model) == ["Linear", "BatchNorm1d", "Tanh", "Dropout"] * 2 + ["Linear"]
    assert [module.weight.shape for module in model.modules() if isinstance(module, nn.Linear)] == [
        (8, 4), (6, 8), (3, 6),
    ]  # fmt: skip


def test_one_width_and_a_depth_say_the_same_as_a_list_of_widths():
    assert repr(nn.MLP(4, 8, 3, depth=3)) == repr(nn.MLP(4, [8, 8, 8], 3))
    assert kinds(nn.MLP(4, 8, 3, depth=0)) == ["Linear"]


def test_a_residual_mlp_passes_its_input_around_every_hidden_layer_but_the_first():
    model = nn.MLP(4, 8, 3, depth=3, residual=True, norm="layer")
    assert kinds(model) == ["Linear", "Residual", "Residual", "LayerNorm", "ReLU", "Linear"]
    assert [type(part).__name__ for part in model.layers[1].inner] == ["LayerNorm", "ReLU", "Linear"]


@pytest.mark.parametrize("options", [{}, {"norm": "layer"}, {"residual": True}, {"norm": "batch", "residual": True}])
def test_an_mlp_has_the_right_gradients(options):
    nn.random.manual_seed(1)
    check_module(nn.MLP(3, 4, 2, depth=3, activation="tanh", dtype=np.float64, **options), floats(5, 3), order=1)


def first_over_last(model, x):
    """The gradient of the first Linear's weight against the last one's."""
    (model(x) ** 2).sum().backward()
    norms = [np.linalg.norm(m.weight.grad.data) for m in model.modules() if isinstance(m, nn.Linear)]
    return norms[0] / norms[-1]


def test_gradients_vanish_in_a_deep_sigmoid_network_and_not_in_a_deeper_residual_one():
    nn.random.manual_seed(0)
    x = floats(16, 8, dtype=np.float32)
    assert first_over_last(nn.MLP(8, 16, 2, depth=30, activation="sigmoid"), x) < 1e-8
    for activation in ("relu", "tanh"):
        assert 1e-2 < first_over_last(nn.MLP(8, 16, 2, depth=200, activation=activation, residual=True), x) < 1e2


@pytest.mark.parametrize(
    "activation, spread", [("relu", 2 / 200), ("gelu", 2 / 200), ("tanh", 2 / 500), ("sigmoid", 2 / 500)]
)
def test_weights_start_with_the_variance_that_suits_the_activation(activation, spread):
    nn.random.manual_seed(0)
    hidden = nn.MLP(200, 300, 1, activation=activation).layers[0]
    np.testing.assert_allclose(hidden.weight.data.var(), spread, rtol=0.03)
    np.testing.assert_array_equal(hidden.bias.data, 0)


def test_units_that_start_with_zero_weights_stay_identical():
    model = nn.MLP(2, 3, 1, activation="sigmoid", init="zeros", dtype=np.float64)
    optimizer = cr.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        model.zero_grad()
        (model(floats(4, 2)) - 1).sum().backward()
        optimizer.step()
    weight = model.layers[0].weight.data
    np.testing.assert_array_equal(weight, weight[[0, 0, 0]])
    assert (weight[0] != 0).any()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"activation": "swish"}, "activation='swish' is not known; choose one of 'relu', 'leaky_relu'"),
        ({"norm": "group"}, "norm='group' is not known; choose one of None, 'batch', 'layer'"),
        ({"init": "he"}, "init='he' is not known; choose one of None, 'xavier_uniform'"),
        ({"depth": -1}, "depth must not be negative"),
        ({"hidden": [2, 3], "residual": True}, r"residual connections need hidden layers of one width, got \[2, 3\]"),
        ({"hidden": [2, 3], "depth": 3}, r"depth=3 does not fit the 2 widths \[2, 3\]"),
        ({"hidden": [0]}, "a hidden width must be at least 1"),
    ],
)
def test_an_mlp_says_which_choice_it_does_not_know(options, message):
    with pytest.raises(ValueError, match=f"MLP: {message}"):
        nn.MLP(**{"in_features": 2, "hidden": 4, "out_features": 1, **options})
