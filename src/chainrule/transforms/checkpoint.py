"""`checkpoint`: keep what a function was given, forget what it computed, and compute it again on the way back.

A checkpointed call is one node of the graph, a `Forgotten`. When the backward walk comes to it, the function runs
once more, recorded, and what it records takes the node's place in the walk. So hooks, sums over paths, derivatives of
derivatives and checkpoints within are handled by the walk itself. This file holds the two runs and the comparison of
them; the walk is in `backward`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import ref

import numpy as np

from chainrule.core import state
from chainrule.core.anomaly import source_line
from chainrule.core.calls import note_place, running_calls
from chainrule.core.errors import GradientError
from chainrule.core.hold import Hold, hold, is_holdable
from chainrule.core.node import Forgotten, Leaf, Node, Tangent, next_order
from chainrule.core.primitive import Primitive, output_of
from chainrule.core.subnormal import unflushed
from chainrule.core.tensor import Tensor, _raw
from chainrule.transforms.backward import pull_through
from chainrule.transforms.trees import flatten, unflatten

#: How many elements of each result are compared between the two runs.
_COMPARED = 64


def checkpoint(function: Callable) -> Callable:
    """A function that keeps only what it is given between the passes: the rest is computed again on the way back.

        h = cr.checkpoint(block)(x)

    Gradients are equal to the last bit; the price is one more run of `function` per backward pass. That run sees the
    same arguments, parameters and buffers, and the random numbers of `nn.random` that the first one saw, and leaves
    no trace in generators and buffers. Derivatives of any order, forward mode and checkpoints inside checkpoints
    work; a network of N layers halved again and again keeps O(log N) of them. In a function that `cr.compile`
    compiles a checkpoint changes nothing: the compiler plans the memory.

    Args:
        function: of any pytrees; a module, or a function that closes over modules and tensors. It must compute the
            same result when it is called again, and keep no tensor it computes but by returning it.

    Returns:
        A function of the same arguments with the same result.

    Raises:
        TypeError: what is given is no function.
        GradientError: in the backward pass, if the second run records other operations or has another result, named;
            or if a tensor from inside was kept outside and is walked back from.

    Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".
    """
    if not callable(function):
        raise TypeError(f"checkpoint: needs a function, got {type(function).__name__}")
    return Checkpointed(function)


class Checkpointed:
    """What `checkpoint` returns."""

    def __init__(self, function: Callable, name: str | None = None) -> None:
        self.function = function
        self.__name__ = name or str(getattr(function, "__name__", type(function).__name__))
        self.__doc__ = function.__doc__

    def __repr__(self) -> str:
        return f"<checkpoint of {self.__name__}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if state.whole_graphs.get():
            return self.function(*args, **kwargs)
        return _Call(self.function, self.__name__).first(args, kwargs)


class _Call:
    """One call of a checkpointed function: what its second run needs, and what tells whether that equals the first."""

    def __init__(self, function: Callable, name: str) -> None:
        self.function = function
        self.name = name
        self.level = state.current_level.get()
        self.floor = state.recording_floor.get()
        self.side_states = [(write, read()) for read, write in state.side_states]
        self.modules = [call.module for call in running_calls()]

    # The first run ---------------------------------------------------------------------------------------------------

    def first(self, args: tuple, kwargs: dict) -> Any:
        """The result, recorded as made in one step from what the function was given and closes over."""
        leaves, self.treedef = flatten((args, kwargs))
        self.given, holds = _kept(leaves)
        start = next_order()
        self.steps: list[tuple] = []
        with state.noting_assignments() as assigned, state.watching(self._forget_inside):
            result = self.function(*args, **kwargs)
        outputs, out_def = flatten(result)
        ends = _ends(outputs, start)
        if not ends:
            return result
        self.buffers = [(ref(tensor), value, node) for tensor, value, node in assigned.values()]
        self.leaves: list[tuple[Any, Any]] = []
        self.samples = [_sample(x) for x in outputs]
        made = {level: self._forgotten(level, nodes, start, holds) for level, nodes in ends.items()}
        numbers = {node: (level, i) for level, nodes in ends.items() for i, node in enumerate(nodes)}

        def replaced(x: Tensor, value: Any) -> Tensor:
            level, number = numbers[x._node]
            forgotten = made[level]
            return output_of(forgotten, number, value) if forgotten.primitive.outputs else Tensor(value, forgotten)  # type: ignore[union-attr]

        return unflatten(out_def, [_rebuilt(x, numbers, replaced) for x in outputs])

    def _forget_inside(self, node: Node, inputs: Any, values: list) -> None:
        """Note a step, and let go of the values that its rules would read."""
        if node.level <= self.level:  # a transform that runs inside needs its own graph
            self.steps.append(_step(node))
            node.edges = [(parent, _INSIDE, ()) for parent, _, _ in node.edges]  # type: ignore[union-attr]
            node.holds = None

    def _forgotten(self, level: int, ends: Sequence[Node], start: int, holds: list[Hold]) -> Forgotten:
        """The step that stands for all that made `ends`, the results on one level."""
        parents = _outside(ends, start)
        for parent in parents:
            leaf = parent.tensor() if isinstance(parent, Leaf) else None
            if leaf is not None:
                self.leaves.append((parent, leaf._value))
        node = Forgotten()
        node.primitive = _primitive(self.name, len(ends))
        rules: list[Any] = [_Again(number, ref(node)) for number in range(len(parents))]
        node.edges = [(parent, rule, ()) for parent, rule in zip(parents, rules, strict=True)]
        node.level = level
        shapes, dtypes = tuple(end.shape for end in ends), tuple(end.dtype for end in ends)
        node.shape, node.dtype = (shapes, dtypes) if len(ends) > 1 else (shapes[0], dtypes[0])
        node.params = {}
        node.order = next_order()
        node.hooks = node.origin = None
        node.holds = holds
        node.kept = self.given
        node.modules = self.modules
        count = len(ends)
        node.grow = lambda: self._again(level, count, parents)
        return node

    # The second run --------------------------------------------------------------------------------------------------

    def _again(self, level: int, count: int, parents: Sequence[Node]) -> list[Node]:
        """Run the function again, recorded; the nodes of its results on `level`.

        Raises:
            GradientError: it did something else than in the first run.
        """
        try:
            return self._compared(level, count, parents)
        except Exception as error:
            for module in reversed(self.modules):
                note_place(error, module)
            raise

    def _compared(self, level: int, count: int, parents: Sequence[Node]) -> list[Node]:
        start = next_order()
        done = 0

        def compare(node: Node, inputs: Any, values: list) -> None:
            nonlocal done
            if node.level > self.level:
                return
            first = self.steps[done] if done < len(self.steps) else None
            if first != _step(node):
                self._refuse(
                    f"operation {done + 1} was {_described(first)} in the first run and is {_described(_step(node))} "
                    f"in the second, at {source_line()}"
                )
            done += 1

        args, kwargs = unflatten(self.treedef, self.given)
        with self._as_it_was(), state.watching(compare):
            result = self.function(*args, **kwargs)
        if done < len(self.steps):
            self._refuse(f"operation {done + 1} was {_described(self.steps[done])}; the second run ended before it")
        outputs, _ = flatten(result)
        ends = _ends(outputs, start).get(level, [])
        if len(outputs) != len(self.samples) or len(ends) != count:
            self._refuse(f"it returned {len(self.samples)} values, and {len(outputs)} in the second run")
        for number, (then, now) in enumerate(zip(self.samples, map(_sample, outputs), strict=True)):
            if not _agree(then, now):
                self._refuse(f"result {number} was {_shown(then)} in the first run and is {_shown(now)} in the second")
        if not set(_outside(ends, start)) <= set(parents):
            self._refuse("its result was made from other tensors than in the first run")
        return ends

    @contextmanager
    def _as_it_was(self) -> Iterator[None]:
        """Run what is inside as the first run was run, and leave no trace of it."""
        with ExitStack() as stack:
            for variable, value in ((state.current_level, self.level), (state.recording_floor, self.floor)):
                stack.callback(variable.reset, variable.set(value))
            stack.enter_context(unflushed())
            stack.enter_context(state.put_back())
            for write, value in self.side_states:
                write(value)
            then = [(tensor(), value, node) for tensor, value, node in self.buffers]
            then += [(leaf.tensor(), value, leaf) for leaf, value in self.leaves]
            for tensor, value, node in then:
                if tensor is not None and tensor._value is not value:
                    state.note_assignment(tensor)
                    tensor._value, tensor._node = value, node
            yield

    def _refuse(self, what: str) -> None:
        raise GradientError(
            f"checkpoint: {self.name} did not do the same when it was run again for the backward pass: {what}. A "
            "checkpointed function must give the same result again: draw random numbers from nn.random, and change "
            "nothing that it depends on between the passes (train() and eval(), counters, arrays of your own)"
        )


# What was given ------------------------------------------------------------------------------------------------------


def _kept(leaves: Sequence[Any]) -> tuple[list, list[Hold]]:
    """The leaves of the arguments as they are now, and what keeps the caller's arrays so."""
    given, holds = [], []
    for x in leaves:
        if isinstance(x, Tensor):
            x = Tensor(x._value, x._node)  # the caller's handle may move
        elif isinstance(x, np.ndarray):
            if is_holdable(x):
                held = hold(x)
                holds += [held] if held is not None else []
            else:
                x = x.copy()
        given.append(x)
    return given, holds


