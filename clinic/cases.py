"""All cases of both halves, healthy and sick, by name: those that were written, and those that were drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from clinic import blind, drawn, healthy, sick, wider
from clinic.case import Case
from clinic.frameworks import NAMES
from clinic.setting import Setting
from clinic.sickness import Sickness


def _cases(settings: Iterable[Setting], sicknesses: Iterable[Sickness]) -> Iterator[Case]:
    for setting in settings:
        for name in NAMES:
            yield Case(
                name=f"{setting.name}-healthy-{name}",
                half="tuning",
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
    for sickness in sicknesses:
        for name in sickness.frameworks:
            yield Case(
                name=f"{sickness.name}-{name}",
                half="tuning",
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


_SETTINGS = (*healthy.SETTINGS, *wider.SETTINGS, *blind.SETTINGS)
_SICK = (*sick.SICK, *wider.SICK, *blind.SICK)

#: All written cases have been looked at: what is held out is drawn.
WRITTEN: dict[str, Case] = {case.name: case for case in _cases(_SETTINGS, _SICK)}
DRAWN: dict[str, Case] = {case.name: case for case in drawn.kept()}
CASES: dict[str, Case] = {**WRITTEN, **DRAWN}
