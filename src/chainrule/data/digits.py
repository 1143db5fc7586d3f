"""The bundled data set: 1,797 handwritten digits of 8 x 8 pixels.

Source, licence and what was changed are stated in LICENSE-digits.md beside the file.
"""

from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chainrule.data.dataset import Dataset

FULL_INK = 16
"""The largest stored pixel: every pixel counts the ink in one 4 x 4 block of the 32 x 32 scan."""


class Digits(NamedTuple):
    """Handwritten digits: `images` float32 (1797, 8, 8) from 0 (paper) to 1 (ink); `labels` int64 (1797,)."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def to_dataset(self) -> Dataset:
        """Return them as rows of 64 pixels with the digits 0 to 9 as classes."""
        return Dataset(
            inputs=self.images.reshape(len(self.images), -1),
            targets=self.labels,
            task="classification",
            feature_names=tuple(f"pixel[{row},{column}]" for row, column in np.ndindex(8, 8)),
            classes=tuple(range(10)),
        )


def load_digits() -> Digits:
    """Return the bundled digits, the test set of UCI's "Optical Recognition of Handwritten Digits".

    Source: E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository, doi:10.24432/C50P49, CC BY 4.0.
    """
    with (files(__package__) / "digits.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return Digits(arrays["images"].astype(np.float32) / FULL_INK, arrays["labels"].astype(np.int64))
