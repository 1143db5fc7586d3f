"""chainrule: backpropagation for NumPy.

    import chainrule as cr
    import numpy as np

    cr.grad(lambda x: np.tanh(x) ** 2 + x)(1.0)

The transforms differentiate functions (`grad`, `vjp`, `jvp`, `jacobian`, `hessian`, `hvp`); `Tensor.backward` works
as in PyTorch; `nn` and `optim` build and train networks; `check_grads` compares with numerical differentiation;
`explain` shows a gradient step by step.
"""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _version

import chainrule.ops  # noqa: F401  (binds the operations to Tensor)
from chainrule import nn, numpy, optim
from chainrule.compile import compile
from chainrule.core.errors import AnomalyError, GradientError
from chainrule.core.state import enable_grad, is_grad_enabled, no_grad
from chainrule.core.tensor import Tensor, tensor
from chainrule.explain import explain
from chainrule.transforms.backward import detect_anomaly
from chainrule.transforms.check import check_grads
from chainrule.transforms.custom import custom_vjp
from chainrule.transforms.forward import jvp
from chainrule.transforms.jacobians import hessian, hvp, jacobian
from chainrule.transforms.reverse import grad, value_and_grad, vjp

try:
    __version__ = _version("chainrule")
except PackageNotFoundError:  # run from a source tree that was not installed
    __version__ = "unknown"

__all__ = [
    "AnomalyError",
    "GradientError",
    "Tensor",
    "check_grads",
    "compile",
    "custom_vjp",
    "detect_anomaly",
    "enable_grad",
    "explain",
    "grad",
    "hessian",
    "hvp",
    "is_grad_enabled",
    "jacobian",
    "jvp",
    "nn",
    "no_grad",
    "numpy",
    "optim",
    "tensor",
    "value_and_grad",
    "vjp",
]
