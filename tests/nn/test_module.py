"""A module is the tree of its attributes: walked, switched, converted, printed, and named in errors."""

import copy

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn


class Pair(nn.Module):
    """Two layers, a buffer, and a parameter of its own."""

    def __init__(self):
        self.first = nn.Linear(2, 3)
        self.scale = nn.Parameter(np.ones(3, np.float32))
        self.register_buffer("offset", cr.tensor(np.zeros(3, np.float32)))
        self.register_buffer("scratch", cr.tensor([1.0]), persistent=False)
        self.second = nn.Linear(3, 1)

    def forward(self, x):
        return self.second(self.first(x) * self.scale + self.offset)


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self):
        self.left = nn.Linear(2, 2, bias=False)
        self.right = nn.Linear(2, 2, bias=False)
        self.right.weight = self.left.weight

    def forward(self, x):
        return self.right(self.left(x))


def test_parameters_are_found_without_calling_the_base_constructor_own_before_those_of_parts():
    assert [name for name, _ in Pair().named_parameters()] == [
        "scale",
        "first.weight",
        "first.bias",
        "second.weight",
        "second.bias",
    ]


def test_buffers_are_state_but_not_parameters_and_only_persistent_ones_are_saved():
    pair = Pair()
    assert [name for name, _ in pair.named_buffers()] == ["offset", "scratch"]
    assert "offset" in pair.state_dict()
    assert "scratch" not in pair.state_dict()


def test_named_modules_gives_paths_from_the_outside_in():
    model = nn.Sequential(nn.Sequential(nn.ReLU()), nn.Tanh())
    assert [path for path, _ in model.named_modules()] == ["", "0", "0.0", "1"]
    assert model.get_submodule("0.0") is model[0][0]
    with pytest.raises(AttributeError, match=r"no module '0\.7'"):
        model.get_submodule("0.7")


def test_a_shared_parameter_is_counted_once_and_saved_under_each_path():
    tied = Tied()
    assert len(list(tied.parameters())) == 1
    assert list(tied.state_dict()) == ["left.weight", "right.weight"]
    assert repr(tied).endswith("# 4 parameters")


def test_a_shared_parameter_gets_the_sum_of_its_gradients_and_need_be_given_once_to_load():
    tied = Tied()
    tied.load_state_dict({"left.weight": np.eye(2)})
    tied(np.array([[1.0, 2.0]], np.float32)).sum().backward()
    assert tied.left.weight.grad is tied.right.weight.grad
    # f(W) = 1ᵀWWx has gradient (Wᵀ1)xᵀ + 1(Wx)ᵀ, at W = I: 2·[[1, 2], [1, 2]]
    np.testing.assert_array_equal(tied.left.weight.grad.numpy(), [[2, 4], [2, 4]])


def test_train_and_eval_reach_every_part_and_start_in_training():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    assert all(module.training for module in model.modules())
    model.eval()
    assert not any(module.training for module in model.modules())
    model.train()
    assert all(module.training for module in model.modules())


def test_zero_grad_forgets_gradients_or_makes_them_zeros():
    layer = nn.Linear(2, 1)
    layer(np.ones((1, 2), np.float32)).sum().backward()
    layer.zero_grad(set_to_none=False)
    np.testing.assert_array_equal(layer.weight.grad.numpy(), [[0, 0]])
    layer.zero_grad()
    assert layer.weight.grad is None


def test_frozen_parameters_get_no_gradient_and_are_reported():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[0].requires_grad_(False)
    model(np.ones((1, 2), np.float32)).sum().backward()
    assert model[0].weight.grad is None
    assert model[1].weight.grad is not None
    assert repr(model).endswith("# 9 parameters, 6 of them frozen")


def test_to_converts_parameters_gradients_and_floating_buffers_and_keeps_the_handles():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    weight = model[0].weight
    model(np.ones((3, 2), np.float32)).sum().backward()
    model.to(np.float64)
    assert model[0].weight is weight
    assert weight.dtype == weight.grad.dtype == model[1].running_mean.dtype == np.float64
    assert model[1].num_batches_tracked.dtype == np.int64
    model.zero_grad()
    model(np.ones((3, 2))).sum().backward()
    assert weight.grad.dtype == np.float64
    assert model.float()[0].weight.dtype == np.float32
    with pytest.raises(TypeError, match="floating point"):
        model.to(np.int64)


