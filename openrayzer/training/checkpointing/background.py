"""Work in a background thread, one function at a time."""

from collections.abc import Callable
from threading import Thread


class Background:
    """Runs one function at a time in a thread. ``wait`` raises the error of the function."""

    def __init__(self) -> None:
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether a function is running."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self, work: Callable[[], None]) -> None:
        """Wait for the function before, then start ``work``.

        Raises:
            BaseException: the error of the function before.
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
        """Wait until the function has returned.

        Raises:
            BaseException: the error of the function.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error
