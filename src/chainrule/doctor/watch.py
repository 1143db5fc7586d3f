"""`monitor`: watch a training loop of either framework while it runs, a step now and then.

    with cr.monitor(model, optimizer=optimizer, every=50) as m:
        for x, y in batches:
            ...                     # as ever
    print(m.report())

Between the steps it looks at, it costs a few function calls a step. In those it watches the forward and backward pass
that the loop makes anyway; it draws no random number and changes no value. Only a step, or a network, that is compiled,
which nobody can look into, is rehearsed: made once more, as Python code, and undone; as often as `overhead` allows.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Self

from chainrule.core import state
from chainrule.doctor import statistics
from chainrule.doctor.anatomy import Anatomy, loss_seen
from chainrule.doctor.course import course_of
from chainrule.doctor.events import EventFiles
from chainrule.doctor.finding import CODES, Finding, Severity
from chainrule.doctor.flow import LayerFlow, flow_of
from chainrule.doctor.limits import Limits
from chainrule.doctor.measurements import Examination, Trial
from chainrule.doctor.observation import Observer
from chainrule.doctor.report import Report
from chainrule.doctor.rules import judge, judge_flow
from chainrule.doctor.statistics import Samples
from chainrule.doctor.subjects import DoctorError, Subject, subject_of

_LOOKED_AT = 512
"""Elements of an array that a sample looks at for means and shares (see `statistics.sampled` for the error), and of a
parameter for the length of a step. Norms of gradients and error signals are of all of them."""

OVERHEAD = 0.01
"""Share of the time that rehearsals of compiled steps take, by default. The caches that they leave cold come on top of
it, and the counting in all other steps.
"""

_PASSES = 3
"""A forward and a backward pass take about so many times as long as the forward pass alone: the backward pass has two
products where that has one."""

_PAIRS, _THINNED = 8, 4
"""The next step's gradients are compared at so many looks, and at every so many later: their noise changes slowly."""

