"""What PyTorch's two contenders do where a derivative of a function is wanted, by the graph and by `torch.func`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from benchmarks.cases import Derivative, Loop
from benchmarks.contenders import Settings, repeated
from benchmarks.problems import weight_residual

Compiler = Callable[[Callable], Callable]

_TORCH = SimpleNamespace(
    exp=torch.exp, sqrt=torch.sqrt, sin=torch.sin, cos=torch.cos, stack=torch.stack, logsumexp=torch.logsumexp,
    smallest=lambda x, axis: torch.min(x, axis).values,
)  # fmt: skip


def derivative(case: Derivative, compiler: Compiler) -> Settings:
    """By the graph, where `compiler` transforms the function; by `torch.func`, where it transforms the derivative."""
    indices = {name: torch.from_numpy(array) for name, array in case.indices().items()}
    function = partial(case.function, _TORCH, **indices)
    count = len(case.arguments())
    by_graph, by_transform = _WANTED[case.wanted]
    return {
        "by the graph": lambda: _called(case, by_graph(function, count, compiler), requires_grad=True),
        "torch.func": lambda: _called(case, compiler(by_transform(function, count)), requires_grad=False),
    }


def _called(case: Derivative, call: Callable, requires_grad: bool) -> Any:
    arguments = [torch.from_numpy(array).requires_grad_(requires_grad) for array in case.arguments()]
    return repeated(partial(call, *arguments, *map(torch.from_numpy, case.constants())), _arrays)


def _arrays(tensors: Sequence[torch.Tensor]) -> list[np.ndarray]:
    return [tensor.detach().numpy() for tensor in tensors]


def _gradient_by_graph(function: Callable, count: int, compiler: Compiler) -> Callable:
    function = compiler(function)

    def call(*tensors: torch.Tensor) -> tuple:
        value = function(*tensors)
        return value, *torch.autograd.grad(value, tensors[:count])

    return call


def _gradient_by_transform(function: Callable, count: int) -> Callable:
    both = torch.func.grad_and_value(function, argnums=tuple(range(count)))

    def call(*tensors: torch.Tensor) -> tuple:
        gradients, value = both(*tensors)
        return value, *gradients

    return call


def _newton_by_graph(function: Callable, _: int, compiler: Compiler) -> Callable:
    def call(centres: torch.Tensor, points: torch.Tensor) -> tuple:
        (gradient,) = torch.autograd.grad(function(centres, points), centres, create_graph=True)
        (diagonal,) = torch.autograd.grad(gradient.sum(), centres)
        return gradient / diagonal, diagonal

    return compiler(call)


def _newton_by_transform(function: Callable, _: int) -> Callable:
    def call(centres: torch.Tensor, points: torch.Tensor) -> tuple:
        gradient = torch.func.grad(lambda centres: function(centres, points))
        value, diagonal = torch.func.jvp(gradient, (centres,), (torch.ones_like(centres),))
        return value / diagonal, diagonal

    return call


def _blocks_by_graph(function: Callable, _: int, compiler: Compiler) -> Callable:
    function, residual = compiler(function), compiler(weight_residual)

    def call(*tensors: torch.Tensor) -> tuple:
        arguments = tensors[:3]
        errors = function(*tensors)
        first = torch.autograd.grad(errors[:, 0].sum(), arguments, retain_graph=True)
        second = torch.autograd.grad(errors[:, 1].sum(), arguments)
        return *first, *second, *torch.autograd.grad(residual(tensors[2]).sum(), tensors[2])

    return call


def _blocks_by_transform(function: Callable, _: int) -> Callable:
    def call(cameras: torch.Tensor, points: torch.Tensor, weights: torch.Tensor, seen: torch.Tensor) -> tuple:
        errors, pull = torch.func.vjp(lambda *arguments: function(*arguments, seen), cameras, points, weights)
        first, second = (pull(unit.expand_as(errors)) for unit in torch.eye(2, dtype=errors.dtype))
        return *first, *second, torch.func.grad(lambda weights: weight_residual(weights).sum())(weights)

    return call


_WANTED = {
    "gradient": (_gradient_by_graph, _gradient_by_transform),
    "newton": (_newton_by_graph, _newton_by_transform),
    "blocks": (_blocks_by_graph, _blocks_by_transform),
}


def loop(case: Loop, compiler: Compiler) -> Settings:
    """By one tensor, whose entries the function is given."""
    function = compiler(lambda tensor: case.function(tensor.unbind()))

    def call(tensor: torch.Tensor) -> tuple:
        value = function(tensor)
        return value, *torch.autograd.grad(value, tensor)

    return {"": lambda: repeated(partial(call, torch.from_numpy(case.arguments()).requires_grad_()), _arrays)}
