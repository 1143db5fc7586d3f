"""`Tools`: what remedies need of a framework. The names in its `nn` and `optim` are PyTorch's in both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from chainrule.doctor.remedies.operations import Rule
from chainrule.doctor.remedies.parts import Parts
from chainrule.doctor.subjects import Subject


class Tools(ABC):
    """A framework's modules and how to change them.

    Attributes:
        nn, optim: its packages.
        parts: modules that it lacks.
        imports: lines that pasted code starts with.
        clip: its function that clips a gradient's norm, as code.
    """

    nn: Any
    optim: Any
    parts: Parts
    imports: tuple[str, ...]
    clip: str

    @abstractmethod
    def fit(self, module: Any, subject: Subject) -> Any:
        """A new module in the dtype, on the device and in the mode of the subject's network."""

    @abstractmethod
    def fill(self, parameter: Any, values: np.ndarray) -> None:
        """Give a parameter new values."""

    @abstractmethod
    def recorded(self, module: Any) -> Any:
        """A module around another one, in which what cuts a gradient's path is of no effect and noted in its `cuts`."""

    @abstractmethod
    def altered(self, module: Any, rule: Rule) -> Any:
        """A module around another one, in which a rule decides what operations are given."""


def tools_for(subject: Subject) -> Tools:
    """Those of the subject's framework."""
    if subject.framework == "torch":
        from chainrule.doctor.remedies.torch import TorchTools

        return TorchTools()
    from chainrule.doctor.remedies.own import OwnTools

    return OwnTools()
