"""What a data set is once it has been read: inputs, targets and their names; and the error for bad data.

Reading files is `table` and `digits`; drawing rows is `sampling`.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["classification", "regression"]


class DataError(ValueError):
    """Data that cannot be trained on; the message names the file, the column and what to do."""


class DataFileNotFoundError(DataError, FileNotFoundError):
    """The data file is not there."""


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Rows to learn from.

    Attributes:
        inputs: floats of shape (rows, features).
        targets: for classification int64 of shape (rows,), each an index into `classes`; for regression
            floats of shape (rows, outputs), two-dimensional even for one output, as a network's output is.
        task: "classification" or "regression".
        feature_names: one name per column of `inputs`.
        classes: the classes as the data spells them, in sorted order; empty for regression.
    """

    inputs: NDArray[np.floating[Any]]
    targets: NDArray[Any]
    task: Task
    feature_names: tuple[str, ...]
    classes: tuple[str | int | float | bool, ...] = ()

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        classes = f", {len(self.classes)} classes" if self.classes else ""
        return f"Dataset({len(self)} rows, {len(self.feature_names)} features, {self.task}{classes})"

    def take(self, rows: NDArray[np.integer[Any]]) -> "Dataset":
        """Return the data set of these row numbers, in their order."""
        return replace(self, inputs=self.inputs[rows], targets=self.targets[rows])
