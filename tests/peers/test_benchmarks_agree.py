"""The benchmarks compare like with like: all contenders compute the same, and a difference stops them."""

import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from benchmarks import contenders, timing
from benchmarks.agreement import Agreement, Disagreement, agree, digest
from benchmarks.cases import CASES, DEEP, DERIVATIVES, LOOPS, MLPS, NETWORKS, SCALAR
from benchmarks.contenders import BOUND, BY_KEY, CONTENDERS, SUBJECT
from benchmarks.crew import TooSlow, crew
from benchmarks.forward_mode import peak_bytes
from benchmarks.memory import kept, of_step
from benchmarks.networks import Network
from benchmarks.problems import determinant
from benchmarks.results import Column, FirstCall, Quartiles, Results, TimedRow
from benchmarks.tables import tables
from benchmarks.timing import prepare

import chainrule as cr

TOLERANCE = MLPS[0].tolerance
SECONDS_TO_COMPILE = {"torch_compiled"}
SECONDS_TO_COMPILE_LSTM = {"chainrule_compiled"}
QUICK = [contender for contender in CONTENDERS if not contender.missing and contender.key not in SECONDS_TO_COMPILE]
COMPILES_AT_ONCE = (*MLPS[:2], MLPS[3], SCALAR, *DERIVATIVES)


@pytest.fixture(scope="module")
def members():
    with crew(QUICK, [1]) as started:
        yield started


@pytest.mark.parametrize("case", COMPILES_AT_ONCE, ids=lambda case: case.name)
def test_all_contenders_compute_the_same_results(case, members):
    playing = [member for member in members if case.kind in member.contender.kinds]

    entries, reasons, agreement = prepare(case, playing, within=60)

    assert reasons == {}
    assert {entry.member.contender.key for entry in entries} == {
        contender.key for contender in QUICK if case.kind in contender.kinds
    }
    assert agreement.results == case.results
    assert agreement.deviation < case.tolerance


@pytest.mark.parametrize("case", LOOPS, ids=lambda case: case.name)
def test_loops_over_scalars_compute_the_same_where_nothing_is_unrolled_for_minutes(case, members):
    playing = [member for member in members if "loop" in member.contender.kinds and member.contender.key != "jax_jit"]

    _, reasons, agreement = prepare(case, playing, within=60)

    assert reasons == {}
    assert agreement.deviation < case.tolerance


@pytest.mark.parametrize("case", NETWORKS, ids=lambda case: case.name)
def test_recurrent_convolutional_and_attention_networks_compute_the_same_losses(case, members, monkeypatch):
    monkeypatch.setattr(Network, "results", 5)  # the benchmark itself compares 50
    slow = SECONDS_TO_COMPILE_LSTM if case.kind == "lstm" else set()
    playing = [m for m in members if case.kind in m.contender.kinds and m.contender.key not in slow]

    entries, reasons, agreement = prepare(case, playing, within=60)
    for member in playing:
        member.ask("forget", case=case.name)

    assert reasons == {}
    assert {entry.member.contender.key for entry in entries} == (
        {"chainrule_eager", "chainrule_compiled", "torch_eager", "jax_jit"} - slow
    )
    assert agreement.deviation < case.tolerance


def test_the_determinant_by_minors_is_the_determinant():
    entries = np.random.default_rng(3).standard_normal(49)

    assert determinant(list(entries)) == pytest.approx(np.linalg.det(entries.reshape(7, 7)))


def test_the_loss_falls_by_far_more_than_the_tolerance_so_that_agreement_says_something(members):
    shallow_and_deep = (*MLPS[:2], MLPS[4])  # in the other deep row gradients vanish; this is its twin
    assert shallow_and_deep[-1].near_identity
    (eager,) = (member for member in members if member.contender is SUBJECT)
    for case in (*shallow_and_deep, *NETWORKS):
        _, _, agreement = prepare(case, [eager], within=60)

        assert agreement.first - agreement.last > 100 * TOLERANCE * agreement.first


