"""Products for PyTorch's networks: reverse mode, and reverse mode twice."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from chainrule.doctor.lanczos import Product
from chainrule.doctor.products.maps import JacobianProducts, check_once, first_floating, join, split
from chainrule.doctor.subjects import DoctorError, Subject
from chainrule.doctor.subjects.subject import all_removed


def hessian_product(subject: Subject) -> tuple[Product, int]:
    """The Hessian of the loss by all trained parameters, times a vector; and the vector's length."""
    trained = [p for _, p in subject.parameters() if p.requires_grad]
    shapes = [tuple(p.shape) for p in trained]
    with _differentiable_twice():
        gradients = torch.autograd.grad(subject.run()[1], trained, create_graph=True, allow_unused=True)
    reached = [g if g is not None else torch.zeros_like(p) for g, p in zip(gradients, trained, strict=True)]
    curved = [g for g in reached if g.requires_grad]

    def product(vector: np.ndarray) -> np.ndarray:
        parts = [subject.constant(part, p) for part, p in zip(split(vector, shapes), trained, strict=True)]
        directions = [part for part, g in zip(parts, reached, strict=True) if g.requires_grad]
        if not curved:  # a loss that is linear in the parameters
            return np.zeros_like(vector)
        result = torch.autograd.grad(curved, trained, directions, retain_graph=True, allow_unused=True)
        return join([torch.zeros_like(p) if r is None else r for r, p in zip(result, trained, strict=True)])

    return product, sum(p.numel() for p in trained)


def jacobian_products(subject: Subject, start: str, end: str) -> JacobianProducts:
    """The Jacobian between the outputs of two modules, by its products; J·v is the derivative of Jᵀ·w by w."""
    modules = dict(subject.modules())
    seen: list[str] = []
    found: dict[str, Any] = {}

    def begin(module: Any, arguments: tuple, output: Any) -> Any:
        value = first_floating(output)
        if value is None:
            return output
        seen.append(start)
        found[start] = subject.leaf(value)
        given = found[start].clone()  # what comes next may change it in place, which no leaf puts up with
        return type(output)([given, *output[1:]]) if isinstance(output, (tuple, list)) else given

    def stop(module: Any, arguments: tuple, output: Any) -> None:
        seen.append(end)
        value = first_floating(output)
        found[end] = None if value is None else value.clone()  # before an activation after it changes it in place

    hooks: list[Any] = []
    with _differentiable_twice(), all_removed(hooks):
        hooks += [modules[start].register_forward_hook(begin), modules[end].register_forward_hook(stop)]
        subject.output()
    check_once(subject, seen, start, end)
    here, there = found[start], found[end]
    seed = torch.zeros_like(there, requires_grad=True)
    if not there.requires_grad:
        raise DoctorError(f"{end!r} does not depend on the output of {start!r}")
    (pulled,) = torch.autograd.grad(there, here, seed, create_graph=True, allow_unused=True)
    if pulled is None:
        raise DoctorError(f"{end!r} does not depend on the output of {start!r}")

    def push(vector: np.ndarray) -> np.ndarray:
        tangent = subject.constant(vector.reshape(here.shape), here)
        return join(torch.autograd.grad(pulled, seed, tangent, retain_graph=True))

    def pull(vector: np.ndarray) -> np.ndarray:
        cotangent = subject.constant(vector.reshape(there.shape), there)
        return join(torch.autograd.grad(there, here, cotangent, retain_graph=True))

    return JacobianProducts(push, pull, here.numel(), there.numel())


@contextmanager
def _differentiable_twice() -> Iterator[None]:
    """Inside, operations are made of parts that have second derivatives: oneDNN's and fused attention have none."""
    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.simplefilter("ignore", UserWarning)  # setting the flag speaks of GPUs
        stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(torch.enable_grad())
        yield
