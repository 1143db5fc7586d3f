"""Truncated backpropagation through time: a sequence longer than memory, some steps at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import index
from typing import Any

import numpy as np

from chainrule.core.namespace import namespace_of
from chainrule.core.tensor import Tensor
from chainrule.nn.sizes import as_size
from chainrule.transforms.trees import flatten, unflatten


class TruncatedBPTT:
    """A sequence in chunks of `k` steps; the state goes from each chunk to the next, the gradient does not.

        chunks = nn.TruncatedBPTT((inputs, targets), k=256)
        for x, y in chunks:
            optimizer.zero_grad()
            output, chunks.state = lstm(x, chunks.state)
            loss_fn(output, y).backward()
            optimizer.step()

    Only one chunk and its graph are in memory at a time. Where the optimizer steps is up to the loop: after each chunk,
    or after several, whose gradients add up.

    Source: Williams and Peng 1990, "An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network
    Trajectories", BPTT(h; h′) with h = h′ = k.

    Args:
        sequence: an array, or a tuple, list or dict of arrays that have time on the same axis; or an iterator of such
            pieces, of any lengths, which follow each other in time. An array may be of any library, mapped from a file
            (`np.load(path, mmap_mode="r")`), or anything else with a shape that can be sliced.
        k: how many steps a chunk has, and so how far back gradients go; the last chunk has what is left.
        axis: which axis is time; 1 for layers with `batch_first`.
        state: before the first step; None, which layers take as zeros, if left out.

    Attributes:
        state: what the layer is to start the chunk with. Assign the state after it, in whatever containers: it is
            detached. Each pass over the sequence begins with the one given above.

    Raises:
        ValueError: k is less than 1, there are no steps, lengths differ, or pieces do not fit together.
        TypeError: k or the axis is not an integer, or the sequence is neither arrays nor an iterator of them.
    """

    def __init__(self, sequence: Any, k: int = 256, *, axis: int = 0, state: Any = None) -> None:
        self.k = as_size("TruncatedBPTT: k", k)
        self.axis = index(axis)
        self._start = _detached(state)
        self._state = self._start
        self._handed_out = False
        self._in_pieces = not isinstance(sequence, (tuple, list, dict)) and not hasattr(sequence, "shape")
        if self._in_pieces and not isinstance(sequence, Iterable):
            raise TypeError(f"TruncatedBPTT: needs arrays or an iterator of them, got {type(sequence).__name__}")
        self._sequence = sequence
        self._steps = None if self._in_pieces else _Piece(sequence, self.axis).steps
        if self._steps == 0:
            raise ValueError(_EMPTY)

    @property
    def state(self) -> Any:
        self._handed_out = True
        return self._state

    @state.setter
    def state(self, after: Any) -> None:
        self._state = _detached(after)
        self._handed_out = False

    def __len__(self) -> int:
        """How many chunks there are.

        Raises:
            TypeError: that is not known before the end, as the sequence comes in pieces.
        """
        if self._steps is None:
            raise TypeError("TruncatedBPTT: the number of chunks is not known of a sequence that comes in pieces")
        return -(-self._steps // self.k)

    def __iter__(self) -> Iterator[Any]:
        """The chunks, in the form of the sequence.

        Raises:
            RuntimeError: the state was used for a chunk and the one after it not assigned: nothing would be carried.
        """
        self._state, self._handed_out = self._start, False
        for place, chunk in enumerate(self._chunks()):
            if self._handed_out:
                raise RuntimeError(
                    f"TruncatedBPTT: the state after chunk {place - 1} was not assigned, so that chunk {place} would "
                    "begin with an old one. Write `output, chunks.state = layer(x, chunks.state)`"
                )
            yield chunk

    def _chunks(self) -> Iterator[Any]:
        waiting: list[list] = []
        missing = self.k
        piece: _Piece | None = None
        for tree in self._sequence if self._in_pieces else (self._sequence,):
            piece = _Piece(tree, self.axis, piece)
            start = 0
            while piece.steps - start >= missing:
                yield piece.joined([*waiting, piece.part(start, start + missing)])
                start, missing, waiting = start + missing, self.k, []
            if start < piece.steps:
                waiting.append(piece.part(start, piece.steps))
                missing -= piece.steps - start
        if piece is None or not piece.steps_so_far:
            raise ValueError(_EMPTY)
        if waiting:
            yield piece.joined(waiting)


_EMPTY = (
    "TruncatedBPTT: the sequence has no steps (an iterator that was used up has none left: make a new one for each "
    "pass)"
)


def _detached(state: Any) -> Any:
    leaves, structure = flatten(state)
    return unflatten(structure, [leaf.detach() if isinstance(leaf, Tensor) else leaf for leaf in leaves])


class _Piece:
    """Steps that follow each other, in one array or several.

    Args:
        tree: the arrays.
        axis: which axis is time.
        before: the piece before this one; this one must go on where that one stopped.
    """

    def __init__(self, tree: Any, axis: int, before: _Piece | None = None) -> None:
        self.axis = axis
        self.leaves, self.structure = flatten(tree)
        shapes = [_shape(leaf, axis) for leaf in self.leaves]
        lengths = {shape[axis] for shape in shapes}
        if len(lengths) > 1:
            raise ValueError(
                f"TruncatedBPTT: arrays of shapes {', '.join(map(str, shapes))} have different numbers of steps along "
                f"axis {axis}"
            )
        self.steps = lengths.pop() if lengths else 0
        self.steps_so_far: int = self.steps + (before.steps_so_far if before is not None else 0)
        self.one_step = [_without(shape, axis) for shape in shapes]
        if before is not None and (self.one_step, self.structure) != (before.one_step, before.structure):
            raise ValueError(
                f"TruncatedBPTT: a piece of the sequence has steps of shape {_listed(self.one_step)}, those before had "
                f"{_listed(before.one_step)}. All must be alike, as the state is carried from one to the next"
            )

    def part(self, start: int, stop: int) -> list:
        """The steps from `start` to `stop` of each array."""
        return [_cut(leaf, start, stop, self.axis) for leaf in self.leaves]

    def joined(self, parts: list[list]) -> Any:
        """One chunk of several parts, which follow each other."""
        if len(parts) == 1:
            return unflatten(self.structure, parts[0])
        by_leaf = zip(*parts, strict=True)
        return unflatten(self.structure, [namespace_of(*leaves).concat(leaves, axis=self.axis) for leaves in by_leaf])


def _shape(leaf: Any, axis: int) -> tuple[int, ...]:
    if not hasattr(leaf, "shape"):
        raise TypeError(f"TruncatedBPTT: needs arrays, got a {type(leaf).__name__} among them")
    shape = tuple(leaf.shape)
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"TruncatedBPTT: an array of shape {shape} has no axis {axis}, which is to be time")
    return shape


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    axis %= len(shape)
    return shape[:axis] + shape[axis + 1 :]


def _listed(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes))


def _cut(array: Any, start: int, stop: int, axis: int) -> Any:
    dimensions = len(array.shape)
    part = array[tuple(slice(start, stop) if i == axis % dimensions else slice(None) for i in range(dimensions))]
    return np.array(part) if isinstance(part, np.memmap) else part  # read from the file now, once
