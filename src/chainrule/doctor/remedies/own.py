"""What remedies need of chainrule: its modules, its optimisers, and how values get into parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule import nn, numpy, optim
from chainrule.core.tensor import tensor
from chainrule.doctor.remedies.parts import make_parts
from chainrule.doctor.remedies.tools import Tools
from chainrule.doctor.subjects import Subject

PARTS = make_parts(nn, tensor, numpy.concat, numpy.where, __name__)
Residual, Normalized, Standardize = PARTS.Residual, PARTS.Normalized, PARTS.Standardize
Whiten, TruncatedTime = PARTS.Whiten, PARTS.TruncatedTime


class OwnTools(Tools):
    """Chainrule's."""

    nn = nn
    optim = optim
    parts = PARTS
    imports = (
        "import numpy as np",
        "from chainrule import nn, optim, tensor",
        "from chainrule.numpy import concat, where",
    )
    clip = "optim.clip_grad_norm_"

    def fit(self, module: Any, subject: Subject) -> Any:
        like = next(iter(subject.model.parameters()))
        return module.to(like.dtype).train(subject.model.training)

    def fill(self, parameter: Any, values: np.ndarray) -> None:
        parameter.data = values
