"""Networks that are wrong by themselves, as those in `clinic.faults.networks`."""

from __future__ import annotations

from typing import Any

import numpy as np

from clinic.frameworks import Framework
from clinic.networks import plain_residual
from clinic.problems import Problem
from clinic.wider import networks
from clinic.wider.problems import GOODS


def skipped_block(f: Framework, problem: Problem) -> Any:
    """A loop over the blocks that ends before the last one."""
    nn: Any = f.nn
    model = plain_residual(f, problem, depth=6, width=40, scale=6**-0.5)

    class SkippedBlock(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = model.embed
            self.blocks = model.blocks
            self.head = model.head

        def forward(self, x: Any) -> Any:
            x = self.embed(x)
            for place in range(len(self.blocks) - 1):
                x = self.blocks[place](x)
            return self.head(x)

    return SkippedBlock()


def with_unread(network: Any, name: str, module: Any) -> Any:
    """A network that has one more module, of the framework, which its `forward` does not know of."""

    def make(f: Framework, problem: Problem) -> Any:
        model = network(f, problem)
        model.add_module(name, module(f))
        return model

    return make


def unit_steps(network: Any) -> Any:
    """Each step of a sequence divided by its length first, also those that are nothing but zeros."""

    def make(f: Framework, problem: Problem) -> Any:
        nn: Any = f.nn

        class UnitLength(nn.Module):
            def forward(self, x: Any) -> Any:
                x = f.tensor(x)
                return x / (x**2).sum(2).sqrt().reshape(len(x), -1, 1)

        class OfUnitSteps(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.scale = UnitLength()
                self.net = network(f, problem)

            def forward(self, x: Any) -> Any:
                return self.net(self.scale(x))

        return OfUnitSteps()

    return make


def mean_of_rare_goods(f: Framework, problem: Problem) -> Any:
    """The mean over all goods but the thirty commonest, and some baskets have no other."""
    nn: Any = f.nn

    class MeanOfRareGoods(nn.Module):
        def forward(self, vectors: Any, goods: Any) -> Any:
            counts = f.tensor((f.numpy(goods) >= 30).astype(np.float32)[:, :, None])
            return (vectors * counts).sum(1) / counts.sum(1)

    class RareGoods(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vectors = nn.Embedding(GOODS, 16)
            self.mean = MeanOfRareGoods()
            self.out = nn.Sequential(nn.Linear(16, 32), nn.ReLU(**f.inplace), nn.Linear(32, problem.outputs))

        def forward(self, x: Any) -> Any:
            return self.out(self.mean(self.vectors(x), x))

    return RareGoods()


def binary_code(f: Framework, problem: Problem) -> Any:
    """An autoencoder whose code is rounded to zeros and ones, a step that has no derivative."""
    nn: Any = f.nn
    model = networks.autoencoder(f, problem, 32, 8)

    class BinaryCode(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = model.encoder
            self.decoder = model.decoder

        def forward(self, x: Any) -> Any:
            code = self.encoder(x)
            return self.decoder(f.tensor((f.numpy(code) > 0).astype(np.float32)))

    return BinaryCode()
