"""The doctor's examination in the clinic: what counts as right, and the record of what was said."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from clinic import examine, healthy
from clinic.__main__ import main
from clinic.cases import CASES
from clinic.examine import Examined, figures
from typer.testing import CliRunner

from chainrule import optim

SICK = CASES["mlp-circles-cannot-overfit-batch-linear-chainrule"]
WELL = CASES["mlp-circles-healthy-chainrule"]
PLACED = CASES["mlp-digits-deep-dead-batchnorm-zero-scale-chainrule"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(examine, "RECORD", tmp_path / "examined.json")
    app = typer.Typer()
    app.command()(main)
    return lambda *arguments: CliRunner().invoke(app, [*arguments])


def test_the_command_examines_prints_and_keeps_what_the_doctor_said(run):
    done = run("--no-repair", "--only", SICK.name, "--only", WELL.name)
    assert done.exit_code == 0
    assert "100.0%" in done.output
    assert "0.0%" in done.output
    kept = examine.read()
    assert kept.keys() == {SICK.name, WELL.name}
    assert kept[SICK.name].code == "cannot-overfit-batch"
    assert kept[WELL.name].findings == ()
    assert kept[SICK.name].score is None


def test_the_list_shows_what_was_kept(run):
    assert "exploding-gradient" not in run("--list", "--only", WELL.name).output
    examine.write({WELL.name: Examined((("exploding-gradient", ("0",)),), 1.0)})
    assert "exploding-gradient" in run("--list", "--only", WELL.name).output


def test_only_the_first_finding_counts():
    right, wrong = ("cannot-overfit-batch", ("",)), ("dying-relu", ("2",))
    assert Examined((right, wrong), 0.0).is_right(SICK)
    assert not Examined((wrong, right), 0.0).is_right(SICK)
    assert not Examined((), 0.0).is_right(SICK)
    assert not Examined((right,), 0.0, error="ValueError").is_right(SICK)
    assert not Examined((wrong,), 0.0).is_right(WELL)


def test_the_right_finding_must_name_a_right_layer_first():
    place = PLACED.layers[0]
    assert Examined((("dead-batchnorm", (place, "elsewhere")),), 0.0).is_right_place(PLACED)
    assert not Examined((("dead-batchnorm", ("elsewhere", place)),), 0.0).is_right_place(PLACED)


def test_a_patients_own_schedule_goes_on_with_the_repaired_optimizer_at_its_rate():
    setting = replace(healthy.HEALTHY["mlp-circles"], schedule=lambda step: min(1, (step + 1) / 10))
    patient = setting.patient("chainrule", 0)
    repaired = SimpleNamespace(optimizer=optim.SGD(patient.model.parameters(), lr=0.5))
    schedule = examine._scheduled(patient, repaired, steps=100)
    rates = []
    for _ in range(12):
        rates.append(repaired.optimizer.param_groups[0]["lr"])
        schedule.step()
    np.testing.assert_allclose(rates, [*np.linspace(0.05, 0.5, 10), 0.5, 0.5])


def test_figures_are_shares_of_the_sick_and_of_the_healthy():
    answers = {
        SICK.name: Examined((("cannot-overfit-batch", ("",)),), 0.0, score=95.0, healthy=97.0),
        PLACED.name: Examined((("dying-relu", ("12",)),), 0.0, score=10.0, healthy=97.0),
        WELL.name: Examined((("dying-relu", ("2",)),), 0.0),
    }
    assert figures([SICK, PLACED], answers).by_hand == 0.0
    answers[PLACED.name] = replace(answers[PLACED.name], by_hand="the data")
    seen = figures([SICK, PLACED, WELL], answers)
    assert (seen.sick, seen.healthy, seen.detection, seen.repaired) == (2, 1, 0.5, 0.5)
    assert (seen.localisation, seen.false_alarms) == (0.0, 1.0)
    assert (seen.by_hand, seen.repaired_others) == (0.5, 1.0)
