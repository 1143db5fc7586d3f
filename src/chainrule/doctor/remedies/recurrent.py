"""Remedies for recurrent layers: first values that keep the state, and gradients that go back fewer steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.doctor.measurements import Layer
from chainrule.doctor.remedies.surgery import CannotApply, Surgery

GATES = {"RNN": 1, "RNNCell": 1, "LSTM": 4, "LSTMCell": 4, "GRU": 3, "GRUCell": 3}
_KEEPING = {"LSTM": 1, "LSTMCell": 1, "GRU": 1, "GRUCell": 1}
"""Which gate keeps the state where it is open."""


def _base(module: Any) -> str:
    return next((kind.__name__ for kind in type(module).__mro__ if kind.__name__ in GATES), "")


def _recurrent(surgery: Surgery) -> list[tuple[str, Any]]:
    """The recurrent modules to treat, by path."""
    found = [(path, module) for path, module in surgery.modules.items() if _base(module)]
    return [entry for entry in found if surgery.concerns(entry[0])] or found


def forget_gate_bias(surgery: Surgery) -> None:
    """Open the gates that keep the state at first: their bias becomes 1, or log(T) for sequences of T > 3 steps, which
    is what a gate forgets in about T steps with.

    Source: Jozefowicz et al. 2015, "An Empirical Exploration of Recurrent Network Architectures", section 2; Tallec and
    Ollivier 2018, "Can recurrent neural networks warp time?", section 2.
    """
    treated = [(path, m) for path, m in _recurrent(surgery) if _base(m) in _KEEPING and m.bias]
    if not treated:
        raise CannotApply("there is no LSTM or GRU with biases: a plain RNN has no gate that could keep the state")
    for path, module in treated:
        _open_gates(surgery, path, module)


def _open_gates(surgery: Surgery, path: str, module: Any) -> None:
    size, gate = module.hidden_size, _KEEPING[_base(module)]
    opened = float(f"{max(1.0, math.log(_time_steps(surgery, path))):.2g}")
    for name, parameter in module.named_parameters():
        if name.startswith("bias"):
            values = surgery.numbers(parameter)
            values[gate * size : (gate + 1) * size] = opened if name.startswith("bias_ih") else 0.0
            surgery.tools.fill(parameter, values)
    block = "layer.hidden_size : 2 * layer.hidden_size"
    surgery.statements += [
        f'layer = model.get_submodule("{path}")',
        "for name, parameter in layer.named_parameters():",
        '    if name.startswith("bias"):  # the second block is the gate that keeps the state',
        "        values = np.asarray(parameter.data).copy()",
        f'        values[{block}] = {opened:g} if name.startswith("bias_ih") else 0.0',
        "        parameter.data = tensor(values)",
    ]
    surgery.words.append(f"forget gates of {path} open at the start: bias {opened:g}")


def _time_steps(surgery: Surgery, path: str) -> int:
    """How many time steps a recurrent layer was seen to make; 1 where that was not measured."""
    return next((len(measured.norms) for measured in surgery.exam.time if measured.path == path), 1)


LARGEST_STATE = 0.3
"""Root mean square of the state at the last time step, up to which tanh is nearly a straight line (slope 0.92)."""


def initialize(surgery: Surgery, layer: Layer) -> None:
    """Draw a recurrent layer anew: Xavier's for the input, orthogonal blocks for the state, biases 0, gates open.

    A plain recurrent layer has no gates, so that its state lasts only where its activation is nearly linear: its input
    weights are made so small that after all time steps the state still is. Source: Saxe et al. 2014, "Exact solutions
    to the nonlinear dynamics of learning in deep linear neural networks", for what orthogonal matrices then preserve.
    """
    module = surgery.modules.get(layer.path)
    if module is None or not _base(module):
        raise CannotApply(f"{layer.path} is no module of nn that could be initialised")
    base = _base(module)
    gain = 1.0 if base in _KEEPING else _input_gain(surgery, layer, module)
    for name, parameter in module.named_parameters():
        if name.startswith("weight_hh"):
            size = module.hidden_size
            square = [surgery.nn.Linear(size, size).weight for _ in range(GATES[base])]
            blocks = [surgery.numbers(surgery.nn.init.orthogonal_(weight)) for weight in square]
            surgery.tools.fill(parameter, np.concatenate(blocks))
        elif len(parameter.shape) == 2:
            surgery.nn.init.xavier_uniform_(parameter, gain)
        else:
            surgery.nn.init.zeros_(parameter)
    surgery.statements += [
        f'layer = model.get_submodule("{layer.path}")',
        "for name, parameter in layer.named_parameters():",
        '    if name.startswith("weight_hh"):',
        f"        square = [nn.Linear(layer.hidden_size, layer.hidden_size).weight for _ in range({GATES[base]})]",
        "        blocks = [np.asarray(nn.init.orthogonal_(weight).data) for weight in square]",
        "        parameter.data = tensor(np.concatenate(blocks))",
        "    elif len(parameter.shape) == 2:",
        f"        nn.init.xavier_uniform_(parameter{'' if gain == 1 else f', {gain:.3g}'})",
        "    else:",
        "        nn.init.zeros_(parameter)",
    ]
    small = "" if gain == 1 else f" times {gain:.2g}, so that the state stays small"
    surgery.words.append(
        f"{layer.path} drawn anew: orthogonal recurrent weights, Xavier's for the input{small}, biases 0"
    )
    if base in _KEEPING and module.bias:
        _open_gates(surgery, layer.path, module)


def _input_gain(surgery: Surgery, layer: Layer, module: Any) -> float:
    """The factor of Xavier's weights that leaves the state small after all time steps; 1 where it is small anyway."""
    steps = _time_steps(surgery, layer.path)
    size = math.hypot(layer.input.mean, layer.input.std)
    variance = 2 * module.input_size / (module.input_size + module.hidden_size) * size**2
    state = math.sqrt(steps * variance)
    return 1.0 if state <= LARGEST_STATE else float(f"{LARGEST_STATE / state:.3g}")


