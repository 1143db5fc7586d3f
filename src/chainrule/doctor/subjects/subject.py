"""`Subject`: a network under examination, with what it is trained with, whatever framework it is written in.

Everything the doctor does to a network goes through this class: running it, watching it, copying it and training the
copy. The frameworks are in the files beside this one; all they know of measuring is to tell an `Observer`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import numpy as np
import optree

from chainrule.doctor.observation import Observer
from chainrule.doctor.statistics import on_host


class DoctorError(Exception):
    """The doctor cannot examine what it was given; the message says why and what to do."""


@dataclass(frozen=True)
class Step:
    """A step of training: the loss before it, the norm of the gradient before clipping, whether it was clipped."""

    loss: float
    gradient_norm: float
    clipped: bool


@dataclass(frozen=True)
class Subject(ABC):
    """A network, and how it is trained.

    Attributes:
        model: the network.
        loss_fn: `loss_fn(output, targets)`; `loss_fn(output)` where the batch has no targets.
        batch: (inputs, targets) of one step. Inputs may be one array, a tuple of them (positional arguments) or a
            dict (named ones).
        optimizer: an optimiser of the framework, or None.
        data: (inputs, targets) to draw batches from in trials, or None.
        clip_norm: the norm that gradients are clipped to in each step, or None.
    """

    model: Any
    loss_fn: Callable
    batch: Any
    optimizer: Any = None
    data: Any = None
    clip_norm: float | None = None

    framework = ""

    is_rehearsed = False
    """Whether in a loop the network is not looked at in the loop's own pass, but in one that is made beside it."""

    # Looking ----------------------------------------------------------------------------------------------------

    def modules(self) -> Iterator[tuple[str, Any]]:
        """The network and all modules in it, by path, each once."""
        return self.model.named_modules()

    def parameters(self) -> list[tuple[str, Any]]:
        """All parameters by path, each once."""
        return list(self.model.named_parameters())

    @abstractmethod
    def array(self, tensor: Any) -> Any:
        """The plain array in a tensor of the framework, nothing recorded."""

    def seen(self, tensor: Any) -> Any:
        """The same in NumPy's hands, where it lies in this computer's memory: to be looked at only."""
        return on_host(self.array(tensor))

    @abstractmethod
    def is_recorded(self, tensor: Any) -> bool:
        """Whether a gradient can be taken of it."""

    @abstractmethod
    def requires_grad(self, parameter: Any) -> bool:
        """Whether a parameter is trained."""

    @abstractmethod
    def observing(self, observer: Observer, root: bool = True) -> AbstractContextManager[None]:
        """Inside, `observer` is told of every module and operation of the network. Leaves no hook behind.

        Args:
            observer: who is told.
            root: False if the call of the network itself is running already.
        """

    @abstractmethod
    def key(self, tensor: Any) -> Any:
        """The identity by which an observer knows the value of a tensor."""

    # Running ----------------------------------------------------------------------------------------------------

    def run(self, batch: Any = None) -> tuple[Any, Any]:
        """The output and the loss on a batch, by default its own, recorded; in the mode the network is in."""
        output = self.output(batch)
        return output, self.loss(output, batch)

    def output(self, batch: Any = None) -> Any:
        """The network's output on the inputs of a batch."""
        inputs, _ = parts(self.batch if batch is None else batch)
        if isinstance(inputs, Mapping):
            return self.model(**inputs)
        return self.model(*inputs) if isinstance(inputs, (tuple, list)) else self.model(inputs)

    def loss(self, output: Any, batch: Any = None) -> Any:
        """The loss of an output."""
        _, targets = parts(self.batch if batch is None else batch)
        return self.loss_fn(output) if targets is None else self.loss_fn(output, targets)

    @abstractmethod
    def gradients(self, loss: Any, values: Sequence[Any]) -> list[Any]:
        """Arrays: gradients with respect to tensors, None where the loss does not depend on one; `.grad` untouched."""

    @abstractmethod
    def undisturbed(self) -> AbstractContextManager[None]:
        """Afterwards random generators, buffers and the mode are as they were before."""

    @abstractmethod
    def quietly(self) -> AbstractContextManager[None]:
        """Inside, nothing is recorded."""

    # A loop of somebody else's ----------------------------------------------------------------------------------

    @abstractmethod
    def calls_watched(self, called: Callable[[], None]) -> AbstractContextManager[None]:
        """Inside, `called()` runs before every call of the network in training mode with gradients on."""

    @abstractmethod
    def backward_watched(self, before: Callable[[Any], Callable[[], None] | None]) -> AbstractContextManager[None]:
        """Inside, `before(tensor)` runs before every `backward`, and what it returns, if not None, after it."""

    def rehearsed(self) -> AbstractContextManager[None]:
        """Afterwards, nothing that a step of training changes has changed."""
        return nullcontext()

    @abstractmethod
    def gradient_of(self, parameter: Any) -> Any:
        """The array in `.grad`; None where there is none."""

    @contextmanager
    def steps_watched(self, before: Callable[..., None], after: Callable[..., None]) -> Iterator[None]:
        """Inside, `before` and `after` run around every step of the optimiser, with what its hooks are given."""
        with all_removed([self.optimizer.register_step_pre_hook(before)]) as hooks:
            hooks.append(self.optimizer.register_step_post_hook(after))
            yield

    def number(self, loss: Any) -> float:
        """The value of a loss, a tensor or the array in it."""
        return float(self.array(loss).item())

    def number_at_hand(self, loss: Any) -> Any:
        """The value of a loss that lies in this computer's memory; or else its array, as a GPU would be waited for.

        Even a single number that is kept as an array is in the way of large pieces of memory that come and go.
        """
        array = self.seen(loss)
        return float(array) if isinstance(array, (np.ndarray, np.generic)) else array

    # Making values ----------------------------------------------------------------------------------------------

    @abstractmethod
    def seed(self, number: int) -> None:
        """Start the framework's random generators anew; to be called inside `undisturbed`."""

    @abstractmethod
    def constant(self, array: Any, like: Any) -> Any:
        """`array` of the kind, dtype and device of the tensor `like`, nothing recorded."""

    @abstractmethod
    def leaf(self, tensor: Any) -> Any:
        """A new tensor of the same values that a gradient can be taken of."""

    # Training a copy --------------------------------------------------------------------------------------------

    def copy(self) -> Subject:
        """The same network in the same state, with an optimiser of its own.

        Raises:
            DoctorError: it cannot be copied.
        """
        try:
            model, optimizer = deepcopy((self.model, self.optimizer))
        except Exception as error:
            raise DoctorError(f"{type(self.model).__name__} cannot be copied: {error}") from None
        return replace(self, model=model, optimizer=optimizer)

    def with_(self, **changes: Any) -> Subject:
        """The same with some attributes replaced."""
        return replace(self, **changes)

    @abstractmethod
    def step(self, batch: Any = None) -> Step:
        """One step of training on a batch, by default its own; changes the network."""

    @abstractmethod
    def make_optimizer(self, kind: str, **options: Any) -> Any:
        """A new optimiser ("SGD", "Adam", ...) of the framework over the network's parameters."""

    @property
    def optimizer_options(self) -> dict[str, Any]:
        """The optimiser's name and the options of its first group; empty without one.

        Where a schedule has the first step start below its full rate, `warm_up` is by how many times: so many steps it
        takes until a rate that is raised evenly is there.
        """
        if self.optimizer is None:
            return {}
        group = self.optimizer.param_groups[0]
        kept: dict[str, Any] = {
            name: value for name, value in group.items() if isinstance(value, (int, float, str, tuple))
        }
        if not self.optimizer.state and kept.get("lr", 0.0) < kept.get("initial_lr", 0.0):
            kept["warm_up"] = kept["initial_lr"] / kept["lr"] if kept["lr"] else math.inf
        clipping = {} if self.clip_norm is None else {"clip_norm": float(self.clip_norm)}
        return {"name": type(self.optimizer).__name__, **kept, **clipping}


