"""Recurrence over time: plain, LSTM and GRU layers, each one step on a whiteboard with backpropagation through time.

A layer takes the inputs' part of its gates for all times at once (one matrix product, made by the caller) and adds
the state's part step by step. Its rules walk back through time once, whichever gradients are asked for; the weight's
is one matrix product over all times.

Arrays have shapes projected (time, batch, gates·width), state (states, batch, width), weight (gates·width, width),
and the result, the states after every step, (states, time, batch, width). What steps leave for their way back has
shape (time, kept, batch, width).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import partial, reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.namespace import fast_numpy
from chainrule.core.native import Native
from chainrule.core.primitive import Primitive, composed
from chainrule.core.tensor import _raw
from chainrule.ops.special import sigmoid


class Cell(NamedTuple):
    """One step of a recurrence and its way back, on arrays of shape (batch, ...).

    Attributes:
        gates: how many gates there are.
        states: how many arrays the state has: h, and for LSTM c.
        kept: how many arrays of shape (batch, width) a step leaves for its way back besides the states.
        step: `step(xp, projected, recurrent, state)` gives the new state and what is kept; `recurrent` is h·Wᵀ.
        back: `back(xp, cotangents, d_kept, kept, before, after)`, from the cotangents of the new state and of what is
            kept, gives those of `projected`, `recurrent` and the old state, but for the path through `recurrent`.
        same: whether the cotangents of `projected` and `recurrent` are equal.
    """

    gates: int
    states: int
    kept: int
    step: Callable
    back: Callable
    same: bool = True


def _parts(x: Any, count: int) -> list[Any]:
    """The last axis in `count` equal parts."""
    width = x.shape[-1] // count
    return [x[..., i * width : (i + 1) * width] for i in range(count)]


def _plus(a: Any, b: Any) -> Any:
    """The sum, where None is zero."""
    return a if b is None else a + b


def _sum(terms: Sequence[Any]) -> Any:
    """The sum of those that are not None."""
    return reduce(add, [term for term in terms if term is not None])


# Plain: h' = tanh(z) or relu(z). Elman 1990, "Finding Structure in Time".


def _tanh_step(xp: Any, projected: Any, recurrent: Any, state: Sequence[Any]) -> tuple:
    return (xp.tanh(projected + recurrent),), ()


def _tanh_back(xp: Any, cotangents: Any, d_kept: Any, kept: Any, before: Any, after: Any) -> tuple:
    d = cotangents[0] * (1 - after[0] * after[0])
    return (d,), (d,), (None,)


def _relu_step(xp: Any, projected: Any, recurrent: Any, state: Sequence[Any]) -> tuple:
    return (xp.maximum(projected + recurrent, 0),), ()


def _relu_back(xp: Any, cotangents: Any, d_kept: Any, kept: Any, before: Any, after: Any) -> tuple:
    d = cotangents[0] * xp.astype(after[0] > 0, cotangents[0].dtype)
    return (d,), (d,), (None,)


# LSTM: c' = f⊙c + i⊙g, h' = o⊙tanh(c'), gates i, f, o = σ(z), g = tanh(z). Hochreiter and Schmidhuber 1997, "Long
# Short-Term Memory"; Gers et al. 2000 for the forget gate. The path through c scales by f only.


def _lstm_step(xp: Any, projected: Any, recurrent: Any, state: Sequence[Any]) -> tuple:
    z_i, z_f, z_g, z_o = _parts(projected + recurrent, 4)
    i, f, g, o = sigmoid.on(xp, z_i), sigmoid.on(xp, z_f), xp.tanh(z_g), sigmoid.on(xp, z_o)
    c = f * state[1] + i * g
    return (o * xp.tanh(c), c), (i, f, g, o)


def _lstm_back(xp: Any, cotangents: Any, d_kept: Any, kept: Any, before: Any, after: Any) -> tuple:
    (d_h, d_c), (i, f, g, o) = cotangents, kept
    t = xp.tanh(after[1])
    d_c = d_c + d_h * o * (1 - t * t)
    d_i, d_f = _plus(d_c * g, d_kept[0]), _plus(d_c * before[1], d_kept[1])
    d_g, d_o = _plus(d_c * i, d_kept[2]), _plus(d_h * t, d_kept[3])
    d = (d_i * i * (1 - i), d_f * f * (1 - f), d_g * (1 - g * g), d_o * o * (1 - o))
    return d, d, (None, d_c * f)


# GRU: h' = n + z⊙(h − n), n = tanh(x_n + r⊙m), r, z = σ, m the state's part of n. Cho et al. 2014, "Learning Phrase
# Representations using RNN Encoder-Decoder"; the reset gate after the product, as in PyTorch and cuDNN.


def _gru_step(xp: Any, projected: Any, recurrent: Any, state: Sequence[Any]) -> tuple:
    (x_r, x_z, x_n), (m_r, m_z, m) = _parts(projected, 3), _parts(recurrent, 3)
    r, z = sigmoid.on(xp, x_r + m_r), sigmoid.on(xp, x_z + m_z)
    n = xp.tanh(x_n + r * m)
    return (n + z * (state[0] - n),), (r, z, n, m)


def _gru_back(xp: Any, cotangents: Any, d_kept: Any, kept: Any, before: Any, after: Any) -> tuple:
    (d_h,), (r, z, n, m) = cotangents, kept
    d_n = _plus(d_h * (1 - z), d_kept[2]) * (1 - n * n)
    d_z = _plus(d_h * (before[0] - n), d_kept[1]) * z * (1 - z)
    d_r = _plus(d_n * m, d_kept[0]) * r * (1 - r)
    return (d_r, d_z, d_n), (d_r, d_z, _plus(d_n * r, d_kept[3])), (d_h * z,)


LSTM = Cell(4, 2, 4, _lstm_step, _lstm_back)
CELLS = {
    "rnn_tanh": Cell(1, 1, 0, _tanh_step, _tanh_back),
    "rnn_relu": Cell(1, 1, 0, _relu_step, _relu_back),
    "lstm": LSTM,
    "gru": Cell(3, 1, 4, _gru_step, _gru_back, same=False),
}

# Through time -------------------------------------------------------------------------------------------------------


def _times(length: int, reverse: bool) -> range:
    return range(length - 1, -1, -1) if reverse else range(length)


def _advance(cell: Cell, xp: Any, projected: Any, transposed: Any, bias: Any, mask: Any, *state: Any) -> tuple:
    """One step: the new state, and what is kept of it. `transposed` is Wᵀ."""
    recurrent = xp.matmul(state[0], transposed)
    if type(bias) is not float:
        recurrent = recurrent + bias
    new, left = cell.step(xp, projected, recurrent, state)
    if mask is not True:  # where a sequence has no step here, its state stays
        new = [xp.where(mask, a, b) for a, b in zip(new, state, strict=True)]
    return (*new, *left)


def _retreat(cell: Cell, xp: Any, *given: Any, d_kept: Sequence[Any] | None = None) -> tuple:
    """One step back: the cotangents of the gates, twice where `recurrent` has others, and of the state before.

    Given are the cotangents of the state from above and from later steps, what the step kept, the state before and
    after it, the mask there and the weight.
    """
    *arrays, mask, weight = given
    n = cell.states
    parts = [arrays[:n], arrays[n : 2 * n], arrays[2 * n : -2 * n], arrays[-2 * n : -n], arrays[-n:]]
    above, later, kept, before, after = parts
    d_state = [b if a is None else _plus(a, b) for a, b in zip(above, later, strict=True)]
    d_state = [xp.zeros_like(a) if d is None else d for d, a in zip(d_state, after, strict=True)]
    passed: list[Any] = [None] * n
    if mask is not True:
        here = xp.astype(mask, after[0].dtype)
        passed = [d * (1 - here) for d in d_state]
        d_state = [d * here for d in d_state]
    d_p, d_r, direct = cell.back(xp, d_state, d_kept or [None] * cell.kept, kept, before, after)
    d_projected = xp.concat(list(d_p), axis=-1)
    d_recurrent = d_projected if cell.same else xp.concat(list(d_r), axis=-1)
    through = xp.matmul(d_recurrent, weight)
    d_before = [_sum(parts) for parts in zip([through, None][:n], direct, passed, strict=True)]
    return (d_projected, *([] if cell.same else [d_recurrent]), *d_before)


class _Steps(NamedTuple):
    """A cell's step and its way back, as functions of arrays that are compiled where they are large."""

    cell: Cell
    advance: Native
    retreat: Native

    @classmethod
    def of(cls, cell: Cell) -> _Steps:
        return cls(
            cell,
            Native(partial(_advance, cell), backward=False),
            Native(partial(_retreat, cell), backward=True),
        )


