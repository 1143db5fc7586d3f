"""All cases of both halves, healthy and sick, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain

from clinic import healthy, held_out, sick
from clinic.case import Case, Half
from clinic.frameworks import NAMES
from clinic.setting import Setting
from clinic.sickness import Sickness


def _cases(half: Half, settings: Iterable[Setting], sicknesses: Iterable[Sickness]) -> Iterator[Case]:
    for setting in settings:
        for name in NAMES:
            yield Case(
                name=f"{setting.name}-healthy-{name}",
                half=half,
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
                half=half,
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


_TUNING = _cases("tuning", healthy.SETTINGS, sick.SICK)
_HELD_OUT = _cases("held-out", held_out.SETTINGS, held_out.SICK)

CASES: dict[str, Case] = {case.name: case for case in chain(_TUNING, _HELD_OUT)}
