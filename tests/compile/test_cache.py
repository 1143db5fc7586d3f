"""Object code on disk: found by a second process, never damaged, never another machine's, never in the way."""

import os
import subprocess
import sys
import textwrap
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest

from chainrule.compile import cache
from chainrule.compile.cache import Cache
from chainrule.compile.executable import Executable, address_of
from chainrule.compile.kernels import Access, Call, Instruction, Loop, Program
from chainrule.compile.machine import Machine

F4 = np.dtype("float32")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    place = tmp_path / "cache"
    monkeypatch.setenv("CHAINRULE_CACHE", str(place))
    cache._warn_once.cache_clear()
    return place


def doubling(n=8, factor=2.0):
    """A program that multiplies slot 0 by a factor into slot 1."""
    body = (
        Instruction("load", F4, access=Access(0, 0, (1,))),
        Instruction("constant", F4, value=factor),
        Instruction("multiply", F4, (0, 1)),
        Instruction("store", F4, (2,), Access(1, 0, (1,))),
    )
    return Program((Call(Loop((n,), (), body, (F4, F4)), (0, 1)),), {}, 0, 2, 1)


def works(made, n=8, factor=2.0):
    x, y = np.arange(n, dtype=F4), np.zeros(n, F4)
    made.set(0, address_of(x))
    made.set(1, address_of(y))
    made.run()
    return np.array_equal(y, np.float32(factor) * x)


def host():
    return Machine.host()


def only_file(folder):
    (file,) = folder.iterdir()
    return file


@pytest.fixture
def stored(folder):
    """The cache with one program in it, and nothing else: the runtime was linked before."""
    Executable(doubling(), host())
    for file in folder.iterdir():
        file.unlink()
    assert not Executable(doubling(), host()).cached
    return folder


SCRIPT = """
    import importlib.util
    specification = importlib.util.spec_from_file_location("programs", {file!r})
    programs = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(programs)
    import llvmlite.binding as llvm
    from chainrule.compile import machine
    compilations = []
    parse = llvm.parse_assembly
    llvm.parse_assembly = lambda *given: compilations.append(given) or parse(*given)
    made = programs.Executable(programs.doubling(), programs.host())
    print(made.cached, len(compilations), programs.works(made))
"""


def in_a_process_of_its_own():
    script = textwrap.dedent(SCRIPT).format(file=__file__)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_a_second_process_compiles_nothing(folder):
    assert in_a_process_of_its_own() == ["False", "2", "True"]  # the runtime and the program
    assert in_a_process_of_its_own() == ["True", "0", "True"]


def test_a_program_from_the_cache_can_still_be_shown(stored):
    made = Executable(doubling(), host())
    assert made.cached
    assert "define void @kernel0" in made.llvm
    assert "kernel0:" in made.assembly


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:10],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:-200] + bytes([content[-200] ^ 1]) + content[-199:],
        lambda content: content[:25] + bytes([content[25] ^ 1]) + content[26:],
        lambda content: b"something else altogether " * 100,
    ],
    ids=[
        "empty",
        "head cut",
        "last byte cut",
        "longer",
        "bit of the code flipped",
        "bit of the digest flipped",
        "other",
    ],
)
def test_a_damaged_file_is_ignored_and_written_anew(stored, damage):
    file = only_file(stored)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    again = Executable(doubling(), host())
    assert not again.cached
    assert works(again)
    assert file.read_bytes() == whole
    assert Executable(doubling(), host()).cached


def test_a_file_that_others_may_write_to_is_not_run(stored):
    if not hasattr(os, "getuid"):
        pytest.skip("no such permissions on this platform")
    only_file(stored).chmod(0o666)
    assert not Executable(doubling(), host()).cached


