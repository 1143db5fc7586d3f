"""A network that does not train: thirty sigmoid layers on the bundled digits, for the doctor.

chainrule doctor examples/deep_sigmoid.py:make --repair
"""

from __future__ import annotations

from typing import Any

from chainrule import nn, optim
from chainrule.data import load_digits


def make() -> dict[str, Any]:
    """The network, its loss, a batch, its optimiser and data, as `chainrule doctor` takes them."""
    digits = load_digits().to_dataset()
    inputs, targets = digits.inputs / digits.inputs.max(), digits.targets
    model = nn.MLP(inputs.shape[1], 64, 10, depth=30, activation="sigmoid")
    return {
        "model": model,
        "loss": nn.functional.cross_entropy,
        "batch": (inputs[:64], targets[:64]),
        "optimizer": optim.Adam(model.parameters(), lr=1e-3),
        "data": (inputs, targets),
    }
