"""Greedy layer-wise pretraining: a deep sigmoid network that stays at chance, and the same one that learns.

    python examples/greedy_pretraining.py

A sigmoid passes on at most a quarter of a gradient, so ten layers pass on next to nothing: trained from an ordinary
start, the network stays at chance. Greedy pretraining builds it from below instead. Each layer learns, as an
autoencoder, to rebuild what the layer below gives it, and then hands its own output up; only one layer is trained at a
time, so no gradient has far to go. What is learned so is where the whole network starts from.

The recipe, for each hidden layer h = σ(W·x + b), first to last:

1. take x, the output of the layers below, which do not change any more;
2. set a tenth of its elements to zero (a denoising autoencoder);
3. rebuild x from it as σ(Wᵀ·h + a), with the same W, and reduce the cross-entropy to the x that was not spoilt;
4. forget a, keep W and b.

Then train all layers together, as ever.

Sources: Bengio, Lamblin, Popovici and Larochelle 2007, "Greedy Layer-Wise Training of Deep Networks"; Vincent et al.
2008, "Extracting and Composing Robust Features with Denoising Autoencoders", for step 2; Glorot and Bengio 2010,
"Understanding the difficulty of training deep feedforward neural networks", for the starts it is compared with.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import chainrule as cr
from chainrule import nn, optim
from chainrule.data import Dataset, batches, load_digits, split

F = nn.functional
BATCH = 32
SPOILT = 0.1


@dataclass(frozen=True)
class Sizes:
    """How much is done.

    Attributes:
        depth: hidden layers.
        width: units of each.
        pretraining: epochs for each hidden layer.
        training: epochs for all layers together, after pretraining; other starts get those of both.
        lr: learning rate of sigmoid networks' training (SGD, momentum 0.9).
    """

    depth: int = 10
    width: int = 64
    pretraining: int = 10
    training: int = 30
    lr: float = 0.1


@dataclass(frozen=True)
class Result:
    """What came of one start with one seed: accuracies, gradients before training, and the loss of each epoch."""

    train_accuracy: float
    test_accuracy: float
    gradients: list[float]
    losses: list[float]
    seconds: float


# The networks --------------------------------------------------------------------------------------------------------


def network(sizes: Sizes, activation: type[nn.Module], weight: Callable[[nn.Parameter], object]) -> nn.Sequential:
    """64 pixels, hidden layers, 10 digits; `weight` draws the matrices, biases are zero."""
    widths = [64, *[sizes.width] * sizes.depth, 10]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layer = nn.Linear(inputs, outputs)
        weight(layer.weight)
        layer.bias = nn.Parameter(np.zeros(outputs, np.float32))
        layers += [layer, activation()]
    return nn.Sequential(*layers[:-1])


def linear_layers(model: nn.Module) -> list[nn.Linear]:
    """The layers with weights, first to last."""
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


PRETRAINED = "sigmoid, pretrained"
STARTS: dict[str, Callable[[Sizes], nn.Sequential]] = {
    "sigmoid": lambda sizes: network(sizes, nn.Sigmoid, nn.init.xavier_uniform_),
    PRETRAINED: lambda sizes: network(sizes, nn.Sigmoid, nn.init.xavier_uniform_),
    "sigmoid, weights × 4": lambda sizes: network(sizes, nn.Sigmoid, lambda w: nn.init.xavier_uniform_(w, gain=4.0)),
    "ReLU": lambda sizes: network(sizes, nn.ReLU, lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu")),
}
LEARNING_RATES = {"ReLU": 0.01}  # it diverges at the others'


# Training ------------------------------------------------------------------------------------------------------------


def pretrain(model: nn.Sequential, inputs: np.ndarray, epochs: int, seed: int) -> None:
    """Train each hidden layer, first to last, to rebuild what it is given."""
    rng = np.random.default_rng(seed)
    for layer in linear_layers(model)[:-1]:
        pretrain_layer(layer, inputs, epochs, seed, rng)
        with cr.no_grad():
            inputs = F.sigmoid(layer(inputs)).data


def pretrain_layer(layer: nn.Linear, inputs: np.ndarray, epochs: int, seed: int, rng: np.random.Generator) -> None:
    """Train one layer as a denoising autoencoder with tied weights."""
    visible_bias = nn.Parameter(np.zeros(layer.weight.shape[1], np.float32))
    optimizer = optim.Adam([layer.weight, layer.bias, visible_bias], lr=3e-3)

    @cr.compile
    def step(x: np.ndarray, spoilt: np.ndarray) -> None:
        hidden = F.sigmoid(layer(spoilt))
        loss = F.binary_cross_entropy_with_logits(hidden @ layer.weight + visible_bias, x)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    for epoch in range(epochs):
        for rows in batches(len(inputs), BATCH, seed=seed, epoch=epoch, drop_last=True):
            x = inputs[rows]
            step(x, x * (rng.random(x.shape, np.float32) >= SPOILT))


def train(model: nn.Sequential, data: Dataset, epochs: int, lr: float, seed: int) -> list[float]:
    """Train all layers together; the mean loss of each epoch."""
    optimizer = optim.SGD(model.parameters(), lr=lr, momentum=0.9)

    @cr.compile
    def step(x: np.ndarray, y: np.ndarray) -> cr.Tensor:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    losses = []
    for epoch in range(epochs):
        parts = batches(len(data), BATCH, seed=seed, epoch=epoch, drop_last=True)
        losses.append(float(np.mean([step(data.inputs[rows], data.targets[rows]).item() for rows in parts])))
    return losses


def accuracy(model: nn.Module, data: Dataset) -> float:
    """Share of the images that get their digit."""
    with cr.no_grad():
        return float(np.mean(model(data.inputs).data.argmax(axis=1) == data.targets))


def gradients(model: nn.Module, data: Dataset) -> list[float]:
    """Norm of the gradient of each layer's weights, first layer to last."""
    values = {name: parameter.data for name, parameter in model.named_parameters()}
    slopes = cr.grad(lambda p: F.cross_entropy(nn.functional_call(model, p, data.inputs), data.targets))(values)
    return [float(np.linalg.norm(slope)) for name, slope in slopes.items() if name.endswith("weight")]


