"""Activations that a forward calls as functions: exchanged in a copy of that forward, for the one module alone."""

from __future__ import annotations

from types import CellType, FunctionType
from typing import Any


def exchange(module: Any, old: str, new: str, functional: Any) -> bool:
    """Let a module's `forward` call another activation. Whether it calls the old one by its name, so that it could.

    The module gets a class of its own, derived from the one it had, whose `forward` has the same code with another name
    in it. Calls by attribute (`F.sigmoid(x)`, `x.sigmoid()`) and of a variable of the enclosing function are found.

    Args:
        module: whose forward it is.
        old, new: names of functions in `functional`.
        functional: `nn.functional` of the module's framework.
    """
    kind = type(module)
    forward = kind.forward
    if not isinstance(forward, FunctionType):
        return False
    spelled = {old, f"{old}_"}
    code, closure = forward.__code__, forward.__closure__ or ()
    names = tuple(new if name in spelled and name not in forward.__globals__ else name for name in code.co_names)
    called = [_name(cell) in spelled for cell in closure]
    if names == code.co_names and not any(called):
        return False
    cells = tuple(
        CellType(getattr(functional, new)) if swapped else cell for swapped, cell in zip(called, closure, strict=True)
    )
    made = FunctionType(
        code.replace(co_names=names), forward.__globals__, forward.__name__, forward.__defaults__, cells
    )
    made.__kwdefaults__ = forward.__kwdefaults__
    module.__class__ = type(kind.__name__, (kind,), {"forward": made, "__module__": kind.__module__})
    return True


def _name(cell: CellType) -> str:
    """Of the function that a variable holds; empty for other values."""
    try:
        return str(getattr(cell.cell_contents, "__name__", ""))
    except ValueError:  # not set yet
        return ""
