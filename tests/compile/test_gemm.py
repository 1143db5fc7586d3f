"""Generated matrix products against NumPy in float64: sizes, strides, epilogues, shares of threads."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.compile import gemm, gemm_plan, ir
from chainrule.compile.gemm import emit_gemm, workspace_bytes
from chainrule.compile.gemm_plan import plan, transposed
from chainrule.compile.kernels import Access, Gemm, Instruction, Uneven
from chainrule.compile.machine import Machine, compile_module

FLOAT, DOUBLE, BYTE = np.dtype("f4"), np.dtype("f8"), np.dtype("u1")
HOST = Machine.host()
NARROWER = [replace(HOST, vector_bits=bits, vector_registers=16) for bits in (128, 256) if bits < HOST.vector_bits]
LAYOUTS = ["rows", "columns", "padded rows", "padded columns", "every other", "backward"]

Body = Callable[[Callable[[int], Access], np.dtype], tuple[Instruction, ...]]


class Array(NamedTuple):
    """An array in memory: `view` is a part of `base`, whose address the kernel gets."""

    base: np.ndarray
    view: np.ndarray

    def access(self, argument: int) -> Access:
        start, origin = (x.__array_interface__["data"][0] for x in (self.view, self.base))
        size = self.base.itemsize
        return Access(argument, (start - origin) // size, tuple(stride // size for stride in self.view.strides))


def laid_out(values: np.ndarray, layout: str) -> Array:
    """An array with these values, whose last two axes lie in memory in a way that `layout` names."""
    if "columns" in layout:
        return Array(*(swapped := laid_out(np.swapaxes(values, -1, -2), layout.replace("columns", "rows")))[:1],
                     np.swapaxes(swapped.view, -1, -2))  # fmt: skip
    *batch, rows, columns = values.shape
    spread = {"rows": 1, "padded rows": 1, "every other": 2, "backward": 1}[layout]
    margin = 0 if layout == "rows" else 3
    base = np.full((*batch, spread * rows + margin, spread * columns + margin), 77, values.dtype)
    view = base[..., margin:, margin:][..., ::spread, ::spread]
    if layout == "backward":
        view = view[..., ::-1, ::-1]
    view[...] = values
    return Array(base, view)


def store_only(at: Callable[[int], Access], dtype: np.dtype) -> tuple[Instruction, ...]:
    return (Instruction("product", dtype), Instruction("store", dtype, (0,), at(2)))


def run(kernel: Gemm, arrays: list[np.ndarray], threads: int, machine: Machine = HOST) -> None:
    """Compile a kernel and do the share of each thread, one after the other."""
    module = ir.Module("test")
    emit_gemm(module, kernel, "gemm", machine)
    native = compile_module(module, machine)
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(native.address("gemm"))
    pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
    for thread in range(threads):
        function(pointers, thread, threads)


def product(
    a: Array, b: Array, others: list[Array], body: Body = store_only, threads: int = 1, machine: Machine = HOST
) -> None:
    """Run the product of two arrays through a body over `others`, the first of which is argument 2."""
    arrays = [a, b, *others]
    dtype = a.base.dtype
    kernel = Gemm(
        batch=others[0].view.shape[:-2],
        m=a.view.shape[-2],
        n=b.view.shape[-1],
        k=a.view.shape[-1],
        dtype=dtype,
        a=a.access(0),
        b=b.access(1),
        body=body(lambda argument: arrays[argument].access(argument), dtype),
        arguments=tuple(array.base.dtype for array in arrays),
    )
    run(kernel, [array.base for array in arrays], threads, machine)


def assert_product(found: np.ndarray, expected: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """Compare with a bound on the rounding of sums of k products (Higham, eq. 3.11)."""
    k = a.shape[-1]
    size = np.abs(a.astype(DOUBLE)) @ np.abs(b.astype(DOUBLE))
    assert (np.abs(found - expected) <= (k + 4) * np.finfo(found.dtype).eps * (size + np.abs(expected))).all()


def drawn(shape: tuple[int, ...], dtype: np.dtype, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(dtype)


SIZES = st.integers(1, 70)
LAYOUT = st.sampled_from(LAYOUTS)
DTYPE = st.sampled_from([FLOAT, DOUBLE])


@given(SIZES, SIZES, SIZES, LAYOUT, LAYOUT, LAYOUT, DTYPE, st.integers(1, 4))
def test_a_product_is_that_of_numpy_and_nothing_beside_it_is_written(
    m: int, n: int, k: int, of_a: str, of_b: str, of_c: str, dtype: np.dtype, threads: int
) -> None:
    a, b = laid_out(drawn((m, k), dtype), of_a), laid_out(drawn((k, n), dtype, 1), of_b)
    c = laid_out(np.full((m, n), np.nan, dtype), of_c)
    around = c.base.copy()
    product(a, b, [c], threads=threads)
    assert_product(c.view, a.view.astype(DOUBLE) @ b.view.astype(DOUBLE), a.view, b.view)
    c.view[...] = np.nan
    np.testing.assert_array_equal(c.base, around)


@pytest.mark.parametrize("machine", NARROWER, ids=lambda machine: f"{machine.vector_bits} bits")
@pytest.mark.parametrize("layouts", [("rows", "rows"), ("columns", "rows"), ("rows", "columns")])
@pytest.mark.parametrize("dtype", [FLOAT, DOUBLE], ids=str)
def test_narrower_vectors_give_the_same(machine: Machine, layouts: tuple[str, str], dtype: np.dtype) -> None:
    a, b = (laid_out(drawn(shape, dtype), x) for shape, x in zip([(37, 29), (29, 41)], layouts, strict=True))
    c = laid_out(np.zeros((37, 41), dtype), "rows")
    product(a, b, [c], threads=2, machine=machine)
    assert_product(c.view, a.view.astype(DOUBLE) @ b.view.astype(DOUBLE), a.view, b.view)


LARGE = [
    (128, 300, 784, "rows", "columns"),
    (300, 784, 64, "columns", "rows"),
    (130, 512, 512, "rows", "rows"),
    (200, 256, 2048, "rows", "columns"),
    (250, 1024, 256, "columns", "rows"),
    (64, 48, 9000, "columns", "columns"),
    (120, 528, 2500, "rows", "rows"),
    (520, 200, 1024, "columns", "rows"),
    (1, 700, 900, "rows", "columns"),
    (700, 1, 900, "rows", "columns"),
    (300, 10, 1024, "rows", "columns"),
    (300, 500, 1, "rows", "rows"),
]


@pytest.mark.parametrize("has_workspace", [False, True], ids=["on the stack", "in a workspace"])
@pytest.mark.parametrize("m, n, k, of_a, of_b", LARGE)
def test_packed_factors_give_the_same(m: int, n: int, k: int, of_a: str, of_b: str, has_workspace: bool) -> None:
    a, b = laid_out(drawn((m, k), FLOAT), of_a), laid_out(drawn((k, n), FLOAT, 1), of_b)
    c = laid_out(np.full((m, n), np.nan, FLOAT), "rows")
    arrays = [a, b, c]
    kernel = Gemm(
        (), m, n, k, FLOAT, a.access(0), b.access(1), store_only(lambda i: arrays[i].access(i), FLOAT), (FLOAT,) * 3
    )
    given_arrays = [array.base for array in arrays]
    if has_workspace:
        size = workspace_bytes(kernel, HOST, 3)
        if not size:
            pytest.skip("the stack is as good here")
        guarded = np.full(size + 128, 55, BYTE)
        aligned = guarded[-guarded.ctypes.data % 64 :]
        kernel = kernel._replace(workspace=3, arguments=(*kernel.arguments, BYTE))
        given_arrays.append(aligned)
    run(kernel, given_arrays, threads=3)
    assert_product(c.view, a.view.astype(DOUBLE) @ b.view.astype(DOUBLE), a.view, b.view)
    if has_workspace:
        assert (aligned[size:] == 55).all()


@pytest.mark.parametrize("of_a, of_b", [("rows", "columns"), ("columns", "rows")])
def test_every_plan_gives_the_same(of_a: str, of_b: str, monkeypatch: pytest.MonkeyPatch) -> None:
    m, n, k = 20, 37, 19
    a, b = laid_out(drawn((m, k), FLOAT), of_a), laid_out(drawn((k, n), FLOAT, 1), of_b)
    c = laid_out(np.zeros((m, n), FLOAT), "rows")
    arrays = [a, b, c]
    workspace = np.zeros(1 << 20, BYTE)
    kernel = Gemm(
        (), m, n, k, FLOAT, a.access(0), b.access(1), store_only(lambda i: arrays[i].access(i), FLOAT),
        (FLOAT, FLOAT, FLOAT, BYTE), workspace=3,
    )  # fmt: skip
    expected = a.view.astype(DOUBLE) @ b.view.astype(DOUBLE)
    plans = {}
    for oriented in (kernel, transposed(kernel)):
        for found in gemm_plan._plans(oriented, HOST, 1 << 18):
            kind = (oriented is kernel, found.inner, min(found.strips, 2), found.pack_b)
            plans.setdefault(kind, found)
    assert len(plans) >= 8
    for found in plans.values():
        monkeypatch.setattr(gemm, "plan", lambda kernel, machine, found=found: found._replace(block=2, split="m"))
        c.view[...] = np.nan
        run(kernel, [a.base, b.base, c.base, workspace], threads=2)
        assert_product(c.view, expected, a.view, b.view)


@given(st.integers(0, 3), st.integers(1, 5), SIZES, SIZES, st.booleans(), st.booleans(), st.integers(1, 3))
def test_batches_are_products_of_their_own_and_may_share_a_factor(
    first: int, second: int, m: int, n: int, share_a: bool, share_b: bool, threads: int
) -> None:
    batch, k = (first, second), 9
    whole_a = laid_out(drawn((1, 1, m, k) if share_a else (*batch, m, k), FLOAT), "padded rows")
    whole_b = laid_out(drawn((1, 1, k, n) if share_b else (*batch, k, n), FLOAT), "columns")
    a = whole_a._replace(view=np.broadcast_to(whole_a.view, (*batch, m, k)))
    b = whole_b._replace(view=np.broadcast_to(whole_b.view, (*batch, k, n)))
    c = laid_out(np.full((*batch, m, n), np.nan, FLOAT), "rows")
    product(a, b, [c], threads=threads)
    assert_product(c.view, a.view.astype(DOUBLE) @ b.view.astype(DOUBLE), a.view, b.view)


def bias_and_relu(at: Callable[[int], Access], dtype: np.dtype) -> tuple[Instruction, ...]:
    """c = max(product + bias, 0), and whether it is positive to another array."""
    return (
        Instruction("product", dtype),
        Instruction("load", dtype, (), at(3)),
        Instruction("add", dtype, (0, 1)),
        Instruction("constant", dtype, (), None, 0.0),
        Instruction("maximum", dtype, (2, 3)),
        Instruction("store", dtype, (4,), at(2)),
        Instruction("greater", np.dtype(bool), (4, 3)),
        Instruction("store", np.dtype(bool), (6,), at(4)),
    )


@given(LAYOUT, SIZES, SIZES, SIZES, DTYPE, st.sampled_from(["row", "column"]))
def test_an_epilogue_adds_a_bias_applies_relu_and_stores_twice(
    of_c: str, m: int, n: int, k: int, dtype: np.dtype, of_bias: str
) -> None:
    a, b = laid_out(drawn((m, k), dtype), "rows"), laid_out(drawn((k, n), dtype, 1), "rows")
    bias = laid_out(drawn((1, n) if of_bias == "row" else (m, 1), dtype, 2), "rows")
    bias = bias._replace(view=np.broadcast_to(bias.view, (m, n)))
    c, positive = laid_out(np.zeros((m, n), dtype), of_c), laid_out(np.zeros((m, n), bool), "rows")
    product(a, b, [c, bias, positive], bias_and_relu, threads=2)
    expected = np.maximum(a.view.astype(DOUBLE) @ b.view.astype(DOUBLE) + bias.view, 0)
    assert_product(c.view, expected, a.view, b.view)
    np.testing.assert_array_equal(positive.view, c.view > 0)


def descend(at: Callable[[int], Access], dtype: np.dtype) -> tuple[Instruction, ...]:
    """w ← w - 0.125·product, and the product itself is added to another array."""
    return (
        Instruction("product", dtype),
        Instruction("constant", dtype, (), None, -0.125),
        Instruction("multiply", dtype, (0, 1)),
        Instruction("load", dtype, (), at(2)),
        Instruction("add", dtype, (3, 2)),
        Instruction("store", dtype, (4,), at(2)),
        Instruction("accumulate", dtype, (0,), at(3)),
    )


@given(SIZES, SIZES, SIZES, LAYOUT, st.integers(1, 2))
def test_an_epilogue_accumulates_in_place(m: int, n: int, k: int, of_w: str, threads: int) -> None:
    a, b = laid_out(drawn((m, k), FLOAT), "columns"), laid_out(drawn((k, n), FLOAT, 1), "rows")
    w, total = laid_out(drawn((m, n), FLOAT, 2), of_w), laid_out(drawn((m, n), FLOAT, 3), "rows")
    gradient = a.view.astype(DOUBLE) @ b.view.astype(DOUBLE)
    expected = w.view - 0.125 * gradient, total.view + gradient
    product(a, b, [w, total], descend, threads)
    assert_product(w.view, expected[0], a.view, b.view)
    assert_product(total.view, expected[1], a.view, b.view)


def add_place(at: Callable[[int], Access], dtype: np.dtype) -> tuple[Instruction, ...]:
    """c = product + 1000·row + column, through int64."""
    whole = np.dtype("i8")
    return (
        Instruction("index", whole, (), None, 0),
        Instruction("constant", whole, (), None, 1000),
        Instruction("multiply", whole, (0, 1)),
        Instruction("index", whole, (), None, 1),
        Instruction("add", whole, (2, 3)),
        Instruction("astype", dtype, (4,)),
        Instruction("product", dtype),
        Instruction("add", dtype, (5, 6)),
        Instruction("store", dtype, (7,), at(2)),
    )


def tanh(at: Callable[[int], Access], dtype: np.dtype) -> tuple[Instruction, ...]:
    return (
        Instruction("product", dtype),
        Instruction("tanh", dtype, (0,)),
        Instruction("store", dtype, (1,), at(2)),
    )


@pytest.mark.parametrize("dtype", [FLOAT, DOUBLE], ids=str)
@pytest.mark.parametrize("of_b", ["rows", "columns"])
def test_an_epilogue_may_be_a_long_function(of_b: str, dtype: np.dtype) -> None:
    a, b = laid_out(drawn((45, 6), dtype), "rows"), laid_out(drawn((6, 50), dtype), of_b)
    c = laid_out(np.zeros((45, 50), dtype), "rows")
    product(a, b, [c], tanh, threads=2)
    expected = np.tanh(a.view.astype(DOUBLE) @ b.view.astype(DOUBLE))
    np.testing.assert_allclose(c.view, expected, rtol=40 * np.finfo(dtype).eps, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("of_c", ["rows", "columns"])
def test_an_epilogue_knows_its_row_and_its_column(of_c: str) -> None:
    a, b = laid_out(drawn((50, 8), FLOAT), "rows"), laid_out(drawn((8, 40), FLOAT), "rows")
    c = laid_out(np.zeros((50, 40), FLOAT), of_c)
    product(a, b, [c], add_place, threads=2)
    places = 1000 * np.arange(50)[:, None] + np.arange(40)
    assert_product(c.view, a.view.astype(DOUBLE) @ b.view.astype(DOUBLE) + places, a.view, b.view)


@pytest.mark.parametrize("of_b", ["rows", "columns"])
def test_nan_and_infinity_reach_their_row_and_column_and_no_other_element(of_b: str) -> None:
    left, right = drawn((40, 33), FLOAT), drawn((33, 50), FLOAT)
    left[7, 3], right[11, 20], right[3, 45] = np.nan, np.inf, np.inf
    a, b, c = laid_out(left, "rows"), laid_out(right, of_b), laid_out(np.zeros((40, 50), FLOAT), "rows")
    product(a, b, [c])
    with np.errstate(invalid="ignore"):
        expected = left.astype(DOUBLE) @ right.astype(DOUBLE)
    np.testing.assert_array_equal(np.isnan(c.view), np.isnan(expected))
    np.testing.assert_array_equal(c.view[np.isinf(expected)], expected[np.isinf(expected)])
    np.testing.assert_array_equal(np.isinf(c.view), np.isinf(expected))


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (5, 6, 0)])
def test_a_product_without_terms_is_zero_and_one_without_elements_writes_nothing(shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    c = laid_out(np.full((m, n), np.nan, FLOAT), "padded rows")
    product(laid_out(np.ones((m, k), FLOAT), "rows"), laid_out(np.ones((k, n), FLOAT), "rows"), [c], threads=2)
    np.testing.assert_array_equal(c.view, np.zeros((m, n)))


def test_transposing_a_kernel_twice_gives_it_back() -> None:
    a, b, c = (laid_out(np.zeros(shape, FLOAT), "rows") for shape in [(4, 5), (5, 6), (4, 6)])
    body = add_place(lambda i: c.access(i), FLOAT)
    kernel = Gemm((), 4, 6, 5, FLOAT, a.access(0), b.access(1), body, (FLOAT,) * 3)
    assert transposed(transposed(kernel)) == kernel
    assert transposed(kernel) != kernel


@given(SIZES, SIZES, st.integers(1, 5000), LAYOUT, LAYOUT)
def test_a_plan_keeps_to_the_registers_and_to_the_memory_it_has(m: int, n: int, k: int, of_a: str, of_b: str) -> None:
    strides = {"rows": lambda r, c: (c, 1), "columns": lambda r, c: (1, r)}
    a = Access(0, 0, strides.get(of_a, lambda r, c: (2 * c + 3, 2))(m, k))
    b = Access(1, 0, strides.get(of_b, lambda r, c: (2 * c + 3, 2))(k, n))
    body = store_only(lambda i: Access(i, 0, (n, 1)), FLOAT)
    chosen = plan(Gemm((), m, n, k, FLOAT, a, b, body, (FLOAT,) * 3), HOST)
    rows = -(-chosen.kernel.m // chosen.tiles)
    vectors = chosen.width if chosen.inner else chosen.width // chosen.lanes
    assert rows * vectors + vectors + 1 <= HOST.vector_registers
    assert chosen.buffer_bytes <= 256 << 10


@pytest.mark.parametrize("weights", ["rows", "columns"])
@pytest.mark.parametrize("n", [128, 384, 512])
def test_each_thread_of_two_has_half_of_the_rows_of_layers_in_a_row(n: int, weights: str) -> None:
    m, k = 512, 128
    b = Access(1, 0, (n, 1) if weights == "rows" else (1, k))
    body = store_only(lambda i: Access(i, 0, (n, 1)), FLOAT)
    machine = replace(HOST, cores=2)
    chosen = plan(Gemm((), m, n, k, FLOAT, Access(0, 0, (k, 1)), b, body, (FLOAT,) * 3), machine)
    assert (chosen.split, gemm_plan.borders(chosen, 2)) == ("m", (0, m // 2, m))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("m, n, k", [(60, 30, 512 * 19), (30, 60, 512 * 19), (37, 21, 8192)])
def test_a_long_sum_done_in_blocks_gives_the_same(m: int, n: int, k: int, threads: int) -> None:
    machine = replace(HOST, l2_bytes=256 << 10)
    a, b = laid_out(drawn((m, k), FLOAT), "rows"), laid_out(drawn((k, n), FLOAT, 1), "columns")
    c = laid_out(np.full((m, n), 3, FLOAT), "padded rows")

    def added(at: Callable[[int], Access], dtype: np.dtype) -> tuple[Instruction, ...]:
        return (
            Instruction("product", dtype), Instruction("load", dtype, (), at(2)), Instruction("add", dtype, (0, 1)),
            Instruction("store", dtype, (2,), at(2)),
        )  # fmt: skip

    kernel = Gemm((), m, n, k, FLOAT, a.access(0), b.access(1), store_only(lambda _: c.access(2), FLOAT), (FLOAT,) * 3)
    assert plan(kernel, machine).cut
    product(a, b, [c], added, threads, machine)
    assert_product(c.view, a.view.astype(DOUBLE) @ b.view.astype(DOUBLE) + 3, a.view, b.view)


class Windows(NamedTuple):
    """A matrix of the windows of an array (channels, height, width, batch), which is never written out."""

    base: np.ndarray
    matrix: np.ndarray
    rows: Uneven
    columns: Uneven


def windows_of(channels: int, kernel: int, count: int, batch: int, stride: int, dtype: np.dtype) -> Windows:
    reach = (count - 1) * stride + kernel
    base = drawn((channels, reach, reach, batch), dtype)
    far, down, right, size = (step // base.itemsize for step in base.strides)
    rows = ((channels, far), (kernel, down), (kernel, right))
    columns = ((count, stride * down), (count, stride * right), (batch, size))
    places = [sum(i * s for i, s in zip(index, [s for _, s in rows + columns], strict=True))
              for index in np.ndindex(*(n for n, _ in rows + columns))]  # fmt: skip
    return Windows(base, base.ravel()[places].reshape(channels * kernel**2, -1), rows, columns)


ROLES = ["columns", "columns summed", "rows", "rows summed"]


@settings(max_examples=40)
@given(
    st.sampled_from(ROLES), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 40),
    st.integers(1, 2), st.integers(1, 20), st.sampled_from([HOST, *NARROWER]), st.integers(1, 3),
)  # fmt: skip
def test_windows_are_multiplied_where_they_lie(
    role: str, channels: int, kernel: int, count: int, batch: int, stride: int, other: int, machine: Machine,
    threads: int,
) -> None:  # fmt: skip
    x = windows_of(channels, kernel, count, batch, stride, FLOAT)
    matrix, along = (x.matrix.T, (x.columns, x.rows)) if "summed" in role else (x.matrix, (x.rows, x.columns))
    if role.startswith("rows"):
        a, b = matrix, laid_out(drawn((matrix.shape[1], other), FLOAT, 1), "columns").view
        accesses = Access(0, 0, along), Access(1, 0, (1, matrix.shape[1]))
    else:
        a, b = drawn((other, matrix.shape[0]), FLOAT, 1), matrix
        accesses = Access(0, 0, (matrix.shape[0], 1)), Access(1, 0, along)
    c = laid_out(np.full((a.shape[0], b.shape[1]), np.nan, FLOAT), "rows")
    kernel_ = Gemm(
        (), *c.view.shape, a.shape[1], FLOAT, *accesses, store_only(lambda _: c.access(2), FLOAT), (FLOAT,) * 3
    )
    factors = [x.base if factor is matrix else np.ascontiguousarray(factor.T if role[0] == "r" else factor)
               for factor in (a, b)]  # fmt: skip
    run(kernel_, [*factors, c.base], threads, machine)
    assert_product(c.view, a.astype(DOUBLE) @ b.astype(DOUBLE), a, b)
