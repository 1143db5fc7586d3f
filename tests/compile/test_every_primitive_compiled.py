"""Each differentiable primitive compiled: value and gradients of every case equal the uncompiled ones.

The cases are those of `operation_cases.py`. Several cases of one primitive are compiled as one function.
"""

import warnings
from functools import partial

import numpy as np
import optree
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from operation_cases import CASES, Draw

import chainrule as cr
from chainrule.compile import Unsupported
from chainrule.core import namespace

#: What runs uncompiled, after one warning. An operation that gets a compiled form has to be taken off this list.
_NAMES = """
    log_expit ndtr log_ndtr sinc digamma gammaln gamma entr erfinv logit ndtri round i0 i0e i1 i1e j0 j1
    xlogy xlog1py rel_entr kl_div betaln beta polygamma sort
    linalg.inv linalg.det linalg.pinv linalg.svdvals linalg.slogdet linalg.solve linalg.cholesky linalg.eigh
    linalg.eigvalsh linalg.svd linalg.qr
"""
UNCOMPILED = set(_NAMES.split())
TOLERANCES = {np.float64: {"rtol": 1e-9, "atol": 1e-11}, np.float32: {"rtol": 2e-4, "atol": 2e-5}}
#: How many cases of a primitive are one function.
AT_ONCE = {np.float64: 4, np.float32: 2}

compiled_cases = pytest.mark.parametrize("case", [c for c in CASES if c.name not in UNCOMPILED], ids=str)
uncompiled_cases = pytest.mark.parametrize("case", [c for c in CASES if c.name in UNCOMPILED], ids=str)
few = settings(max_examples=2, phases=[Phase.explicit, Phase.reuse, Phase.generate])


def values_and_gradients(calls, counts):
    """A function of all arrays of all calls: each call's value, and the cotangents of its arguments."""

    def function(*arrays):
        results, start = [], 0
        for call, count in zip(calls, counts, strict=True):
            operation = partial(call, namespace.tensor_namespace)
            value, pull = cr.vjp(operation, *arrays[start : start + count])
            start += count
            weight = np.cos(np.arange(value.size)).astype(value.dtype).reshape(value.shape)
            results.append((value, pull(weight)))
        return results

    return function


def drawn(case, data, dtype, how_many):
    calls, counts, arrays = [], [], []
    for _ in range(how_many):
        call, own = case.build(Draw(data))
        assume(case.name not in ("getitem", "setitem") or not names_elements_by_a_mask(call))
        calls.append(call)
        counts.append(len(own))
        arrays += [x.astype(dtype) for x in own]
    return values_and_gradients(calls, counts), arrays


def names_elements_by_a_mask(call):
    """Whether the index is a boolean array, which runs uncompiled: see `test_refusals.py`."""
    index = call.__closure__[call.__code__.co_freevars.index("index")].cell_contents
    return isinstance(index, np.ndarray) and index.dtype == np.bool_


def assert_equal(found, expected, dtype):
    for a, b in zip(optree.tree_leaves(found), optree.tree_leaves(expected), strict=True):
        assert np.shape(a) == np.shape(b)
        assert np.asarray(a).dtype == np.asarray(b).dtype == dtype
        np.testing.assert_allclose(a, b, **TOLERANCES[dtype])


@compiled_cases
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@few
@given(data=st.data())
def test_every_primitive_compiled_gives_its_values_and_gradients(case, dtype, data):
    function, arrays = drawn(case, data, dtype, AT_ONCE[dtype])
    expected = function(*arrays)
    compiled = cr.compile(function, strict=True)
    assert_equal(compiled(*arrays), expected, dtype)
    assert_equal(compiled(*arrays), expected, dtype)
    other = [np.roll(x, 1) for x in arrays]
    assert_equal(compiled(*other), function(*other), dtype)
    assert len(compiled.variants) == 1


@uncompiled_cases
@few
@given(data=st.data())
def test_what_has_no_compiled_form_runs_uncompiled_after_one_warning(case, data):
    function, arrays = drawn(case, data, np.float64, 1)
    expected = function(*arrays)
    compiled = cr.compile(function)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            assert_equal(compiled(*arrays), expected, np.float64)
    assert [w.category for w in told] == [RuntimeWarning]
    assert "no compiled form" in str(told[0].message)
    with pytest.raises(Unsupported, match="no compiled form"):
        cr.compile(function, strict=True)(*arrays)


def test_the_list_of_what_runs_uncompiled_names_cases():
    assert {case.name for case in CASES} >= UNCOMPILED
