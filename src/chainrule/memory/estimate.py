"""The account without running: the function records its graph on arrays that have a shape and a dtype but no values.

The arrays are those of the compiler's tracer, so that primitives, rules and modules run as they are; what the tracer
would compute in a run is blank here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import index
from typing import Any

import numpy as np

from chainrule.compile import operations  # noqa: F401  (makes traced arrays known)
from chainrule.compile.capture import survey
from chainrule.compile.errors import Unsupported
from chainrule.compile.tracing import BlankTrace, active
from chainrule.core import state
from chainrule.core.blank import Blank, BlankDraws
from chainrule.core.tensor import Tensor, _raw
from chainrule.memory.account import Account
from chainrule.memory.recording import Watch, drawn_up, recorded
from chainrule.nn import random
from chainrule.transforms.trees import leaf_at


class _Estimate(BlankTrace):
    """A run that an estimate follows."""

    @staticmethod
    def refusal(what: str, line: str) -> str:
        return (
            f"memory: {what} of an array is asked for at {line}, but an estimate follows shapes only: there are no "
            "values. Call the account with arrays instead, as in cr.memory(f)(x)"
        )


def estimated(function: Callable, shapes: Sequence[Any], kwargs: dict) -> Account:
    """The account of `function` on arrays of these shapes; see `chainrule.memory`."""
    tensors = [tensor for _, tensor in survey(function).tensors.values()]
    dtype = next((t.dtype for t in tensors if t.requires_grad), np.dtype(np.float32))
    trace = _Estimate()
    blanks = [_blank(number, shape, dtype) for number, shape in enumerate(shapes)]
    has_parameters = any(t.requires_grad for t in tensors)
    with _blanked(tensors, trace), _blank_draws(), active(trace), state.enable_grad():
        leaves = [Tensor(trace.traced(blank, "argument")) for blank in blanks]
        if not has_parameters:
            leaves = [_lifted(leaf) for leaf in leaves]
        watch = Watch(function)
        try:
            with state.watching(watch):
                results = recorded(function(*leaves, **kwargs))
        except Unsupported as error:
            raise Unsupported(
                f"memory: {error}, in which shapes alone could be followed. Call the account with arrays instead, as "
                "in cr.memory(f)(x)"
            ) from None
        return drawn_up(function, results, watch, leaves, is_estimate=True)


def _blank(number: int, given: Any, dtype: Any) -> Blank:
    """An array without values for argument `number`."""
    if hasattr(given, "shape") and hasattr(given, "dtype"):
        return Blank(given.shape, str(given.dtype))
    shape = given
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], (tuple, list)):
        shape, dtype = given
    try:
        shape = tuple(index(n) for n in shape)
        if any(n < 0 for n in shape):
            raise ValueError("a length is negative")
        return Blank(shape, np.dtype(dtype))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"memory: argument {number} of estimate must be a shape such as (32, 784), or (shape, dtype) such as "
            f'((32, 784), "int64"), got {given!r} ({error})'
        ) from None


def _lifted(leaf: Tensor) -> Tensor:
    return leaf_at(_raw(leaf), state.tape_level()) if "float" in str(leaf.dtype) else leaf


@contextmanager
def _blanked(tensors: Sequence[Tensor], trace: _Estimate) -> Iterator[None]:
    """Let what the function closes over have no values."""
    own = [(tensor, tensor._value) for tensor in tensors]
    try:
        for tensor, value in own:
            tensor._value = trace.traced(Blank(value.shape, value.dtype), "closed over")
        yield
    finally:
        for tensor, value in own:
            tensor._value = value


@contextmanager
def _blank_draws() -> Iterator[None]:
    """Let random numbers have no values."""
    own = random._generator
    random._generator = BlankDraws()  # type: ignore[assignment]
    try:
        yield
    finally:
        random._generator = own