@contextmanager
def around(owner: type, name: str, before: Callable[[Any], Callable[[], None] | None]) -> Iterator[None]:
    """Inside, `before(self)` runs before every call of a method of a class, and what it returns, if not None, after it.

    Those who do this to the same method share one wrapper, so that any of them may be the first to leave.
    """
    if (owner, name) not in _around:
        _wrap(owner, name)
    method, watchers = _around[owner, name]
    watchers.append(before)
    try:
        yield
    finally:
        watchers.remove(before)
        if not watchers:
            setattr(owner, name, method)
            del _around[owner, name]


_around: dict[tuple[type, str], tuple[Callable, list[Callable]]] = {}
"""The wrapped methods: what they were, and who watches them."""


def _wrap(owner: type, name: str) -> None:
    method = getattr(owner, name)
    watchers: list[Callable] = []

    @wraps(method)
    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        afterwards = []
        for before in watchers:
            after = before(self)
            if after is not None:
                afterwards.append(after)
        result = method(self, *args, **kwargs)
        for after in afterwards:
            after()
        return result

    _around[owner, name] = method, watchers
    setattr(owner, name, watched)


def parts(batch: Any) -> tuple[Any, Any]:
    """Inputs and targets of a batch; targets None where it has none."""
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return batch[0], batch[1]
    return batch, None


def leaves(tree: Any) -> list[Any]:
    """The arrays in inputs or outputs, whatever they are packed in."""
    if type(tree) in _PLAIN:
        return []
    if isinstance(tree, tuple) and len(tree) == 1:
        tree = tree[0]
    found = [tree] if hasattr(tree, "shape") else optree.tree_leaves(tree)
    return [leaf for leaf in found if hasattr(leaf, "shape") and hasattr(leaf, "dtype")]


_PLAIN = frozenset({bool, int, float, str, type(None)})


@contextmanager
def all_removed(hooks: list[Any]) -> Iterator[list[Any]]:
    """Remove every hook in the list afterwards, those added inside too."""
    try:
        yield hooks
    finally:
        for hook in reversed(hooks):
            hook.remove()
