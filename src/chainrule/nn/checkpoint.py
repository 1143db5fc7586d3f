"""Checkpoints: trees of arrays and plain values in safetensors files, written atomically. No pickle, ever.

A flat state dict makes a plain safetensors file, which PyTorch's tools read and write too. In a nested tree the
arrays are stored under their paths, and everything else (numbers, strings, the nesting itself) as JSON in the
file's metadata, so that a whole training state is one file that is either there or not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as as_bytes

from chainrule.core.namespace import is_array
from chainrule.core.tensor import Tensor, _raw

#: Metadata key of the JSON, and within it the mark of a place where an array belongs.
_TREE = "chainrule"
_ARRAY = "$array"


class CheckpointError(ValueError):
    """A file is not a checkpoint that can be read, or a tree cannot be stored as one."""


def save(tree: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a state dict, or a nested tree of them, as a safetensors file.

        nn.save(model.state_dict(), "model.safetensors")
        nn.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, "run.safetensors")

    The file appears whole or not at all: whoever is interrupted keeps the old one.

    Args:
        tree: tensors, arrays, numbers, strings, booleans and None, in dicts (with string or integer keys) and lists.
            Integer keys come back as strings and tuples as lists, as in JSON.
        path: of the file; its folder must exist.

    Raises:
        CheckpointError: there is something in the tree that a file cannot hold; the message says where.
        OSError: the file cannot be written.
    """
    arrays: dict[str, np.ndarray] = {}
    skeleton = _without_arrays(tree, "", arrays)
    is_flat = set(arrays) == {str(key) for key in tree}
    metadata = None if is_flat else {_TREE: json.dumps(skeleton)}
    write_atomically(path, lambda temporary: temporary.write_bytes(as_bytes(arrays, metadata)))


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `save` wrote, or a safetensors file of another program. Arrays come back as tensors.

    Raises:
        CheckpointError: the file is damaged, or not a safetensors file; a pickle is refused unread.
        OSError: there is no such file, or it cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        start = file.read(16)
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except (SafetensorError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path}: {_fault(start, error)}") from None
    if _TREE not in metadata:
        return {name: Tensor(array) for name, array in arrays.items()}
    try:
        tree = _with_arrays(json.loads(metadata[_TREE]), arrays)
        if not isinstance(tree, dict):
            raise ValueError("not a dict")
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: the description of its contents is damaged: {error!r}") from None
    return tree


def write_atomically(path: str | os.PathLike[str], write: Callable[[Path], Any]) -> None:
    """Let `write` make a file beside `path`, push it to the disk, and put it in the place of `path` in one step.

    Raises:
        OSError: the file cannot be written; what was at `path` before is still there.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()  # says in plain words why, if it cannot be written here
        write(temporary)
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _flush(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows has no handle for a folder
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# Trees ------------------------------------------------------------------------------------------------------


def _without_arrays(tree: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """`tree` as JSON, with marks where arrays were; those go into `arrays` under their paths."""
    if isinstance(tree, Mapping):
        return {
            _key(key, path): _without_arrays(value, f"{path}.{key}" if path else str(key), arrays)
            for key, value in tree.items()
        }
    if isinstance(tree, (list, tuple)):
        return [_without_arrays(value, f"{path}.{place}", arrays) for place, value in enumerate(tree)]
    value = _raw(tree)
    if is_array(value):
        if path in arrays:
            raise CheckpointError(f"save: two arrays would be stored under the one path {path!r}")
        arrays[path] = np.asarray(value, order="C")
        if arrays[path].dtype.kind not in "biuf":
            raise CheckpointError(f"save: the array at {path!r} has dtype {arrays[path].dtype}, which is no number")
        return {_ARRAY: path}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise CheckpointError(
        f"save: cannot store a {type(value).__name__} at {path!r}; a checkpoint holds tensors, arrays, numbers, "
        "strings, booleans and None, in dicts and lists"
    )


def _key(key: Any, path: str) -> str:
    if not isinstance(key, (str, int)) or key == _ARRAY:
        raise CheckpointError(f"save: the key {key!r} at {path or 'the top'!r} cannot be stored; use a string")
    return str(key)


def _with_arrays(skeleton: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(skeleton, list):
        return [_with_arrays(value, arrays) for value in skeleton]
    if isinstance(skeleton, dict):
        if _ARRAY in skeleton:
            return Tensor(arrays[skeleton[_ARRAY]])
        return {key: _with_arrays(value, arrays) for key, value in skeleton.items()}
    return skeleton


# Files that are something else ------------------------------------------------------------------------------


def _fault(start: bytes, error: Exception) -> str:
    if start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"):
        return (
            "this is not a safetensors file but a pickle or a zip archive, such as torch.save writes. It was not read, "
            "because unpickling can run any code. If you trust it, convert it once where PyTorch is installed: "
            "safetensors.torch.save_file(torch.load(old, weights_only=True), new)"
        )
    if start[:6] == b"\x93NUMPY":
        return "this is not a safetensors file but a NumPy array; read it with np.load(path, allow_pickle=False)"
    return f"not a safetensors file, or a damaged one: {error}"
