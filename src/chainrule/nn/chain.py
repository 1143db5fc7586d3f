"""Modules run one after the other, with checkpoints between them: what `Sequential` does.

Where the checkpoints go is decided in `chainrule.transforms.placement`; this file measures modules and runs them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from operator import index
from typing import Any

from chainrule.core import state
from chainrule.core.namespace import namespace_of
from chainrule.core.primitive import as_operand
from chainrule.core.tensor import Tensor, _raw
from chainrule.nn.activations import ReLU
from chainrule.nn.linear import Linear
from chainrule.nn.module import Module
from chainrule.transforms.checkpoint import Checkpointed
from chainrule.transforms.kept import kept_by, nbytes_of, owner
from chainrule.transforms.placement import MemoryBudget, Part, Piece, Unmet, evenly, optimal
from chainrule.transforms.trees import leaf_at


def checked(checkpoint: Any) -> Any:
    """A choice of checkpoints: None, "sqrt", every how many modules, or a `MemoryBudget`.

    Raises:
        ValueError, TypeError: it is something else.
    """
    if checkpoint is None or isinstance(checkpoint, MemoryBudget) or checkpoint == "sqrt":
        return checkpoint
    try:
        length = index(checkpoint)
    except TypeError:
        raise TypeError(
            f'Sequential: checkpoint must be None, "sqrt", a number of modules or a cr.MemoryBudget, got {checkpoint!r}'
        ) from None
    if length < 1:
        raise ValueError(f"Sequential: a checkpoint every {length} modules is not possible; give at least 1")
    return length


def place(modules: Sequence[Module], checkpoint: Any, x: Any, attributes: dict) -> list[Piece]:
    """The pieces that `modules` are run in on an input like `x`; plans for budgets are remembered in `attributes`.

    Raises:
        ValueError: a memory budget cannot be met.
    """
    if not isinstance(checkpoint, MemoryBudget):
        return evenly(len(modules), None if checkpoint == "sqrt" else checkpoint)
    x = as_operand("Sequential", x)
    known = attributes.setdefault("_placements", {})
    key = (checkpoint, tuple(x.shape), str(x.dtype), tuple((id(m), m.training) for m in modules))
    if key not in known:
        try:
            known[key] = optimal(measured(modules, x), checkpoint.nbytes)
        except Unmet as error:
            raise ValueError(
                f"Sequential: the memory budget cannot be met for an input of shape {tuple(x.shape)} ({x.dtype}): "
                f"{len(modules)} modules need at least {error.smallest:,} bytes with the best checkpoints; "
                f"the budget is {checkpoint.nbytes:,} bytes. Give a larger budget or a smaller batch, or put modules "
                "that belong together into Sequentials with checkpoints of their own"
            ) from None
    return known[key]


def run_through(modules: Sequence[Module], x: Any) -> Any:
    """The modules applied one after the other; a `Linear` and a `ReLU` at once, where nobody looks between them."""
    is_watched = state.watcher.get() is not None
    before = None
    for module in modules:
        if before is not None:
            y = before.activated(x) if type(module) is ReLU and _is_plain(module) and _is_plain(before) else None
            if y is not None:
                x, before = y, None
                continue
            x = before(x)
            before = None
        if type(module) is Linear and not is_watched:
            before = module
        else:
            x = module(x)
    return x if before is None else before(x)


def _is_plain(module: Module) -> bool:
    """Whether a call of it is its class's forward and nothing else."""
    return not (module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def run(modules: Sequence[Module], pieces: Sequence[Piece], x: Any) -> Any:
    """The modules applied one after the other, in these pieces."""
    for piece in pieces:
        part = _Part(modules[piece.start : piece.stop])
        last = piece.stop - 1
        numbers = f"module {last}" if piece.start == last else f"modules {piece.start} to {last}"
        x = Checkpointed(part, f"{numbers} of a Sequential")(x) if piece.checkpointed else part(x)
    return x


class _Part:
    """Some of the modules as a function."""

    def __init__(self, modules: Sequence[Module]) -> None:
        self.modules = modules

    def __call__(self, x: Any) -> Any:
        return run_through(self.modules, x)


def measured(modules: Sequence[Module], x: Any) -> list[Part]:
    """What each module keeps and how long it takes, on `x` and what becomes of it; the run leaves no trace.

    Raises:
        TypeError: a module returns something else than one tensor.
    """
    parts = []
    raw = _raw(x)
    size = nbytes_of(raw)
    with state.put_back():
        for module in modules:
            like = namespace_of(raw).asarray(raw)
            given = leaf_at(like, state.tape_level()) if "float" in str(like.dtype) else Tensor(like)
            start = time.perf_counter()
            y = module(given)
            seconds = time.perf_counter() - start
            if not isinstance(y, Tensor):
                raise TypeError(
                    f"Sequential: a memory budget needs modules that return one tensor; {type(module).__name__} "
                    f"returned {type(y).__name__}. Use checkpoint=k"
                )
            parts.append(_part(module, like, size, y, seconds))
            raw, size = _raw(y), parts[-1].output
    return parts


def _part(module: Module, x: Any, size: int, y: Tensor, seconds: float) -> Part:
    ours, result = owner(x), owner(_raw(y))
    of_module = {id(owner(_raw(t))) for t in (*module.parameters(), *module.buffers())}
    kept = kept_by([y])
    inside = sum(entry.nbytes for key, entry in kept.items() if key not in {id(ours), id(result), *of_module})
    is_view = ours is result
    return Part(
        seconds, inside, size, size if is_view else nbytes_of(result), id(ours) in kept, id(result) in kept, is_view
    )
