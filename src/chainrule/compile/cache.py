"""Object code on disk, so that a second process starts at once.

Every file is named by what determines its content: what was compiled, by which version of the compiler, for which
processor. A file that is damaged counts as absent. Processes may read, write and delete at the same time. The folder
is `$CHAINRULE_CACHE`, or chainrule's part of the platform's cache folder; `CHAINRULE_CACHE=off` means none.

What is in the files is not known here.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm

from chainrule.compile.machine import Machine

#: The oldest files go when all of them take more than this.
MOST_BYTES = 256 << 20

_MAGIC = b"chainrule object 1\n"
_DIGEST_BYTES = 32
_LENGTH_BYTES = 8


class Cache:
    """Pieces of data in a folder, by key.

    Args:
        folder: made when something is first stored.
        most_bytes: the oldest pieces are deleted when all of them take more.
    """

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder
        self.most_bytes = most_bytes

    def get(self, key: str) -> bytes | None:
        """What was stored under the key, or None where that is nothing, or damaged, or another user's."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                if not _is_trusted(os.fstat(file.fileno())):
                    return None
                content = file.read()
        except OSError:
            return None
        head = len(_MAGIC) + _DIGEST_BYTES
        data = content[head:]
        if content[:head] != _MAGIC + hashlib.sha256(data).digest():
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the oldest files are those not used for longest
        return data

    def put(self, key: str, data: bytes) -> None:
        """Store the data, or warn once that it cannot be stored."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            number, name = tempfile.mkstemp(dir=self.folder, suffix=".part")
            try:
                with os.fdopen(number, "wb") as file:
                    file.write(_MAGIC + hashlib.sha256(data).digest() + data)
                os.replace(name, self._path(key))
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name)
                raise
            self._make_room()
        except OSError as error:
            _warn_once(str(self.folder), f"{type(error).__name__}: {error.strerror}")

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.o"

    def _make_room(self) -> None:
        """Delete the oldest files, and what was left by processes that died while writing."""
        found = []
        for entry in os.scandir(self.folder):
            with contextlib.suppress(OSError):  # another process may have deleted it
                information = entry.stat()
                if entry.name.endswith(".o"):
                    found.append((information.st_mtime, information.st_size, entry.path))
                elif entry.name.endswith(".part") and information.st_mtime < time.time() - 3600:
                    os.unlink(entry.path)
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.most_bytes:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
            total -= size


def _is_trusted(information: os.stat_result) -> bool:
    """Whether no one but this user could have written the file: its content is going to be executed."""
    return not hasattr(os, "getuid") or (information.st_uid == os.getuid() and not information.st_mode & 0o022)


@functools.cache
def _warn_once(folder: str, reason: str) -> None:
    warnings.warn(
        f"compiled code cannot be kept in {folder!r} ({reason}), so the next process compiles again. Set the "
        "environment variable CHAINRULE_CACHE to a folder that can be written, or to 'off'.",
        RuntimeWarning,
        stacklevel=2,
    )


def current() -> Cache | None:
    """The cache that the environment asks for, or None where it is off."""
    setting = os.environ.get("CHAINRULE_CACHE", "")
    if setting.lower() == "off":
        return None
    return Cache(Path(setting) if setting else _user_folder() / "chainrule")


def _user_folder() -> Path:
    """Where the platform's programs keep what they can make again."""
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    if sys.platform == "darwin":
        return home / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")


def object_code(description: str, machine: Machine, make: Callable[[], Sequence[bytes]]) -> Sequence[bytes]:
    """The object files of what is described: from the cache, or made and stored there.

    Args:
        description: what is compiled; equal descriptions mean equal code.
        machine: what it is compiled for.
        make: compiles it.
    """
    cache = current()
    if cache is None:
        return make()
    key = key_of(description, machine)
    found = cache.get(key)
    if found is not None:
        return _separated(found)
    files = make()
    cache.put(key, b"".join(len(file).to_bytes(_LENGTH_BYTES, "little") + file for file in files))
    return files


def _separated(data: bytes) -> list[bytes]:
    """Files that were stored one after the other, each after its length."""
    files, place = [], 0
    while place < len(data):
        start = place + _LENGTH_BYTES
        place = start + int.from_bytes(data[place:start], "little")
        files.append(data[start:place])
    return files


def key_of(description: str, machine: Machine) -> str:
    """The key of object code: a digest of all that determines it."""
    return hashlib.sha256("\0".join((_compiler(), repr(machine), description)).encode()).hexdigest()


@functools.cache
def _compiler() -> str:
    """The versions of everything that takes part in compiling, and this package's own source."""
    source = hashlib.sha256()
    for path in sorted(Path(__file__).parent.iterdir()):
        if path.suffix in (".py", ".ll"):
            source.update(path.read_bytes())
    return f"{version('chainrule')} {llvmlite.__version__} {llvm.llvm_version_info} {source.hexdigest()}"
