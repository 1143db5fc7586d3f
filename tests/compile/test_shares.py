"""Which calls threads go through without waiting: whatever the order in which they get on, the numbers are the same."""

import ctypes

import numpy as np
import pytest
from compile.loop_interpreter import compiled
from compile.test_loops import kernels
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.compile import executable
from chainrule.compile.executable import Executable
from chainrule.compile.kernels import Access, Call, Gemm, Instruction, Loop, Program
from chainrule.compile.machine import Machine
from chainrule.compile.shares import touched_by

F4 = np.dtype("f4")
#: Arrays of ROWS × ROWS numbers, of which the last lies half over the first and half over the second.
ROWS = 24
SIZE = ROWS * ROWS
SLOTS = {0: 0, 1: 4 * SIZE, 2: 8 * SIZE, 3: 12 * SIZE, 4: 2 * SIZE}
_Kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


@pytest.fixture(autouse=True)
def every_call_is_shared(monkeypatch):
    monkeypatch.setattr(executable, "FEWEST_CYCLES_TO_SHARE", 0)


def machine(cores):
    host = Machine.host()
    return type(host)(**{**vars(host), "cores": cores})


def elementwise(read, width, folds=False, serial=False):
    """Argument 1 becomes its mean with argument 0, read in some order; or sums of rows of argument 0, in column 0."""
    rows = Access(1, 0, (ROWS, 1))
    loads = Instruction("load", F4, access=read)
    half = Instruction("constant", F4, value=0.5)
    if folds:
        body = (loads, half, Instruction("multiply", F4, (0, 1)), Instruction("reduce_sum", F4, (2,)),
                Instruction("store", F4, (3,), Access(1, 0, (ROWS, 0))))  # fmt: skip
        return Loop((ROWS,), (width,), body, (F4, F4))
    body = (loads, half, Instruction("load", F4, access=rows), Instruction("add", F4, (0, 2)),
            Instruction("multiply", F4, (3, 1)), Instruction("store", F4, (4,), rows))  # fmt: skip
    return Loop((ROWS, width), (), body, (F4, F4), serial)


def product(columns):
    """Argument 2 becomes a part of the product of the other two, over ROWS to stay small."""
    body = (
        Instruction("product", F4),
        Instruction("constant", F4, value=1 / ROWS),
        Instruction("multiply", F4, (0, 1)),
        Instruction("store", F4, (2,), Access(2, 0, (ROWS, 1))),
    )
    a, b = Access(0, 0, (ROWS, 1)), Access(1, 0, (ROWS, 1))
    return Gemm((), ROWS, columns, ROWS, F4, a, b, body, (F4, F4, F4))


READS = [(0, (ROWS, 1)), (0, (1, ROWS)), (SIZE - 1, (-ROWS, -1)), (0, (0, 1)), (0, (ROWS, 0))]


@st.composite
def programs(draw):
    calls = []
    for _ in range(draw(st.integers(1, 12))):
        slots = draw(st.permutations(range(4)))
        if draw(st.booleans()):
            slots = [4, 2, 3]  # the array that lies over others, with those that it does not lie over
            slots = draw(st.permutations(slots))
        width, column = draw(st.sampled_from([(ROWS, 0), (8, 0), (8, 16)]))
        if draw(st.sampled_from([False, False, True])):
            calls.append(Call(product(width), tuple(slots[:3]), (0, 0, 4 * column)))
            continue
        offset, strides = draw(st.sampled_from(READS))
        kernel = elementwise(
            Access(0, offset, strides), width, draw(st.sampled_from([False, False, True])),
            serial=draw(st.sampled_from([False, False, False, True])),
        )  # fmt: skip
        calls.append(Call(kernel, tuple(slots[:2]), (0, 4 * column)))
    return Program(tuple(calls), SLOTS, 16 * SIZE, len(SLOTS), draw(st.integers(2, 4)))


