"""Work spread over processes, with a progress bar; processes end when the one that started them does."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from typing import Any, Generic, TypeVar

import cv2
import torch
from tqdm import tqdm

from openrayzer.interfaces import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 3  # tasks per process that wait for it, so that results of a few are in memory


def usable_processes() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(
    function: Callable[[Item], Result], items: Sequence[Item], *, processes: int, ordered: bool = True
) -> Iterator[tuple[Item, Result]]:
    """Each item with its result; here if one process is enough, else in others.

    Args:
        function: what is done; it reaches the processes by copying them, so it may hold anything. Its results are sent.
        items: what it is done to.
        processes: how many at most.
        ordered: whether results come in the order of the items; if not, as soon as they are there.

    Raises:
        InputError: a process was ended by the system, as when memory runs out.
    """
    processes = min(processes, len(items))
    if processes <= 1:
        yield from ((item, function(item)) for item in items)
        return
    torch.set_num_threads(1)  # threads that exist when a process is copied are missing in the copy
    cv2.setNumThreads(0)
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    pool = ProcessPoolExecutor(processes, context, initializer=_start, initargs=(os.getpid(), stop, function))
    done = False
    try:
        yield from _results(pool, items, limit=processes * _AHEAD, ordered=ordered)
        done = True
    except BrokenProcessPool as error:
        raise InputError("a process was ended by the system, is memory short? fewer --processes need less") from error
    finally:
        if not done:
            stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def bar(items: Iterable[Item], *, total: int, unit: str, title: str) -> "Bar[Item]":
    """A progress bar on a terminal's standard error; nothing where that is no terminal."""
    return Bar(items, total=total, unit=unit, title=title)


class Bar(Generic[Item]):
    """Passes items on; ``advance`` says how far the work is.

    Args:
        items: what is passed on.
        total: amount of work.
        unit: of the amount.
        title: what is going on.
    """

    def __init__(self, items: Iterable[Item], *, total: int, unit: str, title: str) -> None:
        self.items = items
        tqdm.monitor_interval = 0  # its thread and processes that copy this one do not go together
        self._shown = tqdm(total=total, unit=unit, desc=title, disable=None, dynamic_ncols=True)

    def __iter__(self) -> Iterator[Item]:
        try:
            yield from self.items
        finally:
            self._shown.close()

    def advance(self, amount: int) -> None:
        """So much more is done."""
        self._shown.update(amount)


_work: Callable[[Any], Any] | None = None


def _start(parent: int, stop: Event, function: Callable[[Any], Any]) -> None:
    global _work
    _work = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of them; the one that started them decides
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent, stop), daemon=True).start()


def _end_with(parent: int, stop: Event) -> None:
    """A process that is killed cannot end those it started."""
    while os.getppid() == parent and not stop.is_set():
        time.sleep(0.2)
    os._exit(1)


def _call(item: Any) -> Any:
    assert _work is not None
    return _work(item)


def _results(
    pool: ProcessPoolExecutor, items: Sequence[Item], *, limit: int, ordered: bool
) -> Iterator[tuple[Item, Any]]:
    waiting: dict[Future[Any], Item] = {}
    remaining = iter(items)
    while True:
        for item in remaining:
            waiting[pool.submit(_call, item)] = item
            if len(waiting) >= limit:
                break
        if not waiting:
            return
        done = [next(iter(waiting))] if ordered else list(wait(waiting, return_when=FIRST_COMPLETED).done)
        for future in done:
            yield waiting.pop(future), future.result()
