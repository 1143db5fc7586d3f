"""JAX without `jit`: the transform runs anew in every call, as while trying things out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.cases import Scalar
from benchmarks.contenders import Settings, Workload


def scalar(case: Scalar) -> Settings:
    """`jax.grad`, called directly."""
    return {"": lambda: gradient_workload(case)}


def gradient_workload(case: Scalar, compiler: Callable[[Any], Any] = lambda function: function) -> Workload:
    """One call of the gradient function, its result awaited."""
    gradient = compiler(jax.grad(lambda x: jnp.tanh(x) ** 2 + x))
    result = jnp.zeros(())

    def call() -> None:
        nonlocal result
        result = gradient(case.at)
        result.block_until_ready()

    return Workload({"call": call}, lambda: float(result))
