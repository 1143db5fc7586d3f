"""What a monitor sees, as event files of TensorBoard; written by tensorboardX, which is installed on request.

tensorboardX (87 kB, needs protobuf) writes the format and nothing else; TensorBoard itself would bring a web server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chainrule.doctor.subjects import DoctorError

if TYPE_CHECKING:
    from chainrule.doctor.watch import Sample


class EventFiles:
    """Event files in a folder, opened with the first sample; what is written can be seen at once.

    Args:
        folder: where to; made if it is not there. Files that are there stay, and TensorBoard shows them together.

    Raises:
        DoctorError: tensorboardX is not installed, or the folder is a file.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        if find_spec("tensorboardX") is None:
            raise DoctorError("event files of TensorBoard need tensorboardX: pip install 'chainrule[tensorboard]'")
        self._folder = Path(folder)
        if self._folder.exists() and not self._folder.is_dir():
            raise DoctorError(f"event files of TensorBoard go into a folder, and {self._folder} is a file")
        self._writer: Any = None

    def add(self, sample: Sample) -> None:
        """Write what was seen of one step.

        Raises:
            DoctorError: the folder cannot be written.
        """
        writer = self._opened()
        for tag, value in _scalars(sample):
            writer.add_scalar(tag, value, sample.step)
        if sample.findings:
            told = "\n\n".join(
                f"**{finding.code}**{f' in {finding.layer}' if finding.layer else ''}: {finding.cause}"
                for finding in sample.findings
            )
            writer.add_text("findings", told, sample.step)
        writer.flush()

    def add_noise(self, sample: Sample) -> None:
        """Write what the next step told of the gradient's noise."""
        if sample.noise is not None:
            writer = self._opened()
            for tag, value in zip(("gradient/product", "gradient/noise"), sample.noise, strict=True):
                writer.add_scalar(tag, value, sample.step)
            writer.flush()

    def close(self) -> None:
        """End the file that is open; another is opened if more comes."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _opened(self) -> Any:
        if self._writer is None:
            from tensorboardX import SummaryWriter

            try:
                self._writer = SummaryWriter(str(self._folder))
            except OSError as error:
                raise DoctorError(f"{self._folder} cannot be written: {error}") from None
        return self._writer


def _scalars(sample: Sample) -> Iterator[tuple[str, float]]:
    """Curves by name; those of layers are grouped by what is measured."""
    if sample.loss is not None:
        yield "loss", sample.loss
    yield "gradient/norm", sample.gradient_norm
    yield "gradient/clipped", float(sample.clipped)
    for layer in sample.layers:
        for what, value in (
            ("error_signal", layer.error_signal),
            ("layer_gradient", layer.gradient),
            ("update_ratio", layer.update_ratio),
        ):
            if value is not None:
                yield f"{what}/{layer.name or 'network'}", value
