"""`Traced`: the array that a compiled function computes with while it is recorded.

To the rest of the library it is an array of one more library: primitives and rules, run on it, call the functions of
its namespace, which are in `operations`. Each call computes the value with NumPy, so the recorded run gives its
results like any other, and adds to the graph of the active `Trace`. (Of large arrays it computes shapes alone.) What a
value is may not be asked by Python code (`bool`, `float`, `item`, `numpy`): a program that is run again could not ask
it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.compile.errors import TraceError, Unsupported
from chainrule.compile.graph import Graph, Value
from chainrule.core import state
from chainrule.core.blank import Blank
from chainrule.core.tensor import Tensor

_PACKAGE = str(Path(__file__).resolve().parent.parent)
_SUPPORTED_KINDS = "biuf"


class Trace:
    """One recorded run: its graph, and what must be asked anew in every later run.

    Attributes:
        graph: the values so far.
        fresh: inputs of the graph, the function that gives their arrays for a run, and whether its answer changes only
            with the options of an optimiser.
        finally_: what Python has to do after every run.
        draws: NumPy generators that were drawn from, with the state each had before.
        forgotten: tensors whose gradient was dropped before anything looked at it, by identity.
        without_gradient: tensors that were found to have no gradient.
        has_values: whether the run computes anything.
    """

    has_values = True

    def __init__(self) -> None:
        self.graph = Graph()
        self.fresh: list[tuple[list[Value], Callable[[], Any], bool]] = []
        self.finally_: list[Callable[[], None]] = []
        self.draws: dict[int, tuple[Any, Any]] = {}
        self.forgotten: set[int] = set()
        self.without_gradient: set[int] = set()

    def forget_gradient(self, tensor: Tensor) -> None:
        """Note that the gradient of `tensor` was dropped: it does not matter whether it had one."""
        if id(tensor) not in self.without_gradient:
            self.forgotten.add(id(tensor))

    def expect_no_gradient(self, tensor: Tensor) -> None:
        """Note that `tensor` was found without a gradient: the program is for that case only."""
        if id(tensor) not in self.forgotten:
            self.without_gradient.add(id(tensor))

    def now(self, array: Any) -> Any:
        """What an input of the graph is in this run."""
        return array

    def filled(self, shape: Any, number: Any, dtype: Any) -> Any:
        """An array of one number, as it is in this run."""
        return np.full(shape, number, dtype)

    @staticmethod
    def refusal(what: str, line: str) -> str:
        """What to say where Python code asks for a value."""
        return (
            f"{what} of a value inside a compiled function, at {line}: it would be asked once, while the "
            "function is recorded, and the answer used in every later call. Use array functions instead "
            "(cr.numpy.where in place of if), return the value and look at it outside, or leave this function "
            "uncompiled"
        )

    def after(self, function: Callable[[], None]) -> None:
        """Call `function` after this run and every later one."""
        self.finally_.append(function)

    def ask(self, function: Callable[[], Any], generator: Any = None, is_fixed: bool = False) -> Any:
        """`function()`, an array or a tuple of arrays, as inputs for which it is called anew in every run."""
        if generator is not None:
            self.draws.setdefault(id(generator), (generator, generator.bit_generator.state))
        result = function()
        rows = result if isinstance(result, tuple) else (result,)
        inputs = [self.graph.input(np.shape(row), np.asarray(row).dtype, "fresh") for row in rows]
        self.fresh.append((inputs, function, is_fixed))
        traced = tuple(Traced(value, row) for value, row in zip(inputs, rows, strict=True))
        return traced if isinstance(result, tuple) else traced[0]


class BlankTrace(Trace):
    """A run in which no array has values: only its graph is wanted."""

    has_values = False

    def now(self, array: Any) -> Any:
        return array if isinstance(array, Blank) else Blank(array.shape, array.dtype)

    def filled(self, shape: Any, number: Any, dtype: Any) -> Any:
        return Blank((shape,) if isinstance(shape, int) else shape, np.full((), number, dtype).dtype)

    def ask(self, function: Callable[[], Any], generator: Any = None, is_fixed: bool = False) -> Any:
        result = function()
        rows = result if isinstance(result, tuple) else (result,)
        blanks = [row if isinstance(row, Blank) else Blank(np.shape(row), np.asarray(row).dtype) for row in rows]
        traced = tuple([self.traced(blank, "drawn") for blank in blanks])
        return traced if isinstance(result, tuple) else traced[0]

    def traced(self, array: Any, name: str) -> Traced:
        """An input of the graph that is like `array`."""
        return Traced(self.graph.input(array.shape, array.dtype, name), self.now(array))


class ShapeTrace(BlankTrace):
    """A run in which only what Python is asked for has values; the program that is made of it is to run next."""

    ask = Trace.ask


@contextmanager
def active(trace: Trace) -> Iterator[None]:
    """Record into `trace`; NumPy does not warn of what comes out meanwhile, as the program will not."""
    token = state.tracer.set(trace)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        state.tracer.reset(token)


def current_trace() -> Trace:
    """The run that is being recorded.

    Raises:
        TraceError: none is.
    """
    trace = state.tracer.get()
    if trace is None:
        raise TraceError(
            "a value from inside a compiled function is used outside of it: it was kept in a variable, a list or an "
            "attribute while the function was recorded. Return it from the function instead"
        )
    return trace


def current_graph() -> Graph:
    """The graph of the run that is being recorded; raises as `current_trace`."""
    return current_trace().graph


class Traced:
    """An array of the recorded run: its place in the graph, and what it is in this run.

    Attributes:
        value: its place in the graph.
        concrete: what it is in this run, a NumPy array or scalar.
        weak: whether it stands for a Python number, which gives way to the dtype of an array beside it.
    """

    __slots__ = ("concrete", "value", "weak")

    def __init__(self, value: Value, concrete: Any, weak: bool = False) -> None:
        if value.dtype.kind not in _SUPPORTED_KINDS or value.dtype.itemsize > 8 or value.dtype == np.float16:
            raise Unsupported(f"arrays of dtype {value.dtype} have no compiled form")
        self.value = value
        self.concrete = concrete
        self.weak = weak

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> np.dtype:
        return self.value.dtype

    @property
    def ndim(self) -> int:
        return len(self.value.shape)

    @property
    def size(self) -> int:
        return self.value.size

    @property
    def device(self) -> str:
        return "cpu"

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d array")
        return self.shape[0]

    __hash__ = object.__hash__

    # What may not be asked -------------------------------------------------------------------------------------------

    def _refuse(self, what: str) -> Any:
        trace = state.tracer.get()
        raise TraceError((Trace if trace is None else trace).refusal(what, _user_line()))

    def __bool__(self) -> bool:
        return self._refuse("the truth (bool, if, while, and, or, assert)")

    def __float__(self) -> float:
        return self._refuse("the number (float)")

    def __int__(self) -> int:
        return self._refuse("the number (int)")

    def __index__(self) -> int:
        return self._refuse("the number (use as an index or a length)")

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self._refuse("the content (numpy, np.asarray)")

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TraceError(
            f"an assignment into a NumPy array inside a compiled function, at {_user_line()}: a recorded value does "
            "not change. Work on a tensor (cr.tensor(x), cr.numpy.zeros) and return it"
        )

    def _refuse_in_place(self, other: Any) -> Any:
        raise TraceError(
            f"a NumPy array changed in place inside a compiled function, at {_user_line()}: a recorded value does not "
            "change. Write x = x + y instead of x += y or out=x"
        )

    __iadd__ = __isub__ = __imul__ = __itruediv__ = __ifloordiv__ = __imod__ = __ipow__ = __imatmul__ = _refuse_in_place
    __iand__ = __ior__ = __ixor__ = __ilshift__ = __irshift__ = _refuse_in_place

    def item(self) -> Any:
        """Refused, as every reading of a value."""
        return self._refuse("the number (item)")

    def tolist(self) -> Any:
        """Refused, as every reading of a value."""
        return self._refuse("the numbers (tolist)")

    def __repr__(self) -> str:
        return f"<traced {self.dtype}{list(self.shape)}>"

    # NumPy's protocols and methods: those of `Tensor` ----------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if options.get("out") is not None:
            self._refuse_in_place(None)
        return _without_tensors(getattr(ufunc, method), inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if kwargs.get("out") is not None:
            self._refuse_in_place(None)
        return _without_tensors(function, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        attribute = getattr(Tensor(self), name)
        if callable(attribute):
            return lambda *args, **kwargs: _without_tensors(attribute, args, kwargs)
        return _unwrapped(attribute)


def _without_tensors(function: Callable, args: Any, kwargs: Any) -> Any:
    """Call what knows tensors on tensors, and give back plain traced arrays."""
    return _unwrapped(function(*_wrapped(args), **_wrapped(kwargs)))


def _wrapped(tree: Any) -> Any:
    if isinstance(tree, Traced):
        return Tensor(tree)
    if type(tree) in (list, tuple):
        return type(tree)(_wrapped(part) for part in tree)
    return {key: _wrapped(part) for key, part in tree.items()} if type(tree) is dict else tree


def _unwrapped(tree: Any) -> Any:
    if isinstance(tree, Tensor) and tree._node is None:
        return tree._value
    if type(tree) in (list, tuple):
        return type(tree)(_unwrapped(part) for part in tree)
    return tree


def _user_line() -> str:
    """File and line of the innermost caller outside of this package."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
