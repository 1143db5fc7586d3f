"""`torch.compile` of the forward pass and the loss, and so of the backward pass; the update is PyTorch's own SGD.

Of its modes, "max-autotune" compiles these networks to the same code as the default, and "reduce-overhead" is for
GPUs; what differs on a CPU is whether the compiled kernels are called from Python or from C++.
"""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.cases import MLP
from benchmarks.contenders import Settings
from benchmarks.contenders.torch_eager import training

#: Forgets what was compiled: of one function, PyTorch compiles no more than eight versions.
reset = torch.compiler.reset


def mlp(case: MLP) -> Settings:
    """Both ways to call the kernels."""
    called_from_cpp = partial(torch.compile, options={"cpp_wrapper": True})
    settings: Settings = {"fused SGD": partial(training, case, torch.compile, fused=True)}
    if len(case.layers) < 50:  # minutes to compile
        settings["C++ wrapper, fused SGD"] = partial(training, case, called_from_cpp, fused=True)
    return settings
