"""JAX under `jit`: the whole step, with the parameters donated so that they can be updated in place."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from benchmarks.cases import MLP, Scalar
from benchmarks.contenders import Settings, Workload, jax_derivatives
from benchmarks.contenders.jax_eager import gradient_workload

derivative, loop, reset = jax_derivatives.derivative, jax_derivatives.loop, jax_derivatives.reset


def mlp(case: MLP) -> Settings:
    """A training step as one compiled function; its result is awaited."""
    return {"": lambda: _training(case)}


def _loss(parameters: list, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    x = inputs
    for weight, bias in parameters[:-1]:
        x = jax.nn.relu(x @ weight.T + bias)
    weight, bias = parameters[-1]
    log_p = jax.nn.log_softmax(x @ weight.T + bias)
    return -jnp.take_along_axis(log_p, targets[:, None], axis=1).mean()


def _training(case: MLP) -> Workload:
    parameters = jax.tree.map(jnp.array, case.parameters())
    inputs, targets = map(jnp.array, case.data())
    loss = jnp.zeros(())

    @partial(jax.jit, donate_argnums=0)
    def advance(parameters: list, inputs: jax.Array, targets: jax.Array) -> tuple[list, jax.Array]:
        loss, gradients = jax.value_and_grad(_loss)(parameters, inputs, targets)
        return jax.tree.map(lambda p, g: p - case.learning_rate * g, parameters, gradients), loss

    def step() -> None:
        nonlocal parameters, loss
        parameters, loss = advance(parameters, inputs, targets)
        loss.block_until_ready()

    return Workload({"step": step}, lambda: float(loss))


def scalar(case: Scalar) -> Settings:
    """`jax.jit(jax.grad(...))`."""
    return {"": lambda: gradient_workload(case, jax.jit)}
