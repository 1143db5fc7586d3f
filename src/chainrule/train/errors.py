"""How a training run ends early: asked for wrongly, diverged, or interrupted."""

from __future__ import annotations


class RunError(ValueError):
    """A run cannot start or go on as asked: wrong options, a folder that cannot be used, a damaged checkpoint."""


class Diverged(ArithmeticError):
    """The loss stopped being a finite number; the run folder keeps the last state before that."""


class Interrupted(Exception):
    """The run was asked to stop and has saved itself.

    Attributes:
        signal: number of the signal that asked, SIGINT for Ctrl-C.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal
