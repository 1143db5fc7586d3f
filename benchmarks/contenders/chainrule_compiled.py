"""chainrule, compiled: the step of `chainrule_eager` as one function, given to `cr.compile`.

It is strict, for otherwise a function that cannot be compiled would be timed as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import chainrule as cr
from benchmarks.cases import Derivative, Loop, Scalar
from benchmarks.contenders import Settings, Workload, chainrule_derivatives
from benchmarks.contenders.chainrule_eager import network, scalar_workload
from benchmarks.networks import Network
from chainrule import nn, optim


def _compiled(function: Callable) -> Callable:
    threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    # With all cores it is left to chainrule whether more than one is worth it.
    return cr.compile(function, strict=True, threads=threads if 0 < threads < (os.cpu_count() or 1) else None)


def _training_step(case: Network) -> Settings:
    """A training step, compiled whole. Where the step drops its gradients last, the program need not write them."""
    return {"gradients dropped": lambda: _training(case, keeps=False), "kept": lambda: _training(case, keeps=True)}


mlp = lstm = cnn = gpt = _training_step


def _training(case: Network, *, keeps: bool) -> Workload:
    model = network(case)
    inputs, targets = map(cr.tensor, case.data())
    optimizer = optim.SGD(model.parameters(), lr=case.learning_rate)
    loss = cr.tensor(0.0)

    @_compiled
    def advance(inputs: cr.Tensor, targets: cr.Tensor) -> cr.Tensor:
        if keeps:
            optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        if not keeps:
            optimizer.zero_grad()
        return loss

    def step() -> None:
        nonlocal loss
        loss = advance(inputs, targets)

    return Workload({"step": step}, lambda: float(loss.item()))


def scalar(case: Scalar) -> Settings:
    """`cr.compile(cr.grad(...))`; the number that comes out is a float."""
    return {"": lambda: scalar_workload(case, _compiled)}


def derivative(case: Derivative) -> Settings:
    """The transforms, compiled."""
    return chainrule_derivatives.derivative(case, _compiled)


def loop(case: Loop) -> Settings:
    """The transforms, compiled."""
    return chainrule_derivatives.loop(case, _compiled)
