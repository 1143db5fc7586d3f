"""What is printed on a terminal, as plain text."""

from __future__ import annotations

from typing import Any

from rich.console import Console


def as_text(printable: Any) -> str:
    """What a terminal of 110 columns without colours would show of something rich can print."""
    console = Console(width=110, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(printable)
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())
