"""What checkpoints would save, told from what modules are given and what they keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from chainrule.core.node import Node
from chainrule.memory.account import Saving, common_path, pattern_of
from chainrule.memory.places import Place, Watch
from chainrule.nn.containers import Sequential
from chainrule.transforms.kept import Kept
from chainrule.transforms.placement import Part, Piece, evenly, kept_with, smallest

#: Shorter chains are not worth a checkpoint.
_SHORTEST = 4


class _Inside(NamedTuple):
    """A module as a checkpoint would see it.

    Attributes:
        steps: those it makes.
        read: the memory it is given: what a checkpoint of it would keep, with the sizes.
        alone: what is kept for it alone.
        held: all memory that its rules read.
    """

    steps: set[Node]
    read: dict[int, int]
    alone: set[int]
    held: set[int]


def savings(kept: dict[int, Kept], watch: Watch, of_model: set[int]) -> tuple[Saving, ...]:
    """What checkpoints would save, for every module that has steps in modules of its own; the largest first.

    Args:
        kept: what is kept.
        watch: what was seen of the run.
        of_model: the memory of parameters and buffers.
    """
    counted = {key: entry for key, entry in kept.items() if key not in of_model}
    places: dict[tuple[Place, ...], set[Node]] = {}
    for node, chain in watch.places.items():
        for length in range(1, len(chain) + 1):
            places.setdefault(chain[:length], set()).add(node)
    inside = {place: _inside(place, steps, counted, watch, of_model) for place, steps in places.items()}
    found: dict[tuple[str, str, str], list[Saving]] = {}
    for place in dict.fromkeys(place[:-1] for place in inside if len(place) > 1):
        module = watch.modules[place[-1]]
        saving = None
        if not isinstance(module, Sequential):
            saving = _of_module(place[-1], inside[place], counted) if len(place) > 1 else None
        elif module.checkpoint is None:
            saving = _of_chain(place[-1], _parts(place, module, inside), counted)
        if saving is not None and saving.after < saving.before:
            found.setdefault((pattern_of(saving.module), saving.kind, saving.how), []).append(saving)
    rows = [_together(same) for same in found.values()]
    return tuple(sorted(rows, key=lambda row: row.after - row.before))


def _inside(
    place: tuple[Place, ...], steps: set[Node], kept: dict[int, Kept], watch: Watch, of_model: set[int]
) -> _Inside:
    read: dict[int, int] = {}
    for number, given in enumerate(watch.given.get(place, {}).values()):
        memory = given.memory()
        key = id(memory) if memory is not None else -1 - number  # it is gone: nobody keeps it
        if key not in of_model:
            read[key] = given.nbytes
    held = {key for key, entry in kept.items() if any(use.node in steps for use in entry.uses)}
    alone = {key for key in held if all(use.node in steps for use in kept[key].uses)}
    return _Inside(steps, read, alone, held)


def _parts(place: tuple[Place, ...], module: Sequential, inside: dict) -> list[_Inside | None]:
    """What each module of a Sequential makes and reads; None for those that have no steps."""
    path = place[-1].path
    own = [Place(f"{path}.{name}" if path else name, type(part).__name__) for name, part in module.named_children()]
    return [inside.get((*place, part)) for part in own] if len(own) == len(module) else []


def _of_module(place: Place, own: _Inside, kept: dict[int, Kept]) -> Saving:
    before = sum(kept[key].nbytes for key in own.alone)
    after = sum(size for key, size in own.read.items() if key in own.alone or key not in kept)
    inside = sum(kept[key].nbytes for key in own.alone - own.read.keys())
    return Saving(place.path, place.kind, 1, "cr.checkpoint", before, after, after + inside)


def _of_chain(place: Place, parts: Sequence[_Inside | None], kept: dict[int, Kept]) -> Saving | None:
    if len(parts) < _SHORTEST:
        return None
    chain: list[Part] = []
    following: dict[int, int] = {}
    for part in reversed(parts):
        size = sum(following.values())
        if part is None:
            chain.append(Part(0.0, 0, size, size, False, False, True))
            continue
        inside = sum(kept[key].nbytes for key in part.held - part.read.keys() - following.keys())
        is_view = bool(following) and following.keys() <= part.read.keys()
        keeps = bool(part.held & part.read.keys()), bool(part.held & following.keys())
        chain.append(Part(1.0, inside, sum(part.read.values()), size, *keeps, is_view))
        following = part.read
    chain.reverse()
    before, _ = kept_with(chain, [Piece(0, len(chain), False)])
    after, most = kept_with(chain, evenly(len(chain)))
    return Saving(place.path, place.kind, 1, 'checkpoint="sqrt"', before, after, most, smallest(chain))


def _together(same: Sequence[Saving]) -> Saving:
    """The savings of modules at places alike as one; only one of them is run again at a time."""
    first = same[0]
    after = sum(row.after for row in same)
    return Saving(
        common_path([row.module for row in same]),
        first.kind,
        len(same),
        first.how,
        sum(row.before for row in same),
        after,
        after + max(row.most - row.after for row in same),
        first.least if len(same) == 1 else None,
    )
