"""`chainrule train` as a user meets it: results, help, faults, interrupts."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chainrule.cli import main
from chainrule.nn.activations import ACTIVATIONS
from chainrule.nn.init import BY_NAME
from chainrule.train import OPTIONS, config, runs

SHORT = ["--epochs", "2", "--width", "16", "--batch-size", "400"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_picture(monkeypatch):
    """Draw nothing, which is quicker."""
    monkeypatch.setattr(runs, "plot", lambda history, title: b"")


@pytest.fixture
def tables():
    """Write numbers.csv, to regress on price, and kinds.csv, to classify by kind."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    lines = [f"{a},{b},{10 * a - 5 * b + 100}" for a, b in x]
    Path("numbers.csv").write_text("a,b,price\n" + "\n".join(lines))
    lines = [f"{a},{b},{'yes' if a > b else 'no'}" for a, b in x]
    Path("kinds.csv").write_text("a,b,kind\n" + "\n".join(lines))


# Results -------------------------------------------------------------------------------------------------------------


def test_without_arguments_the_digits_are_learned_to_97_percent_and_everything_is_kept(capsys):
    assert main(["train"]) == 0
    out = capsys.readouterr().out
    assert float(re.search(r"Test accuracy: ([\d.]+)%", out)[1]) >= 97
    assert re.search(r"layer +in → out +error signal +gradient +update/weight", out)
    assert re.search(r"1 +64 → 256 +\S+e-\d\d +\S+e-\d\d +\S+e-\d\d", out)
    assert "Healthy" in out
    (folder,) = Path("runs").iterdir()
    assert str(folder) in out
    names = {entry.name for entry in folder.iterdir()}
    assert names == {"checkpoint.safetensors", "metrics.jsonl", "config.json", "plot.png"}


@pytest.mark.usefixtures("no_picture")
def test_thirty_sigmoid_layers_visibly_vanish(capsys):
    assert main(["train", "--depth", "30", "--activation", "sigmoid", "--epochs", "3", "--width", "32"]) == 0
    out = capsys.readouterr().out
    assert float(re.search(r"Test accuracy: ([\d.]+)%", out)[1]) < 20
    assert int(re.search(r"VANISHING: .* shrinks by (\d+) orders of magnitude", out)[1]) >= 15


@pytest.mark.usefixtures("no_picture")
def test_two_hundred_residual_layers_learn(capsys):
    assert main(["train", "--depth", "200", "--residual", "--epochs", "6", "--width", "32"]) == 0
    out = capsys.readouterr().out
    assert float(re.search(r"Test accuracy: ([\d.]+)%", out)[1]) > 85
    assert "Healthy" in out
    assert "(16 of 201 layers)" in out


@pytest.mark.usefixtures("no_picture", "tables")
def test_a_numeric_target_is_regressed_and_judged_by_rmse_and_r2(capsys):
    assert main(["train", "--data", "numbers.csv", "--target", "price", "--batch-size", "16"]) == 0
    found = re.search(r"Test RMSE: ([\d.]+), R²: ([\d.]+)", capsys.readouterr().out)
    assert float(found[1]) < 2  # of a spread of 11
    assert float(found[2]) > 0.97


@pytest.mark.usefixtures("no_picture", "tables")
def test_a_target_of_words_is_classified(capsys):
    assert main(["train", "--data", "kinds.csv", "--target", "kind", "--batch-size", "16"]) == 0
    assert float(re.search(r"Test accuracy: ([\d.]+)%", capsys.readouterr().out)[1]) > 90


@pytest.mark.usefixtures("no_picture", "tables")
def test_dropped_columns_and_a_given_task_are_heeded(capsys):
    options = ["--data", "numbers.csv", "--target", "price", "--drop", "b", "--task", "regression"]
    assert main(["train", *options, *SHORT]) == 0
    assert "1 features, regression" in capsys.readouterr().out


@pytest.mark.usefixtures("no_picture")
def test_the_same_seed_prints_the_same_numbers(capsys):
    def numbers():
        assert main(["train", *SHORT, "--seed", "3"]) == 0
        out = capsys.readouterr().out
        return re.findall(r"Test accuracy.*|Healthy.*|\d\.\d\de[+-]\d\d", out)

    assert numbers() == numbers()


@pytest.mark.usefixtures("no_picture")
def test_steps_are_compiled_unless_that_is_refused(capsys):
    for options, expected in (([], True), (["--no-compile"], False)):
        assert main(["train", *SHORT, *options, "--run", str(expected)]) == 0
        assert json.loads(Path(str(expected), "config.json").read_text())["compile"] is expected
    assert "uncompiled" not in capsys.readouterr().out


# Help ----------------------------------------------------------------------------------------------------------------


def shown_help(capsys, *arguments):
    assert main([*arguments, "--help"]) == 0
    return re.sub(r"[\s│]+", " ", capsys.readouterr().out)


def test_help_names_every_option_and_every_choice_and_has_examples(capsys):
    text = shown_help(capsys, "train")
    for name in OPTIONS:
        assert config.option(name) in text
    choices = [
        *ACTIVATIONS,
        *BY_NAME,
        *config.NORMS,
        *config.OPTIMIZERS,
        *config.SCHEDULES,
        *config.DTYPES,
        *config.TASKS,
    ]
    for choice in choices:
        assert choice in text
    for group in ("Data", "Network", "Optimisation", "Run", "Examples"):
        assert group in text
    assert "chainrule train --depth 30 --activation sigmoid" in text


