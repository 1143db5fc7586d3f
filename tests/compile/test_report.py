"""`report` and `show` tell what was compiled."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.compile import compile as cr_compile


@pytest.fixture(scope="module")
def step():
    """A training step of a small network that was called for two shapes, the network, and a batch."""
    nn.random.manual_seed(0)
    model = nn.MLP(6, 8, 3, depth=2, activation="tanh")
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @cr_compile
    def train_step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    rng = np.random.default_rng(0)
    for rows in (16, 5):
        x, y = rng.normal(size=(rows, 6)).astype(np.float32), rng.integers(0, 3, rows)
        train_step(x, y)
    train_step.batch, train_step.model = (x, y), model
    return train_step


def test_there_is_a_program_for_each_shape(step):
    report = step.report()
    assert [program.arguments for program in report.programs] == [
        ("float32[16, 6]", "int64[16]"),
        ("float32[5, 6]", "int64[5]"),
    ]


def test_the_products_account_for_their_multiplications(step):
    for rows, program in zip((16, 5), step.report().programs, strict=True):
        # Forward m·k·n; backward the same for every weight, and for the inputs of all layers but the first.
        sizes = [(6, 8), (8, 8), (8, 3)]
        products = sum(2 * rows * k * n for k, n in sizes) * 2 + sum(2 * rows * k * n for k, n in sizes[1:])
        assert products < program.flops < 2.2 * products
        assert program.calls == sum(kernel.calls for kernel in program.kernels)
        assert sum(kernel.calls for kernel in program.kernels if "matmul" in kernel.name) == 8


def test_every_parameter_is_read_and_written_at_least(step):
    parameters = sum(p.size for p in step.model.parameters()) * 4
    for program in step.report().programs:
        assert program.bytes > 4 * parameters  # the parameter and its momentum, in and out


def test_the_stages_have_times_and_the_graph_shrinks(step):
    for program in step.report().programs:
        assert {"trace", "simplify", "plan", "emit", "optimise", "generate", "link"} == set(program.seconds)
        assert program.seconds["trace"] > 0
        assert program.compile_seconds > program.seconds["plan"] > 0
        assert 0 < program.simplified <= program.traced
        assert program.run_seconds is None


def test_measuring_tells_times_and_changes_nothing(step):
    before = [p.data.copy() for p in step.model.parameters()]
    program = step.report(measure=True).programs[0]
    assert program.run_seconds > 0
    assert all(kernel.seconds > 0 for kernel in program.kernels)
    assert program.gemm_share == pytest.approx(program.flops / program.run_seconds / program.gemm_rate)
    for parameter, old in zip(step.model.parameters(), before, strict=True):
        assert np.array_equal(parameter.data, old)


def test_memory_of_the_eager_run_is_what_lives_at_one_time():
    @cr_compile
    def chain(x):
        a = cr.numpy.exp(x)
        for _ in range(5):
            b = cr.numpy.sin(cr.numpy.cos(a[::-1]))  # a view takes nothing
        return a + b

    chain(np.ones(1000))
    (program,) = chain.report().programs
    assert program.eager_bytes == 3 * 8000  # a, its cosine and the sine of that; the sum is a result
    assert program.scratch_bytes == 8000  # a, which is read in two orders


def test_what_the_last_kernel_reads_lies_where_its_result_will():
    compiled = cr_compile(cr.value_and_grad(lambda x: np.logaddexp.reduce(x)))
    x = np.linspace(-1.0, 1.0, 4096)
    compiled(x)

    assert np.allclose(compiled(x)[1], np.exp(x) / np.exp(x).sum())
    (program,) = compiled.report().programs
    assert program.scratch_bytes < x.nbytes  # the exponentials are where the gradient is made


def test_a_report_prints_as_tables(step):
    text = str(step.report(measure=True))
    for expected in ("trace", "compilation", "traced", "kernels", "FLOP", "time of a run", "GEMM rate", "share"):
        assert expected in text
    assert text.count("train_step, program") == 2
    assert max(map(len, text.splitlines())) <= 120


def test_the_graph_is_shown_with_the_places_it_reads_and_writes(step):
    text = step.show("graph")
    assert "argument 0" in text
    assert "-> result 0" in text
    assert any("matmul(%" in line and line.startswith("%") for line in text.splitlines())


def test_the_kernels_are_shown_as_formulas(step):
    text = step.show("fused")
    assert "for i, j in 16 x 8:" in text
    assert "tanh(t0 + " in text
    assert " for k in 6)" in text


def test_llvm_and_assembly_are_shown_for_code_from_the_cache_too(step):
    again = cr_compile(step.function)
    again(*step.batch)
    assert again.report().programs[0].cached
    assert "define" in again.show("llvm")
    assert "kernel0:" in again.show("asm") or "_kernel0:" in again.show("asm")


def test_an_unknown_stage_is_refused_with_those_there_are(step):
    with pytest.raises(ValueError, match=r"show\('fusd'\).* one of 'graph', 'fused', 'llvm', 'asm'"):
        step.show("fusd")


def test_a_function_that_was_not_called_has_no_report():
    compiled = cr_compile(lambda x: x)
    for ask in (compiled.report, lambda: compiled.show("graph")):
        with pytest.raises(RuntimeError, match="has no program yet; call it first"):
            ask()


def test_a_function_that_runs_uncompiled_says_why():
    @cr_compile
    def on_complex(x):
        return x * 1j

    with pytest.warns(RuntimeWarning, match="runs uncompiled"):
        on_complex(np.ones(3))
    with pytest.raises(RuntimeError, match=r"on_complex has no program, it runs uncompiled: .*complex"):
        on_complex.report()
