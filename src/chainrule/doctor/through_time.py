"""The error signal on its way back through time, step by step, in every recurrent module of a network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from chainrule.doctor import statistics
from chainrule.doctor.anatomy import LARGEST_DENSE
from chainrule.doctor.measurements import ThroughTime
from chainrule.doctor.observation import SATURATED_SLOPE
from chainrule.doctor.subjects import Subject, leaves
from chainrule.doctor.subjects.subject import all_removed
from chainrule.ops.recurrent import CELLS as recurrent_cells

LAYERS = {"RNN": "rnn", "LSTM": "lstm", "GRU": "gru"}
CELLS = {"RNNCell": "rnn", "LSTMCell": "lstm", "GRUCell": "gru"}


def through_time(subject: Subject, *, seed: int = 0) -> tuple[tuple[ThroughTime, ...], tuple[str, ...]]:
    """The norm of the error signal at each time step, for a random error signal of norm 1 at the last step.

    Every recurrent layer is run again on what it was given, one time step after the other, each step's state handed
    to the next: the same computation, with a state between the steps whose cotangent can be read. Of a cell that the
    network calls in a loop, the calls are repeated the same way.

    Args:
        subject: the network; left as it was.
        seed: of the error signal.

    Returns:
        One measurement for each recurrent module; and notes on those that could not be measured.
    """
    found: list[ThroughTime] = []
    notes: list[str] = []
    with subject.undisturbed():
        for path, module, calls in _calls(subject):
            cell = _kind(module, CELLS)
            kind = cell or _kind(module, LAYERS)
            try:
                inputs = [call[0] for call in calls] if cell else _steps(module, calls[-1][0])
                if len(inputs) < 2:
                    continue
                found.append(_measure(subject, path, module, kind, inputs, np.random.default_rng(seed)))
            except Exception as error:  # whatever a user's subclass of a recurrent module does
                said = str(error).strip().splitlines()
                notes.append(f"{path}: not measured through time: {said[0] if said else type(error).__name__}")
    return tuple(found), tuple(notes)


def _kind(module: Any, names: dict[str, str]) -> str:
    return next((names[base.__name__] for base in type(module).__mro__ if base.__name__ in names), "")


def _calls(subject: Subject) -> Iterator[tuple[str, Any, list[tuple]]]:
    """The recurrent modules with the arguments of their calls, in the order of the first calls."""
    calls: dict[str, list[tuple]] = {}
    modules = {path: m for path, m in subject.modules() if _kind(m, LAYERS) or _kind(m, CELLS)}
    if not modules:
        return
    with _listening(modules, calls), subject.quietly():
        subject.output()
    for path, arguments in calls.items():
        yield path, modules[path], arguments


@contextmanager
def _listening(modules: dict[str, Any], calls: dict[str, list[tuple]]) -> Iterator[None]:
    hooks: list[Any] = []

    def note(path: str, module: Any, arguments: tuple) -> None:
        calls.setdefault(path, []).append(arguments)

    with all_removed(hooks):
        hooks += [module.register_forward_pre_hook(partial(note, path)) for path, module in modules.items()]
        yield


def _steps(module: Any, x: Any) -> list[Any]:
    """The input of a layer, cut into inputs of one time step each."""
    if not hasattr(x, "shape"):
        raise TypeError(f"its input is a {type(x).__name__}")
    if module.bidirectional:
        raise TypeError("it is bidirectional; each direction would need a layer of its own")
    if module.batch_first and len(x.shape) == 3:
        return [x[:, t : t + 1] for t in range(x.shape[1])]
    return [x[t : t + 1] for t in range(x.shape[0])]


def _measure(
    subject: Subject, path: str, module: Any, kind: str, inputs: Sequence[Any], generator: np.random.Generator
) -> ThroughTime:
    parts: list[list[float]] = []  # for each step, the norms of h and, in an LSTM, of c
    state = None
    states: list[Any] = []
    for x in inputs:
        result = module(x, state) if state is not None else module(x)
        state = result if _kind(module, CELLS) else result[1]
        values = [subject.leaf(subject.array(s)) for s in leaves(state)] if not states else leaves(state)
        state = tuple(values) if len(values) > 1 else values[0]
        states.append(values)
        parts.append([math.nan] * len(values))
        if len(states) > 1:
            for place, value in enumerate(values):
                value.register_hook(partial(_note, subject, parts[-1], place))
    shape = tuple(states[-1][0].shape)
    error_signal = generator.standard_normal(shape)
    error_signal /= np.linalg.norm(error_signal)
    loss = (states[-1][0] * subject.constant(error_signal, subject.array(states[-1][0]))).sum()
    first = subject.gradients(loss, states[0])
    parts[0] = [0.0 if g is None else statistics.norm(g) for g in first]
    if len(parts[-1]) > 1:
        parts[-1][1] = 0.0  # the error signal enters at h
    norms = [step[0] for step in parts]
    cells = [step[1] for step in parts] if len(parts[0]) > 1 else []
    return ThroughTime(
        path, kind, tuple(norms), tuple(cells), _gain(norms, cells), _spectral_radius(subject, module),
        _stuck(subject, module, kind, inputs, states),
    )  # fmt: skip


def _note(subject: Subject, norms: list[float], place: int, cotangent: Any) -> None:
    norms[place] = statistics.norm(subject.array(cotangent))


def _gain(norms: Sequence[float], cells: Sequence[float]) -> float:
    """Geometric mean of the ratio of one step's error signal to that of the step after it, h and c taken together."""
    sizes = [math.hypot(h, c) for h, c in zip(norms, cells or [0.0] * len(norms), strict=True)]
    if not sizes[-1]:
        return 0.0
    return (sizes[0] / sizes[-1]) ** (1 / (len(sizes) - 1))


