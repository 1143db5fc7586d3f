"""The machine and the software a figure was measured with, and whether anything else was running on it."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

#: Share of the machine that other processes may take while something is timed.
DISTURBED = 0.1

_PACKAGES = ("chainrule", "numpy", "torch", "jax", "autograd")


def description() -> dict[str, str]:
    """Processor, system and versions, in words; nothing that names the machine or a place on it."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    words = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            words[package] = version(package)
        except PackageNotFoundError:
            continue
    words["BLAS of NumPy"] = f"{blas['name']} {blas['version']}"
    return words


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def resident_bytes() -> int:
    """Memory of this process that is in RAM; 0 where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def peak_resident_bytes(function: Callable[[], object]) -> int:
    """The most memory of this process in RAM while `function` runs; 0 where the system does not say."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    except OSError:
        return 0
    function()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


class Neighbours:
    """How much of the machine processes other than these used: their load makes figures worthless.

    Args:
        pids: the processes of the benchmark.
    """

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._before = self._now()

    def share(self) -> float | None:
        """Share of all cores' time that others took since this object was made; None if unknown."""
        now = self._now()
        if now is None or self._before is None:
            return None
        busy, total, own = (after - before for after, before in zip(now, self._before, strict=True))
        return max(0.0, busy - own) / max(total, 1)

    def _now(self) -> tuple[int, int, int] | None:
        """Ticks that all cores were busy, that there were, and that the benchmark's processes took."""
        try:
            ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
            own = sum(_ticks_of(pid) for pid in self._pids)
        except OSError:
            return None
        total = sum(ticks)
        idle = ticks[3] + ticks[4]
        return total - idle, total, own


def _ticks_of(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