def _run(xp: Any, steps: _Steps, projected: Any, state: Any, weight: Any, bias: Any, mask: Any, reverse: bool) -> Any:
    """States after every step, and what was kept of them, if anything is."""
    cell, in_place = steps.cell, xp is fast_numpy and projected.dtype == weight.dtype == state.dtype
    length, batch, _ = projected.shape
    transposed = np.ascontiguousarray(weight.T) if xp is fast_numpy else weight.mT
    state = [state[k, ...] for k in range(cell.states)]
    rows: list[Any] = [None] * length
    y: Any = None
    kept: Any = None
    if in_place:
        projected = np.ascontiguousarray(projected)
        y, kept = (
            np.empty(shape, projected.dtype)
            for shape in ((cell.states, length, batch, weight.shape[1]), (length, cell.kept, batch, weight.shape[1]))
        )
    for t in _times(length, reverse):
        given = (projected[t, ...], transposed, bias, mask if mask is True else mask[t, ...], *state)
        rows[t] = row = steps.advance.into((*y[:, t], *kept[t]), *given) if in_place else steps.advance(xp, *given)
        state = row[: cell.states]
    if not in_place:
        y = xp.stack([xp.stack(list(row[: cell.states]), axis=0) for row in rows], axis=1)
        if cell.kept:
            kept = xp.stack([xp.stack(list(row[cell.states :]), axis=0) for row in rows], axis=0)
    return (y, kept) if cell.kept else y