# The steps -----------------------------------------------------------------------------------------------------------

_known_steps: dict[tuple, tuple] = {}


def _step(node: Node) -> tuple:
    """What a step is recognised by. Equal ones are one object: a deep network has few different ones."""
    step = (node.primitive, node.shape, node.dtype)
    known = _known_steps.get(step)
    if known is None:
        if len(_known_steps) > 10_000:
            _known_steps.clear()
        known = _known_steps[step] = step
    return known


def _described(step: tuple | None) -> str:
    if step is None:
        return "not there"
    primitive, shape, dtype = step
    return f"{primitive.name} of shape {shape} ({dtype})"


class _Inside:
    """The rule of an edge whose values were forgotten."""

    index = 0
    reads = ()
    sources = ()

    def pull(self, xp: Any, g: Any) -> Any:
        raise GradientError(
            "a tensor that was made inside a checkpointed function was kept outside of it, or backward() was called "
            "inside: what its gradient needs was not kept. Return the tensor from the function, or detach() it"
        )


_INSIDE: Any = _Inside()


class _Again:
    """The rule of edge `index` of a forgotten step, for those who read the graph edge by edge; walks do without."""

    sources = ()
    reads = ()

    def __init__(self, index: int, node: Callable[[], Any]) -> None:
        self.index = index
        self.node = node

    def pull(self, xp: Any, g: Any) -> Any:
        node = self.node()
        return pull_through(node, g)[node.edges[self.index][0]]


