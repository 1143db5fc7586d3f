"""What chainrule's graph keeps between the passes, found by walking it: the reading that the memory table needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from chainrule.core.node import Node
from chainrule.core.tensor import Tensor


def kept_by_graph(result: Tensor) -> dict[int, int]:
    """Memory that the rules below `result` will read: bytes of each block, by its address."""
    kept: dict[int, int] = {}
    stack = [result._node]
    seen = set(stack)
    while stack:
        node = stack.pop()
        if not isinstance(node, Node) or not node.edges:
            continue
        for parent, _, values in node.edges:
            kept |= memory_of(values)
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return kept


def memory_of(values: Iterable[Any]) -> dict[int, int]:
    """The blocks that arrays among `values` lie in, each once: a view shares the block of the array it shows."""
    blocks = {}
    for value in values:
        if isinstance(value, np.ndarray):
            while isinstance(value.base, np.ndarray):
                value = value.base
            blocks[value.__array_interface__["data"][0]] = value.nbytes
    return blocks
