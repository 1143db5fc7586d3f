"""The workers of a run, seen from the parent: started with their threads, asked one at a time, ended together."""

from __future__ import annotations

import json
import os
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
    """A worker raised, or died; the message has its traceback."""


@dataclass(eq=False)
class Member:
    """One worker: a contender limited to a number of threads."""

    contender: Contender
    threads: int
    process: subprocess.Popen = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.contender.label}, {self.threads} thread{'s' * (self.threads > 1)}"

    def ask(self, request: str, **arguments: Any) -> Any:
        """Have the worker call its method `request`; wait for the answer.

        Raises:
            WorkerFailed: the method raised, or the process is gone.
        """
        try:
            self.process.stdin.write(json.dumps({"do": request, "with": arguments}) + "\n")  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]
        except BrokenPipeError:
            pass  # the missing answer says so
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
        members = []
        for contender in contenders:
            for number in threads:
                process = subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.worker", contender.key],
                    cwd=_ROOT, env=_environment(number) | environment, text=True,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                )  # fmt: skip
                stack.callback(_end, process)
                members.append(Member(contender, number, process))
        for member in members:
            member.listen()
        yield members


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate()


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
