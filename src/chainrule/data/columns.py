"""Files to columns: CSV, NPZ and Parquet read into complete, finite arrays by name, or refused.

What a column means (feature or target, number or category) is decided in `table`. Here a file is parsed,
its names are checked, and missing or infinite numbers are found while their row numbers are still known.
"""

import csv
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chainrule.data.dataset import DataError, DataFileNotFoundError

if TYPE_CHECKING:  # Importing polars takes longer than importing all of this package.
    import polars as pl

Columns = dict[str, NDArray[Any]]
Choice = Callable[[Sequence[str]], list[str]]

MISSING_MARKS = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "?")
"""Cells of a CSV that stand for a missing value. Parquet and NPZ have nulls and NaN of their own."""

ROWS_SHOWN, NAMES_SHOWN = 5, 20
FILL_ADVICE = "Fill them in, remove those rows"


def read_columns(path: Path, target: str, drop: Collection[str] = ()) -> Columns:
    """Read the columns of a file, all of one length, with nothing missing and nothing infinite.

    Args:
        path: a .csv, .npz or .parquet file.
        target: a column that has to be there.
        drop: columns to leave unread, so that whatever is wrong in them does not matter.

    Returns:
        Arrays by name, in the file's order: numbers, booleans, datetimes, or strings (NumPy's `U` or
        `StringDType`). A column of a CSV or Parquet file is (rows,), an array of an NPZ (rows, ...).

    Raises:
        DataFileNotFoundError: there is no such file.
        DataError: the file cannot be used as it is.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: unknown extension {path.suffix!r}; a table is one of {', '.join(READERS)}")
    if not path.exists():
        raise DataFileNotFoundError(f"{path}: no such file; the current folder is {Path.cwd()}")
    try:
        columns = reader(path, lambda names: _choose(path, names, target, drop))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if columns[target].size == 0:
        raise DataError(f"{path}: the table is empty: there are no rows of {target!r} under its name")
    infinite = {name: _rows_where(np.isinf, values) for name, values in columns.items()}
    _refuse_rows(path, infinite, "infinite numbers", "Replace or remove them")
    return columns


def _choose(path: Path, names: Sequence[str], target: str, drop: Collection[str]) -> list[str]:
    """Check the names a file gives its columns and return those to read."""
    refuse_duplicates(path, names)
    if "" in names:
        raise DataError(
            f"{path}: column {names.index('') + 1} has no name; name it in the header, or leave it out when "
            "saving (pandas writes its index so, unless told index=False)"
        )
    for name in (target, *drop):
        if name not in names:
            raise DataError(f"{path}: no column {name!r}.{_did_you_mean(name, names)} {_listing(names)}")
    if target in drop:
        raise DataError(f"{path}: column {target!r} is the target and cannot be dropped")
    return [name for name in names if name not in drop]


def refuse_duplicates(path: Path, names: Sequence[str]) -> None:
    """Raise DataError if a name occurs twice among `names`."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(f"{path}: duplicate column name {_quoted(repeated)}; give every column its own name")


def _did_you_mean(name: str, names: Sequence[str]) -> str:
    by_folded = {candidate.casefold(): candidate for candidate in names}
    nearest = get_close_matches(name.casefold(), by_folded, n=1)
    return f" Did you mean {by_folded[nearest[0]]!r}?" if nearest else ""


