"""Shift and scale columns to mean 0 and standard deviation 1, with statistics that a run folder can keep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.data.dataset import DataError

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Standardizer:
    """The map `(x - mean) / std`, column by column.

    Fit it on the training rows alone and apply it to both parts: statistics that have seen the test rows
    make the test result look better than it is. It serves inputs and regression targets alike.

    Attributes:
        mean: float64 of shape (columns,).
        std: float64 of shape (columns,), the population's (divided by n); 1 where a column is constant.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.mean.shape != self.std.shape:
            raise ValueError(f"mean and std are (columns,) alike, got {self.mean.shape} and {self.std.shape}")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.std).all() and (self.std > 0).all()):
            raise ValueError("mean and std are finite and std is positive")

    @classmethod
    def fit(cls, rows: FloatArray) -> "Standardizer":
        """Measure the columns of `rows`, of shape (rows, columns) with at least one row.

        Raises:
            DataError: there are no rows, or a column's numbers are too large for their variance.
        """
        if rows.ndim != 2 or len(rows) == 0:
            raise DataError(f"a standardizer is fitted on (rows, columns) of at least 1 row, got {rows.shape}")
        with np.errstate(over="ignore", invalid="ignore"):
            mean, std = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
        # Rounding gives a constant column a tiny spread, which would blow its noise up to unit size.
        std[(rows.max(axis=0) == rows.min(axis=0)) | (std == 0)] = 1
        unusable = np.flatnonzero(~np.isfinite(mean + std))
        if unusable.size:
            raise DataError(
                f"column(s) {unusable.tolist()} (counted from 0) have no finite mean and variance: "
                "remove NaN and infinity, and rescale numbers beyond 1e150"
            )
        return cls(mean, std)

    def __call__(self, rows: FloatArray) -> FloatArray:
        """Return the standardised rows, of the shape and floating dtype of `rows`."""
        self._check(rows)
        return ((rows - self.mean) / self.std).astype(np.result_type(rows, np.float32))

    def inverse(self, rows: FloatArray) -> FloatArray:
        """Return what `rows` were before standardising, of their shape and floating dtype."""
        self._check(rows)
        return (rows * self.std + self.mean).astype(np.result_type(rows, np.float32))

    def _check(self, rows: FloatArray) -> None:
        if rows.ndim != 2 or rows.shape[1] != len(self.mean):
            raise ValueError(f"this standardizer takes (rows, {len(self.mean)}), got shape {rows.shape}")

    def to_dict(self) -> dict[str, list[float]]:
        """Return the statistics as lists of floats, which JSON keeps exactly."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_dict(cls, state: Mapping[str, Sequence[float]]) -> "Standardizer":
        """Return the standardizer that `to_dict` described.

        Raises:
            ValueError: a key is missing, the lengths differ, or a number is not usable.
        """
        if set(state) != {"mean", "std"}:
            raise ValueError(f"a standardizer is kept as 'mean' and 'std', got {sorted(state)}")
        return cls(np.array(state["mean"], dtype=np.float64), np.array(state["std"], dtype=np.float64))
