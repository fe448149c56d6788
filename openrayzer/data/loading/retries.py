"""Retries of reads that fail for a while, e.g. on a network file system."""

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
"""Errors of servers that restart and connections that break. A missing or forbidden file is not a transient error."""
WAITS = (0.2, 1.0, 3.0, 8.0, 20.0)
"""Seconds of waiting before each retry; half a minute in total."""


def with_retries(read: Callable[[], T], *, sleep: Callable[[float], object] = time.sleep) -> T:
    """Call ``read`` until it succeeds; after a transient error, up to ``len(WAITS)`` times more.

    Args:
        read: reads files; a second call must do the same as the first.
        sleep: waits for a number of seconds.

    Raises:
        BrokenSceneError: the last retry failed, or an error was not transient.
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
    """The errno of each OSError among the causes of an error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            yield cause.errno
        cause = cause.__cause__
