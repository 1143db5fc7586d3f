"""`Gated`: an operation and the gate behind it, such as an affine step and ReLU, as one call.

The graph is the same as after two calls, and so are the numbers, for a gate passes on what it is given or zero. The
value between the two, which no rule reads, is not kept, and machine code need not write it down.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core import state
from chainrule.core.namespace import fast_numpy
from chainrule.core.native import Native
from chainrule.core.node import new_node
from chainrule.core.primitive import Primitive
from chainrule.core.tensor import Tensor

_floor = state.recording_floor.get
_anomaly = state.anomaly_detection.get
_watcher = state.watcher.get

_ndarray = np.ndarray


class Gated:
    """`gate(primitive(*inputs))` for tensors.

    Args:
        primitive: one that has machine code and no static parameters, and whose rules do not read its value.
        gate: a primitive of one input, whose rule reads its value alone.
    """

    def __init__(self, primitive: Primitive, gate: Primitive) -> None:
        self.primitive = primitive
        self.gate = gate
        first, second = (getattr(part.value, "function", part.value) for part in (primitive, gate))
        self.value = Native(
            lambda xp, *inputs: second(xp, first(xp, *inputs)),
            backward=False,
            fewest=primitive.native or 0,
            decided=getattr(primitive.value, "decided", None),
        )

    def __call__(self, *inputs: Any) -> Tensor | None:
        """The value; None where somebody watches, or something is not as usual.

        Then the two are to be called one after the other; errors are raised there.
        """
        values = []
        edges = []
        level = -1
        for x, rule in zip(inputs, self.primitive.rules, strict=True):
            if not isinstance(x, Tensor) or type(x._value) is not _ndarray:
                return None
            values.append(x._value)
            node = x._node
            if node is not None:
                if node.level != level and level != -1:
                    return None
                level = node.level
                edges.append((node, rule))
        if (level > 0 and level & 1) or _watcher() is not None or _anomaly():
            return None
        try:
            y = self.value(fast_numpy, *values)
        except (ValueError, TypeError):
            return None
        if level < _floor():
            return Tensor(y)
        row = (*values, None)
        kept: Any = [(node, rule, rule.take(row)) for node, rule in edges]  # type: ignore[union-attr, misc]
        node = new_node(self.primitive, kept, level, y.shape, y.dtype, {})
        return Tensor(y, new_node(self.gate, [(node, self.gate.rules[0], (y,))], level, y.shape, y.dtype, {}))
