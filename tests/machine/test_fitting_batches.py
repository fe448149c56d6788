"""Batches of views that fit into memory: equal results, few calls, and on a CPU no call above the memory limit."""

import logging

import pytest
import torch
from torch import Tensor

from openrayzer.interfaces import InputError
from openrayzer.machine import FittingBatches, fitting_batches

GPU, CPU = torch.device("cuda"), torch.device("cpu")
ERRORS = [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]


class Work:
    """Squares views, records the sizes of its calls, and fails for more than ``most`` views."""

    def __init__(self, most: int = 1000, error: Exception = ERRORS[0]) -> None:
        self.most, self.error = most, error
        self.calls: list[int] = []

    def __call__(self, some: slice) -> Tensor:
        views = torch.arange(100)[some]
        self.calls.append(len(views))
        if len(views) > self.most:
            raise self.error
        return views.square()


class HeavyWork:
    """Takes ``fixed`` bytes, and ``each`` bytes for every view."""

    def __init__(self, *, fixed: int, each: int) -> None:
        self.fixed, self.one = fixed, each
        self.calls: list[int] = []

    def __call__(self, some: slice) -> int:
        size = some.stop - (some.start or 0)
        self.calls.append(size)
        kept = torch.zeros(self.fixed, dtype=torch.uint8)
        for _ in range(3):  # each is freed before the next is made
            views = torch.zeros(size, self.one, dtype=torch.uint8)
            del views
        return len(kept)


def memory(monkeypatch, available: int | None) -> None:
    monkeypatch.setattr(fitting_batches, "available_bytes", lambda: available)


def joined(parts) -> Tensor:
    return torch.cat(list(parts))


@pytest.mark.parametrize("error", ERRORS, ids=type)
@pytest.mark.parametrize("fitting", [1, 2, 3, 5, 16])
@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 40])
def test_results_do_not_depend_on_the_size_that_fits(count, fitting, error):
    work = Work(fitting, error)
    found = joined(FittingBatches(16, device=GPU).each(count, work, advice=""))
    assert torch.equal(found, torch.arange(count).square())
    done = [size for size in work.calls if size <= fitting]
    assert sum(done) == count
    assert len(work.calls) - len(done) <= 5  # 16, 8, 4, 2, 1


def test_a_batch_is_halved_until_it_fits_and_never_tried_larger_again():
    work, fitting = Work(5), FittingBatches(16, device=GPU)
    assert len(joined(fitting.each(20, work, advice=""))) == 20
    assert work.calls == [16, 8, 4, 4, 4, 4, 4]
    work.calls.clear()
    assert len(joined(fitting.each(9, work, advice=""))) == 9
    assert work.calls == [4, 4, 1]


def test_another_kind_of_work_starts_with_a_full_batch():
    small, large, fitting = Work(5), Work(), FittingBatches(16, device=GPU)
    list(fitting.each(16, small, advice="", like="many contexts"))
    list(fitting.each(16, large, advice="", like="few contexts"))
    assert large.calls == [16]


def test_a_last_batch_that_fails_is_halved_from_its_own_size():
    work = Work(2)
    list(FittingBatches(16, device=GPU).each(3, work, advice=""))
    assert work.calls == [3, 1, 1, 1]


@pytest.mark.parametrize("device", [GPU, CPU], ids=str)
@pytest.mark.parametrize("error", ERRORS, ids=type)
def test_a_single_view_that_does_not_fit_gives_the_advice(device, error):
    work = Work(0, error)
    with pytest.raises(InputError, match="not enough memory for a single view: take smaller images"):
        list(FittingBatches(4, device=device).each(6, work, advice="take smaller images"))
    assert work.calls == ([4, 2, 1] if device == GPU else [1, 1])


def test_other_errors_are_raised():
    for device in (GPU, CPU):
        work = Work(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
        with pytest.raises(RuntimeError, match="cannot be multiplied"):
            list(FittingBatches(4, device=device).each(6, work, advice=""))
        assert len(work.calls) == 1


def test_batches_are_computed_one_by_one():
    work = Work()
    parts = FittingBatches(4, device=GPU).each(12, work, advice="")
    assert work.calls == []
    next(parts)
    assert work.calls == [4]


def test_a_smaller_batch_gives_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        list(FittingBatches(16, device=GPU).each(16, Work(8), advice=""))
    assert caplog.messages == ["not enough memory for 16 views at once; continuing with 8"]


def test_batches_without_views_are_refused():
    with pytest.raises(ValueError, match="1 view or more, got 0"):
        FittingBatches(0, device=CPU)


@pytest.mark.parametrize("available", [None, 10**15])
def test_on_a_cpu_one_view_is_tried_before_full_batches(monkeypatch, available):
    memory(monkeypatch, available)
    work, fitting = HeavyWork(fixed=1000, each=100), FittingBatches(16, device=CPU)
    for _ in range(2):
        list(fitting.each(40, work, advice=""))
    assert work.calls == [1, 16, 16, 8, 16, 16, 8]
    list(fitting.each(3, work, advice="", like="another"))
    assert work.calls[7:] == [1, 3]


@pytest.mark.parametrize(("most", "count"), [(1, 5), (16, 1)])
def test_on_a_cpu_single_views_need_no_trial(monkeypatch, most, count):
    memory(monkeypatch, 10)
    work = HeavyWork(fixed=1000, each=100)
    list(FittingBatches(most, device=CPU).each(count, work, advice=""))
    assert work.calls == [1] * count


@pytest.mark.parametrize("fixed", [0, 1000, 50_000])
@pytest.mark.parametrize("fitting", [1, 2, 3, 7, 15, 16])
def test_on_a_cpu_no_batch_exceeds_its_share_of_the_free_memory(monkeypatch, fixed, fitting):
    """The budget is just enough for ``fitting`` views, or one byte short of it."""
    for short in (0, 1):
        memory(monkeypatch, int((fixed + 1000 * fitting - short) / fitting_batches.SHARE))
        work = HeavyWork(fixed=fixed, each=1000)
        list(FittingBatches(16, device=CPU).each(32, work, advice=""))
        wanted = max(1, fitting - short)
        if 2 * (fixed + 1000) > fixed + 1000 * fitting - short:  # two views might not fit, so two are not tried
            wanted = 1
        assert max(work.calls) == wanted
        assert sum(work.calls) - 32 in (1, 3)


def test_processes_of_one_machine_share_its_memory(monkeypatch):
    memory(monkeypatch, int(8000 / fitting_batches.SHARE))
    sizes = []
    for processes in (1, 2, 8):
        work = HeavyWork(fixed=0, each=1000)
        list(FittingBatches(16, device=CPU, processes=processes).each(32, work, advice=""))
        sizes.append(max(work.calls))
    assert sizes == [8, 4, 1]


def test_free_memory_is_read_once(monkeypatch):
    """Freed memory that the process keeps for the next batch would count as taken."""
    asked = iter([int(8000 / fitting_batches.SHARE)])
    monkeypatch.setattr(fitting_batches, "available_bytes", lambda: next(asked))
    fitting = FittingBatches(16, device=CPU)
    for like in range(3):
        work = HeavyWork(fixed=0, each=1000)
        list(fitting.each(16, work, advice="", like=like))
        assert max(work.calls) == 8
