"""train.log, the terminal and the progress bar."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openrayzer.machine.distributed import Process
from openrayzer.machine.progress import ProgressCounter
from openrayzer.machine.terminal import logging_to_terminal
from openrayzer.weights.run_layout import LOG_FILE


@contextmanager
def logging_to(run_folder: Path, process: Process) -> Iterator[None]:
    """Send log messages of this package to train.log and the terminal. Ranks other than 0 log warnings only.

    train.log is created with its first line, so a run that never starts leaves no file.
    """
    handlers: list[logging.Handler] = []
    if process.is_first:
        file = _LogFile(run_folder / LOG_FILE, encoding="utf-8", errors="backslashreplace", delay=True)
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        handlers.append(file)
    with logging_to_terminal(process, *handlers):
        yield


class _LogFile(logging.FileHandler):
    """A log file that ignores a full disk. The terminal still shows every line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Ignore the error; the standard library would print a traceback for every line."""


def step_counter(*, done: int, steps: int) -> ProgressCounter:
    """A progress bar over optimizer steps on a terminal; elsewhere the lines of metrics show the progress."""
    return ProgressCounter(total=steps, done=done, unit="steps", lines=False)


def one_line(record: Mapping[str, Any], *, steps: int) -> str:
    """A record of metrics.jsonl as a readable line."""
    numbers = {key: value for key, value in record.items() if isinstance(value, (int, float)) and key != "step"}
    words = " ".join(f"{key} {value:.4g}" for key, value in numbers.items())
    return f"{record['split']} step {record['step']}/{steps}: {words}"
