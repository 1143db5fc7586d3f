"""`Training`: a network, its optimiser and how far they have come, as one thing that can be saved and go on.

One step, one epoch and one measurement are here. When to save, what to show and when to stop is `loop`'s business.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

from chainrule import nn
from chainrule.compile import compile as compile_step
from chainrule.core.tensor import Tensor
from chainrule.data import batches
from chainrule.train.build import build_clip, build_loss, build_model, build_optimizer, build_schedule, build_step
from chainrule.train.config import Config
from chainrule.train.errors import Diverged, RunError
from chainrule.train.flow import FlowProbe, LayerFlow, linear_layers
from chainrule.train.measures import measure
from chainrule.train.problem import Problem


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        epoch: epochs that are over.
        batch: steps done in the epoch after them.
        step: steps done in all.
        loss_sum: losses of this epoch's rows, added up.
        seconds: time this epoch's steps took.
        flow, gradient_norm: gradient flow and global norm of the gradient in this epoch's first step.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    flow: list[LayerFlow] = field(default_factory=list)
    gradient_norm: float = 0.0


class Training:
    """Training of one configuration on one problem.

    Attributes:
        config: the options.
        problem: the data.
        model: the network.
        train_step: what a step does to it, as a function of inputs and targets that gives the loss.
        progress: how far it is.
        batches_per_epoch, steps: how many steps an epoch and the whole run have.
    """

    def __init__(self, config: Config, problem: Problem) -> None:
        nn.random.manual_seed(config.seed)
        self.config = config
        self.problem = problem
        self.progress = Progress()
        self.batches_per_epoch = len(self._row_batches(0))
        self.steps = self.batches_per_epoch * config.epochs
        self.model = build_model(config, len(problem.features), problem.outputs)
        self.loss = build_loss(problem)
        self.optimizer = build_optimizer(config, self.model)
        self.schedule = build_schedule(config, self.optimizer, self.batches_per_epoch)
        self.train_step = build_step(self.model, self.loss, self.optimizer, build_clip(config))
        self._fast_step = self.train_step

    @property
    def finished(self) -> bool:
        return self.progress.epoch == self.config.epochs

    # Steps -----------------------------------------------------------------------------------------------------------

    def compile(self) -> list[str]:
        """Compile the step, if the configuration says so, for all shapes of batches.

        The compiler records a step that is really made, by NumPy, which rounds differently. So it is made here, and
        then undone: every step of the run is made by the program, wherever the run was interrupted.

        Returns:
            What there is to say of it, a line each: why the steps run uncompiled although they should not, warnings.
        """
        if not self.config.compile or self.finished:
            return []
        inputs, targets = self.problem.train_inputs, self.problem.train_targets
        step = compile_step(self.train_step, strict=True)
        self.optimizer.prepare()
        before = self.model.state_dict(), nn.random.get_rng_state()
        optimizer_before = {parameter: dict(state) for parameter, state in self.optimizer.state.items()}
        try:
            with warnings.catch_warnings(record=True) as warned:
                for rows in {len(rows): rows for rows in self._row_batches(0)}.values():
                    step(inputs[rows], targets[rows])
        except Exception as error:  # whatever it is, the run can do without
            return [f"Steps run uncompiled, as --no-compile: {' '.join(f'{type(error).__name__}: {error}'.split())}"]
        finally:
            self.model.load_state_dict(before[0])
            nn.random.set_rng_state(before[1])
            for parameter, state in optimizer_before.items():
                self.optimizer.state[parameter].update(state)
        self._fast_step = step
        return [str(warning.message) for warning in warned]

    def steps_of_epoch(self) -> Iterator[None]:
        """Do what is left of the running epoch; yields after every step, when everything may be saved.

        Raises:
            Diverged: a loss is no finite number.
        """
        progress, problem = self.progress, self.problem
        inputs, targets = problem.train_inputs, problem.train_targets
        for rows in self._row_batches(progress.epoch)[progress.batch :]:
            start = perf_counter()
            step = self._fast_step if progress.batch else self._watched_step
            loss = step(inputs[rows], targets[rows]).item()
            self.schedule.step()
            if not math.isfinite(loss):
                raise self._diverged(loss, f"step {progress.batch + 1} of epoch {progress.epoch + 1}")
            progress.batch += 1
            progress.step += 1
            progress.loss_sum += loss * len(rows)
            progress.seconds += perf_counter() - start
            yield

    def _watched_step(self, inputs: Any, targets: Any) -> Tensor:
        """The same step with its gradient flow measured."""
        probe = FlowProbe(self.model)
        with probe.listening():
            loss = self.train_step(inputs, targets)
        self.progress.flow, self.progress.gradient_norm = probe.flow(), probe.gradient_norm
        return loss

    def _row_batches(self, epoch: int) -> list[Any]:
        rows, size = len(self.problem.train_inputs), self.config.batch_size
        # Batch normalisation has no statistics of a single row that is left over.
        lone_row = self.config.norm == "batch" and rows % size == 1 and rows > 1
        return batches(rows, size, seed=self.config.seed, epoch=epoch, drop_last=lone_row)

    def _diverged(self, loss: float, place: str) -> Diverged:
        config = self.config
        remedies = [f"a smaller --lr (now {config.lr:g})"]
        remedies += ["--clip-norm 1"] * (config.clip_norm is None and config.clip_value is None)
        remedies += ["--norm layer"] * (config.norm == "none")
        return Diverged(f"The loss became {loss} in {place}: the training diverged. Try {', '.join(remedies)}")

    # Epochs ----------------------------------------------------------------------------------------------------------

    def finish_epoch(self) -> dict[str, Any]:
        """Count the epoch as done, and measure where the network stands.

        Returns:
            What metrics.jsonl keeps of the epoch.

        Raises:
            Diverged: the loss on either part of the data is no finite number.
        """
        progress, rows = self.progress, len(self.problem.train_inputs)
        measures = self.measure()
        for part in ("train", "test"):
            if not math.isfinite(measures[f"{part}_loss"]):
                raise self._diverged(measures[f"{part}_loss"], f"the evaluation after epoch {progress.epoch + 1}")
        flow = progress.flow
        metrics = {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "loss": progress.loss_sum / rows,
            **measures,
            "gradient_norm": progress.gradient_norm,
            "learning_rate": self.schedule.get_last_lr()[0],
            "layers": [layer.name for layer in flow],
            "error_signal": [layer.error_signal for layer in flow],
            "gradient": [layer.gradient for layer in flow],
            "update_ratio": [layer.update_ratio for layer in flow],
            "seconds": progress.seconds,
            "steps_per_second": progress.batch / progress.seconds,
        }
        self.progress = Progress(epoch=progress.epoch + 1, step=progress.step)
        return metrics

    def measure(self) -> dict[str, float]:
        """Loss and quality on both parts of the data: `train_loss`, `test_accuracy` and so on."""
        problem = self.problem
        measures: dict[str, float] = {}
        for part, inputs, targets in (
            ("train", problem.train_inputs, problem.train_targets),
            ("test", problem.test_inputs, problem.test_targets),
        ):
            found = measure(self.model, self.loss, inputs, targets, problem.target_scale)
            measures |= {f"{part}_{name}": value for name, value in found.items()}
        return measures

    def describe(self) -> str:
        """One line: what is trained and how."""
        config = self.config
        widths: list[Any] = [len(self.problem.features), *[config.width] * config.depth, self.problem.outputs]
        if len(widths) > 6:
            widths = [widths[0], f"{config.depth} × {config.width}", widths[-1]]
        shape = " → ".join(map(str, widths))
        network = [shape, config.activation] + ["residual"] * config.residual
        network += [f"{config.norm} norm"] * (config.norm != "none")
        network += [f"dropout {config.dropout:g}"] * bool(config.dropout)
        parameters = sum(parameter.size for parameter in self.model.parameters())
        return (
            f"MLP {', '.join(network)}: {parameters:,} parameters in {config.dtype}; {config.optimizer}, "
            f"learning rate {config.lr:g} ({config.schedule}); {config.epochs} epochs of {self.batches_per_epoch} steps"
        )

    def layer_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the weights, (out, in), by layer name, as gradient flow names them."""
        return {name: tuple(layer.weight.shape) for name, layer in linear_layers(self.model).items()}

    # Saving ----------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides how the training goes on, as a tree of arrays and what JSON can hold."""
        problem = self.problem
        return {
            "config": self.config.to_dict(),
            "data": {
                "fingerprint": problem.fingerprint,
                "features": list(problem.features),
                "classes": list(problem.classes),
                "input_scale": _arrays_of(problem.input_scale),
                "target_scale": _arrays_of(problem.target_scale),
            },
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "rng": nn.random.get_rng_state(),
            "progress": asdict(self.progress),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become the training that `state_dict` was taken of.

        Raises:
            RunError: the state is of other data.
            ValueError, TypeError, KeyError: it is no such state.
        """
        if state["data"]["fingerprint"] != self.problem.fingerprint:
            raise RunError(
                f"the data ({self.config.data or 'the bundled digits'}) is not what the run was started with; "
                "put it back as it was, or start a new run"
            )
        progress = dict(state["progress"])
        progress["flow"] = [LayerFlow(**layer) for layer in progress["flow"]]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.progress = Progress(**progress)
        nn.random.set_rng_state(state["rng"])


def _arrays_of(scale: Any) -> dict[str, Any] | None:
    return None if scale is None else {"mean": scale.mean, "std": scale.std}
