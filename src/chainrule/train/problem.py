"""`Problem`: what a training asks of its data. Rows and images are `row_problem`, text is `text_problem`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from chainrule.nn.module import Module


class Problem(ABC):
    """What a run learns.

    Attributes:
        name: of the data, for titles and the run folder.
        fingerprint: a digest of the data, the same only for the same data.
    """

    name: str
    fingerprint: str

    @property
    @abstractmethod
    def inputs(self) -> int:
        """How many numbers a row has, or how many characters there are."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """How many numbers the network gives: one per class, column to predict, or character that may follow."""

    @abstractmethod
    def describe(self) -> str:
        """One line: what there is to learn from."""

    @abstractmethod
    def saved(self) -> dict[str, Any]:
        """What whoever uses the trained network must know of the data: names, scales, characters."""

    @abstractmethod
    def epoch(self, number: int) -> Sequence[Any]:
        """What an epoch's batches are made of, each to be given to `batch`; as many in every epoch."""

    @abstractmethod
    def batch(self, part: Any) -> tuple[Any, Any]:
        """Inputs and targets of a batch, by one element of `epoch`."""

    def starts_anew(self, number: int) -> bool:
        """Whether the state that a recurrent network carries is forgotten before batch `number` of an epoch."""
        return True

    @property
    @abstractmethod
    def loss(self) -> Callable[[Any, Any], Any]:
        """What is to become small: a function of outputs and targets, averaged over what a batch has."""

    @abstractmethod
    def measure(self, model: Module) -> dict[str, float]:
        """Loss and quality on both parts of the data: `train_loss`, `test_accuracy` and so on."""

    def sample(self, model: Module, seed: int) -> str | None:
        """Something that the network makes, to be shown; None where it makes nothing."""
        return None