def _listing(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"The columns are {_quoted(names[:NAMES_SHOWN])}{more}."


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _rows_where(is_bad: Callable[[Any], Any], values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a mask (rows,) of the rows of `values` that hold a bad float; other dtypes hold none."""
    if values.dtype.kind not in "fc":
        return np.zeros(len(values), dtype=bool)
    mask: NDArray[np.bool_] = is_bad(values).any(axis=tuple(range(1, values.ndim)))
    return mask


def _refuse_rows(path: Path, masks: Mapping[str, NDArray[np.bool_]], what: str, advice: str) -> None:
    """Raise DataError naming each column whose mask (rows,) is set somewhere, how often and where first."""
    faults = []
    for name, mask in masks.items():
        rows = np.flatnonzero(mask) + 1
        if rows.size:
            shown = ", ".join(map(str, rows[:ROWS_SHOWN])) + (", ..." if rows.size > ROWS_SHOWN else "")
            faults.append(f"column {name!r}: {rows.size} (row{'s' * (rows.size > 1)} {shown})")
    if faults:
        more = f"; and {len(faults) - NAMES_SHOWN} more columns" if len(faults) > NAMES_SHOWN else ""
        raise DataError(
            f"{path}: {what} in {'; '.join(faults[:NAMES_SHOWN])}{more}. Rows are counted from 1, without "
            f"a header. {advice}, or drop the column."
        )


# CSV ------------------------------------------------------------------------------------------------------


def _read_csv(path: Path, choose: Choice) -> Columns:
    """Read a CSV in UTF-8 with a header line; `,` separates, or `;` or a tab where the header has no comma.

    Spaces around a cell do not count, nor do blank lines (though they count as rows in a message). A column
    in which every cell is a number is numbers, all `true` and `false` is booleans, and the rest is strings.
    """
    import polars as pl

    header, separator = _csv_header(path)
    chosen = choose(header)
    try:
        with path.open("rb") as file:
            frame = pl.read_csv(file, separator=separator, infer_schema=False)
        frame.columns = header
    except pl.exceptions.PolarsError as error:
        _refuse_irregular_lines(path, separator, len(header))
        raise DataError(f"{path}: not a readable CSV: {_first_line(error)}") from error
    frame = frame.select(pl.all().str.strip_chars().replace(dict.fromkeys(MISSING_MARKS)))
    blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
    missing = {name: (frame[name].is_null() & ~blank).to_numpy() for name in chosen}
    if any(mask.any() for mask in missing.values()):
        # A line that is too short reads as one whose last cells are missing.
        _refuse_irregular_lines(path, separator, len(header))
    _refuse_rows(path, missing, f"missing values (empty or one of {_quoted(MISSING_MARKS[1:])})", FILL_ADVICE)
    frame = frame.filter(~blank)
    return {name: _to_array(path, _with_inferred_type(frame[name])) for name in chosen}


def _csv_header(path: Path) -> tuple[list[str], str]:
    """Return the column names and the separator."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            first_line = next((line for line in lines if line.strip()), None)
            if first_line is None:
                raise DataError(f"{path}: the file is empty; a table starts with a line of column names")
            separator = next((mark for mark in ",;\t" if mark in first_line), ",")
            lines.seek(0)
            record = next(record for record in csv.reader(lines, delimiter=separator) if record)
    except (UnicodeDecodeError, csv.Error) as error:
        raise _not_utf8_csv(path, error) from error
    return [name.strip() for name in record], separator


def _refuse_irregular_lines(path: Path, separator: str, width: int) -> None:
    """Raise DataError at the first line that is not `width` cells of UTF-8; pass if there is none."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, delimiter=separator)
            for record in reader:
                if record and len(record) != width:
                    raise DataError(
                        f"{path}: line {reader.line_num} has {len(record)} cells and the header {width}; "
                        "quote a cell that holds the separator, and leave no cell out"
                    )
    except (UnicodeDecodeError, csv.Error) as error:
        raise _not_utf8_csv(path, error) from error


def _not_utf8_csv(path: Path, error: Exception) -> DataError:
    return DataError(f'{path}: not a CSV in UTF-8 ({error}); save it again as "CSV UTF-8"')


def _with_inferred_type(cells: "pl.Series") -> "pl.Series":
    import polars as pl

    for number in (pl.Int64, pl.Float64):
        numbers = cells.cast(number, strict=False)
        if numbers.null_count() == 0:
            return numbers
    lower = cells.str.to_lowercase()
    return lower == "true" if lower.is_in(["true", "false"]).all() else cells


# Parquet --------------------------------------------------------------------------------------------------


def _read_parquet(path: Path, choose: Choice) -> Columns:
    import polars as pl

    try:
        with path.open("rb") as file:
            chosen = choose(list(pl.read_parquet_schema(file)))
            file.seek(0)
            frame = pl.read_parquet(file, columns=chosen).fill_nan(None)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DataError(f"{path}: not a readable Parquet file: {_first_line(error)}") from error
    missing = {name: frame[name].is_null().to_numpy() for name in chosen}
    _refuse_rows(path, missing, "missing values (null or NaN)", FILL_ADVICE)
    return {name: _to_array(path, frame[name]) for name in chosen}


def _to_array(path: Path, series: "pl.Series") -> NDArray[Any]:
    """Return a series that has no nulls as an array; decimals and 128-bit integers become floats."""
    import polars as pl

    dtype = series.dtype
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return series.cast(pl.String).to_numpy().astype(np.dtypes.StringDType())
    if dtype.is_decimal() or dtype in (pl.Int128, pl.UInt128):
        series = series.cast(pl.Float64)
    elif not (dtype.is_numeric() or dtype in (pl.Boolean, pl.Date, pl.Datetime, pl.Duration)):
        raise DataError(
            f"{path}: column {series.name!r} holds {dtype}; a column holds numbers, booleans or strings. "
            "Split it into such columns or drop it"
        )
    return series.to_numpy()


# NPZ ------------------------------------------------------------------------------------------------------


def _read_npz(path: Path, choose: Choice) -> Columns:
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise DataError(f"{path}: not an NPZ archive; write one with numpy.savez(path, name=array, ...)")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as archive:
                columns = {name: archive[name] for name in choose(archive.files)}
        except DataError:
            raise
        except Exception as error:  # zipfile, zlib and NumPy raise many types for a damaged archive.
            advice = ""
            if "allow_pickle" in str(error):
                advice = ". Object arrays are pickles and never loaded: save numbers or strings (dtype=str)"
            raise DataError(f"{path}: not a readable NPZ archive: {_first_line(error)}{advice}") from error
    for name, values in columns.items():
        if not isinstance(values, np.ndarray) or values.ndim == 0:
            raise DataError(f"{path}: {name!r} is not an array of rows; its first axis would count the rows")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{path}: the arrays differ in their number of rows, {lengths}; drop what is no feature")
    missing = {name: _rows_where(np.isnan, values) for name, values in columns.items()}
    _refuse_rows(path, missing, "missing values (NaN)", FILL_ADVICE)
    return columns


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


READERS: dict[str, Callable[[Path, Choice], Columns]] = {
    ".csv": _read_csv,
    ".npz": _read_npz,
    ".parquet": _read_parquet,
}
