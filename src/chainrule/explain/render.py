"""From a format's name to its renderer, and into files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from chainrule.explain.explanation import Explanation

#: Where each format is made. They are imported when they are needed: `import chainrule` stays quick.
_RENDERERS = {
    "text": ("text", "text"),
    "markdown": ("markdown", "markdown"),
    "latex": ("latex", "latex"),
    "json": ("data", "as_json"),
    "svg": ("drawing", "svg"),
    "html": ("page", "page"),
}

#: What the formats' files are called.
SUFFIXES = {".txt": "text", ".md": "markdown", ".tex": "latex", ".html": "html", ".svg": "svg", ".json": "json"}


def render(explanation: Explanation, format: str) -> str:
    """The explanation in one of the formats of `explanation.FORMATS`."""
    module, function = _RENDERERS[format]
    renderer: Callable[[Explanation], str] = getattr(import_module(f"chainrule.explain.{module}"), function)
    return renderer(explanation)


def format_of(path: Path) -> str:
    """The format that a file's name ends with.

    Raises:
        ValueError: it ends with no format's suffix.
    """
    format = SUFFIXES.get(path.suffix.lower())
    if format is None:
        raise ValueError(f"{path}: the name must end with one of {', '.join(SUFFIXES)}")
    return format


def write(explanation: Explanation, path: Path, format: str | None = None) -> None:
    """Write the explanation to a file, all of it or nothing."""
    content = render(explanation, format or format_of(path))
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
