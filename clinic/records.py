"""Records of the clinic: JSON files with a line for each case, so that a change shows as the lines that changed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_lines(path: Path, records: Mapping[str, Any]) -> None:
    """Write a file that is there as a whole or not at all."""
    lines = [f"  {json.dumps(name)}: {json.dumps(record)}" for name, record in records.items()]
    partial = path.with_suffix(".part")
    partial.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    os.replace(partial, path)
