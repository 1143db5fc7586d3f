"""Running programs: one thread or several, several programs at once, forked processes, idle workers."""

import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from llvmlite.binding import ffi

from chainrule.compile import executable
from chainrule.compile.executable import Executable, address_of
from chainrule.compile.kernels import Access, Call, Instruction, Loop, Program
from chainrule.compile.lanes import Module
from chainrule.compile.loops import emit_loop
from chainrule.compile.machine import Machine, Optimised, compile_module

F4 = np.dtype("float32")
N = 5000  # long enough for each thread to have something to do


@pytest.fixture(autouse=True)
def two_cores_and_no_cache(monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE", "off")
    monkeypatch.setattr(executable, "FEWEST_CYCLES_TO_SHARE", 0)


def machine(cores=2):
    """This one, said to have so many cores: programs must not need them."""
    host = Machine.host()
    return type(host)(**{**vars(host), "cores": cores})


def axpy(n, scale, serial=False):
    """Argument 1 becomes scale · argument 0 + argument 1."""
    x, y = Access(0, 0, (1,)), Access(1, 0, (1,))
    body = (
        Instruction("load", F4, access=x),
        Instruction("constant", F4, value=scale),
        Instruction("load", F4, access=y),
        Instruction("multiply", F4, (0, 1)),
        Instruction("add", F4, (3, 2)),
        Instruction("store", F4, (4,), y),
    )
    return Loop((n,), (), body, (F4, F4), serial)


def copy(n, reverse=False):
    """Argument 1 becomes argument 0, from its other end where asked for: elements cross over between threads."""
    source = Access(0, n - 1, (-1,)) if reverse else Access(0, 0, (1,))
    body = (Instruction("load", F4, access=source), Instruction("store", F4, (0,), Access(1, 0, (1,))))
    return Loop((n,), (), body, (F4, F4))


def crossing_program(n, calls, threads):
    """Numbers that travel from end to end of two scratch arrays: slot 0 is read, slot 1 written."""
    a, b = 2, 3
    steps = [Call(copy(n), (0, a)), Call(copy(n), (0, b))]
    for _ in range(calls):
        steps += [Call(copy(n, reverse=True), (a, b)), Call(axpy(n, 0.5), (b, a))]
    steps.append(Call(copy(n), (a, 1)))
    return Program(tuple(steps), {a: 0, b: 4 * n + 64}, 8 * n + 128, 4, threads)


def crossing_numbers(x, calls):
    a, b = x.copy(), x.copy()
    for _ in range(calls):
        b = a[::-1].copy()
        a = np.float32(0.5) * b + a
    return a


def given(program, x, y, cores=2):
    made = Executable(program, machine(cores))
    made.set(0, address_of(x))
    made.set(1, address_of(y))
    return made


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_thousands_of_runs_give_the_same_right_numbers(threads):
    x = np.random.default_rng(0).standard_normal(N).astype(F4)
    y = np.zeros_like(x)
    step = given(crossing_program(N, 8, threads), x, y, cores=threads)
    step.run()
    first = y.copy()
    np.testing.assert_allclose(first, crossing_numbers(x, 8), rtol=1e-6)
    for _ in range(2000 if threads <= 2 else 100):
        y[:] = 0
        step.run()
        assert y.tobytes() == first.tobytes()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_program_without_calls_can_be_run_again_and_again(threads):
    step = Executable(Program((), {}, 0, 0, threads), machine())
    for _ in range(1000):
        step.run()


def test_a_serial_kernel_is_done_by_one_thread_in_its_place():
    x, y = np.ones(N, F4), np.zeros(N, F4)
    calls = tuple(Call(axpy(N, scale, serial), (0, 1)) for scale in (1.0, 2.0) for serial in (True, False, True))
    step = given(Program(calls, {}, 0, 2, 2), x, y)
    for _ in range(500):
        step.run()
    np.testing.assert_array_equal(y, np.full(N, 500 * 9, F4))


def test_calls_too_small_to_share_are_done_by_one_thread_between_shared_ones(monkeypatch):
    monkeypatch.setattr(executable, "FEWEST_CYCLES_TO_SHARE", 100)
    x, y = np.ones(N, F4), np.zeros(N, F4)
    calls = tuple(Call(axpy(n, 1.0), (0, 1)) for n in (N, 10, 10, N, N, 10))
    step = given(Program(calls, {}, 0, 2, 2), x, y)
    for _ in range(500):
        step.run()
    np.testing.assert_array_equal(y, np.repeat([500 * 6, 500 * 3], [10, N - 10]).astype(F4))


def test_an_array_may_be_given_by_its_identity():
    if not executable.ARRAYS_BY_ID:
        pytest.skip("the array object's layout is not known here")
    step = Executable(Program((Call(axpy(3, 2.0), (0, 1)),), {}, 0, 2, 1), machine())
    for base in (np.arange(6, dtype=F4), np.arange(9, dtype=F4)[3:]):
        x, y = base[2:5], np.ones(3, F4)
        step.arrays[0], step.arrays[1] = id(x), id(y)
        step.run()
        np.testing.assert_array_equal(y, 2 * x + 1)


def test_the_address_of_an_array_is_that_of_its_first_element():
    for array in (np.zeros(3), np.zeros((4, 4), F4)[1:, 2:], np.zeros(7)[::-1], np.zeros(0, bool), np.array(2.0)):
        assert address_of(array) == array.__array_interface__["data"][0]


def test_kernels_that_only_compare_equal_are_kept_apart():
    x, y, z = np.ones(4, F4), np.zeros(4, F4), np.zeros(4, F4)

    def store(value):
        return Loop(
            (4,),
            (),
            (Instruction("constant", F4, value=value), Instruction("store", F4, (0,), Access(0, 0, (1,)))),
            (F4,),
        )

    step = Executable(Program((Call(store(0.0), (0,)), Call(store(-0.0), (1,))), {}, 0, 2, 1), machine())
    step.set(0, address_of(y))
    step.set(1, address_of(z))
    step.run()
    assert (np.signbit(y).any(), np.signbit(z).all(), len(x)) == (False, True, 4)


def test_equal_kernels_are_compiled_once():
    calls = tuple(Call(axpy(4, 1.0), (0, 1)) for _ in range(50))
    assert Executable(Program(calls, {}, 0, 2, 1), machine()).llvm.count("define void @kernel") == 1


def test_scratch_memory_is_aligned_and_lies_where_the_program_says():
    step = Executable(crossing_program(100, 1, 1), machine())
    assert step.table[2] % 64 == 0
    assert step.table[3] - step.table[2] == 464
    assert step.scratch.nbytes == 928


@pytest.mark.parametrize("threads", [1, 2])
def test_subnormal_numbers_count_as_zero_inside_a_program_only(threads):
    tiny = np.full(N, 1e-40, F4)
    y = np.zeros(N, F4)
    program = Program((Call(axpy(N, 1.0), (0, 1)),), {}, 0, 2, threads)
    for flush, expected in ((False, tiny), (True, np.zeros_like(tiny))):
        y[:] = 0
        step = Executable(program, machine(), flush_subnormals=flush)
        step.set(0, address_of(tiny))
        step.set(1, address_of(y))
        step.run()
        if not flush or Machine.host().triple.startswith("x86_64"):
            assert y.tobytes() == expected.tobytes()  # compared as numbers, they might be flushed too
        assert (tiny * np.float32(1.0)).tobytes() == tiny.tobytes()


def test_two_python_threads_may_run_programs_at_once():
    rng = np.random.default_rng(1)
    wrong = []

    def work(x):
        y = np.zeros_like(x)
        step = given(crossing_program(N, 8, 2), x, y)
        step.run()
        first = y.copy()
        np.testing.assert_allclose(first, crossing_numbers(x, 8), rtol=1e-6)
        for _ in range(1000):
            step.run()
            if y.tobytes() != first.tobytes():
                wrong.append(y.copy())

    users = [threading.Thread(target=work, args=(rng.standard_normal(N).astype(F4),)) for _ in range(3)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert not wrong


def run_script(text, **environment):
    """A process of its own for the script, in which this file's functions are known. Returns what it prints."""
    head = f"""
        import importlib.util, os, sys, time
        import numpy as np
        from chainrule.compile.threads import pool
        specification = importlib.util.spec_from_file_location("programs", {__file__!r})
        programs = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(programs)
        programs.executable.FEWEST_CYCLES_TO_SHARE = 0
        x = np.random.default_rng(0).standard_normal(programs.N).astype("float32")
        y = np.zeros_like(x)
        expected = programs.crossing_numbers(x, 8)
        def close(): return np.allclose(y, expected, rtol=1e-6)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "CHAINRULE_CACHE": "off", **environment},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_process_runs_programs_with_workers_of_its_own():
    said = run_script("""
        step = programs.given(programs.crossing_program(programs.N, 8, 2), x, y)
        step.run()
        print(close())
        sys.stdout.flush()
        for _ in range(3):
            child = os.fork()
            if child == 0:
                import threading
                right = True
                for _ in range(200):
                    y[:] = 0
                    step.run()
                    right = right and close()
                os._exit(0 if right and any(t.name == "chainrule-1" for t in threading.enumerate()) else 1)
            for _ in range(200):
                step.run()
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), close())
    """)
    assert said == ["True", "0", "True", "0", "True", "0", "True"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_fork_while_a_program_runs_leaves_both_processes_able_to_run():
    said = run_script("""
        import threading
        step = programs.given(programs.crossing_program(programs.N, 8, 2), x, y)
        stop = False
        def work():
            while not stop:
                step.run()
        user = threading.Thread(target=work)
        user.start()
        codes = []
        for _ in range(10):
            child = os.fork()
            if child == 0:
                y[:] = 0
                for _ in range(20):
                    step.run()
                os._exit(0 if close() else 1)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        stop = True
        user.join()
        print(sum(codes), close())
    """)
    assert said == ["0", "True"]


def test_no_one_waits_for_a_worker_that_gets_no_processor():
    said = run_script("""
        pool()._state.threads = 2  # and the second never comes
        step = programs.given(programs.crossing_program(programs.N, 8, 2), x, y)
        for _ in range(50):
            y[:] = 0
            assert step._run() == 0  # not for want of workers
            assert close()
        print("done")
    """)
    assert said == ["done"]


def test_a_program_may_be_unmade_while_a_worker_is_behind(tmp_path):
    said = run_script(
        """
        for round in range(300):
            step = programs.given(programs.crossing_program(programs.N, 8, 2), x, y)
            y[:] = 0
            for _ in range(round % 3 + 1):
                step.run()
            assert close()
            del step
        print("done")
        """,
        CHAINRULE_CACHE=str(tmp_path),
    )
    assert said == ["done"]


def test_idle_workers_use_no_processor_time():
    said = run_script("""
        step = programs.given(programs.crossing_program(programs.N, 8, 2), x, y)
        for _ in range(100):
            step.run()
        before = time.process_time()
        time.sleep(0.3)
        print(time.process_time() - before < 0.1, pool().is_asleep(1))
    """)
    assert said == ["True", "True"]


def test_a_worker_that_slept_takes_part_again():
    said = run_script("""
        step = programs.given(programs.crossing_program(programs.N, 8, 2), x, y)
        for _ in range(5):
            while not pool().is_asleep(1):
                time.sleep(0.01)
            while pool().is_asleep(1):
                y[:] = 0
                step.run()
                assert close()
        print("done")
    """)
    assert said == ["done"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the platform cannot take processors away")
def test_two_threads_make_progress_on_one_processor():
    said = run_script("""
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        step = programs.given(programs.crossing_program(programs.N, 8, 2), x, y)
        assert step.threads == 2
        for _ in range(30):
            y[:] = 0
            step.run()
            assert close()
        print("done")
    """)
    assert said == ["done"]


def test_a_program_has_no_more_threads_than_the_machine_has_cores():
    assert Executable(crossing_program(10, 1, 64), machine(cores=2)).threads == 2


def test_vectors_of_the_machines_width_stay_whole():
    machine = Machine.host()
    text = f"""
        define void @kernel0(ptr %p) {{
          %x = load <{machine.lanes(F4)} x float>, ptr %p, align 4
          %y = fadd <{machine.lanes(F4)} x float> %x, %x
          store <{machine.lanes(F4)} x float> %y, ptr %p, align 4
          ret void
        }}
    """
    code = compile_module(text, machine).assembly
    if machine.triple.startswith("x86_64"):
        assert {128: "%xmm", 256: "%ymm", 512: "%zmm"}[machine.vector_bits] in code


def loops_of_one_module(count):
    module = Module("several", scales=Machine.host().vector_bits == 512)
    for number in range(count):
        emit_loop(module, axpy(N, 2.0 + number), f"kernel{number}", Machine.host())
    return str(module)


def test_machine_code_is_generated_while_another_thread_is_in_llvm():
    optimised = Optimised(loops_of_one_module(1), Machine.host())
    with ThreadPoolExecutor(1) as another, ffi.lib._lock:
        assert another.submit(optimised.object_code).result(timeout=60)


def test_threads_that_generate_machine_code_at_once_generate_the_same():
    text = loops_of_one_module(4)
    expected = Optimised(text, Machine.host()).object_code()
    made = [Optimised(text, Machine.host()) for _ in range(12)]
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(Optimised.object_code, made)) == {expected}


def test_code_that_calls_what_does_not_exist_is_refused():
    text = "declare void @no_such_function()\ndefine void @f() {\n call void @no_such_function()\n ret void\n}"
    with pytest.raises(RuntimeError, match="symbols"):
        compile_module(text, Machine.host())


def test_a_process_whose_programs_have_one_thread_compiles_no_workers():
    printed = run_script("""
        import chainrule as cr
        from chainrule.compile import threads
        double = cr.compile(lambda x: 2 * x, threads=1)
        print(double(np.ones(1)), double(np.ones(1)), len(threads._runtimes))
        print(threads.alone() is threads.alone(), len(threads._runtimes))
        print(threads.pool() is threads.pool() is threads.alone(), len(threads._runtimes))
    """)
    assert printed == ["[2.]", "[2.]", "1", "True", "1", "True", "2"]


@pytest.mark.parametrize("flushes", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_subnormal_numbers_count_as_zero_only_where_that_is_wanted_and_only_inside(threads, flushes):
    x, y = np.full(N, 1e-40, "float32"), np.zeros(N, "float32")
    made = Executable(Program((Call(axpy(N, 2.0), (0, 1)),), {}, 0, 2, threads), machine(), flush_subnormals=flushes)
    made.set(0, address_of(x))
    made.set(1, address_of(y))
    made.run()
    assert made.threads == threads
    assert (y == (0 if flushes else x + x)).all()
    assert (x + x > 0).all()
