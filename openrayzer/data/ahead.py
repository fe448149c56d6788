"""Items prepared in a thread while the caller works."""

import threading
from collections.abc import Callable, Generator, Iterator
from queue import SimpleQueue
from typing import TypeVar, cast

S = TypeVar("S")
T = TypeVar("T")
AHEAD = 2
"""Prepared items that wait for the caller, the one in the making included."""
PARTING = 10.0
"""Seconds that closing waits for the thread, which may itself be waiting for storage."""


def prepared_ahead(items: Iterator[S], prepare: Callable[[S], T]) -> Generator[T, None, None]:
    """``prepare`` of every item, in order, up to ``AHEAD`` of them before they are asked for.

    An exception of ``items`` or ``prepare`` is raised where the item would have come, after those before it. The thread
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
            item = None  # nobody but the caller holds it while the next one is waited for
    finally:
        error = None  # it holds this frame, and a loader that is held by a cycle would not end its processes
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
        except BaseException as error:  # whatever it is, the caller must hear of it, or it waits for ever
            ready.put((None, error))
            return
