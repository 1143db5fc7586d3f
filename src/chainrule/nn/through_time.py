"""Gradient flow in time: how large the gradient of a loss still is at each step back, in every recurrent layer.

The layers run as ever, but one step at a time, and each step passes its state through two additions of zero: one where
it comes out, one where it goes into the next step. The gradients with respect to those zeros are what the report is
made of. How it is printed and drawn is in `time_views`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chainrule.core import state as tape
from chainrule.core.namespace import fast_numpy, namespace_of
from chainrule.core.tensor import Tensor, _raw
from chainrule.nn.module import Module
from chainrule.nn.recurrent import _Recurrent, _RecurrentCell
from chainrule.ops.joining import stack
from chainrule.ops.recurrent import CELLS, recurrent_layer
from chainrule.transforms.backward import pull_back, seed_for
from chainrule.transforms.trees import leaf_at

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

Array = NDArray[np.float64]

#: What the gates of each kind of layer are called, in the order of their rows in the recurrent matrix.
GATES = {"rnn_tanh": ("h",), "rnn_relu": ("h",), "lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "n")}


@dataclass(frozen=True)
class LayerThroughTime:
    """The gradient in one layer, in one direction, at each step back.

    All arrays have shape (steps,) and count back: [0] is the last step whose state the loss depends on, [1] the one
    before it. Norms are Euclidean, over all sequences of the batch; those of other lengths are aligned at their ends.

    Attributes:
        name: path of the recurrent matrix in the model, such as `rnn.weight_hh_l0`.
        kind: "rnn_tanh", "rnn_relu", "lstm" or "gru".
        hidden: norm of the loss's gradient with respect to h after the step.
        cell: the same for the c of an LSTM, its way out through the h of the same step included; None for other kinds.
        direct: what would be left of the gradient at the last step if it went back past the recurrent matrix only: by
            c alone, which scales by f, in an LSTM; by z in a GRU; None for a plain RNN, which has no such path.
        gain: norm of what the step passes back to the state before it, as a multiple of the norm of what reaches it.
            Where the loss depends on the last step only, this is the ratio of one norm to the next.
        spectral_radius: largest absolute eigenvalue of the recurrent matrix, of each gate by its name.
    """

    name: str
    kind: str
    hidden: Array
    cell: Array | None
    direct: Array | None
    gain: Array
    spectral_radius: Mapping[str, float]

    def __len__(self) -> int:
        return len(self.hidden)

    @cached_property
    def remaining(self) -> Array:
        """The share of a gradient that is left at each step back: the product of the gains so far."""
        with np.errstate(all="ignore"):
            return np.concatenate([[1.0], np.cumprod(self.gain[:-1])])

    @property
    def mean_gain(self) -> float:
        """The geometric mean of the gains between the first step and the last; 1 for a single step."""
        with np.errstate(divide="ignore"):
            return float(np.exp(np.mean(np.log(self.gain[:-1])))) if len(self) > 1 else 1.0

    def reach(self, share: float = 1e-3) -> int | None:
        """After how many steps back less than `share` of the gradient is left; None if that much reaches the first."""
        below = self.remaining < share
        return int(np.argmax(below)) if below.any() else None


@dataclass(frozen=True)
class TimeReport:
    """The gradient at each step back in time; `print` shows it, `plot` draws it.

    Attributes:
        layers: one for each layer and direction, in the order they ran.
    """

    layers: tuple[LayerThroughTime, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from chainrule.nn.time_views import renderable

        yield renderable(self, options.max_width)

    def __str__(self) -> str:
        from chainrule.nn.time_views import text

        return text(self)

    def plot(self, path: str | PathLike[str]) -> None:
        """Draw norms and gains over the steps back into a PNG file, all of it or nothing.

        Raises:
            OSError: the file cannot be written.
        """
        from chainrule.nn.checkpoint import write_atomically
        from chainrule.nn.time_views import png

        picture = png(self)
        write_atomically(path, lambda temporary: temporary.write_bytes(picture))


def gradient_through_time(model: Module, loss: Callable[[], Any]) -> TimeReport:
    """How large the gradient of `loss` is at each step back in time, in every recurrent layer of `model`.

    A loss of the last step only shows how far back a gradient reaches: a loss of all steps feeds each of them anew.
    Nothing is changed: not the parameters or their gradients, not buffers, not the state of the random generator.
    In float32 what is smaller than 1.2e-38 counts as zero; a model in float64 (`model.double()`) shows more.

    Args:
        model: with RNN, LSTM or GRU layers or their cells in it, or one of these itself. The steps of a cell are its
            calls, in their order.
        loss: runs the model, uncompiled, and returns a scalar: `lambda: loss_fn(model(x)[0][-1], y)`.

    Raises:
        ValueError: no recurrent layer ran, or the loss is no scalar that depends on one.
    """
    with _unchanged(model), _watching(model) as runs, tape.enable_grad():
        result = loss()
        _check(model, runs, result)
        cotangents = pull_back([(result._node, seed_for(result, None))])
    return TimeReport(tuple(run.report(cotangents) for run in runs))


def _check(model: Module, runs: list[_Run], result: Any) -> None:
    name = "gradient_through_time"
    if not runs:
        raise ValueError(f"{name}: the loss ran no RNN, LSTM or GRU, nor a cell of one, of this {type(model).__name__}")
    if not isinstance(result, Tensor) or result.shape != ():
        got = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
        raise ValueError(f"{name}: the loss must return a tensor of shape (), such as a mean; got {got}")
    if result._node is None:
        raise ValueError(f"{name}: the loss does not depend on any recurrent layer's state; was that detached?")


# Watching ------------------------------------------------------------------------------------------------------------


@contextmanager
def _unchanged(model: Module) -> Iterator[None]:
    """Leave parameters, buffers and random generators as they are; no gradient goes to parameters meanwhile."""
    nodes = [(parameter, parameter._node) for parameter in model.parameters()]
    values = [(buffer, buffer._value) for buffer in model.buffers()]
    try:
        for parameter, _ in nodes:
            parameter._node = None
        with tape.put_back():
            yield
    finally:
        for parameter, node in nodes:
            parameter._node = node
        for buffer, value in values:
            buffer._value = value


@contextmanager
def _watching(model: Module) -> Iterator[list[_Run]]:
    """Let all recurrent layers of `model` run step by step, and give what ran, in that order."""
    layers = [(path, module) for path, module in model.named_modules() if isinstance(module, _Recurrent)]
    runs: list[_Run] = []
    try:
        for path, layer in layers:
            vars(layer)["_run_steps"] = partial(_run_watched, runs, path, layer)
        yield runs
    finally:
        for _, layer in layers:
            vars(layer).pop("_run_steps", None)


def _run_watched(
    runs: list[_Run],
    path: str,
    layer: _Recurrent,
    kind: str,
    projected: Any,
    state: Any,
    weight: Any,
    bias: Any = None,
    mask: Any = None,
    *,
    reverse: bool = False,
) -> Any:
    """`recurrent_layer`, step by step; the steps are added to `runs`.

    Args:
        runs: what ran before. A cell's call goes on where its last one stopped.
        path, layer: whose steps these are.
        kind, projected, state, weight, bias, mask, reverse: as in `recurrent_layer`.
    """
    own = next(name for name, value in vars(layer).items() if value is weight)
    run = _Run(f"{path}.{own}" if path else own, kind, weight, bias)
    earlier = [earlier for earlier in runs if earlier.weight is weight and isinstance(layer, _RecurrentCell)]
    if earlier and earlier[-1].steps[-1].before.shape == state.shape:
        run = earlier[-1]
    else:
        runs.append(run)
    times = range(projected.shape[0])
    after: list[Any] = [None] * len(times)
    for t in reversed(times) if reverse else times:
        here = slice(t, t + 1)
        step = _Step(projected[t], state, None if mask is None else mask[t, :, 0])
        y = recurrent_layer(
            kind, projected[here], state + step.entered, weight, bias, None if mask is None else mask[here]
        )
        after[t] = state = y[:, 0] + step.left
        run.steps.append(step)
    return stack(after, axis=1)


class _Step:
    """One step of a run.

    Attributes:
        projected: the input's part of the gates, shape (batch, gates·width).
        before: the state before, shape (states, batch, width).
        mask: which sequences have this step, shape (batch,), or None for all.
        entered, left: zeros, added to the state on its way into the step and out of it.
    """

    def __init__(self, projected: Any, before: Any, mask: Any) -> None:
        self.projected, self.before, self.mask = _raw(projected), _raw(before), mask
        zeros = namespace_of(self.before).zeros_like(self.before)
        self.entered, self.left = (leaf_at(zeros, tape.tape_level()) for _ in range(2))


class _Run:
    """The steps of one layer in one direction, in the order in which they ran."""

    def __init__(self, name: str, kind: str, weight: Any, bias: Any) -> None:
        self.name, self.kind, self.weight, self.bias = name, kind, weight, bias
        self.steps: list[_Step] = []

    def report(self, cotangents: Mapping[Any, Any]) -> LayerThroughTime:
        """What the gradients with respect to the steps' zeros say."""
        arrived = self._back_from_the_end([_gradient(cotangents, step.left) for step in self.steps])
        passed = self._back_from_the_end([_gradient(cotangents, step.entered) for step in self.steps])
        size = _norm(arrived)
        first = int(np.argmax(size != 0))  # nothing depends on the steps after it
        with np.errstate(all="ignore"):
            gain = np.where(size != 0, _norm(passed) / size, 0.0)
        cell, direct = self._past_the_matrix(arrived[first:], first)
        return LayerThroughTime(
            self.name,
            self.kind,
            hidden=_norm(arrived[first:, 0]),
            cell=cell,
            direct=direct,
            gain=np.where(np.isnan(gain), np.inf, gain)[first:],
            spectral_radius=self._spectral_radius(),
        )

    def _past_the_matrix(self, arrived: Array, first: int) -> tuple[Array | None, Array | None]:
        """Norms of an LSTM's gradient with respect to c, and of what goes back by the gate that keeps the state."""
        gate = _Recurrent._forget_gate.get(self.kind)
        if gate is None:
            return None, None
        steps = [self._step_again(step) for step in self.steps]
        after, kept = (self._back_from_the_end(values)[first:] for values in zip(*steps, strict=True))
        g = arrived[:, 0]
        if self.kind == "lstm":  # the c of a step also counts by way of its h = o⊙tanh(c)
            g = arrived[:, 1] + g * kept[:, 3] * (1 - np.tanh(after[:, 1]) ** 2)
        open_so_far = np.concatenate([np.ones_like(g[:1]), np.cumprod(kept[:-1, gate], axis=0)])
        there = self._back_from_the_end([np.ones_like(after) for after, _ in steps])[first:, 0]
        return _norm(g) if self.kind == "lstm" else None, _norm(g[0] * open_so_far * there)

    def _step_again(self, step: _Step) -> tuple[Array, Array]:
        """The state after a step, and what its cell keeps, gates among them."""
        before, projected = _array(step.before), _array(step.projected)
        bias = 0.0 if self.bias is None else _array(self.bias)
        after, kept = CELLS[self.kind].step(fast_numpy, projected, before[0] @ _array(self.weight).T + bias, before)
        return np.stack(after), np.stack(kept)

    def _back_from_the_end(self, values: Sequence[Array]) -> Array:
        """One array of those of all steps, each of shape (parts, batch, width), from the last step to the first.

        Sequences that lack steps are aligned at their ends; there are zeros where they have none left.
        """
        stacked = np.stack(values)
        masks = [step.mask for step in self.steps]
        if masks[0] is None:
            return stacked[::-1]
        result = np.zeros_like(stacked)
        for sequence, own in enumerate(np.stack([_array(mask) for mask in masks], axis=1)):
            result[: own.sum(), :, sequence] = stacked[own, :, sequence][::-1]
        return result

    def _spectral_radius(self) -> dict[str, float]:
        gates = np.split(_array(self.weight), CELLS[self.kind].gates)
        return {
            name: float(np.max(np.abs(np.linalg.eigvals(gate)))) if np.all(np.isfinite(gate)) else math.nan
            for name, gate in zip(GATES[self.kind], gates, strict=True)
        }


def _array(x: Any) -> NDArray[Any]:
    """As a NumPy array, in float64 if it is floating: of what is small in float32, products are smaller still."""
    array = np.asarray(_raw(x))
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _gradient(cotangents: Mapping[Any, Any], zero: Tensor) -> Array:
    return _array(cotangents.get(zero._node, zero))


def _norm(x: Array) -> Array:
    """The Euclidean norm over all axes but the first, scaled so that squares neither overflow nor vanish."""
    rows = x.reshape(len(x), -1)
    largest = np.max(np.abs(rows), axis=1)
    scale = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    return scale * np.sqrt(np.sum((rows / scale[:, None]) ** 2, axis=1))
