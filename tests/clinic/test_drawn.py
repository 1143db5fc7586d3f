"""Cases that are drawn: the same seed gives the same, every fault can be drawn, and what is kept was proved."""

import json
from dataclasses import replace

import numpy as np
import pytest
import typer
from clinic import __main__ as command
from clinic import cases, drawn
from clinic.case import Case
from clinic.drawn import CODES, proof, record
from clinic.drawn.change import Change
from clinic.drawn.healthy import SHARES, plan
from clinic.drawn.record import Proof
from clinic.examine import Examined
from clinic.frameworks import missing
from clinic.measure import GOOD, HARM
from typer.testing import CliRunner

PROOFS = record.read()
ACCEPTED = {key: proof for key, proof in PROOFS.items() if proof.attempt is not None}


@pytest.fixture
def no_record(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "RECORD", tmp_path / "proved.json")


def values(case: Case) -> list[np.ndarray]:
    """All numbers of a patient that are there before it is trained."""
    patient = case.make(0)
    arrays = [*patient.model.state_dict().values(), *patient.batch]
    return [patient.framework.numpy(array) for array in arrays]


def in_chainrule(seed: int, number: int, attempt: int = 0) -> Case:
    """A sick case, made with chainrule whatever its lot."""
    it = drawn.sick(seed, number, attempt)
    sickness = drawn.sickness_of(it.change, it.case.fault, f"{seed}.{number}", "chainrule")
    return replace(it.case, make=lambda start: sickness.setting.patient("chainrule", start, sickness.healthy))


# The draw -----------------------------------------------------------------------------------------------------------


def test_the_same_seed_and_number_are_the_same_case_bit_for_bit_and_another_seed_is_another():
    for number in (0, 1, 4, 12):
        first, again = (in_chainrule(5, number) for _ in range(2))
        assert replace(first, make=len) == replace(again, make=len)
        for one, other in zip(values(first), values(again), strict=True):
            np.testing.assert_array_equal(one, other)
    named = [drawn.sick(seed, number).case for seed in (5, 6) for number in range(50)]
    assert len({(case.architecture, case.data, case.layers, case.steps) for case in named}) > 50


def test_every_fault_takes_its_turn():
    assert len(CODES) == len(set(CODES)) == 25
    assert [drawn.sick(3, number).case.fault for number in range(50)] == [*CODES, *CODES]


def test_architectures_and_frameworks_come_as_often_as_is_said():
    rng = np.random.default_rng(0)
    kinds = [plan(rng).architecture for _ in range(2000)]
    for architecture, share in SHARES.items():
        assert kinds.count(architecture) / 2000 == pytest.approx(share, abs=0.04)
    frameworks = [drawn.framework_of(1, number, sick=True) for number in range(2000)]
    assert frameworks.count("torch") / 2000 == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("number", range(25), ids=CODES.__getitem__)
def test_a_sick_network_has_the_layers_of_its_label_and_its_batch_runs(number):
    for attempt in range(2):
        case = in_chainrule(11, number, attempt)
        patient = case.make(0)
        assert set(case.layers) <= {path for path, _ in patient.model.named_modules()}
        assert set(case.accepted) <= set(CODES) - {case.fault}
        inputs, targets = patient.batch
        with np.errstate(all="ignore"):
            loss = patient.loss_fn(patient.model(inputs), targets)
        assert loss.shape == ()
        assert loss.requires_grad


def test_a_healthy_plan_names_layers_that_its_network_has():
    rng = np.random.default_rng(1)
    for _ in range(40):
        it = plan(rng)
        model = it.setting("1.h0").patient("chainrule", 0).model
        named = {path for layer in it.hidden for path in layer} | {*it.norms, it.out}
        assert named <= {path for path, _ in model.named_modules()}


# The record ---------------------------------------------------------------------------------------------------------


def test_the_kept_figures_bear_out_every_drawn_label():
    kept = proof.figures()
    assert set(kept) >= set(cases.DRAWN)
    for case in cases.DRAWN.values():
        assert case.steps > 0
        if case.fault is None:
            assert kept[case.name].score >= GOOD[case.data]
        else:
            assert kept[case.name].healthy >= GOOD[case.data]
            assert kept[case.name].harm >= HARM - 0.11 or not case.harm  # of rounded figures


