"""`ConvolutionalNetwork`: convolutions, one pooling half way, and a last linear layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from chainrule import nn
from chainrule.nn.activations import ACTIVATIONS
from chainrule.nn.init import BY_NAME

NORMALIZATIONS: dict[str, Callable[..., nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "layer": lambda channels, **options: nn.GroupNorm(1, channels, **options),  # all channels and pixels together
}


class ConvolutionalNetwork(nn.Module):
    """Classifies small images.

    Plain, every convolution is followed by a normalisation and an activation; with `residual=True` each but the first
    is a block around which its input passes, as in `nn.MLP`:

        x + Conv2d(activation(normalisation(x)))

    Images keep their size through a convolution. After the first half of them, pooling halves it.

    Args:
        channels, height, width: of an image.
        classes: number of outputs.
        depth: number of convolutions, at least 1.
        filters: channels that each of them makes.
        kernel: height and width of their kernels, an odd number.
        activation: a name of `nn.activations.ACTIVATIONS`.
        norm: None, "batch" or "layer".
        residual: whether inputs pass around the convolutions.
        init: how weights start, a name of `nn.init.BY_NAME`; biases start at zero.
        dropout: probability of dropping an input of the last layer while training.
        dtype: of the parameters.

    Attributes:
        layers: the `Sequential` that does the work.
    """

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        classes: int,
        *,
        depth: int,
        filters: int,
        kernel: int,
        activation: str,
        norm: str | None,
        residual: bool,
        init: str,
        dropout: float,
        dtype: Any,
    ) -> None:
        def convolution(inputs: int) -> nn.Conv2d:
            made = nn.Conv2d(inputs, filters, kernel, padding=kernel // 2, dtype=dtype)
            return _initialised(made, init, activation)

        def before() -> list[nn.Module]:
            """What a signal goes through before the next convolution."""
            return [*([NORMALIZATIONS[norm](filters, dtype=dtype)] if norm else []), ACTIVATIONS[activation]()]

        layers: list[nn.Module] = []
        for place in range(depth):
            made = convolution(filters if place else channels)
            if residual and place:
                made.weight.data = made.weight.data / math.sqrt(depth - 1)
                layers.append(nn.Residual(nn.Sequential(*before(), made)))
            else:
                layers += [made] if residual else [made, *before()]
            if place == (depth - 1) // 2:
                layers.append(nn.MaxPool2d(2))
        if residual:
            layers += before()
        layers.append(nn.Flatten())
        if dropout:
            layers.append(nn.Dropout(dropout))
        last = nn.Linear(filters * (height // 2) * (width // 2), classes, dtype=dtype)
        self.layers = nn.Sequential(*layers, _initialised(last, init, "linear"))

    def forward(self, images: Any) -> Any:
        """Scores of the classes, shape (images, classes), for images of shape (images, channels, height, width)."""
        return self.layers(images)


def _initialised(layer: Any, init: str, activation: str) -> Any:
    BY_NAME[init](layer.weight, activation)
    nn.init.zeros_(layer.bias)
    return layer
