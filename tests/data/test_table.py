"""`read_table` reads the same data set from a CSV, a Parquet file and an NPZ archive."""

import string
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chainrule.data import MAX_CATEGORIES, MAX_INTEGER_CLASSES, read_table

FLOWERS = {
    "width": [1.5, 2.25, -3.0, 4.0],
    "petals": [5, 6, 5, 7],
    "red": [True, False, False, True],
    "soil": ["sand", "clay", "sand", "peat"],
    "kind": ["rose", "aster", "rose", "aster"],
}


def write_csv(path, columns):
    pl.DataFrame(columns).write_csv(path)


def write_parquet(path, columns):
    pl.DataFrame(columns).write_parquet(path)


def write_npz(path, columns):
    np.savez(path, **columns)


WRITERS = {".csv": write_csv, ".parquet": write_parquet, ".npz": write_npz}


@pytest.fixture(params=WRITERS)
def write(request, tmp_path):
    """Write columns in each format and return the path."""

    def to_file(columns):
        path = tmp_path / f"table{request.param}"
        WRITERS[request.param](path, columns)
        return path

    return to_file


@pytest.fixture
def write_text(tmp_path):
    def to_file(text):
        path = tmp_path / "table.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return to_file


# Features


def test_numbers_stay_booleans_become_0_and_1_and_strings_become_one_hot(write):
    dataset = read_table(write(FLOWERS), "kind")
    assert dataset.feature_names == ("width", "petals", "red", "soil=clay", "soil=peat", "soil=sand")
    assert dataset.inputs.dtype == np.float64
    assert dataset.inputs.tolist() == [
        [1.5, 5, 1, 0, 0, 1],
        [2.25, 6, 0, 1, 0, 0],
        [-3, 5, 0, 0, 0, 1],
        [4, 7, 1, 0, 1, 0],
    ]


def test_a_path_may_be_a_string_and_its_extension_in_capitals(tmp_path):
    write_csv(tmp_path / "FLOWERS.CSV", FLOWERS)
    assert len(read_table(str(tmp_path / "FLOWERS.CSV"), "kind")) == 4


def test_the_target_may_stand_anywhere_among_the_columns(write):
    dataset = read_table(write(FLOWERS), "red", drop=["soil", "kind"])
    assert dataset.feature_names == ("width", "petals")
    assert dataset.targets.tolist() == [1, 0, 0, 1]


def test_dropped_columns_are_left_out_whatever_is_wrong_in_them(write_text):
    dataset = read_table(
        write_text("id,when,a,y\n,2020-01-01,1,x\n,2020-01-02,2,z\n7,,3,x\n"), "y", drop=["id", "when"]
    )
    assert dataset.feature_names == ("a",)
    assert len(dataset) == 3


def test_a_single_column_to_drop_may_be_given_by_its_name(write):
    path = write({"id": ["u", "v", "w"], "i": [1, 2, 3], "y": [0.5, 1.5, 2.5]})
    assert read_table(path, "y", drop="id").feature_names == ("i",)


@pytest.mark.parametrize("count, fits", [(MAX_CATEGORIES, True), (MAX_CATEGORIES + 1, False)])
def test_the_documented_number_of_categories_is_the_limit(write, count, fits):
    path = write({"a": [f"c{i}" for i in range(count)], "y": [float(i) for i in range(count)]})
    if fits:
        assert read_table(path, "y").inputs.shape == (count, count)
    else:
        with pytest.raises(ValueError, match=f"'a' holds {count} different strings"):
            read_table(path, "y")


def test_npz_arrays_of_more_dimensions_become_one_input_per_entry(tmp_path):
    image, pair = np.arange(12.0).reshape(3, 2, 2), np.arange(6).reshape(3, 2)
    np.savez(tmp_path / "t.npz", image=image, pair=pair, y=[0.5, 1.5, 2.5])
    dataset = read_table(tmp_path / "t.npz", "y")
    assert dataset.feature_names == (
        "image[0,0]",
        "image[0,1]",
        "image[1,0]",
        "image[1,1]",
        "pair[0]",
        "pair[1]",
    )
    np.testing.assert_array_equal(dataset.inputs, np.hstack([image.reshape(3, 4), pair]))


