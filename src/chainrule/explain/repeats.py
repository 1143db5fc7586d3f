"""Repeated blocks among the steps, so that a hundred equal layers are shown once.

Two steps are alike if they are the same operation on the same shapes, reading values from equally far back. A block is
a run of steps that is followed by runs of steps like it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.explain.steps import Step

#: Shorter graphs are shown whole.
SHORTEST = 40

#: More steps and blocks than this are not shown at once.
LONGEST = 100
_LONGEST_BLOCK = 256


@dataclass
class Repeat:
    """A block that occurs `count` times in a row: `first` is its first occurrence, `steps` are all of them.

    Where `first` is empty, the steps are only left out, not alike.
    """

    first: list[Step]
    steps: list[Step]
    count: int

    @property
    def told(self) -> str:
        """What is not shown, in words."""
        if not self.first:
            return f"{len(self.steps)} more steps, up to {self.steps[-1].name}"
        first, last = self.first[0].number, self.first[-1].number
        which = f"step {first}" if first == last else f"steps {first} to {last}"
        return f"{self.count - 1} more blocks like {which}, up to {self.steps[-1].name}"

    @property
    def hidden(self) -> list[Step]:
        """The steps of all occurrences but the first."""
        return self.steps[len(self.first) :]


def collapsed(steps: Sequence[Step], depth: int | None = 0) -> list[Step | Repeat]:
    """The steps with repeated blocks put together.

    Args:
        depth: how many levels of repeats inside repeats to open; None opens all of them.
    """
    if depth is None or len(steps) < SHORTEST:
        return list(steps)
    return _collapsed(list(steps), _signatures(steps), depth)


def shortened(items: list[Step | Repeat]) -> list[Step | Repeat]:
    """No more than `LONGEST` of them: the middle is put into one block that has no first occurrence."""
    if len(items) <= LONGEST:
        return items
    start, end = LONGEST // 2, len(items) - LONGEST // 2
    middle = [step for item in items[start:end] for step in (item.steps if isinstance(item, Repeat) else [item])]
    return [*items[:start], Repeat([], middle, 1), *items[end:]]


def _collapsed(steps: list[Step], codes: np.ndarray, depth: int) -> list[Step | Repeat]:
    items: list[Step | Repeat] = []
    periods, counts = _best(_run_lengths(codes))
    place = 0
    while place < len(steps):
        period, count = int(periods[place]), int(counts[place])
        if count < 3 or period * count < 8 or all(s.is_input for s in steps[place : place + period]):
            items.append(steps[place])
            place += 1
            continue
        end = place + period * count
        if depth > 0:
            for start in range(place, end, period):
                items += _collapsed(steps[start : start + period], codes[start : start + period], depth - 1)
        else:
            items.append(Repeat(steps[place : place + period], steps[place:end], count))
        place = end
    return items


def _best(runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At every place, the block length that covers most steps, the shortest of equals; and how often it occurs."""
    lengths = np.arange(1, len(runs) + 1)[:, None]
    counts = runs // lengths + 1
    best = np.argmax(np.where(counts >= 3, counts * lengths, 0), axis=0)
    return best + 1, np.take_along_axis(counts, best[None], axis=0)[0]


def _run_lengths(codes: np.ndarray) -> np.ndarray:
    """Row p − 1: from each place on, for how many steps in a row the step p later is alike."""
    n = len(codes)
    longest = max(min(_LONGEST_BLOCK, n // 3), 1)
    runs = np.zeros((longest, n), dtype=np.int64)
    for period in range(1, longest + 1):
        alike = codes[:-period] == codes[period:]
        ends = np.where(alike, n, np.arange(n - period))  # where a run that passes here breaks
        breaks = np.minimum.accumulate(ends[::-1])[::-1]
        runs[period - 1, : n - period] = np.minimum(breaks, n - period) - np.arange(n - period)
    return runs


def _signatures(steps: Sequence[Step]) -> np.ndarray:
    """A number for each step; equal numbers for steps that are alike."""
    places = {step.node: place for place, step in enumerate(steps)}
    uses = Counter(o.node for step in steps for o in step.operands if o.node is not None)
    shared = {s.node for s in steps if s.is_input and uses[s.node] > 1}
    known: dict[tuple, int] = {}
    codes = np.empty(len(steps), dtype=np.int64)
    for place, step in enumerate(steps):
        reads = tuple(
            ("constant", np.shape(o.value))
            if o.node is None
            else ("shared", places[o.node])
            if o.node in shared
            else place - places[o.node]
            for o in step.operands
        )
        alone = place if step.node in shared else None
        codes[place] = known.setdefault((step.operation, step.shape, reads, alone), len(known))
    return codes
