"""A training: it learns, it is repeatable, and it goes on exactly where it stopped."""

import io
import json
import signal
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from chainrule.core.tensor import Tensor
from chainrule.train import Config, Diverged, Interrupted, RunError, loop, resume, runs, sample, start
from chainrule.train.build import build_problem
from chainrule.train.display import PlainDisplay
from chainrule.train.folder import METRICS, RunFolder
from chainrule.train.threads import suitable_threads
from chainrule.train.training import Training

SMALL = {"width": 8, "depth": 2, "epochs": 3, "batch_size": 400}  # 4 steps an epoch
VARIETY = [
    {"dropout": 0.3, "norm": "batch", "warmup": 0.5},
    {"optimizer": "sgd", "schedule": "step", "clip_norm": 0.5, "dtype": "float64", "weight_decay": 0.01},
    {"optimizer": "rmsprop", "residual": True, "norm": "layer", "clip_value": 0.01, "momentum": 0.5},
]
MODELS = {
    "cnn": {"width": 4, "depth": 2, "norm": "batch", "batch_size": 400},
    "lstm": {"depth": 2, "bptt": 8, "dropout": 0.2},
    "gru": {"bptt": 8, "context": 16, "optimizer": "sgd"},
    "transformer": {"width": 8, "context": 8, "dropout": 0.2},
}
TEXT = "The quick brown fox jumps over the lazy dog; " * 14


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """Draw nothing: a picture takes longer than these trainings; `test_plot` draws."""
    monkeypatch.setattr(runs, "plot", lambda history, title: b"")


def small(**options):
    return Config.choose(**(SMALL | options))


def of_model(model, folder, **options):
    """A small configuration of another model; a text has 16 or 17 steps an epoch, the digits 4."""
    if model != "cnn":
        (folder / "book.txt").write_text(TEXT)
        options["data"] = str(folder / "book.txt")
    return Config.choose(model=model, **({"width": 5, "epochs": 2, "batch_size": 4} | MODELS[model] | options))


def digits():
    return build_problem(small())


def silent():
    return Console(file=io.StringIO())


class Interrupting(PlainDisplay):
    """A display that asks for a stop, as Ctrl-C does, when so many steps are done."""

    def __init__(self, step):
        super().__init__(silent())
        self.step = step

    def at(self, position):
        if position.step == self.step:
            signal.raise_signal(signal.SIGINT)


def interrupted(config, path, step, monkeypatch):
    """Run to `step` and be interrupted there."""
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_VIEWS", 0)
    training = Training(config, build_problem(config))
    folder = RunFolder.create(path, "digits")
    with pytest.raises(Interrupted) as stopped, suitable_threads(config, training.problem.inputs):
        loop.Loop(training, folder, [], Interrupting(step)).run()
    assert training.progress.step == step
    return stopped.value


def remembered(path):
    """Everything a run left that must be the same again: its checkpoint and its metrics, without times."""
    state = RunFolder.existing(path).load()
    state["progress"].pop("seconds")
    lines = [json.loads(line) for line in (path / METRICS).read_text().splitlines()]
    for line in lines:
        del line["seconds"], line["steps_per_second"]
    return flat(state), lines


