"""JAX under `jit`: the whole step, with the parameters donated so that they can be updated in place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.cases import Scalar
from benchmarks.contenders import Settings, Workload, jax_derivatives, jax_networks
from benchmarks.contenders.jax_eager import gradient_workload
from benchmarks.networks import CNN, GPT, LSTM, MLP, Network

derivative, loop, reset = jax_derivatives.derivative, jax_derivatives.loop, jax_derivatives.reset


def mlp(case: MLP) -> Settings:
    """A training step as one compiled function; its result is awaited."""
    return {"": lambda: _training(case, jax_networks.mlp, case.parameters())}


def lstm(case: LSTM) -> Settings:
    """The same, with a loop of one step a turn and of several."""
    return {
        f"unroll={steps}": partial(_training, case, partial(jax_networks.lstm, unroll=steps), case.state_dict())
        for steps in (1, 4)
    }


def cnn(case: CNN) -> Settings:
    """The same, with channels before and after the pictures' axes."""
    return {
        layout: partial(_training, case, partial(jax_networks.cnn, layout=layout), case.state_dict())
        for layout in ("NCHW", "NHWC")
    }


def gpt(case: GPT) -> Settings:
    """The same."""
    return {"": lambda: _training(case, partial(jax_networks.gpt, case=case), case.state_dict())}


def _training(case: Network, logits: Callable[[Any, jax.Array], jax.Array], parameters: Any) -> Workload:
    parameters = jax.tree.map(jnp.array, parameters)
    inputs, targets = map(jnp.array, case.data())
    loss = jnp.zeros(())

    def loss_of(parameters: Any, inputs: jax.Array, targets: jax.Array) -> jax.Array:
        log_p = jax.nn.log_softmax(logits(parameters, inputs))
        return -jnp.take_along_axis(log_p, targets[:, None], axis=1).mean()

    @partial(jax.jit, donate_argnums=0)
    def advance(parameters: Any, inputs: jax.Array, targets: jax.Array) -> tuple[Any, jax.Array]:
        loss, gradients = jax.value_and_grad(loss_of)(parameters, inputs, targets)
        return jax.tree.map(lambda p, g: p - case.learning_rate * g, parameters, gradients), loss

    def step() -> None:
        nonlocal parameters, loss
        parameters, loss = advance(parameters, inputs, targets)
        loss.block_until_ready()

    return Workload({"step": step}, lambda: float(loss))


def scalar(case: Scalar) -> Settings:
    """`jax.jit(jax.grad(...))`."""
    return {"": lambda: gradient_workload(case, jax.jit)}
