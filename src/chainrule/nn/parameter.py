"""`Parameter`: a tensor that a module owns and an optimiser moves."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import numpy as np

from chainrule.core.blank import Blank
from chainrule.core.tensor import Tensor, tensor

#: Whether parameters are made without numbers: see `nn.init.without_values`.
_without_values: ContextVar[bool] = ContextVar("chainrule_without_values", default=False)


class Parameter(Tensor):
    """A leaf tensor that counts as a parameter of the module it is assigned to.

    Args:
        data: a number, (nested) list, array or tensor; copied.
        requires_grad: whether it is to be trained; False freezes it.

    Raises:
        TypeError: `data` is not numeric, or a gradient is asked of integers or booleans.
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        if _without_values.get():
            data = data if hasattr(data, "dtype") else np.asarray(data)
            super().__init__(Blank(data.shape, data.dtype))
        else:
            super().__init__(tensor(data)._value)
        self._grad = None
        if requires_grad:
            self.requires_grad = True

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


def replace_value(parameter: Tensor, value: Any) -> None:
    """Give `parameter` another value, perhaps of another dtype; its hooks and whether it is trained stay."""
    node = parameter._node
    trained, hooks = node is not None, getattr(node, "hooks", None)
    parameter._node = None
    parameter._value = value
    if trained:
        parameter.requires_grad = True
        parameter._node.hooks = hooks
