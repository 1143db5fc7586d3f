"""NumPy by hand: the step a person would write who derives the gradients on paper. No framework can be far below it."""

from __future__ import annotations

import numpy as np

from benchmarks.contenders import Float32, Settings, Workload
from benchmarks.networks import MLP


def mlp(case: MLP) -> Settings:
    """A training step in its three phases."""
    return {"": lambda: _training(case)}


def _training(case: MLP) -> Workload:
    parameters = case.parameters()
    inputs, targets = case.data()
    rows = np.arange(case.batch)
    ones = np.ones(case.batch, np.float32)
    learning_rate = np.array(case.learning_rate, np.float32)  # a 0-d array is a faster factor than a float
    loss = np.float32(0)
    activations: list[Float32] = []
    probabilities = np.empty(0, np.float32)
    gradients: list[tuple[Float32, Float32]] = []

    def forward() -> None:
        nonlocal loss, probabilities
        activations[:] = [inputs]
        for weight, bias in parameters[:-1]:
            z = weight.dot(activations[-1].T).T  # OpenBLAS is faster so than with x @ weight.T
            z += bias
            activations.append(np.maximum(z, 0, out=z))
        weight, bias = parameters[-1]
        z = activations[-1].dot(weight.T) + bias
        z -= z.max(axis=1, keepdims=True)
        e = np.exp(z)
        total = e.sum(axis=1, keepdims=True)
        loss = np.mean(np.log(total[:, 0]) - z[rows, targets])
        probabilities = e / total

    def backward() -> None:
        g = probabilities
        g[rows, targets] -= 1
        g /= case.batch
        gradients.clear()
        for (weight, _), activation in zip(reversed(parameters), reversed(activations), strict=True):
            gradients.append((g.T.dot(activation), g.T.dot(ones)))
            if activation is not inputs:
                g = weight.T.dot(g.T).T
                g *= activation > 0

    def update() -> None:
        for (weight, bias), (d_weight, d_bias) in zip(reversed(parameters), gradients, strict=True):
            d_weight *= learning_rate
            weight -= d_weight
            d_bias *= learning_rate
            bias -= d_bias

    return Workload({"forward": forward, "backward": backward, "update": update}, lambda: float(loss))
