"""A finding: one thing that is wrong with a network, where, how bad, and what proves it.

`CODES` lists everything the doctor can find, with the words and the source of each. The rules that find them are in
`rules`, the cures in `remedies`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Severity(IntEnum):
    """How much a finding matters: a note, something that costs accuracy or time, something that prevents learning."""

    NOTE = 1
    WARNING = 2
    SEVERE = 3


@dataclass(frozen=True)
class Code:
    """What kind of thing can be wrong.

    Attributes:
        title: the finding as a sentence's start, in plain words.
        remedies: names of remedies that fit, the most promising first.
        reference: where it was described.
    """

    title: str
    remedies: tuple[str, ...]
    reference: str


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        code: a name in `CODES`.
        layer: path of the module it concerns; empty for the network as a whole.
        severity: how much it matters.
        evidence: the measured numbers that prove it, by name, with the thresholds they crossed.
        cause: one or two sentences: what is wrong and why, with those numbers.
        layers: paths of all modules concerned, `layer` first.
        follows_from: code of the finding that brings this one about; empty if it stands by itself.
    """

    code: str
    layer: str
    severity: Severity
    evidence: Mapping[str, Any]
    cause: str
    layers: tuple[str, ...] = ()
    follows_from: str = ""

    @property
    def remedies(self) -> tuple[str, ...]:
        """Names of the remedies that fit, the most promising first."""
        return CODES[self.code].remedies

    @property
    def reference(self) -> str:
        """Where this was described."""
        return CODES[self.code].reference


_GLOROT = 'Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks"'
_HE = 'He et al. 2015, "Delving Deep into Rectifiers"'
_PASCANU = 'Pascanu et al. 2013, "On the difficulty of training recurrent neural networks"'
_KARPATHY = 'Karpathy 2019, "A Recipe for Training Neural Networks"'
_GOODFELLOW = 'Goodfellow et al. 2016, "Deep Learning"'

CODES: dict[str, Code] = {
    "vanishing-gradient": Code(
        "The error signal dies out on its way to the first layers",
        ("activation", "initialization", "normalization", "residual"),
        f'{_GLOROT}; Hochreiter 1991, "Untersuchungen zu dynamischen neuronalen Netzen"',
    ),
    "exploding-gradient": Code(
        "The error signal grows on its way to the first layers",
        ("initialization", "usual-initialization", "clipping", "normalization", "learning-rate", "residual"),
        _PASCANU,
    ),
    "dying-relu": Code(
        "Rectified units are zero whatever the input",
        (
            "initialization",
            "usual-initialization",
            "usual-normalization",
            "activation",
            "normalization",
            "learning-rate",
        ),
        'Lu et al. 2020, "Dying ReLU and Initialization: Theory and Numerical Examples"',
    ),
    "saturated-activation": Code(
        "Activations sit where their derivative is almost zero",
        ("initialization", "usual-initialization", "input-scaling", "normalization", "activation"),
        _GLOROT,
    ),
    "wrong-initialization": Code(
        "The weights start too large or too small for the layer's fan-in and activation",
        ("initialization", "usual-initialization", "normalization"),
        f"{_HE}; {_GLOROT}",
    ),
    "symmetric-initialization": Code(
        "Units of a layer are copies of each other and stay so",
        ("initialization", "usual-initialization"),
        f"{_GOODFELLOW}, section 8.4",
    ),
    "missing-normalization": Code(
        "Activations drift from layer to layer and nothing brings them back",
        ("normalization", "initialization", "residual"),
        'Ioffe and Szegedy 2015, "Batch Normalization"; Ba et al. 2016, "Layer Normalization"',
    ),
    "non-finite": Code(
        "A NaN or an infinity appears",
        ("loss", "input-scaling", "guarding", "initialization", "learning-rate", "clipping"),
        f"{_GOODFELLOW}, section 4.1",
    ),
    "learning-rate-too-high": Code(
        "Steps are too long: the loss jumps or grows",
        ("learning-rate", "clipping"),
        'LeCun et al. 1998, "Efficient BackProp"; Cohen et al. 2021, "Gradient Descent on Neural Networks Typically '
        'Occurs at the Edge of Stability"',
    ),
    "learning-rate-too-low": Code(
        "Steps are too short: the weights hardly move",
        ("learning-rate",),
        'Smith 2017, "Cyclical Learning Rates for Training Neural Networks"',
    ),
    "oscillating-loss": Code(
        "The loss swings up and down instead of falling",
        ("momentum", "learning-rate", "optimizer", "clipping"),
        f"{_GOODFELLOW}, section 8.2",
    ),
    "slow-convergence": Code(
        "The loss falls, but far slower than this network can learn",
        ("learning-rate", "optimizer", "normalization", "initialization", "activation"),
        f"{_GOODFELLOW}, section 8.2",
    ),
    "unused-parameter": Code(
        "A trainable parameter takes no part in the loss",
        ("all-parameters",),
        _KARPATHY,
    ),
    "detached-graph": Code(
        "The gradient's path is cut: part of the network cannot learn",
        ("gradient-path", "through-path"),
        _KARPATHY,
    ),
    "unscaled-input": Code(
        "The inputs are not scaled",
        ("input-scaling", "input-logarithm", "normalization"),
        'LeCun et al. 1998, "Efficient BackProp", section 4.3',
    ),
    "loss-activation-mismatch": Code(
        "The last activation does not fit the loss",
        ("loss",),
        f"{_GOODFELLOW}, section 6.2.2",
    ),
    "wrong-loss": Code(
        "The loss does not fit the targets",
        ("loss",),
        f"{_GOODFELLOW}, section 6.2.1",
    ),
    "bottleneck": Code(
        "A layer is too narrow to let through what the next ones need",
        ("width", "lasting-state"),
        'Tishby and Zaslavsky 2015, "Deep Learning and the Information Bottleneck Principle"',
    ),
    "cannot-overfit-batch": Code(
        "The network cannot learn even one batch by heart",
        ("activation", "regularization", "initialization", "normalization", "learning-rate", "residual"),
        _KARPATHY,
    ),
    "shuffled-labels": Code(
        "The labels have nothing to do with the inputs",
        (),
        'Zhang et al. 2017, "Understanding deep learning requires rethinking generalization"',
    ),
    "bptt-vanishing": Code(
        "The error signal dies out on its way back through time",
        ("forget-gate-bias", "initialization", "shorter-time"),
        f'{_PASCANU}; Jozefowicz et al. 2015, "An Empirical Exploration of Recurrent Network Architectures"',
    ),
    "bptt-exploding": Code(
        "The error signal grows on its way back through time",
        ("clipping", "initialization", "bounded-state", "shorter-time"),
        _PASCANU,
    ),
    "always-clipped": Code(
        "Every gradient is clipped: the step length is the clipping's, not the gradient's",
        ("clipping", "learning-rate"),
        _PASCANU,
    ),
    "dead-batchnorm": Code(
        "A batch normalisation passes nothing on, or has no statistics to go by",
        ("normalization", "batch-size"),
        'Ioffe and Szegedy 2015, "Batch Normalization"',
    ),
    "ill-conditioned": Code(
        "The loss curves very differently in different directions",
        ("input-scaling", "input-whitening", "initialization", "normalization", "optimizer"),
        'LeCun et al. 1998, "Efficient BackProp", section 5',
    ),
}
