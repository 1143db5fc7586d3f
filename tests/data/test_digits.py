"""The bundled digits are the UCI test set, whole and unaltered."""

import hashlib

import numpy as np
import pytest

from chainrule.data import load_digits


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def test_images_are_1797_of_8_by_8_float32_from_0_to_1(digits):
    assert digits.images.shape == (1797, 8, 8)
    assert digits.images.dtype == np.float32
    assert digits.images.min() == 0
    assert digits.images.max() == 1


def test_labels_count_as_the_source_states(digits):
    # "No of examples in testing set", from the description of the data set in the UCI repository.
    assert digits.labels.dtype == np.int64
    assert np.bincount(digits.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_every_value_is_the_one_in_the_source_file(digits):
    pixels = digits.images.reshape(-1, 64) * 16
    rows = np.column_stack([pixels, digits.labels]).astype(int)
    text = "".join(",".join(map(str, row)) + "\n" for row in rows.tolist())
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
    )


def test_the_arrays_are_the_callers_own(digits):
    spoiled = load_digits()
    spoiled.images[:] = 0
    assert load_digits().images.max() == 1


def test_as_a_data_set_they_are_rows_of_64_pixels_in_10_classes(digits):
    dataset = digits.to_dataset()
    assert repr(dataset) == "Dataset(1797 rows, 64 features, classification, 10 classes)"
    assert dataset.inputs.dtype == np.float32
    assert dataset.classes == tuple(range(10))
    assert dataset.feature_names[:2] == ("pixel[0,0]", "pixel[0,1]")
    assert dataset.feature_names[8] == "pixel[1,0]"
    np.testing.assert_array_equal(dataset.inputs[5, 8:16], digits.images[5, 1])
    np.testing.assert_array_equal(dataset.targets, digits.labels)
