"""What a compiled function is made of, what each part costs, and how to see it: `report` and `show`.

Nothing here changes the function or its state: measurements run the program's own code on memory made for them.
"""

from __future__ import annotations

import functools
import io
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from chainrule.compile.executable import address_of
from chainrule.compile.graph import LAYOUT, Value, reachable
from chainrule.compile.kernels import Gemm
from chainrule.compile.listing import graph_text, kernel_summary, kernels_text
from chainrule.compile.plan import bytes_moved, flops
from chainrule.compile.variant import Variant
from chainrule.core.quantities import bytes_text, scaled

STAGES = ("graph", "fused", "llvm", "asm")
_MOST_ROWS = 40
_GEMM_SIZE = 1024
_SECONDS_TO_MEASURE = 2e-3
_FREE = frozenset({"input", "constant", "full", "index"})


@dataclass(frozen=True)
class KernelReport:
    """One kernel of a program.

    Attributes:
        name: what it computes, in one line.
        calls: how often a run of the program calls it.
        flops: arithmetic of all these calls: two for each product that is summed, one for anything else.
        bytes: of all elements that these calls read and write, each array once per call.
        seconds: of all these calls, made alone, again and again, so with all they need in the caches where it fits
            there; None where it was not measured.
    """

    name: str
    calls: int
    flops: int
    bytes: int
    seconds: float | None = None


@dataclass(frozen=True)
class ProgramReport:
    """The program for arguments of certain shapes.

    Attributes:
        arguments: what the program is for, such as `float32[64, 784]`; objects that are part of it are left out.
        seconds: how long each stage took: "trace" (unless arrays are large, NumPy computes the first call in it),
            "simplify", "plan" (fusion too), "emit", "optimise", "generate", "link"; those of code from the cache are 0.
        cached: whether the code came from the cache on disk.
        traced, simplified: number of values in the recorded graph, and after simplification.
        threads: how many share the program.
        kernels: the different kernels, in the order of their first calls.
        scratch_bytes: memory for what lives only within a run.
        eager_bytes: the most that such values take at one time without compilation, each from its operation to the
            last one that reads it. This is counted on the recorded graph, not measured: a real run lets go of some
            values later, and its operations have temporary arrays of their own.
        run_seconds: a run of the program, without Python's part in a call; None where it was not measured.
        gemm_rate: operations per second that NumPy's product of two 1024 x 1024 matrices reaches in this process, in
            the dtype of most of the program's arithmetic; measured once. None where it was not.
    """

    arguments: tuple[str, ...]
    seconds: Mapping[str, float]
    cached: bool
    traced: int
    simplified: int
    threads: int
    kernels: tuple[KernelReport, ...]
    scratch_bytes: int
    eager_bytes: int
    run_seconds: float | None = None
    gemm_rate: float | None = None

    @property
    def compile_seconds(self) -> float:
        """All stages after the trace."""
        return sum(seconds for stage, seconds in self.seconds.items() if stage != "trace")

    @property
    def calls(self) -> int:
        """How many kernels a run calls."""
        return sum(kernel.calls for kernel in self.kernels)

    @property
    def flops(self) -> int:
        """Arithmetic of a run."""
        return sum(kernel.flops for kernel in self.kernels)

    @property
    def bytes(self) -> int:
        """Bytes that the kernels of a run read and write."""
        return sum(kernel.bytes for kernel in self.kernels)

    @property
    def gemm_share(self) -> float | None:
        """Arithmetic per second, as a share of `gemm_rate`; None where it was not measured."""
        if self.run_seconds is None or self.gemm_rate is None:
            return None
        return self.flops / self.run_seconds / self.gemm_rate


@dataclass(frozen=True)
class Report:
    """What a compiled function is made of; printed as tables.

    Attributes:
        name: of the function.
        programs: one for each set of shapes (and other states of what the function closes over) so far.
        uncompiled: why further calls run uncompiled; None where they do not.
    """

    name: str
    programs: tuple[ProgramReport, ...]
    uncompiled: str | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for number, program in enumerate(self.programs):
            yield f"{self.name}, program {number + 1} of {len(self.programs)}, for {', '.join(program.arguments)}"
            yield _figures_table(program)
            yield _kernels_table(program)
        if self.uncompiled is not None:
            yield f"{self.name}: further calls run uncompiled: {self.uncompiled}"

    def __str__(self) -> str:
        out = io.StringIO()
        Console(file=out, width=120, color_system=None, highlight=False, markup=False).print(self)
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def report_of(name: str, variants: Sequence[Variant], uncompiled: str | None, measure: bool) -> Report:
    """The report on a compiled function's programs.

    Args:
        name: of the function.
        variants: its programs.
        uncompiled: why further calls run uncompiled.
        measure: whether programs and kernels are run, on memory made for that, to tell how long they take.

    Raises:
        RuntimeError: there is no program yet.
    """
    _require_a_program(name, variants, uncompiled, "report()")
    return Report(name, tuple(_program_report(variant, measure) for variant in variants), uncompiled)