def flat(tree):
    if isinstance(tree, dict):
        return {key: flat(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [flat(value) for value in tree]
    return tree.numpy().tobytes() if isinstance(tree, Tensor) else tree


# It learns -----------------------------------------------------------------------------------------------------------


def test_a_short_run_learns_and_leaves_every_file(tmp_path):
    outcome = start(small(epochs=20, width=32, lr=0.01), tmp_path / "run", console=silent())
    assert outcome.history[-1]["test_accuracy"] > 0.9
    assert outcome.history[-1]["loss"] < outcome.history[0]["loss"] / 4
    names = {entry.name for entry in (tmp_path / "run").iterdir()}
    assert names == {"checkpoint.safetensors", "metrics.jsonl", "config.json", "plot.png", "doctor.html", "doctor.json"}
    assert Config.from_dict(json.loads((tmp_path / "run" / "config.json").read_text())) == outcome.training.config


def test_a_single_batch_can_be_learned_by_heart():
    config = small(epochs=300, batch_size=10, width=32, dropout=0.0, schedule="constant")
    whole = build_problem(config)
    ten = replace(whole, train_inputs=whole.train_inputs[:10], train_targets=whole.train_targets[:10])
    training = Training(config, ten)
    for _ in range(config.epochs):
        list(training.steps_of_epoch())
        training.progress = type(training.progress)(training.progress.epoch + 1)
    assert training.measure()["train_loss"] < 1e-3


def test_the_loss_of_an_epoch_is_the_mean_over_its_rows(tmp_path):
    # With no learning rate to speak of, the mean over uneven batches is the loss on the whole training part.
    outcome = start(small(lr=1e-30, epochs=1, dropout=0.0, dtype="float64"), tmp_path / "run", console=silent())
    (line,) = outcome.history
    assert line["loss"] == pytest.approx(line["train_loss"], rel=1e-12)


def test_warm_up_rises_to_the_learning_rate_and_cosine_falls_to_nothing(tmp_path):
    training = Training(config := small(warmup=1.0, lr=0.1), digits())
    rates = []
    for _ in range(config.epochs):
        for _ in training.steps_of_epoch():
            rates.append(training.schedule.get_last_lr()[0])
        training.finish_epoch()
    assert np.argmax(rates) == 3  # the end of the first epoch of four steps
    assert max(rates) == pytest.approx(0.1)
    assert rates[:4] == sorted(set(rates[:4]))
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def test_a_clipped_step_is_no_longer_than_the_limit_and_the_norm_before_clipping_is_what_is_reported():
    plain = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "lr": 1.0, "schedule": "constant"}
    training = Training(small(**plain, clip_norm=1e-3), digits())
    before = [parameter.detach().numpy() for parameter in training.model.parameters()]
    next(training.steps_of_epoch())
    moves = [p.detach().numpy() - old for p, old in zip(training.model.parameters(), before, strict=True)]
    assert np.sqrt(sum((move**2).sum() for move in moves)) == pytest.approx(1e-3, rel=1e-2)
    assert training.progress.gradient_norm > 0.1


def test_batch_normalisation_is_spared_a_last_batch_of_one_row():
    config = small(norm="batch", batch_size=479)  # 1438 rows are three batches and one row
    training = Training(config, build_problem(config))
    assert training.batches_per_epoch == 3
    assert len(build_problem(small(batch_size=479)).epoch(0)) == 4


def test_the_images_of_a_cnn_are_never_the_same_twice_unless_that_is_asked_for(tmp_path):
    moved, still = (build_problem(of_model("cnn", tmp_path, **asked)) for asked in ({}, {"shift": 0, "turn": 0}))
    for problem, same in ((moved, False), (still, True)):
        rows = problem.epoch(0)[0][0]
        once, again = (problem.batch((rows, (epoch, 0)))[0] for epoch in (0, 1))
        assert (once == again).all() == same
        assert (once == problem.train_inputs[rows]).all() == same
    assert np.array_equal(moved.batch(moved.epoch(1)[2])[0], moved.batch(moved.epoch(1)[2])[0])


@pytest.mark.parametrize("model", ["lstm", "gru", "transformer"])
def test_a_text_is_learned_and_what_the_network_writes_is_shown_as_it_learns(tmp_path, model):
    console = silent()
    config = of_model(model, tmp_path, width=32, epochs=8, dropout=0.0, lr=0.02, optimizer="adam")
    outcome = start(config, tmp_path / "run", console=console)
    bpc = [line["test_bpc"] for line in outcome.history]
    assert bpc[-1] < 0.7 * bpc[0]
    out = console.file.getvalue()
    assert out.count("  │ ") >= 4  # after epochs 1, 2, 4 and 8
    assert all(set(line["sample"]) <= set(TEXT) for line in outcome.history)
    assert f"Held-out text: {bpc[-1]:.3f} bits per character" in out
    assert "chainrule sample" in out
    written = "".join(sample(tmp_path / "run", length=30, prompt="The quick ", temperature=0))
    assert len(written) == 30
    assert set(written) <= set(TEXT)
    (tmp_path / "book.txt").unlink()  # a network writes without the text it has learned
    assert "".join(sample(tmp_path / "run", length=30, prompt="The quick ", temperature=0)) == written


# It is repeatable ----------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tmp_path):
    for name, seed in {"one": 0, "again": 0, "other": 1}.items():
        start(small(seed=seed), tmp_path / name, console=silent())
    assert remembered(tmp_path / "one") == remembered(tmp_path / "again")
    assert remembered(tmp_path / "one")[0]["model"] != remembered(tmp_path / "other")[0]["model"]


@pytest.mark.parametrize("options", VARIETY, ids=["dropout and batch norm", "sgd", "residual rmsprop"])
@pytest.mark.parametrize("step", [1, 4, 6], ids=["first step", "end of an epoch", "middle of an epoch"])
def test_an_interrupted_run_that_goes_on_ends_bit_for_bit_as_an_uninterrupted_one(tmp_path, monkeypatch, options, step):
    config = small(**options)
    start(config, tmp_path / "whole", console=silent())
    error = interrupted(config, tmp_path / "parts", step, monkeypatch)
    assert error.signal == signal.SIGINT
    assert "chainrule train --resume" in str(error)
    resume(tmp_path / "parts", {}, console=silent())
    assert remembered(tmp_path / "parts") == remembered(tmp_path / "whole")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("step", [3, 17], ids=["middle of the first epoch", "middle of the second"])
def test_so_it_is_with_every_model(tmp_path, monkeypatch, model, step):
    config = of_model(model, tmp_path)
    start(config, tmp_path / "whole", console=silent())
    interrupted(config, tmp_path / "parts", min(step, 6) if model == "cnn" else step, monkeypatch)
    resume(tmp_path / "parts", {}, console=silent())
    assert remembered(tmp_path / "parts") == remembered(tmp_path / "whole")


@pytest.mark.parametrize("model, parts", [("lstm", 4), ("gru", 1), ("transformer", 0), ("cnn", 0)])
def test_the_state_that_is_carried_on_is_part_of_the_checkpoint(tmp_path, monkeypatch, model, parts):
    interrupted(of_model(model, tmp_path), tmp_path / "run", 3, monkeypatch)
    state = RunFolder.existing(tmp_path / "run").load()["state"]
    assert len(state) == parts
    assert all(part.shape == (1, 4, 5) and np.asarray(part).any() for part in state)


@pytest.mark.parametrize("context, carried", [(None, 3), (16, 1)])
def test_the_state_goes_on_from_chunk_to_chunk_until_it_starts_anew(tmp_path, context, carried):
    config = of_model("lstm", tmp_path, context=context, lr=1e-30, dropout=0.0, dtype="float64")
    training = Training(config, build_problem(config))
    for epoch in (0, 1):
        chunks = [training.problem.batch(part)[0] for part in training.problem.epoch(epoch)]
        steps = training.steps_of_epoch()
        for _ in range(3):
            next(steps)
        read = np.concatenate(chunks[3 - carried : 3], axis=1)
        _, *wanted = training.model(read, *training.model.initial_state(4))
        for part, other in zip(training.state, wanted, strict=True):
            np.testing.assert_allclose(np.asarray(part), other.detach().numpy(), rtol=1e-9)
        for _ in steps:
            pass
        training.finish_epoch()


def test_truncated_the_memory_of_an_epoch_does_not_grow_with_the_text(tmp_path):
    def peak(repeats):
        (tmp_path / "long.txt").write_text(TEXT[:45] * repeats)
        config = Config.choose(
            model="lstm", data=str(tmp_path / "long.txt"), width=64, batch_size=1, bptt=50, epochs=1, compile=False
        )
        training = Training(config, build_problem(config))
        tracemalloc.start()
        try:
            steps = sum(1 for _ in training.steps_of_epoch())
            return steps, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(8)  # what is made once for all
    (few, short), (many, long) = peak(8), peak(60)
    assert many >= 7 * few > 30
    assert long < 1.3 * short


def test_a_finished_run_goes_on_to_the_same_report(tmp_path):
    start(small(), tmp_path / "run", console=silent())
    before = remembered(tmp_path / "run")
    console = silent()
    resume(tmp_path / "run", {}, console=console)
    assert remembered(tmp_path / "run") == before
    assert "all 3 epochs are over already" in console.file.getvalue()
    assert "Test accuracy" in console.file.getvalue()


def test_a_run_goes_on_without_its_metrics(tmp_path, monkeypatch):
    interrupted(small(), tmp_path / "run", 6, monkeypatch)
    (tmp_path / "run" / METRICS).unlink()
    outcome = resume(tmp_path / "run", {}, console=silent())
    assert [line["epoch"] for line in outcome.history] == [2, 3]


def test_overwriting_leaves_nothing_of_the_run_before(tmp_path):
    start(small(epochs=5), tmp_path / "run", console=silent())
    start(small(), tmp_path / "fresh", console=silent())
    start(small(), tmp_path / "run", overwrite=True, console=silent())
    assert remembered(tmp_path / "run") == remembered(tmp_path / "fresh")


# It is compiled ------------------------------------------------------------------------------------------------------


def after_two_epochs(config):
    training = Training(config, build_problem(config))
    assert training.compile() == []
    for _ in range(2):
        list(training.steps_of_epoch())
        training.finish_epoch()
    return training


@pytest.mark.parametrize("options", VARIETY, ids=["dropout and batch norm", "sgd", "residual rmsprop"])
def test_compiled_steps_come_to_the_same_network_as_eager_ones(options):
    options = options | {"dtype": "float64"}
    compiled, eager = (after_two_epochs(small(**options, compile=choice)) for choice in (True, False))
    # A bias before batch normalisation has no gradient but rounding errors, which Adam makes steps of: a row between
    # two classes may go to either.
    for name, expected in eager.measure().items():
        a_row = 2 / 1438 if "accuracy" in name else 0
        assert compiled.measure()[name] == pytest.approx(expected, rel=1e-5, abs=a_row), name


@pytest.mark.parametrize("model", MODELS)
def test_compiled_steps_of_every_model_come_to_the_same_network_too(tmp_path, model):
    config = of_model(model, tmp_path, dtype="float64")
    compiled, eager = (after_two_epochs(replace(config, compile=choice)) for choice in (True, False))
    assert compiled.measure() == pytest.approx(eager.measure(), rel=1e-5)


def test_every_shape_of_batch_is_compiled_once_and_before_the_first_step():
    training = after_two_epochs(small(batch_size=500))  # 1438 rows are two batches of 500 and one of 438
    programs = training._fast_step.variants
    assert [program.arguments[0].shape for program in programs] == [(500, 64), (438, 64)]


@pytest.mark.parametrize("options", VARIETY, ids=["dropout and batch norm", "sgd", "residual rmsprop"])
def test_compiling_changes_nothing_that_is_saved(options):
    training = Training(small(**options), digits())
    training.optimizer.prepare()
    before = flat(training.state_dict())
    training.compile()
    assert flat(training.state_dict()) == before


def test_a_step_that_cannot_be_compiled_runs_as_it_is_and_one_line_says_why(tmp_path, monkeypatch):
    plain = Training.__init__

    def printing(self, config, problem):
        plain(self, config, problem)
        step = self.train_step
        self.train_step = lambda *batch: (print("a step"), step(*batch))[1]
        self._fast_step = self.train_step

    monkeypatch.setattr(Training, "__init__", printing)
    console = silent()
    start(small(), tmp_path / "run", console=console)
    (line,) = [line for line in console.file.getvalue().splitlines() if "uncompiled" in line]
    assert line.startswith("Steps run uncompiled, as --no-compile: TraceError: a compiled function must not have side")
    monkeypatch.undo()
    monkeypatch.setattr(runs, "plot", lambda history, title: b"")
    start(small(compile=False), tmp_path / "eager", console=silent())
    state, other = (remembered(tmp_path / name)[0] for name in ("run", "eager"))
    assert state["model"] == other["model"]


@pytest.mark.filterwarnings("default")
def test_a_warning_of_the_compiler_is_a_line_of_the_run(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "file" / "cache"))
    console = silent()
    start(small(width=7), tmp_path / "run", console=console)
    (line,) = [line for line in console.file.getvalue().splitlines() if "cannot be kept" in line]
    assert "CHAINRULE_CACHE" in line


