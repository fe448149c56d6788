"""Batches on their way to a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from openrayzer.data.loading import device_copies
from openrayzer.data.loading.clips import LoadedViews
from openrayzer.data.loading.device_copies import Mover


class FakeCuda:
    """Notes which GPU is the thread's while a stream is entered and left."""

    def __init__(self) -> None:
        self.current, self.seen = 0, list[int]()

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        before, self.current = self.current, device.index
        yield
        self.current = before

    @contextmanager
    def stream(self, stream: object) -> Iterator[None]:
        self.seen.append(self.current)
        yield
        self.seen.append(self.current)


def test_a_thread_that_moves_batches_touches_no_gpu_but_its_own(monkeypatch: pytest.MonkeyPatch):
    cuda = FakeCuda()
    monkeypatch.setattr(device_copies, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(device_copies, "ArrivingViews", lambda *parts: LoadedViews(*parts[:3]))
    monkeypatch.setattr(Mover, "_stream", SimpleNamespace(record_event=lambda: None))
    monkeypatch.setattr(device_copies, "moved", lambda value, device: value)
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor)
    batch = LoadedViews(torch.zeros(1, 2, 4, 4, 3, dtype=torch.uint8), None, {"scenes": ("a",)})
    Mover(torch.device("cuda", 3))(batch)
    assert cuda.seen == [3, 3]
