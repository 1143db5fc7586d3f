"""The random numbers of networks: one generator that initialisers and dropout draw from.

`manual_seed` makes a run repeatable; `get_rng_state` and `set_rng_state` let it stop and go on where it was.

    nn.random.manual_seed(0)
    state = nn.random.get_rng_state()      # plain numbers: put it into a checkpoint or a JSON file
    nn.random.set_rng_state(state)
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from typing import Any

from numpy.random import PCG64, Generator

from chainrule.core.state import side_states

_generator = Generator(PCG64())


def generator() -> Generator:
    """The generator that every draw of this package comes from."""
    return _generator


def manual_seed(seed: int) -> None:
    """Start the generator anew; the same seed gives the same parameters and dropout masks.

    Raises:
        ValueError: `seed` is negative.
    """
    seed = index(seed)
    if seed < 0:
        raise ValueError(f"manual_seed: the seed must not be negative, got {seed}")
    _generator.bit_generator.state = PCG64(seed).state


def get_rng_state() -> dict[str, Any]:
    """The state of the generator as strings and integers, which JSON keeps exactly."""
    return dict(_generator.bit_generator.state)


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Put the generator into a state that `get_rng_state` gave.

    Raises:
        ValueError: `state` is not such a state.
    """
    try:
        _generator.bit_generator.state = dict(state)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(f"set_rng_state: not a state that get_rng_state gave: {error!r}") from None


side_states.append((get_rng_state, set_rng_state))
