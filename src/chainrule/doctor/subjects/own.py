"""Chainrule's own networks as subjects."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from chainrule import optim
from chainrule.core import state
from chainrule.core.namespace import namespace_of
from chainrule.core.node import Node
from chainrule.core.primitive import Primitive, select_output
from chainrule.core.tensor import Tensor, _raw
from chainrule.core.tensor import tensor as new_tensor
from chainrule.doctor import statistics
from chainrule.doctor.observation import Observer
from chainrule.doctor.subjects.subject import Step, Subject, around, leaves
from chainrule.doctor.vocabulary import ACTIVATIONS, WHOLE, canonical
from chainrule.nn import random
from chainrule.transforms.backward import pull_back

_OWN_NAMES = {"binary_cross_entropy": "binary_cross_entropy_with_logits", "attention_weights": "softmax"}


_of_copies: WeakValueDictionary[int, Tensor] = WeakValueDictionary()
"""Buffers of copies, by identity: what leaves the network as it was, copies are trained inside of, and they shall keep
what that makes of their running statistics.
"""


@dataclass(frozen=True)
class OwnSubject(Subject):
    """A `chainrule.nn.Module` under examination."""

    framework = "chainrule"

    def array(self, tensor: Any) -> Any:
        return _raw(tensor)

    def is_recorded(self, tensor: Any) -> bool:
        return isinstance(tensor, Tensor) and isinstance(tensor._node, Node)

    def requires_grad(self, parameter: Any) -> bool:
        return parameter.requires_grad

    def key(self, tensor: Any) -> Hashable:
        return _key(tensor)

    @contextmanager
    def observing(self, observer: Observer, root: bool = True) -> Iterator[None]:
        paths = {id(module): path for path, module in self.modules() if path or root}

        def watch(module: Any, arguments: tuple) -> Callable[[Any], None] | None:
            path = paths.get(id(module))
            if path is None:
                return None
            _enter(observer, path, module, arguments)
            return partial(_leave, observer, path, module, arguments)

        with state.calls_watched(watch), state.watching(partial(_tell, observer)):
            yield

    def gradients(self, loss: Any, values: Sequence[Any]) -> list[Any]:
        found = pull_back([(loss._node, namespace_of(_raw(loss)).ones_like(_raw(loss)))])
        return [_raw(found[value._node]) if value._node in found else None for value in values]

    def copy(self) -> Subject:
        made = super().copy()
        _of_copies.update({id(buffer): buffer for buffer in made.model.buffers()})
        return made

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        buffers = [(buffer, buffer._value) for buffer in self.model.buffers()]
        modes = [(module, module.training) for module in self.model.modules()]
        try:
            with state.put_back(but=_of_copies):
                yield
        finally:
            for buffer, value in buffers:
                buffer._value = value
            for module, training in modes:
                if module.training != training:
                    module.training = training

    def quietly(self) -> AbstractContextManager[None]:
        return state.no_grad()

    def calls_watched(self, called: Callable[[], None]) -> AbstractContextManager[None]:
        def watch(module: Any, _: tuple) -> None:
            if module is self.model and module.training and state.is_grad_enabled():
                called()

        return state.calls_watched(watch)

    def backward_watched(self, before: Callable[[Any], Callable[[], None] | None]) -> AbstractContextManager[None]:
        return around(Tensor, "backward", before)

    def number_at_hand(self, loss: Any) -> Any:
        value = loss._value
        return float(value) if isinstance(value, (np.ndarray, np.generic)) else super().number_at_hand(loss)

    @contextmanager
    def rehearsed(self) -> Iterator[None]:
        parameters = [(p, p._value, p._grad) for p in self.model.parameters()]
        kept = {} if self.optimizer is None else {p: dict(state) for p, state in self.optimizer.state.items()}
        try:
            with self.undisturbed():
                yield
        finally:
            for parameter, value, gradient in parameters:
                parameter._value, parameter._grad = value, gradient
            for parameter in [] if self.optimizer is None else list(self.optimizer.state):
                if parameter in kept:
                    self.optimizer.state[parameter].update(kept[parameter])
                else:
                    del self.optimizer.state[parameter]

    def gradient_of(self, parameter: Any) -> Any:
        return None if parameter.grad is None else _raw(parameter.grad)

    def seed(self, number: int) -> None:
        random.manual_seed(number)

    def constant(self, array: Any, like: Any) -> Any:
        raw = _raw(like)
        return namespace_of(raw).asarray(array, dtype=raw.dtype)

    def leaf(self, tensor: Any) -> Any:
        return new_tensor(_raw(tensor), requires_grad=True)

    def step(self, batch: Any = None) -> Step:
        self.optimizer.zero_grad()
        _, loss = self.run(batch)
        loss.backward()
        size = statistics.overall([_raw(p.grad) for p in self.model.parameters() if p.grad is not None])
        clipped = False
        if self.clip_norm is not None:
            clipped = size > self.clip_norm
            optim.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()
        return Step(float(loss.detach()), size, clipped)

    def make_optimizer(self, kind: str, **options: Any) -> Any:
        return getattr(optim, kind)(self.model.parameters(), **options)


def _key(x: Any) -> Hashable:
    """A value is known by its node, one that nothing was recorded for by its array."""
    node = x._node if isinstance(x, Tensor) else None
    if isinstance(node, Node):
        return node.edges[0][0] if node.primitive is select_output and node.edges else node
    return id(_raw(x)) if hasattr(x, "shape") else None


def _enter(observer: Observer, path: str, module: Any, arguments: tuple) -> None:
    if observer.looks_for_cuts:
        _find_cuts(observer, path, arguments)
    observer.enter(path, module)


def _leave(observer: Observer, path: str, module: Any, arguments: tuple, output: Any) -> None:
    if isinstance(output, Tensor) and isinstance(output._node, Node) and not observer.is_whole(module):
        observer.leave(path, module)
        return
    whole = observer.is_whole(module)
    constant = [
        _raw(leaf) for leaf in leaves(output) if not (isinstance(leaf, Tensor) and isinstance(leaf._node, Node))
    ]
    if constant:  # its operations were not recorded, so that nobody was told of them
        observer.unrecorded(type(module).__name__, [_raw(x) for x in leaves(arguments)], constant)
    observer.leave(path, module)
    if whole and not observer.inside_whole:
        name = next(WHOLE[kind.__name__] for kind in type(module).__mro__ if kind.__name__ in WHOLE)
        made = [leaf for leaf in leaves(output) if isinstance(leaf, Tensor)]
        recorded = made and isinstance(made[0]._node, Node)
        observer.operation(
            name,
            [(_key(x), _raw(x)) for x in leaves(arguments)],
            [(_key(x), _raw(x)) for x in made],
            (lambda hear: made[0].register_hook(lambda g: hear(_raw(g)))) if recorded else None,
            path=path,
            parameters=[f"{path}.{name}" if path else name for name, _ in module.named_parameters()],
        )
    if observer.looks_for_cuts:
        _find_cuts(observer, path, output, inside=path)


def _find_cuts(observer: Observer, path: str, values: Any, inside: str = "") -> None:
    """Note constants that are the arrays of recorded values: somebody detached them."""
    for value in leaves(values):
        if isinstance(value, Tensor) and value._node is None and id(_raw(value)) in observer.arrays:
            observer.cut("detach", inside or observer.path)


def _tell(observer: Observer, node: Node, inputs: Sequence[Any], values: list) -> None:
    primitive = node.primitive
    if primitive is None or primitive is select_output:
        return
    made = values[len(inputs) :]
    if observer.looks_for_cuts:
        observer.arrays.update((id(part), part) for part in made if type(part) is np.ndarray)
        for x in inputs:
            if isinstance(x, Tensor) and x._node is None and id(_raw(x)) in observer.arrays:
                observer.cut("detach", observer.path)
    name = _OWN_NAMES.get(primitive.name) or canonical(primitive.name)
    observer.operation(
        name,
        [(_key(x), _raw(x) if hasattr(x, "shape") else None) for x in inputs],
        [(node, made[0])],
        partial(_listen, node),
        partial(local_derivative, primitive, values, node.params) if name in ACTIVATIONS else None,
    )


def _listen(node: Node, hear: Callable[[Any], None]) -> None:
    def hook(g: Any) -> None:
        hear(_raw(next(part for part in g if part is not None) if isinstance(g, (list, tuple)) else g))

    node.hooks = [*(node.hooks or ()), hook]


def local_derivative(primitive: Primitive, values: Sequence[Any], params: Any, limit: int | None = None) -> Any:
    """f′ of an elementwise primitive, from the row (x, y); at about `limit` elements, if there is one."""
    rule = primitive.rule(0)
    kept = [
        statistics.floating(statistics.sampled(part, limit)) if hasattr(part, "shape") else part
        for part in rule.keep(values, params)
    ]
    return rule.local(namespace_of(*kept), *kept)  # type: ignore[misc]
