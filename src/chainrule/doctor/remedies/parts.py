"""Modules that remedies put into networks and that a framework lacks: written once, for either framework's `nn`.

The classes are source that users paste, so they have no type hints.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from textwrap import dedent
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Parts:
    """The classes for one framework, and the source of each for the user to paste."""

    Residual: Any
    Standardize: Any
    TruncatedTime: Any
    sources: Mapping[str, str]


def make_parts(nn: Any, tensor: Callable, concat: Callable, where: Callable, home: str) -> Parts:
    """The classes over a framework's modules, to be found as attributes of the module `home`."""

    class Residual(nn.Module):
        """x + inner(x): the gradient has a way past `inner`."""

        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return x + self.inner(x)

    class Standardize(nn.Module):
        """(x - mean)/std of each feature along an axis, as they are in the examples given; missing values become 0."""

        def __init__(self, examples, axis):
            super().__init__()
            x = np.asarray(examples, dtype=np.float64)
            x = np.where(np.isfinite(x), x, np.nan)
            others = tuple(k for k in range(x.ndim) if k != axis % x.ndim)
            mean, std = (f(x, axis=others, keepdims=True)[0] for f in (np.nanmean, np.nanstd))
            std[std <= 1e-6 * np.abs(mean)] = 1  # a constant stays one
            self.register_buffer("mean", tensor(mean.astype(np.float32)))
            self.register_buffer("std", tensor(std.astype(np.float32)))

        def forward(self, x):
            y = (x - self.mean) / self.std
            return where(y - y == 0, y, 0.0)  # NaN and infinities differ from themselves

    class TruncatedTime(nn.Module):
        """A recurrent layer whose gradient goes back `steps` time steps at most: the state between is detached."""

        def __init__(self, layer, steps):
            super().__init__()
            self.layer = layer
            self.steps = steps

        def forward(self, x, state=None):
            axis = 1 if self.layer.batch_first and len(x.shape) == 3 else 0
            time = x.shape[axis]
            outputs, stop = [], time % self.steps or self.steps
            for start in [0, *range(stop, time, self.steps)]:
                if start:
                    state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
                output, state = self.layer(x[:, start:stop] if axis else x[start:stop], state)
                outputs.append(output)
                stop += self.steps
            return concat(outputs, axis=axis), state

    made = {kind.__name__: kind for kind in (Residual, Standardize, TruncatedTime)}
    sources = {name: dedent(inspect.getsource(kind)) for name, kind in made.items()}
    for name, kind in made.items():  # as if they were written there: a model with them can be saved
        kind.__module__, kind.__qualname__ = home, name
    return Parts(**made, sources=sources)
