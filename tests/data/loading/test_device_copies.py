"""Batches that are copied to a GPU ahead of their step."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from openrayzer.data.loading import device_copies
from openrayzer.data.loading.clips import LoadedViews
from openrayzer.data.loading.device_copies import DeviceCopier


class FakeCuda:
    """Records the current GPU whenever a stream is entered and left."""

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


def test_a_thread_that_copies_batches_touches_only_their_gpu(monkeypatch: pytest.MonkeyPatch):
    cuda = FakeCuda()
    monkeypatch.setattr(device_copies, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(device_copies, "ArrivingViews", lambda *parts: LoadedViews(*parts[:3]))
    monkeypatch.setattr(DeviceCopier, "_stream", SimpleNamespace(record_event=lambda: None))
    monkeypatch.setattr(device_copies, "moved", lambda value, device: value)
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor)
    batch = LoadedViews(torch.zeros(1, 2, 4, 4, 3, dtype=torch.uint8), None, {"scenes": ("a",)})
    DeviceCopier(torch.device("cuda", 3))(batch)
    assert cuda.seen == [3, 3]
