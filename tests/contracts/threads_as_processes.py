"""Threads that exchange tensors as the processes of a run do."""

import copy
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from openrayzer.layers.view_shares import ViewShares, share_views

T = TypeVar("T")
ModuleKind = TypeVar("ModuleKind", bound=nn.Module)


class Meeting:
    """The exchange of ``size`` threads. The first error of a thread ends all of them."""

    def __init__(self, size: int) -> None:
        self.rows: list[Tensor] = [torch.empty(0)] * size
        self.barrier = threading.Barrier(size, timeout=60)
        self.error: BaseException | None = None

    def exchange(self, number: int, rows: Tensor) -> Tensor:
        self.rows[number] = rows
        self.barrier.wait()
        received = torch.stack([given[number] for given in self.rows])
        self.barrier.wait()
        return received


class Exchanged(torch.autograd.Function):
    """A differentiable ``Meeting.exchange``."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, meeting: Meeting, number: int) -> Tensor:
        ctx.meeting, ctx.number = meeting, number
        return meeting.exchange(number, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.meeting.exchange(ctx.number, gradient), None, None


def in_threads(size: int, work: Callable[[ViewShares], T]) -> list[T]:
    """The results of ``work`` in ``size`` threads, each with its shares."""
    meeting, results = Meeting(size), [None] * size

    def run(number: int) -> None:
        try:
            results[number] = work(ViewShares(size, number, lambda rows: Exchanged.apply(rows, meeting, number)))
        except BaseException as error:
            meeting.error = meeting.error or error
            meeting.barrier.abort()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if meeting.error is not None:
        raise meeting.error
    return results


def shared(model: ModuleKind, size: int, work: Callable[[ModuleKind, ViewShares], T]) -> tuple[list[T], ModuleKind]:
    """The results of ``work`` on copies of a model in ``size`` threads, and one copy with the mean of all gradients."""

    def one(shares: ViewShares) -> T:
        share_views(copies[shares.number], shares)
        return work(copies[shares.number], shares)

    copies = [copy.deepcopy(model) for _ in range(size)]
    results = in_threads(size, one)
    for weights in zip(*(each.parameters() for each in copies), strict=True):
        if weights[0].requires_grad:
            weights[0].grad = torch.stack([weight.grad for weight in weights]).mean(dim=0)
    return results, copies[0]