def test_apply_visits_every_module_parts_first():
    seen = []
    nn.Sequential(nn.ReLU(), nn.Tanh()).apply(lambda module: seen.append(type(module).__name__))
    assert seen == ["Tanh", "ReLU", "Sequential"]


def test_a_deep_copy_shares_nothing_with_the_original():
    model = Pair()
    twin = copy.deepcopy(model)
    assert {id(p) for p in model.parameters()}.isdisjoint({id(p) for p in twin.parameters()})
    twin(np.ones((1, 2), np.float32)).sum().backward()
    assert model.scale.grad is None
    assert twin.scale.grad is not None


def test_forward_hooks_see_and_may_replace_the_output_until_removed():
    layer, seen = nn.Identity(), []
    watching = layer.register_forward_hook(lambda module, args, output: seen.append((module, args, output)))
    with layer.register_forward_hook(lambda module, args, output: output + 1):
        assert layer(1) == 2
    assert seen == [(layer, (1,), 1)]
    watching.remove()
    assert layer(1) == 1
    assert len(seen) == 1


# Mistakes ---------------------------------------------------------------------------------------------------


def test_an_array_cannot_silently_take_the_place_of_a_parameter_or_buffer():
    pair = Pair()
    with pytest.raises(TypeError, match=r"parameter 'scale' of Pair: wrap it in nn\.Parameter"):
        pair.scale = np.ones(3)
    with pytest.raises(TypeError, match="buffer 'offset' of Pair; give a tensor"):
        pair.offset = np.ones(3)
    pair.scale = None
    assert next(name for name, _ in pair.named_parameters()) == "first.weight"


@pytest.mark.parametrize("name", ["", "a.b", "forward"])
def test_a_part_cannot_be_named_what_a_path_cannot_tell_apart(name):
    module = nn.Module()
    for register in (module.add_module, module.register_parameter, module.register_buffer):
        with pytest.raises(KeyError):
            register(name, None)


def test_registered_parts_are_attributes():
    module = nn.Module()
    module.add_module("inner", nn.ReLU())
    module.register_parameter("gain", nn.Parameter(1.0))
    assert [*module.children()] == [module.inner]
    assert [*module.parameters()] == [module.gain]
    with pytest.raises(TypeError, match="must be a Parameter or None, got ndarray"):
        module.register_parameter("other", np.ones(1))
    with pytest.raises(TypeError, match="must be a Module or None, got type"):
        module.add_module("other", nn.ReLU)


def test_a_module_without_forward_says_what_is_missing():
    with pytest.raises(NotImplementedError, match="Module needs a forward method"):
        nn.Module()(1)


def notes_of(model, x):
    with pytest.raises(ValueError, match="linear: an input of shape") as caught:
        model(x)
    return caught.value.__notes__


def test_an_error_in_forward_is_noted_once_with_the_path_of_the_innermost_module():
    model = nn.MLP(2, [3, 3], 1)
    assert notes_of(model, np.ones((1, 5), np.float32)) == ["in module layers.0 (Linear)"]
    model.layers[2] = nn.Linear(4, 3)
    assert notes_of(model, np.ones((1, 2), np.float32)) == ["in module layers.2 (Linear)"]
    assert notes_of(nn.Linear(2, 1), np.ones((1, 5), np.float32)) == ["in module Linear"]


def test_an_error_in_a_module_that_is_no_part_of_its_caller_keeps_its_own_place():
    stranger = nn.Sequential(nn.Linear(2, 1))

    class Caller(nn.Module):
        def forward(self, x):
            return stranger(x)

    assert notes_of(Caller(), np.ones((1, 5), np.float32)) == ["in module 0 (Linear)"]


# Printing ---------------------------------------------------------------------------------------------------


def test_repr_is_the_tree_with_the_number_of_parameters_of_every_part():
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Residual(nn.Linear(128, 128, bias=False)))
    assert repr(model) == (
        "Sequential(\n"
        "  (0): Linear(in_features=64, out_features=128, bias=True)  # 8,320 parameters\n"
        "  (1): ReLU()\n"
        "  (2): Residual(\n"
        "    (inner): Linear(in_features=128, out_features=128, bias=False)  # 16,384 parameters\n"
        "  )  # 16,384 parameters\n"
        ")  # 24,704 parameters"
    )


