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
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.namespace import fast_numpy
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
    """

    gates: int
    states: int
    kept: int
    step: Callable
    back: Callable


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
    "gru": Cell(3, 1, 4, _gru_step, _gru_back),
}

# Through time -------------------------------------------------------------------------------------------------------


def _times(length: int, reverse: bool) -> range:
    return range(length - 1, -1, -1) if reverse else range(length)


def _run(xp: Any, cell: Cell, projected: Any, state: Any, weight: Any, bias: Any, mask: Any, reverse: bool) -> Any:
    """States after every step, and what was kept of them, if anything is."""
    if xp is fast_numpy and mask is True and cell is LSTM and projected.dtype == weight.dtype == state.dtype:
        return _run_lstm(projected, state, weight, bias, reverse)
    length = projected.shape[0]
    transposed = np.ascontiguousarray(weight.T) if xp is fast_numpy else weight.mT
    state = [state[k, ...] for k in range(cell.states)]
    states: list[Any] = [None] * length
    kept: list[Any] = [None] * length
    for t in _times(length, reverse):
        recurrent = xp.matmul(state[0], transposed)
        if type(bias) is not float:
            recurrent = recurrent + bias
        new, left = cell.step(xp, projected[t, ...], recurrent, state)
        if mask is not True:  # where a sequence has no step here, its state stays
            new = [xp.where(mask[t, ...], a, b) for a, b in zip(new, state, strict=True)]
        state, states[t] = new, xp.stack(list(new), axis=0)
        kept[t] = xp.stack(list(left), axis=0) if left else None
    y = xp.stack(states, axis=1)
    return (y, xp.stack(kept, axis=0)) if cell.kept else y


class _WayBack(NamedTuple):
    """Cotangents of `projected` and `recurrent` at all times, and of the first state."""

    projected: Any
    recurrent: Any
    state: Any


def _back(
    xp: Any, cell: Cell, g: Any, y: Any, kept: Any, state: Any, weight: Any, mask: Any, reverse: bool
) -> _WayBack:
    g, g_kept = g if type(g) is list else (g, None)
    if xp is fast_numpy and mask is True and cell is LSTM and g_kept is None and g.dtype == y.dtype == weight.dtype:
        return _back_lstm(g, y, kept, state, weight, reverse)
    length = y.shape[1]
    times = _times(length, reverse)
    d_projected: list[Any] = [None] * length
    d_recurrent: list[Any] = [None] * length
    d_state: list[Any] = [None] * cell.states
    for t in reversed(times):
        after = [y[k, t, ...] for k in range(cell.states)]
        earlier = t + 1 if reverse else t - 1
        before = [state[k, ...] if t == times[0] else y[k, earlier, ...] for k in range(cell.states)]
        if g is not None:
            d_state = [_plus(g[k, t, ...], d_state[k]) for k in range(cell.states)]
        d_state = [xp.zeros_like(a) if d is None else d for d, a in zip(d_state, after, strict=True)]
        passed: list[Any] = [None] * cell.states
        if mask is not True:
            here = xp.astype(mask[t, ...], y.dtype)
            passed = [d * (1 - here) for d in d_state]
            d_state = [d * here for d in d_state]
        d_kept = [None if g_kept is None else g_kept[t, k, ...] for k in range(cell.kept)]
        left = [kept[t, k, ...] for k in range(cell.kept)]
        d_p, d_r, direct = cell.back(xp, d_state, d_kept, left, before, after)
        d_projected[t] = xp.concat(list(d_p), axis=-1)
        d_recurrent[t] = d_projected[t] if d_r is d_p else xp.concat(list(d_r), axis=-1)
        through = xp.matmul(d_recurrent[t], weight)
        d_state = [_sum(parts) for parts in zip([through, None][: cell.states], direct, passed, strict=True)]
    projected = xp.stack(d_projected, axis=0)
    same = all(a is b for a, b in zip(d_projected, d_recurrent, strict=True))
    return _WayBack(projected, projected if same else xp.stack(d_recurrent, axis=0), xp.stack(d_state, axis=0))


# The same for an LSTM on NumPy arrays without a mask, in place: it takes half the time of the code above, which makes
# new arrays at every step. Gates are on an axis of their own, so that each is one stretch of memory; and what does not
# wait for the step before is done for several steps in one call, for calls are what short steps spend their time on.

#: Of one array, what several steps' gates may take: with what is made of them they stay in a core's own cache.
_BYTES_AT_ONCE = 1 << 19


def _by_gate(x: np.ndarray) -> np.ndarray:
    """(..., batch, 4·width) as (..., 4, batch, width), without a copy."""
    return np.moveaxis(x.reshape(*x.shape[:-1], 4, x.shape[-1] // 4), -2, -3)


def _run_lstm(
    projected: np.ndarray, state: np.ndarray, weight: np.ndarray, bias: Any, reverse: bool
) -> tuple[np.ndarray, np.ndarray]:
    length, batch, _ = projected.shape
    width, dtype = weight.shape[1], projected.dtype
    # σ(z) = tanh(z/2)/2 + 1/2, so that one call serves all gates. NumPy likes factors of the gates' shape best.
    of_gates = np.array([[0.5, 0.5, 1, 0.5], [0.5, 0.5, 0, 0.5]], dtype)[..., None, None]
    scale, shift = np.repeat(np.repeat(of_gates, batch, axis=2), width, axis=3)
    transposed = np.ascontiguousarray(weight.reshape(4, width, width).mT)
    projected = _by_gate(projected if type(bias) is float else projected + bias)
    y = np.empty((2, length, batch, width), dtype)
    kept = np.empty((length, 4, batch, width), dtype)
    product = np.empty((batch, width), dtype)
    h, c = state
    order = slice(None, None, -1 if reverse else 1)
    places = (projected, kept, *(kept[:, gate] for gate in range(4)), *y)
    for from_x, gates, i, f, g, o, new_h, new_c in zip(*(place[order] for place in places), strict=True):
        np.matmul(h, transposed, out=gates)
        gates += from_x
        gates *= scale
        np.tanh(gates, out=gates)
        gates *= scale
        gates += shift
        np.multiply(i, g, out=product)
        c = np.multiply(f, c, out=new_c)
        c += product
        h = np.tanh(c, out=new_h)
        h *= o
    return y, kept


def _back_lstm(
    g: np.ndarray, y: np.ndarray, kept: np.ndarray, state: np.ndarray, weight: np.ndarray, reverse: bool
) -> _WayBack:
    _, length, batch, width = y.shape
    flat = np.empty((length, batch, 4 * width), y.dtype)
    by_gate = _by_gate(flat)
    if reverse:  # the last time is the first step
        g, y, kept, by_gate = g[:, ::-1], y[:, ::-1], kept[::-1], by_gate[::-1]
    weight = weight.reshape(4, width, width)
    through = np.empty((4, batch, width), y.dtype)
    d_h, d_c = d_state = np.zeros((2, batch, width), y.dtype)
    c_counts = g[1].any()  # hardly ever: what follows a layer reads h
    at_once = max(1, _BYTES_AT_ONCE // kept[0].nbytes)
    for stop in range(length, 0, -at_once):
        start = max(0, stop - at_once)
        factors, c_by_h = _lstm_factors(start, stop, y[1], kept, state[1])
        steps = (factors, factors[:, :3], factors[:, 3], c_by_h, kept[start:stop, 1], *g[:, start:stop])
        for d, by_c, by_h, from_h, f, g_h, g_c in zip(*(part[::-1] for part in steps), strict=True):
            d_h += g_h
            from_h *= d_h
            d_c += from_h
            if c_counts:
                d_c += g_c
            by_c *= d_c
            by_h *= d_h
            d_c *= f
            np.matmul(d, weight, out=through)
            np.add.reduce(through, axis=0, out=d_h)
        by_gate[start:stop] = factors
    return _WayBack(flat, flat, d_state)


def _lstm_factors(
    start: int, stop: int, c: np.ndarray, kept: np.ndarray, first_c: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For some steps, what the cotangents are multiplied by on their way back.

    Returns:
        From c's cotangent to those of i, f and g before their nonlinearities, and from h's to o's, shape (steps, 4,
        batch, width); from h's cotangent to c's, shape (steps, batch, width).
    """
    gates = kept[start:stop]
    i, g, o = (gates[:, gate] for gate in (0, 2, 3))
    factors = np.subtract(1, gates)  # σ′ = (1 − σ)·σ
    factors *= gates
    np.multiply(g, g, out=factors[:, 2])
    np.subtract(1, factors[:, 2], out=factors[:, 2])  # tanh′ = 1 − tanh²
    t = np.tanh(c[start:stop])
    factors[:, 0] *= g
    factors[1:, 1] *= c[start : stop - 1]
    factors[0, 1] *= c[start - 1] if start else first_c
    factors[:, 2] *= i
    factors[:, 3] *= t
    t *= t
    np.subtract(1, t, out=t)
    t *= o
    return factors, t


