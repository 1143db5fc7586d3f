"""The networks as functions of their parameters and inputs, as one writes them in JAX.

Each gives logits, (rows, classes). Parameters of an MLP are a list of pairs; of the other networks they are a
dictionary, by the names they have in `benchmarks.networks`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.networks import GPT


def mlp(parameters: list, inputs: jax.Array) -> jax.Array:
    """Linear layers, and ReLU between them."""
    x = inputs
    for weight, bias in parameters[:-1]:
        x = jax.nn.relu(x @ weight.T + bias)
    weight, bias = parameters[-1]
    return x @ weight.T + bias


def lstm(parameters: dict, inputs: jax.Array, unroll: int = 1) -> jax.Array:
    """A scan over time, `unroll` steps in one turn of the loop; the inputs' part of the gates is made before."""
    width = parameters["lstm.weight_hh_l0"].shape[1]
    bias = parameters["lstm.bias_ih_l0"] + parameters["lstm.bias_hh_l0"]
    projected = inputs @ parameters["lstm.weight_ih_l0"].T + bias
    recurrent = parameters["lstm.weight_hh_l0"].T

    def step(state: tuple, projected: jax.Array) -> tuple:
        h, c = state
        i, f, g, o = jnp.split(projected + h @ recurrent, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    start = jnp.zeros((inputs.shape[1], width), inputs.dtype)
    _, states = lax.scan(step, (start, start), projected, unroll=unroll)
    return _linear(parameters, "head.", states.reshape(-1, width))


def cnn(parameters: dict, inputs: jax.Array, layout: str = "NCHW") -> jax.Array:
    """Convolutions and poolings with the axes in the order of `layout`."""
    places = sorted({int(name.split(".")[0]) for name in parameters})
    sizes = tuple(2 if axis in "HW" else 1 for axis in layout)
    channels = tuple(-1 if axis == "C" else 1 for axis in layout)
    x = inputs if layout == "NCHW" else inputs.transpose(0, 2, 3, 1)
    for place in places[:-1]:
        weight, bias = parameters[f"{place}.weight"], parameters[f"{place}.bias"]
        x = lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=(layout, "OIHW", layout))
        x = jax.nn.relu(x + bias.reshape(channels))
        x = lax.reduce_window(x, -jnp.inf, lax.max, sizes, sizes, "VALID")
    x = x if layout == "NCHW" else x.transpose(0, 3, 1, 2)
    return _linear(parameters, f"{places[-1]}.", x.reshape(x.shape[0], -1))


def gpt(parameters: dict, tokens: jax.Array, case: GPT) -> jax.Array:
    """Blocks with normalisation first."""
    x = parameters["token.weight"][tokens] + parameters["place.weight"]
    for layer in range(case.layers):
        x = _block(parameters, f"blocks.layers.{layer}.", x, case.heads)
    x = _normalised(parameters, "blocks.norm.", x)
    return _linear(parameters, "head.", x.reshape(-1, case.width))


def _block(parameters: dict, path: str, x: jax.Array, heads: int) -> jax.Array:
    linear = partial(_linear, parameters)
    projected = linear(f"{path}self_attn.in_proj_", _normalised(parameters, f"{path}norm1.", x))
    query, key, value = (part.reshape(*part.shape[:2], heads, -1) for part in jnp.split(projected, 3, axis=-1))
    found = jax.nn.dot_product_attention(query, key, value, is_causal=True)
    x = x + linear(f"{path}self_attn.out_proj.", found.reshape(x.shape))
    inner = jax.nn.gelu(linear(f"{path}linear1.", _normalised(parameters, f"{path}norm2.", x)), approximate=False)
    return x + linear(f"{path}linear2.", inner)


def _normalised(parameters: dict, path: str, x: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return centred * lax.rsqrt(variance + 1e-5) * parameters[f"{path}weight"] + parameters[f"{path}bias"]


def _linear(parameters: dict, path: str, x: jax.Array) -> Any:
    return x @ parameters[f"{path}weight"].T + parameters[f"{path}bias"]