class _WayBack(NamedTuple):
    """Cotangents of `projected` and `recurrent` at all times, and of the first state."""

    projected: Any
    recurrent: Any
    state: Any


def _back(
    xp: Any, steps: _Steps, g: Any, y: Any, kept: Any, state: Any, weight: Any, mask: Any, reverse: bool
) -> _WayBack:
    cell = steps.cell
    g, g_kept = g if type(g) is list else (g, None)
    in_place = xp is fast_numpy and g is not None and g_kept is None and g.dtype == y.dtype == weight.dtype
    length = y.shape[1]
    times = _times(length, reverse)
    rows: list[Any] = [None] * length
    later: list[Any] = [None] * cell.states
    if in_place:
        g = np.ascontiguousarray(g)
        later = list(np.zeros_like(state))
        cotangents = [np.empty((*y.shape[1:3], weight.shape[0]), y.dtype) for _ in range(1 if cell.same else 2)]
        carried = np.empty((2, *state.shape), y.dtype)  # from one step to the one before it, in turn
    for t in reversed(times):
        earlier = t + 1 if reverse else t - 1
        before = [state[k, ...] if t == times[0] else y[k, earlier, ...] for k in range(cell.states)]
        above = [None if g is None else g[k, t, ...] for k in range(cell.states)]
        left = [kept[t, k, ...] for k in range(cell.kept)]
        after = [y[k, t, ...] for k in range(cell.states)]
        given = (*above, *later, *left, *before, *after, mask if mask is True else mask[t, ...], weight)
        if in_place:
            rows[t] = steps.retreat.into((*[d[t] for d in cotangents], *carried[t % 2]), *given)
        elif g_kept is None:
            rows[t] = steps.retreat(xp, *given)
        else:
            rows[t] = _retreat(cell, xp, *given, d_kept=[g_kept[t, k, ...] for k in range(cell.kept)])
        later = list(rows[t][-cell.states :])
    if not in_place:
        cotangents = [xp.stack([row[place] for row in rows], axis=0) for place in range(1 if cell.same else 2)]
    return _WayBack(cotangents[0], cotangents[-1], xp.stack(later, axis=0))


class _Walked:
    """A way back for the rules of one node, each of which may ask for it once.

    A backward pass calls a node's rules one after the other with the same cotangent; the entry goes when that does.
    """

    def __init__(self, y: Any, way: _WayBack) -> None:
        self.y = y  # so that its identity stays its own
        self.way = way
        self.served: set[str] = set()


_walked: dict[tuple[int, int], _Walked] = {}


