"""What forward passes keep, what training steps and forward mode need at most: asked of the workers, not timed."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.cases import MLPS, Deep
from benchmarks.contenders import SUBJECT, Contender
from benchmarks.crew import Member, crew
from benchmarks.networks import MLP
from benchmarks.results import KeptMemory, MemoryRow, StepMemory, StepMemoryRow

_DEPTHS = [10, 100, 1000]

#: Has glibc ask the system for each array on its own, so that a process grows by what it keeps.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536"}


def kept(case: Deep, contenders: Sequence[Contender]) -> MemoryRow:
    """What each contender keeps after the forward pass of a network, in a process of its own."""
    able = [contender for contender in contenders if case.kind in contender.kinds]
    with crew(able, [1], **_ALLOCATOR) as members:
        return MemoryRow(case.name, [_asked(case, member) for member in members])


def _asked(case: Deep, member: Member) -> KeptMemory:
    return KeptMemory(member.contender.key, **member.ask("memory", case=case.name))


def of_step(case: MLP, contenders: Sequence[Contender]) -> StepMemoryRow:
    """What each contender needs to train a network, with the first of its settings and one thread."""
    able = [contender for contender in contenders if case.kind in contender.kinds]
    with crew(able, [1], **_ALLOCATOR) as members:
        steps = [StepMemory(member.contender.key, **_step_memory(case, member)) for member in members]
    parameters = sum(array.nbytes for pair in case.parameters() for array in pair)
    return StepMemoryRow(case.name, parameters, steps)


def _step_memory(case: MLP, member: Member) -> dict[str, int]:
    setting, *_ = member.ask("settings", case=case.name)
    return member.ask("step_memory", warm_up=MLPS[0].name, case=case.name, setting=setting)


def forward_mode() -> dict[int, int]:
    """The peak memory of chainrule's forward mode, by depth."""
    with crew([SUBJECT], [1]) as (member,):
        return dict(zip(_DEPTHS, member.ask("forward_mode_peak", depths=_DEPTHS), strict=True))