def show(name: str, variants: Sequence[Variant], uncompiled: str | None, stage: str) -> str:
    """A stage of all programs as text.

    Args:
        name: of the function.
        variants: its programs.
        uncompiled: why further calls run uncompiled.
        stage: one of `STAGES`.

    Raises:
        ValueError: there is no such stage.
        RuntimeError: there is no program yet.
    """
    if stage not in STAGES:
        raise ValueError(f"show({stage!r}): there is no such stage; give one of {', '.join(map(repr, STAGES))}")
    _require_a_program(name, variants, uncompiled, f"show({stage!r})")
    return "\n\n".join(
        f"# {name}, program {number + 1} of {len(variants)}, for {', '.join(_arguments(variant))}\n\n{text}"
        for number, variant in enumerate(variants)
        for text in [_STAGE_TEXT[stage](variant)]
    )


def _require_a_program(name: str, variants: Sequence[Variant], uncompiled: str | None, what: str) -> None:
    if variants:
        return
    if uncompiled is not None:
        raise RuntimeError(f"{what}: {name} has no program, it runs uncompiled: {uncompiled}")
    raise RuntimeError(f"{what}: {name} has no program yet; call it first, it is compiled at its first call")


def _arguments(variant: Variant) -> tuple[str, ...]:
    kinds = []
    for argument in variant.arguments:
        if argument.kind == "float":
            kinds.append("float")
        elif argument.shape is not None:
            kinds.append(f"{argument.dtype}{list(argument.shape)}")
    return tuple(kinds) or ("no arrays",)


# Stages as text ------------------------------------------------------------------------------------------------------


def _names(variant: Variant) -> dict[Value, str]:
    """Where inputs come from, and where outputs go."""
    names = {value: str(value.params) for value in variant.plan.sources if value.op == "input"}
    places = [place.path for place, value in variant.recording.written.items() if value is not None]
    for number, slot in enumerate(variant.plan.outputs):
        target = places[number] if number < len(places) else f"result {number - len(places)}"
        value = variant.plan.values[slot]
        names[value] = f"{names[value]}, -> {target}" if value in names else f"-> {target}"
    return names


def _outputs(variant: Variant) -> list[Value]:
    return [variant.plan.values[slot] for slot in variant.plan.outputs]


def _fused_text(variant: Variant) -> str:
    plan = variant.plan
    kernels = kernels_text(plan.program.calls, plan.values, _names(variant))
    return "\n\n".join(f"{heading}\n{_indented(text)}" for heading, text in kernels)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


_STAGE_TEXT = {
    "graph": lambda variant: graph_text(variant.graph, _outputs(variant), _names(variant)),
    "fused": _fused_text,
    "llvm": lambda variant: variant.executable.llvm,
    "asm": lambda variant: variant.executable.assembly,
}


# Figures -------------------------------------------------------------------------------------------------------------


def _program_report(variant: Variant, measure: bool) -> ProgramReport:
    plan, recording, executable = variant.plan, variant.recording, variant.executable
    traced = recording.trace.graph
    places: dict[int, list[int]] = {}
    for place, call in enumerate(plan.program.calls):
        places.setdefault(id(call.kernel), []).append(place)
    kernels = []
    for found in places.values():
        kernel, count = plan.program.calls[found[0]].kernel, len(found)
        seconds = count * _seconds(variant, found[:1]) if measure else None
        kernels.append(
            KernelReport(kernel_summary(kernel), count, count * flops(kernel), count * bytes_moved(kernel), seconds)
        )
    return ProgramReport(
        arguments=_arguments(variant),
        seconds={"trace": recording.seconds, **variant.seconds, **executable.seconds},
        cached=executable.cached,
        traced=len(traced.values),
        simplified=len(reachable(_outputs(variant))),
        threads=executable.threads,
        kernels=tuple(kernels),
        scratch_bytes=plan.program.scratch_bytes,
        eager_bytes=_eager_bytes(variant),
        run_seconds=_seconds(variant, range(len(plan.program.calls))) if measure else None,
        gemm_rate=_gemm_rate(_main_dtype(variant)) if measure else None,
    )


def _eager_bytes(variant: Variant) -> int:
    recording = variant.recording
    graph = recording.trace.graph
    kept = [value for value in recording.written.values() if value is not None]
    outside = {*kept, *(value for value in recording.results if isinstance(value, Value))}
    last: dict[Value, int] = {}
    for value in graph.values:
        for x in value.inputs:
            last[_memory(x)] = value.number
    outside = {_memory(value) for value in outside}
    freed: dict[int, int] = {}
    now = most = 0
    for value in graph.values:
        if value.op not in _FREE and value.op not in LAYOUT and value not in outside:
            size = value.size * value.dtype.itemsize
            now += size
            end = last.get(value, value.number)
            freed[end] = freed.get(end, 0) + size
        most = max(most, now)
        now -= freed.pop(value.number, 0)
    return most


