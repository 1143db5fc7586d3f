"""What is recorded, what is kept, and what a handle does."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.core import state


def kept_arrays(t):
    """Arrays that the node of `t` keeps for the backward pass."""
    return [x for _, _, kept in t._node.edges for x in kept if isinstance(x, np.ndarray)]


def parameter(shape=(3,)):
    return cr.tensor(np.arange(1.0, 1 + np.prod(shape)).reshape(shape), requires_grad=True)


def test_an_addition_keeps_nothing():
    assert kept_arrays(parameter() + np.ones(3)) == []


def test_tanh_keeps_its_output_only():
    y = np.tanh(parameter())
    (kept,) = kept_arrays(y)
    assert kept is y._value


def test_a_product_keeps_only_what_the_gradients_in_demand_need():
    x = np.ones(3)
    (kept,) = kept_arrays(parameter() * x)  # d/dt = x; nobody asks for d/dx
    assert kept is x


def test_operations_on_constants_record_nothing():
    y = np.tanh(cr.tensor([1.0, 2.0])) * 2
    assert not y.requires_grad
    assert y._node is None


def test_no_grad_records_nothing_and_ends():
    t = parameter()
    with cr.no_grad():
        assert not (t * 2).requires_grad
        with cr.enable_grad():
            assert (t * 2).requires_grad
    assert (t * 2).requires_grad

    @cr.no_grad()
    def decorated():
        return t * 2

    assert not decorated().requires_grad
    assert cr.is_grad_enabled()


def test_comparisons_and_integers_carry_no_gradient():
    t = parameter()
    for y in (t > 1, np.argmax(t), np.isfinite(t), t.astype(np.int64)):
        assert not y.requires_grad


def test_detach_cuts():
    t = parameter()
    (t * t.detach()).sum().backward()
    assert t.grad.tolist() == [1, 2, 3]


def test_assignment_moves_the_handle_and_spoils_no_recorded_value():
    t = parameter()
    y = t * 1
    z = y * y  # keeps y
    y[0] = 100.0
    y += 1
    (z.sum() + y.sum()).backward()
    assert z.tolist() == [1, 4, 9]
    assert y.tolist() == [101, 3, 4]
    assert t.grad.tolist() == [2, 5, 7]


def test_filling_an_array_element_by_element_is_differentiable():
    def polynomial(c):
        out = cr.numpy.zeros(3)
        for i in range(3):
            out[i] = c ** (i + 1)
        return out.sum()

    assert cr.grad(polynomial)(2.0) == 1 + 2 * 2 + 3 * 4


def test_assignment_to_a_leaf_is_refused_while_recording():
    t = parameter()
    with pytest.raises(cr.GradientError, match="leaf"):
        t[0] = 1.0
    with pytest.raises(cr.GradientError, match="no_grad"):
        t += 1
    with cr.no_grad():
        t += 1
    assert t.tolist() == [2, 3, 4]
    assert t.is_leaf
    assert t.requires_grad


def test_an_update_between_forward_and_backward_does_not_change_the_gradient():
    t = parameter()
    y = (t * t).sum()
    with cr.no_grad():
        t -= 10.0
    y.backward()
    assert t.grad.tolist() == [2, 4, 6]  # of the values that were recorded


def test_a_recorded_tensor_does_not_turn_into_an_array():
    t = parameter()
    for convert in (np.asarray, np.array, lambda t: t.numpy()):
        with pytest.raises(cr.GradientError, match="detach"):
            convert(t * 2)
    with pytest.raises(cr.GradientError, match=r"np\.tanh"):
        float((t * 2).sum())
    assert (t * 2).sum().item() == 12
    assert (t * 2).detach().numpy().tolist() == [2, 4, 6]


def test_a_loss_whose_graph_was_walked_is_an_ordinary_number():
    loss = (parameter() * 2).sum()
    loss.backward()
    assert float(loss) == 12
    assert f"{loss:.1f}" == "12.0"


@pytest.mark.parametrize("values", [[1, 2], [True, False]])
def test_integers_and_booleans_cannot_require_a_gradient(values):
    with pytest.raises(TypeError, match="floating point"):
        cr.tensor(values, requires_grad=True)


def test_complex_numbers_are_refused():
    with pytest.raises(TypeError, match="complex"):
        cr.tensor([1j])
    with pytest.raises(TypeError, match="complex"):
        parameter() * 1j
    with pytest.raises(TypeError, match="complex"):
        parameter() * np.array([1j, 0, 0])


def test_float32_stays_float32():
    t = cr.tensor(np.ones((2, 3), dtype=np.float32), requires_grad=True)
    y = ((np.tanh(t) * 2 + 1) / 3 - 0.5).sum()
    y.backward()
    assert y.dtype == t.grad.dtype == np.float32


def test_the_gradient_of_a_float32_input_is_float32_beside_float64():
    t = cr.tensor(np.ones(3, dtype=np.float32), requires_grad=True)
    y = (t * np.ones(3)).sum()
    y.backward()
    assert y.dtype == np.float64
    assert t.grad.dtype == np.float32


def test_repr_says_what_a_tensor_is():
    t = parameter()
    assert repr(t) == "tensor([1., 2., 3.], requires_grad=True)"
    assert "made by multiply" in repr(t * 2)
    assert repr(cr.tensor(np.float32([1]))) == "tensor([1.], dtype=float32)"


def test_hash_is_identity_and_equality_elementwise():
    t, u = parameter(), parameter()
    assert (t == u).tolist() == [True] * 3
    assert len({t, u}) == 2


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (lambda t: t + np.ones(4), "add"),
        (lambda t: np.ones(4) * t, "multiply"),
        (lambda t: t @ np.ones(4), "matmul"),
        (lambda t: t.reshape(2, 2), "reshape"),
        (lambda t: np.concatenate([t, np.ones((2, 2))]), "concat"),
        (lambda t: np.stack([t, np.ones(4)]), "stack"),
    ],
)
def test_a_shape_that_does_not_fit_is_reported_with_operation_and_shapes(operation, name):
    with pytest.raises(ValueError, match=rf"^{name}.*\(3,\).*") as caught:
        operation(parameter())
    assert "\n" not in str(caught.value)


def test_what_is_no_number_is_refused_by_name():
    for bad in ("text", None, object(), np.array(["a"])):
        with pytest.raises(TypeError, match="add"):
            parameter() + bad


def test_watchers_that_overlap_each_see_all_of_their_own_time_and_leave_nothing_behind():
    seen = {"one": 0, "other": 0}

    def watch(name):
        def count(node, inputs, values):
            seen[name] += 1

        return state.watching(count)

    x = cr.tensor(1.0, requires_grad=True)
    one, other = watch("one"), watch("other")
    one.__enter__()
    _ = x * 2
    other.__enter__()
    _ = x * 2
    one.__exit__(None, None, None)
    _ = x * 2
    other.__exit__(None, None, None)
    _ = x * 2
    assert seen == {"one": 2, "other": 2}
    assert state.watcher.get() is None
