"""The workers of a run, seen from the parent: started with their threads, asked one at a time, ended together."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender

_ROOT = Path(__file__).parents[1]


class WorkerFailed(RuntimeError):
    """A worker raised, or died; the message has its traceback, and `kind` is the name of the last exception."""

    @property
    def kind(self) -> str:
        last = [line for line in str(self).splitlines() if re.match(r"[\w.]+(:|$)", line)]
        return last[-1].partition(":")[0].rpartition(".")[2]


class TooSlow(RuntimeError):
    """A worker did not answer in time; its process was ended."""


@dataclass(eq=False)
class Member:
    """One worker: a contender limited to a number of threads.

    Attributes:
        contender, threads: who it is.
        environment: further variables of its environment.
        process: its process, which `start` makes.
    """

    contender: Contender
    threads: int
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    process: subprocess.Popen = field(init=False, repr=False)

    @property
    def name(self) -> str:
        return f"{self.contender.label}, {self.threads} thread{'s' * (self.threads > 1)}"

    def start(self) -> None:
        """Start the process, which answers once when it is ready."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", self.contender.key],
            cwd=_ROOT, env=_environment(self.threads) | self.environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()

    def ask(self, request: str, within: float | None = None, **arguments: Any) -> Any:
        """Have the worker call its method `request`; wait for the answer, for `within` seconds at most.

        Raises:
            WorkerFailed: the method raised, or the process is gone.
            TooSlow: there was no answer in time. The worker knows nothing any more: what was ended is started anew.
        """
        try:
            self.process.stdin.write(json.dumps({"do": request, "with": arguments}) + "\n")  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]
        except BrokenPipeError:
            pass  # the missing answer says so
        if within is not None and not select.select([self.process.stdout], [], [], within)[0]:  # type: ignore[type-var]
            self.end()
            self.start()
            self.listen()
            raise TooSlow(f"{self.name}: no answer to {request!r} in {within:.0f} s")
        return self.listen()

    def listen(self) -> Any:
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise WorkerFailed(f"{self.name}: the process ended with code {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerFailed(f"{self.name}:\n{answer['error']}")
        return answer["value"]


@contextmanager
def crew(contenders: Sequence[Contender], threads: Sequence[int], **environment: str) -> Iterator[list[Member]]:
    """Every contender once with each number of threads, ready to be asked; all are ended on leaving.

    Args:
        contenders: who is started.
        threads: the numbers of threads, a worker for each.
        environment: further variables of the workers' environment.

    Raises:
        WorkerFailed: a framework cannot be imported.
    """
    with ExitStack() as stack:
        members = [Member(contender, number, environment) for contender in contenders for number in threads]
        for member in members:
            member.start()
            stack.callback(member.end)
        for member in members:
            member.listen()
        yield members


def _environment(threads: int) -> dict[str, str]:
    """What limits the thread pools of NumPy's BLAS, of PyTorch and of XLA; those that do not apply do no harm."""
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"), str(threads))
    several = "true" if threads > 1 else "false"
    return {
        **os.environ,
        **limits,
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={several}",
        "JAX_PLATFORMS": "cpu",
    }
