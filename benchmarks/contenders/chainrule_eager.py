"""chainrule, eager: its modules, losses and optimiser, used as its documentation says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import chainrule as cr
from benchmarks.cases import Deep, Derivative, Loop, Scalar
from benchmarks.contenders import ForwardPass, Settings, Workload, chainrule_derivatives, modules
from benchmarks.networks import GPT, Network
from chainrule import nn, optim
from chainrule.transforms.kept import kept_by, owner


def _training_step(case: Network) -> Settings:
    """A training step in its three phases."""
    return {"": lambda: _training(case)}


mlp = lstm = cnn = gpt = _training_step


def _training(case: Network) -> Workload:
    model = network(case)
    inputs, targets = map(cr.tensor, case.data())
    optimizer = optim.SGD(model.parameters(), lr=case.learning_rate)
    loss = cr.tensor(0.0)

    def forward() -> None:
        nonlocal loss
        loss = nn.functional.cross_entropy(model(inputs), targets)

    def backward() -> None:
        optimizer.zero_grad()
        loss.backward()

    return Workload({"forward": forward, "backward": backward, "update": optimizer.step}, lambda: loss.item())


def network(case: Network) -> nn.Module:
    """The network of a case, with its parameters."""
    how = {"block": nn.TransformerEncoderLayer} if isinstance(case, GPT) else {}
    model = modules.network(nn, case, **how)
    model.load_state_dict(case.state_dict())
    return model


def scalar(case: Scalar) -> Settings:
    """`cr.grad` of the function written in NumPy; the number that comes out is a float."""
    return {"": lambda: scalar_workload(case, _as_it_is)}


def scalar_workload(case: Scalar, compiler: Callable[[Callable], Callable]) -> Workload:
    """One call of what `compiler` makes of the gradient function."""
    gradient = compiler(cr.grad(lambda x: np.tanh(x) ** 2 + x))
    result = 0.0

    def call() -> None:
        nonlocal result
        result = gradient(case.at)

    return Workload({"call": call}, lambda: result)


def derivative(case: Derivative) -> Settings:
    """The transforms as they are."""
    return chainrule_derivatives.derivative(case, _as_it_is)


def loop(case: Loop) -> Settings:
    """The transforms as they are."""
    return chainrule_derivatives.loop(case, _as_it_is)


def _as_it_is(function: Callable) -> Callable:
    return function


def memory(case: Deep) -> ForwardPass:
    """What is kept is what the edges of the graph hold."""
    model = nn.Sequential()
    for _ in range(case.blocks):
        model.append(nn.Linear(case.width, case.width))
        if case.block == "tanh":
            model.append(nn.Tanh())
        else:
            model.extend([nn.BatchNorm1d(case.width), nn.ReLU()])
    inputs = cr.tensor(case.inputs())

    def run() -> tuple[object, dict[int, int]]:
        result = model(inputs)
        own = {id(owner(tensor._value)) for tensor in (*model.parameters(), *model.buffers())}
        return result, {key: entry.nbytes for key, entry in kept_by([result]).items() if key not in own}

    return run
