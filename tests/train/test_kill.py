"""A process killed with SIGKILL, at random instants, again and again."""

import json
import random
import signal
import subprocess
import sys
import time

import numpy as np

from chainrule.core.tensor import Tensor
from chainrule.train.folder import CHECKPOINT, METRICS, RunFolder

# Saving after every step, so that a kill has every chance to fall into the middle of a save.
PROGRAM = """
import sys
from chainrule.cli import main
from chainrule.train import loop, runs
loop.SECONDS_BETWEEN_SAVES = loop.SECONDS_BETWEEN_VIEWS = 0
loop.SHARE_OF_TIME_FOR_SAVES = 1e9
runs.plot = lambda history, title: b""
print("ready", flush=True)
sys.exit(main(sys.argv[1:]))
"""
OPTIONS = ["--epochs", "20", "--width", "16", "--dropout", "0.1", "--quiet"]
KILLS = 12


def begin(*arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "train", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def arrays(tree, path=""):
    """The arrays of a checkpoint by path."""
    if isinstance(tree, dict):
        return {name: array for key in tree for name, array in arrays(tree[key], f"{path}/{key}").items()}
    return {path: tree.numpy()} if isinstance(tree, Tensor) else {}


def losses(folder):
    return [json.loads(line)["test_loss"] for line in (folder / METRICS).read_text().splitlines()]


def test_a_run_killed_again_and_again_always_loads_and_ends_as_if_it_had_never_been(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = begin("--run", str(whole), *OPTIONS)
    started = time.perf_counter()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    length = time.perf_counter() - started

    waits = random.Random(0)
    steps = []
    for _ in range(KILLS):
        exists = (killed / CHECKPOINT).exists()
        process = begin("--resume", str(killed)) if exists else begin("--run", str(killed), *OPTIONS)
        time.sleep(waits.uniform(0, length / 4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if exists or (killed / CHECKPOINT).exists():
            steps.append(RunFolder.existing(killed).load()["progress"]["step"])
    assert steps == sorted(steps)

    process = begin("--resume", str(killed))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert {entry.name for entry in killed.iterdir()} == {entry.name for entry in whole.iterdir()}
    assert losses(killed) == losses(whole)
    wanted, got = (arrays(RunFolder.existing(folder).load()) for folder in (whole, killed))
    assert wanted.keys() == got.keys()
    for path in wanted:
        np.testing.assert_array_equal(got[path], wanted[path], err_msg=path)
