"""Retries of reads that fail for a while, e.g. on a network file system."""

import errno
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from openrayzer.interfaces import BrokenSceneError

LOG = logging.getLogger(__name__)
T = TypeVar("T")
TRANSIENT = frozenset(
    {
        errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.EREMOTEIO, errno.ENOTCONN,
        errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN,
        errno.ENETUNREACH, errno.ENETRESET, errno.EPIPE,
    }
)  # fmt: skip
"""Errors of servers that restart and connections that break. A missing or forbidden file is not a transient error."""
WAITS = (0.2, 1.0, 3.0, 8.0, 20.0)
"""Seconds of waiting before each retry; half a minute in total."""


def with_retries(
    read: Callable[[], T],
    *,
    of: type[Exception] = BrokenSceneError,
    waits: Sequence[float] | None = None,
    longest: float = math.inf,
    sleep: Callable[[float], object] = time.sleep,
) -> T:
    """Call ``read`` until it succeeds; after a transient error, once more for each number of ``waits``.

    Args:
        read: reads files; a second call must do the same as the first.
        of: type of the errors that may be transient; an error counts by the ``OSError`` among its causes.
        waits: seconds of waiting before each retry; None for ``WAITS``.
        longest: seconds after the first call from which no call is repeated.
        sleep: waits for a number of seconds.

    Raises:
        Exception: the error of ``read``: the last retry failed, or the error was not transient.
    """
    waits, begin = WAITS if waits is None else waits, time.monotonic()
    for attempt, wait in enumerate(waits, start=1):
        try:
            return read()
        except of as error:
            if time.monotonic() - begin > longest or not any(number in TRANSIENT for number in _numbers(error)):
                raise
            named = isinstance(error, OSError) and error.filename
            text = f"{error.filename}: {error.strerror}" if named else error  # type: ignore[attr-defined]
            LOG.warning("%s; trying again in %g s (%d of %d)", text, wait, attempt, len(waits))
            sleep(wait)
    return read()


def _numbers(error: BaseException) -> Iterator[int]:
    """The errno of each OSError among the causes of an error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            yield cause.errno
        cause = cause.__cause__
