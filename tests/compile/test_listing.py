"""A program as text says what the program does."""

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chainrule.compile.graph import Graph
from chainrule.compile.kernels import Access, Call, Gemm, Instruction, Loop
from chainrule.compile.listing import kernel_summary, kernel_text, places_text

F32 = np.dtype(np.float32)


def text(kernel, *shapes):
    """The formulas of a kernel whose arguments have these shapes."""
    graph = Graph()
    values = {slot: graph.input(shape, F32, "x") for slot, shape in enumerate(shapes)}
    return kernel_text(kernel, [Call(kernel, tuple(values))], values, {}).splitlines()[len(shapes) :]


@given(st.data())
def test_the_places_of_an_access_are_the_elements_it_means(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 4), max_size=3)))
    size = int(np.prod(shape))
    grid = [(name, data.draw(st.integers(1, 4))) for name in "ijk"[: data.draw(st.integers(0, 3))]]
    strides = tuple(data.draw(st.integers(-2, 12)) for _ in grid)
    offset = data.draw(st.integers(0, size - 1))
    points = list(product(*(range(n) for _, n in grid)))
    flat = [offset + sum(i * s for i, s in zip(point, strides, strict=True)) for point in points]
    if min(flat) < 0 or max(flat) >= size:
        return
    places = places_text(Access(0, offset, strides), shape, grid)
    if places is None:
        return
    for point, expected in zip(points, flat, strict=True):
        names = dict(zip("ijk", point, strict=False))
        index = tuple(eval(place, names) for place in places)  # noqa: S307  (formulas of ours)
        assert np.ravel_multi_index(index, shape) == expected if shape else index == ()


def test_rows_columns_and_parts_of_an_array_are_written_by_their_axes():
    grid = [("i", 4), ("j", 3)]
    assert places_text(Access(0, 0, (3, 1)), (4, 3), grid) == ["i", "j"]
    assert places_text(Access(0, 0, (1, 4)), (3, 4), grid) == ["j", "i"]
    assert places_text(Access(0, 5, (10, 2)), (4, 10), grid) == ["i", "2*j + 5"]
    assert places_text(Access(0, 5, (0, 1)), (8,), grid) == ["j + 5"]
    assert places_text(Access(0, 0, (3, 1)), (12,), grid) == ["3*i + j"]
    assert places_text(Access(0, 0, (3, 1)), (6, 2), grid) is None


def test_a_product_with_a_bias_and_an_activation_is_one_formula():
    body = (
        Instruction("product", F32),
        Instruction("load", F32, (), Access(2, 0, (0, 1))),
        Instruction("add", F32, (0, 1)),
        Instruction("constant", F32, value=0.0),
        Instruction("maximum", F32, (2, 3)),
        Instruction("store", F32, (4,), Access(3, 0, (5, 1))),
    )
    kernel = Gemm((), 4, 5, 6, F32, Access(0, 0, (6, 1)), Access(1, 0, (1, 6)), body, (F32,) * 4)
    assert kernel_summary(kernel) == "matmul + add + maximum -> 4 x 5"
    assert text(kernel, (4, 6), (5, 6), (5,), (4, 5)) == [
        "for i, j in 4 x 5:",
        "    t0 = sum(A[i, k] * B[j, k] for k in 6)",
        "    D[i, j] = maximum(t0 + C[j], 0.0)",
    ]


def test_a_softmax_names_its_reductions_and_what_is_used_twice():
    body = (
        Instruction("load", F32, (), Access(0, 0, (5, 1))),
        Instruction("reduce_max", F32, (0,)),
        Instruction("subtract", F32, (0, 1)),
        Instruction("exp", F32, (2,)),
        Instruction("reduce_sum", F32, (3,)),
        Instruction("divide", F32, (3, 4)),
        Instruction("store", F32, (5,), Access(1, 0, (5, 1))),
    )
    kernel = Loop((4,), (5,), body, (F32, F32))
    assert kernel_summary(kernel) == "reduce_max + subtract + exp + reduce_sum + divide -> 4 (over 5)"
    assert text(kernel, (4, 5), (4, 5)) == [
        "for i in 4:",
        "    t0 = max(A[i, j] for j in 5)",
        "    t1[j] = exp(A[i, j] - t0)",
        "    t2 = sum(t1[j] for j in 5)",
        "    for j in 5: B[i, j] = t1[j] / t2",
    ]


def test_gathers_scatters_and_copies_are_called_so():
    index = Instruction("load", np.dtype(np.int64), (), Access(0, 0, (1,)))
    taken = Instruction("load", F32, (0,), Access(1, 0, (0,)))
    gather = Loop((4,), (), (index, taken, Instruction("store", F32, (1,), Access(2, 0, (1,)))), (F32,) * 3)
    assert kernel_summary(gather) == "gather -> 4"
    assert text(gather, (4,), (9,), (4,)) == ["for i in 4:", "    C[i] = B.flat[A[i]]"]
    value = Instruction("load", F32, (), Access(1, 0, (1,)))
    scatter = Loop((4,), (), (index, value, Instruction("accumulate", F32, (1, 0), Access(2, 0, (0,)))), (F32,) * 3)
    assert kernel_summary(scatter) == "scatter -> 4"
    assert text(scatter, (4,), (4,), (9,)) == ["for i in 4:", "    C.flat[A[i]] += B[i]"]
    source = Instruction("load", F32, (), Access(0, 0, (1,)))
    copy = Loop((4,), (), (source, Instruction("store", F32, (0,), Access(1, 0, (1,)))), (F32, F32))
    assert kernel_summary(copy) == "copy -> 4"
