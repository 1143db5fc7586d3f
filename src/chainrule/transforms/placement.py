"""Where to put checkpoints in a chain of parts: the cheapest placement within a memory budget.

Everything here is arithmetic on measured sizes and times. A placement cuts the chain into pieces; a piece is either
kept whole or checkpointed: then only its input is kept, and the piece is run again on the way back. The walk back
runs from the end, so while a piece is run again, what the pieces before it keep is there beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any, NamedTuple

import numpy as np

#: How many (bytes, seconds) pairs are followed at each place; networks of equal layers have fewer.
_MOST_STATES = 500

#: How many parts a placement is looked for among.
_MOST_PARTS = 256


@dataclass(frozen=True)
class MemoryBudget:
    """How much the modules of a `Sequential` may keep between the passes: `nn.Sequential(..., checkpoint=...)`.

    The modules are measured on the first input of each shape, in a run that leaves no trace, and checkpoints are then
    placed so that running parts again takes the least time.

    Attributes:
        nbytes: the most that inputs and inner values of the modules may take at any moment of a forward and a backward
            pass, what is run again included. Parameters, gradients and what an operation needs while it runs come on
            top.
    """

    nbytes: int

    def __post_init__(self) -> None:
        if isinstance(self.nbytes, bool) or not isinstance(self.nbytes, (int, float, np.integer)):
            raise TypeError(f"MemoryBudget: needs a number of bytes, such as 2 * 2**30, got {self.nbytes!r}")
        if not self.nbytes >= 1 or self.nbytes == float("inf"):
            raise ValueError(f"MemoryBudget: the number of bytes must be at least 1 and finite, got {self.nbytes!r}")
        object.__setattr__(self, "nbytes", int(self.nbytes))


class Part(NamedTuple):
    """What was measured of one part of a chain.

    Attributes:
        seconds: a run of it.
        inside: bytes that it keeps, but for its input and its output.
        input: bytes of its input.
        output: bytes of its output.
        keeps_input, keeps_output: whether it keeps them.
        is_view: whether its output is in the memory of its input.
    """

    seconds: float
    inside: int
    input: int
    output: int
    keeps_input: bool
    keeps_output: bool
    is_view: bool = False


class Piece(NamedTuple):
    """The parts from `start` up to `stop`, kept whole or checkpointed."""

    start: int
    stop: int
    checkpointed: bool


class Unmet(ValueError):
    """A budget that no placement meets.

    Attributes:
        smallest: the smallest that can be met, in bytes.
    """

    def __init__(self, budget: int, smallest: int) -> None:
        super().__init__(f"a budget of {budget:,} bytes cannot be met; the smallest that can is {smallest:,} bytes")
        self.smallest = smallest


def evenly(count: int, length: int | None = None) -> list[Piece]:
    """A checkpoint every `length` parts, by default every √count. The last piece is kept whole: it is needed first.

    Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", section 4.
    """
    length = isqrt(count) if length is None else length
    starts = range(0, count, max(length, 1))
    return [Piece(start, min(start + length, count), start + length < count) for start in starts]


def optimal(parts: Sequence[Part], budget: int) -> list[Piece]:
    """The placement that takes the least time to run pieces again, of those that never need more than `budget` bytes.

    Dynamic programming from the first part on: for each place in the chain, all pairs of bytes kept so far and seconds
    to run again of which no other is better in both. It is exact up to 256 parts and 500 such pairs at a place. Of
    longer chains, neighbours are taken together first; of more pairs, evenly spread ones are followed.

    Raises:
        Unmet: there is none.
    """
    whole = [Piece(0, len(parts), False)] if parts else []
    if most_kept(parts, whole) <= budget:
        return whole
    for length in range(-(-len(parts) // _MOST_PARTS), 0, -1):
        groups = [_together(parts[start : start + length]) for start in range(0, len(parts), length)]
        found = _optimal(groups, budget)
        if found:
            return [Piece(p.start * length, min(p.stop * length, len(parts)), p.checkpointed) for p in found]
    raise Unmet(budget, smallest(parts))


def _together(parts: Sequence[Part]) -> Part:
    """Some parts of a chain as one."""
    inside, extra, has_output = 0, 0, True
    for part in parts:
        more, has_output = kept_whole(part, has_output)
        inside += more
    is_kept = False
    for part in parts:
        more, is_kept = kept_whole(part, is_kept)
        extra += more
    first, last, in_view = parts[0], parts[-1], all(part.is_view for part in parts)
    keeps_output = has_output and not in_view
    return Part(
        sum(part.seconds for part in parts), inside - (last.output if keeps_output else 0), first.input, last.output,
        extra > inside, keeps_output, in_view,
    )  # fmt: skip


def _optimal(parts: Sequence[Part], budget: int) -> list[Piece]:
    table = _States(parts, budget)
    for start in range(len(parts)):
        for is_kept in (False, True):
            if table.settle(start, is_kept):
                table.keep_whole(start, is_kept)
                table.checkpoint(start, is_kept)
    last = [is_kept for is_kept in (False, True) if table.settle(len(parts), is_kept)]
    return table.pieces(last) if last else []


class _From(NamedTuple):
    """Pairs reached at a place: from the first rows of those at `start`, by one piece."""

    size: Any
    seconds: Any
    start: int
    is_kept: bool
    checkpointed: bool


class _States:
    """The pairs of bytes and seconds at each place, with the piece that led to each.

    They are in two tables for each place: the input of the next part may be kept already, by the part before it.
    """

    def __init__(self, parts: Sequence[Part], budget: int) -> None:
        self.parts = parts
        self.budget = budget
        self.reached: dict[tuple[int, bool], list[_From]] = {}
        self.size: dict[tuple[int, bool], Any] = {}
        self.seconds: dict[tuple[int, bool], Any] = {}
        self.origin: dict[tuple[int, bool], tuple[Any, Any]] = {}
        self.reached[0, False] = [_From(np.zeros(1), np.zeros(1), -1, False, False)]

    def settle(self, place: int, is_kept: bool) -> bool:
        """Choose the pairs at a place that are worth following; whether there are any."""
        key = place, is_kept
        reached = self.reached.get(key, [])
        if not reached:
            return False
        size, seconds = np.concatenate([r.size for r in reached]), np.concatenate([r.seconds for r in reached])
        order = np.lexsort((seconds, size))
        least = np.minimum.accumulate(seconds[order])
        order = order[np.concatenate([[True], least[1:] < least[:-1]])]
        if len(order) > _MOST_STATES:
            order = order[np.linspace(0, len(order) - 1, _MOST_STATES).astype(int)]
        first = np.cumsum([0, *(len(r.size) for r in reached)])
        which = np.searchsorted(first, order, side="right") - 1
        self.size[key], self.seconds[key] = size[order], seconds[order]
        self.origin[key] = which, order - first[which]
        return True

    def keep_whole(self, start: int, is_kept: bool) -> None:
        """Follow: part `start` is kept whole."""
        more, then = kept_whole(self.parts[start], is_kept)
        size = self.size[start, is_kept] + more
        self._add(start + 1, then, size, self.seconds[start, is_kept], 0, _From(0, 0, start, is_kept, False))

    def checkpoint(self, start: int, is_kept: bool) -> None:
        """Follow: a checkpointed piece begins with part `start`, of every length that fits."""
        size = self.size[start, is_kept] + (0 if is_kept else self.parts[start].input)
        again, seconds, within, in_view = 0, self.seconds[start, is_kept], True, True
        for place in range(start, len(self.parts)):
            part = self.parts[place]
            more, within = kept_whole(part, within)
            again += more
            seconds = seconds + part.seconds
            in_view = in_view and part.is_view
            if not self._add(place + 1, in_view, size, seconds, again, _From(0, 0, start, is_kept, True)):
                return

    def _add(self, place: int, is_kept: bool, size: Any, seconds: Any, again: int, by: _From) -> bool:
        """Note the pairs that leave room for what is run `again`; whether there are any. They are sorted by size."""
        count = int(np.searchsorted(size, self.budget - again, side="right"))
        if count:
            self.reached.setdefault((place, is_kept), []).append(
                by._replace(size=size[:count], seconds=seconds[:count])
            )
        return count > 0

    def pieces(self, last: Sequence[bool]) -> list[Piece]:
        """The pieces that led to the cheapest pair at the end."""
        place = len(self.parts)
        is_kept = min(last, key=lambda is_kept: self.seconds[place, is_kept].min())
        row = int(self.seconds[place, is_kept].argmin())
        found = []
        while place > 0:
            which, rows = self.origin[place, is_kept]
            by = self.reached[place, is_kept][which[row]]
            found.append(Piece(by.start, place, by.checkpointed))
            place, is_kept, row = by.start, by.is_kept, int(rows[row])
        return _joined(found[::-1])


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Neighbours that are kept whole as one piece."""
    joined: list[Piece] = []
    for piece in pieces:
        if joined and not piece.checkpointed and not joined[-1].checkpointed:
            piece = Piece(joined.pop().start, piece.stop, False)
        joined.append(piece)
    return joined


