"""Parallel work in processes; the processes end when their parent ends."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from typing import Any, TypeVar

import cv2
import torch

from openrayzer.interfaces import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 3  # submitted tasks per process, which limits the results in memory


def usable_processes() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel_results(
    function: Callable[[Item], Result], items: Sequence[Item], *, processes: int, ordered: bool = True
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with its result, computed in several processes, or in this one if one is enough.

    Args:
        function: the work on one item. Processes are forked, so it need not be picklable; its results must be.
        items: the items.
        processes: largest number of processes.
        ordered: True yields results in the order of the items, False as soon as they are ready.

    Raises:
        InputError: the system ended a process, e.g. because memory ran out.
    """
    processes = min(processes, len(items))
    if processes <= 1:
        yield from ((item, function(item)) for item in items)
        return
    torch.set_num_threads(1)  # a forked process does not have the threads of its parent
    cv2.setNumThreads(0)
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    pool = ProcessPoolExecutor(processes, context, initializer=_start, initargs=(os.getpid(), stop, function))
    done = False
    try:
        yield from _results(pool, items, limit=processes * _AHEAD, ordered=ordered)
        done = True
    except BrokenProcessPool as error:
        raise InputError("the system ended a process; if memory is short, use fewer --processes") from error
    finally:
        if not done:
            stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


_work: Callable[[Any], Any] | None = None


def _start(parent: int, stop: Event, function: Callable[[Any], Any]) -> None:
    global _work
    _work = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent handles it
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent, stop), daemon=True).start()


def _end_with(parent: int, stop: Event) -> None:
    """End this process when its parent is gone, since a killed parent cannot end it."""
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
