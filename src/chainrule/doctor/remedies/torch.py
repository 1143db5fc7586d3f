"""What remedies need of PyTorch: its modules, its optimisers, and how values get into parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn, optim

from chainrule.doctor.remedies.parts import make_parts
from chainrule.doctor.remedies.tools import Tools
from chainrule.doctor.subjects import Subject

PARTS = make_parts(nn, torch.tensor, torch.concat, torch.where, __name__)
Residual, Normalized, Standardize = PARTS.Residual, PARTS.Normalized, PARTS.Standardize
Whiten, TruncatedTime = PARTS.Whiten, PARTS.TruncatedTime


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
