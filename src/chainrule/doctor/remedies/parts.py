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
    Normalized: Any
    Standardize: Any
    Whiten: Any
    Logarithm: Any
    TruncatedTime: Any
    Tapped: Any
    Bridged: Any
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

    class Normalized(nn.Module):
        """inner(norm(x)), of each x if there are several."""

        def __init__(self, inner, norm):
            super().__init__()
            self.inner = inner
            self.norm = norm

        def forward(self, *inputs, **options):
            return self.inner(*[self.norm(x) for x in inputs], **options)

    class Standardize(nn.Module):
        """(x - mean)/std of each feature along an axis, as they are in the examples given.

        NaN becomes 0; what lies beyond all the examples, infinities too, becomes as large as the farthest of them.
        """

        def __init__(self, examples, axis):
            super().__init__()
            x = np.asarray(examples, dtype=np.float64)
            x = np.where(np.isfinite(x), x, np.nan)
            others = tuple(k for k in range(x.ndim) if k != axis % x.ndim)
            x = np.where(np.isnan(x).all(axis=others, keepdims=True), 0.0, x)
            mean, std = (f(x, axis=others, keepdims=True)[0] for f in (np.nanmean, np.nanstd))
            std[std <= 1e-6 * np.abs(mean)] = 1  # a constant stays one
            self.register_buffer("mean", tensor(mean.astype(np.float32)))
            self.register_buffer("std", tensor(std.astype(np.float32)))
            self.farthest = float(np.nanmax(np.abs((x - mean) / std)))

        def forward(self, x):
            y = ((x - self.mean) / self.std).clip(-self.farthest, self.farthest)
            return where(y == y, y, 0.0)  # NaN differs from itself

    class Whiten(nn.Module):
        """The features (last axis) turned and stretched so that in the examples given they are uncorrelated."""

        def __init__(self, examples):
            super().__init__()
            x = np.asarray(examples, dtype=np.float64)
            x = x.reshape(-1, x.shape[-1])
            scale = np.where(x.std(0) > 0, x.std(0), 1)
            variances, directions = np.linalg.eigh(np.cov(x / scale, rowvar=False, bias=True))
            kept = variances > 1e-6 * variances[-1]  # what never varies stays out
            stretch = np.where(kept, 1 / np.sqrt(np.where(kept, variances, 1)), 0)
            matrix = directions * stretch @ directions.T / scale[:, None]
            self.register_buffer("mean", tensor(x.mean(0).astype(np.float32)))
            self.register_buffer("matrix", tensor(matrix.astype(np.float32)))

        def forward(self, x):
            return (x - self.mean) @ self.matrix

    class Logarithm(nn.Module):
        """Features brought to mean 0 and variance 1, those of some numbers as log(1 + |x|/size) with the sign of x."""

        def __init__(self, examples, features):
            super().__init__()
            x = np.asarray(examples, dtype=np.float64).reshape(-1, np.shape(examples)[-1])
            far = np.isin(np.arange(x.shape[1]), features)
            size = np.quantile(np.abs(x), 0.05, axis=0)
            size = np.where(size > 0, size, np.maximum(np.abs(x).mean(0), 1e-30))
            y = np.where(far, np.sign(x) * np.log1p(np.abs(x) / size), x)
            std = np.where(y.std(0) > 1e-6 * np.abs(y.mean(0)), y.std(0), 1)
            self.register_buffer("far", tensor(far))
            for name, values in (("size", size), ("mean", y.mean(0)), ("std", std)):
                self.register_buffer(name, tensor(values.astype(np.float32)))

        def forward(self, x):
            logarithm = (abs(x) / self.size + 1).log()
            return (where(self.far, where(x < 0, -logarithm, logarithm), x) - self.mean) / self.std

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

    class Tapped(nn.Module):
        """inner(x), remembered until a `Bridged` module takes it."""

        def __init__(self, inner):
            super().__init__()
            self.inner = inner
            self.last = None

        def forward(self, *inputs, **options):
            self.last = self.inner(*inputs, **options)
            return self.last

    class Bridged(nn.Module):
        """inner(x) whose gradient goes to what was tapped, or a part of it; unless `exact`, inner of that itself."""

        def __init__(self, inner, tap, part, exact):
            super().__init__()
            self.inner = inner
            self.tap = (tap,)  # it stays where it is in the network
            self.part = part
            self.exact = exact

        def forward(self, x, *inputs, **options):
            made, self.tap[0].last = self.tap[0].last, None
            made = made if self.part is None else made[self.part]
            return self.inner(x + (made - made.detach()) if self.exact else made, *inputs, **options)

    kinds = (Residual, Normalized, Standardize, Whiten, Logarithm, TruncatedTime, Tapped, Bridged)
    made = {kind.__name__: kind for kind in kinds}
    sources = {name: dedent(inspect.getsource(kind)) for name, kind in made.items()}
    for name, kind in made.items():  # as if they were written there: a model with them can be saved
        kind.__module__, kind.__qualname__ = home, name
    return Parts(**made, sources=sources)
