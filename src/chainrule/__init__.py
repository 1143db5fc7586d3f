"""chainrule: backpropagation for NumPy.

    import chainrule as cr
    import numpy as np

    cr.grad(lambda x: np.tanh(x) ** 2 + x)(1.0)

The transforms differentiate functions (`grad`, `vjp`, `jvp`, `jacobian`, `hessian`, `hvp`); `Tensor.backward` works
as in PyTorch; `nn` and `optim` build and train networks; `check_grads` compares with numerical differentiation;
`explain` shows a gradient step by step; `diagnose` and `monitor` say why a network does not train.
"""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

import chainrule.ops  # noqa: F401  (binds the operations to Tensor)
from chainrule import nn, numpy, optim
from chainrule.compile import compile
from chainrule.core.errors import AnomalyError, GradientError
from chainrule.core.native import no_native
from chainrule.core.state import enable_grad, is_grad_enabled, no_grad
from chainrule.core.tensor import Tensor, tensor
from chainrule.explain import explain
from chainrule.memory import memory
from chainrule.transforms.backward import detect_anomaly
from chainrule.transforms.check import check_grads
from chainrule.transforms.checkpoint import checkpoint
from chainrule.transforms.custom import custom_vjp
from chainrule.transforms.forward import jvp
from chainrule.transforms.jacobians import hessian, hvp, jacobian
from chainrule.transforms.placement import MemoryBudget
from chainrule.transforms.reverse import grad, value_and_grad, vjp

if TYPE_CHECKING:
    from chainrule.doctor import diagnose, monitor, repair

_OF_THE_DOCTOR = ("diagnose", "monitor", "repair")  # imported when first asked for: most programs never do


def __getattr__(name: str) -> Any:
    if name in _OF_THE_DOCTOR:
        from chainrule import doctor

        globals().update({own: getattr(doctor, own) for own in _OF_THE_DOCTOR})
        return globals()[name]
    raise AttributeError(f"module 'chainrule' has no attribute {name!r}")


try:
    __version__ = _version("chainrule")
except PackageNotFoundError:  # run from a source tree that was not installed
    __version__ = "unknown"

__all__ = [
    "AnomalyError",
    "GradientError",
    "MemoryBudget",
    "Tensor",
    "check_grads",
    "checkpoint",
    "compile",
    "custom_vjp",
    "detect_anomaly",
    "diagnose",
    "enable_grad",
    "explain",
    "grad",
    "hessian",
    "hvp",
    "is_grad_enabled",
    "jacobian",
    "jvp",
    "memory",
    "monitor",
    "nn",
    "no_grad",
    "no_native",
    "numpy",
    "optim",
    "repair",
    "tensor",
    "value_and_grad",
    "vjp",
]
