"""The same rules on torch's CPU tensors: what the operations give there is what they give on NumPy arrays."""

import array_api_compat.torch as torch
import numpy as np
import pytest
from ops import test_elementwise as elementwise
from ops import test_layout as layout
from ops import test_ordering as ordering
from ops import test_reductions as reductions
from other_libraries import assert_same_constants_on, assert_same_on

import chainrule as cr


@pytest.mark.parametrize("name", elementwise.ONE_ARRAY)
def test_a_function_of_one_tensor(name):
    function, bounds = elementwise.ONE_ARRAY[name]
    assert_same_on(torch, function, elementwise.points(1, (2, 3), bounds))


@pytest.mark.parametrize("name", elementwise.TWO_ARRAYS)
def test_a_function_of_two_tensors(name):
    function, first, second = elementwise.TWO_ARRAYS[name]
    assert_same_on(torch, function, elementwise.points(1, (2, 3), first), elementwise.points(2, (3,), second))


@pytest.mark.parametrize("name", elementwise.BINARY)
def test_a_function_of_a_tensor_and_a_number(name):
    function, first, second = elementwise.TWO_ARRAYS[name]
    assert_same_on(torch, lambda a: function(a, 1.5), elementwise.points(1, (2, 3), first))
    assert_same_on(torch, lambda b: function(1.5, b), elementwise.points(2, (2, 3), second))


@pytest.mark.parametrize("case", reductions.REDUCED | reductions.TOTALS)
def test_a_reduction_or_running_total(case):
    assert_same_on(torch, (reductions.REDUCED | reductions.TOTALS)[case], reductions.X)


@pytest.mark.parametrize("case", reductions.COUNTED)
def test_a_count(case):
    assert_same_constants_on(torch, reductions.COUNTED[case], reductions.X)


@pytest.mark.parametrize("case", layout.CASES)
def test_a_layout(case):
    function, *shapes = layout.CASES[case]
    if case != "unstack of nothing":
        assert_same_on(torch, lambda *xs: function(layout.f, *xs), *layout.inputs(shapes))


@pytest.mark.parametrize("case", ordering.ROUTED)
def test_a_sort_or_quantile(case):
    assert_same_on(torch, ordering.ROUTED[case], ordering.DISTINCT)


@pytest.mark.parametrize("case", ordering.FOUND)
def test_an_index_or_a_count(case):
    assert_same_constants_on(torch, ordering.FOUND[case], ordering.EQUAL)


@pytest.mark.parametrize("case", reductions.REDUCED | reductions.TOTALS)
def test_float32_stays_float32(case):
    assert_float32((reductions.REDUCED | reductions.TOTALS)[case], reductions.X)


@pytest.mark.parametrize("name", elementwise.TWO_ARRAYS)
def test_float32_stays_float32_beside_a_number(name):
    function, first, _ = elementwise.TWO_ARRAYS[name]
    assert_float32(lambda a: function(a, 1.5), elementwise.points(1, (2, 3), first))


def assert_float32(function, x):
    leaf = cr.tensor(torch.asarray(x.astype(np.float32)), requires_grad=True)
    y = function(leaf)
    y.backward(torch.ones_like(y.data))
    assert y.dtype == leaf.grad.dtype == torch.float32
