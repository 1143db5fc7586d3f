"""Recurrent layers and cells: plain (RNN), LSTM and GRU."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from chainrule.core.namespace import namespace_of
from chainrule.core.primitive import as_operand
from chainrule.core.tensor import _raw
from chainrule.nn import functional as F
from chainrule.nn import init
from chainrule.nn.module import Module
from chainrule.nn.parameter import Parameter
from chainrule.nn.sizes import as_probability, as_size, matching
from chainrule.ops.elementwise import where
from chainrule.ops.joining import concat, stack, unstack
from chainrule.ops.layout import expand_dims, permute_dims, reshape
from chainrule.ops.products import linear_map
from chainrule.ops.recurrent import CELLS, recurrent_layer


class _Recurrent(Module):
    """What layers and cells share: the kind of cell, its parameters and their first values."""

    hidden_size: int
    _kind: str
    #: What runs all steps of a layer in one direction; `nn.through_time` puts one in its place that watches each step.
    _run_steps: Callable[..., Any] = staticmethod(recurrent_layer)
    #: Which gate, if it is open, keeps the state.
    _forget_gate: ClassVar[dict[str, int]] = {"lstm": 1, "gru": 1}

    def _add_parameters(self, suffix: str, in_size: int, bias: bool, dtype: Any) -> None:
        rows = CELLS[self._kind].gates * self.hidden_size
        setattr(self, f"weight_ih{suffix}", Parameter(np.empty((rows, in_size), dtype)))
        setattr(self, f"weight_hh{suffix}", Parameter(np.empty((rows, self.hidden_size), dtype)))
        setattr(self, f"bias_ih{suffix}", Parameter(np.empty(rows, dtype)) if bias else None)
        setattr(self, f"bias_hh{suffix}", Parameter(np.empty(rows, dtype)) if bias else None)

    def reset_parameters(self) -> None:
        """Draw the parameters afresh, evenly from ±1/√hidden_size, as in PyTorch."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def reset_recurrent_orthogonal(self, gain: float = 1.0) -> None:
        """Make each gate's part of every recurrent matrix orthogonal, so that it keeps the size of what it passes on.

        Source: Saxe et al. 2013, "Exact solutions to the nonlinear dynamics of learning in deep linear networks".
        """
        for name, parameter in self.named_parameters():
            if name.startswith("weight_hh"):
                gates = [Parameter(np.empty((self.hidden_size, self.hidden_size))) for _ in range(self._gates)]
                parameter.data = np.concatenate([init.orthogonal_(gate, gain).data for gate in gates])

    def reset_forget_bias(self, value: float = 1.0) -> None:
        """Open the gate that keeps the state, so that it lasts at first: its bias becomes `value`.

        It is the forget gate of an LSTM and the update gate of a GRU. The bias is the sum of two parameters: that in
        `bias_ih` becomes `value`, that in `bias_hh` zero.

        Source: Jozefowicz et al. 2015, "An Empirical Exploration of Recurrent Network Architectures", section 2.

        Raises:
            ValueError: the layer has no such gate, or no biases.
        """
        gate = self._forget_gate.get(self._kind)
        biases = [(name, p) for name, p in self.named_parameters() if name.startswith("bias")]
        if gate is None or not biases:
            raise ValueError(f"{type(self).__name__} has no forget gate, or no biases, to give a bias to")
        for name, parameter in biases:
            values = np.array(parameter.data)
            values[gate * self.hidden_size : (gate + 1) * self.hidden_size] = value if name.startswith("bias_ih") else 0
            parameter.data = values

    @property
    def _gates(self) -> int:
        return CELLS[self._kind].gates

    def _layer(self, x: Any, state: Any, suffix: str, mask: Any = None, reverse: bool = False) -> Any:
        """All steps of one layer in one direction: (time, batch, in) to (states, time, batch, hidden_size)."""
        weight, recurrent_weight, bias, recurrent_bias = (
            getattr(self, name + suffix) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        if bias is not None and self._kind != "gru":  # the sum of both is all that matters
            bias, recurrent_bias = bias + recurrent_bias, None
        projected = linear_map(x, weight, bias)
        return self._run_steps(self._kind, projected, state, recurrent_weight, recurrent_bias, mask, reverse=reverse)


class _RecurrentLayers(_Recurrent):
    """Layers on top of each other, each in one direction or both."""

    weight_ih_l0: Parameter

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: Any = np.float32,
    ) -> None:
        name = type(self).__name__
        self.input_size = as_size(f"{name}: input_size", input_size)
        self.hidden_size = as_size(f"{name}: hidden_size", hidden_size)
        self.num_layers = as_size(f"{name}: num_layers", num_layers)
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = as_probability(f"{name}: dropout", dropout)
        self.bidirectional = bidirectional
        for layer in range(self.num_layers):
            in_size = self.input_size if layer == 0 else self.hidden_size * len(self._directions)
            for direction in self._directions:
                self._add_parameters(f"_l{layer}{direction}", in_size, bias, dtype)
        self.reset_parameters()

    @property
    def _directions(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    def forward(self, x: Any, state: Any = None, *, lengths: Any = None) -> tuple[Any, Any]:
        """The top layer's h after every step, and the final state of every layer.

        Args:
            x: shape (time, batch, input_size), or (batch, time, input_size) with `batch_first`, or without a batch
                (time, input_size).
            state: before the first step, shape (layers·directions, batch, hidden_size), for LSTM a pair (h, c) of
                them; zeros if left out. Without a batch in `x` there is none in it.
            lengths: how many steps each sequence of the batch has, integers of shape (batch,); what follows is padding.
                All have all steps if left out.

        Returns:
            The output, shape (time, batch, directions·hidden_size) or as `x`, zero where there is padding; the state
            after each sequence's last step, in the form of `state`.

        Raises:
            ValueError: the input, the state or the lengths do not fit, or there are no steps.
            TypeError: the input or the state is of another dtype.
        """
        name = type(self).__name__
        x = matching(name, x, self.weight_ih_l0)
        batched = len(x.shape) == 3
        if len(x.shape) not in (2, 3) or x.shape[-1] != self.input_size or 0 in x.shape:
            form = "(batch, time" if self.batch_first else "(time, batch"
            raise ValueError(
                f"{name}: needs an input of shape {form}, {self.input_size}) or (time, {self.input_size}), not empty; "
                f"got {tuple(x.shape)}"
            )
        if not batched:
            x = expand_dims(x, 1)
        elif self.batch_first:
            x = permute_dims(x, (1, 0, 2))
        states = self._initial(x, state, batched)
        mask = None if lengths is None else self._mask(lengths, *x.shape[:2])
        finals = []
        for layer in range(self.num_layers):
            outputs = []
            for direction, suffix in enumerate(self._directions):
                start = [s[layer * len(self._directions) + direction] for s in states]
                y = self._layer(x, stack(start), f"_l{layer}{suffix}", mask, reverse=direction == 1)
                finals.append(y[:, 0 if direction == 1 else -1])
                outputs.append(y[0] if mask is None else where(mask, y[0], 0.0))
            x = concat(outputs, axis=-1) if len(outputs) > 1 else outputs[0]
            if layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        final = unstack(stack(finals, axis=1))
        if not batched:
            x, final = x[:, 0], tuple(part[:, 0] for part in final)
        elif self.batch_first:
            x = permute_dims(x, (1, 0, 2))
        return x, final[0] if len(final) == 1 else final

    def _initial(self, x: Any, state: Any, batched: bool) -> list[Any]:
        """The state's parts, each of shape (layers·directions, batch, hidden_size)."""
        shape = (self.num_layers * len(self._directions), x.shape[1], self.hidden_size)
        count = CELLS[self._kind].states
        if state is None:
            return [namespace_of(_raw(x)).zeros(shape, dtype=x.dtype)] * count
        return [part if batched else expand_dims(part, 1) for part in self._state_parts(state, shape, batched)]

    def _state_parts(self, state: Any, shape: tuple[int, ...], batched: bool) -> list[Any]:
        name = type(self).__name__
        count = CELLS[self._kind].states
        parts = list(state) if count > 1 and isinstance(state, (tuple, list)) else [state]
        parts = [matching(f"{name}: the state", part, self.weight_ih_l0) for part in parts]
        wanted = shape if batched else (shape[0], shape[2])
        if len(parts) != count or any(tuple(part.shape) != wanted for part in parts):
            form = f"a pair (h, c), each of shape {wanted}" if count > 1 else f"of shape {wanted}"
            got = ", ".join(str(tuple(part.shape)) for part in parts)
            raise ValueError(f"{name}: the state must be {form} (layers·directions, batch, hidden_size); got {got}")
        return parts

    def _mask(self, lengths: Any, time: int, batch: int) -> Any:
        """Where each sequence has a step: booleans of shape (time, batch, 1)."""
        name = type(self).__name__
        lengths = _raw(as_operand(f"{name}: lengths", lengths))
        if tuple(lengths.shape) != (batch,) or "int" not in str(lengths.dtype):
            raise ValueError(
                f"{name}: lengths must be integers of shape ({batch},), one for each sequence; got {lengths.dtype} of "
                f"shape {tuple(lengths.shape)}"
            )
        xp = namespace_of(lengths)
        message = f"{name}: lengths must be from 1 to {time}, the number of steps in the input"
        if hasattr(xp, "verify"):  # looked at in every run of a compiled program
            xp.verify((lengths >= 1) & (lengths <= time), message)
        elif not bool(xp.all((lengths >= 1) & (lengths <= time), axis=None)):
            raise ValueError(f"{message}; got {lengths}")
        steps = xp.reshape(xp.arange(time, dtype=lengths.dtype), (time, 1, 1))
        return steps < xp.reshape(lengths, (1, batch, 1))

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        usual = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        parts += [f"{name}={getattr(self, name)}" for name, value in usual.items() if getattr(self, name) != value]
        return ", ".join(parts)


class RNN(_RecurrentLayers):
    """h′ = tanh(W_ih·x + b_ih + W_hh·h + b_hh) at every step, in several layers and both directions if wanted.

    Source: Elman 1990, "Finding Structure in Time".

    Args:
        input_size: length of the input's last axis.
        hidden_size: length of h.
        num_layers: how many layers, each fed by the one before.
        nonlinearity: "tanh" or "relu".
        bias: whether there are b_ih and b_hh.
        batch_first: whether inputs have shape (batch, time, input_size), rather than (time, batch, input_size).
        dropout: between layers, in training.
        bidirectional: whether every layer also runs from the last step to the first; outputs are joined.
        dtype: of the parameters, and so of the inputs.

    Attributes:
        weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0: of layer 0, shapes (hidden_size, input_size),
            (hidden_size, hidden_size), (hidden_size,) twice; `_l1` and so on for further layers, `_l0_reverse` and so
            on for the other direction.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: Any = np.float32,
    ) -> None:
        self.nonlinearity = nonlinearity
        self._kind = _plain_kind("RNN", nonlinearity)
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype=dtype)


class LSTM(_RecurrentLayers):
    """c′ = f⊙c + i⊙g and h′ = o⊙tanh(c′) at every step: the path through c scales by the forget gate f only.

    With z = W_ih·x + b_ih + W_hh·h + b_hh in four parts, i, f and o are σ of the first, second and fourth, g is tanh of
    the third. `reset_forget_bias` and `reset_recurrent_orthogonal` give other first values than PyTorch's.

    Source: Hochreiter and Schmidhuber 1997, "Long Short-Term Memory"; Gers et al. 2000 for the forget gate.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype: as in `RNN`.

    Attributes:
        weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0: as in `RNN`, with 4·hidden_size rows: i, f, g, o.
    """

    _kind = "lstm"


class GRU(_RecurrentLayers):
    """h′ = (1 − z)⊙n + z⊙h at every step, with n = tanh(W_in·x + b_in + r⊙(W_hn·h + b_hn)).

    The gates r and z are σ(W_i·x + b_i + W_h·h + b_h), each with its own weights.

    Source: Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder"; as in PyTorch, r is applied
    after the product.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype: as in `RNN`.

    Attributes:
        weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0: as in `RNN`, with 3·hidden_size rows: r, z, n.
    """

    _kind = "gru"


def _plain_kind(name: str, nonlinearity: str) -> str:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"{name}: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
    return f"rnn_{nonlinearity}"


# One step -----------------------------------------------------------------------------------------------------------


class _RecurrentCell(_Recurrent):
    """One step of one layer."""

    weight_ih: Parameter

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, dtype: Any = np.float32) -> None:
        self.input_size = as_size(f"{type(self).__name__}: input_size", input_size)
        self.hidden_size = as_size(f"{type(self).__name__}: hidden_size", hidden_size)
        self.bias = bias
        self._add_parameters("", self.input_size, bias, dtype)
        self.reset_parameters()

    def forward(self, x: Any, state: Any = None) -> Any:
        """The state after one step.

        Args:
            x: shape (batch, input_size), or (input_size,).
            state: before, shape (batch, hidden_size) or (hidden_size,), for LSTM a pair (h, c); zeros if left out.

        Raises:
            ValueError: the input or the state does not fit.
            TypeError: the input or the state is of another dtype.
        """
        name = type(self).__name__
        x = matching(name, x, self.weight_ih)
        if len(x.shape) not in (1, 2) or x.shape[-1] != self.input_size:
            raise ValueError(
                f"{name}: needs an input of shape (batch, {self.input_size}) or ({self.input_size},), got "
                f"{tuple(x.shape)}"
            )
        shape = (*x.shape[:-1], self.hidden_size)
        count = CELLS[self._kind].states
        if state is None:
            parts: list[Any] = [namespace_of(_raw(x)).zeros(shape, dtype=x.dtype)] * count
        else:
            parts = list(state) if count > 1 and isinstance(state, (tuple, list)) else [state]
            parts = [matching(f"{name}: the state", part, self.weight_ih) for part in parts]
        if len(parts) != count or any(tuple(part.shape) != shape for part in parts):
            got = ", ".join(str(tuple(part.shape)) for part in parts)
            form = "a pair (h, c), each" if count > 1 else ""
            raise ValueError(f"{name}: the state must be {form} of shape {shape}, got {got}")
        batch = shape[0] if len(shape) == 2 else 1
        start = reshape(stack(parts), (count, batch, self.hidden_size))
        y = self._layer(reshape(x, (1, batch, self.input_size)), start, "")
        after = unstack(reshape(y, (count, *shape)))
        return after[0] if count == 1 else after

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_RecurrentCell):
    """One step of an `RNN`: h′ = tanh(W_ih·x + b_ih + W_hh·h + b_hh).

    Args:
        input_size: length of the input's last axis.
        hidden_size: length of h.
        bias: whether there are b_ih and b_hh.
        nonlinearity: "tanh" or "relu".
        dtype: of the parameters, and so of the inputs.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        dtype: Any = np.float32,
    ) -> None:
        self.nonlinearity = nonlinearity
        self._kind = _plain_kind("RNNCell", nonlinearity)
        super().__init__(input_size, hidden_size, bias, dtype=dtype)


class LSTMCell(_RecurrentCell):
    """One step of an `LSTM`, from (h, c) to (h′, c′).

    Args:
        input_size, hidden_size, bias, dtype: as in `RNNCell`.
    """

    _kind = "lstm"


class GRUCell(_RecurrentCell):
    """One step of a `GRU`.

    Args:
        input_size, hidden_size, bias, dtype: as in `RNNCell`.
    """

    _kind = "gru"
