"""`RecurrentNetwork`: an LSTM or GRU that reads characters and tells what comes next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule import nn
from chainrule.data.text import stretches

STREAMS, STEPS_AT_ONCE = 16, 128
"""How a text is read to be scored: that many parts side by side, in chunks of so many characters."""

LAYERS: dict[str, type[nn.LSTM | nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


class RecurrentNetwork(nn.Module):
    """An embedding of characters, recurrent layers, and a linear layer that scores the characters that may follow.

    Recurrent matrices start orthogonal and the gate that keeps the state starts open, so that the first gradients
    reach far back (see `nn.LSTM.reset_forget_bias`).

    Args:
        kind: "lstm" or "gru".
        characters: how many there are.
        width: of the embedding and of each layer's state.
        depth: number of recurrent layers.
        dropout: probability of dropping an element of the embedding or of a layer's output while training.
        dtype: of the parameters.

    Attributes:
        embedding, layers, scores: the parts.
    """

    def __init__(self, kind: str, characters: int, *, width: int, depth: int, dropout: float, dtype: Any) -> None:
        self.embedding = nn.Embedding(characters, width, dtype=dtype)
        layers = [LAYERS[kind](width, width, batch_first=True, dtype=dtype) for _ in range(depth)]
        for layer in layers:
            layer.reset_recurrent_orthogonal()
            layer.reset_forget_bias()
        self.layers = nn.ModuleList(layers)
        self.scores = nn.Linear(width, characters, dtype=dtype)
        self.dropout = nn.Dropout(dropout)
        self._states_per_layer = 2 if kind == "lstm" else 1

    def initial_state(self, rows: int) -> tuple[Any, ...]:
        """The state before the first character: h, and for an LSTM c, of each layer, shape (1, rows, width)."""
        width, dtype = self.embedding.embedding_dim, self.embedding.weight.dtype
        return tuple(np.zeros((1, rows, width), dtype) for _ in range(len(self.layers) * self._states_per_layer))

    def forward(self, characters: Any, *state: Any) -> tuple[Any, ...]:
        """Read some characters.

        Args:
            characters: numbers of shape (rows, time).
            state: what was read before them, as `initial_state` or an earlier call gave it.

        Returns:
            Scores of what follows each character, shape (rows, time, characters); and the state after the last.
        """
        each = self._states_per_layer
        x = self.dropout(self.embedding(characters))
        after: list[Any] = []
        for place, layer in enumerate(self.layers):
            before = state[each * place : each * (place + 1)]
            x, new = layer(x, before if each > 1 else before[0])
            after += new if each > 1 else [new]
            x = self.dropout(x)
        return self.scores(x), *after

    def following(self, characters: NDArray[Any], state: Any = None) -> tuple[Any, Any]:
        """Scores of what follows some characters, shape (characters,), and the state after them.

        Args:
            characters: numbers of shape (time,).
            state: what was read before them, as an earlier call gave it; None for nothing.
        """
        scores, *state = self(characters[None], *(state or self.initial_state(1)))
        return scores[0, -1], state

    def scored(self, text: NDArray[Any]) -> Iterator[tuple[Any, Any]]:
        """The scores of a text's characters, and the characters, in parts; each given all before it in its stream."""
        rows = min(STREAMS, len(text) - 1)
        per_row = (len(text) - 1) // rows
        state: Sequence[Any] = self.initial_state(rows)
        for start in range(0, per_row, STEPS_AT_ONCE):
            length = min(STEPS_AT_ONCE, per_row - start)
            inputs, targets = stretches(text, start + per_row * np.arange(rows), length)
            scores, *state = self(inputs, *state)
            yield scores, targets
