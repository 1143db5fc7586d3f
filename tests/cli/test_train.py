"""`chainrule train` as a user meets it: results, help, faults, interrupts."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chainrule.cli import main
from chainrule.nn.activations import ACTIVATIONS
from chainrule.nn.init import BY_NAME
from chainrule.train import OPTIONS, config, defaults, runs

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
    """Write numbers.csv, to regress on price, kinds.csv, to classify by kind, and texts that cannot be learned."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    lines = [f"{a},{b},{10 * a - 5 * b + 100}" for a, b in x]
    Path("numbers.csv").write_text("a,b,price\n" + "\n".join(lines))
    lines = [f"{a},{b},{'yes' if a > b else 'no'}" for a, b in x]
    Path("kinds.csv").write_text("a,b,kind\n" + "\n".join(lines))
    Path("short.txt").write_text("a short text")
    Path("empty.txt").write_text("")
    Path("latin.txt").write_bytes("café".encode("latin-1"))


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
    reports = {"doctor.html", "doctor.json"}
    assert names == {"checkpoint.safetensors", "metrics.jsonl", "config.json", "plot.png"} | reports


@pytest.mark.usefixtures("no_picture")
def test_thirty_sigmoid_layers_visibly_vanish(capsys):
    assert main(["train", "--depth", "30", "--activation", "sigmoid", "--epochs", "3", "--width", "32"]) == 0
    out = capsys.readouterr().out
    assert float(re.search(r"Test accuracy: ([\d.]+)%", out)[1]) < 20
    assert int(re.search(r"VANISHING: .*: (\d+) orders of magnitude less", out)[1]) >= 15


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
        *config.MODELS,
    ]
    for choice in choices:
        assert choice in text
    for group in ("Data", "Network", "Images and text", "Optimisation", "Run", "Examples"):
        assert group in text
    assert "chainrule train --depth 30 --activation sigmoid" in text


def test_help_states_the_defaults_that_are_chosen(capsys):
    text = shown_help(capsys, "train")
    mlp, deep = config.Config.choose(), config.Config.choose(depth=defaults.DEEP)
    cnn, lstm, gru, transformer = (config.Config.choose(model=name) for name in config.MODELS[1:])
    start = defaults.DEEP
    for sentence in (
        f"Default: {mlp.depth}; {cnn.depth} convolutions; {lstm.depth} layer of an lstm or gru; {transformer.depth} b",
        f"Default: {mlp.width}, from depth {start} on {deep.width}; {cnn.width} filters of a cnn; {lstm.width} for "
        f"lstm and gru; {transformer.width} for transformer.",
        f"Default: {mlp.activation}; {transformer.activation} for transformer.",
        "Default: {adam} for adam and adamw, {sgd} for sgd, {rmsprop} for rmsprop, divided by depth + 1; ".format(
            **defaults.LEARNING_RATES
        ),
        f"Default: {mlp.optimizer}; {transformer.optimizer} for transformer.",
        f"for cnn half of that; for text {lstm.lr} with adam and adamw",
        f"Default: {mlp.dropout} for the digits, less from depth 3 and none from depth {start} on; {cnn.dropout} for c",
        f"Default: 0.01 for adamw, {transformer.weight_decay} for text; otherwise {mlp.weight_decay} for the digits "
        f"up to depth {start - 1}, and",
        f"stretches. Default: {mlp.batch_size}; {lstm.batch_size} for lstm and gru, {transformer.batch_size} for tr",
        f"Default: {mlp.epochs}, from depth {start} on {deep.epochs}; {lstm.epochs} for lstm and gru, "
        f"{transformer.epochs} for transformer.",
        f"Default: {mlp.warmup:g}, from depth {start} on {deep.warmup:g}; {transformer.warmup} for transformer.",
        f"kernels. Default: {cnn.kernel}.",
        f"anew in each epoch. Default: {cnn.shift}.",
        f"turned at most. Default: {cnn.turn:g}.",
        f"Default: {transformer.heads}, if they divide the width.",
        f"Default: {transformer.context} for transformer; never for lstm and gru.",
        f"Default: {lstm.bptt}, or --context.",
        f"Default: no limit; {lstm.clip_norm:g} for text.",
    ):
        assert sentence in text
    assert (cnn.epochs, config.Config.choose(model="cnn", depth=start).epochs) == (mlp.epochs, deep.epochs)
    assert (lstm.lr, lstm.clip_norm) == (transformer.lr, transformer.clip_norm)
    assert replace(gru, model="lstm") == lstm


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
        ("--model ltsm", "--model 'ltsm' is not one of mlp, cnn, lstm, gru, transformer. Did you mean 'lstm'?"),
        ("--model lstm --data numbers.csv", "numbers.csv is a table; leave out --model, or give a text"),
        ("--model lstm --data nothing.txt", "nothing.txt: no such file"),
        ("--model gru --data empty.txt", "empty.txt: there is no text in it"),
        ("--model lstm --data short.txt", "short.txt: 12 characters are too few"),
        ("--model transformer --data latin.txt", "latin.txt: no text in UTF-8 (byte 4 is 0xe9); save it as UTF-8"),
        ("--data short.txt", "is no table; to learn its characters, add --model lstm, gru or transformer"),
        ("--model cnn --data numbers.csv --target price", "learns the images of the handwritten digits only"),
        ("--model lstm --norm batch", "--norm is an option of --model mlp and cnn; lstm has none"),
        ("--bptt 32", "--bptt is an option of --model lstm and gru; mlp has none"),
        ("--model transformer --width 10 --heads 4", "--heads 4 does not divide --width 10"),
        ("--model lstm --context 100 --bptt 64", "--context 100 is not a multiple of --bptt 64"),
        ("--model cnn --kernel 4", "--kernel is an odd number"),
        ("--model lstm --target price", "--target is about a table of your own: --model lstm learns a text"),
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

    monkeypatch.setattr(runs, "build_problem", broken)
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