def kept_whole(part: Part, input_is_kept: bool) -> tuple[int, bool]:
    """The bytes that a part adds to what is kept, and whether its output is kept then."""
    more = part.inside + (part.input if part.keeps_input and not input_is_kept else 0)
    if part.is_view:
        has_it = input_is_kept or part.keeps_input
        return more + (part.output if part.keeps_output and not has_it else 0), has_it or part.keeps_output
    return more + (part.output if part.keeps_output else 0), part.keeps_output


def most_kept(parts: Sequence[Part], pieces: Sequence[Piece]) -> int:
    """The most bytes that are kept at any moment of a forward and a backward pass with this placement."""
    return kept_with(parts, pieces)[1]


def kept_with(parts: Sequence[Part], pieces: Sequence[Piece]) -> tuple[int, int]:
    """The bytes that are kept after a forward pass with this placement, and the most at any moment of both passes."""
    kept, is_kept, most = 0, False, 0
    for piece in pieces:
        inside, within = 0, True
        if piece.checkpointed:
            kept += 0 if is_kept else parts[piece.start].input
            for part in parts[piece.start : piece.stop]:
                more, within = kept_whole(part, within)
                inside += more
            is_kept = all(part.is_view for part in parts[piece.start : piece.stop])
        else:
            for part in parts[piece.start : piece.stop]:
                more, is_kept = kept_whole(part, is_kept)
                kept += more
        most = max(most, kept + inside)
    return kept, most


def smallest(parts: Sequence[Part]) -> int:
    """The smallest budget that a placement meets."""
    low, high = 0, most_kept(parts, [Piece(0, len(parts), False)])
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _is_met(parts, middle) else (middle + 1, high)
    return low


def _is_met(parts: Sequence[Part], budget: int) -> bool:
    """Whether a placement meets the budget: it does if one does that keeps the least at each place."""
    least: list[dict[bool, int]] = [{} for _ in range(len(parts) + 1)]
    least[0][False] = 0

    def reach(place: int, is_kept: bool, size: int) -> None:
        least[place][is_kept] = min(size, least[place].get(is_kept, size))

    for start, part in enumerate(parts):
        for is_kept, size in least[start].items():
            more, then = kept_whole(part, is_kept)
            if size + more <= budget:
                reach(start + 1, then, size + more)
            size += 0 if is_kept else part.input
            again, within, in_view = 0, True, True
            for place in range(start, len(parts)):
                more, within = kept_whole(parts[place], within)
                again += more
                in_view = in_view and parts[place].is_view
                if size + again > budget:
                    break
                reach(place + 1, in_view, size)
    return bool(least[-1])
