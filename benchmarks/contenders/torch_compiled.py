"""`torch.compile` of the forward pass and the loss, and so of the backward pass; the update is PyTorch's own SGD.

Of its modes, "max-autotune" compiles these networks to the same code as the default, and "reduce-overhead" is for
GPUs; what differs on a CPU is whether the compiled kernels are called from Python or from C++.
"""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.cases import Derivative, Loop
from benchmarks.contenders import Settings, torch_derivatives, torch_eager
from benchmarks.contenders.torch_block import Block
from benchmarks.contenders.torch_eager import training, with_and_without_subnormals
from benchmarks.networks import CNN, GPT, MLP, Network


def reset() -> None:
    """Forgets what was compiled too: of one function, PyTorch compiles no more than eight versions."""
    torch_eager.reset()
    torch.compiler.reset()


def _training_step(case: Network) -> Settings:
    """Both ways to call the kernels."""
    settings: Settings = {"fused SGD": partial(training, case, torch.compile, fused=True)}
    if not (isinstance(case, MLP) and len(case.layers) > 50):  # minutes to compile
        settings["C++ wrapper, fused SGD"] = partial(training, case, _called_from_cpp, fused=True)
    return with_and_without_subnormals(case, settings)


_called_from_cpp = partial(torch.compile, options={"cpp_wrapper": True})
mlp = lstm = _training_step


def cnn(case: CNN) -> Settings:
    """The same, and with channels on the last axis."""
    last = partial(training, case, torch.compile, channels_last=True, fused=True)
    return {**_training_step(case), "channels last, fused SGD": last}


def gpt(case: GPT) -> Settings:
    """The same, and with blocks that do nothing but what this network needs."""
    by_hand = partial(training, case, torch.compile, block=Block, fused=True)
    return {**_training_step(case), "blocks by hand, fused SGD": by_hand}


def derivative(case: Derivative) -> Settings:
    """What is differentiated, or the derivative, compiled."""
    return torch_derivatives.derivative(case, torch.compile)


def loop(case: Loop) -> Settings:
    """The function compiled, all of it unrolled."""
    return torch_derivatives.loop(case, torch.compile)
