"""`Problem`: the rows a run learns from and is tested on, as a network wants them.

Reading and splitting is `chainrule.data`. Here a data set becomes standardised arrays of the run's dtype, and knows
how to tell itself from another one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.data import Dataset, Standardizer, load_digits, read_table, split
from chainrule.train.config import Config

TEST_FRACTION = 0.2

SPLIT_SEED = 0
"""The same rows are held out whatever the seed of a run, so that runs can be compared."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What a run learns.

    Attributes:
        name: of the data, for titles and the run folder.
        train_inputs, test_inputs: standardised, shape (rows, features).
        train_targets, test_targets: int64 of shape (rows,), or for regression standardised, shape (rows, outputs).
        input_scale: how the inputs were standardised, by the training rows.
        target_scale: how regression targets were; None for classification.
        features, classes: names, as in `Dataset`.
        fingerprint: a digest of the data, the same only for the same rows.
    """

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
    def load(cls, config: Config) -> Problem:
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
        input_scale = Standardizer.fit(train.inputs)
        target_scale = Standardizer.fit(train.targets) if dataset.task == "regression" else None

        def inputs(part: Dataset) -> NDArray[Any]:
            return input_scale(part.inputs).astype(dtype)

        def targets(part: Dataset) -> NDArray[Any]:
            return part.targets if target_scale is None else target_scale(part.targets).astype(dtype)

        return cls(
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
    def outputs(self) -> int:
        """How many numbers the network gives for a row: one per class, or one per column to predict."""
        return len(self.classes) or self.train_targets.shape[1]

    def describe(self) -> str:
        """One line: what there is to learn from."""
        task = f"{len(self.classes)} classes" if self.classes else "regression"
        return (
            f"{self.name}: {len(self.train_inputs):,} rows to learn from, {len(self.test_inputs):,} to test on, "
            f"{len(self.features):,} features, {task}"
        )


def _digest(dataset: Dataset) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in (dataset.inputs, dataset.targets):
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).data)
    digest.update(repr((dataset.feature_names, dataset.classes)).encode())
    return digest.hexdigest()
