"""Ctrl-C as a request: the step that is running is finished first."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """While entered, the first Ctrl-C (or SIGTERM) is only noted; a second Ctrl-C interrupts at once.

    Signals reach the main thread only; entered in another thread, this does nothing.

    Attributes:
        signal: the signal that asked to stop, or 0.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number
