"""What remedies need of PyTorch: its modules, its optimisers, and how values get into parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn, optim
from torch.overrides import TorchFunctionMode

from chainrule.doctor.remedies import operations
from chainrule.doctor.remedies.cuts import DETACH, NO_GRAD, Cuts, exchanged
from chainrule.doctor.remedies.parts import make_parts
from chainrule.doctor.remedies.tools import Tools
from chainrule.doctor.subjects import Subject

PARTS = make_parts(nn, torch.tensor, torch.concat, torch.where, __name__)
Residual, Normalized, Standardize = PARTS.Residual, PARTS.Normalized, PARTS.Standardize
Whiten, Logarithm, TruncatedTime = PARTS.Whiten, PARTS.Logarithm, PARTS.TruncatedTime
Tapped, Bridged = PARTS.Tapped, PARTS.Bridged


class Recorded(nn.Module):
    """inner(...), in which detach(), no_grad and conversions to NumPy and back are of no effect."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.cuts = Cuts()

    def forward(self, *inputs: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.inner(*inputs, **options)
        returned = {torch.from_numpy: lambda array: _returned(self.cuts, _from_numpy(array))}
        with self.cuts.noted(), _WithoutCuts(self.cuts), exchanged(returned):
            return self.inner(*inputs, **options)


_from_numpy = torch.from_numpy  # which no `__torch_function__` is told of


class _WithoutCuts(TorchFunctionMode):
    def __init__(self, cuts: Cuts) -> None:
        super().__init__()
        self._cuts = cuts

    def __torch_function__(
        self, func: Callable, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        cuts = self._cuts
        if func in _CUTTING:
            cuts.note(DETACH)
            return args[0]
        if func is torch._C._set_grad_enabled:
            cuts.note(NO_GRAD)
            return None
        if func in _CONVERTING:
            plain = args[0].detach()
            converted = func(plain, *args[1:], **(kwargs or {}))
            if args[0].requires_grad:
                cuts.leave(plain.numpy(force=True), args[0])
            return converted
        made = func(*args, **(kwargs or {}))
        return _returned(cuts, made) if func in _MAKING else made


def _returned(cuts: Cuts, made: torch.Tensor) -> torch.Tensor:
    """A new tensor, or the one that its numbers came from."""
    origin = cuts.origin_of(made.detach().numpy(force=True))
    return made if origin is None else origin.reshape(made.shape).to(made)


_CUTTING = (torch.Tensor.detach, torch.detach, torch.Tensor.data.__get__)
_CONVERTING = (torch.Tensor.numpy, torch.Tensor.__array__, torch.Tensor.tolist)
_MAKING = (torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor)


class Altered(nn.Module):
    """inner(...), in which a rule decides what operations are given: see `operations`."""

    def __init__(self, inner: nn.Module, rule: operations.Rule) -> None:
        super().__init__()
        self.inner = inner
        self.rule = rule

    def forward(self, *inputs: Any, **options: Any) -> Any:
        self.rule.begin()
        with _Altering(self.rule):
            return self.inner(*inputs, **options)


class _Altering(TorchFunctionMode):
    def __init__(self, rule: operations.Rule) -> None:
        super().__init__()
        self._rule = rule

    def __torch_function__(
        self, func: Callable, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in ("__rdiv__", "__rtruediv__"):  # number / tensor
            func, args, name = torch.div, (args[1], args[0]), "div"
        given = self._rule(name, args, torch.where, torch.abs)
        return args[0] if given is None else func(*given, **(kwargs or {}))


class TorchTools(Tools):
    """PyTorch's."""

    nn = nn
    optim = optim
    parts = PARTS
    imports = ("import numpy as np", "import torch", "from torch import concat, nn, optim, tensor, where")
    clip = "nn.utils.clip_grad_norm_"

    def fit(self, module: Any, subject: Subject) -> Any:
        like = next(iter(subject.model.parameters()))
        return module.to(device=like.device, dtype=like.dtype).train(subject.model.training)

    def fill(self, parameter: Any, values: np.ndarray) -> None:
        with torch.no_grad():
            parameter.copy_(torch.as_tensor(values))

    def recorded(self, module: Any) -> Any:
        return Recorded(module)

    def altered(self, module: Any, rule: operations.Rule) -> Any:
        return Altered(module, rule)