def test_help_states_the_defaults_that_are_chosen(capsys):
    text = shown_help(capsys, "train")
    shallow, deep = config.Config.choose(), config.Config.choose(depth=config.DEEP)
    for sentence in (
        f"Hidden layers. Default: {shallow.depth}.",
        f"Units in each of them. Default: {shallow.width}, from depth {config.DEEP} on {deep.width}.",
        "Default: {adam} for adam and adamw, {sgd} for sgd, {rmsprop} for rmsprop, divided by depth + 1.".format(
            **config.LEARNING_RATES
        ),
        f"Default: {shallow.dropout} for the digits, less from depth 3 and none from depth {config.DEEP} on; 0 for",
        f"Default: 0.01 for adamw; otherwise {shallow.weight_decay} for the digits up to depth {config.DEEP - 1}, and",
        f"Rows per step. Default: {shallow.batch_size}.",
        f"Passes through the training rows. Default: {shallow.epochs}, from depth {config.DEEP} on {deep.epochs}.",
        f"Default: {shallow.warmup:g}, from depth {config.DEEP} on {deep.warmup:g}.",
    ):
        assert sentence in text


def test_version_and_info_say_what_is_installed(capsys):
    from chainrule import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"chainrule {__version__}\n"
    assert main(["info"]) == 0
    assert np.__version__ in capsys.readouterr().out


# Faults --------------------------------------------------------------------------------------------------------------


def fault(capsys, *arguments):
    """Run `chainrule train` with the arguments and return the one line it ends with."""
    assert main(["train", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--depth many", "'--depth': Input should be a valid integer"),
        ("--deep 3", "No such option: --deep"),
        ("--activation rleu", "Did you mean 'relu'?"),
        ("--momentum 0.9", "--momentum is an option of sgd"),
        ("--data nowhere.csv --target y", "nowhere.csv: no such file"),
        ("--data numbers.csv --target prise", "no column 'prise'. Did you mean 'price'?"),
        ("--data numbers.csv", "--data needs --target COLUMN"),
        ("--run numbers.csv/run", "cannot write this run folder"),
        ("--run .", "not empty and holds no run"),
        ("--resume", "--resume needs the folder of a run"),
        ("--resume nowhere", "no such run folder"),
        ("--resume .", "is no run folder"),
        ("--resume a --run b", "name two folders"),
        ("--resume a --overwrite", "exclude each other"),
        ("somewhere", "--resume somewhere goes on, --run somewhere starts"),
    ],
)
@pytest.mark.usefixtures("tables")
def test_a_fault_of_the_user_is_one_line_that_says_what_to_do(capsys, arguments, message):
    assert message in fault(capsys, *arguments.split())
    assert not Path("runs").exists()


@pytest.mark.usefixtures("no_picture")
def test_a_run_is_neither_overwritten_nor_changed_by_accident(capsys):
    assert main(["train", "--run", "mine", *SHORT]) == 0
    capsys.readouterr()
    assert "holds a run already" in fault(capsys, "--run", "mine", *SHORT)
    assert "--lr is 0.01 there, not 1.0" in fault(capsys, "--resume", "mine", "--lr", "1")
    (Path("mine") / "checkpoint.safetensors").write_bytes(b"noise")
    assert "damaged" in fault(capsys, "--run", "mine", "--resume")


def test_too_little_memory_is_a_fault_of_the_user_too(capsys, monkeypatch):
    def too_large(*arguments):
        raise MemoryError

    monkeypatch.setattr(runs, "Training", too_large)
    assert "there is not enough memory; try a smaller --width" in fault(capsys, "--width", "100000")


def test_debug_shows_where_an_error_comes_from():
    with pytest.raises(ValueError, match="no such run folder"):
        main(["train", "--resume", "nowhere", "--debug"])


def test_a_fault_of_the_program_is_not_hidden(monkeypatch):
    def broken(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(runs.Problem, "load", broken)
    with pytest.raises(ZeroDivisionError):
        main(["train"])


@pytest.mark.usefixtures("no_picture")
def test_divergence_ends_with_status_1_and_what_to_try(capsys):
    arguments = ["--optimizer", "sgd", "--lr", "1e6", "--activation", "linear", "--run", "mine", *SHORT]
    assert main(["train", *arguments]) == 1
    message = capsys.readouterr().err
    assert re.match(
        r"Error: The loss became \w+ in step \d of epoch \d: the training diverged. Try a smaller --lr", message
    )
    assert "mine keeps the last state" in message


# Interrupts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_saves_says_how_to_go_on_and_going_on_ends_the_run(capfd, number, status):
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; from chainrule.cli import main; sys.exit(main())",
         "train", "--run", "my run", "--epochs", "300", "--width", "16", "--batch-size", "400"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert any("grad norm" in line for line in process.stdout)  # reads as far as the first epoch
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    (line,) = errors.splitlines()
    assert re.match(r"Interrupted in epoch \d+ after step \d+ of 1200; saved\. Go on with: ", line)
    assert line.endswith("chainrule train --resume 'my run'")
    assert main(["train", "--resume", "my run"]) == 0
    out = capfd.readouterr().out
    assert "going on after step" in out
    assert "Test accuracy" in out
