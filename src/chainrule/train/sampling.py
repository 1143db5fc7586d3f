"""Text that a network writes: one character after the other, each drawn from what it thinks may follow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from chainrule.data import Vocabulary
from chainrule.data.sampling import seeded
from chainrule.train.measures import evaluating

BEGINNING = "\n"
"""What the network is given to go on from if nothing else is, where it knows it."""


def written(
    model: Any, vocabulary: Vocabulary, length: int, *, prompt: str = "", temperature: float = 1.0, seed: int = 0
) -> Iterator[str]:
    """Yield the characters that go on from `prompt`, as they are drawn.

    Args:
        model: a network that has `following`, as `networks.RecurrentNetwork`.
        vocabulary: the characters it knows.
        length: how many to write.
        prompt: what stands before them.
        temperature: scores are divided by it: below 1 likely characters become likelier still, at 0 the likeliest is
            taken, above 1 all become more alike.
        seed: of the draws.

    Raises:
        DataError: a character of the prompt is not known.
    """
    random = seeded(seed)
    beginning = BEGINNING if BEGINNING in vocabulary.characters else vocabulary.characters[0]
    read, state = vocabulary.encode(prompt or beginning), None
    for _ in range(length):
        with evaluating(model):
            scores, state = model.following(read, state)
        read = np.array([_drawn(np.asarray(scores, np.float64), temperature, random)])
        yield vocabulary.decode(read)


def _drawn(scores: NDArray[np.float64], temperature: float, random: Generator) -> int:
    """A number drawn with probabilities softmax(scores/temperature)."""
    if temperature == 0:
        return int(scores.argmax())
    with np.errstate(over="ignore"):  # close to temperature 0, all but the likeliest are out of the question
        chances = np.exp((scores - scores.max()) / temperature).cumsum()
    return int(np.searchsorted(chances, random.uniform(0, chances[-1]), side="right"))
