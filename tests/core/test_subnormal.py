"""Subnormal numbers are zero while a float32 gradient is computed, and only then."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.core import subnormal

pytestmark = pytest.mark.skipif(subnormal._functions is None, reason="this platform has no way to flush")

SMALL = np.float32([1e-40])


def is_flushed():
    return (SMALL * np.float32(1))[0] == 0


def test_numbers_are_flushed_inside_and_not_outside():
    assert not is_flushed()
    with subnormal.flushed():
        assert is_flushed()
    assert not is_flushed()


def test_it_ends_with_an_error_and_nests():
    with pytest.raises(KeyError), subnormal.flushed():
        raise KeyError
    with subnormal.flushed():
        with subnormal.flushed():
            pass
        assert is_flushed()
    assert not is_flushed()


def test_a_float32_walk_flushes_and_a_float64_walk_does_not():
    seen = {}
    for dtype in (np.float32, np.float64):
        t = cr.tensor([1.0], dtype=dtype, requires_grad=True)
        t.register_hook(lambda g, dtype=dtype: seen.__setitem__(dtype, is_flushed()))
        (t * 2).sum().backward()
    assert seen == {np.float32: True, np.float64: False}
    assert not is_flushed()


def test_a_subnormal_gradient_is_zero_and_a_normal_one_is_kept():
    t = cr.tensor([1.0], dtype=np.float32, requires_grad=True)
    (t * np.float32(1e-20) * np.float32(1e-17)).sum().backward()
    assert t.grad.item() == pytest.approx(1e-37)
    t.grad = None
    (t * np.float32(1e-20) * np.float32(1e-20)).sum().backward()
    assert t.grad.item() == 0
