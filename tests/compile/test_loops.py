"""Loop kernels as native code beside their interpretation, on random grids, layouts and bodies."""

import dataclasses

import numpy as np
import pytest
from compile.loop_interpreter import interpret, run
from hypothesis import given
from hypothesis import strategies as st

from chainrule.compile import ir, loop_plan
from chainrule.compile.kernels import Access, Instruction, Loop
from chainrule.compile.loops import emit_loop
from chainrule.compile.machine import Machine

F4, F8, I8 = np.dtype("f4"), np.dtype("f8"), np.dtype("i8")
BOOL = np.dtype("?")


def load(argument, strides, offset=0, dtype=F4, shift=()):
    return Instruction("load", dtype, tuple(shift), Access(argument, offset, tuple(strides)))


def store(value, argument, strides, offset=0, dtype=F4, op="store", shift=()):
    return Instruction(op, dtype, (value, *shift), Access(argument, offset, tuple(strides)))


def apply(op, *inputs, dtype=F4):
    return Instruction(op, dtype, inputs)


def number(value, dtype=F4):
    return Instruction("constant", dtype, value=value)


def machine_of(bits):
    """This machine, said to have vectors of so many bits (and masks only from 256 on)."""
    return dataclasses.replace(Machine.host(), vector_bits=bits)


def check(loop, arguments, machine=None, rtol=1e-5):
    """The native code does what the interpreter does, whatever the number of threads."""
    expected = [array.copy() for array in arguments]
    interpret(loop, expected)
    for threads in (1, 2, 3):
        got = [array.copy() for array in arguments]
        run(loop, got, threads, machine)
        for ours, theirs in zip(got, expected, strict=True):
            scale = np.max(np.abs(theirs[np.isfinite(theirs)]), initial=0) if theirs.dtype.kind == "f" else 0
            np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * scale)


# Random kernels ----------------------------------------------------------------------------------------------


@st.composite
def layouts(draw, lengths, axes, argument):
    """An access that steps through different elements along `axes` of a grid, and the elements it needs."""
    strides = [0] * len(lengths)
    offset, step = 0, draw(st.sampled_from([1, 1, 1, 2]))
    for axis in draw(st.permutations(axes)):
        reverse = draw(st.sampled_from([False, False, False, True]))
        strides[axis] = -step if reverse else step
        offset += (lengths[axis] - 1) * step if reverse else 0
        step *= lengths[axis]
    start = draw(st.sampled_from([0, 0, 3]))
    return Access(argument, max(offset, 0) + start, tuple(strides)), max(step, 1) + start


