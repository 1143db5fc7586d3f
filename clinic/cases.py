"""All cases of both halves, healthy and sick, by name: those that were written, and those that were drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from clinic import blind, drawn, healthy, sick, wider
from clinic.case import Case
from clinic.frameworks import NAMES
from clinic.setting import Setting
from clinic.sickness import Sickness


def _cases(settings: Iterable[Setting], sicknesses: Iterable[Sickness]) -> Iterator[Case]:
    for setting in settings:
        for name in NAMES:
            yield setting.case(name, "tuning", setting.problem().name)
    for sickness in sicknesses:
        for name in sickness.frameworks:
            yield sickness.case(name, "tuning", sickness.healthy.problem().name)


_SETTINGS = (*healthy.SETTINGS, *wider.SETTINGS, *blind.SETTINGS)
_SICK = (*sick.SICK, *wider.SICK, *blind.SICK)

#: All written cases have been looked at: what is held out is drawn.
WRITTEN: dict[str, Case] = {case.name: case for case in _cases(_SETTINGS, _SICK)}
DRAWN: dict[str, Case] = {case.name: case for case in drawn.kept()}
CASES: dict[str, Case] = {**WRITTEN, **DRAWN}
