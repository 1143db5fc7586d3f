"""`Transformer`: a GPT that reads characters and tells what comes next."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule import nn
from chainrule.data.text import stretches
from chainrule.nn.activations import ACTIVATIONS

ROWS_AT_ONCE = 32
"""How many stretches of a text are scored together."""

SPREAD = 0.02
"""Standard deviation of weights at the start."""


class Transformer(nn.Module):
    """Blocks of causal attention over the last characters, and a linear layer that scores those that may follow.

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3: normalisation
    before each path, another after the last block, and weights that end a path scaled by 1/√(number of paths).

    Args:
        characters: how many there are.
        context: how many it sees at most.
        width: of the vector that stands for a character; a multiple of `heads`.
        depth: number of blocks.
        heads: of attention in each.
        activation: a name of `nn.activations.ACTIVATIONS`.
        dropout: probability of dropping in each path while training.
        dtype: of the parameters.

    Attributes:
        embedding, places, layers, norm, scores: the parts.
    """

    def __init__(
        self,
        characters: int,
        *,
        context: int,
        width: int,
        depth: int,
        heads: int,
        activation: str,
        dropout: float,
        dtype: Any,
    ) -> None:
        self.context = context
        self.embedding = nn.Embedding(characters, width, dtype=dtype)
        self.places = nn.Embedding(context, width, dtype=dtype)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                heads,
                4 * width,
                dropout,
                ACTIVATIONS[activation](),
                batch_first=True,
                norm_first=True,
                dtype=dtype,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, dtype=dtype)
        self.scores = nn.Linear(width, characters, dtype=dtype)
        self._initialise()

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                ends_path = name.endswith(("out_proj.weight", "linear2.weight"))
                nn.init.normal_(parameter, 0.0, SPREAD / math.sqrt(2 * len(self.layers)) if ends_path else SPREAD)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, characters: Any) -> Any:
        """Scores of what follows each character, shape (rows, time, characters), for numbers of shape (rows, time)."""
        x = self.dropout(self.embedding(characters) + self.places(np.arange(characters.shape[1])))
        for layer in self.layers:
            x = layer(x, is_causal=True)
        return self.scores(self.norm(x))

    def following(self, characters: NDArray[Any], state: Any = None) -> tuple[Any, Any]:
        """Scores of what follows some characters, shape (characters,), and what must be known of them afterwards.

        Args:
            characters: numbers of shape (time,).
            state: what was read before them, as an earlier call gave it; None for nothing.
        """
        seen = (characters if state is None else np.concatenate([state, characters]))[-self.context :]
        return self(seen[None])[0, -1], seen

    def scored(self, text: NDArray[Any]) -> Iterator[tuple[Any, Any]]:
        """The scores of a text's characters, and the characters, in parts; each given at least half a context."""
        length = min(self.context, len(text) - 1)
        half = (length + 1) // 2
        starts = np.arange(0, len(text) - length, half)
        for part in range(0, len(starts), ROWS_AT_ONCE):
            inputs, targets = stretches(text, starts[part : part + ROWS_AT_ONCE], length)
            yield self(inputs)[:, -half:], targets[:, -half:]
