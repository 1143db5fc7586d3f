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
from chainrule.core.tensor import Tensor, _raw
from chainrule.doctor import LayerFlow, flow_monitor
from chainrule.train.build import build_clip, build_model, build_optimizer, build_schedule, build_step
from chainrule.train.config import Config
from chainrule.train.describe import describe_network
from chainrule.train.errors import Diverged, RunError
from chainrule.train.flow import REMEDIES, layer_spans
from chainrule.train.networks import RecurrentNetwork
from chainrule.train.problem import Problem


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        epoch: epochs that are over.
        batch: steps done in the epoch after them.
        step: steps done in all.
        loss_sum: losses of this epoch's rows, added up.
        rows: how many they are.
        seconds: time this epoch's steps took.
        flow, gradient_norm: gradient flow and global norm of the gradient in this epoch's first step.
        findings: what the doctor said of that flow, causes by code.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    rows: int = 0
    seconds: float = 0.0
    flow: list[LayerFlow] = field(default_factory=list)
    findings: dict[str, str] = field(default_factory=dict)
    gradient_norm: float = 0.0


class Training:
    """Training of one configuration on one problem.

    Attributes:
        config: the options.
        problem: the data.
        model: the network.
        train_step: what a step does to it; see `build_step`.
        monitor: the doctor's, around the first step of each epoch.
        progress: how far it is.
        state: what a recurrent network has carried on from the last batch; of other networks nothing.
        batches_per_epoch, steps: how many steps an epoch and the whole run have.
    """

    def __init__(self, config: Config, problem: Problem) -> None:
        nn.random.manual_seed(config.seed)
        self.config = config
        self.problem = problem
        self.progress = Progress()
        self.batches_per_epoch = len(problem.epoch(0))
        self.steps = self.batches_per_epoch * config.epochs
        self.model = build_model(config, problem.inputs, problem.outputs)
        self.state: tuple[Any, ...] = ()
        self.optimizer = build_optimizer(config, self.model)
        self.schedule = build_schedule(config, self.optimizer, self.batches_per_epoch)
        self.train_step = build_step(self.model, problem.loss, self.optimizer, build_clip(config))
        self._fast_step = self.train_step
        self.monitor = flow_monitor(self.model, self.optimizer)

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
        step = compile_step(self.train_step, strict=True)
        self.optimizer.prepare()
        before = self.model.state_dict(), nn.random.get_rng_state()
        optimizer_before = {parameter: dict(state) for parameter, state in self.optimizer.state.items()}
        try:
            with warnings.catch_warnings(record=True) as warned:
                for inputs, targets in self._shapes_of_batches():
                    step(inputs, targets, *self.initial_state(len(inputs)))
        except Exception as error:  # whatever it is, the run can do without
            return [f"Steps run uncompiled, as --no-compile: {' '.join(f'{type(error).__name__}: {error}'.split())}"]
        finally:
            self.model.load_state_dict(before[0])
            nn.random.set_rng_state(before[1])
            for parameter, state in optimizer_before.items():
                self.optimizer.state[parameter].update(state)
        self._fast_step = step
        return [str(warning.message) for warning in warned]

    def _shapes_of_batches(self) -> list[tuple[Any, Any]]:
        """A batch of every shape that there is in an epoch: only the last may be smaller than the others."""
        parts = self.problem.epoch(0)
        batches = [self.problem.batch(part) for part in ([parts[0], parts[-1]] if len(parts) > 1 else parts)]
        return list({inputs.shape: (inputs, targets) for inputs, targets in batches}.values())

    def initial_state(self, rows: int) -> tuple[Any, ...]:
        """What a recurrent network begins with; of other networks nothing."""
        if not isinstance(self.model, RecurrentNetwork):
            return ()
        return tuple(map(Tensor, self.model.initial_state(rows)))  # what a step gives back: one program fits both

    def steps_of_epoch(self) -> Iterator[None]:
        """Do what is left of the running epoch; yields after every step, when everything may be saved.

        Raises:
            Diverged: a loss is no finite number.
        """
        progress, problem = self.progress, self.problem
        for part in problem.epoch(progress.epoch)[progress.batch :]:
            start = perf_counter()
            inputs, targets = problem.batch(part)
            if problem.starts_anew(progress.batch):
                self.state = self.initial_state(len(inputs))
            step = self._fast_step if progress.batch else self._watched_step
            batch_loss, self.state = step(inputs, targets, *self.state)
            loss = batch_loss.item()
            self.schedule.step()
            if not math.isfinite(loss):
                raise self._diverged(loss, f"step {progress.batch + 1} of epoch {progress.epoch + 1}")
            progress.batch += 1
            progress.step += 1
            progress.loss_sum += loss * len(inputs)
            progress.rows += len(inputs)
            progress.seconds += perf_counter() - start
            yield

    def _watched_step(self, inputs: Any, targets: Any, *state: Any) -> tuple[Tensor, tuple[Any, ...]]:
        """The same step, seen by the doctor."""
        progress = self.progress
        self.monitor.step = progress.step
        with self.monitor:
            result = self.train_step(inputs, targets, *state)
        seen = self.monitor.history[-1]
        progress.flow, progress.gradient_norm = list(seen.layers), seen.gradient_norm
        progress.findings = {finding.code: finding.cause for finding in seen.findings if finding.code in REMEDIES}
        return result

    def _diverged(self, loss: float, place: str) -> Diverged:
        config = self.config
        remedies = [f"a smaller --lr (now {config.lr:g})"]
        remedies += ["--clip-norm 1"] * (config.clip_norm is None and config.clip_value is None)
        remedies += ["--norm layer"] * (config.norm == "none")  # where there is none, it is no option
        return Diverged(f"The loss became {loss} in {place}: the training diverged. Try {', '.join(remedies)}")

    # Epochs ----------------------------------------------------------------------------------------------------------

    def finish_epoch(self) -> dict[str, Any]:
        """Count the epoch as done, and measure where the network stands.

        Returns:
            What metrics.jsonl keeps of the epoch.

        Raises:
            Diverged: the loss on either part of the data is no finite number.
        """
        progress = self.progress
        measures = self.measure()
        for part in ("train", "test"):
            if not math.isfinite(measures[f"{part}_loss"]):
                raise self._diverged(measures[f"{part}_loss"], f"the evaluation after epoch {progress.epoch + 1}")
        flow = progress.flow
        metrics = {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "loss": progress.loss_sum / progress.rows,
            **measures,
            "gradient_norm": progress.gradient_norm,
            "learning_rate": self.schedule.get_last_lr()[0],
            "layers": [layer.name for layer in flow],
            "error_signal": [layer.error_signal or 0.0 for layer in flow],
            "gradient": [layer.gradient or 0.0 for layer in flow],
            "update_ratio": [layer.update_ratio or 0.0 for layer in flow],
            "findings": progress.findings,
            "seconds": progress.seconds,
            "steps_per_second": progress.batch / progress.seconds,
        }
        sample = self.problem.sample(self.model, seed=progress.epoch)
        self.progress = Progress(epoch=progress.epoch + 1, step=progress.step)
        return metrics if sample is None else metrics | {"sample": sample}

    def measure(self) -> dict[str, float]:
        """Loss and quality on both parts of the data: `train_loss`, `test_accuracy` and so on."""
        return self.problem.measure(self.model)

    def describe(self) -> str:
        """One line: what is trained and how."""
        config = self.config
        parameters = sum(parameter.size for parameter in self.model.parameters())
        return (
            f"{describe_network(config, self.problem)}: {parameters:,} parameters in {config.dtype}; "
            f"{config.optimizer}, learning rate {config.lr:g} ({config.schedule}); {config.epochs} epochs of "
            f"{self.batches_per_epoch} steps"
        )

    def layer_spans(self) -> dict[str, str]:
        """What goes into each layer and comes out, by layer name, as gradient flow names them."""
        return layer_spans(self.model)

    # Saving ----------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides how the training goes on, as a tree of arrays and what JSON can hold."""
        return {
            "config": self.config.to_dict(),
            "data": {"fingerprint": self.problem.fingerprint, **self.problem.saved()},
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "rng": nn.random.get_rng_state(),
            "progress": asdict(self.progress),
            "state": [part.detach() if isinstance(part, Tensor) else part for part in self.state],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become the training that `state_dict` was taken of.

        Raises:
            RunError: the state is of other data.
            ValueError, TypeError, KeyError: it is no such state.
        """
        if state["data"]["fingerprint"] != self.problem.fingerprint:
            raise RunError(
                f"the data ({self.config.data or 'bundled'}) is not what the run was started with; "
                "put it back as it was, or start a new run"
            )
        progress = dict(state["progress"])
        progress.setdefault("rows", progress["batch"] * self.config.batch_size)  # checkpoints once had no count
        progress["flow"] = [LayerFlow(**layer) for layer in progress["flow"]]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.progress = Progress(**progress)
        self.state = tuple(map(Tensor, map(_raw, state.get("state", ()))))
        nn.random.set_rng_state(state["rng"])
