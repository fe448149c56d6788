"""Log lines on a terminal."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from openrayzer.machine.distributed import Process


@contextmanager
def logging_to_terminal(process: Process, *others: logging.Handler) -> Iterator[None]:
    """Send what the package logs to the terminal, and to other handlers; other ranks than the first only warn."""
    logger = logging.getLogger("openrayzer")
    terminal = _TerminalHandler()
    terminal.setFormatter(logging.Formatter("%(message)s" if process.is_first else f"rank {process.rank}: %(message)s"))
    terminal.setLevel(logging.INFO if process.is_first else logging.WARNING)
    handlers = [terminal, *others]
    before = logger.level
    logger.setLevel(logging.INFO)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(before)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


class _TerminalHandler(logging.Handler):
    """Lines above the progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)
