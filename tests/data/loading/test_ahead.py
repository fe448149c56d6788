"""Items that a thread prepares while the caller works."""

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from itertools import count, islice

import pytest
import torch

from openrayzer.data.loading.ahead import AHEAD, prepared_ahead
from openrayzer.data.loading.numbered_batches import load_batches
from openrayzer.interfaces import InputError

NAME = "batches ahead"


def running() -> int:
    return sum(thread.name == NAME for thread in threading.enumerate())


def wait_for(condition) -> None:
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        time.sleep(0.001)
    assert condition()


def test_every_item_comes_prepared_and_in_order():
    assert list(prepared_ahead(iter(range(50)), lambda item: item * item)) == [item * item for item in range(50)]
    assert not running()


def test_no_more_is_taken_than_agreed():
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in count():
            taken.append(item)
            yield item

    ahead = prepared_ahead(items(), str)
    assert next(ahead) == "0"
    wait_for(lambda: len(taken) == 1 + AHEAD)
    time.sleep(0.05)
    assert len(taken) == 1 + AHEAD
    ahead.close()
    assert not running()


@pytest.mark.parametrize("error", [InputError("the data"), RuntimeError("DataLoader worker"), KeyboardInterrupt()])
def test_an_error_comes_after_what_was_prepared_before_it(error):
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise error

    ahead = prepared_ahead(items(), lambda item: item)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(type(error)):
        next(ahead)
    assert not running()


def test_after_an_error_nothing_holds_what_the_items_came_from():
    class Source:
        def __iter__(self) -> Iterator[int]:
            yield 1
            raise RuntimeError("its end")

    source = Source()
    gone, ahead = weakref.ref(source), prepared_ahead(iter(source), str)
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
        list(prepared_ahead(iter([1, 0]), lambda item: 1 // item))


def test_a_dropped_stream_ends_its_thread():
    ahead = prepared_ahead(count(), str)
    next(ahead)
    assert running()
    del ahead
    assert not running()


@pytest.mark.parametrize("workers", [0, 2])
def test_prepared_batches_are_the_same_with_and_without_processes(workers):
    def load(number: int) -> torch.Tensor:
        if number == 5:
            raise InputError("batch 5 cannot be had")
        return torch.full((3,), float(number))

    batches = load_batches(load, numbers=count(), workers=workers, prefetch=2, prepare=lambda batch: batch.to("meta"))
    assert [batch.device.type for batch in islice(batches, 5)] == ["meta"] * 5
    with pytest.raises(InputError, match="batch 5"):
        next(batches)
    assert not running()