def run_in_an_order(step, generator):
    """Every stage of a program, its shares taking turns as they please, each going through its calls in order."""
    for stage in step.stages:
        shares = step.threads if stage.is_shared else 1
        turns = np.repeat(np.arange(shares), stage.end - stage.first)
        place = [stage.first] * shares
        for share in generator.permutation(turns) if generator is not None else turns:
            call = step.program.calls[place[share]]
            addresses = [step.table[slot] + offset for slot, offset in call.places()]
            _Kernel(step._code_of_call[place[share]])((ctypes.c_void_p * len(addresses))(*addresses), share, shares)
            place[share] += 1


@given(programs(), st.integers(0, 2**32 - 1))
def test_shares_may_get_on_in_any_order(program, seed):
    step = Executable(program, machine(program.threads))
    alone = Executable(program._replace(threads=1), machine(1))
    generator = np.random.default_rng(seed)
    start = generator.standard_normal(4 * SIZE).astype(F4)
    alone.scratch.view(F4)[:] = start
    run_in_an_order(alone, None)
    for order in (None, generator):
        step.scratch.view(F4)[:] = start
        run_in_an_order(step, order)
        assert step.scratch.tobytes() == alone.scratch.tobytes()


@given(kernels(), st.integers(1, 4))
def test_a_share_writes_nothing_but_what_it_is_said_to(kernel, threads):
    loop, arguments = kernel
    touched = touched_by(loop, Machine.host(), threads)
    for share in range(threads):
        memory = [array.copy() for array in arguments]
        run_share(loop, memory, share, threads)
        for number, (before, after) in enumerate(zip(arguments, memory, strict=True)):
            changed = np.flatnonzero(before.view(np.uint8) != after.view(np.uint8))
            allowed = np.zeros(before.nbytes, bool)
            for each in touched:
                if each.argument == number and each.writes:
                    for low, high in parts(each, share):
                        allowed[max(low, 0) : max(high, 0)] = True
            assert allowed[changed].all()


def parts(touched, share):
    if touched.rows is None:
        return [(touched.low, touched.high)]
    rows = touched.rows
    return [(rows.low + i * rows.stride, rows.high + i * rows.stride) for i in range(*rows.borders[share : share + 2])]


def run_share(loop, memory, share, threads):

    function, _native = compiled(loop, Machine.host())
    pointers = (ctypes.c_void_p * max(len(memory), 1))(*[array.ctypes.data for array in memory])
    function(ctypes.addressof(pointers), share, threads)


def test_a_call_waits_for_all_who_read_what_it_writes():
    backwards, forwards = Access(0, SIZE - 1, (-ROWS, -1)), Access(0, 0, (ROWS, 1))
    calls = ((elementwise(backwards, ROWS), (0, 1)), (elementwise(forwards, ROWS), (0, 2)),
             (elementwise(forwards, ROWS), (3, 2)), (elementwise(forwards, ROWS), (3, 0)))  # fmt: skip
    program = Program(tuple(Call(*call) for call in calls), SLOTS, 16 * SIZE, len(SLOTS), 2)
    assert [stage[:2] for stage in Executable(program, machine(2)).stages] == [(0, 3), (3, 4)]


def test_threads_go_through_many_steps_of_a_recurrence_before_they_meet():
    nn.random.manual_seed(0)
    lstm = nn.LSTM(8, 64)
    x = cr.tensor(np.random.default_rng(0).standard_normal((20, 32, 8)).astype(F4))

    @cr.compile(threads=2)
    def step(x):
        lstm.zero_grad()
        loss = (lstm(x)[0] ** 2).sum()
        loss.backward()
        return loss

    uncompiled, compiled = step(x).item(), step(x).item()
    np.testing.assert_allclose(compiled, uncompiled, rtol=1e-5)
    (variant,) = step.variants
    if variant.executable.threads > 1:
        assert len(variant.executable.stages) < len(variant.plan.program.calls) / 2
