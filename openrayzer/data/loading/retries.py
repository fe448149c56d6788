"""Reading again what a network file system could not give for a while."""

import errno
import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from openrayzer.interfaces import BrokenSceneError

LOG = logging.getLogger(__name__)
T = TypeVar("T")
TRANSIENT = frozenset(
    {
        errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.EREMOTEIO, errno.ENOTCONN,
        errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN,
        errno.ENETUNREACH, errno.ENETRESET,
    }
)  # fmt: skip
"""What servers that restart, and links that break, answer; a file that is gone or forbidden is not among them."""
WAITS = (0.2, 1.0, 3.0, 8.0, 20.0)
"""Seconds before each further attempt, half a minute together."""


def patiently(read: Callable[[], T], *, sleep: Callable[[float], object] = time.sleep) -> T:
    """What ``read`` returns, at the latest after ``len(WAITS)`` attempts more if an error was one that passes.

    Args:
        read: reads files; called again it must do the same.
        sleep: waits so many seconds.

    Raises:
        BrokenSceneError: the last attempt's, or at once any that does not come from a passing error.
    """
    for attempt, wait in enumerate(WAITS, start=1):
        try:
            return read()
        except BrokenSceneError as error:
            if not any(number in TRANSIENT for number in _numbers(error)):
                raise
            LOG.warning("%s; trying again in %g s (%d of %d)", error, wait, attempt, len(WAITS))
            sleep(wait)
    return read()


def _numbers(error: BaseException) -> Iterator[int]:
    """Error numbers of the system among the causes of an error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            yield cause.errno
        cause = cause.__cause__
