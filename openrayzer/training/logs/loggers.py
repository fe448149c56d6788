"""Loggers of numbers and pictures. A logger that fails never stops a run."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openrayzer.interfaces import LOGGERS, InputError, Logger
from openrayzer.weights.run_layout import METRICS

LOG = logging.getLogger(__name__)


@LOGGERS.register("jsonl")
class Jsonl(Logger):
    """One JSON object per line. Every run writes metrics.jsonl this way; list this logger for a second file.

    Lines that cannot be written, e.g. to a full disk, are kept in memory and written with the next line.

    Args:
        filename: name of the file inside the run folder.
    """

    def __init__(self, *, filename: str = METRICS) -> None:
        super().__init__()
        if Path(filename).name != filename:
            raise InputError(f"filename must be a plain file name, got {filename!r}")
        self.filename = filename
        self._path, self._pending = Path(filename), ""

    def open(self, run_folder: Path, experiment: Mapping[str, Any]) -> None:
        """Set the path of the file. Lines of an earlier part of the run stay."""
        self._path = run_folder / self.filename

    def record(self, values: Mapping[str, Any]) -> None:
        """Append a line. Numbers that are not finite become null, because JSON has no NaN."""
        self._pending += json.dumps(finite(values)) + "\n"
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(self._pending)
        except OSError as error:
            LOG.warning("%s: cannot be written (%s); its lines are kept for the next attempt", self._path, error)
        else:
            self._pending = ""


@LOGGERS.register("tensorboard")
class TensorBoard(Logger):
    """TensorBoard event files, in ``tensorboard/`` of the run folder."""

    def __init__(self) -> None:
        super().__init__()
        self._writer: Any = None

    def open(self, run_folder: Path, experiment: Mapping[str, Any]) -> None:
        """Start an event file."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run_folder / "tensorboard"))
        self._writer.add_text("experiment", "```json\n" + json.dumps(experiment, indent=2, default=str) + "\n```")

    def record(self, values: Mapping[str, Any]) -> None:
        """Numbers as ``train/loss``, ``test/psnr``."""
        for name, value in named_numbers(values).items():
            self._writer.add_scalar(name, value, values["step"])

    def picture(self, step: int, path: Path) -> None:
        """The picture under ``samples``."""
        import numpy as np
        from PIL import Image

        self._writer.add_image("samples", np.asarray(Image.open(path).convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        """Flush and close the event file."""
        if self._writer is not None:
            self._writer.close()


class LoggerGroup:
    """Several loggers as one. A logger that fails is logged once and left out from then on.

    Args:
        loggers: called in this order; on ranks other than 0 those with ``on_every_rank``, which are only opened and
            closed there.
        first: whether this is rank 0.
    """

    def __init__(self, loggers: Sequence[Logger], *, first: bool = True) -> None:
        self._loggers = [logger for logger in loggers if first or logger.on_every_rank]
        self._first = first

    @property
    def take_model_card(self) -> bool:
        """Whether a logger takes the model card."""
        return self._first and any(logger.takes_model_card for logger in self._loggers)

    def open(self, run_folder: Path, experiment: Mapping[str, Any]) -> None:
        """Open all loggers."""
        self._each("open", run_folder, experiment)

    def record(self, values: Mapping[str, Any]) -> None:
        """Send one line of metrics to all loggers."""
        self._tell("record", values)

    def picture(self, step: int, path: Path) -> None:
        """Send one picture to all loggers."""
        self._tell("picture", step, path)

    def table(self, step: int, split: str, path: Path) -> None:
        """Send the table of an evaluation to all loggers."""
        self._tell("table", step, split, path)

    def model_card(self, path: Path) -> None:
        """Send the model card to the loggers that take it."""
        self._tell("model_card", path)

    def close(self) -> None:
        """Close all loggers."""
        self._each("close")

    def _tell(self, method: str, *arguments: Any) -> None:
        if self._first:
            self._each(method, *arguments)

    def _each(self, method: str, *arguments: Any) -> None:
        for logger in tuple(self._loggers):
            try:
                getattr(logger, method)(*arguments)
            except Exception as error:  # third-party loggers may raise anything, and training goes on
                self._loggers.remove(logger)
                name = type(logger).__name__
                LOG.warning("logger %s failed in %s and is left out: %s: %s", name, method, type(error).__name__, error)


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with None in place of numbers that are not finite, which JSON cannot hold."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()
    }


def named_numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl by their names ``train/loss``, ``test/psnr``."""
    numbers = {key: value for key, value in values.items() if isinstance(value, (int, float)) and key != "step"}
    return {f"{values['split']}/{key}": float(value) for key, value in numbers.items()}
