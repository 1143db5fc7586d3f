"""Text as data: read or refused, numbered and back, and cut up so that nothing is lost or seen twice."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.data import DataError, DataFileNotFoundError, Vocabulary, load_manual, read_text
from chainrule.data.text import hold_out, streams, stretches, windows


@pytest.fixture
def book(tmp_path):
    """Return a function that writes bytes into a file and gives its path."""

    def write(content):
        path = tmp_path / "book.txt"
        path.write_bytes(content)
        return path

    return write


# Reading -------------------------------------------------------------------------------------------------------------


def test_a_file_is_read_as_utf8_without_its_mark_and_with_one_kind_of_line_end(book):
    assert read_text(book("\ufeffÜber\r\nuns\n".encode())) == "Über\nuns\n"


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataFileNotFoundError, match="no such file"):
        read_text(tmp_path / "nothing.txt")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"abc\xff", r"book\.txt: no text in UTF-8 \(byte 4 is 0xff\)"),
        (b"", "there is no text in it"),
        (b" \n", "no text"),
    ],
)
def test_what_is_no_text_is_refused(book, content, message):
    with pytest.raises(DataError, match=message):
        read_text(book(content))


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_text(tmp_path)


def test_the_bundled_manual_is_long_and_no_paragraph_of_it_comes_twice():
    text = load_manual()
    assert len(text) > 300_000
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    assert max(Counter(paragraphs).values()) == 1


# Numbers -------------------------------------------------------------------------------------------------------------


@given(st.text(min_size=1))
def test_a_text_survives_being_numbered(text):
    vocabulary = Vocabulary.of(text)
    numbers = vocabulary.encode(text)
    assert vocabulary.decode(numbers) == text
    assert set(numbers.tolist()) == set(range(len(vocabulary)))


def test_characters_that_are_not_known_are_named():
    with pytest.raises(DataError, match=r"'x', 'ß' did not occur .* known are 'abc'"):
        Vocabulary.of("cab").encode("axß")


@given(st.text(min_size=2), st.floats(0.01, 0.99))
def test_the_end_is_held_out_and_nothing_is_lost(text, fraction):
    learned, held_out = hold_out(text, fraction)
    assert learned + held_out == text
    assert len(held_out) == max(round(fraction * len(text)), 1)


# Cut up --------------------------------------------------------------------------------------------------------------


SIZES = st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 200), st.integers(0, 3))


@given(SIZES)
def test_streams_go_on_where_they_ended_and_share_the_text(sizes):
    rows, length, spare, epoch = sizes
    text = np.arange(rows * length + spare)
    chunks = [stretches(text, starts, length) for starts in streams(len(text), rows, length, seed=0, epoch=epoch)]
    inputs = np.concatenate([chunk for chunk, _ in chunks], axis=1)
    np.testing.assert_array_equal(inputs, inputs[:, :1] + np.arange(inputs.shape[1]))
    np.testing.assert_array_equal(np.concatenate([targets for _, targets in chunks], axis=1), inputs + 1)
    assert len(np.unique(inputs)) == inputs.size  # no character belongs to two rows
    assert len(text) - inputs.size <= (rows + 1) * length
    assert inputs.size % (rows * length) == 0


@given(SIZES)
def test_windows_are_stretches_that_do_not_overlap_in_an_order_of_their_own(sizes):
    rows, length, spare, epoch = sizes
    text = np.arange(rows * length + spare)
    batches = [stretches(text, starts, length) for starts in windows(len(text), rows, length, seed=0, epoch=epoch)]
    for inputs, targets in batches:
        assert inputs.shape == (rows, length)
        np.testing.assert_array_equal(targets, inputs + 1)
    seen = np.concatenate([inputs for inputs, _ in batches])
    assert len(np.unique(seen)) == seen.size
    assert len(text) - seen.size <= (rows + 1) * length


@pytest.mark.parametrize("cut", [streams, windows])
def test_every_epoch_has_as_many_batches_but_cuts_the_text_elsewhere_and_repeats_itself_exactly(cut):
    epochs = [cut(10_000, 4, 16, seed=3, epoch=epoch) for epoch in range(20)]
    assert len({len(epoch) for epoch in epochs}) == 1
    assert len({int(min(starts.min() for starts in epoch)) for epoch in epochs}) > 8
    np.testing.assert_array_equal(cut(10_000, 4, 16, seed=3, epoch=7), epochs[7])


@pytest.mark.parametrize("cut", [streams, windows])
def test_what_does_not_fit_is_refused(cut):
    with pytest.raises(ValueError, match="8 characters and what follows them do not fit into 8"):
        cut(8, 2, 4, seed=0)
    assert len(cut(9, 2, 4, seed=0)) == 1