def _memory(value: Value) -> Value:
    """The value whose memory a view looks at."""
    while value.op in LAYOUT:
        value = value.inputs[0]
    return value


# Measuring -----------------------------------------------------------------------------------------------------------


def _seconds(variant: Variant, positions: Sequence[int]) -> float:
    """The best of some runs of these calls on memory of their own."""
    with variant.lock:
        memory = _memory_for(variant, positions)
        addresses = {slot: address_of(array) for slot, array in memory.items()}
        if len(positions) > 1:  # all of them: what lives within the run shares its memory as ever
            scratch = variant.executable.scratch
            addresses |= {slot: address_of(scratch) + at for slot, at in variant.plan.program.scratch.items()}
        measure = variant.executable.measure
        once = measure(positions, addresses, 1)
        repeats = max(1, min(1000 // len(positions) + 1, int(_SECONDS_TO_MEASURE / max(once, 1e-7))))
        return min(measure(positions, addresses, repeats) for _ in range(5))


def _memory_for(variant: Variant, positions: Sequence[int]) -> dict[int, NDArray[Any]]:
    """Arrays for the slots: of halves, or of zeros where they could be indices, so that every address is a good one."""
    program, memory = variant.plan.program, {}
    for slot in {slot for position in positions for slot in program.calls[position].slots}:
        if len(positions) == 1 or slot not in program.scratch:
            value = variant.plan.values[slot]
            memory[slot] = np.full(max(value.size, 1), 0.5 if value.dtype.kind == "f" else 0, value.dtype)
    return memory


def _main_dtype(variant: Variant) -> np.dtype:
    """The dtype of most of the products."""
    work: dict[np.dtype, int] = {np.dtype(np.float32): 0}
    for call in variant.plan.program.calls:
        if isinstance(call.kernel, Gemm):
            work[call.kernel.dtype] = work.get(call.kernel.dtype, 0) + flops(call.kernel)
    return max(work, key=work.__getitem__)


@functools.cache
def _gemm_rate(dtype: np.dtype) -> float:
    a = np.full((_GEMM_SIZE, _GEMM_SIZE), 0.5, dtype)
    b, c = a.copy(), a.copy()
    best = math.inf
    for _ in range(8):
        start = time.perf_counter()
        np.matmul(a, b, out=c)
        best = min(best, time.perf_counter() - start)
    return 2 * _GEMM_SIZE**3 / best


# Printing ------------------------------------------------------------------------------------------------------------


def _figures_table(program: ProgramReport) -> Table:
    stages = ", ".join(
        f"{stage} {_time(seconds)}" for stage, seconds in program.seconds.items() if stage != "trace" and seconds
    )
    origin = "from the cache" if program.cached else "not from the cache"
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_row("trace", f"{_time(program.seconds['trace'])}, with what NumPy computed for the first call")
    table.add_row("compilation", f"{_time(program.compile_seconds)}: {stages}; code {origin}")
    table.add_row("values", f"{program.traced:,} traced, {program.simplified:,} after simplification")
    threads = f"{program.threads} thread{'s' * (program.threads != 1)}"
    table.add_row("kernels", f"{len(program.kernels)} different, {program.calls} calls in a run, {threads}")
    table.add_row("work of a run", f"{_count(program.flops)}FLOP, {bytes_text(program.bytes)} moved")
    table.add_row(
        "memory", f"{bytes_text(program.scratch_bytes)}; uncompiled at least {bytes_text(program.eager_bytes)}"
    )
    if program.run_seconds is not None:
        rate = f"{_count(program.flops / program.run_seconds)}FLOP/s"
        table.add_row("time of a run", f"{_time(program.run_seconds)}: {rate}")
    if program.gemm_share is not None and program.gemm_rate is not None:
        table.add_row(
            "of the GEMM rate", f"{program.gemm_share:.0%} of {_count(program.gemm_rate)}FLOP/s (NumPy, 1024 x 1024)"
        )
    return table


def _kernels_table(program: ProgramReport) -> Table:
    measured = program.run_seconds is not None
    table = Table(box=None, padding=(0, 2))
    table.add_column("kernel")
    for heading in ("calls", "FLOP", "bytes", *(("time", "share") if measured else ())):
        table.add_column(heading, justify="right")
    kernels = sorted(program.kernels, key=lambda kernel: kernel.seconds or kernel.flops, reverse=True)
    total = sum(kernel.seconds or 0.0 for kernel in kernels)
    for kernel in kernels[:_MOST_ROWS]:
        row = [kernel.name, str(kernel.calls), _count(kernel.flops).rstrip(), bytes_text(kernel.bytes)]
        if measured:
            row += [_time(kernel.seconds or 0.0), f"{(kernel.seconds or 0.0) / total:.0%}" if total else ""]
        table.add_row(*row)
    if len(kernels) > _MOST_ROWS:
        table.add_row(f"and {len(kernels) - _MOST_ROWS} smaller ones")
    return table


def _count(number: float) -> str:
    return scaled(number, ("", "k", "M", "G", "T"))


def _time(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