@pytest.mark.parametrize("wrong", [1.0 + 2 * TOLERANCE, math.nan, math.inf])
def test_a_contender_that_computes_something_else_is_an_error_that_names_it(wrong):
    rows = {"right": [2.0, 1.0], "also right": [2.0, 1.0 + TOLERANCE / 2], "astray": [2.0, wrong]}

    with pytest.raises(Disagreement, match=r"step 2 .*[\s\S]*astray"):
        agree("a case", {name: list(map(digest, results)) for name, results in rows.items()}, TOLERANCE)


def test_one_wrong_entry_of_a_gradient_is_a_disagreement():
    right = [np.array(1.0), np.random.default_rng(0).standard_normal(10_000)]
    wrong = [right[0], right[1].copy()]
    wrong[1][17] += 1e-3
    swapped = [right[0], right[1][::-1]]

    assert agree("a case", {"one": [digest(right)], "two": [digest(right)]}, 1e-8).deviation == 0
    for other in (wrong, swapped, right[:1]):
        with pytest.raises(Disagreement):
            agree("a case", {"right": [digest(right)], "other": [digest(other)]}, 1e-8)


def test_a_contender_that_does_not_answer_in_time_is_ended_and_its_other_settings_are_ready(monkeypatch):
    with crew([BY_KEY["numpy_by_hand"]], [1]) as (member,):
        answered = member.ask

        def impatient(request, within=None, **arguments):
            if arguments.get("setting") == "slow":
                member.end()
                member.start()
                member.listen()
                raise TooSlow("slow")
            return ["", "slow"] if request == "settings" else answered(request, within, **arguments)

        monkeypatch.setattr(member, "ask", impatient)

        entries, reasons, agreement = prepare(MLPS[0], [member], within=60)

        assert [entry.setting for entry in entries] == [""]
        assert reasons == {"numpy_by_hand": "did not compile\nin 60 s"}
        assert agreement.results == MLPS[0].results


def test_a_contender_that_fails_in_one_row_is_named_with_what_it_raised(capsys):
    with crew([BY_KEY["numpy_by_hand"]], [1]) as (member,):
        known = member.ask
        member.ask = lambda request, *rest, **more: (
            ["", "nonsense"] if request == "settings" else known(request, *rest, **more)
        )

        entries, reasons, _ = prepare(MLPS[0], [member], within=60)

    assert [entry.setting for entry in entries] == [""]
    assert reasons == {"numpy_by_hand": "failed:\nKeyError"}
    assert "KeyError: 'nonsense'" in capsys.readouterr().err


def test_waiting_for_a_worker_ends_at_its_time():
    with crew([BY_KEY["numpy_by_hand"]], [1]) as (member,):
        before = member.process.pid
        member.ask("prepare", case=MLPS[0].name, setting="")

        with pytest.raises(TooSlow, match="NumPy by hand, 1 thread: no answer to 'block' in 0 s"):
            member.ask("block", 0.2, case=MLPS[0].name, setting="", seconds=30)

        assert member.process.pid != before
        assert member.ask("settings", case=MLPS[0].name) == [""]


