"""Bodies of thousands of instructions, whose values lie in memory until they are needed again."""

import importlib

import numpy as np
import pytest

import chainrule as cr

scalars, shelf = (importlib.import_module(f"chainrule.compile.{name}") for name in ("scalars", "shelf"))


def orbit(x, turns):
    y = x * 0.5
    for turn in range(turns):
        x, y = x + 0.01 * y, y - 0.01 * x * x
        if turn % 7 == 0:
            x = np.where(y > 0, x, -x)
    return (x * y).sum()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("length", [1, 3, 70])
def test_the_gradient_of_a_long_unrolled_loop_is_that_of_eager_code(length, dtype):
    slope = cr.grad(lambda x: orbit(x, 200))
    compiled = cr.compile(slope, strict=True)
    x = np.linspace(0.2, 0.9, length).astype(dtype)
    for _ in range(2):
        found = compiled(x)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, slope(x), rtol=1e-9 if dtype == np.float64 else 2e-4)
    assert "volatile" in compiled.show("llvm")


def test_short_bodies_keep_their_values_in_registers():
    compiled = cr.compile(cr.grad(lambda x: orbit(x, 5)), strict=True)
    compiled(np.ones(3))
    assert "volatile" not in compiled.show("llvm")


@pytest.mark.parametrize("far", [1, 3, 1000])
def test_how_far_is_far_changes_no_bit(far, monkeypatch):
    slope, x = cr.grad(lambda x: orbit(x, 30)), np.linspace(0.2, 0.9, 9)
    results = []
    for long in (2, 1 << 30):
        monkeypatch.setattr(scalars, "LONG", long)
        monkeypatch.setattr(shelf, "_FAR", far)
        monkeypatch.setenv("CHAINRULE_CACHE", "off")
        compiled = cr.compile(slope, strict=True)
        compiled(x)
        results.append(compiled(x))
    np.testing.assert_array_equal(*results)