@given(
    st.sampled_from([np.float64, np.int32, np.uint64, np.bool_]).flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            st.tuples(st.integers(2, 6), st.integers(1, 4)),
            elements={"allow_nan": False, "allow_infinity": False} if dtype is np.float64 else None,
        )
    )
)
def test_what_is_written_is_what_is_read_in_every_format(tmp_path_factory, matrix):
    folder = tmp_path_factory.mktemp("formats")
    columns = {f"c{i}": matrix[:, i] for i in range(matrix.shape[1])}
    columns["y"] = np.arange(len(matrix)) + 0.5
    for suffix, writer in WRITERS.items():
        writer(folder / f"t{suffix}", columns)
        np.testing.assert_array_equal(read_table(folder / f"t{suffix}", "y").inputs, matrix.astype(np.float64))


def test_parquet_categoricals_enums_and_decimals_are_read(tmp_path):
    frame = pl.DataFrame(
        {
            "categorical": pl.Series(["u", "v", "u"], dtype=pl.Categorical),
            "enum": pl.Series(["p", "p", "q"], dtype=pl.Enum(["q", "p"])),
            "decimal": pl.Series(["1.25", "2.5", "3.0"]).cast(pl.Decimal(10, 2)),
            "wide": pl.Series([1, 2, 3], dtype=pl.Int128),
            "y": [0.1, 0.2, 0.3],
        }
    )
    frame.write_parquet(tmp_path / "t.parquet")
    dataset = read_table(tmp_path / "t.parquet", "y")
    assert dataset.feature_names == (
        "categorical=u",
        "categorical=v",
        "enum=p",
        "enum=q",
        "decimal",
        "wide",
    )
    assert dataset.inputs.tolist() == [
        [1, 0, 1, 0, 1.25, 1],
        [0, 1, 1, 0, 2.5, 2],
        [1, 0, 0, 1, 3.0, 3],
    ]


# CSV


@pytest.mark.parametrize(
    "text",
    [
        "a,b,y\n1,u,2.5\n2,v,3.5\n",
        "a;b;y\n1;u;2.5\n2;v;3.5\n",
        "a\tb\ty\n1\tu\t2.5\n2\tv\t3.5\n",
        "a,b,y\r\n1,u,2.5\r\n2,v,3.5\r\n",
        " a , b , y\n 1 , u , 2.5\n 2 , v , 3.5\n",
        '"a","b","y"\n"1","u","2.5"\n"2","v","3.5"\n',
        "\ufeffa,b,y\n1,u,2.5\n2,v,3.5\n",
        "\na,b,y\n\n1,u,2.5\n\n2,v,3.5\n\n\n",
        "a,b,y\n1,u,2.5\n2,v,3.5",
    ],
    ids=["comma", "semicolon", "tab", "crlf", "spaces", "quotes", "bom", "blank lines", "no last newline"],
)
def test_dialects_of_csv_read_alike(write_text, text):
    dataset = read_table(write_text(text), "y")
    assert dataset.feature_names == ("a", "b=u", "b=v")
    assert dataset.inputs.tolist() == [[1, 1, 0], [2, 0, 1]]
    assert dataset.targets.tolist() == [[2.5], [3.5]]


def test_quoted_cells_may_hold_separators_quotes_and_line_breaks(write_text):
    dataset = read_table(write_text('a,y\n"u,v",1.5\n"w""x",2.5\n"line\nbreak",3.5\n'), "y")
    assert dataset.feature_names == ("a=line\nbreak", "a=u,v", 'a=w"x')


@pytest.mark.parametrize(
    "cells, expected",
    [
        (["1", "-2", "+3"], [1, -2, 3]),
        (["1", "2.5", "1e3"], [1, 2.5, 1000]),
        (["TRUE", "false", "True"], [1, 0, 1]),
        (["1", "99999999999999999999", "3"], [1, 1e20, 3]),
    ],
)
def test_a_csv_column_is_numbers_only_if_every_cell_is_one(write_text, cells, expected):
    rows = "".join(f"{cell},{i}.5\n" for i, cell in enumerate(cells))
    assert read_table(write_text("a,y\n" + rows), "y").inputs[:, 0].tolist() == expected
    mixed = read_table(write_text("a,y\n" + rows + "other,9.5\n"), "y")
    assert mixed.feature_names[0].startswith("a=")