def test_a_contender_that_cannot_run_here_says_why(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("CC", "my-cc")

    assert BOUND.missing == "there is no compiler called my-cc or c++; name yours in CC and CXX"
    monkeypatch.delattr(cr, "compile", raising=False)
    assert BY_KEY["chainrule_compiled"].missing == "chainrule has no `compile` here"
    nowhere = contenders.Contender("nowhere", "Nowhere", "a_package_that_is_not_there", ())
    assert nowhere.missing == "a_package_that_is_not_there is not installed"


@pytest.mark.skipif(bool(BOUND.missing), reason=BOUND.missing)
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
@pytest.mark.parametrize("case", MLPS[:2], ids=lambda case: case.name)
def test_the_hand_written_step_computes_the_same_with_threads_of_its_own_and_of_blas(case):
    with crew([BOUND], [1, 2]) as members:
        entries, _, agreement = prepare(case, members, within=60)

    assert [entry.setting for entry in entries] == ["", "threads share the batch", "threads of BLAS"]
    assert agreement.deviation < case.tolerance


@pytest.mark.parametrize("case", DEEP, ids=lambda case: case.name)
def test_chainrule_keeps_no_more_after_a_forward_pass_than_pytorch(case):
    own, *peers = kept(case, QUICK).kept

    assert own.contender == "chainrule_eager"
    for peer in peers:
        assert own.kept <= peer.kept
    # The account is complete: the process did not grow by more than it, the result, and a few hundred Python objects.
    assert own.grown < own.kept + 2**20


def test_the_memory_of_a_step_holds_at_least_the_parameters():
    row = of_step(MLPS[2], [BY_KEY["numpy_by_hand"]])

    (step,) = row.steps
    assert row.parameters == 4 * (785 * 512 + 513 * 512 + 513 * 10)
    assert step.peak >= step.held >= row.parameters


def test_the_peak_memory_of_forward_mode_does_not_grow_with_depth():
    shallow, deep = peak_bytes(5, side=64), peak_bytes(500, side=64)

    assert deep < 1.05 * shallow


def test_cases_have_names_of_their_own():
    assert len(CASES) == len(MLPS) + len(NETWORKS) + 1 + len(DERIVATIVES) + len(LOOPS) + len(DEEP)


def row_of(medians, missing=()):
    columns = [
        Column(key, 1, "", Quartiles(seconds, seconds, seconds), 9, [seconds, seconds], {}, {})
        for key, seconds in medians.items()
    ]
    return TimedRow("a case", "mlp", Agreement(50, 1.0, 0.5, 0.0), columns, 0.0, dict(missing))


def cells_of(results):
    return {table.title: table.cells for table in tables(results)}


def test_others_are_compared_with_chainrule_compiled_where_it_is_there_and_eager_where_it_is_not():
    medians = {"chainrule_eager": 4e-4, "torch_eager": 8e-4, "jax_jit": 6e-4, "c_by_hand": 2e-6}
    shown = {
        name: cells_of(Results("", "", {}, [row_of(medians | compiled)]))["In short"][1]
        for name, compiled in {"eager": {}, "compiled": {"chainrule_compiled": 1e-4}}.items()
    }

    assert shown["eager"] == ["a case", "–", "400 µs", "600 µs, 1.50×", "JAX jit", "2 µs, 1/200×"]
    assert shown["compiled"] == ["a case", "100 µs", "400 µs", "600 µs, 6.00×", "JAX jit", "2 µs, 1/50.0×"]


def test_what_did_not_compile_is_told_and_not_left_out():
    cells = cells_of(
        Results("", "", {}, [row_of({"chainrule_eager": 1e-4}, {"torch_compiled": "did not compile\nin 30 s"})])
    )

    assert cells["One training step"] == [
        ["", "chainrule", "torch.compile"],
        ["a case", "100 µs", "did not compile\nin 30 s"],
    ]


def test_results_are_read_as_they_were_written_and_older_files_too(tmp_path):
    results = Results("today", "a command", {"cores": "2"}, [row_of({"chainrule_eager": 1e-4}, {"jax_jit": "failed"})])
    results.first_calls.append(FirstCall("a case", "jax_jit", 1.0, 0.5, 0.25, 1e-4))
    path = Path(tmp_path, "results.json")
    results.write(path)

    assert Results.read(path) == results
    raw = json.loads(path.read_text())
    del raw["first_calls"], raw["step_memory"], raw["timed"][0]["missing"]
    path.write_text(json.dumps(raw))
    assert Results.read(path).timed[0].columns == results.timed[0].columns


def test_a_setting_that_is_hopeless_in_its_trial_is_not_timed_further():
    with crew([BY_KEY["numpy_by_hand"]], [1]) as (member,):
        fast, slow = timing.Entry(member, "fast"), timing.Entry(member, "slow")

        assert timing._finalists({slow: 2.0, fast: 1.0}) == [fast]