# Gates --------------------------------------------------------------------------------------------------------------

GATES: dict[str, dict[str, int]] = {
    "lstm": {"input gate": 0, "cell input": 2, "output gate": 3},
    "gru": {"update gate": 1, "new state": 2},
    "rnn": {},
}
"""Which of the values that a step keeps (`ops.recurrent.CELLS`) can stop what comes in or goes out. A shut forget gate
is none of them: it is seen by what it does to the error signal; nor is one that is open, which is how a state lasts.
"""


def _stuck(
    subject: Subject, module: Any, kind: str, inputs: Sequence[Any], states: Sequence[Sequence[Any]]
) -> dict[str, float]:
    """See `ThroughTime`: the gates made once more, by chainrule's own step, from the inputs, states and weights."""
    if kind == "rnn" and getattr(module, "nonlinearity", "tanh") != "tanh":
        return {}
    weights = {name: statistics.as_numpy(subject.array(p)) for name, p in module.named_parameters()}
    given = np.stack([_rows(subject, x) for x in inputs[1:]])
    before = [np.stack([_levels(subject, step[k]) for step in states[:-1]]) for k in range(len(states[0]))]
    found: dict[str, float] = {}
    for level in range(before[0].shape[1]):
        suffix = "" if _kind(module, CELLS) else f"_l{level}"
        projected = given @ weights[f"weight_ih{suffix}"].T + weights.get(f"bias_ih{suffix}", 0.0)
        recurrent = before[0][:, level] @ weights[f"weight_hh{suffix}"].T + weights.get(f"bias_hh{suffix}", 0.0)
        cell = recurrent_cells["rnn_tanh" if kind == "rnn" else kind]
        new, kept = cell.step(np, projected, recurrent, [state[:, level] for state in before])
        gates = {name: kept[place] for name, place in GATES[kind].items()} or {"state": new[0]}
        for name, values in gates.items():
            found[name] = max(found.get(name, 0.0), _flat(name, values))
        given = new[0]
    return found


def _flat(name: str, gate: np.ndarray) -> float:
    """Share of elements where the derivative is under a twentieth of its largest and nothing passes."""
    slope = gate * (1 - gate) / 0.25 if name.endswith("gate") else 1 - gate * gate
    stops = (gate > 0.5) if name == "update gate" else (gate < 0.5) if name.endswith("gate") else True
    return statistics.share((slope < SATURATED_SLOPE) & stops)


def _rows(subject: Subject, x: Any) -> np.ndarray:
    """The input of one step as (batch, features)."""
    array = statistics.as_numpy(subject.array(x))
    return array.reshape(-1, array.shape[-1])


def _levels(subject: Subject, state: Any) -> np.ndarray:
    """A state as (layers, batch, width); a cell's has one layer."""
    array = statistics.as_numpy(subject.array(state))
    return array if array.ndim == 3 else array[None]


def _spectral_radius(subject: Subject, module: Any) -> float:
    """The largest absolute eigenvalue among the gates' blocks of the recurrent matrices."""
    radii = [0.0]
    for name, parameter in module.named_parameters():
        matrix = np.asarray(statistics.as_numpy(subject.array(parameter)), dtype=np.float64)
        if name.startswith("weight_hh") and matrix.shape[1] <= LARGEST_DENSE and np.isfinite(matrix).all():
            blocks = matrix.reshape(-1, matrix.shape[1], matrix.shape[1])
            radii += [float(np.max(np.abs(np.linalg.eigvals(block)))) for block in blocks]
    return max(radii)
