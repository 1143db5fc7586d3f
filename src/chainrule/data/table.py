"""Columns to a data set: which task the target asks for, and how categories become numbers.

Reading the file, and finding what is missing in it, is `columns`.
"""

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn, get_args

import numpy as np
from numpy.typing import NDArray

from chainrule.data.columns import read_columns, refuse_duplicates
from chainrule.data.dataset import DataError, Dataset, Task

MAX_CATEGORIES = 50
"""Most different strings a feature column may hold: each becomes an input of its own."""

MAX_INTEGER_CLASSES = 20
"""Most different values an integer target may have to be taken for classes."""

DATE_OR_TIME = re.compile(
    r"""(\d{4}[-/.]\d{1,2}[-/.]\d{1,2} | \d{1,2}[-/.]\d{1,2}[-/.]\d{4})   # 2024-02-29 or 29.2.2024,
        ([ T]\d{1,2}:\d{2}.*)?                                          # with the time or without,
        | \d{1,2}:\d{2}(:\d{2}.*)?                                      # or a time alone""",
    re.VERBOSE,
)


def read_table(
    path: str | os.PathLike[str], target: str, *, task: Task | None = None, drop: str | Collection[str] = ()
) -> Dataset:
    """Read a table of examples, one row each, to learn one of its columns from the others.

    Features: numbers are taken as they are, booleans as 0 and 1. A column of strings is one-hot encoded,
    one input `column=category` for each of at most `MAX_CATEGORIES` categories. An NPZ array of more
    than one dimension is flattened to one input per entry of a row, `x[0]` or `x[0,1]`. Dates are refused.

    Task, unless given: strings and booleans are classes; floats are regressed. Integers are classes if they
    take at most `MAX_INTEGER_CLASSES` values and each occurs twice on average, and are regressed if not.

    Args:
        path: a .csv file (UTF-8, a header line), an .npz archive of arrays of one length, or a .parquet file.
        target: name of the column (in an NPZ, the array) to learn. An NPZ array of shape (rows, outputs) is
            regressed on all its columns.
        task: "classification" or "regression", where the rule above would choose the other.
        drop: name or names of columns to leave out.

    Returns:
        The data set; inputs and regression targets are float64.

    Raises:
        DataFileNotFoundError: there is no such file.
        DataError: the table cannot be used as it is; the message names the column and says what to do.
    """
    if task not in (None, *get_args(Task)):
        raise ValueError(f"task is one of {get_args(Task)} or None, got {task!r}")
    path = Path(path)
    columns = read_columns(path, target, (drop,) if isinstance(drop, str) else drop)
    for name, values in columns.items():
        _refuse_unusable(path, name, values)
    targets, chosen_task, classes = _encode_target(path, target, columns.pop(target), task)
    features = [_encode_feature(path, name, values) for name, values in columns.items()]
    names = [name for block_names, _ in features for name in block_names]
    if not names:
        raise DataError(f"{path}: there is no column besides the target {target!r} to learn it from")
    refuse_duplicates(path, names)
    inputs = np.concatenate([block for _, block in features], axis=1, dtype=np.float64)
    return Dataset(inputs, targets, chosen_task, tuple(names), classes)


def _refuse_unusable(path: Path, name: str, values: NDArray[Any]) -> None:
    if values.dtype.kind in "mM":
        _refuse_dates(path, name)
    if values.dtype.kind not in "biufUT":
        raise DataError(
            f"{path}: column {name!r} holds {values.dtype}; it should be real numbers, booleans or strings. "
            "Convert it or drop it"
        )


def _refuse_dates(path: Path, name: str) -> NoReturn:
    raise DataError(
        f"{path}: column {name!r} holds dates or times, which have no one meaning as an input. Replace it by "
        "numbers that matter (days since the first, month, weekday) or drop it"
    )


def _categories(path: Path, name: str, values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the different values in sorted order, and for each row (rows,) the index of its own."""
    categories, index = np.unique(values, return_inverse=True)
    if categories.dtype.kind in "UT" and all(map(DATE_OR_TIME.fullmatch, categories)):
        _refuse_dates(path, name)
    return categories, index.astype(np.int64)


def _encode_feature(path: Path, name: str, values: NDArray[Any]) -> tuple[list[str], NDArray[Any]]:
    """Return the names of the inputs a column makes and its block of them, (rows, inputs)."""
    if values.dtype.kind not in "UT":
        entries = [",".join(map(str, entry)) for entry in np.ndindex(values.shape[1:])]
        names = [f"{name}[{entry}]" if entry else name for entry in entries]
        return names, values.reshape(len(values), -1)
    if values.ndim > 1:
        raise DataError(f"{path}: {name!r} holds strings of shape {values.shape}; save one array per column")
    categories, index = _categories(path, name, values)
    if len(categories) > MAX_CATEGORIES:
        raise DataError(
            f"{path}: column {name!r} holds {len(categories)} different strings, and at most "
            f"{MAX_CATEGORIES} are one-hot encoded. {_stray_text(categories)}If it is an identifier, a name "
            "or free text, drop it"
        )
    return [f"{name}={category}" for category in categories], index[:, None] == np.arange(len(categories))


def _stray_text(categories: NDArray[Any]) -> str:
    """Return a sentence about what keeps a column from being numbers, if most of it is numbers."""
    stray = [str(category) for category in categories if not _is_number(category)]
    if not stray:
        return "All are numbers: save them as such. "
    if 2 * len(stray) > len(categories):
        return ""
    return f"Most are numbers: if all should be, correct {stray[0]!r} and the like. "


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _encode_target(
    path: Path, name: str, values: NDArray[Any], task: Task | None
) -> tuple[NDArray[Any], Task, tuple[Any, ...]]:
    """Return the targets, the task and the classes, as `Dataset` describes them."""
    outputs = values.reshape(len(values), -1)
    for column in outputs.T:
        if (column == column[0]).all():
            raise DataError(
                f"{path}: the target {name!r} is {column[0]!s} in every row, so there is nothing to learn; "
                "choose another target, or a table in which it varies"
            )
    if outputs.shape[1] == 1:
        values = outputs[:, 0]
    chosen_task = task or _task_of(values)
    if chosen_task == "regression":
        if values.dtype.kind in "UT":
            raise DataError(f"{path}: the target {name!r} holds strings and cannot be regressed; classify it")
        return outputs.astype(np.float64), chosen_task, ()
    if values.ndim > 1:
        raise DataError(
            f"{path}: the target {name!r} has shape {values.shape}, and classes are one per row; for one-hot "
            "classes save target.argmax(axis=1)"
        )
    classes, targets = _categories(path, name, values)
    if len(classes) == len(values):
        raise DataError(
            f"{path}: the target {name!r} has a different value in each of {len(values)} rows, so there are "
            "no classes to learn; choose another target, or task='regression' for numbers"
        )
    return targets, chosen_task, tuple(classes.tolist())


def _task_of(values: NDArray[Any]) -> Task:
    """Choose the task by the rule that `read_table` states."""
    if values.dtype.kind in "iu":
        distinct = len(np.unique(values))
        is_class = values.ndim == 1 and distinct <= min(MAX_INTEGER_CLASSES, len(values) / 2)
    else:
        is_class = values.dtype.kind != "f"
    return "classification" if is_class else "regression"
