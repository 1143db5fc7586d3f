"""PyTorch, eager: the training loop of its tutorial, with each implementation of its SGD."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.cases import Deep, Derivative, Loop, Scalar
from benchmarks.contenders import ForwardPass, Settings, Workload, modules, torch_derivatives
from benchmarks.contenders.torch_block import Block
from benchmarks.networks import CNN, GPT, Network


def reset() -> None:
    """What the settings of one case changed for the whole process is changed back."""
    torch.set_flush_denormal(False)


def _training_step(case: Network) -> Settings:
    """A training step with each implementation of the update."""
    return with_and_without_subnormals(
        case,
        {
            "for-loop SGD": partial(training, case),
            "foreach SGD": partial(training, case, foreach=True),
            "fused SGD": partial(training, case, fused=True),
        },
    )


mlp = lstm = _training_step


def cnn(case: CNN) -> Settings:
    """The same, and with channels on the last axis."""
    return {**_training_step(case), "channels last, fused SGD": partial(training, case, channels_last=True, fused=True)}


def gpt(case: GPT) -> Settings:
    """The same, and with blocks that do nothing but what this network needs."""
    return {**_training_step(case), "blocks by hand, fused SGD": partial(training, case, block=Block, fused=True)}


def with_and_without_subnormals(case: Network, settings: Settings) -> Settings:
    """Where gradients vanish, every setting a second time with subnormal numbers counted as zero."""
    if not case.vanishing:
        return settings

    def flushing(setting: Callable[[], Workload], flush: bool) -> Workload:
        torch.set_flush_denormal(flush)
        return replace(setting(), enter=partial(torch.set_flush_denormal, flush))

    return {
        f"{name}{', flush_denormal' * flush}": partial(flushing, setting, flush)
        for name, setting in settings.items()
        for flush in (False, True)
    }


def training(
    case: Network,
    compiler: Callable[[Any], Any] | None = None,
    *,
    channels_last: bool = False,
    block: type = nn.TransformerEncoderLayer,
    **sgd_options: bool,
) -> Workload:
    """A step in its three phases; `compiler` transforms the function that computes the loss."""
    model = _network(case, block)
    inputs, targets = map(torch.from_numpy, case.data())
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        inputs = inputs.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=case.learning_rate, **sgd_options)
    loss = torch.zeros(())

    def loss_of(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(model(inputs), targets)

    if compiler is not None:
        loss_of = compiler(loss_of)

    def forward() -> None:
        nonlocal loss
        loss = loss_of(inputs, targets)

    def backward() -> None:
        optimizer.zero_grad()
        loss.backward()

    return Workload({"forward": forward, "backward": backward, "update": optimizer.step}, lambda: loss.item())


def _network(case: Network, block: type) -> nn.Module:
    how: dict[str, Any] = {}
    if isinstance(case, GPT):
        mask = nn.Transformer.generate_square_subsequent_mask(case.tokens)
        how = {"block": block, "mask": mask, "enable_nested_tensor": False}
    model = modules.network(nn, case, **how)
    model.load_state_dict({path: torch.from_numpy(value) for path, value in case.state_dict().items()})
    return model


def scalar(case: Scalar) -> Settings:
    """By the graph, and by the functional transform; from float to float."""
    return {"autograd.grad": lambda: _gradient(case, _by_graph), "func.grad": lambda: _gradient(case, _by_transform)}


def _by_graph(at: float) -> float:
    x = torch.tensor(at, requires_grad=True)
    return torch.autograd.grad(torch.tanh(x) ** 2 + x, x)[0].item()


_transformed = torch.func.grad(lambda x: torch.tanh(x) ** 2 + x)


def _by_transform(at: float) -> float:
    return _transformed(torch.tensor(at)).item()


def _gradient(case: Scalar, gradient: Callable[[float], float]) -> Workload:
    result = 0.0

    def call() -> None:
        nonlocal result
        result = gradient(case.at)

    return Workload({"call": call}, lambda: result)


def derivative(case: Derivative) -> Settings:
    """The functions as they are."""
    return torch_derivatives.derivative(case, _as_it_is)


def loop(case: Loop) -> Settings:
    """The function as it is."""
    return torch_derivatives.loop(case, _as_it_is)


def _as_it_is(function: Callable) -> Callable:
    return function


def memory(case: Deep) -> ForwardPass:
    """What is kept is what the graph packs away as saved tensors."""
    model = nn.Sequential()
    for _ in range(case.blocks):
        model.append(nn.Linear(case.width, case.width))
        if case.block == "tanh":
            model.append(nn.Tanh())
        else:
            model.extend([nn.BatchNorm1d(case.width), nn.ReLU()])
    inputs = torch.from_numpy(case.inputs())

    def run() -> tuple[object, dict[int, int]]:
        own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
        kept = {}

        def pack(saved: torch.Tensor) -> torch.Tensor:
            storage = saved.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return saved

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
            return model(inputs), kept

    return run