def test_a_case_is_made_alone_from_its_seed_and_number():
    for key, known in [*ACCEPTED.items()][::7]:
        seed, number = key.split(".")
        case = drawn.case_of(int(seed), int(number.removeprefix("h")), PROOFS, sick="h" not in number)
        assert case.name == known.name
        assert key in case.name.split("-")[2]


def test_either_half_has_every_fault_every_architecture_and_both_frameworks():
    for half in ("tuning", "held-out"):
        found = [case for case in cases.DRAWN.values() if case.half == half]
        assert {case.fault for case in found} == {None, *CODES}
        assert {case.architecture for case in found} == {*SHARES}
        assert {case.framework for case in found} == {"chainrule", "torch"}


def test_each_fault_is_drawn_as_often_as_the_other():
    sick = [*drawn.drawn(1, sick=50, healthy=0)]
    assert sorted(case.fault for case in sick) == sorted([*CODES] * 2)


def test_a_refused_number_is_remembered_and_is_no_case(no_record, monkeypatch):
    monkeypatch.setattr(proof, "_harmed", lambda it, least: None)
    assert proof.proved(9, 0, sick=True) == Proof(None)
    monkeypatch.undo()
    proofs = {"9.0": Proof(None), "9.25": Proof(2, "one"), "9.50": Proof(0, "other")}
    assert [*drawn.numbers(9, 26, proofs, sick=True)] == [25, 50]
    with pytest.raises(ValueError, match=r"number 0 of seed 9 was refused"):
        drawn.case_of(9, 0, proofs, sick=True)


def test_a_draw_without_harm_is_refused_and_one_with_harm_is_kept_with_its_figures(no_record):
    it = next(
        found
        for found in (drawn.sick(2, number) for number in range(18, 2000, 25))
        if found.case.framework == "chainrule" and found.case.architecture == "mlp" and found.case.data == "circles"
    )
    found = proof._harmed(it, HARM)
    assert found
    assert found.healthy - found.score > HARM
    as_healthy = replace(it.case, make=lambda seed: it.change.plan.setting("2.0").patient("chainrule", seed))
    assert proof._harmed(drawn.Drawn(as_healthy, Change(it.change.plan, "none", {})), HARM) is None


def test_a_healthy_network_that_is_slow_at_its_rate_is_refused(no_record, monkeypatch):
    number = next(
        number
        for number in range(500)
        if drawn.framework_of(4, number, sick=False) == "chainrule"
        and drawn.healthy(4, number).case.name.startswith("mlp-circles")
    )
    monkeypatch.setattr(proof, "HARM", -1.0)  # else nothing is better than 98 by enough to be asked for
    for score_at_another_rate, attempt in ((0.0, 0), (200.0, None)):
        monkeypatch.setattr(proof, "_at_rate", lambda *_, score=score_at_another_rate: score)
        assert proof._healthy(4, number).attempt == attempt


def test_the_record_is_in_order_and_joins_what_was_there(no_record):
    record.write({"2.h0": Proof(0), "2.10": Proof(None)})
    record.write({"2.9": Proof(1), "1.h3": Proof(0)})
    assert [*json.loads(record.RECORD.read_text())] == ["1.h3", "2.9", "2.10", "2.h0"]
    assert record.read()["2.9"] == Proof(1)


# The command --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(missing("torch"), reason="a draw is of either framework")
def test_the_command_draws_proves_and_examines(no_record, monkeypatch):
    monkeypatch.setattr(proof, "_harmed", lambda it, least: Proof(0, it.case.name, 1.0, 99.0, 0.1))
    monkeypatch.setattr(proof, "_healthy", lambda seed, number: Proof(0, drawn.healthy(seed, number).case.name, 99.0))
    seen = []

    def examine(case, cure):
        seen.append(case)
        return Examined(((case.fault, case.layers or ("",)),) if case.fault else (), 0.1)

    monkeypatch.setattr(command.examining, "examine", examine)
    monkeypatch.setattr(command.examining, "write", lambda answers: None)
    app = typer.Typer()
    app.command()(command.main)
    result = CliRunner().invoke(app, ["--draw", "77", "--count", "35", "--no-repair"])
    assert result.exit_code == 0
    assert len(seen) == 35
    assert {case.fault for case in seen} == {None, *CODES}
    assert {case.half for case in seen} == {"held-out"}
    assert "100.0%" in result.output
