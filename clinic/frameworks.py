"""What the networks of the clinic need of a framework, so that each is written once for chainrule and PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

NAMES = ("chainrule", "torch")


@dataclass(frozen=True)
class Framework:
    """A framework, reduced to what differs.

    Attributes:
        name: one of `NAMES`.
        nn: the package of modules, which has `init` too.
        functional: the same as functions.
        optim: optimisers.
        clip_grad_norm_: gradient clipping.
        array: a NumPy array as the kind of array that users of the framework keep their data in.
        no_grad: switches recording off.
        cat: joins along an axis.
        random: seeds the framework's random numbers inside a `with`, and puts them back after it.
    """

    name: str
    nn: Any
    functional: Any
    optim: Any
    clip_grad_norm_: Callable[..., Any]
    array: Callable[[Any], Any]
    no_grad: Callable[[], AbstractContextManager[Any]]
    cat: Callable[..., Any]
    random: Callable[[int], AbstractContextManager[None]]

    def tensor(self, values: Any) -> Any:
        """A constant of the framework that takes part in its arithmetic."""
        import chainrule as cr

        if hasattr(values, "detach"):
            return values
        return self.array(values) if self.name == "torch" else cr.tensor(values)

    def parameter(self, values: Any) -> Any:
        """A trainable array."""
        return self.nn.Parameter(self.tensor(np.asarray(values, np.float32)))

    def set_values(self, parameter: Any, change: Callable[[Any], Any]) -> None:
        """Replace a parameter's values by `change` of them, as NumPy arrays."""
        parameter.data = self.array(np.asarray(change(self.numpy(parameter)), np.float32))

    @staticmethod
    def numpy(values: Any) -> Any:
        """The values as a NumPy array of their own."""
        return np.array(values.detach().numpy() if hasattr(values, "detach") else values)

    @property
    def inplace(self) -> dict[str, bool]:
        """Arguments of an activation that overwrites its input, as people write it where it can be had."""
        return {"inplace": True} if self.name == "torch" else {}


def missing(name: str) -> bool:
    """Whether the framework is not installed."""
    return find_spec(name) is None


@cache
def framework(name: str) -> Framework:
    """The framework of this name; it is imported here, so that PyTorch need not be installed for the other half."""
    return {"chainrule": _chainrule, "torch": _torch}[name]()


def _chainrule() -> Framework:
    import chainrule as cr
    from chainrule import nn, optim

    @contextmanager
    def random(seed: int) -> Iterator[None]:
        state = nn.random.get_rng_state()
        nn.random.manual_seed(seed)
        try:
            yield
        finally:
            nn.random.set_rng_state(state)

    return Framework(
        name="chainrule",
        nn=nn,
        functional=nn.functional,
        optim=optim,
        clip_grad_norm_=optim.clip_grad_norm_,
        array=np.asarray,
        no_grad=cr.no_grad,
        cat=lambda tensors, dim: cr.numpy.concat(tensors, axis=dim),
        random=random,
    )


def _torch() -> Framework:
    import torch

    @contextmanager
    def random(seed: int) -> Iterator[None]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield

    return Framework(
        name="torch",
        nn=torch.nn,
        functional=torch.nn.functional,
        optim=torch.optim,
        clip_grad_norm_=torch.nn.utils.clip_grad_norm_,
        array=lambda values: torch.from_numpy(np.array(values)),
        no_grad=torch.no_grad,
        cat=torch.cat,
        random=random,
    )
