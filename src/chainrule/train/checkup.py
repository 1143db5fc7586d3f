"""The doctor's part in a run: the network examined before its first step, and, if asked, watched to its last."""

from __future__ import annotations

from rich.console import Console

from chainrule.doctor import DoctorError, Report, Severity, diagnose, monitor
from chainrule.train.folder import RunFolder
from chainrule.train.training import Training


class Checkup:
    """What the doctor says of a run, in its folder as doctor.html and doctor.json.

    Args:
        training: the run; looked at before its first step.
        thorough: whether to look at everything in each epoch, not at the way of the error signal alone, and to tell
            all that is found.
    """

    def __init__(self, training: Training, *, thorough: bool) -> None:
        self._training = training
        self._thorough = thorough
        self._unexamined = ""
        self._saved: Report | None = None
        self.before: Report | None = None
        if thorough:
            training.monitor = monitor(training.model, optimizer=training.optimizer, every=1, warn=False)
        if training.progress.step == 0 and not training.finished:
            try:
                self.before = examined(training)
            except DoctorError as error:
                self._unexamined = str(error)

    @property
    def report(self) -> Report | None:
        """Of the watched run, or of the network before its first step."""
        return self._training.monitor.report() if self._has_watched else self.before

    @property
    def _has_watched(self) -> bool:
        return self._thorough and bool(self._training.monitor.history)

    def save(self, folder: RunFolder) -> None:
        """Put the report into the run's folder, if there is one that is not there yet.

        Raises:
            RunError: it cannot be written.
        """
        report = self.report
        if report is not None and report is not self._saved:
            folder.write_report(report)
            self._saved = report

    def tell_before(self, console: Console) -> None:
        """What was found before the first step: all of it, or one line where there is anything."""
        if self._unexamined:
            console.print(f"Doctor: {self._unexamined}", markup=False, highlight=False, soft_wrap=True)
        if self.before is None:
            return
        if self._thorough:
            console.print(self.before)
        elif not self.before.healthy:
            causes = [f for f in self.before.findings if not f.follows_from and f.severity >= Severity.WARNING]
            said = ", ".join(
                f"{finding.code} in {finding.layer}" if finding.layer else finding.code for finding in causes
            )
            console.print(
                f"Doctor: {said}. More: --doctor, or doctor.html in the run folder.", style="yellow", markup=False,
                highlight=False, soft_wrap=True,
            )  # fmt: skip

    def tell_after(self, console: Console) -> None:
        """What was found at the last step that was watched."""
        if self._has_watched:
            console.print("\nThe network at the last step that was watched", style="bold")
            console.print(self._training.monitor.report())


def examined(training: Training) -> Report:
    """The network of a run on its first batch.

    Raises:
        DoctorError: it cannot be examined.
    """
    problem, loss = training.problem, training.problem.loss
    inputs, targets = problem.batch(problem.epoch(0)[0])
    state = training.initial_state(len(inputs))
    return diagnose(
        training.model,
        (lambda output, targets: loss(output[0], targets)) if state else loss,
        ((inputs, *state) if state else inputs, targets),
        optimizer=training.optimizer,
        clip_norm=training.config.clip_norm,
    )