def run(start: str, sizes: Sizes, data: tuple[Dataset, Dataset], seed: int) -> Result:
    """One start with one seed, from its weights to its accuracy."""
    began = perf_counter()
    train_data, test_data = data
    nn.random.manual_seed(seed)
    model = STARTS[start](sizes)
    epochs = sizes.training
    if start == PRETRAINED:
        pretrain(model, train_data.inputs, sizes.pretraining, seed)
    else:
        epochs += sizes.pretraining
    norms = gradients(model, train_data)
    losses = train(model, train_data, epochs, LEARNING_RATES.get(start, sizes.lr), seed)
    return Result(accuracy(model, train_data), accuracy(model, test_data), norms, losses, perf_counter() - began)


def compare(sizes: Sizes, seeds: Sequence[int]) -> dict[str, list[Result]]:
    """All starts with all seeds."""
    data = split(load_digits().to_dataset(), test_fraction=0.2, seed=0)
    results: dict[str, list[Result]] = {start: [] for start in STARTS}
    with Progress(transient=True) as progress:
        task = progress.add_task("training", total=len(STARTS) * len(seeds))
        for seed in seeds:
            for start in STARTS:
                progress.update(task, description=f"{start}, seed {seed}")
                results[start].append(run(start, sizes, data, seed))
                progress.advance(task)
    return results


# What came of it -----------------------------------------------------------------------------------------------------


def table(results: dict[str, list[Result]], sizes: Sizes) -> Table:
    """A row for each start: medians over the seeds, and the range of the test accuracies."""
    title = f"Accuracy on digits, {sizes.depth} hidden layers of {sizes.width}"
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    shown.add_column("network")
    for heading in ("train", "test", "worst", "best", "gradient", "seconds"):
        shown.add_column(heading, justify="right")
    for start, runs in results.items():
        tests = [result.test_accuracy for result in runs]
        shown.add_row(
            start,
            f"{np.median([result.train_accuracy for result in runs]):.1%}",
            *(f"{share:.1%}" for share in (np.median(tests), min(tests), max(tests))),
            f"{np.median([result.gradients[0] / result.gradients[-1] for result in runs]):.1e}",
            f"{np.median([result.seconds for result in runs]):.1f}",
        )
    return shown


def draw(results: dict[str, list[Result]], path: Path) -> None:
    """The loss over the epochs, and the gradients over the layers before training, one colour for each start."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, (start, runs) in enumerate(results.items()):
        for place, result in enumerate(runs):
            label = start if place == 0 else None
            left.plot(result.losses, color=f"C{number}", alpha=0.7, label=label)
            right.plot(
                range(1, len(result.gradients) + 1), result.gradients, color=f"C{number}", alpha=0.7, label=label
            )
    left.axhline(math.log(10), color="grey", linewidth=0.8)
    left.set(title="Loss in training (grey: chance)", xlabel="epoch", yscale="log")
    right.set(title="Gradient of each layer's weights before training", xlabel="layer", yscale="log")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, print the table, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = Sizes()
    parser.add_argument("--depth", type=int, default=usual.depth, help="hidden layers (%(default)s)")
    parser.add_argument("--width", type=int, default=usual.width, help="units in each (%(default)s)")
    parser.add_argument("--pretraining", type=int, default=usual.pretraining, help="epochs per layer (%(default)s)")
    parser.add_argument("--training", type=int, default=usual.training, help="epochs after it (%(default)s)")
    parser.add_argument("--lr", type=float, default=usual.lr, help="learning rate, but of ReLU (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (%(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds (%(default)s)")
    parser.add_argument("--png", type=Path, default=Path("greedy_pretraining.png"), help="the picture (%(default)s)")
    given = parser.parse_args(arguments)
    if min(given.depth, given.width, given.training, given.seeds) < 1 or given.pretraining < 0 or given.seed < 0:
        parser.error("sizes must be at least 1, and neither epochs nor the seed negative")
    sizes = Sizes(given.depth, given.width, given.pretraining, given.training, given.lr)
    results = compare(sizes, range(given.seed, given.seed + given.seeds))
    draw(results, given.png)
    console = Console()
    console.print(table(results, sizes))
    console.print(
        f"Medians of {given.seeds} seeds; worst and best on the test images. Gradient: norm at the first layer before "
        f"training, as a share of that at the last. Picture: {given.png}",
        highlight=False,
    )


if __name__ == "__main__":
    main()