_COURSE = 512
"""Losses and gradient norms that the rules are given at most, evenly spread over all steps, the first and the last too:
a loop may be of any length."""


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
        layers: error signal, gradient and update of each, in the order in which they computed.
        findings: what was wrong.
        noise: of its gradient g₁ and the next step's g₂, g₁·g₂ and |g₁ − g₂|²/2 (see `course.noise_scale`); None
            where they were not compared: in compiled loops, and at all but every fourth look after the first eight.
    """

    step: int
    seconds: float
    loss: float | None
    gradient_norm: float
    clipped: bool
    layers: tuple[LayerFlow, ...]
    findings: tuple[Finding, ...]
    noise: tuple[float, float] | None = None


_rehearsing: list[Monitor] = []
"""Who repeats a compiled step at the moment: to all others it does not happen."""

_tracer = state.tracer.get


class Monitor:
    """A watched training loop; see `monitor`. It may be entered again: it goes on then.

    Attributes:
        history: the samples that were taken, the oldest first.
        examination: everything that was measured at the last of them; None before.
        step: number of steps so far.
    """

    def __init__(
        self,
        subject: Subject,
        every: int,
        limits: Limits,
        warn: bool,
        on_finding: Callable[[Finding, int], None] | None,
        overhead: float,
        events: EventFiles | None = None,
        flow_only: bool = False,
    ) -> None:
        self._subject = subject
        self._every = every
        self._limits = limits
        self._warn = warn
        self._on_finding = on_finding
        self._overhead = overhead
        self._events = events
        self._flow_only = flow_only
        self.history: list[Sample] = []
        self.examination: Examination | None = None
        self.step = 0
        self._losses: list[float] = []
        self._steps_of_losses: list[int] = []
        self._unread: list[tuple[int, Any]] = []
        self._number = subject.number_at_hand
        self._has_optimizer = subject.optimizer is not None
        self._last_gradients: tuple[int, list[Any], Samples] | None = None
        self._stack, self._calls = ExitStack(), ExitStack()
        self._hears_calls = False
        self._watching: ExitStack | None = None
        self._observer: Observer | None = None
        self._parameters: dict[str, Any] = {}
        self._gradients: dict[str, Any] | None = None
        self._gradient_norms: dict[str, float] = {}
        self._longest, self._length = "", 0.0
        self._gradient_samples = Samples([], [])
        self._before: Samples | None = None
        self._gradient_norm = 0.0
        self._clipped = False
        self._times_clipped = 0
        self._told: set[tuple[str, str]] = set()
        self._started = self._spent = self._expected = 0.0

    def __trace_parts__(self) -> Iterator[tuple[str, Any, Any]]:
        """A compiled step does not depend on who watches it."""
        return iter(())

    @property
    def losses(self) -> list[float]:
        """Of every step in which `backward` was called, as far as they were seen."""
        unread, self._unread = self._unread, []
        self._steps_of_losses += [step for step, _ in unread]
        self._losses += [x if isinstance(x, float) else self._subject.number(x) for _, x in unread]
        return self._losses

    # The loop ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        subject = self._subject
        self._started = self._started or time.perf_counter()
        try:
            self._stack.enter_context(subject.backward_watched(self._before_backward))
            if self._has_optimizer:
                self._stack.enter_context(subject.steps_watched(*self._around_steps()))
            state.compiled_watchers.append(self._before_compiled)
            self._stack.callback(state.compiled_watchers.remove, self._before_compiled)
            self._stack.callback(self._calls.close)
            self._go_on_at(self.step)
        except BaseException:
            self._stack.close()
            self._hears_calls = False
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_watching()
        self._stack.close()
        self._hears_calls = False
        self._forget()
        if self._events is not None:
            self._events.close()

    @property
    def _is_due(self) -> bool:
        return self.step % self._every == 0

    def _go_on_at(self, step: int) -> None:
        """The next step is this one; calls of the network are listened to in steps that are due only."""
        self.step = step
        is_due = not step % self._every
        if is_due is not self._hears_calls:
            self._calls.close()
            self._hears_calls = is_due
            if is_due:
                self._calls.enter_context(self._subject.calls_watched(self._called))

    @property
    def _is_deaf(self) -> bool:
        """Whether what happens is no step of the loop: a compiler records it, or another monitor rehearses."""
        return _tracer() is not None or (bool(_rehearsing) and _rehearsing[-1] is not self)

    def _before_compiled(self, run: Callable[[], Any]) -> None:
        """A compiled step is about to run: run it as Python code first if it is due, and undo that."""
        counted = self.step
        if counted % self._every:
            self._go_on_at(counted + 1)
            return
        if not self._has_time:
            self._go_on_at(counted + 1)
            return
        self._go_on_at(counted)
        started = time.perf_counter()
        _rehearsing.append(self)
        try:
            with self._subject.rehearsed():
                run()
        finally:
            _rehearsing.pop()
        self._go_on_at(counted + 1)
        self._spend(time.perf_counter() - started)

    @property
    def _has_time(self) -> bool:
        """Whether another rehearsal takes no more than its share of the time."""
        return self._spent + self._expected <= self._overhead * (time.perf_counter() - self._started)

    def _spend(self, seconds: float) -> None:
        """A rehearsal took so long."""
        self._expected = seconds if self._spent else 0.0  # the first takes longer: its operations are compiled
        self._spent += seconds

    def _called(self) -> None:
        """The network is called with gradients on."""
        subject = self._subject
        if (self._is_due or self in _rehearsing) and self._observer is None and not self._is_deaf:
            if subject.is_rehearsed and not self._has_time:
                return
            started = time.perf_counter()
            self._parameters = dict(subject.parameters())
            self._observer = Observer(
                {subject.key(parameter): path for path, parameter in self._parameters.items()},
                limit=_LOOKED_AT,
                flow_only=self._flow_only,
            )
            self._watching = ExitStack()
            self._watching.enter_context(subject.observing(self._observer, root=False))
            if subject.is_rehearsed:
                self._spend(_PASSES * (time.perf_counter() - started))

    def _before_backward(self, loss: Any) -> Callable[[], None] | None:
        """A tensor's `backward` is called; what is returned runs after it."""
        if loss.ndim and tuple(loss.shape) != (1,):  # no loss
            return None
        if self._watching is not None:
            self._stop_watching()
        if _tracer() is not None or (_rehearsing and self._is_deaf):
            return None
        self._unread.append((self.step, self._number(loss)))
        if self._observer is None and self._last_gradients is None and self._has_optimizer:
            return None
        return self._after_backward

    def _after_backward(self) -> None:
        if self._observer is None and not self._has_optimizer:
            self._go_on_at(self.step + 1)
            return
        if self._last_gradients is not None and not _rehearsing:
            if self._last_gradients[0] == self.step - 1:
                self._compare_gradients()
            elif self._last_gradients[0] < self.step - 1:
                self._last_gradients = None
        if self._observer is None:
            return
        self._gradients = self._gradients_by_path()
        self._gradient_norms = {path: statistics.norm(gradient) for path, gradient in self._gradients.items()}
        self._gradient_norm = math.hypot(*self._gradient_norms.values())
        if self._gradients:
            self._longest = max(self._gradient_norms, key=self._gradient_norms.__getitem__)
            self._length = _length(self._gradients[self._longest])
        if not self._flow_only:
            self._gradient_samples = Samples.of(list(self._gradients.values()), _LOOKED_AT)
        if not self._has_optimizer:
            self._finish()

    def _gradients_by_path(self) -> dict[str, Any]:
        subject = self._subject
        found = [(path, subject.gradient_of(parameter)) for path, parameter in self._parameters.items()]
        return {path: subject.seen(gradient) for path, gradient in found if gradient is not None}

    def _compare_gradients(self) -> None:
        """With those of the step before, which was looked at."""
        assert self._last_gradients is not None
        _, parameters, old = self._last_gradients
        gradients = [self._subject.gradient_of(parameter) for parameter in parameters]
        new = Samples.of([self._subject.seen(gradient) for gradient in gradients if gradient is not None], _LOOKED_AT)
        if new.are_like(old):
            product = new.product(old)
            between = (new.product(new) + old.product(old)) / 2 - product
            self.history[-1] = replace(self.history[-1], noise=(product, between))
            if self._events is not None:
                self._events.add_noise(self.history[-1])

    def _before_step(self) -> None:
        if self._is_deaf:
            return
        if self._gradients:  # clipping shortens all of them, and all elements of each
            gradient = self._subject.gradient_of(self._parameters[self._longest])
            self._clipped = _length(self._subject.seen(gradient)) < 0.999 * self._length
        self._before = Samples.of(list(map(self._subject.seen, self._parameters.values())), _LOOKED_AT)

    def _after_step(self) -> None:
        if self._is_deaf:
            return
        if self._before is None:
            self._forget()
            self._go_on_at(self.step + 1)
            return
        self._finish()

    def _around_steps(self) -> tuple[Callable[..., None], Callable[..., None]]:
        """What is to run before and after every step of the optimiser: functions, since whoever copies an optimiser
        would copy what its hooks are bound to. They decide themselves what there is to do for a step that is not due.
        """

        def before(*_: object) -> None:
            if self._gradients is not None:
                self._before_step()

        def after(*_: object) -> None:
            if not self._hears_calls and _tracer() is None and not _rehearsing and (self.step + 1) % self._every:
                self.step += 1
            else:
                self._after_step()

        return before, after

    def _finish(self) -> None:
        try:
            self._take_sample()
        finally:
            self._forget()
            self._go_on_at(self.step + 1)

    def _stop_watching(self) -> None:
        if self._watching is not None:
            self._watching.close()
            self._watching = None
        if self._observer is not None:
            self._observer.alive.clear()

    def _forget(self) -> None:
        self._stop_watching()
        self._observer = self._gradients = self._before = None
        self._parameters = {}
        self._clipped = False

    # Samples ----------------------------------------------------------------------------------------------------

    def _take_sample(self) -> None:
        observer = self._observer
        assert observer is not None
        anatomy = self._anatomy(observer)
        losses = self.losses
        loss = losses[-1] if self._steps_of_losses[-1:] == [self.step] else None
        self.examination = exam = self._examination(anatomy, observer, loss)
        findings = (judge_flow if self._flow_only else judge)(exam, self._limits)
        self.history.append(
            Sample(
                self.step, time.perf_counter() - self._started, loss, self._gradient_norm, self._clipped,
                flow_of(exam), findings,
            )
        )  # fmt: skip
        self._times_clipped += self._clipped
        looks = len(self.history)
        if not _rehearsing and not self._flow_only and (looks <= _PAIRS or looks % _THINNED == 0):
            gradients = self._gradients or {}
            parameters = [parameter for path, parameter in self._parameters.items() if path in gradients]
            self._last_gradients = self.step, parameters, self._gradient_samples
        if self._events is not None:
            self._events.add(self.history[-1])
        for finding in findings:
            self._tell(finding)

    def _anatomy(self, observer: Observer) -> Anatomy:
        """The parts of the network, with what samples tell of the parameters and how far they were moved."""
        paths, arrays = list(self._parameters), list(map(self._subject.seen, self._parameters.values()))
        values, before = Samples.of(arrays, _LOOKED_AT), self._before
        observer.settle()
        updates = {}
        if before is not None:
            lengths = zip(paths, values.distances(before), before.norms(), strict=True)
            updates = {path: moved / size for path, moved, size in lengths if size}
        return Anatomy(
            observer,
            dict(zip(paths, arrays, strict=True)),
            self._gradients or {},
            updates,
            {} if self._flow_only else dict(zip(paths, values.spreads(), strict=True)),
            dict(zip(paths, values.norms(), strict=True)),
            self._gradient_norms,
            {} if self._flow_only else dict(zip(self._gradients or {}, self._gradient_samples.zeros(), strict=True)),
        )

    def _examination(self, anatomy: Anatomy, observer: Observer, loss: float | None) -> Examination:
        subject = self._subject
        return Examination(
            framework=subject.framework,
            model=type(subject.model).__name__,
            training=bool(getattr(subject.model, "training", True)),
            examples=observer.examples,
            layers=tuple(anatomy.layers()),
            **({} if self._flow_only else self._beside_the_flow(anatomy, observer, loss)),
        )

    def _beside_the_flow(self, anatomy: Anatomy, observer: Observer, loss: float | None) -> dict[str, Any]:
        """What an examination has besides layers."""
        subject = self._subject
        options = subject.optimizer_options
        return {
            "activations": tuple(anatomy.activations()),
            "normalizations": tuple(anatomy.normalizations(subject)),
            "parameters": tuple(anatomy.parameters(subject, list(self._parameters.items()))),
            "loss": None if loss is None else loss_seen(observer, loss),
            "trials": (self._trial(options),),
            "optimizer": options,
        }

    def _trial(self, options: dict[str, Any]) -> Trial:
        return Trial(
            kind="watched",
            optimizer=f"{options.get('name', 'the optimizer')}, lr {options.get('lr', '?')}",
            losses=tuple(_some(self.losses)),
            gradient_norms=(*(sample.gradient_norm for sample in _some(self.history)), self._gradient_norm),
            clipped=(self._times_clipped + self._clipped) / (len(self.history) + 1),
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
        if self.examination is None:
            raise DoctorError(
                "the monitor saw no step: call the model in training mode, then backward() on the loss, inside the with"
            )
        noise = [sample.noise for sample in self.history if sample.noise is not None]
        losses = self.losses
        course = course_of(self._steps_of_losses, losses, noise, self.examination.examples)
        examination = replace(self.examination, course=course)
        return Report(self.history[-1].findings, examination, None, self._limits, tuple(self.history))


def _length(gradient: Any) -> float:
    """Of a gradient, by a sample: to be compared with the same sample's later."""
    size = statistics.norm(statistics.sampled(gradient, _LOOKED_AT))
    return size or statistics.norm(gradient)  # the rows of an embedding that were read may lie between


def _some(course: list[Any]) -> list[Any]:
    """At most so many of them as rules are given, evenly spread, with the first and the last."""
    apart = -(-len(course) // (_COURSE - 1))
    return course if apart < 2 else [*course[:-1:apart], course[-1]]


def monitor(
    model: Any,
    *,
    optimizer: Any = None,
    every: int = 50,
    limits: Limits | None = None,
    warn: bool = True,
    on_finding: Callable[[Finding, int], None] | None = None,
    overhead: float = OVERHEAD,
    tensorboard: str | os.PathLike[str] | None = None,
) -> Monitor:
    """Watch an unchanged training loop of chainrule or PyTorch, every so many steps.

    Args:
        model: a `chainrule.nn.Module` or a `torch.nn.Module`.
        optimizer: what moves it; without one a step is a backward pass, and nothing is said about step lengths.
        every: steps from one that is looked at to the next.
        limits: the numbers beyond which something is called wrong.
        warn: whether to issue a `DoctorWarning` when something is found for the first time.
        on_finding: called with each new finding and the number of the step.
        overhead: share of the time that rehearsals of compiled steps, and of networks that `torch.compile` made, may
            take. One that is due is left out where they would take more with it; `math.inf` lets none be left out.
            Steps that are not compiled are looked at as they come.
        tensorboard: folder for event files of TensorBoard, written as the training goes on; needs tensorboardX
            (`pip install 'chainrule[tensorboard]'`).

    Raises:
        DoctorError: the model is of neither framework, or cannot be looked into; or tensorboardX is not installed. On
            entering: it was compiled in place.
        ValueError: `every` is not positive.
    """
    if every < 1:
        raise ValueError(f"monitor: every must be at least 1, got {every}")
    subject = subject_of(model, _no_loss, None, optimizer=optimizer)
    events = None if tensorboard is None else EventFiles(tensorboard)
    return Monitor(subject, every, limits or Limits(), warn, on_finding, overhead, events)


def flow_monitor(model: Any, optimizer: Any) -> Monitor:
    """A monitor that looks at every step it is around, and at nothing but the way of the error signal: gradients,
    updates, and whether it vanishes or explodes. It costs a fraction of the other.
    """
    subject = subject_of(model, _no_loss, None, optimizer=optimizer)
    return Monitor(subject, 1, Limits(), False, None, 0.0, flow_only=True)


def _no_loss(output: Any) -> Any:
    raise AssertionError("a monitor makes no pass of its own")
