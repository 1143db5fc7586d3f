"""What JAX does where a derivative of a function is wanted: its transforms under `jit`, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.cases import Derivative, Loop
from benchmarks.contenders import Settings, Workload, repeated
from benchmarks.problems import STEPS, lotka_volterra, runge_kutta, weight_residual

_JAX = SimpleNamespace(
    exp=jnp.exp, sqrt=jnp.sqrt, sin=jnp.sin, cos=jnp.cos, stack=jnp.stack, smallest=jnp.min,
    logsumexp=jax.nn.logsumexp,
)  # fmt: skip


def derivative(case: Derivative) -> Settings:
    """Every transform that gives what is wanted."""
    jax.config.update("jax_enable_x64", True)
    function = partial(case.function, _JAX, **case.indices())
    arrays = (*case.arguments(), *case.constants())
    if case.wanted == "gradient":
        return {"": _called(jax.value_and_grad(function, tuple(range(len(case.arguments())))), *arrays)}
    if case.wanted == "newton":
        return {"": _called(partial(_newton, function), *arrays)}
    return {
        "vjp": _called(partial(_pulled, function), *arrays),
        "vmap of jacrev": _called(partial(_mapped, jax.jacrev, function), *arrays),
        "vmap of jacfwd": _called(partial(_mapped, jax.jacfwd, function), *arrays),
    }


def loop(case: Loop) -> Settings:
    """The loop as Python unrolls it, and where JAX has one of its own, that."""
    jax.config.update("jax_enable_x64", True)
    unrolled = jax.value_and_grad(lambda array: case.function(list(array)))
    settings: Settings = {"unrolled": _called(unrolled, case.arguments())}
    if case.function is lotka_volterra:
        settings["scan"] = _called(jax.value_and_grad(_scanned), case.arguments())
    return settings


def reset() -> None:
    """The other cases are in float32; what was compiled is forgotten."""
    jax.config.update("jax_enable_x64", False)
    jax.clear_caches()


def _called(function: Callable, *arrays: np.ndarray) -> Callable[[], Workload]:
    def workload() -> Workload:
        compiled, arguments = jax.jit(function), [jnp.array(array) for array in arrays]
        return repeated(lambda: jax.block_until_ready(compiled(*arguments)), _arrays)

    return workload


def _arrays(result: Any) -> Sequence[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(result)]


def _newton(function: Callable, centres: jax.Array, points: jax.Array) -> tuple:
    gradient = jax.grad(lambda centres: function(centres, points))
    value, diagonal = jax.jvp(gradient, (centres,), (jnp.ones_like(centres),))
    return value / diagonal, diagonal


def _pulled(function: Callable, *arrays: jax.Array) -> tuple:
    errors, pull = jax.vjp(lambda *arguments: function(*arguments, arrays[3]), *arrays[:3])
    first, second = (pull(jnp.broadcast_to(unit, errors.shape)) for unit in jnp.eye(2))
    return *first, *second, _by_weight(arrays[2])


def _mapped(jacobian: Callable, function: Callable, *arrays: jax.Array) -> tuple:
    def errors(*one: jax.Array) -> jax.Array:
        return function(*(array[None] for array in one))[0]

    blocks = jax.vmap(jacobian(errors, (0, 1, 2)))(*arrays)
    return *(block[:, 0] for block in blocks), *(block[:, 1] for block in blocks), _by_weight(arrays[2])


def _by_weight(weights: jax.Array) -> jax.Array:
    return jax.grad(lambda weights: weight_residual(weights).sum())(weights)


def _scanned(parameters: jax.Array) -> jax.Array:
    start = (jnp.ones(()), jnp.ones(()))
    last, _ = jax.lax.scan(lambda state, _: (runge_kutta(state, parameters), None), start, length=STEPS)
    return last[0] + last[1]
