"""Log messages on the terminal."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from openrayzer.machine.distributed import Process


@contextmanager
def logging_to_terminal(process: Process, *others: logging.Handler) -> Iterator[None]:
    """Send the package's log messages to the terminal and to ``others``; ranks above 0 print warnings only."""
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
    """Prints messages to the current stderr, which a progress bar replaces so that it stays below them."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)