class Kernel:
    """A kernel being drawn."""

    def __init__(self, draw):
        self.draw = draw
        self.outer = tuple(draw(st.lists(st.sampled_from([19, 3, 1, 2, 16, 7]), max_size=3)))
        self.inner = tuple(draw(st.sampled_from([(), (5,), (70,), (33, 2), (2, 19), (3, 70), (1, 16), (300,)])))
        self.dtype = draw(st.sampled_from([F4, F8]))
        self.serial = False
        self.body, self.varies, self.arguments = [], [], []
        self.rng = np.random.default_rng(draw(st.integers(0, 9)))

    @property
    def lengths(self):
        return self.outer + self.inner

    def add(self, op, inputs=(), dtype=None, access=None, value=None, inner=None):
        self.body.append(Instruction(op, dtype or self.dtype, tuple(inputs), access, value))
        self.varies.append(any(self.varies[i] for i in inputs) if inner is None else inner)
        return len(self.body) - 1

    def array(self, size, dtype=None, below=3):
        """A new argument of small whole numbers, with which sums and products are exact."""
        low = 0 if dtype == I8 else -2
        self.arguments.append(self.rng.integers(low, below, size).astype(dtype or self.dtype))
        return len(self.arguments) - 1

    def place(self, axes, dtype=None, below=3, room=0):
        access, size = self.draw(layouts(self.lengths, list(axes), len(self.arguments)))
        self.array(size + room, dtype, below)
        return access

    def some_axes(self):
        return [axis for axis in range(len(self.lengths)) if self.draw(st.sampled_from([True, True, False]))]

    def runs_inside(self, access):
        return any(access.strides[len(self.outer) :])

    def load(self):
        access = self.place(self.some_axes())
        return self.add("load", access=access, inner=self.runs_inside(access))

    def gather(self):
        where = self.place(self.some_axes(), I8, below=4)
        shift = self.add("load", dtype=I8, access=where, inner=self.runs_inside(where))
        access = self.place(self.some_axes(), room=4)
        return self.add("load", [shift], access=access, inner=self.runs_inside(access) or self.varies[shift])

    def index(self):
        if not self.lengths:
            return self.load()
        axis = self.draw(st.integers(0, len(self.lengths) - 1))
        index = self.add("index", dtype=I8, value=axis, inner=axis >= len(self.outer))
        return self.add("astype", [index])

    def compute(self, values):
        x, y = (self.draw(st.sampled_from(values)) for _ in range(2))
        op = self.draw(
            st.sampled_from(["add", "subtract", "maximum", "halve", "magnitude", "select", "fold", "centre", "centre"])
        )
        if op == "centre":
            fold = self.add(self.draw(st.sampled_from(["reduce_max", "reduce_min", "reduce_sum"])), [y], inner=False)
            return self.add("subtract", [x, fold])
        if op == "halve":
            return self.add("divide", [x, self.add("constant", value=2, inner=False)])
        if op == "magnitude":
            return self.add("sqrt", [self.add("abs", [x])])
        if op == "select":
            return self.add("select", [self.add("less", [x, y], BOOL), x, y])
        if op == "fold":
            fold = self.draw(st.sampled_from(["reduce_sum", "reduce_max", "reduce_min"]))
            return self.add(fold, [x], inner=False)
        return self.add(op, [x, y])

    def store(self, value):
        axes = range(len(self.lengths) if self.varies[value] else len(self.outer))
        loads = [
            step
            for step in self.body
            if step.op == "load" and step.dtype == self.dtype and not step.inputs and self.fills(step.access, axes)
        ]
        taken = {step.access.argument for step in self.body if step.op in ("store", "accumulate")}
        loads = [step for step in loads if step.access.argument not in taken]
        if loads and self.draw(st.booleans()):  # in place
            self.add("store", [value], access=self.draw(st.sampled_from(loads)).access)
            return
        kind = self.draw(st.sampled_from(["store"] * 6 + ["accumulate", "accumulate", "scatter", "total"]))
        if kind in ("scatter", "total"):
            self.serial = True
            where = self.place(axes, I8, below=4)
            access = self.place([axis for axis in axes if kind == "scatter" and self.draw(st.booleans())], room=4)
            inputs = [value, self.add("load", dtype=I8, access=where)] if kind == "scatter" else [value]
            self.add("accumulate", inputs, access=access)
        else:
            self.add(kind, [value], access=self.place(axes))

    def fills(self, access, axes):
        """Whether an access has an element of its own for each point of the axes, and only for those."""
        return all((access.strides[i] != 0) == (i in axes) for i in range(len(self.lengths)))


@st.composite
def kernels(draw):
    kernel = Kernel(draw)
    values = [kernel.load()]
    for _ in range(draw(st.integers(0, 2))):
        values.append(draw(st.sampled_from([kernel.load, kernel.gather, kernel.index]))())
    for _ in range(draw(st.integers(1, 6))):
        values.append(kernel.compute(values))
    for value in [values[-1], *draw(st.lists(st.sampled_from(values), max_size=2))]:
        kernel.store(value)
    arguments = kernel.arguments
    dtypes = tuple(a.dtype for a in arguments)
    backward = draw(st.booleans())
    return Loop(kernel.outer, kernel.inner, tuple(kernel.body), dtypes, kernel.serial, backward), arguments


@given(kernels(), st.sampled_from([32, 128, 256, None]))
def test_a_random_kernel_does_what_it_says(kernel, bits):
    loop, arguments = kernel
    check(loop, arguments, machine_of(bits) if bits else None)


# What kernels are for ----------------------------------------------------------------------------------------


def softmax(outer, inner, strides, dtype=F4, target=1):
    """Softmax over the inner axes; in place for target 0."""
    body = (
        load(0, strides, dtype=dtype),
        apply("reduce_max", 0, dtype=dtype),
        apply("subtract", 0, 1, dtype=dtype),
        apply("exp", 2, dtype=dtype),
        apply("reduce_sum", 3, dtype=dtype),
        apply("divide", 3, 4, dtype=dtype),
        store(5, target, strides, dtype=dtype),
    )
    return Loop(outer, inner, body, (dtype,) * (target + 1))


