"""Items that a thread prepares ahead while the caller works."""

import threading
from collections.abc import Callable, Generator, Iterator
from queue import SimpleQueue
from typing import TypeVar, cast

S = TypeVar("S")
T = TypeVar("T")
MAX_AHEAD = 2
"""Largest number of items in preparation or ready for the caller."""
CLOSING_SECONDS = 10.0
"""Seconds that closing waits for the thread; the thread may hang on slow storage."""


def prefetched(items: Iterator[S], prepare: Callable[[S], T]) -> Generator[T, None, None]:
    """Yield ``prepare(item)`` for every item, in order. A thread prepares up to ``MAX_AHEAD`` items ahead.

    An exception of ``items`` or ``prepare`` is raised in place of its item, after all earlier items. The thread
    starts with the first request and ends when the generator is closed.
    """
    ready: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
    slots, closed = threading.Semaphore(MAX_AHEAD), threading.Event()
    arguments = (items, prepare, ready, slots, closed)
    thread = threading.Thread(target=_prepare_all, args=arguments, name="prefetching", daemon=True)
    thread.start()
    item: T | None
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            slots.release()
            yield cast(T, item)
            item = None  # only the caller holds the item during the next wait
    finally:
        error = None  # breaks a reference cycle with this frame, which would keep the loader's processes alive
        closed.set()
        slots.release()
        thread.join(CLOSING_SECONDS)


def _prepare_all(
    items: Iterator[S],
    prepare: Callable[[S], T],
    ready: "SimpleQueue[tuple[T | None, BaseException | None]]",
    slots: threading.Semaphore,
    closed: threading.Event,
) -> None:
    while slots.acquire() and not closed.is_set():
        try:
            ready.put((prepare(next(items)), None))
        except BaseException as error:  # without this, the caller would wait forever
            ready.put((None, error))
            return
