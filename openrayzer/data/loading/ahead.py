"""Items prepared in a thread while the caller works."""

import threading
from collections.abc import Callable, Generator, Iterator
from queue import SimpleQueue
from typing import TypeVar, cast

S = TypeVar("S")
T = TypeVar("T")
AHEAD = 2
"""Most items in preparation or prepared and not yet taken."""
PARTING = 10.0
"""Seconds that closing waits for the thread, which may hang on slow storage."""


def prepared_ahead(items: Iterator[S], prepare: Callable[[S], T]) -> Generator[T, None, None]:
    """``prepare`` of every item, in order. A thread prepares up to ``AHEAD`` items before the caller takes them.

    An exception of ``items`` or ``prepare`` is raised in the place of its item, after all earlier items. The thread
    begins with the first request and ends when the generator is closed.
    """
    ready: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
    room, over = threading.Semaphore(AHEAD), threading.Event()
    thread = threading.Thread(target=_work, args=(items, prepare, ready, room, over), name="batches ahead", daemon=True)
    thread.start()
    item: T | None
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            room.release()
            yield cast(T, item)
            item = None  # only the caller holds the item during the next wait
    finally:
        error = None  # breaks a cycle with this frame, which would keep the loader's processes alive
        over.set()
        room.release()
        thread.join(PARTING)


def _work(
    items: Iterator[S],
    prepare: Callable[[S], T],
    ready: "SimpleQueue[tuple[T | None, BaseException | None]]",
    room: threading.Semaphore,
    over: threading.Event,
) -> None:
    while room.acquire() and not over.is_set():
        try:
            ready.put((prepare(next(items)), None))
        except BaseException as error:  # else the caller waits for ever
            ready.put((None, error))
            return
