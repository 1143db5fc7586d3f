"""Products for chainrule's networks: forward mode, reverse mode, and forward over reverse mode."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np

from chainrule import nn
from chainrule.core.tensor import _raw
from chainrule.doctor.lanczos import Product
from chainrule.doctor.products.maps import JacobianProducts, check_once, first_floating, join, split
from chainrule.doctor.subjects import DoctorError, Subject
from chainrule.doctor.subjects.subject import all_removed
from chainrule.transforms.forward import jvp
from chainrule.transforms.jacobians import hvp
from chainrule.transforms.reverse import vjp


def hessian_product(subject: Subject) -> tuple[Product, int]:
    """The Hessian of the loss by all trained parameters, times a vector; and the vector's length."""
    trained = [(path, p) for path, p in subject.parameters() if p.requires_grad]
    shapes = [p.shape for _, p in trained]
    values = tuple(_raw(p) for _, p in trained)

    def loss(*parameters: Any) -> Any:
        given = dict(zip((path for path, _ in trained), parameters, strict=True))
        return subject.with_(model=_Stateless(subject.model, given)).run()[1]

    def product(vector: np.ndarray) -> np.ndarray:
        with subject.undisturbed():  # each product sees the same random numbers and statistics
            result = hvp(loss, values, tuple(split(vector, shapes)))
        return join([_raw(part) for part in (result if len(values) > 1 else [result])])

    return product, sum(value.size for value in values)


class _Stateless:
    """A network with other parameters than its own, to be called as the network is."""

    def __init__(self, model: nn.Module, parameters: dict[str, Any]) -> None:
        self._model = model
        self._parameters = parameters

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return nn.functional_call(self._model, self._parameters, *args, **kwargs)


def jacobian_products(subject: Subject, start: str, end: str) -> JacobianProducts:
    """The Jacobian between the outputs of two modules, by its products."""
    modules = dict(subject.modules())
    seen: list[str] = []
    found: dict[str, Any] = {}

    def note(path: str, module: Any, arguments: tuple, output: Any) -> None:
        value = first_floating(output)
        if value is not None:
            seen.append(path)
            found[path] = _raw(value)

    with subject.undisturbed(), subject.quietly(), _hooked(modules, {start: note, end: note}):
        subject.output()
    check_once(subject, seen, start, end)
    here, there = found[start], found[end]

    def between(value: Any) -> Any:
        reached: list[Any] = []

        def begin(path: str, module: Any, arguments: tuple, output: Any) -> Any:
            return _replaced(output, value)

        def stop(path: str, module: Any, arguments: tuple, output: Any) -> None:
            reached.append(first_floating(output))
            raise _Reached

        with subject.undisturbed(), _hooked(modules, {start: begin, end: stop}), suppress(_Reached):
            subject.output()
        return reached[0]

    def push(vector: np.ndarray) -> np.ndarray:
        return join([_raw(jvp(between, (here,), (vector.reshape(here.shape),))[1])])

    _, pull_back = vjp(between, here)

    def pull(vector: np.ndarray) -> np.ndarray:
        cotangent = vector.reshape(there.shape).astype(there.dtype)
        return join([_raw(pull_back(cotangent)[0])])

    if not np.any(pull(np.ones(there.size))) and not np.any(push(np.ones(here.size))):
        raise DoctorError(f"{end!r} does not depend on the output of {start!r}")
    return JacobianProducts(push, pull, here.size, there.size)


class _Reached(BaseException):
    """The forward pass has come as far as it is needed; not an error, so that no network mistakes it for one."""


def _replaced(output: Any, value: Any) -> Any:
    if isinstance(output, (tuple, list)):
        return type(output)([value, *output[1:]])
    return value


@contextmanager
def _hooked(modules: dict[str, Any], hooks: dict[str, Callable]) -> Any:
    placed: list[Any] = []
    with all_removed(placed):
        for path, hook in hooks.items():
            placed.append(modules[path].register_forward_hook(partial(hook, path)))
        yield
