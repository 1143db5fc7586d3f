"""A table one cannot learn from is refused by an error that names path and column and says what to do."""

import datetime
import pickle
import random
import re
import zipfile

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.data import DataError, DataFileNotFoundError, read_table


@pytest.fixture
def refusal(tmp_path):
    """Read a table that has to be refused and return the message, which has to start with the path."""

    def read(name, content, target="y", **options):
        path = tmp_path / name
        if isinstance(content, dict):
            frame_or_arrays = content
            if path.suffix == ".npz":
                np.savez(path, **frame_or_arrays)
            elif path.suffix == ".parquet":
                pl.DataFrame(frame_or_arrays).write_parquet(path)
            else:
                pl.DataFrame(frame_or_arrays).write_csv(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(DataError) as caught:
            read_table(path, target, **options)
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        return message.removeprefix(f"{path}: ")

    return read


EACH_FORMAT = pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.npz"])


# The file


def test_a_missing_file_is_a_data_error_and_a_file_not_found_error(tmp_path):
    with pytest.raises(DataFileNotFoundError, match=r"nowhere\.csv: no such file") as caught:
        read_table(tmp_path / "nowhere.csv", "y")
    assert isinstance(caught.value, DataError)
    assert isinstance(caught.value, FileNotFoundError)


def test_an_unknown_extension_is_refused_with_the_known_ones(refusal):
    assert refusal("t.xlsx", "a,y\n1,2\n") == ("unknown extension '.xlsx'; a table is one of .csv, .npz, .parquet")


@EACH_FORMAT
def test_a_folder_is_not_a_table(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_table(tmp_path / name, "y")


@pytest.mark.parametrize("name, what", [("t.csv", "empty"), ("t.parquet", "Parquet"), ("t.npz", "NPZ")])
def test_an_empty_file_is_refused(refusal, name, what):
    assert what in refusal(name, b"")


@EACH_FORMAT
def test_a_table_without_rows_is_refused(refusal, name):
    content = "a,y\n" if name == "t.csv" else {"a": np.zeros(0), "y": np.zeros(0)}
    assert "the table is empty" in refusal(name, content)


def test_a_table_of_the_target_alone_is_refused(refusal):
    assert "no column besides the target 'y'" in refusal("t.csv", "y\n1\n2\n")
    assert "no column besides" in refusal("t.csv", "a,y\n1,1\n2,2\n", drop=["a"])
    assert "no column besides" in refusal("t.npz", {"a": np.zeros((2, 0)), "y": [1, 2]})


# Names


@EACH_FORMAT
def test_a_missing_target_is_refused_with_the_columns_there_are(refusal, name):
    message = refusal(name, {"Height": [1, 2], "width": [1, 2]}, target="heigth")
    assert message == "no column 'heigth'. Did you mean 'Height'? The columns are 'Height', 'width'."
    assert "Did you mean 'width'?" in refusal(name, {"Height": [1, 2], "width": [1, 2]}, target="WIDTH")


def test_a_long_list_of_columns_is_cut(refusal):
    message = refusal("t.csv", {f"c{i}": [1] for i in range(25)}, target="zzz")
    assert "'c19' and 5 more." in message
    assert "'c20'" not in message
    assert "mean" not in message


def test_a_column_to_drop_has_to_be_there_and_not_the_target(refusal):
    assert "no column 'b'" in refusal("t.csv", "a,y\n1,2\n", drop=["b"])
    assert "'y' is the target and cannot be dropped" in refusal("t.csv", "a,y\n1,2\n", drop=["y"])


def test_duplicate_columns_are_refused(refusal, tmp_path):
    assert "duplicate column name 'a'" in refusal("t.csv", "a,y,a\n1,2,3\n")
    np.save(tmp_path / "a.npy", np.zeros(2))
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.write(tmp_path / "a.npy", "a.npy")
        archive.write(tmp_path / "a.npy", "a")
    assert "duplicate column name 'a'" in refusal("t.npz", (tmp_path / "z").read_bytes(), target="a")


def test_two_columns_that_make_an_input_of_one_name_are_refused(refusal):
    assert "duplicate column name 'a=u'" in refusal("t.csv", "a,a=u,y\nu,1,1.5\nv,2,2.5\n")


def test_a_column_without_a_name_is_refused(refusal):
    assert "column 1 has no name" in refusal("t.csv", ",a,y\n0,1,2\n1,2,3\n")


# Missing and infinite values


def test_missing_cells_of_a_csv_are_counted_by_column_and_row(refusal):
    text = "a,b,y\n1,u,1\n,u,2\n3,NA,?\n4,u,4\n" + "NaN,u,1\n" * 6
    assert refusal("t.csv", text) == (
        "missing values (empty or one of 'NA', 'N/A', 'n/a', 'NaN', 'nan', 'NULL', 'null', '?') "
        "in column 'a': 7 (rows 2, 5, 6, 7, 8, ...); column 'b': 1 (row 3); column 'y': 1 (row 3). "
        "Rows are counted from 1, without a header. Fill them in, remove those rows, or drop the column."
    )


def test_blank_lines_are_skipped_but_counted(refusal):
    assert "column 'a': 1 (row 4)" in refusal("t.csv", "a,y\n\n1,2\n\n,3\n")


@pytest.mark.parametrize("name", ["t.parquet", "t.npz"])
def test_nan_is_missing(refusal, name):
    message = refusal(name, {"a": [1.0, np.nan, np.nan], "y": [1.5, 2.5, np.nan]})
    assert "missing values" in message
    assert "column 'a': 2 (rows 2, 3); column 'y': 1 (row 3)." in message


@pytest.mark.parametrize("values", [[1, None], ["u", None], [True, None], [None, None]])
def test_a_null_in_parquet_is_missing_whatever_the_column_holds(refusal, values):
    assert "missing values (null or NaN) in column 'a'" in refusal("t.parquet", {"a": values, "y": [1.0, 2.0]})


def test_a_row_of_a_wide_npz_array_is_named_once(refusal):
    images = np.zeros((4, 3, 3))
    images[2, 0, 1] = images[2, 2, 2] = np.nan
    assert "column 'images': 1 (row 3)" in refusal("t.npz", {"images": images, "y": [1.5, 2.5, 3.5, 4.5]})


def test_the_columns_of_a_long_report_are_cut(refusal):
    message = refusal("t.parquet", {f"c{i}": [np.nan, 1.0] for i in range(25)} | {"y": [1.5, 2.5]})
    assert "column 'c19'" in message
    assert "and 5 more columns" in message
    assert "'c20'" not in message


@EACH_FORMAT
def test_infinity_is_refused_with_its_row(refusal, name):
    message = refusal(name, {"a": [1.0, 2.0, -np.inf], "y": [1.5, np.inf, 2.5]})
    assert "infinite numbers in column 'a': 1 (row 3); column 'y': 1 (row 2)." in message


def test_a_number_beyond_float64_is_infinite(refusal):
    assert "infinite numbers in column 'a': 1 (row 2)" in refusal("t.csv", "a,y\n1,1\n1e999,2\n")


# What columns hold


@EACH_FORMAT
@pytest.mark.parametrize("column", ["when", "y"])
def test_dates_are_refused_as_feature_and_as_target(refusal, name, column):
    days = [datetime.date(2024, 2, day) for day in (1, 2, 2)]
    if name == "t.npz":
        days = np.array(days, dtype="datetime64[D]")
    columns = {"when": [1, 2, 3], "y": [1.5, 2.5, 3.5]} | {column: days}
    message = refusal(name, columns)
    assert f"column {column!r} holds dates or times" in message
    assert "drop it" in message


@pytest.mark.parametrize(
    "cells",
    [
        ["2024-02-29", "2024-03-01"],
        ["29.2.2024", "1.3.2024"],
        ["02/29/2024 10:15", "03/01/2024 11:20"],
        ["2024-02-29T10:15:00Z", "2024-03-01T10:15:00.5+01:00"],
        ["10:15", "23:59:59"],
    ],
)
def test_dates_written_as_text_are_refused(refusal, cells):
    assert "'a' holds dates" in refusal("t.csv", f"a,y\n{cells[0]},1.5\n{cells[1]},2.5\n")


def test_an_identifier_is_refused_with_the_advice_to_drop_it(refusal):
    message = refusal("t.csv", "a,y\n" + "".join(f"id{i},{i}.5\n" for i in range(60)))
    assert message == (
        "column 'a' holds 60 different strings, and at most 50 are one-hot encoded. "
        "If it is an identifier, a name or free text, drop it"
    )


def test_numbers_spoiled_by_a_stray_text_are_refused_with_that_text(refusal):
    message = refusal("t.csv", "a,y\n" + "".join(f"{i},{i}.5\n" for i in range(60)) + "unknown,1.5\n")
    assert "Most are numbers: if all should be, correct 'unknown' and the like." in message


def test_numbers_saved_as_strings_are_refused_as_such(refusal):
    columns = {"a": [str(i) for i in range(60)], "y": [i + 0.5 for i in range(60)]}
    assert "All are numbers: save them as such." in refusal("t.npz", columns)


@pytest.mark.parametrize(
    "column, dtype",
    [
        ([[1], [2]], "List"),
        ([{"b": 1}, {"b": 2}], "Struct"),
        ([b"1", b"2"], "Binary"),
        ([datetime.time(1), datetime.time(2)], "Time"),
    ],
)
def test_parquet_columns_of_other_things_are_refused(refusal, column, dtype):
    assert f"column 'a' holds {dtype}" in refusal("t.parquet", {"a": column, "y": [1.5, 2.5]})


@pytest.mark.parametrize("column", [np.array([1j, 2j]), np.array([b"a", b"b"]), np.zeros(2, [("f", float)])])
def test_npz_arrays_of_other_things_are_refused(refusal, column):
    assert "column 'a' holds " in refusal("t.npz", {"a": column, "y": [1.5, 2.5]})


def test_npz_strings_of_two_dimensions_are_refused(refusal):
    assert "one array per column" in refusal("t.npz", {"a": np.array([["u", "v"]] * 2), "y": [1.5, 2.5]})


# The target


@EACH_FORMAT
@pytest.mark.parametrize("value", [3, 3.5, "x", True])
def test_a_target_that_is_the_same_everywhere_is_refused(refusal, name, value):
    message = refusal(name, {"a": [1, 2, 3], "y": [value] * 3})
    assert re.match(f"the target 'y' is {value} in every row", message, re.IGNORECASE)


@EACH_FORMAT
def test_a_target_of_names_that_never_repeat_is_refused(refusal, name):
    message = refusal(name, {"a": [1, 2, 3], "y": ["u", "v", "w"]})
    assert "'y' has a different value in each of 3 rows" in message


def test_strings_cannot_be_regressed(refusal):
    assert "'y' holds strings" in refusal("t.csv", "a,y\n1,u\n2,v\n3,u\n", task="regression")


def test_classes_are_one_per_row(refusal):
    one_hot = {"a": [1, 2, 3], "y": np.array([[1, 0], [0, 1], [1, 0]])}
    assert "argmax" in refusal("t.npz", one_hot, task="classification")
    assert "argmax" in refusal("t.npz", one_hot | {"y": one_hot["y"].astype(bool)})


def test_an_unknown_task_is_a_value_error(tmp_path):
    with pytest.raises(ValueError, match="task is one of"):
        read_table(tmp_path / "t.csv", "y", task="clustering")


# Damaged files


@pytest.mark.parametrize(
    "text, line, cells", [("a,b,y\n1,2,3\n1,2,3,4\n", 3, 4), ("a,b,y\n1,2,3\n4,5,6\n1,2\n7,8,9\n", 4, 2)]
)
def test_ragged_lines_are_named_by_their_number(refusal, text, line, cells):
    assert f"line {line} has {cells} cells and the header 3" in refusal("t.csv", text)


@pytest.mark.parametrize("text", ["ä,y\n1,2\n2,3\n", "a,y\nö,1\nu,2\n"], ids=["header", "cell"])
def test_a_csv_in_another_encoding_is_refused(refusal, text):
    assert "not a CSV in UTF-8" in refusal("t.csv", text.encode("latin-1"))
    assert 'save it again as "CSV UTF-8"' in refusal("t.csv", text.encode("latin-1"))


def test_a_quote_that_never_ends_is_refused(refusal):
    refusal("t.csv", 'a,y\n"u,1\nv,2\nw,1\n')


def test_a_quote_inside_a_cell_is_refused(refusal):
    assert "not a readable CSV" in refusal("t.csv", 'a,y\nu,1\n3,"4"5\n')


def test_a_parquet_file_cut_short_is_refused(refusal, tmp_path):
    pl.DataFrame({"a": range(100), "y": range(100)}).write_parquet(tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    assert "not a readable Parquet file" in refusal("t.parquet", whole[: len(whole) // 2])


def test_an_npz_that_is_no_archive_is_refused(refusal, tmp_path):
    np.save(tmp_path / "lone.npy", np.zeros(3))
    assert "not an NPZ archive" in refusal("t.npz", (tmp_path / "lone.npy").read_bytes())


class Trap:
    """Unpickling one of these leaves a mark."""

    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


def test_pickles_are_never_loaded(refusal):
    trap = np.empty(2, dtype=object)
    trap[:] = [Trap(), Trap()]
    assert "never loaded" in refusal("t.npz", {"a": trap, "y": [1.5, 2.5]})
    refusal("t.npz", pickle.dumps(Trap()))
    assert not Trap.sprung


def test_an_npz_member_that_is_no_array_is_refused(refusal, tmp_path):
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("y", "no array")
    assert "'y' is not an array" in refusal("t.npz", (tmp_path / "z").read_bytes())
    assert "'y' is not an array" in refusal("t.npz", {"y": np.float64(1)})


def test_npz_arrays_of_different_lengths_are_refused(refusal):
    assert "{'a': 2, 'y': 3}" in refusal("t.npz", {"a": [1, 2], "y": [1, 2, 3]})


def damaged(content, seed):
    """Return `content` cut short, or with a few bytes changed."""
    rng = random.Random(seed)
    if rng.random() < 0.3:
        return content[: rng.randrange(len(content))]
    spoiled = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        spoiled[rng.randrange(len(spoiled))] = rng.randrange(256)
    return bytes(spoiled)


@EACH_FORMAT
@given(seed=st.integers(0, 2**32))
def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path_factory, name, seed):
    path = tmp_path_factory.mktemp("damaged") / name
    columns = {"a": [0.5 * i for i in range(50)], "b": ["u", "v"] * 25, "y": [0, 1] * 25}
    if name == "t.npz":
        np.savez_compressed(path, **columns)
    elif name == "t.parquet":
        pl.DataFrame(columns).write_parquet(path)
    else:
        pl.DataFrame(columns).write_csv(path)
    path.write_bytes(damaged(path.read_bytes(), seed))
    try:
        dataset = read_table(path, "y")
    except DataError as error:
        assert str(error).startswith(str(path))  # noqa: PT017 - being refused is one of two good outcomes
    else:
        assert np.isfinite(dataset.inputs).all()
