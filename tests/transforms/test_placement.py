"""Placing checkpoints: the placements compared with all that there are, on chains that Hypothesis makes up."""

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule.transforms.placement import Part, Piece, Unmet, evenly, most_kept, optimal, smallest

sizes = st.integers(0, 9)


@st.composite
def chains(draw, shortest=1):
    """A chain of parts; the output of one is the input of the next, in the same memory where the part is a view."""
    parts, size = [], draw(sizes)
    for _ in range(draw(st.integers(shortest, 6))):
        is_view = draw(st.booleans()) and draw(st.booleans())
        output = size if is_view else draw(sizes)
        keeps_input = draw(st.booleans())
        keeps_output = keeps_input if is_view else draw(st.booleans())
        parts.append(Part(draw(st.integers(1, 9)), draw(sizes), size, output, keeps_input, keeps_output, is_view))
        size = output
    return parts


def all_placements(count):
    """Every way to cut a chain into pieces, each kept whole or checkpointed."""
    for cuts in product([False, True], repeat=count - 1):
        edges = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), count]
        spans = list(pairwise(edges))
        for how in product([False, True], repeat=len(spans)):
            yield [Piece(*span, checkpointed) for span, checkpointed in zip(spans, how, strict=True)]


def played(parts, pieces):
    """The most bytes in use during a forward and a backward pass, and the seconds run again, played step by step."""
    buffers, memory = [0], [parts[0].input]  # which memory each boundary is in
    for part in parts:
        buffers.append(buffers[-1] if part.is_view else len(memory))
        if not part.is_view:
            memory.append(part.output)

    def held(start, stop):
        found = set()
        for i in range(start, stop):
            found.add(("inside", i))
            found |= {buffers[i]} if parts[i].keeps_input else set()
            found |= {buffers[i + 1]} if parts[i].keeps_output else set()
        return found

    def total(found):
        return sum(memory[b] if isinstance(b, int) else parts[b[1]].inside for b in found)

    alive = [{buffers[p.start]} if p.checkpointed else held(p.start, p.stop) for p in pieces]
    most, seconds = total(set().union(*alive)), 0
    for number in reversed(range(len(pieces))):
        piece = pieces[number]
        if piece.checkpointed:
            again = set().union(*alive[: number + 1], held(piece.start, piece.stop))
            most = max(most, total(again))
            seconds += sum(part.seconds for part in parts[piece.start : piece.stop])
    return most, seconds


@given(chains())
def test_the_bytes_counted_are_those_of_the_passes_played_step_by_step(parts):
    for pieces in all_placements(len(parts)):
        assert most_kept(parts, pieces) >= played(parts, pieces)[0]
        if not any(part.is_view for part in parts):  # memory that views share across pieces may be counted twice
            assert most_kept(parts, pieces) == played(parts, pieces)[0]


@given(chains(shortest=4), st.integers(40, 99))
def test_no_placement_within_the_budget_takes_less_time(parts, percent):
    budget = percent * most_kept(parts, [Piece(0, len(parts), False)]) // 100
    seconds = [
        sum(part.seconds for p in pieces if p.checkpointed for part in parts[p.start : p.stop])
        for pieces in all_placements(len(parts))
        if most_kept(parts, pieces) <= budget
    ]
    if not seconds:
        with pytest.raises(Unmet) as caught:
            optimal(parts, budget)
        assert caught.value.smallest == smallest(parts) > budget
        return
    found = optimal(parts, budget)
    assert most_kept(parts, found) <= budget
    assert played(parts, found)[1] == min(seconds)


@given(chains())
def test_the_smallest_budget_is_that_of_the_placement_that_needs_least(parts):
    assert smallest(parts) == min(most_kept(parts, pieces) for pieces in all_placements(len(parts)))
    optimal(parts, smallest(parts))


@pytest.mark.parametrize("count", [300, 1000])
def test_long_chains_are_placed_within_their_budget_too(count):
    parts = [Part(1.0, i % 7, 10, 10, True, False) for i in range(count)]
    for budget in (smallest(parts), count * 13 // 3, count * 13):
        pieces = optimal(parts, budget)
        assert most_kept(parts, pieces) <= budget
        assert [p.start for p in pieces] == [0, *(p.stop for p in pieces[:-1])]
        assert pieces[-1].stop == count


def test_a_chain_of_equal_layers_gets_down_to_twice_the_root_of_its_length():
    parts = [Part(1.0, 0, 1, 1, True, False)] * 400
    assert smallest(parts) <= 2 * 20
    assert most_kept(parts, evenly(400)) == 39  # 19 inputs of pieces, and 20 layers of one piece


def test_evenly_leaves_the_last_piece_whole():
    assert evenly(10) == [Piece(0, 3, True), Piece(3, 6, True), Piece(6, 9, True), Piece(9, 10, False)]
    assert evenly(10, 5) == [Piece(0, 5, True), Piece(5, 10, False)]
    assert evenly(3, 100) == [Piece(0, 3, False)]
    assert evenly(0) == []
    assert optimal([], 1) == []


@pytest.mark.parametrize("nbytes, error", [("2 GB", TypeError), (True, TypeError), (0, ValueError), (-1, ValueError),
                                           (float("inf"), ValueError), (float("nan"), ValueError)])  # fmt: skip
def test_a_budget_is_a_number_of_bytes(nbytes, error):
    with pytest.raises(error, match="MemoryBudget"):
        cr.MemoryBudget(nbytes)
    assert cr.MemoryBudget(2e9).nbytes == 2_000_000_000
