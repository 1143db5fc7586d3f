"""A `Sickness`: a healthy setting with one thing changed, and the finding that a doctor should come to.

The finding names the cause that was put in. A second one is accepted only where the words of both fit what was done
equally well, which is said beside it; a symptom that the cause brings with it is no right answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from clinic.case import Case, Half
from clinic.frameworks import NAMES
from clinic.setting import Setting

BOTH = NAMES
CHAINRULE, TORCH = (NAMES[0],), (NAMES[1],)


@dataclass(frozen=True)
class Sickness:
    """A fault in a setting.

    Attributes:
        fault, accepted, layers, harm: as in `Case`.
        variant: what was done, in kebab-case.
        healthy: the setting that it was done to.
        setting: the outcome.
        frameworks: those it is shown in.
    """

    fault: str
    variant: str
    healthy: Setting
    setting: Setting
    layers: tuple[str, ...]
    accepted: tuple[str, ...]
    frameworks: tuple[str, ...]
    harm: bool

    @property
    def name(self) -> str:
        """Architecture, data, fault and variant."""
        return f"{self.healthy.name}-{self.fault}-{self.variant}"

    def case(self, framework_name: str, half: Half, data: str) -> Case:
        """The case of it, beside its healthy twin; `data` is the name of its problem."""
        return replace(
            self.healthy.case(framework_name, half, data),
            name=f"{self.name}-{framework_name}",
            fault=self.fault,
            accepted=self.accepted,
            layers=self.layers,
            steps=self.setting.steps,
            make=partial(self.setting.patient, framework_name, twin=self.healthy),
            harm=self.harm,
        )


def spoiled(
    settings: Mapping[str, Setting],
    fault: str,
    variant: str,
    healthy: str,
    *,
    layers: tuple[str, ...] = (),
    accepted: tuple[str, ...] = (),
    frameworks: tuple[str, ...] = BOTH,
    harm: bool = True,
    **changes: Any,
) -> Sickness:
    """The healthy one of the settings that has this name, with `changes` in its fields."""
    setting = settings[healthy]
    others = tuple(code for code in accepted if code != fault)
    return Sickness(fault, variant, setting, replace(setting, **changes), layers, others, frameworks, harm)