# Time ---------------------------------------------------------------------------------------------------------------

LEFT = 1e-2
"""Gradients go back as many steps as leave this share of the error signal, or let it grow by the inverse."""

FEWEST = 4


def shorter_time(surgery: Surgery) -> None:
    """Truncated backpropagation through time: the state is detached every few steps.

    Source: Williams and Peng 1990, "An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network
    Trajectories".
    """
    if surgery.code == "bptt-vanishing":
        raise CannotApply(
            "cutting the gradient off does not make it reach further back; shorten the sequences in the data"
        )
    modules = dict(_recurrent(surgery))
    treated = [t for t in surgery.exam.time if t.path in modules]
    layers = [t for t in treated if not _base(modules[t.path]).endswith("Cell")]
    if not layers:
        raise CannotApply(
            "the loop over time is in a forward; detach the state there every few steps"
            if treated
            else "no recurrent layer was measured through time"
        )
    for measured in layers:
        if modules[measured.path].bidirectional:
            raise CannotApply(f"{measured.path} is bidirectional; both ends of time would be cut")
        time = len(measured.norms)
        rate = abs(math.log(measured.gain)) if measured.gain > 0 else math.inf
        steps = min(max(int(-math.log(LEFT) / rate) if rate else time, FEWEST), max(time // 2, 1))
        TruncatedTime = surgery.define("TruncatedTime")
        surgery.put(measured.path, surgery.fitted(TruncatedTime(modules[measured.path], steps)))
        surgery.statements.append(
            f'replace("{measured.path}", TruncatedTime(model.get_submodule("{measured.path}"), {steps}))'
        )
        surgery.words.append(f"gradients of {measured.path} go back {steps} of {time} time steps")
