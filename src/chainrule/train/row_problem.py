"""`RowProblem`: rows of a table, or images, to learn from and to test on, as a network wants them.

Reading and splitting is `chainrule.data`. Here a data set becomes standardised arrays of the run's dtype, and knows
how to tell itself from another one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.data import Dataset, Standardizer, batches, load_digits, read_table, split, turned_and_shifted
from chainrule.data.sampling import seeded
from chainrule.nn import functional as F
from chainrule.nn.module import Module
from chainrule.train.config import Config
from chainrule.train.measures import measure
from chainrule.train.problem import Problem

TEST_FRACTION = 0.2

SPLIT_SEED = 0
"""The same rows are held out whatever the seed of a run, so that runs can be compared."""

IMAGE_SHAPE = (1, 8, 8)
"""Channels, height and width of the digits."""

AUGMENTATION = 1
"""Tells the random numbers of an epoch's augmentation from those of its order."""


@dataclass(frozen=True, eq=False)
class RowProblem(Problem):
    """Learning a column of a table from the others, or what an image shows.

    Attributes:
        config: of the run.
        name, fingerprint: as in `Problem`.
        train_inputs, test_inputs: standardised, shape (rows, features) or (rows, channels, height, width).
        train_targets, test_targets: int64 of shape (rows,), or for regression standardised, shape (rows, outputs).
        input_scale: how the inputs were standardised, by the training rows.
        target_scale: how regression targets were; None for classification.
        features, classes: names, as in `Dataset`.
    """

    config: Config
    name: str
    train_inputs: NDArray[Any]
    train_targets: NDArray[Any]
    test_inputs: NDArray[Any]
    test_targets: NDArray[Any]
    input_scale: Standardizer
    target_scale: Standardizer | None
    features: tuple[str, ...]
    classes: tuple[Any, ...]
    fingerprint: str

    @classmethod
    def load(cls, config: Config) -> RowProblem:
        """Read, split and standardise the data of a configuration.

        Raises:
            DataError: the table cannot be used.
        """
        if config.data is None:
            name, dataset = "digits", load_digits().to_dataset()
        else:
            name = Path(config.data).stem
            dataset = read_table(config.data, str(config.target), task=config.task, drop=config.drop)  # type: ignore[arg-type]
        train, test = split(dataset, TEST_FRACTION, seed=SPLIT_SEED)
        dtype = np.dtype(config.dtype)
        images = config.model == "cnn"
        input_scale = _one_for_all_pixels(train.inputs) if images else Standardizer.fit(train.inputs)
        target_scale = Standardizer.fit(train.targets) if dataset.task == "regression" else None

        def inputs(part: Dataset) -> NDArray[Any]:
            rows = input_scale(part.inputs).astype(dtype)
            return rows.reshape(-1, *IMAGE_SHAPE) if images else rows

        def targets(part: Dataset) -> NDArray[Any]:
            return part.targets if target_scale is None else target_scale(part.targets).astype(dtype)

        return cls(
            config,
            name,
            inputs(train),
            targets(train),
            inputs(test),
            targets(test),
            input_scale,
            target_scale,
            dataset.feature_names,
            dataset.classes,
            _digest(dataset),
        )

    @property
    def inputs(self) -> int:
        return len(self.features)

    @property
    def outputs(self) -> int:
        return len(self.classes) or self.train_targets.shape[1]

    def describe(self) -> str:
        task = f"{len(self.classes)} classes" if self.classes else "regression"
        what = "{2} × {1} pixels".format(*IMAGE_SHAPE) if self._images else f"{len(self.features):,} features"
        return (
            f"{self.name}: {len(self.train_inputs):,} {'images' if self._images else 'rows'} to learn from, "
            f"{len(self.test_inputs):,} to test on, {what}, {task}"
        )

    def saved(self) -> dict[str, Any]:
        return {
            "features": list(self.features),
            "classes": list(self.classes),
            "input_scale": _arrays_of(self.input_scale),
            "target_scale": _arrays_of(self.target_scale),
        }

    # Batches ---------------------------------------------------------------------------------------------------------

    def epoch(self, number: int) -> Sequence[tuple[NDArray[Any], tuple[int, int]]]:
        """The rows of each batch, and the numbers of the epoch and the batch."""
        rows, size = len(self.train_inputs), self.config.batch_size
        # Batch normalisation has no statistics of a single row that is left over.
        lone_row = self.config.norm == "batch" and rows % size == 1 and rows > 1
        parts = batches(rows, size, seed=self.config.seed, epoch=number, drop_last=lone_row)
        return [(rows_of_part, (number, place)) for place, rows_of_part in enumerate(parts)]

    def batch(self, part: tuple[NDArray[Any], tuple[int, int]]) -> tuple[Any, Any]:
        rows, place = part
        inputs, targets = self.train_inputs[rows], self.train_targets[rows]
        turn, shift = self.config.turn, self.config.shift
        if turn or shift:
            random = seeded(self.config.seed, *place, AUGMENTATION)
            inputs = turned_and_shifted(inputs, random, degrees=turn or 0, shift=shift or 0, background=self._paper)
        return inputs, targets

    @property
    def _images(self) -> bool:
        return self.train_inputs.ndim > 2

    @property
    def _paper(self) -> float:
        """What an empty pixel has become."""
        return float(-self.input_scale.mean[0] / self.input_scale.std[0])

    # Quality ---------------------------------------------------------------------------------------------------------

    @property
    def loss(self) -> Callable[[Any, Any], Any]:
        """Cross-entropy for classes, the mean square for numbers."""
        return F.cross_entropy if self.classes else F.mse_loss

    def measure(self, model: Module) -> dict[str, float]:
        measures: dict[str, float] = {}
        for part, inputs, targets in (
            ("train", self.train_inputs, self.train_targets),
            ("test", self.test_inputs, self.test_targets),
        ):
            found = measure(model, self.loss, inputs, targets, self.target_scale)
            measures |= {f"{part}_{name}": value for name, value in found.items()}
        return measures


def _one_for_all_pixels(rows: NDArray[Any]) -> Standardizer:
    """The same mean and deviation for every column, so that ink counts as much wherever it is."""
    whole = Standardizer.fit(rows.reshape(-1, 1))
    return Standardizer(*(np.repeat(statistic, rows.shape[1]) for statistic in (whole.mean, whole.std)))


def _arrays_of(scale: Standardizer | None) -> dict[str, Any] | None:
    return None if scale is None else {"mean": scale.mean, "std": scale.std}


def _digest(dataset: Dataset) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in (dataset.inputs, dataset.targets):
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).data)
    digest.update(repr((dataset.feature_names, dataset.classes)).encode())
    return digest.hexdigest()
