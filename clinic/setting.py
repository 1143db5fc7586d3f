"""A `Setting`: a network, a problem and an optimiser that go together. A fault is a setting with one thing changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np

from clinic.case import Case, Half, Patient, rows_of_step
from clinic.frameworks import Framework, framework
from clinic.problems import Problem

Loss = Callable[[Any, Any], Any]


def cross_entropy(f: Framework) -> Loss:
    """The loss of classifiers."""
    return f.nn.CrossEntropyLoss()


def squared_error(f: Framework) -> Loss:
    """The loss of regressions."""
    return f.nn.MSELoss()


def _nothing(*_: Any) -> None:
    """No change."""


def trained(steps: int, lr: float | None = None) -> Callable[[Patient], None]:
    """A history: some steps, at another learning rate if one is given, which is over by the time it is seen."""

    def history(patient: Patient) -> None:
        (group,) = patient.optimizer.param_groups
        usual, group["lr"] = group["lr"], group["lr"] if lr is None else lr
        patient.train(steps)
        if lr is not None:
            group["lr"] = usual

    return history


@dataclass(frozen=True, eq=False)
class Setting:
    """How a patient comes about. No two are equal, so that scores can be kept by setting.

    Attributes:
        name: architecture, data and what sets it apart, in kebab-case.
        problem: the data.
        network: a new network, of the framework and the problem.
        lr: learning rate.
        optimizer: name of the optimiser.
        options: its other options.
        loss: of the framework, the loss.
        clip: the largest gradient norm; None for any.
        batch_size: examples in each step.
        steps: how long it is trained.
        prepare: what is done to the data first.
        adjust: what is done to a new network.
        history: what has happened to the patient by the time it is seen.
        schedule: what the learning rate is multiplied by after so many steps; None where it stays as it is.
    """

    name: str
    problem: Callable[[], Problem]
    network: Callable[[Framework, Problem], Any]
    lr: float
    optimizer: str = "Adam"
    options: Mapping[str, Any] = field(default_factory=dict)
    loss: Callable[[Framework], Loss] = cross_entropy
    clip: float | None = None
    batch_size: int = 64
    steps: int = 200
    prepare: Callable[[Problem, np.random.Generator], Problem] = lambda problem, rng: problem
    adjust: Callable[[Framework, Any], None] = _nothing
    history: Callable[[Patient], None] = _nothing
    schedule: Callable[[int], float] | None = None

    @property
    def architecture(self) -> str:
        """The first part of the name."""
        return self.name.split("-")[0]

    def case(self, framework_name: str, half: Half, data: str) -> Case:
        """The healthy case of it; `data` is the name of its problem."""
        return Case(
            name=f"{self.name}-healthy-{framework_name}",
            half=half,
            framework=framework_name,
            architecture=self.architecture,
            data=data,
            fault=None,
            accepted=(),
            layers=(),
            steps=self.steps,
            make=partial(self.patient, framework_name),
            harm=False,
        )

    def patient(self, framework_name: str, seed: int, twin: Setting | None = None) -> Patient:
        """A new patient; `twin` is the healthy setting that it is compared with, this one if left out."""
        f = framework(framework_name)
        problem = self.prepare(self.problem(), np.random.default_rng(seed))
        with f.random(seed), np.errstate(all="ignore"):
            model = self.network(f, problem)
            self.adjust(f, model)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = getattr(f.optim, self.optimizer)(parameters, lr=self.lr, **self.options)
        inputs, targets = f.array(problem.inputs), f.array(problem.targets)
        rows = rows_of_step(seed, 0, len(inputs), self.batch_size)
        patient = Patient(
            model=model,
            loss_fn=self.loss(f),
            batch=(inputs[rows], targets[rows]),
            optimizer=optimizer,
            data=(inputs, targets),
            held_out=(f.array(problem.held_out_inputs), f.array(problem.held_out_targets)),
            clip=self.clip,
            framework=f,
            batch_size=self.batch_size,
            seed=seed,
            twin=partial(healthy_score, twin or self, framework_name, seed),
            scheduler=f.optim.lr_scheduler.LambdaLR(optimizer, self.schedule) if self.schedule else None,
        )
        self.history(patient)
        return patient


@cache
def healthy_score(setting: Setting, framework_name: str, seed: int) -> float:
    """What a healthy setting comes to in its steps."""
    patient = setting.patient(framework_name, seed)
    patient.train(setting.steps)
    return patient.score()
