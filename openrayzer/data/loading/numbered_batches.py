"""Batches by number, loaded in the calling process or in others; the result is the same."""

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

from openrayzer.data.loading.ahead import prepared_ahead
from openrayzer.interfaces import InputError
from openrayzer.machine.freed_memory import keep_freed_memory

T = TypeVar("T")

LOG = logging.getLogger(__name__)
MAX_DEATHS = 5
"""Loading processes that may die in one pass; where each kills the next, e.g. by taking all memory, it ends."""
PATIENCE = 3.0
"""Seconds after a first SIGTERM in which a loading process takes another for the same request."""
LAST = 60
"""Seconds after a first SIGTERM when a loading process ends in any case; whoever still waits for it gets another."""


def load_batches(
    load: Callable[[int], T],
    *,
    numbers: Iterable[int],
    workers: int,
    prefetch: int,
    prepare: Callable[[T], T] | None = None,
) -> Iterator[T]:
    """The batches with the given numbers, in that order.

    Args:
        load: a pure function of the number, copied into every worker.
        numbers: finite or endless.
        workers: loading processes; 0 loads here.
        prefetch: batches that each worker prepares ahead.
        prepare: called with each batch in this process, e.g. to copy it to a GPU; None does nothing. With workers a
            thread calls it ahead of the caller.

    Raises:
        InputError: raised by ``load``; passed on without the traceback of the process it happened in.
        RuntimeError: more than ``MAX_DEATHS`` loading processes were killed; up to then others take their place.
    """
    cv2.setNumThreads(0)  # here, too: a process copied while OpenCV has threads would wait for them for ever
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
            said = str(error) or "a connection ended"
            LOG.warning("%s; a loading process was killed, perhaps out of memory: its batches are loaded anew", said)


def _is_death(error: Exception) -> bool:
    """Whether a loading process was killed: DataLoader says so, or its connection ends while a batch is read.

    The text of an exception that a loading process raised begins with "Caught".
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
    return prepared_ahead(loaded, prepare) if workers else map(prepare, loaded)


def _passed_on(loaded: Iterator[T | InputError]) -> Iterator[T]:
    try:
        for batch in loaded:
            if isinstance(batch, InputError):
                raise batch
            yield batch
    finally:
        del loaded  # an error on its way out holds what is here, and its loading processes would outlive the run


def _loader(load: Callable[[int], T], numbers: Iterable[int], workers: int, prefetch: int) -> Iterator[T | InputError]:
    loader = iter(
        DataLoader(
            _Batches(load),
            batch_size=None,
            sampler=numbers,
            num_workers=workers,
            prefetch_factor=prefetch if workers else None,
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # the loader draws a number; not from the generator that weights come from
        )
    )
    if workers and threading.current_thread() is threading.main_thread():
        # torch's own handler would raise in the middle of whatever the training does when a worker dies; without it
        # that is noticed where the worker's batch is waited for.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return loader


class _After:
    """Numbers without the first ``done`` of them."""

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
        except InputError as error:  # torch would wrap it, and its message would hold a traceback
            return InputError(*error.args)


def _start_worker(worker: int) -> None:
    """One thread per process, freed memory is kept for what comes next, and signals are left to who waits for it.

    Launchers send SIGTERM to every process, and a Ctrl-C makes DeepSpeed's send it twice within moments; the batches
    must still come until the step is finished. One that comes later ends this process, which is how the waiting
    process ends it in an emergency; and so does time, since an interpreter that exits sends two at once and then waits.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, _Patience())


class _Patience:
    """Handler that ignores a signal and its repetitions for ``PATIENCE`` seconds; the next one or ``LAST`` ends."""

    def __init__(self) -> None:
        self.until: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.until is None:
            self.until = now + PATIENCE
            signal.alarm(LAST)
        elif now > self.until:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
