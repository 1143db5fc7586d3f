"""Checkpoints come back exactly, appear whole or not at all, and what is no checkpoint is refused with a reason."""

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import chainrule as cr
from chainrule import nn, optim


def test_a_state_dict_comes_back_exactly_as_a_plain_safetensors_file(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model(np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32))
    state = model.state_dict()
    nn.save(state, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", framework="np") as file:
        assert file.metadata() is None
    plain, loaded = load_file(tmp_path / "model.safetensors"), nn.load(tmp_path / "model.safetensors")
    assert sorted(loaded) == sorted(plain) == sorted(state)
    for path, value in state.items():
        np.testing.assert_array_equal(loaded[path].data, value.data)
        assert loaded[path].dtype == plain[path].dtype == value.dtype
        assert loaded[path].shape == value.shape
    assert nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).load_state_dict(loaded) == ([], [])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int64", "uint8", "bool"])
def test_every_dtype_and_shape_comes_back(tmp_path, dtype):
    arrays = {
        "matrix": np.arange(6).reshape(2, 3).astype(dtype),
        "transposed": np.arange(6).reshape(2, 3).astype(dtype).T,
        "strided": np.arange(9).astype(dtype)[::2],
        "scalar": np.asarray(1, dtype),
        "empty": np.zeros((0, 3), dtype),
    }
    nn.save(arrays, tmp_path / "x")
    for name, value in nn.load(tmp_path / "x").items():
        np.testing.assert_array_equal(value.data, arrays[name])
        assert value.dtype == arrays[name].dtype


def test_a_nested_tree_comes_back_with_its_numbers_strings_and_lists(tmp_path):
    tree = {
        "model": {"0.weight": np.eye(2), "0.bias": cr.tensor([1.0])},
        "epoch": 3,
        "best": float("inf"),
        "name": "résumé",
        "history": [{"loss": 0.5}, None, True, [np.arange(3)]],
        "seed": 2**100,
        "nothing": {},
    }
    nn.save(tree, tmp_path / "run")
    loaded = nn.load(tmp_path / "run")
    assert list(loaded) == list(tree)
    for key in ("epoch", "best", "name", "seed", "nothing"):
        assert loaded[key] == tree[key]
    assert loaded["history"][:3] == [{"loss": 0.5}, None, True]
    np.testing.assert_array_equal(loaded["history"][3][0].data, [0, 1, 2])
    np.testing.assert_array_equal(loaded["model"]["0.weight"].data, np.eye(2))


def training_state(seed):
    nn.random.manual_seed(seed)
    model = nn.MLP(3, [4], 2, norm="batch", dropout=0.2)
    optimizer = optim.AdamW(model.parameters(), lr=0.05)
    return model, optimizer, optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)


def train(model, optimizer, schedule, steps):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((8, 3)).astype(np.float32), rng.integers(0, 2, 8)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), t).backward()
        optimizer.step()
        schedule.step()


def test_a_whole_training_state_in_one_file_continues_to_the_same_result(tmp_path):
    parts = training_state(0)
    train(*parts, 3)
    model, optimizer, schedule = parts
    nn.save(
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "rng": nn.random.get_rng_state(),
        },
        tmp_path / "run",
    )
    train(*parts, 4)
    others = training_state(1)
    saved = nn.load(tmp_path / "run")
    others[0].load_state_dict(saved["model"])
    others[1].load_state_dict(saved["optimizer"])
    others[2].load_state_dict(saved["schedule"])
    nn.random.set_rng_state(saved["rng"])
    train(*others, 4)
    for (path, value), other in zip(model.state_dict().items(), others[0].state_dict().values(), strict=True):
        np.testing.assert_array_equal(value.data, other.data, err_msg=path)


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "model"
    nn.save({"a": np.ones(1)}, path)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        nn.save({"a": np.zeros(1)}, path)
    assert nn.load(path)["a"].item() == 1
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_the_file_is_whole_and_on_the_disk_before_it_takes_the_old_ones_place(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: events.append("fsync") or fsync(handle))

    def replacing(temporary, path):
        assert Path(temporary).parent == tmp_path
        assert nn.load(temporary)["a"].item() == 5
        events.append("replace")
        replace(temporary, path)

    monkeypatch.setattr(os, "replace", replacing)
    nn.save({"a": np.full(1, 5.0)}, tmp_path / "model")
    assert events[:2] == ["fsync", "replace"]


# What is no checkpoint --------------------------------------------------------------------------------------


def zipped(*_):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    return buffer.getvalue()


def numpy_array():
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    return buffer.getvalue()


def whole_file(tmp_path):
    nn.save({"a": np.ones(100)}, tmp_path / "whole")
    return (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize(
    "contents, reason",
    [
        (zipped(), "pickle or a zip archive, such as torch.save writes. It was not read"),
        (pickle.dumps({"weight": [1.0]}), "pickle or a zip archive"),
        (numpy_array(), "a NumPy array; read it with np.load"),
        (b"", "not a safetensors file, or a damaged one"),
        (b"epoch,loss\n1,0.5\n", "not a safetensors file, or a damaged one"),
        (struct.pack("<Q", 2**60) + b"{}", "not a safetensors file, or a damaged one"),
    ],
)
def test_a_foreign_file_is_refused_with_its_path_and_what_it_is(tmp_path, contents, reason):
    path = tmp_path / "model.pt"
    path.write_bytes(contents)
    with pytest.raises(nn.CheckpointError) as caught:
        nn.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)


def test_a_file_cut_off_anywhere_is_refused(tmp_path):
    whole = whole_file(tmp_path)
    path = tmp_path / "cut"
    for length in (1, 7, 8, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(nn.CheckpointError, match="damaged"):
            nn.load(path)


def test_a_damaged_description_is_refused(tmp_path):
    for description in ("{", json.dumps({"a": {"$array": "b"}}), "[]"):
        save_file({"a": np.ones(1)}, tmp_path / "x", metadata={"chainrule": description})
        with pytest.raises(nn.CheckpointError, match="description of its contents is damaged"):
            nn.load(tmp_path / "x")


def test_a_dtype_that_numpy_lacks_is_refused_with_its_name(tmp_path):
    header = json.dumps({"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0")
    with pytest.raises(nn.CheckpointError, match=r"(?i)bf16|bfloat16"):
        nn.load(tmp_path / "x")


def test_files_that_are_not_there_or_cannot_be_written_say_so_themselves(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        nn.load(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        nn.save({"a": np.ones(1)}, tmp_path / "nowhere" / "model")


@pytest.mark.parametrize(
    "tree, message",
    [
        ({"f": print}, "cannot store a builtin_function_or_method at 'f'"),
        ({"a": {"b": [1, {2}]}}, "cannot store a set at 'a.b.1'"),
        ({"c": np.ones(1, complex)}, "at 'c' has dtype complex128"),
        ({"a": {"b": np.ones(1)}, "a.b": np.ones(1)}, "two arrays would be stored under the one path 'a.b'"),
        ({None: 1}, "the key None"),
    ],
)
def test_what_a_checkpoint_cannot_hold_is_named_with_its_place(tmp_path, tree, message):
    with pytest.raises(nn.CheckpointError, match=message):
        nn.save(tree, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
