"""Images seen a little differently each time: turned and shifted at random.

What a picture shows does not change when it is turned by some degrees or moved by a pixel. A network that is shown
such variations cannot learn the pixels of its training images by heart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray


def turned_and_shifted(
    images: NDArray[Any], generator: Generator, *, degrees: float, shift: float, background: float = 0.0
) -> NDArray[Any]:
    """Return the images, each turned about its middle and moved by random amounts of its own.

    Between pixels, values are interpolated linearly along both axes.

    Args:
        images: floats of shape (images, channels, height, width).
        generator: draws an angle and two shifts for every image.
        degrees: angles are drawn evenly from -degrees to degrees.
        shift: pixels; moves down and to the right are drawn evenly from -shift to shift.
        background: the value of what comes in from outside.

    Returns:
        Images of the same shape and dtype.
    """
    count, _, height, width = images.shape
    angle = np.radians(generator.uniform(-degrees, degrees, count))[:, None, None]
    down, right = generator.uniform(-shift, shift, (2, count, 1, 1))
    rows, columns = np.mgrid[:height, :width]
    from_middle = rows - (height - 1) / 2 - down, columns - (width - 1) / 2 - right
    # Every pixel asks where it comes from, so the motion is undone.
    source_row = np.cos(angle) * from_middle[0] - np.sin(angle) * from_middle[1] + (height - 1) / 2
    source_column = np.sin(angle) * from_middle[0] + np.cos(angle) * from_middle[1] + (width - 1) / 2
    moved = _interpolated(images - background, source_row, source_column) + background
    return moved.astype(images.dtype, copy=False)


def _interpolated(images: NDArray[Any], row: NDArray[Any], column: NDArray[Any]) -> NDArray[Any]:
    """The images' values at places between their pixels; 0 outside. `row` and `column`: (images, height, width)."""
    _, _, height, width = images.shape
    top, left = np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)
    below, beyond = row - top, column - left
    numbers = np.arange(len(images))[:, None, None]
    total = np.zeros_like(images)
    for r, along_rows in ((top, 1 - below), (top + 1, below)):
        for c, along_columns in ((left, 1 - beyond), (left + 1, beyond)):
            inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
            corner = images[numbers, :, r.clip(0, height - 1), c.clip(0, width - 1)]  # channels come last here
            total += np.moveaxis(corner, -1, 1) * (along_rows * along_columns * inside)[:, None]
    return total