# What stops it -------------------------------------------------------------------------------------------------------


def test_a_checkpoint_from_before_there_were_other_models_goes_on_too(tmp_path, monkeypatch):
    start(small(), tmp_path / "whole", console=silent())
    interrupted(small(), tmp_path / "parts", 6, monkeypatch)
    folder = RunFolder.existing(tmp_path / "parts")
    state = folder.load()
    del state["state"], state["progress"]["rows"]
    for name in ("model", "kernel", "shift", "turn", "heads", "context", "bptt"):
        del state["config"][name]
    folder.save(state)
    resume(tmp_path / "parts", {}, console=silent())
    assert remembered(tmp_path / "parts") == remembered(tmp_path / "whole")


def test_changed_options_are_refused_on_going_on(tmp_path, monkeypatch):
    interrupted(small(), tmp_path / "run", 2, monkeypatch)
    with pytest.raises(RunError, match=r"--lr is 0\.01 there, not 0\.5\. Leave them out"):
        resume(tmp_path / "run", {"lr": 0.5, "width": 8}, console=silent())


def test_changed_data_are_refused_on_going_on(tmp_path, monkeypatch):
    table = tmp_path / "table.csv"
    rows = np.random.default_rng(0).normal(size=(500, 3))
    np.savetxt(table, rows, delimiter=",", header="a,b,y", comments="")
    config = small(data=str(table), target="y", batch_size=100)
    interrupted(config, tmp_path / "run", 2, monkeypatch)
    np.savetxt(table, rows + 1, delimiter=",", header="a,b,y", comments="")
    with pytest.raises(RunError, match="is not what the run was started with"):
        resume(tmp_path / "run", {}, console=silent())


