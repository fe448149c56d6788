"""Work that goes on beside the training, one piece at a time."""

from collections.abc import Callable
from threading import Thread


class Background:
    """Runs one function at a time in a thread; what it raises comes out of ``wait``."""

    def __init__(self) -> None:
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether the work is not done yet."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self, work: Callable[[], None]) -> None:
        """Start ``work``, after the work before is done.

        Raises:
            BaseException: what the work before raised.
        """
        self.wait()

        def run() -> None:
            try:
                work()
            except BaseException as error:
                self._error = error

        self._thread = Thread(target=run, name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Until the work is done.

        Raises:
            BaseException: what it raised.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error
