"""`Tensor.backward`: seeds, freeing, hooks, deep graphs, and its errors."""

import gc
import weakref

import numpy as np
import pytest

import chainrule as cr


def leaf(*values):
    return cr.tensor(np.array(values, dtype=float), requires_grad=True)


def test_gradients_accumulate_until_they_are_cleared():
    t = leaf(1, 2)
    for expected in ([2, 4], [4, 8]):
        (t * t).sum().backward()
        assert t.grad.tolist() == expected
    t.grad = None
    (t * t).sum().backward()
    assert t.grad.tolist() == [2, 4]


def test_a_seed_weighs_the_outputs():
    t = leaf(1, 2, 3)
    (t * t).backward(np.array([1.0, 0.0, -1.0]))
    assert t.grad.tolist() == [2, 0, -6]


def test_a_seed_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        leaf(1, 2, 3).exp().backward(np.ones(2))


def test_a_tensor_that_is_no_scalar_needs_a_seed():
    with pytest.raises(cr.GradientError, match=r"shape \(3,\) needs a seed.*sum"):
        leaf(1, 2, 3).exp().backward()


def test_a_freed_graph_cannot_be_walked_again():
    y = leaf(1, 2).exp().sum()
    y.backward()
    with pytest.raises(cr.GradientError, match="retain_graph=True"):
        y.backward()


def test_a_retained_graph_can():
    t = leaf(1, 2)
    y = (t * t).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert t.grad.tolist() == [4, 8]


def test_nothing_recorded_is_an_error_that_says_why():
    with pytest.raises(cr.GradientError, match="no input required a gradient"):
        cr.tensor([1.0]).sum().backward()


def test_create_graph_gives_derivatives_of_derivatives():
    t = leaf(2.0)
    (t**4).sum().backward(create_graph=True)
    first, t.grad = t.grad, None
    assert first.tolist() == [32]
    first.sum().backward(create_graph=True)
    second, t.grad = t.grad, None
    assert second.tolist() == [48]
    second.sum().backward()
    assert t.grad.tolist() == [48]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: cr.nn.functional.cross_entropy(x, np.array([0, 1])),
        lambda x: cr.nn.functional.layer_norm(x, (3,)).tanh().sum(),
        lambda x: cr.nn.functional.softmax(x, -1).square().sum(),
        lambda x: np.linalg.inv(x[:, :2] @ x[:, :2].T + 3 * np.eye(2)).sum(),
        lambda x: np.prod(x, axis=1).sum(),
        lambda x: sum(part.square().sum() for part in np.linalg.svd(x, full_matrices=False)[1:2]),
    ],
)
def test_recording_the_walk_agrees_with_nested_gradients(function):
    x = np.random.default_rng(0).standard_normal((2, 3))
    v = np.random.default_rng(1).standard_normal((2, 3))
    nested = cr.grad(lambda x: (cr.grad(function)(x) * v).sum())(x)
    t = cr.tensor(x, requires_grad=True)
    function(t).backward(create_graph=True)
    g, t.grad = t.grad, None
    (g * v).sum().backward()
    np.testing.assert_allclose(t.grad.numpy(), nested, rtol=1e-9, atol=1e-12)


def test_a_hook_sees_the_whole_gradient_and_may_replace_it():
    t = leaf(1, 2)
    y = t * 3
    seen = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    handle = y.register_hook(lambda g: g * 10)
    (y.sum() + y.sum()).backward()
    assert seen == [[2, 2]]
    assert t.grad.tolist() == [60, 60]
    handle.remove()


def test_a_hook_on_a_leaf_runs_once_per_walk():
    t = leaf(1, 2)
    t.register_hook(lambda g: g * 2)
    (t + t * t).sum().backward()
    assert t.grad.tolist() == [6, 10]


def test_a_hook_that_returns_another_shape_is_refused():
    t = leaf(1, 2)
    t.register_hook(lambda g: g.sum())
    with pytest.raises(ValueError, match="hook"):
        t.exp().sum().backward()


def test_retain_grad_keeps_the_gradient_of_an_intermediate_result():
    t = leaf(1, 2)
    y = t * 3
    assert y.grad is None
    y.retain_grad()
    (y * y).sum().backward()
    assert y.grad.tolist() == [6, 12]


def test_broadcasting_sums_back_to_each_operands_shape():
    rng = np.random.default_rng(0)
    for a, b in [
        ((3, 1), (1, 4)),
        ((), (2, 3)),
        ((4,), (2, 1, 4)),
        ((1, 1), ()),
        ((0, 3), (3,)),
        ((1,), (1, 1)),
    ]:
        x, y = (
            cr.tensor(rng.standard_normal(a), requires_grad=True),
            cr.tensor(rng.standard_normal(b), requires_grad=True),
        )
        (x * y).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), _sum_to(np.broadcast_to(y.data, (x * y).shape), a))
        np.testing.assert_allclose(y.grad.numpy(), _sum_to(np.broadcast_to(x.data, (x * y).shape), b))


def _sum_to(array, shape):
    while array.ndim > len(shape):
        array = array.sum(0)
    return array.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True).reshape(shape)


def test_a_chain_of_a_hundred_thousand_operations_differentiates():
    def chain(x):
        for _ in range(100_000):
            x = x * 1.00001
        return x

    assert cr.grad(chain)(1.0) == pytest.approx(1.00001**100_000, rel=1e-9)


def test_a_long_graph_that_is_never_walked_is_dropped_without_deep_recursion():
    t = leaf(1.0)
    y = t
    for _ in range(200_000):
        y = y + 1.0
    del y
    gc.collect()
    assert t.tolist() == [1]


def test_the_graph_dies_with_the_last_handle_without_the_garbage_collector():
    gc.disable()
    try:
        t = leaf(1.0, 2.0)
        y = np.tanh(t) * 2
        node = weakref.ref(y._node)
        del y
        assert node() is None
    finally:
        gc.enable()


def test_the_walk_frees_what_it_has_used():
    t = leaf(1.0, 2.0)
    y = np.tanh(t)
    z = (y * y).sum()
    z.backward()
    assert y._node.edges is None


def test_a_leaf_that_is_gone_costs_nothing():
    t, u = leaf(1.0), leaf(2.0)
    y = (t * u).sum()
    del t
    y.backward()
    assert u.grad.tolist() == [1]
