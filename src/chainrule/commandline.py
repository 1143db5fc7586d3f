"""What the commands share: the error for what was asked in vain, and functions of the user's own files."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import typer


class Unusable(typer.TyperException):
    """What was asked for cannot be done: one line on standard error."""

    exit_code = 2


def function_in(path: Path, name: str) -> Callable:
    """A function of the user's own file, which is run as `python FILE.py` would, but not as the main program.

    Raises:
        Unusable: there is no such file or function, or the file cannot be run.
    """
    if not path.is_file():
        raise Unusable(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise Unusable(f"{path} cannot be run: {type(error).__name__}: {error}") from None
    finally:
        sys.path.remove(str(path.parent))
    function = getattr(module, name, None)
    if not callable(function):
        known = ", ".join(
            n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == path.stem
        )
        raise Unusable(f"{path} has no function {name!r}; it has {known or 'none'}")
    return function
