"""`torch.compile` of the forward pass and the loss, and so of the backward pass; the update is PyTorch's own SGD.

Of its modes, "max-autotune" compiles these networks to the same code as the default, and "reduce-overhead" is for
GPUs; what differs on a CPU is whether the compiled kernels are called from Python or from C++.
"""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.cases import MLP, Derivative, Loop
from benchmarks.contenders import Settings, torch_derivatives, torch_eager
from benchmarks.contenders.torch_eager import training, with_and_without_subnormals


def reset() -> None:
    """Forgets what was compiled too: of one function, PyTorch compiles no more than eight versions."""
    torch_eager.reset()
    torch.compiler.reset()


def mlp(case: MLP) -> Settings:
    """Both ways to call the kernels."""
    called_from_cpp = partial(torch.compile, options={"cpp_wrapper": True})
    settings: Settings = {"fused SGD": partial(training, case, torch.compile, fused=True)}
    if len(case.layers) < 50:  # minutes to compile
        settings["C++ wrapper, fused SGD"] = partial(training, case, called_from_cpp, fused=True)
    return with_and_without_subnormals(case, settings)


def derivative(case: Derivative) -> Settings:
    """What is differentiated, or the derivative, compiled."""
    return torch_derivatives.derivative(case, torch.compile)


def loop(case: Loop) -> Settings:
    """The function compiled, all of it unrolled."""
    return torch_derivatives.loop(case, torch.compile)
