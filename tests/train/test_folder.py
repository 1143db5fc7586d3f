"""The run folder: which it takes, and that no write, kill or foreign file in it goes unnoticed or does harm."""

import json
import math
import os

import numpy as np
import pytest

from chainrule import nn
from chainrule.train import RunError
from chainrule.train.folder import CHECKPOINT, METRICS, RunFolder

STATE = {"model": {"weight": np.arange(6.0)}, "progress": {"epoch": 2, "loss_sum": 0.1}}


@pytest.fixture
def folder(tmp_path):
    """Return a run folder with a checkpoint in it."""
    made = RunFolder.create(tmp_path / "run", "digits")
    made.save(STATE)
    return made


# Which it takes ------------------------------------------------------------------------------------------------------


def test_a_new_or_empty_folder_is_taken(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new/deep"):
        assert RunFolder.create(tmp_path / name, "digits").path.is_dir()


def test_a_run_is_not_overwritten_unless_asked(folder):
    with pytest.raises(RunError, match=r"holds a run already.*--resume.*--overwrite"):
        RunFolder.create(folder.path, "digits")
    assert RunFolder.create(folder.path, "digits", overwrite=True).path == folder.path


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_that_are_no_run_are_never_overwritten(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match=r"not empty and holds no run \(thesis.tex\)"):
        RunFolder.create(tmp_path, "digits", overwrite=overwrite)


def test_what_a_kill_left_half_written_does_not_count(tmp_path):
    (tmp_path / f".{CHECKPOINT}.123.tmp").write_bytes(b"half")
    folder = RunFolder.create(tmp_path, "digits")
    folder.clear()
    assert list(tmp_path.iterdir()) == []


def test_runs_without_a_folder_get_one_each_even_within_a_second(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = {RunFolder.create(None, "digits").path for _ in range(5)}
    assert len(paths) == 5
    assert all(path.parts[0] == "runs" and "digits" in path.name for path in paths)


def test_a_folder_that_cannot_be_made_is_refused_with_the_reason(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write this run folder: Not a directory"):
        RunFolder.create(tmp_path / "file" / "run", "digits")


@pytest.mark.parametrize("name, message", [("nowhere", "there is no such run folder"), (".", "is no run folder")])
def test_what_is_no_run_cannot_be_gone_on_with(tmp_path, name, message):
    with pytest.raises(RunError, match=message):
        RunFolder.existing(tmp_path / name)


# The checkpoint ------------------------------------------------------------------------------------------------------


def test_what_was_saved_is_loaded(folder):
    state = RunFolder.existing(folder.path).load()
    np.testing.assert_array_equal(state["model"]["weight"].numpy(), np.arange(6.0))
    assert state["progress"] == {"epoch": 2, "loss_sum": 0.1}


def test_a_save_that_fails_leaves_the_old_checkpoint_and_says_why(folder, monkeypatch):
    def full(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunError, match="No space left on device"):
        folder.save(STATE | {"progress": {"epoch": 3}})
    monkeypatch.undo()
    assert folder.load()["progress"]["epoch"] == 2
    assert [entry.name for entry in folder.path.iterdir()] == [CHECKPOINT]


@pytest.mark.parametrize("length", [0, 4, 20, 200, -1])
def test_a_checkpoint_that_was_cut_is_refused(folder, length):
    path = folder.path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(RunError, match=r"checkpoint.safetensors.*damaged"):
        folder.load()


def test_a_checkpoint_of_something_else_is_refused(folder):
    nn.save({"weight": np.ones(3)}, folder.path / CHECKPOINT)
    with pytest.raises(RunError, match="no checkpoint of `chainrule train`"):
        folder.load()


def test_a_pickle_is_refused_unread(folder):
    (folder.path / CHECKPOINT).write_bytes(b"\x80\x04cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(RunError, match="pickle"):
        folder.load()


def test_a_checkpoint_of_a_later_format_is_refused(folder):
    nn.save({"kind": "chainrule training run", "format": 99}, folder.path / CHECKPOINT)
    with pytest.raises(RunError, match="has format 99"):
        folder.load()


# Metrics -------------------------------------------------------------------------------------------------------------


def test_metrics_are_lines_of_json_that_any_reader_understands(folder):
    folder.append_metrics({"epoch": 1, "loss": 0.1, "gradient": [1.0, math.inf]})
    line = json.loads((folder.path / METRICS).read_text(), parse_constant=pytest.fail)
    assert line == {"epoch": 1, "loss": 0.1, "gradient": [1.0, None]}
    (read,) = folder.read_metrics(1)
    assert read["loss"] == 0.1
    assert math.isnan(read["gradient"][1])


@pytest.mark.parametrize("rest", [b'{"epoch": 3, "lo', b'{"epoch": 3}', b"\x00\x00\n", b"[3]\n", b""])
def test_a_half_written_last_line_is_cut_and_the_lines_before_it_stay(folder, rest):
    for epoch in (1, 2):
        folder.append_metrics({"epoch": epoch})
    path = folder.path / METRICS
    whole = path.read_bytes()
    path.write_bytes(whole + rest)
    assert [line["epoch"] for line in folder.read_metrics(5)] == [1, 2]
    assert path.read_bytes() == whole


def test_epochs_that_the_checkpoint_does_not_know_are_cut(folder):
    for epoch in (1, 2, 3):
        folder.append_metrics({"epoch": epoch})
    assert [line["epoch"] for line in folder.read_metrics(2)] == [1, 2]
    folder.append_metrics({"epoch": 3, "again": True})
    assert [line["epoch"] for line in folder.read_metrics(3)] == [1, 2, 3]


def test_a_run_without_metrics_has_none(folder):
    assert folder.read_metrics(5) == []