class _Walked:
    """A way back for the rules of one node, each of which may ask for it once.

    A backward pass calls a node's rules one after the other with the same cotangent; the entry goes when that does.
    """

    def __init__(self, y: Any, way: _WayBack) -> None:
        self.y = y  # so that its identity stays its own
        self.way = way
        self.served: set[str] = set()


_walked: dict[tuple[int, int], _Walked] = {}


def _way_back(which: str, xp: Any, cell: Cell, g: Any, y: Any, *rest: Any) -> _WayBack:
    """`_back`, walked once for all rules of a node; `which` is the rule that asks."""
    owner = next(part for part in g if part is not None) if type(g) is list else g
    key = (id(owner), id(_raw(y)))
    entry = _walked.get(key)
    if entry is None or which in entry.served:
        entry = _Walked(_raw(y), _back(xp, cell, g, y, *rest))
        try:
            weakref.finalize(owner, _walked.pop, key, None).atexit = False
            _walked[key] = entry
        except TypeError:
            pass  # a kind of array whose end nothing can wait for
    entry.served.add(which)
    return entry.way


def _weight_gradient(xp: Any, d: Any, y: Any, state: Any, reverse: bool) -> Any:
    """Over all times and sequences, the sum of cotangent times the h before."""
    first = xp.expand_dims(state[0, ...], axis=0)
    before = xp.concat([y[0, 1:, ...], first] if reverse else [first, y[0, :-1, ...]], axis=0)
    rows = d.shape[0] * d.shape[1]
    return xp.matmul(xp.reshape(d, (rows, d.shape[2])).mT, xp.reshape(before, (rows, before.shape[2])))


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

    def rule(which: str, gradient: Callable) -> Callable:
        if cell.kept:
            return lambda xp, g, y, kept, state, weight, mask, reverse: gradient(
                xp, _way_back(which, xp, cell, g, y, kept, state, weight, mask, reverse), y, state, reverse
            )
        return lambda xp, g, y, state, weight, mask, reverse: gradient(
            xp, _way_back(which, xp, cell, g, y, None, state, weight, mask, reverse), y, state, reverse
        )

    return composed(
        name,
        lambda xp, projected, state, weight, bias, mask, *, reverse: _run(
            xp, cell, projected, state, weight, bias, mask, reverse
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
