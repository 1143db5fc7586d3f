"""All cases of both halves, healthy and sick, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from hashlib import sha256
from itertools import chain
from typing import get_args

from clinic import blind, healthy, sick, wider
from clinic.case import Case, Half
from clinic.frameworks import NAMES
from clinic.setting import Setting
from clinic.sickness import Sickness

HALVES: tuple[Half, ...] = get_args(Half)


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


#: The first lot that leaves three cases of every fault, and about as many of all, in either half.
LOT = 977


def _half(setting: Setting) -> Half:
    """By lot: a hash of its name, so that all that is made of one healthy setting comes into one half."""
    return "held-out" if sha256(f"{LOT} {setting.name}".encode()).digest()[0] % 2 else "tuning"


def _by_lot(settings: Iterable[Setting], sicknesses: Iterable[Sickness]) -> Iterator[Case]:
    settings, sicknesses = tuple(settings), tuple(sicknesses)
    for half in HALVES:
        drawn = [setting for setting in settings if _half(setting) == half]
        yield from _cases(half, drawn, [sickness for sickness in sicknesses if _half(sickness.healthy) == half])


_SEEN = _cases("tuning", (*healthy.SETTINGS, *wider.SETTINGS), (*sick.SICK, *wider.SICK))

CASES: dict[str, Case] = {case.name: case for case in chain(_SEEN, _by_lot(blind.SETTINGS, blind.SICK))}