def _primitive(name: str, outputs: int) -> Primitive:
    names = [f"y{i}" for i in range(outputs)] if outputs > 1 else ()
    return Primitive(f"checkpoint of {name}", lambda xp, *inputs: None, None, outputs=names)


# The results ---------------------------------------------------------------------------------------------------------


def _ends(outputs: Sequence[Any], start: int) -> dict[int, list[Node]]:
    """The nodes that `outputs` got since `start`, by level, each once."""
    ends: dict[int, dict[Node, None]] = {}

    def look(x: Any) -> None:
        while isinstance(x, Tensor):
            node = x._node
            if isinstance(node, Tangent):
                look(node.value)
            elif node is not None and node.order > start and node.primitive is not None:
                ends.setdefault(node.level, {})[node] = None
            x = x._value

    for x in outputs:
        look(x)
    return {level: list(nodes) for level, nodes in ends.items()}


def _rebuilt(x: Any, known: dict, replaced: Callable[[Tensor, Any], Tensor]) -> Any:
    """`x` with the tensors that have one of the `known` nodes replaced, on every level."""
    if not isinstance(x, Tensor):
        return x
    value = _rebuilt(x._value, known, replaced)
    if isinstance(x._node, Tangent):
        return Tensor(value, Tangent(_rebuilt(x._node.value, known, replaced), x._node.level))
    if x._node in known:
        return replaced(x, value)
    return x if value is x._value else Tensor(value, x._node)


def _outside(ends: Sequence[Node], start: int) -> list[Node]:
    """The nodes older than `start` that `ends` were made from, without those below them."""
    seen = set(ends)
    stack = list(ends)
    found: list[Node] = []
    while stack:
        for parent, _, _ in stack.pop().edges or ():
            if parent not in seen:
                seen.add(parent)
                (stack if parent.order > start else found).append(parent)
    return found


def _sample(x: Any) -> Any:
    """Shape, dtype and some elements of a result; a plain object itself."""
    raw = _raw(x)
    if not isinstance(raw, (np.ndarray, np.generic)):
        return (tuple(raw.shape), str(raw.dtype)) if hasattr(raw, "shape") and hasattr(raw, "dtype") else raw
    if raw.ndim == 0 or raw.size <= _COMPARED:
        return np.array(raw)
    places = np.linspace(0, raw.size - 1, _COMPARED).astype(np.intp)
    return (raw.shape, np.asarray(raw)[np.unravel_index(places, raw.shape)])


def _agree(then: Any, now: Any) -> bool:
    if isinstance(then, tuple) and isinstance(now, tuple) and len(then) == len(now):
        return all(_agree(a, b) for a, b in zip(then, now, strict=True))
    if isinstance(then, np.ndarray) and isinstance(now, np.ndarray):
        if then.shape != now.shape or then.dtype != now.dtype:
            return False
        if then.dtype.kind != "f":
            return bool((then == now).all())
        # To rounding: a library need not sum in the same order twice.
        slack = np.sqrt(np.finfo(then.dtype).eps)
        return bool(np.allclose(then, now, rtol=slack, atol=slack * _largest(then), equal_nan=True))
    return type(then) is type(now) and (not isinstance(then, (str, int, float, bool)) or then == now)


def _largest(x: np.ndarray) -> float:
    finite = np.abs(x[np.isfinite(x)])
    return float(finite.max()) if finite.size else 0.0


def _shown(sample: Any) -> str:
    if not isinstance(sample, (tuple, np.ndarray)):
        return repr(sample)
    shape, elements = sample if isinstance(sample, tuple) else (sample.shape, sample)
    if isinstance(elements, str):
        return f"an array of shape {shape} ({elements})"
    few = ", ".join(f"{element:.6g}" for element in elements.ravel()[:4])
    return f"an array of shape {shape} ({elements.dtype}) with elements {few}{', …' if elements.size > 4 else ''}"
