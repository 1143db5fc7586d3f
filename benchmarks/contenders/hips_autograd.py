"""HIPS autograd: `value_and_grad` of the loss written in its NumPy, and updates in NumPy itself."""

from __future__ import annotations

import autograd
import autograd.numpy as anp
import numpy as np

from benchmarks.cases import Scalar
from benchmarks.contenders import Settings, Workload
from benchmarks.networks import MLP


def mlp(case: MLP) -> Settings:
    """A training step; its loss is spelled out, for there are no modules."""
    return {"": lambda: _training(case)}


def _training(case: MLP) -> Workload:
    parameters = case.parameters()
    inputs, targets = case.data()
    rows = np.arange(case.batch)
    loss = np.float32(0)

    def loss_of(parameters: list) -> np.ndarray:
        x = inputs
        for weight, bias in parameters[:-1]:
            x = anp.maximum(anp.dot(x, weight.T) + bias, 0)
        weight, bias = parameters[-1]
        z = anp.dot(x, weight.T) + bias
        z = z - anp.max(z, axis=1, keepdims=True)
        return anp.mean(anp.log(anp.sum(anp.exp(z), axis=1)) - z[rows, targets])

    value_and_grad = autograd.value_and_grad(loss_of)

    def step() -> None:
        nonlocal loss
        loss, gradients = value_and_grad(parameters)
        for pair, d_pair in zip(parameters, gradients, strict=True):
            for parameter, gradient in zip(pair, d_pair, strict=True):
                parameter -= case.learning_rate * gradient

    return Workload({"step": step}, lambda: float(loss))


def scalar(case: Scalar) -> Settings:
    """`autograd.grad` of the function written in its NumPy."""
    return {"": lambda: _gradient(case)}


def _gradient(case: Scalar) -> Workload:
    gradient = autograd.grad(lambda x: anp.tanh(x) ** 2 + x)
    result = 0.0

    def call() -> None:
        nonlocal result
        result = gradient(case.at)

    return Workload({"call": call}, lambda: float(result))
