"""Batches copied to a GPU ahead of the step that uses them; neither the host nor the step waits for the copy."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from openrayzer.data.loading.clips import LoadedViews
from openrayzer.types import Views, map_tensors, moved


@dataclass(frozen=True)
class ArrivingViews(LoadedViews):
    """A batch whose copy to a GPU has begun.

    Attributes:
        arrival: event that the GPU reaches when the whole batch is copied.
    """

    arrival: torch.cuda.Event

    def views(self, device: torch.device | str = "cuda") -> Views:
        """The batch on its GPU. The current stream waits for the copy, the host does not."""
        stream = torch.cuda.current_stream(device)
        stream.wait_event(self.arrival)

        def held(tensor: Tensor) -> Tensor:
            tensor.record_stream(stream)  # otherwise the next copy could reuse its memory too early
            return tensor

        return LoadedViews.views(map_tensors(self, held), device)


class DeviceCopier:
    """Pins batches in host memory and copies them to a GPU on a separate CUDA stream.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, batch: LoadedViews) -> LoadedViews:
        """Start the copy of a batch and return without waiting for it."""
        # Enter the device first: a thread starts on GPU 0, and leaving the stream there would open a context on it.
        with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
            there = moved(map_tensors(batch, Tensor.pin_memory), self.device)
            arrival = self._stream.record_event()
        return ArrivingViews(there.images, there.clean, there.others, arrival)

    @cached_property
    def _stream(self) -> torch.cuda.Stream:
        return torch.cuda.Stream(self.device)
