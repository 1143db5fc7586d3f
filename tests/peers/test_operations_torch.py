"""Every operation that PyTorch has: the same values and gradients; and our rules on PyTorch's own arrays."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from operation_cases import CASES, Draw
from peers.torch_namespace import namespace

import chainrule as cr
from chainrule.core.namespace import tensor_namespace as ops
from chainrule.core.tensor import Tensor

#: What PyTorch has no differentiable counterpart of; where an element is assigned twice ("setitem") it gives both
#: values a gradient, though only the last stands.
MISSING = frozenset(
    [
        "floor_divide",
        "setitem",
        "cbrt",
        "gamma",
        "j0",
        "j1",
        "rel_entr",
        "kl_div",
        "betaln",
        "beta",
        "scatter_add",
        "dropout",
        "added_rows",
        "attention_weights",
        "rnn_tanh",
        "rnn_relu",
        "lstm",
        "gru",
        "windows",
        "overlap_add",
    ]
)

cases = pytest.mark.parametrize("case", CASES, ids=str)
shared = pytest.mark.parametrize("case", [case for case in CASES if case.name not in MISSING], ids=str)


def weights(shape):
    return np.cos(np.arange(float(np.prod(shape, dtype=int)))).reshape(shape)


@shared
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@given(data=st.data())
def test_values_and_gradients_equal_pytorchs(case, dtype, data):
    call, arrays = case.build(Draw(data))
    ours = [cr.tensor(x, dtype=dtype, requires_grad=True) for x in arrays]
    theirs = [torch.tensor(x.astype(dtype), requires_grad=True) for x in arrays]
    y, z = call(ops, *ours), call(namespace, *theirs)
    (y * weights(y.shape).astype(dtype)).sum().backward()
    (z * torch.as_tensor(weights(z.shape).astype(dtype))).sum().backward()
    tolerance = {"rtol": 1e-8, "atol": 1e-9} if dtype is np.float64 else {"rtol": 2e-3, "atol": 2e-4}
    assert str(y.dtype) == str(z.dtype).removeprefix("torch.")
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), **tolerance)
    for a, b in zip(ours, theirs, strict=True):
        expected = np.zeros(a.shape) if b.grad is None else b.grad.numpy()
        np.testing.assert_allclose(a.grad.numpy(), expected, **tolerance)


@cases
@given(data=st.data())
def test_the_same_rules_run_on_pytorchs_arrays(case, data):
    call, arrays = case.build(Draw(data))
    tensors = [Tensor(torch.tensor(x)).requires_grad_() for x in arrays]
    plain = [cr.tensor(x, requires_grad=True) for x in arrays]
    for some in (tensors, plain):
        y = call(ops, *some)
        (y * weights(y.shape)).sum().backward()
    for t, p in zip(tensors, plain, strict=True):
        assert isinstance(t.grad._value, torch.Tensor)
        np.testing.assert_allclose(t.grad._value.numpy(), p.grad.numpy(), rtol=1e-9, atol=1e-11)


def test_a_second_derivative_runs_on_pytorchs_arrays():
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)
    g = cr.grad(lambda x: (cr.grad(lambda x: (ops.tanh(x) ** 2).sum())(x) * x).sum())
    np.testing.assert_allclose(g(x).numpy(), g(x.numpy()), rtol=1e-12)


def test_a_pytorch_array_changed_under_the_graph_does_not_change_the_gradient():
    x = torch.ones(3, dtype=torch.float64)
    t = Tensor(torch.arange(3.0, dtype=torch.float64)).requires_grad_()
    y = (t * x).sum()
    x[0] = 100
    y.backward()
    assert t.grad._value.tolist() == [1, 1, 1]
