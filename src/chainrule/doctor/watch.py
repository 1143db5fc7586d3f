"""`monitor`: watch a training loop of either framework while it runs, a step now and then.

    with cr.monitor(model, optimizer=optimizer, every=50) as m:
        for x, y in batches:
            ...                     # as ever
    print(m.report())

Between the steps it looks at, it costs a few function calls a step. In those it watches the forward and backward pass
that the loop makes anyway; it never makes one of its own, draws no random number and changes no value.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

from chainrule.core import state
from chainrule.core.namespace import namespace_of
from chainrule.doctor import statistics
from chainrule.doctor.anatomy import Anatomy, loss_seen
from chainrule.doctor.finding import CODES, Finding, Severity
from chainrule.doctor.limits import Limits
from chainrule.doctor.measurements import Examination, Trial
from chainrule.doctor.observation import Observer
from chainrule.doctor.report import Report
from chainrule.doctor.rules import judge
from chainrule.doctor.subjects import DoctorError, Subject, subject_of

_LOOKED_AT = 8192
"""Elements of an array that a sample looks at for means and shares; norms are of all of them."""


class DoctorWarning(UserWarning):
    """Something turned bad in a network that is watched."""


@dataclass(frozen=True)
class Sample:
    """What was seen of one step.

    Attributes:
        step: its number, from 0.
        seconds: since the watching began.
        loss: before the step; None where it was not seen.
        gradient_norm: of all parameters together, as the backward pass left them.
        clipped: whether the gradient was shorter when the optimiser took it.
        examination: everything that was measured.
        findings: what was wrong.
    """

    step: int
    seconds: float
    loss: float | None
    gradient_norm: float
    clipped: bool
    examination: Examination
    findings: tuple[Finding, ...]


class Monitor:
    """A watched training loop; see `monitor`.

    Attributes:
        history: the samples that were taken, the oldest first.
        losses: of every step in which `backward` was called, as far as they were seen.
        step: number of steps so far.
    """

    def __init__(
        self,
        subject: Subject,
        every: int,
        limits: Limits,
        warn: bool,
        on_finding: Callable[[Finding, int], None] | None,
    ) -> None:
        self._subject = subject
        self._every = every
        self._limits = limits
        self._warn = warn
        self._on_finding = on_finding
        self.history: list[Sample] = []
        self.losses: list[float] = []
        self.step = 0
        self._stack = ExitStack()
        self._watching: ExitStack | None = None
        self._observer: Observer | None = None
        self._gradients: dict[str, Any] | None = None
        self._gradient_norms: dict[str, float] = {}
        self._before: dict[str, Any] | None = None
        self._loss: float | None = None
        self._gradient_norm = 0.0
        self._clipped = False
        self._told: set[tuple[str, str]] = set()
        self._started = 0.0

    def __trace_parts__(self) -> Iterator[tuple[str, Any, Any]]:
        """A compiled step does not depend on who watches it."""
        return iter(())

    # The loop ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        subject = self._subject
        self._started = time.perf_counter()
        try:
            self._stack.enter_context(subject.calls_watched(self._called))
            self._stack.enter_context(subject.backward_watched(self._before_backward, self._after_backward))
            if subject.optimizer is not None:
                self._stack.enter_context(subject.steps_watched(self._before_step, self._after_step))
            state.compiled_watchers.append(self._before_compiled)
            self._stack.callback(state.compiled_watchers.remove, self._before_compiled)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_watching()
        self._stack.close()
        self._forget()

    @property
    def _is_due(self) -> bool:
        return self.step % self._every == 0

    def _before_compiled(self, run: Callable[[], Any]) -> None:
        """A compiled step is about to run: run it as Python code first if it is due, and undo that."""
        if not self._is_due:
            self.step += 1
            return
        counted = self.step
        with self._subject.rehearsed():
            run()
        self.step = counted + 1

    def _called(self) -> None:
        """The network is called with gradients on."""
        if self._is_due and self._observer is None and state.tracer.get() is None:
            subject = self._subject
            self._observer = Observer(
                {subject.key(parameter): path for path, parameter in subject.parameters()}, limit=_LOOKED_AT
            )
            self._watching = ExitStack()
            self._watching.enter_context(subject.observing(self._observer, root=False))

    def _before_backward(self, loss: Any) -> None:
        self._stop_watching()
        if state.tracer.get() is None:
            self._loss = self._subject.number(loss)
            self.losses.append(self._loss)

    def _after_backward(self) -> None:
        if self._observer is None or state.tracer.get() is not None:
            return
        subject = self._subject
        found = [(path, subject.gradient_of(parameter)) for path, parameter in subject.parameters()]
        self._gradients = {path: gradient for path, gradient in found if gradient is not None}
        self._gradient_norms = {path: statistics.norm(gradient) for path, gradient in self._gradients.items()}
        self._gradient_norm = math.hypot(*self._gradient_norms.values())
        if self._subject.optimizer is None:
            self._finish({})

    def _before_step(self) -> None:
        if self._gradients is None or state.tracer.get() is not None:
            return
        subject = self._subject
        parameters = dict(subject.parameters())
        if self._gradient_norms:  # clipping shortens all of them
            longest, norm = max(self._gradient_norms.items(), key=lambda entry: entry[1])
            self._clipped = statistics.norm(subject.gradient_of(parameters[longest])) < 0.999 * norm
        self._before = {path: self._part(parameter, copy=True) for path, parameter in parameters.items()}

    def _after_step(self) -> None:
        if state.tracer.get() is not None:
            return
        if self._before is None:
            self._forget()
            self.step += 1
            return
        updates = {}
        for path, parameter in self._subject.parameters():
            old = self._before[path]
            size = statistics.norm(old)
            if size:
                updates[path] = statistics.norm(self._part(parameter) - old) / size
        self._finish(updates)

    def _part(self, parameter: Any, copy: bool = False) -> Any:
        """Some elements of a parameter, the same ones every time."""
        array = statistics.sampled(self._subject.array(parameter), _LOOKED_AT)
        return namespace_of(array).asarray(array, copy=True) if copy else array

    def _finish(self, updates: dict[str, float]) -> None:
        try:
            self._take_sample(updates)
        finally:
            self._forget()
            self.step += 1

    def _stop_watching(self) -> None:
        if self._watching is not None:
            self._watching.close()
            self._watching = None

    def _forget(self) -> None:
        self._stop_watching()
        self._observer = self._gradients = self._before = self._loss = None
        self._clipped = False

    # Samples ----------------------------------------------------------------------------------------------------

    def _take_sample(self, updates: dict[str, float]) -> None:
        observer, subject = self._observer, self._subject
        assert observer is not None
        values = {path: subject.array(parameter) for path, parameter in subject.parameters()}
        anatomy = Anatomy(observer, values, self._gradients or {}, updates, gradient_norms=self._gradient_norms)
        exam = self._examination(anatomy, observer)
        findings = judge(exam, self._limits)
        self.history.append(
            Sample(
                self.step, time.perf_counter() - self._started, self._loss, self._gradient_norm, self._clipped, exam,
                findings,
            )
        )  # fmt: skip
        for finding in findings:
            self._tell(finding)

    def _examination(self, anatomy: Anatomy, observer: Observer) -> Examination:
        subject = self._subject
        return Examination(
            framework=subject.framework,
            model=type(subject.model).__name__,
            training=bool(getattr(subject.model, "training", True)),
            examples=observer.examples,
            layers=tuple(anatomy.layers()),
            activations=tuple(anatomy.activations()),
            normalizations=tuple(anatomy.normalizations(subject)),
            parameters=tuple(anatomy.parameters(subject)),
            loss=None if self._loss is None else loss_seen(observer, self._loss),
            inputs=(),
            trials=(self._trial(),),
            optimizer=subject.optimizer_options,
        )

    def _trial(self) -> Trial:
        options = self._subject.optimizer_options
        return Trial(
            kind="watched",
            optimizer=f"{options.get('name', 'the optimizer')}, lr {options.get('lr', '?')}",
            losses=tuple(self.losses),
            gradient_norms=(*(sample.gradient_norm for sample in self.history), self._gradient_norm),
            clipped=sum([*(sample.clipped for sample in self.history), self._clipped]) / (len(self.history) + 1),
            update_ratios=(),
            validation=None,
            best=None,
            best_optimizer="",
            seconds=time.perf_counter() - self._started,
        )

    def _tell(self, finding: Finding) -> None:
        key = (finding.code, finding.layer)
        if finding.severity < Severity.WARNING or finding.follows_from or key in self._told:
            return
        self._told.add(key)
        if self._on_finding is not None:
            self._on_finding(finding, self.step)
        if self._warn:
            where = f" in {finding.layer}" if finding.layer else ""
            warnings.warn(
                f"step {self.step}: {finding.code}{where}: {CODES[finding.code].title.lower()}. {finding.cause}",
                DoctorWarning,
                stacklevel=2,
            )

    # Reading ----------------------------------------------------------------------------------------------------

    def report(self) -> Report:
        """What was wrong at the last step that was looked at, and the course of training as a whole.

        Raises:
            DoctorError: no step was seen.
        """
        if not self.history:
            raise DoctorError(
                "the monitor saw no step: call the model in training mode, then backward() on the loss, inside the with"
            )
        last = self.history[-1]
        return Report(last.findings, last.examination, None, self._limits, tuple(self.history))


def monitor(
    model: Any,
    *,
    optimizer: Any = None,
    every: int = 50,
    limits: Limits | None = None,
    warn: bool = True,
    on_finding: Callable[[Finding, int], None] | None = None,
) -> Monitor:
    """Watch an unchanged training loop of chainrule or PyTorch, every so many steps.

    Args:
        model: a `chainrule.nn.Module` or a `torch.nn.Module`.
        optimizer: what moves it; without one a step is a backward pass, and nothing is said about step lengths.
        every: steps from one that is looked at to the next.
        limits: the numbers beyond which something is called wrong.
        warn: whether to issue a `DoctorWarning` when something is found for the first time.
        on_finding: called with each new finding and the number of the step.

    Raises:
        DoctorError: the model is of neither framework, or cannot be looked into.
        ValueError: `every` is not positive.
    """
    if every < 1:
        raise ValueError(f"monitor: every must be at least 1, got {every}")
    subject = subject_of(model, _no_loss, None, optimizer=optimizer)
    return Monitor(subject, every, limits or Limits(), warn, on_finding)


def _no_loss(output: Any) -> Any:
    raise AssertionError("a monitor makes no pass of its own")