@given(
    st.sampled_from([1, 2, 5, 16, 40]),
    st.sampled_from([1, 3, 10, 16, 64, 65, 333, 1200]),
    st.sampled_from([F4, F8]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([64, 128, 256, None]),
)
def test_softmax_over_rows_or_columns_and_in_place_is_scipys(n, m, dtype, columns, in_place, bits):
    x = np.random.default_rng(3).standard_normal((n, m)).astype(dtype) * 3
    shifted = np.exp(x.astype(F8) - x.max(axis=0 if columns else 1, keepdims=True))
    expected = shifted / shifted.sum(axis=0 if columns else 1, keepdims=True)
    outer, inner, strides = ((m,), (n,), (1, m)) if columns else ((n,), (m,), (m, 1))
    loop = softmax(outer, inner, strides, dtype, 0 if in_place else 1)
    for threads in (1, 2):
        arrays = [x.ravel().copy(), np.full(n * m, 7, dtype)][: len(loop.arguments)]
        run(loop, arrays, threads, machine_of(bits) if bits else None)
        np.testing.assert_allclose(arrays[-1].reshape(n, m), expected, rtol=20 * np.finfo(dtype).eps)


def test_a_store_waits_for_the_passes_that_still_read_what_it_overwrites():
    body = (
        load(0, (500, 1)),
        apply("add", 0, 0),
        store(1, 0, (500, 1)),
        apply("reduce_sum", 1),
        apply("subtract", 0, 3),
        store(4, 1, (500, 1)),
    )
    loop = Loop((3,), (500,), body, (F4, F4))  # rows too long to stay in registers from pass to pass
    check(loop, [np.arange(1500, dtype=F4), np.zeros(1500, F4)])


def test_a_load_sees_what_an_earlier_pass_has_stored_elsewhere_in_the_row():
    backwards = load(1, (500, -1), offset=499)
    body = (load(0, (500, 1)), store(0, 1, (500, 1)), backwards, apply("add", 0, 2), store(3, 2, (500, 1)))
    loop = Loop((3,), (500,), body, (F4, F4, F4))
    check(loop, [np.arange(1500, dtype=F4), np.zeros(1500, F4), np.zeros(1500, F4)])


def test_what_cannot_be_ordered_is_refused():
    backwards = load(0, (500, -1), offset=499)
    body = (load(0, (500, 1)), apply("add", 0, 0), store(1, 0, (500, 1)), backwards, apply("add", 0, 3))
    loop = Loop((3,), (500,), (*body, store(4, 1, (500, 1))), (F4, F4))
    with pytest.raises(ValueError, match="reads back what it has stored"):
        run(loop, [np.zeros(1500, F4), np.zeros(1500, F4)])


def test_a_serial_kernel_is_all_done_by_the_first_thread():
    body = (load(0, (1,)), store(0, 1, (0,), op="accumulate"))
    loop = Loop((1000,), (), body, (F4, F4), serial=True)
    total = np.zeros(1, F4)
    run(loop, [np.ones(1000, F4), total], threads=[1])
    assert total[0] == 0
    run(loop, [np.ones(1000, F4), total], threads=[0])
    assert total[0] == 1000


@pytest.mark.parametrize("op, identity", [("sum", 0), ("prod", 1), ("any", False), ("all", True)])
def test_a_reduction_of_nothing_gives_its_identity(op, identity):
    dtype = BOOL if isinstance(identity, bool) else F4
    body = (load(0, (0, 1), dtype=dtype), apply(f"reduce_{op}", 0, dtype=dtype), store(1, 1, (1, 0), dtype=dtype))
    y = np.array([not identity] * 3).astype(dtype)
    run(Loop((3,), (0,), body, (dtype, dtype)), [np.empty(0, dtype), y])
    np.testing.assert_array_equal(y, identity)


def test_a_grid_without_points_stores_nothing():
    y = np.full(3, 7, F4)
    run(Loop((0, 3), (), (number(1), store(0, 0, (0, 1))), (F4,)), [y])
    np.testing.assert_array_equal(y, 7)


@pytest.mark.parametrize("dtype", ["i1", "u2", "i4", "u8"])
def test_integers_are_folded_as_numpy_folds_them(dtype):
    dtype = np.dtype(dtype)
    x = np.random.default_rng(0).integers(np.iinfo(dtype).min, np.iinfo(dtype).max, 5 * 77, dtype, endpoint=True)
    for op in ("sum", "prod", "max", "min"):
        body = (load(0, (77, 1), dtype=dtype), apply(f"reduce_{op}", 0, dtype=dtype), store(1, 1, (1, 0), dtype=dtype))
        y = np.zeros(5, dtype)
        run(Loop((5,), (77,), body, (dtype, dtype)), [x, y])
        folded = getattr(np, op)(x.reshape(5, 77), axis=1, **({"dtype": dtype} if op in ("sum", "prod") else {}))
        np.testing.assert_array_equal(y, folded)


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("place", [0, 40, 99])
def test_a_nan_among_the_elements_is_their_maximum_and_minimum(place, columns):
    x = np.zeros((4, 100), F4)
    x[2, place] = np.nan
    for op in ("reduce_max", "reduce_min"):
        strides = (1, 4) if columns else (100, 1)
        y = np.zeros(4, F4)
        memory = np.ascontiguousarray(x.T if columns else x).ravel()
        run(Loop((4,), (100,), (load(0, strides), apply(op, 0), store(1, 1, (1, 0))), (F4, F4)), [memory, y])
        np.testing.assert_array_equal(np.isnan(y), [False, False, True, False])


@given(st.integers(1, 3000), st.integers(0, 2999), st.sampled_from([F4, F8]), st.sampled_from(["max", "min"]))
def test_a_long_row_has_numpys_extremes_with_a_nan_anywhere_or_none(length, place, dtype, op):
    x = np.random.default_rng(length).standard_normal((2, length)).astype(dtype)
    if place < length:
        x[1, place] = np.nan
    y = np.zeros(2, dtype)
    body = (load(0, (length, 1), dtype=dtype), apply(f"reduce_{op}", 0, dtype=dtype), store(1, 1, (1, 0), dtype=dtype))
    run(Loop((2,), (length,), body, (dtype, dtype)), [x.ravel(), y])
    np.testing.assert_array_equal(y, getattr(np, op)(x, axis=1))


@pytest.mark.parametrize("shape", [(100_003,), (301, 70), (7, 64), (9, 5000)])
def test_a_kernel_that_runs_backwards_reaches_every_point_once(shape):
    strides = (shape[1], 1) if len(shape) == 2 else (1,)
    body = (load(0, strides), number(1), apply("add", 0, 1), store(2, 1, strides))
    for threads in (1, 2, 3):
        x = np.arange(np.prod(shape), dtype=F4)
        run(Loop(shape, (), body, (F4, F4), backward=True), [x, x], threads)
        np.testing.assert_array_equal(x, 1 + np.arange(x.size))


@pytest.mark.parametrize("bits", [32, None])
@pytest.mark.parametrize("columns", [False, True])
def test_a_long_sum_is_about_as_accurate_as_numpys(columns, bits):
    x = np.random.default_rng(0).uniform(0, 1, (1_000_000, 1)).astype(F4)
    y = np.zeros(1, F4)
    outer, strides, to = ((1,), (0, 1), (1, 0)) if columns else ((), (1,), (0,))
    loop = Loop(outer, (x.size,), (load(0, strides), apply("reduce_sum", 0), store(1, 1, to)), (F4, F4))
    run(loop, [x.ravel(), y], machine=machine_of(bits) if bits else None)
    exact = x.astype(F8).sum()
    assert abs(y[0] - exact) <= max(2 * abs(x.sum() - exact), 8 * np.spacing(F4.type(exact)))


def test_rows_that_meet_in_a_scatter_are_all_added():
    tokens = np.array([2, 0, 2, 2, 1], I8)
    body = (load(0, (40, 1)), load(1, (1, 0), dtype=I8), number(40, I8), apply("multiply", 1, 2, dtype=I8))
    body += (store(0, 2, (0, 1), op="accumulate", shift=[3]),)
    gradient = np.arange(200, dtype=F4)
    table = np.ones(120, F4)
    run(Loop((5, 40), (), body, (F4, I8, F4), serial=True), [gradient, tokens, table], threads=2)
    expected = np.ones((3, 40), F4)
    np.add.at(expected, tokens, gradient.reshape(5, 40))
    np.testing.assert_array_equal(table.reshape(3, 40), expected)


def test_elements_that_meet_in_a_scatter_are_all_added():
    places = np.random.default_rng(0).integers(0, 4, 100)
    body = (load(0, (1,)), load(1, (1,), dtype=I8), store(0, 2, (0,), op="accumulate", shift=[1]))
    check(Loop((100,), (), body, (F4, I8, F4), serial=True), [np.arange(100, dtype=F4), places, np.zeros(4, F4)])


def test_the_last_of_several_stores_to_one_place_remains():
    places = np.random.default_rng(0).integers(0, 4, 100)
    body = (load(0, (1,)), load(1, (1,), dtype=I8), store(0, 2, (0,), shift=[1]))
    check(Loop((100,), (), body, (F4, I8, F4), serial=True), [np.arange(100, dtype=F4), places, np.zeros(4, F4)])


@pytest.mark.parametrize("dtype", [F4, F8])
def test_division_by_one_number_is_off_by_one_unit_at_most_and_right_for_special_values(dtype):
    info = np.finfo(dtype)
    special = [0.0, -0.0, 1, 3, -7, info.max, info.tiny, info.smallest_subnormal, info.max / 3, np.inf, -np.inf, np.nan]
    rng = np.random.default_rng(1)
    random = rng.standard_normal(200) * np.exp2(rng.uniform(info.minexp, info.maxexp - 2, 200))
    x = np.concatenate([special, random]).astype(dtype)
    n = len(x)
    body = (load(0, (0, 1), dtype=dtype), load(0, (1, 0), dtype=dtype), apply("divide", 0, 1, dtype=dtype))
    quotients = np.zeros(n * n, dtype)
    run(Loop((n, n), (), (*body, store(2, 1, (n, 1), dtype=dtype)), (dtype, dtype)), [x, quotients])
    with np.errstate(all="ignore"):
        expected = (x / x[:, None]).ravel()
    known = np.isfinite(expected)
    np.testing.assert_array_equal(quotients[~known], expected[~known])
    np.testing.assert_array_max_ulp(quotients[known], expected[known], 1)
    np.testing.assert_array_equal(np.signbit(quotients[known]), np.signbit(expected[known]))


def test_a_scalar_program_has_no_loop():
    body = [load(0, (), offset=i, dtype=F8) for i in range(9)]
    body += [apply(("add", "multiply", "subtract")[i % 3], i, i + 5, dtype=F8) for i in range(3000)]
    loop = Loop((), (), (*body, store(len(body) - 1, 1, (), dtype=F8)), (F8, F8))
    module = ir.Module()
    assert len(emit_loop(module, loop, "program", Machine.host()).blocks) <= 3


def test_a_column_of_a_matrix_is_summed_in_vectors_along_rows():
    plan = loop_plan.make_plan(
        Loop((100,), (40,), (load(0, (1, 100)), apply("reduce_sum", 0), store(1, 1, (1, 0))), (F4, F4)), Machine.host()
    )
    assert plan.axis == 0
    assert plan.lanes >= Machine.host().lanes(F4)


def test_an_expensive_value_is_computed_in_one_pass_only():
    plan = loop_plan.make_plan(softmax((40,), (1000,), (1000, 1)), Machine.host())
    assert sum(3 in steps and plan.kept.get(3) == number for number, steps in enumerate(plan.passes)) == 1


def test_axes_that_lie_one_after_another_in_memory_become_one():
    loop = Loop((4, 5, 6), (), (load(0, (30, 6, 1)), store(0, 1, (30, 6, 1))), (F4, F4))
    assert loop_plan.normalized(loop).outer == (120,)
    transposed = Loop((4, 5, 6), (), (load(0, (30, 6, 1)), store(0, 1, (1, 24, 4))), (F4, F4))
    assert loop_plan.normalized(transposed).outer == (30, 4)


@pytest.mark.parametrize("n, m", [(16, 16), (64, 40), (48, 13), (13, 48), (20, 33)])
def test_a_transposed_matrix_and_a_bias_are_added_up_in_tiles(n, m):
    body = (load(0, (1, n)), load(1, (0, 1)), apply("add", 0, 1), store(2, 2, (m, 1)))
    rng = np.random.default_rng(0)
    x, bias, y = (rng.standard_normal(size).astype(F4) for size in (n * m, m, n * m))
    check(Loop((n, m), (), body, (F4, F4, F4)), [x, bias, y])


def test_a_tile_is_cut_where_lanes_are_far_apart_and_only_there():
    machine = machine_of(256)
    across = Loop((64, 64), (), (load(0, (1, 64)), store(0, 1, (64, 1))), (F4, F4))
    assert loop_plan.make_plan(across, machine).loop.outer == (4, 64, 16)
    along = Loop((64, 64), (), (load(0, (80, 1)), store(0, 1, (64, 1))), (F4, F4))
    assert loop_plan.make_plan(along, machine).loop.outer == (64, 64)
