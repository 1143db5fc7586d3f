"""Networks under examination, whatever framework they are written in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from chainrule.doctor.subjects.own import OwnSubject
from chainrule.doctor.subjects.subject import DoctorError, Step, Subject, leaves, parts
from chainrule.nn.module import Module

__all__ = ["DoctorError", "Step", "Subject", "leaves", "parts", "subject_of"]


def subject_of(
    model: Any,
    loss_fn: Callable,
    batch: Any,
    *,
    optimizer: Any = None,
    data: Any = None,
    clip_norm: float | None = None,
) -> Subject:
    """The network as a subject of its framework.

    Raises:
        DoctorError: it is a network of neither framework, or cannot be looked into.
    """
    if isinstance(model, Module):
        return OwnSubject(model, loss_fn, batch, optimizer, data, clip_norm)
    torch = sys.modules.get("torch")  # where it was not imported, nobody has a module of it
    if torch is not None and isinstance(model, torch.nn.Module):
        from chainrule.doctor.subjects.torch import TorchSubject, checked
        from chainrule.doctor.subjects.torch_compiled import CompiledTorchSubject, is_compiled

        written = getattr(model, "_orig_mod", model)  # what `torch.compile` wrapped
        given = checked(written), loss_fn, batch, optimizer, data, clip_norm
        return CompiledTorchSubject(*given, compiled=model) if is_compiled(model) else TorchSubject(*given)
    raise DoctorError(
        f"expected a chainrule.nn.Module or a torch.nn.Module, got {type(model).__name__}; for a function from a file, "
        "return (model, loss_fn, batch)"
    )
