"""Each differentiable primitive: derivatives against differences, dtypes, and arrays of another library."""

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from operation_cases import CASES, Draw

import chainrule as cr
import chainrule.ops
from chainrule.core.namespace import tensor_namespace as ops
from chainrule.core.primitive import Primitive
from chainrule.core.tensor import Tensor

cases = pytest.mark.parametrize("case", CASES, ids=str)


@cases
@given(data=st.data())
def test_first_and_second_derivatives_in_both_modes(case, data):
    call, arrays = case.build(Draw(data))
    cr.check_grads(lambda *xs: call(ops, *xs), arrays, order=2, max_elements=8)


@cases
@given(data=st.data())
def test_float32_stays_float32_in_value_and_gradient(case, data):
    call, arrays = case.build(Draw(data))
    tensors = [cr.tensor(x, dtype=np.float32, requires_grad=True) for x in arrays]
    y = call(ops, *tensors)
    y.sum().backward()
    assert y.dtype == np.float32
    assert {t.grad.dtype for t in tensors} == {np.dtype(np.float32)}
    assert [t.grad.shape for t in tensors] == [x.shape for x in arrays]


def forward_and_backward(call, tensors):
    y = call(ops, *tensors)
    weight = np.cos(np.arange(float(y.size))).reshape(y.shape)
    (y * weight).sum().backward()
    return [np.asarray(to_numpy(x)) for x in (y, *(t.grad for t in tensors))]


def to_numpy(t):
    value = t.detach()._value
    return value if isinstance(value, (np.ndarray, np.generic)) else np.from_dlpack(value)


def agrees_on(case, data, convert):
    """The operation on another library's arrays gives NumPy's values and gradients, and that library's arrays."""
    call, arrays = case.build(Draw(data))
    tensors = [Tensor(convert(x)).requires_grad_() for x in arrays]
    kind = type(tensors[0]._value)
    found = forward_and_backward(call, tensors)
    assert {type(t.grad._value) for t in tensors} == {kind}
    expected = forward_and_backward(call, [cr.tensor(x, requires_grad=True) for x in arrays])
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@cases
@given(data=st.data())
def test_the_same_rules_run_on_array_api_strict(case, data):
    agrees_on(case, data, array_api_strict.asarray)


def differentiable_primitives():
    found = {}
    for module in vars(chainrule.ops).values():
        for value in vars(module).values() if getattr(module, "__name__", "").startswith("chainrule.ops") else ():
            if isinstance(value, Primitive) and value.differentiable:
                found[value.name] = value
    return found


def test_no_primitive_is_left_out(monkeypatch):
    recorded = set()
    record = Primitive._record
    monkeypatch.setattr(Primitive, "_record", lambda self, *a: recorded.add(self.name) or record(self, *a))

    @given(data=st.data())
    def run(data):
        for case in CASES:
            call, arrays = case.build(Draw(data))
            call(ops, *[cr.tensor(x, requires_grad=True) for x in arrays]).sum().backward(create_graph=True)

    run()
    assert set(differentiable_primitives()) - recorded == set()
