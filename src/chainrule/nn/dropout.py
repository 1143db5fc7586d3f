"""Dropout as a module."""

from __future__ import annotations

from typing import Any

from chainrule.nn import functional as F
from chainrule.nn.module import Module
from chainrule.nn.sizes import as_probability


class Dropout(Module):
    """In training, sets each element to 0 with probability `p` and scales the others by 1/(1 − p).

    Raises:
        ValueError: `p` is not a probability.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = as_probability("Dropout: p", p)

    def forward(self, x: Any) -> Any:
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
