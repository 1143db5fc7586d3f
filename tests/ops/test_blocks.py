"""Elementwise formulas a block at a time, and the normal distribution function of float32 numbers."""

import numpy as np
import pytest
from scipy import special

import chainrule.numpy as cnp
from chainrule.ops.blocks import BLOCK, in_blocks
from chainrule.ops.network import gelu
from chainrule.ops.normal_cdf import normal_cdf_float32


@pytest.mark.parametrize("shape", [(), (0,), (3,), (BLOCK + 1,), (2, BLOCK), (7, 5, BLOCK // 16)])
@pytest.mark.parametrize("layout", ["C", "F", "reversed", "strided"])
def test_blocks_give_what_the_whole_does_in_the_order_the_array_has(shape, layout):
    x = np.random.default_rng(0).standard_normal(shape)
    x = {"C": x, "F": np.asfortranarray(x), "reversed": np.flip(x), "strided": x[..., ::2] if shape else x}[layout]
    y = in_blocks(np.sin, x)
    np.testing.assert_array_equal(y, np.sin(x))
    assert y.shape == x.shape
    if layout in ("C", "F") and x.size > 1:
        assert y.strides == x.strides


def test_a_block_is_never_larger_than_it_may_be():
    sizes = []
    in_blocks(lambda x: sizes.append(x.size) or x, np.zeros((3, BLOCK)).T)
    assert sum(sizes) == 3 * BLOCK
    assert max(sizes) == BLOCK


def test_the_normal_distribution_function_of_float32_is_right_to_one_ten_millionth():
    x = np.concatenate([np.linspace(-9, 9, 200_001), np.geomspace(1e-30, 1, 1001)]).astype(np.float32)
    found = normal_cdf_float32(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, special.ndtr(x.astype(np.float64)), rtol=0, atol=1.1e-7)


def test_the_normal_distribution_function_ends_in_exact_zero_and_one():
    x = np.array([-np.inf, -3e38, -7, 0, 7, 3e38, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(normal_cdf_float32(x), [0, 0, 0, 0.5, 1, 1, 1, np.nan])


def test_a_large_array_has_the_gelu_of_its_parts():
    for dtype in (np.float32, np.float64):
        x = cnp.asarray(np.random.default_rng(0).standard_normal((5, BLOCK)).astype(dtype))
        y = gelu(x)
        for row in range(5):
            np.testing.assert_array_equal(y.data[row], gelu(x[row]).data)