def test_a_date_among_words_is_a_category(write):
    path = write({"a": ["2024-02-29", "never", "never"], "y": [0.5, 1.5, 2.5]})
    assert read_table(path, "y").feature_names == ("a=2024-02-29", "a=never")


TEXT = st.text(string.ascii_letters + " ,;\"'\n\té", min_size=1).map(str.strip).filter(bool)


@given(st.lists(TEXT, min_size=2, max_size=8))
def test_any_text_survives_the_way_through_a_csv(tmp_path_factory, cells):
    cells = [f"_{cell}_" for cell in cells]  # neither a date nor a mark for a missing value
    path = tmp_path_factory.mktemp("text") / "t.csv"
    write_csv(path, {"a": cells, "y": [i + 0.5 for i in range(len(cells))]})
    dataset = read_table(path, "y")
    names = sorted(set(cells))
    assert dataset.feature_names == tuple(f"a={name}" for name in names)
    assert [names[i] for i in dataset.inputs.argmax(axis=1)] == cells


# Targets


@pytest.mark.parametrize(
    "values, classes, targets",
    [
        (["b", "a", "b", "a"], ("a", "b"), [1, 0, 1, 0]),
        ([True, False, True, True], (False, True), [1, 0, 1, 1]),
        ([10, 9, 10, 9], (9, 10), [1, 0, 1, 0]),
        ([-1, 1, -1, 1], (-1, 1), [0, 1, 0, 1]),
    ],
)
def test_strings_booleans_and_few_integers_are_classes_named_as_given_in_sorted_order(write, values, classes, targets):
    dataset = read_table(write({"a": [1, 2, 3, 4], "y": values}), "y")
    assert dataset.task == "classification"
    assert dataset.classes == classes
    assert list(map(type, dataset.classes)) == list(map(type, classes))
    assert dataset.targets.dtype == np.int64
    assert dataset.targets.tolist() == targets


def test_floats_are_regressed_even_if_whole_and_few(write):
    dataset = read_table(write({"a": [1, 2, 3, 4], "y": [0.0, 1.0, 0.0, 1.0]}), "y")
    assert dataset.task == "regression"
    assert dataset.classes == ()
    assert dataset.targets.dtype == np.float64
    assert dataset.targets.tolist() == [[0.0], [1.0], [0.0], [1.0]]


@pytest.mark.parametrize(
    "distinct, rows, task",
    [
        (MAX_INTEGER_CLASSES, 2 * MAX_INTEGER_CLASSES, "classification"),
        (MAX_INTEGER_CLASSES + 1, 10 * MAX_INTEGER_CLASSES, "regression"),
        (3, 6, "classification"),
        (3, 5, "regression"),
    ],
)
def test_integers_are_classes_if_few_and_each_there_twice_on_average(write, distinct, rows, task):
    targets = [i % distinct for i in range(rows)]
    assert read_table(write({"a": list(range(rows)), "y": targets}), "y").task == task


def test_the_task_can_be_chosen_against_the_rule(write):
    path = write({"a": [1, 2, 3, 4], "whole": [0, 1, 0, 1], "real": [0.5, 1.5, 0.5, 1.5]})
    assert read_table(path, "whole", task="regression").targets.tolist() == [[0.0], [1.0], [0.0], [1.0]]
    chosen = read_table(path, "real", task="classification")
    assert chosen.classes == (0.5, 1.5)
    assert chosen.targets.tolist() == [0, 1, 0, 1]


def test_an_npz_target_of_several_columns_is_regressed_on_all(tmp_path):
    targets = np.arange(6.0).reshape(3, 2)
    np.savez(tmp_path / "t.npz", x=[1, 2, 3], y=targets)
    np.testing.assert_array_equal(read_table(tmp_path / "t.npz", "y").targets, targets)


def test_an_npz_target_of_one_column_is_like_one_of_no_columns(tmp_path):
    np.savez(tmp_path / "t.npz", x=[1, 2, 3, 4], y=[[0], [1], [1], [0]])
    dataset = read_table(tmp_path / "t.npz", "y")
    assert dataset.task == "classification"
    assert dataset.targets.tolist() == [0, 1, 1, 0]


# The package


def test_importing_the_package_does_not_import_polars():
    code = "import sys, chainrule.data; sys.exit('polars' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
