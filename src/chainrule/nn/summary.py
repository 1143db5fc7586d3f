"""How a module prints: its tree as PyTorch writes it, with the number of parameters of every part."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chainrule.nn.module import Module


def describe(module: Module) -> str:
    """The tree below `module`, one part a line, and behind `#` how many parameters the part has.

    Equal parts that follow each other are written once. A parameter that several parts share is counted once in
    each sum.
    """
    parts = [(name, describe(part)) for name, part in module._own_modules()]
    lines = []
    for text, run in groupby(parts, key=itemgetter(1)):
        names = [name for name, _ in run]
        label = names[0] if len(names) == 1 else f"{names[0]}-{names[-1]}"
        times = "" if len(names) == 1 else f"{len(names)} x "
        lines.append(f"  ({label}): {times}{text}".replace("\n", "\n  "))
    body = "\n" + "\n".join(lines) + "\n" if lines else ""
    count = _count(module)
    return f"{type(module).__name__}({module.extra_repr()}{body})" + (f"  # {count}" if count else "")


def _count(module: Module) -> str:
    parameters = list(module.parameters())
    total = sum(parameter.size for parameter in parameters)
    frozen = sum(parameter.size for parameter in parameters if not parameter.requires_grad)
    if not total:
        return ""
    return f"{total:,} parameter{'s' * (total != 1)}" + (f", {frozen:,} of them frozen" if frozen else "")
