"""All cases, healthy and sick, by name."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from clinic.case import Case
from clinic.frameworks import NAMES
from clinic.healthy import SETTINGS
from clinic.sick import SICK


def _cases() -> Iterator[Case]:
    for setting in SETTINGS:
        for name in NAMES:
            yield Case(
                name=f"{setting.name}-healthy-{name}",
                framework=name,
                architecture=setting.architecture,
                data=setting.problem().name,
                fault=None,
                accepted=(),
                layers=(),
                steps=setting.steps,
                make=partial(setting.patient, name),
                harm=False,
            )
    for sickness in SICK:
        for name in sickness.frameworks:
            yield Case(
                name=f"{sickness.name}-{name}",
                framework=name,
                architecture=sickness.healthy.architecture,
                data=sickness.healthy.problem().name,
                fault=sickness.fault,
                accepted=sickness.accepted,
                layers=sickness.layers,
                steps=sickness.setting.steps,
                make=partial(sickness.setting.patient, name, twin=sickness.healthy),
                harm=sickness.harm,
            )


CASES: dict[str, Case] = {case.name: case for case in _cases()}
