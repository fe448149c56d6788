"""Batches loaded by number, in this process or in workers, with the same result."""

import gc
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from types import FrameType
from typing import Generic, TypeVar

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from openrayzer.data.loading.prefetching import prefetched
from openrayzer.interfaces import InputError
from openrayzer.machine.freed_memory import keep_freed_memory

T = TypeVar("T")

LOG = logging.getLogger(__name__)
MAX_DEATHS = 5
"""Number of workers that may be killed in one pass; it ends a run if its workers always run out of memory."""
REPEATED_SECONDS = 3.0
"""Seconds after a first SIGTERM in which a worker treats another SIGTERM as a repetition and ignores it."""
LAST_SECONDS = 60
"""Seconds after a first SIGTERM until a worker ends in any case; a process that still needs it starts another."""


def load_batches(
    load: Callable[[int], T],
    *,
    numbers: Iterable[int],
    workers: int,
    prefetch: int,
    prepare: Callable[[T], T] | None = None,
) -> Iterator[T]:
    """Yield the batches with the given numbers, in that order.

    Args:
        load: a pure function of the number; every worker gets a copy of it.
        numbers: finite or endless.
        workers: number of worker processes; 0 loads in this process.
        prefetch: number of batches that each worker loads ahead.
        prepare: function that this process calls with each batch, e.g. to copy it to a GPU; None does nothing. With
            workers, a thread calls it ahead of the caller.

    Raises:
        InputError: ``load`` raised it; the traceback of the worker is left out.
        RuntimeError: more than ``MAX_DEATHS`` workers were killed; up to that number, new workers replace them.
    """
    cv2.setNumThreads(0)  # a worker forked while OpenCV has threads would wait for them forever
    done = deaths = 0
    while True:
        try:
            for batch in _one_pass(load, _After(numbers, done), workers, prefetch, prepare):
                yield batch
                done += 1
            return
        except (RuntimeError, ConnectionError, EOFError) as error:
            if not _is_death(error) or deaths == MAX_DEATHS:
                raise
            deaths += 1
            cause = str(error) or "a connection ended"
            LOG.warning("%s; a loading process was killed, perhaps out of memory: its batches are loaded again", cause)


def _is_death(error: Exception) -> bool:
    """Whether the error means that a worker was killed.

    DataLoader then raises a RuntimeError with its own text, or the connection to the worker ends. The text of an
    exception that the worker itself raised begins with "Caught".
    """
    text = str(error)
    return text.startswith("DataLoader worker") if isinstance(error, RuntimeError) else not text.startswith("Caught")


def _one_pass(
    load: Callable[[int], T],
    numbers: Iterable[int],
    workers: int,
    prefetch: int,
    prepare: Callable[[T], T] | None,
) -> Iterator[T]:
    loaded = _passed_on(_loader(load, numbers, workers, prefetch))
    if prepare is None:
        return loaded
    return prefetched(loaded, prepare) if workers else map(prepare, loaded)


def _passed_on(loaded: Iterator[T | InputError]) -> Iterator[T]:
    try:
        for batch in loaded:
            if isinstance(batch, InputError):
                raise batch
            yield batch
    finally:
        del loaded  # the traceback of an error holds these locals, and with them workers that would outlive the run


def _loader(load: Callable[[int], T], numbers: Iterable[int], workers: int, prefetch: int) -> Iterator[T | InputError]:
    loader = iter(
        DataLoader(
            _Batches(load),
            batch_size=None,
            sampler=numbers,
            num_workers=workers,
            prefetch_factor=prefetch if workers else None,
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # the loader draws a number; the global generator must not change
        )
    )
    if workers and threading.current_thread() is threading.main_thread():
        # torch's handler would raise at any point of the training when a worker dies. Without it, the error is raised
        # where the batch of that worker is awaited.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return loader


class _After:
    """The numbers after the first ``done`` numbers."""

    def __init__(self, numbers: Iterable[int], done: int) -> None:
        self.numbers, self.done = numbers, done

    def __iter__(self) -> Iterator[int]:
        return islice(self.numbers, self.done, None)


class _Batches(Dataset[T | InputError], Generic[T]):
    def __init__(self, load: Callable[[int], T]) -> None:
        self.load = load

    def __getitem__(self, number: int) -> T | InputError:
        try:
            return self.load(number)
        except InputError as error:  # torch would wrap a raised one and add a traceback to its message
            return InputError(*error.args)


def _start_worker(worker: int) -> None:
    """Prepare a worker: one thread, reuse of freed memory, and handlers that leave signals to the training process.

    Launchers send SIGTERM to every process, and DeepSpeed's launcher sends it twice after a Ctrl-C. The worker ignores
    both, because the current step still needs its batches. A later SIGTERM ends the worker; the training process sends
    it in an emergency. A timer also ends the worker, because a Python interpreter that exits sends two SIGTERMs in a
    row and then waits.
    """
    gc.freeze()  # otherwise the garbage collector searches, and so copies, all that the training process had built
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    keep_freed_memory()
    signal.set_wakeup_fd(-1)  # which would report signals of the worker to the training process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, _DeferredEnd())


class _DeferredEnd:
    """Signal handler that ignores a signal and its repetitions within ``REPEATED_SECONDS``.

    The next signal, or an alarm after ``LAST_SECONDS``, ends the process.
    """

    def __init__(self) -> None:
        self.until: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.until is None:
            self.until = now + REPEATED_SECONDS
            signal.alarm(LAST_SECONDS)
        elif now > self.until:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
