"""What an examiner sees: a `Case` says what is wrong and makes the `Patient`, a network on its way through training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from clinic.frameworks import Framework

#: Cases that a doctor may be made on, and cases that nobody looks at before it is done.
Half = Literal["tuning", "held-out"]


@dataclass
class Patient:
    """A network, its data and how it is trained. A cured copy is made by `dataclasses.replace`.

    Attributes:
        model: a module of the framework.
        loss_fn: of the model's output and the targets, a scalar.
        batch: inputs and targets of the first step.
        optimizer: over the model's parameters.
        data: inputs and targets of all training examples.
        held_out: inputs and targets that scores are measured on.
        clip: the largest gradient norm, enforced before each step; None for any.
        framework: what the arrays and the model are of.
        batch_size: examples in each step.
        seed: of the batches, and of what the network draws as it trains.
        twin: trains what this one would be without its fault, and gives its score.
        scheduler: changes the optimiser's learning rate after each step; None where it stays as it is.
        steps_taken: how many training steps there were.
    """

    model: Any
    loss_fn: Callable[[Any, Any], Any]
    batch: tuple[Any, Any]
    optimizer: Any
    data: tuple[Any, Any]
    held_out: tuple[Any, Any]
    clip: float | None
    framework: Framework
    batch_size: int
    seed: int
    twin: Callable[[], float] = field(repr=False)
    scheduler: Any = None
    steps_taken: int = 0

    @property
    def healthy_score(self) -> float:
        """The score of the healthy twin after its training; it is trained when first asked for."""
        return self.twin()

    def train(self, steps: int) -> None:
        """Train for so many steps more: zero, forward, backward, clip, step."""
        with self.framework.random(self.seed + self.steps_taken), np.errstate(all="ignore"):
            for _ in range(steps):
                self._step()

    def _step(self) -> None:
        inputs, targets = self.data
        rows = rows_of_step(self.seed, self.steps_taken, len(inputs), self.batch_size)
        self.optimizer.zero_grad()
        loss = self.loss_fn(self.model(inputs[rows]), targets[rows])
        loss.backward()
        if self.clip is not None:
            self.framework.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        self.steps_taken += 1

    def score(self) -> float:
        """Accuracy in % of the held-out examples, or share of the targets' variance explained in %, not below 0.

        A single output for classes 0.0 and 1.0 is read as a probability if all of them could be one, or else as a
        logit. A network that gives NaN or infinity knows nothing: its score is 0.
        """
        inputs, targets = self.held_out
        training = self.model.training
        self.model.eval()
        with self.framework.no_grad(), np.errstate(all="ignore"):
            output = self.model(inputs)
        self.model.train(training)
        output = self.framework.numpy(output[0] if isinstance(output, tuple) else output)
        return score(output, self.framework.numpy(targets))


def rows_of_step(seed: int, step: int, examples: int, batch_size: int) -> np.ndarray:
    """Which examples a step takes: the same in every framework, and whatever happened before."""
    return np.random.default_rng([seed, step]).choice(examples, batch_size, replace=False)


def score(output: np.ndarray, targets: np.ndarray) -> float:
    """See `Patient.score`."""
    if not np.isfinite(output).all():
        return 0.0
    if targets.dtype.kind == "i":
        return 100 * float(np.mean(output.argmax(-1) == targets))
    if set(np.unique(targets)) == {0.0, 1.0}:
        threshold = 0.5 if output.min() >= 0 and output.max() <= 1 else 0.0
        return 100 * float(np.mean((output > threshold) == targets))
    unexplained = np.mean((output - targets) ** 2, dtype=np.float64) / targets.var()
    return 100 * float(max(0.0, 1 - unexplained))


@dataclass(frozen=True)
class Case:
    """A network with a known diagnosis.

    Attributes:
        name: architecture, data, fault, variant and framework in kebab-case; no other case has it.
        half: of the clinic, the one it was written for.
        framework: "chainrule" or "torch".
        architecture: mlp, cnn, rnn, lstm or transformer.
        data: digits, blobs, circles, text or regression.
        fault: the finding that is right; None for a healthy network.
        accepted: findings that are equally right.
        layers: paths of the modules that are the right place, each of which is right; empty if it is the whole
            network.
        steps: how long it is trained when scores are compared.
        make: the patient, from a seed that decides all that is random.
        harm: whether training fails to reach what it would without the fault. A part that is never used or cut off may
            leave the rest as good as ever.
    """

    name: str
    half: Half
    framework: str
    architecture: str
    data: str
    fault: str | None
    accepted: tuple[str, ...]
    layers: tuple[str, ...]
    steps: int
    make: Callable[[int], Patient] = field(repr=False)
    harm: bool = True

    @property
    def group(self) -> str:
        """The name without the framework: a network and its likeness in the other framework are one group."""
        return self.name.removesuffix(f"-{self.framework}")

    @property
    def answers(self) -> frozenset[str]:
        """The findings any of which is a right one; none for a healthy network."""
        return frozenset() if self.fault is None else frozenset({self.fault, *self.accepted})