@pytest.mark.parametrize("spoil", [
    lambda state: state["model"].pop("layers.0.weight"),
    lambda state: state["config"].pop("lr"),
    lambda state: state["config"].update(depth=5),
    lambda state: state["config"].update(width="wide"),
    lambda state: state.pop("rng"),
    lambda state: state["progress"].update(more=1),
    lambda state: state["optimizer"].update(state=None),
    lambda state: state.update(data=None),
])  # fmt: skip
def test_a_checkpoint_with_parts_missing_or_wrong_is_refused_in_one_line(tmp_path, monkeypatch, spoil):
    interrupted(small(), tmp_path / "run", 2, monkeypatch)
    folder = RunFolder.existing(tmp_path / "run")
    state = folder.load()
    spoil(state)
    folder.save(state)
    with pytest.raises(RunError, match="checkpoint") as refused:
        resume(tmp_path / "run", {}, console=silent())
    assert "\n" not in str(refused.value)


def test_divergence_names_the_step_and_what_to_try_and_leaves_a_run_that_loads(tmp_path):
    config = small(optimizer="sgd", lr=1e6, schedule="constant", activation="linear")
    with pytest.raises(
        Diverged, match=r"The loss became (nan|inf) in step \d of epoch \d.*Try a smaller --lr \(now 1e\+06\)"
    ):
        start(config, tmp_path / "run", console=silent())
    state = RunFolder.existing(tmp_path / "run").load()
    training = Training(config, build_problem(config))
    training.load_state_dict(state)
    assert all(np.isfinite(value.numpy()).all() for value in training.model.state_dict().values())


def test_a_second_interrupt_does_not_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_VIEWS", 0)

    class Impatient(Interrupting):
        def at(self, position):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    training = Training(small(), build_problem(small()))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        loop.Loop(training, RunFolder.create(tmp_path, "digits"), [], Impatient(1)).run()
    assert signal.getsignal(signal.SIGINT) is before
