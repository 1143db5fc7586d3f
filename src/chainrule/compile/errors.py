"""What goes wrong while a function is compiled."""

from __future__ import annotations


class TraceError(RuntimeError):
    """A compiled function did what a recorded program cannot repeat: it read a value, or had a side effect."""


class Unsupported(Exception):
    """Something in the function has no compiled form; the message names it."""