def _way_back(which: str, xp: Any, steps: _Steps, g: Any, y: Any, *rest: Any) -> _WayBack:
    """`_back`, walked once for all rules of a node; `which` is the rule that asks."""
    owner = next(part for part in g if part is not None) if type(g) is list else g
    key = (id(owner), id(_raw(y)))
    entry = _walked.get(key)
    if entry is None or which in entry.served:
        entry = _Walked(_raw(y), _back(xp, steps, g, y, *rest))
        try:
            weakref.finalize(owner, _walked.pop, key, None).atexit = False
            _walked[key] = entry
        except TypeError:
            pass  # a kind of array whose end nothing can wait for
    entry.served.add(which)
    return entry.way


def _weight_gradient_of(xp: Any, d: Any, y: Any, state: Any, reverse: bool) -> Any:
    """Over all times and sequences, the sum of cotangent times the h before."""
    first = xp.expand_dims(state[0, ...], axis=0)
    before = xp.concat([y[0, 1:, ...], first] if reverse else [first, y[0, :-1, ...]], axis=0)
    rows = d.shape[0] * d.shape[1]
    return xp.matmul(xp.reshape(d, (rows, d.shape[2])).mT, xp.reshape(before, (rows, before.shape[2])))


_weight_gradient = Native(_weight_gradient_of, backward=True)

_BACK_THROUGH_TIME = [
    ("g back through time, into the gates", r"\delta_t \text{, back through time}"),
    ("g back through time, into the first state", r"\delta \text{, back to the first state}"),
    ("Σ g_t·h_(t−1)ᵀ", r"\textstyle\sum_t \delta_t h_{t-1}^\top"),
    ("Σ g_t", r"\textstyle\sum_t \delta_t"),
]


def _layer(name: str, cell: Cell) -> Primitive:
    """The primitive for all steps of one layer in one direction.

    `bias` is of the recurrent part, or 0.0 where it is in `projected` already; `mask`, shape (time, batch, 1), is True
    where a sequence has a step, or just True for all.
    """

    steps = _Steps.of(cell)

    def rule(which: str, gradient: Callable) -> Callable:
        if cell.kept:
            return lambda xp, g, y, kept, state, weight, mask, reverse: gradient(
                xp, _way_back(which, xp, steps, g, y, kept, state, weight, mask, reverse), y, state, reverse
            )
        return lambda xp, g, y, state, weight, mask, reverse: gradient(
            xp, _way_back(which, xp, steps, g, y, None, state, weight, mask, reverse), y, state, reverse
        )

    return composed(
        name,
        lambda xp, projected, state, weight, bias, mask, *, reverse: _run(
            xp, steps, projected, state, weight, bias, mask, reverse
        ),
        rule("projected", lambda xp, way, y, state, reverse: way.projected),
        rule("state", lambda xp, way, y, state, reverse: way.state),
        rule("weight", lambda xp, way, y, state, reverse: _weight_gradient(xp, way.recurrent, y, state, reverse)),
        rule("bias", lambda xp, way, y, state, reverse: xp.sum(way.recurrent, axis=(0, 1))),
        None,
        residuals=["kept"] if cell.kept else [],
        text=f"{name}($projected, $state)",
        latex=rf"\operatorname{{{name.replace('_', ' ')}}}($projected, $state)",
        local=_BACK_THROUGH_TIME,
    )  # fmt: skip


LAYERS = {name: _layer(name, cell) for name, cell in CELLS.items()}
#: Under names of their own, for those who look for primitives in modules.
_rnn_tanh, _rnn_relu, _lstm, _gru = LAYERS.values()


def recurrent_layer(
    kind: str,
    projected: Any,
    state: Any,
    weight: Any,
    bias: Any = None,
    mask: Any = None,
    *,
    reverse: bool = False,
) -> Any:
    """The states of a layer after every step.

    Args:
        kind: "rnn_tanh", "rnn_relu", "lstm" or "gru".
        projected: the inputs' part of the gates, shape (time, batch, gates·width).
        state: before the first step, shape (states, batch, width): h, and for LSTM c.
        weight: of the state's part, shape (gates·width, width).
        bias: of the state's part, shape (gates·width,), or None.
        mask: where a sequence has a step, booleans of shape (time, batch, 1), or None for everywhere. Elsewhere its
            state stays as it is.
        reverse: begin with the last time.

    Returns:
        Shape (states, time, batch, width).
    """
    given = (0.0 if bias is None else bias, True if mask is None else mask)
    y = LAYERS[kind](projected, state, weight, *given, reverse=reverse)
    return y[0] if CELLS[kind].kept else y


__all__ = ["CELLS", "recurrent_layer"]
