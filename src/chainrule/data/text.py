"""Text as data: read from a file or from the standard library, numbered by character, and cut up for training.

A network that writes learns, at every place of a text, which character comes next. `Vocabulary` numbers the
characters. `streams` cuts a text up for networks that carry a state on, `windows` for those that see a stretch at once.

    text, held_out = hold_out(read_text("book.txt"), 0.1)
    vocabulary = Vocabulary.of(text + held_out)
    numbers = vocabulary.encode(text)
    for starts in windows(len(numbers), rows=16, length=64, seed=0, epoch=3):
        inputs, targets = stretches(numbers, starts, 64)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chainrule.data.dataset import DataError, DataFileNotFoundError
from chainrule.data.sampling import batches, seeded

Characters = NDArray[np.int64]

# Reading ------------------------------------------------------------------------------------------------------------


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a file, with every end of line as `\\n`.

    Raises:
        DataFileNotFoundError: there is no such file.
        DataError: it cannot be read, is not UTF-8, or is empty.
    """
    path = Path(path)
    if not path.exists():
        raise DataFileNotFoundError(f"{path}: no such file; the current folder is {Path.cwd()}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: no text in UTF-8 (byte {error.start + 1} is {error.object[error.start]:#04x}); save it as UTF-8"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not text.strip():
        raise DataError(f"{path}: there is no text in it")
    return text


def load_manual() -> str:
    """Return the chapters of Python's language reference that its standard library carries, some 370,000 characters.

    They are the `help()` topics of the Python that runs, in the order of their names. Topics repeat each other: a
    paragraph that has been there already is left out, so that no part of the text can be told from another by heart.
    """
    from pydoc_data.topics import topics

    seen: set[str] = set()
    kept = []
    for name in sorted(topics):
        for paragraph in topics[name].strip("\n").split("\n\n"):
            words = " ".join(paragraph.split())
            if words not in seen:
                seen.add(words)
                kept.append(paragraph)
    return "\n\n".join(kept)


# Characters as numbers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Vocabulary:
    """The characters that a network knows; the number of each is its place.

    Attributes:
        characters: each once.
    """

    characters: str

    @classmethod
    def of(cls, text: str) -> Vocabulary:
        """Return the characters of a text, in their order in Unicode."""
        return cls("".join(sorted(set(text))))

    def __len__(self) -> int:
        return len(self.characters)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {character: number for number, character in enumerate(self.characters)}

    def encode(self, text: str) -> Characters:
        """Return the numbers of a text's characters, shape (characters,).

        Raises:
            DataError: a character is not among those known.
        """
        unknown = sorted(set(text) - self._numbers.keys())
        if unknown:
            shown = ", ".join(map(repr, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
            raise DataError(f"{shown} did not occur in the text that was learned; known are {self.characters!r}")
        return np.array([self._numbers[character] for character in text], dtype=np.int64)

    def decode(self, numbers: Sequence[int] | Characters) -> str:
        """Return the text with these numbers."""
        return "".join(self.characters[number] for number in numbers)


def hold_out(text: str, fraction: float) -> tuple[str, str]:
    """Divide a text into what is learned from, and the end of it, `fraction` of its length, to test on."""
    cut = len(text) - max(round(fraction * len(text)), 1)
    return text[:cut], text[cut:]


# Cut up for training ------------------------------------------------------------------------------------------------

# An epoch begins at another of the first characters each time, so that the cuts fall differently.


def streams(characters: int, rows: int, length: int, *, seed: int, epoch: int = 0) -> list[NDArray[np.int64]]:
    """Return where the chunks of an epoch begin, if a text is read as several streams side by side.

    Each row goes on through a part of the text of its own: in every chunk it begins where it ended in the one before.

    Args:
        characters: how many the text has.
        rows: how many streams.
        length: of a chunk; all rows of one and one character more must fit into the text.
        seed, epoch: of the first character.

    Returns:
        The beginnings of the rows, shape (rows,), of as many whole chunks as there are; what is left over is left out.
    """
    chunks = _fitting(characters, rows * length, length)
    skipped = _skipped(characters - rows * chunks * length, length, seed, epoch)
    return [skipped + length * (chunks * np.arange(rows) + chunk) for chunk in range(chunks)]


def windows(characters: int, rows: int, length: int, *, seed: int, epoch: int = 0) -> list[NDArray[np.int64]]:
    """Return where the stretches of an epoch's batches begin, if a text is cut up and shuffled.

    Args:
        characters: how many the text has.
        rows: stretches per batch.
        length: of a stretch; all of one batch and one character more must fit into the text.
        seed, epoch: of the first character and the order.

    Returns:
        The beginnings of the stretches, shape (rows,), batch by batch; what fills no batch is left out.
    """
    count = rows * _fitting(characters, rows * length, length)
    skipped = _skipped(characters - count * length, length, seed, epoch)
    return [skipped + length * stretches for stretches in batches(count, rows, seed=seed, epoch=epoch)]


def _fitting(characters: int, size: int, slack: int) -> int:
    """How many pieces of `size` fit when up to `slack` characters are skipped, but one if that fits at all."""
    if size >= characters:
        raise ValueError(f"{size} characters and what follows them do not fit into {characters}")
    return max((characters - slack) // size, 1)


def _skipped(spare: int, length: int, seed: int, epoch: int) -> int:
    return int(seeded(seed, epoch).integers(min(spare, length)))


def stretches(text: Characters, starts: NDArray[np.int64], length: int) -> tuple[Characters, Characters]:
    """Return stretches of a text that begin at `starts`, and what follows each character: shape (starts, length)."""
    places = starts[:, None] + np.arange(length)
    return text[places], text[places + 1]