def test_repr_writes_equal_neighbours_once():
    assert repr(nn.Sequential(*[nn.Linear(1, 1) for _ in range(200)])) == (
        "Sequential(\n"
        "  (0-199): 200 x Linear(in_features=1, out_features=1, bias=True)  # 2 parameters\n"
        ")  # 400 parameters"
    )


# State ------------------------------------------------------------------------------------------------------


def test_a_state_dict_stays_as_it_is_while_the_parameters_move_on():
    layer = nn.Linear(2, 1)
    before = layer.weight.data.copy()
    state = layer.state_dict()
    layer.weight.data = before + 1
    np.testing.assert_array_equal(state["weight"].numpy(), before)
    assert not state["weight"].requires_grad


def test_loading_gives_another_module_the_same_function():
    model, other = nn.MLP(2, [4], 3), nn.MLP(2, [4], 3)
    x = np.ones((1, 2), np.float32)
    assert (model(x).data != other(x).data).any()
    assert other.load_state_dict(model.state_dict()) == ([], [])
    np.testing.assert_array_equal(model(x).data, other(x).data)


def test_loading_converts_to_the_dtype_of_the_module():
    layer = nn.Linear(1, 1)
    layer.load_state_dict({"weight": np.array([[2.0]]), "bias": [3] * np.ones(1)})
    assert layer.weight.dtype == np.float32
    assert layer.weight.item() == 2


def test_every_fault_is_named_and_nothing_is_loaded_partially():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = model.state_dict()
    state = {"0.weight": np.zeros((3, 2)), "0.bias": np.zeros(2), "1.weight": 7, "2.weight": np.zeros(1)}
    with pytest.raises(ValueError, match="does not fit this Sequential") as caught:
        model.load_state_dict(state)
    for fault in (
        r"0.bias: has shape (2,) there and (3,) here",
        "1.weight: is a int there",
        "1.bias: missing there",
        "2.weight: not expected here",
    ):
        assert fault in str(caught.value)
    for path, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[path].numpy())


def test_not_strict_loading_takes_what_fits_and_tells_the_rest():
    layer = nn.Linear(2, 1)
    result = layer.load_state_dict({"weight": np.ones((1, 2)), "more": np.ones(1)}, strict=False)
    assert result.missing_keys == ["bias"]
    assert result.unexpected_keys == ["more"]
    np.testing.assert_array_equal(layer.weight.data, [[1, 1]])
    with pytest.raises(ValueError, match=r"weight: has shape \(2, 1\)"):
        layer.load_state_dict({"weight": np.ones((2, 1))}, strict=False)


def test_a_value_loaded_does_not_change_with_the_array_it_came_from():
    layer, given = nn.Linear(1, 1, bias=False), np.ones((1, 1), np.float32)
    layer.load_state_dict({"weight": given})
    given[:] = 9
    assert layer.weight.item() == 1


# Running with other parameters ------------------------------------------------------------------------------


def test_functional_call_replaces_parameters_for_the_call_alone():
    layer = nn.Linear(1, 1)
    own = layer.weight
    y = nn.functional_call(
        layer, {"weight": np.array([[3.0]], np.float32), "bias": np.zeros(1)}, np.ones((1, 1), np.float32)
    )
    assert y.item() == 3
    assert layer.weight is own


def test_functional_call_gives_the_parameters_back_after_an_error():
    layer = nn.Linear(2, 1)
    own = layer.weight
    with pytest.raises(ValueError, match="linear"):
        nn.functional_call(layer, {"weight": np.ones((1, 3), np.float32)}, np.ones((1, 2), np.float32))
    assert layer.weight is own
    with pytest.raises(KeyError, match="Linear has no parameter or buffer 'wait'"):
        nn.functional_call(layer, {"wait": np.ones(1)}, np.ones((1, 2), np.float32))


def test_transforms_differentiate_by_the_parameters_through_functional_call():
    model = nn.MLP(2, [3], 1, activation="tanh", dtype=np.float64)
    parameters = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    x = np.array([[0.5, -1.0], [2.0, 0.3]])

    def loss(parameters):
        return (nn.functional_call(model, parameters, x) ** 2).sum()

    cr.check_grads(loss, (parameters,), order=2)
    gradients = cr.grad(loss)(parameters)
    (model(x) ** 2).sum().backward()
    for name, p in model.named_parameters():
        np.testing.assert_allclose(gradients[name], p.grad.numpy(), rtol=1e-12)
