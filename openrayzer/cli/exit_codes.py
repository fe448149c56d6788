"""Exit codes and error messages of all commands."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from registry import RegistryError

INPUT_WRONG = 2
INTERRUPTED = 130
BROKEN_PIPE = 141


def run_tool(main: Callable[[], int]) -> NoReturn:
    """Run ``main`` and end the process with its exit code.

    An InputError or RegistryError is a mistake of the user: it becomes ``error: ...`` on stderr and exit code 2,
    without a traceback. Only the first process of a machine prints it. Ctrl-C becomes exit code 130. Any other
    exception is a bug and keeps its traceback. If the reader of stdout ends early, as ``head`` does, the tool ends
    without a traceback.
    """
    try:
        code = main()
        sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes stdout at its end
        sys.exit(BROKEN_PIPE)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if not isinstance(error, mistakes()):
            raise
        print_error(error)
        sys.exit(INPUT_WRONG)


def mistakes() -> tuple[type[Exception], ...]:
    """The types of errors that are mistakes of the user.

    Nobody raises an InputError before its module is imported, which imports PyTorch and takes seconds.
    """
    interfaces = sys.modules.get("openrayzer.interfaces")
    return (RegistryError,) if interfaces is None else (RegistryError, interfaces.InputError)


def print_error(error: Exception) -> None:
    """Print ``error: ...`` to stderr, from the first process of a machine only."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"error: {error}", file=sys.stderr)


@contextmanager
def exit_at_sigterm() -> Iterator[None]:
    """Let SIGTERM end the process by an exception, so that unfinished files are removed; the exit code is 143."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
