"""The benchmarks compare like with like: all contenders compute the same, and a difference stops them."""

import math

import pytest
from benchmarks.agreement import TOLERANCE, Disagreement, agree
from benchmarks.cases import CASES, DEEP, MLPS, SCALAR
from benchmarks.contenders import CONTENDERS
from benchmarks.crew import crew
from benchmarks.forward_mode import peak_bytes
from benchmarks.graph import kept_by_graph
from benchmarks.memory import kept
from benchmarks.timing import prepare

import chainrule as cr

SECONDS_TO_COMPILE = {"torch_compiled"}
QUICK = [contender for contender in CONTENDERS if contender.installed and contender.key not in SECONDS_TO_COMPILE]


@pytest.fixture(scope="module")
def members():
    with crew(QUICK, [1]) as started:
        yield started


@pytest.mark.parametrize("case", [*MLPS[:2], MLPS[3], SCALAR], ids=lambda case: case.name)
def test_all_contenders_compute_the_same_twenty_results(case, members):
    playing = [member for member in members if case.kind in member.contender.kinds]

    entries, agreement = prepare(case, playing)

    assert {entry.member.contender.key for entry in entries} == {
        contender.key for contender in QUICK if case.kind in contender.kinds
    }
    assert agreement.results == 20
    assert agreement.deviation < TOLERANCE


def test_the_loss_falls_by_far_more_than_the_tolerance_so_that_agreement_says_something(members):
    shallow_and_deep = (*MLPS[:2], MLPS[4])  # in the other deep row gradients vanish; this is its twin
    assert shallow_and_deep[-1].near_identity
    for case in shallow_and_deep:
        _, agreement = prepare(case, members[:1])

        assert agreement.first - agreement.last > 100 * TOLERANCE * agreement.first


@pytest.mark.parametrize("wrong", [1.0 + 2 * TOLERANCE, math.nan, math.inf])
def test_a_contender_that_computes_something_else_is_an_error_that_names_it(wrong):
    rows = {"right": [2.0, 1.0], "also right": [2.0, 1.0 + TOLERANCE / 2], "astray": [2.0, wrong]}

    with pytest.raises(Disagreement, match=r"step 2 .*[\s\S]*astray"):
        agree("a case", rows)


@pytest.mark.parametrize("case", DEEP, ids=lambda case: case.name)
def test_chainrule_keeps_no_more_after_a_forward_pass_than_pytorch(case):
    own, *peers = kept(case, QUICK).kept

    assert own.contender == "chainrule_eager"
    for peer in peers:
        assert own.kept <= peer.kept
    # The account is complete: the process did not grow by more than it, the result, and a few hundred Python objects.
    assert own.grown < own.kept + 2**20


def test_what_the_graph_keeps_is_counted_once_and_in_whole_blocks():
    x = cr.tensor([[1.0, 2.0, 3.0]] * 4, requires_grad=True)  # 96 bytes
    y = x.tanh()  # 96 bytes: the rule of tanh reads y
    z = y * y[:2].sum(axis=0) + x  # the product reads y again, and the sum: 24 bytes; the addition reads nothing

    blocks = kept_by_graph(z)

    assert sorted(blocks.values()) == [24, 96]


def test_the_peak_memory_of_forward_mode_does_not_grow_with_depth():
    shallow, deep = peak_bytes(5, side=64), peak_bytes(500, side=64)

    assert deep < 1.05 * shallow


def test_cases_have_names_of_their_own():
    assert len(CASES) == len(MLPS) + len(DEEP) + 1
