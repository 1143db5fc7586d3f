"""Looking for NaN and infinity, and saying on which line of the user's code they were made."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from chainrule.core.namespace import namespace_of
from chainrule.core.tensor import _raw


def all_finite(value: Any) -> bool:
    """Whether an array (or a tensor's value) of floats has no NaN and no infinity; True for other dtypes."""
    value = _raw(value)
    xp = namespace_of(value)
    if "float" not in str(getattr(value, "dtype", "float")):
        return True
    return bool(xp.all(xp.isfinite(value), axis=None))


def source_line() -> str:
    """The innermost line of the call stack that is of no library: `file:line, in function`."""
    frame = users_frame()
    return f"{frame.f_code.co_filename}:{frame.f_lineno}, in {frame.f_code.co_name}"


_LIBRARIES = frozenset({"chainrule", "numpy", "torch", "optree", "contextlib", "functools"})


def users_frame() -> FrameType:
    """The innermost frame of the call stack that is of no library; the outermost one where all are."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _LIBRARIES:
        frame = frame.f_back
    return frame
