"""A thread prepares items ahead while the caller works."""

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from itertools import count, islice

import pytest
import torch

from openrayzer.data.loading.numbered_batches import load_batches
from openrayzer.data.loading.prefetching import MAX_AHEAD, prefetched
from openrayzer.interfaces import InputError

NAME = "prefetching"


def running() -> int:
    return sum(thread.name == NAME for thread in threading.enumerate())


def wait_for(condition) -> None:
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        time.sleep(0.001)
    assert condition()


def test_every_item_comes_prepared_and_in_order():
    assert list(prefetched(iter(range(50)), lambda item: item * item)) == [item * item for item in range(50)]
    assert not running()


def test_the_thread_stops_at_the_largest_number_ahead():
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in count():
            taken.append(item)
            yield item

    ahead = prefetched(items(), str)
    assert next(ahead) == "0"
    wait_for(lambda: len(taken) == 1 + MAX_AHEAD)
    time.sleep(0.05)
    assert len(taken) == 1 + MAX_AHEAD
    ahead.close()
    assert not running()


@pytest.mark.parametrize("error", [InputError("the data"), RuntimeError("DataLoader worker"), KeyboardInterrupt()])
def test_an_error_comes_after_the_items_before_it(error):
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise error

    ahead = prefetched(items(), lambda item: item)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(type(error)):
        next(ahead)
    assert not running()


def test_after_an_error_nothing_holds_the_source_of_the_items():
    class Source:
        def __iter__(self) -> Iterator[int]:
            yield 1
            raise RuntimeError("its end")

    source = Source()
    gone, ahead = weakref.ref(source), prefetched(iter(source), str)
    del source
    gc.collect()
    gc.disable()
    try:
        with suppress(RuntimeError):
            list(ahead)
        assert gone() is None
    finally:
        gc.enable()


def test_an_error_of_the_preparation_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        list(prefetched(iter([1, 0]), lambda item: 1 // item))


def test_a_dropped_stream_ends_its_thread():
    ahead = prefetched(count(), str)
    next(ahead)
    assert running()
    del ahead
    assert not running()


@pytest.mark.parametrize("workers", [0, 2])
def test_prepared_batches_are_the_same_with_and_without_processes(workers):
    def load(number: int) -> torch.Tensor:
        if number == 5:
            raise InputError("batch 5 cannot be loaded")
        return torch.full((3,), float(number))

    batches = load_batches(load, numbers=count(), workers=workers, prefetch=2, prepare=lambda batch: batch.to("meta"))
    assert [batch.device.type for batch in islice(batches, 5)] == ["meta"] * 5
    with pytest.raises(InputError, match="batch 5"):
        next(batches)
    assert not running()
