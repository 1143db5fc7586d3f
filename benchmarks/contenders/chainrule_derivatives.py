"""What chainrule's two contenders do where a derivative of a function is wanted: its transforms, applied to NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

import chainrule as cr
from benchmarks.cases import Derivative, Loop
from benchmarks.contenders import Settings, repeated
from benchmarks.problems import weight_residual

_NUMPY = SimpleNamespace(
    exp=np.exp, sqrt=np.sqrt, sin=np.sin, cos=np.cos, stack=np.stack, smallest=np.min, logsumexp=np.logaddexp.reduce
)


def derivative(case: Derivative, compiler: Callable[[Callable], Callable]) -> Settings:
    """The functions and arrays of the case; `compiler` transforms what is called."""
    call = compiler(_WANTED[case.wanted](partial(case.function, _NUMPY, **case.indices()), len(case.arguments())))
    return {"": lambda: repeated(partial(call, *case.arguments(), *case.constants()), _arrays)}


def _gradient(function: Callable, count: int) -> Callable:
    return cr.value_and_grad(function, argnums=tuple(range(count)))


def _newton(function: Callable, _: int) -> Callable:
    def direction(centres: Any, points: Any) -> tuple:
        gradient = cr.grad(lambda centres: function(centres, points))
        value, diagonal = cr.jvp(gradient, (centres,), (np.ones(centres.shape),))
        return value / diagonal, diagonal

    return direction


def _blocks(function: Callable, _: int) -> Callable:
    def jacobian(cameras: Any, points: Any, weights: Any, seen: Any) -> tuple:
        _, pull = cr.vjp(lambda *arguments: function(*arguments, seen), cameras, points, weights)
        first, second = (pull(np.broadcast_to(unit, seen.shape)) for unit in np.eye(2))
        return *first, *second, cr.grad(lambda weights: weight_residual(weights).sum())(weights)

    return jacobian


_WANTED = {"gradient": _gradient, "newton": _newton, "blocks": _blocks}


def loop(case: Loop, compiler: Callable[[Callable], Callable]) -> Settings:
    """By a list of floats, and by an array whose entries the function is given."""

    def of_array(array: Any) -> Any:
        return case.function([array[i] for i in range(len(array))])

    by_list, by_array = compiler(cr.value_and_grad(case.function)), compiler(cr.value_and_grad(of_array))
    return {
        "a list of floats": lambda: repeated(partial(by_list, case.arguments().tolist()), _arrays),
        "an array": lambda: repeated(partial(by_array, case.arguments()), _arrays),
    }


def _arrays(result: Sequence) -> list[np.ndarray]:
    """Value and derivatives; a list of floats is one array, a tuple of arrays is several."""
    value, *rest = (result[0], *result[1]) if isinstance(result[1], tuple) else result
    return [np.asarray(value), *map(np.asarray, rest)]
