"""Images turned and shifted: against whole-pixel moves, quarter turns and linear images, where the result is exact."""

import numpy as np
import pytest

from chainrule.data import turned_and_shifted

IMAGES = np.random.default_rng(0).random((3, 2, 5, 7))


class Given:
    """A generator whose draws are given: one angle for all images, then moves down and right."""

    def __init__(self, angle=0.0, down=0.0, right=0.0):
        self.angle, self.move = angle, np.array([down, right])

    def uniform(self, low, high, size):
        return np.broadcast_to(self.angle if size == 3 else self.move[:, None, None, None], size)


def test_without_motion_images_stay_as_they_are():
    np.testing.assert_array_equal(turned_and_shifted(IMAGES, np.random.default_rng(0), degrees=0, shift=0), IMAGES)


@pytest.mark.parametrize("down, right", [(1, 0), (0, -2), (-3, 1)])
def test_a_shift_by_whole_pixels_moves_them_and_lets_the_background_in(down, right):
    moved = turned_and_shifted(IMAGES, Given(0, down, right), degrees=0, shift=9, background=-1.0)
    padded = np.pad(IMAGES, ((0, 0), (0, 0), (3, 3), (3, 3)), constant_values=-1.0)
    np.testing.assert_allclose(moved, padded[:, :, 3 - down : 8 - down, 3 - right : 10 - right], rtol=1e-12)


@pytest.mark.parametrize("quarters", [1, 2, 3, -1])
def test_a_quarter_turn_is_that_of_numpy(quarters):
    square = IMAGES[..., :5]
    turned = turned_and_shifted(square, Given(90.0 * quarters), degrees=360, shift=0)
    np.testing.assert_allclose(turned, np.rot90(square, -quarters, axes=(2, 3)), atol=1e-12)


def test_between_pixels_values_are_interpolated_linearly():
    rows, columns = np.mgrid[:5, :7]
    ramp = np.broadcast_to(2.0 * rows - 3.0 * columns, IMAGES.shape)
    moved = turned_and_shifted(ramp, Given(0, 0.25, -0.5), degrees=0, shift=1)
    np.testing.assert_allclose(moved[..., 1:-1, 1:-1], (ramp - 0.5 - 1.5)[..., 1:-1, 1:-1], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_image_is_moved_differently_by_no_more_than_asked_and_keeps_its_dtype(dtype):
    dot = np.zeros((200, 1, 9, 9), dtype)
    dot[:, 0, 4, 4] = 1
    moved = turned_and_shifted(dot, np.random.default_rng(1), degrees=20, shift=1.5)
    assert moved.dtype == dtype
    assert len(np.unique(moved.reshape(200, -1), axis=0)) == 200
    rows, columns = np.mgrid[:9, :9] - 4
    weight = moved[:, 0].sum(axis=(1, 2))
    for places in (rows, columns):  # a dot in the middle stays there when turned
        centres = (moved[:, 0] * places).sum(axis=(1, 2)) / weight
        assert np.abs(centres).max() <= 1.5 + 0.5
        assert np.abs(centres).max() > 1