def test_code_for_another_processor_or_compiler_or_program_is_not_found(monkeypatch):
    key = cache.key_of("kernels", host())
    assert key == cache.key_of("kernels", replace(host()))
    others = [
        cache.key_of("kernels", replace(host(), cpu="other")),
        cache.key_of("kernels", replace(host(), features=host().features + ",-avx2")),
        cache.key_of("kernels", replace(host(), vector_bits=64)),
        cache.key_of("other kernels", host()),
    ]
    monkeypatch.setattr(cache, "_compiler", lambda: "another version")
    others.append(cache.key_of("kernels", host()))
    assert len({key, *others}) == 6


def test_programs_that_differ_in_a_constant_alone_have_their_own_files(stored):
    for factor in (2.0, 3.0, -0.0, 0.0):
        assert works(Executable(doubling(factor=factor), host()), factor=factor)
    assert len(list(stored.iterdir())) == 4


@pytest.mark.parametrize("obstacle", ["a file", "below a file"])
def test_a_folder_that_cannot_be_written_gives_one_warning_and_right_results(tmp_path, monkeypatch, obstacle):
    file = tmp_path / "file"
    file.write_text("in the way")
    place = file if obstacle == "a file" else file / "cache"
    monkeypatch.setenv("CHAINRULE_CACHE", str(place))
    cache._warn_once.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for factor in (2.0, 5.0):
            made = Executable(doubling(factor=factor), host())
            assert not made.cached
            assert works(made, factor=factor)
    assert len(caught) == 1
    assert "CHAINRULE_CACHE" in str(caught[0].message)
    assert file.read_text() == "in the way"


def test_a_read_only_folder_gives_one_warning_and_right_results(folder):
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("nothing is read-only for this user; a file in the folder's place is tested above")
    with pytest.warns(RuntimeWarning, match="CHAINRULE_CACHE"):
        assert works(Executable(doubling(), host()))
    assert works(Executable(doubling(), host()))


def test_off_means_that_nothing_is_stored(tmp_path, monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE", "off")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert not Executable(doubling(), host()).cached
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the folder has another name there")
def test_without_a_setting_the_cache_lies_in_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("CHAINRULE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.current().folder == tmp_path / "chainrule"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.current().folder == tmp_path / ".cache" / "chainrule"


def test_many_writers_and_readers_never_see_half_a_file(tmp_path):
    pieces = {f"key{i}": bytes([i]) * 200_000 for i in range(4)}
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        mine = Cache(tmp_path, most_bytes=500_000)  # so that files are also deleted all the time
        for _ in range(60):
            key = f"key{rng.integers(4)}"
            if rng.random() < 0.5:
                mine.put(key, pieces[key])
            elif mine.get(key) not in (None, pieces[key]):
                wrong.append(key)

    writers = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not wrong
    assert all(file.suffix == ".o" for file in tmp_path.iterdir())


def test_processes_that_compile_the_same_at_once_all_succeed(folder):
    script = textwrap.dedent(SCRIPT).format(file=__file__)
    started = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=100)[0].split()[2] for process in started] == ["True"] * 3
    assert len(list(folder.iterdir())) == 2


def test_the_files_not_used_for_longest_are_deleted_first(tmp_path):
    small = Cache(tmp_path, most_bytes=3500)
    for age, key in enumerate(("old", "older", "oldest")):
        small.put(key, bytes(1000))
        os.utime(tmp_path / f"{key}.o", (1000 - age, 1000 - age))
    assert small.get("oldest") is not None  # now it is the newest
    small.put("new", bytes(1000))
    assert {key for key in ("old", "older", "oldest", "new") if small.get(key) is not None} == {"old", "oldest", "new"}


def test_what_a_process_that_died_left_behind_is_cleared_away(tmp_path):
    place = Cache(tmp_path)
    for name, modified in (("dead.part", 0), ("alive.part", None)):
        (tmp_path / name).write_bytes(b"half")
        if modified is not None:
            os.utime(tmp_path / name, (modified, modified))
    place.put("key", b"data")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["alive.part", "key.o"]
