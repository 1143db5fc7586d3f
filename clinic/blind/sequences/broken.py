"""Networks for sequences that are wrong by themselves, as those in `clinic.faults.networks`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from clinic.blind.sequences import networks
from clinic.faults.networks import deep_mlp
from clinic.frameworks import Framework
from clinic.problems import Problem, split

# Put before or behind a healthy network -----------------------------------------------------------------------------


def numbers(features: int, outputs: int) -> Problem:
    """A problem of which only the sizes matter."""
    return split("", np.zeros((2, features)), np.zeros((2, 1)), outputs, 1)


def with_part(network: Any, path: str, part: Callable[[Framework, Problem, Any], Any]) -> Any:
    """A network one module of which is replaced by what `part` makes of framework, problem and that module."""

    def make(f: Framework, problem: Problem) -> Any:
        model = network(f, problem)
        setattr(model, path, part(f, problem, getattr(model, path)))
        return model

    return make


def deep_head(network: Any, *, depth: int, path: str = "head", **options: Any) -> Any:
    """A last layer that became a deep stack; its options are those of `deep_mlp`."""

    def part(f: Framework, problem: Problem, head: Any) -> Any:
        fan_in = (head[0] if hasattr(head, "__getitem__") else head).in_features
        return deep_mlp(f, numbers(fan_in, problem.outputs), depth=depth, **options)

    return with_part(network, path, part)


def deep_front(network: Any, *, depth: int, **options: Any) -> Any:
    """A first layer that became a deep stack, step by step."""

    def part(f: Framework, problem: Problem, embed: Any) -> Any:
        return deep_mlp(f, numbers(problem.features, embed.out_features), depth=depth, **options)

    return with_part(network, "embed", part)


def through_tanh(network: Any) -> Any:
    """A first layer followed by tanh."""
    return with_part(network, "embed", lambda f, problem, embed: f.nn.Sequential(embed, f.nn.Tanh()))


def squeezed_head(network: Any, *, path: str = "head", units: int = 1) -> Any:
    """A last layer behind one of so few units."""

    def part(f: Framework, problem: Problem, head: Any) -> Any:
        nn: Any = f.nn
        return nn.Sequential(nn.Linear(head.in_features, units), nn.Linear(units, head.out_features))

    return with_part(network, path, part)


def after(network: Any, change: Callable[[Any], Any]) -> Any:
    """A network that is given its inputs after a change, which has a module of its own, `scale`."""

    def make(f: Framework, problem: Problem) -> Any:
        nn: Any = f.nn

        class Change(nn.Module):
            def forward(self, x: Any) -> Any:
                return change(f.tensor(x))

        class Changed(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.scale = Change()
                self.net = network(f, problem)

            def forward(self, x: Any) -> Any:
                return self.net(self.scale(x))

        return Changed()

    return make


def own_spread(x: Any) -> Any:
    """Each series by its own mean and spread, which is 0 where nothing happened."""
    batch, _, features = x.shape
    offset = x - x.mean(1).reshape(batch, 1, features)
    return offset / (offset**2).mean(1).reshape(batch, 1, features) ** 0.5


def root(x: Any) -> Any:
    """√x, also of numbers below 0."""
    return x**0.5


# Recurrence ---------------------------------------------------------------------------------------------------------


def state_of_unit_length(f: Framework, problem: Problem) -> Any:
    """A state that is divided by its length before each step; that of the first one is 0."""
    nn: Any = f.nn

    class UnitLength(nn.Module):
        def forward(self, state: Any) -> Any:
            return state / (state**2).sum(1).reshape(-1, 1) ** 0.5

    class UnitStates(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(problem.features, 32)
            self.scale = UnitLength()
            self.head = nn.Linear(32, problem.outputs)

        def forward(self, x: Any) -> Any:
            state: Any = f.tensor(np.zeros((len(x), 32), np.float32))
            for step in range(x.shape[1]):
                state = self.cell(x[:, step], self.scale(state))
            return self.head(state)

    return UnitStates()


def one_direction_read(f: Framework, problem: Problem, *, vocabulary: int, width: int = 24) -> Any:
    """A recurrent layer of both directions, the second of which the head does not look at."""
    nn: Any = f.nn

    class OneDirection(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(vocabulary, 12)
            self.rnn = nn.GRU(12, width, batch_first=True, bidirectional=True)
            self.head = nn.Linear(width, problem.outputs)

        def forward(self, x: Any) -> Any:
            outputs, _ = self.rnn(self.embed(x))
            return self.head(outputs[:, :, :width])

    return OneDirection()


def forgotten_norms(f: Framework, problem: Problem) -> Any:
    """Recurrent layers and a normalisation for each, of which `forward` knows the first."""
    nn: Any = f.nn
    model = networks.normalized_layers(f, problem)

    class ForgottenNorms(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.norms, self.head = model.layers, model.norms, model.head

        def forward(self, x: Any) -> Any:
            first, second, third = self.layers
            x = self.norms[0](first(x)[0])
            return self.head(third(second(x)[0])[0][:, -1])

    return ForgottenNorms()


def cut_between_cells(f: Framework, problem: Problem) -> Any:
    """Two cells; the first one's states go into the second as plain arrays."""
    nn: Any = f.nn

    class CutBetween(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lower = nn.LSTMCell(problem.features, 24)
            self.upper = nn.LSTMCell(24, 24)
            self.head = nn.Linear(24, problem.outputs)

        def forward(self, x: Any) -> Any:
            low: Any = None
            high: Any = None
            for step in range(x.shape[1]):
                low = self.lower(x[:, step], low)
                high = self.upper(f.tensor(f.numpy(low[0])), high)
            return self.head(high[0])

    return CutBetween()


# Attention ----------------------------------------------------------------------------------------------------------


def spoiled_attention(network: Any, spoil: Callable[[Framework, Any, Any], Any], *, pads: bool = False) -> Any:
    """A network of `networks.attentive` whose weights of attention come from `spoil`, given the layer and its input.

    With `pads`, it is also told which of the tokens are 0.
    """

    def make(f: Framework, problem: Problem) -> Any:
        nn: Any = f.nn
        model = network(f, problem)
        tokens: list[Any] = []

        class Spoiled(nn.Module):
            def __init__(self, usual: Any) -> None:
                super().__init__()
                self.query, self.key, self.value, self.out = usual.query, usual.key, usual.value, usual.out

            def forward(self, x: Any) -> Any:
                scores = spoil(f, self, x)
                if pads:
                    there = f.numpy(tokens[-1]) != 0
                    both = there[:, :, None] & there[:, None, :]
                    scores = scores + f.tensor(np.where(both, 0.0, -np.inf).astype(np.float32))
                return self.out(f.functional.softmax(scores, dim=-1) @ self.value(x))

        def note(module: Any, args: Any) -> None:
            tokens[:] = [args[0]]

        model.register_forward_pre_hook(note)
        for block in model.blocks:
            block.attention = Spoiled(block.attention)
        return model

    return make


def usual_scores(f: Framework, layer: Any, x: Any) -> Any:
    """The product of questions and keys."""
    return layer.query(x) @ layer.key(x).swapaxes(1, 2) / x.shape[-1] ** 0.5


def scores_without_gradient(f: Framework, layer: Any, x: Any) -> Any:
    """The same inside of `no_grad`, as one does who only wants to look at the weights."""
    with f.no_grad():
        return usual_scores(f, layer, x)
