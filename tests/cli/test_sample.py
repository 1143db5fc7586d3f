"""`chainrule sample` as a user meets it: text that streams, and faults in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from chainrule.cli import main
from chainrule.train import Config, runs, start

TEXT = "It was a bright cold day in April, and the clocks were striking thirteen.\n" * 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of a run that has learned a text a little."""
    place = tmp_path_factory.mktemp("runs")
    (place / "book.txt").write_text(TEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "plot", lambda history, title: b"")
        options = {"width": 16, "batch_size": 4, "bptt": 16, "epochs": 2}
        start(Config.choose(model="gru", data=str(place / "book.txt"), **options), place / "run", quiet=True)
    return str(place / "run")


def output(capsys, *arguments):
    capsys.readouterr()
    assert main(["sample", *arguments]) == 0
    return capsys.readouterr().out


def test_it_writes_as_many_characters_as_asked_for_after_the_prompt(capsys, folder):
    text = output(capsys, folder, "--prompt", "It was", "--length", "40")
    assert len(text) == len("It was") + 40 + len("\n")
    assert text.startswith("It was")
    assert set(text) <= set(TEXT)


def test_the_same_seed_writes_the_same_text(capsys, folder):
    first, again, other = (output(capsys, folder, "--seed", seed) for seed in ("1", "1", "2"))
    assert first == again != other
    assert len(first) == 501


def test_characters_appear_as_they_are_written(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; from chainrule.cli import main; sys.exit(main())",
         "sample", folder, "--length", "1000000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert len(process.stdout.read(200)) == 200
        assert process.poll() is None  # far from done
    finally:
        process.stdout.close()  # as `head` does
        _, errors = process.communicate(timeout=60)
    assert errors == b""


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--prompt", "Hé"], "'H', 'é' did not occur in the text that was learned"),
        (["--length", "-1"], "--length is a number not negative, got -1"),
        (["--temperature", "nan"], "--temperature is a number not negative, got nan"),
        (["--seed", "-3"], "--seed is a number not negative, got -3"),
        (["--length", "many"], "'--length'"),
    ],
)
def test_a_fault_of_the_user_is_one_line(capsys, folder, arguments, message):
    capsys.readouterr()
    assert main(["sample", folder, *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_what_is_no_run_of_a_text_is_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "plot", lambda history, title: b"")
    start(Config.choose(epochs=1, width=4, batch_size=1000, compile=False), tmp_path / "digits", quiet=True)
    for path, message in (
        (tmp_path / "digits", "is a run of --model mlp, which writes no text"),
        (tmp_path / "nowhere", "there is no such run folder"),
        (tmp_path, "is no run folder"),
    ):
        capsys.readouterr()
        assert main(["sample", str(path)]) == 2
        assert message in capsys.readouterr().err


def test_a_damaged_checkpoint_is_refused_in_one_line(capsys, folder, tmp_path):
    whole = (Path(folder) / "checkpoint.safetensors").read_bytes()
    (tmp_path / "checkpoint.safetensors").write_bytes(whole[:-100])
    assert main(["sample", str(tmp_path)]) == 2
    assert "damaged" in capsys.readouterr().err
