"""`TextProblem`: the characters of a text, to learn which comes next, and the end of it to test on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from chainrule.data import DataError, Vocabulary, load_manual, read_text
from chainrule.data.text import hold_out, streams, stretches, windows
from chainrule.nn import functional as F
from chainrule.nn.module import Module
from chainrule.train.config import Config
from chainrule.train.measures import measure_text
from chainrule.train.problem import Problem
from chainrule.train.sampling import written

TEST_FRACTION = 0.1

MOST_MEASURED = 100_000
"""Characters of each part on which a network is measured after an epoch, the first ones."""

SAMPLE_LENGTH, SAMPLE_TEMPERATURE = 160, 0.8


@dataclass(frozen=True, eq=False)
class TextProblem(Problem):
    """Learning a text.

    Attributes:
        config: of the run.
        name, fingerprint: as in `Problem`.
        vocabulary: the characters of the whole text.
        train, test: the numbers of the characters of both parts.
    """

    config: Config
    name: str
    vocabulary: Vocabulary
    train: NDArray[Any]
    test: NDArray[Any]
    fingerprint: str

    @classmethod
    def load(cls, config: Config) -> TextProblem:
        """Read and divide the text of a configuration.

        Raises:
            DataError: the text cannot be used, or is too short for a single step.
        """
        name = "python-manual" if config.data is None else Path(config.data).stem
        text = load_manual() if config.data is None else read_text(config.data)
        vocabulary = Vocabulary.of(text)
        train, test = (vocabulary.encode(part) for part in hold_out(text, TEST_FRACTION))
        digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        problem = cls(config, name, vocabulary, train, test, digest)
        problem._check_length(len(text))
        return problem

    def _check_length(self, characters: int) -> None:
        needed = max(self.config.batch_size * self.length + 1, 2 / TEST_FRACTION)
        if len(self.train) < needed or len(self.test) < 2:
            what = "--bptt" if self.config.bptt else "--context"
            raise DataError(
                f"{self.config.data or 'the bundled text'}: {characters:,} characters are too few: "
                f"{len(self.train):,} are learned from, and a step of --batch-size {self.config.batch_size} and {what} "
                f"{self.length} takes {math.ceil(needed):,}; give a longer text, or make these smaller"
            )

    @property
    def inputs(self) -> int:
        return len(self.vocabulary)

    outputs = inputs

    @property
    def length(self) -> int:
        """How many characters a row of a batch has."""
        return self.config.bptt or self.config.context or 0

    def describe(self) -> str:
        return (
            f"{self.name}: {len(self.train):,} characters to learn from, the last {len(self.test):,} to test on, "
            f"{len(self.vocabulary)} different ones"
        )

    def saved(self) -> dict[str, Any]:
        return {"characters": self.vocabulary.characters}

    # Batches ---------------------------------------------------------------------------------------------------------

    def epoch(self, number: int) -> Sequence[NDArray[Any]]:
        """Where the rows of each batch begin."""
        cut = streams if self.config.bptt else windows
        return cut(len(self.train), self.config.batch_size, self.length, seed=self.config.seed, epoch=number)

    def batch(self, part: NDArray[Any]) -> tuple[Any, Any]:
        return stretches(self.train, part, self.length)

    def starts_anew(self, number: int) -> bool:
        chunks = self.config.context // self.length if self.config.context else 0
        return number % chunks == 0 if chunks else number == 0

    # Quality ---------------------------------------------------------------------------------------------------------

    @property
    def loss(self) -> Callable[[Any, Any], Any]:
        """Cross-entropy of each character, given those before it."""
        return _cross_entropy

    def measure(self, model: Module) -> dict[str, float]:
        """`test_loss` in nats, `test_bpc` in bits per character, `test_perplexity`; and the same for `train`."""
        measures: dict[str, float] = {}
        for part, text in (("train", self.train), ("test", self.test)):
            loss = measure_text(model, text[: min(MOST_MEASURED, len(self.test))])
            perplexity = math.exp(min(loss, 700))  # beyond it there are no floats
            measures |= {f"{part}_loss": loss, f"{part}_bpc": loss / math.log(2), f"{part}_perplexity": perplexity}
        return measures

    def sample(self, model: Module, seed: int) -> str:
        return "".join(written(model, self.vocabulary, SAMPLE_LENGTH, temperature=SAMPLE_TEMPERATURE, seed=seed))


def _cross_entropy(scores: Any, targets: Any) -> Any:
    return F.cross_entropy(scores.reshape(-1, scores.shape[-1]), targets.reshape(-1))
