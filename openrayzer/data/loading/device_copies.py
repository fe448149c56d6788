"""Batches on their way to a GPU, ahead of the step that takes them: neither the host nor the step waits for a copy."""

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
        arrival: event after the copy of the whole batch.
    """

    arrival: torch.cuda.Event

    def views(self, device: torch.device | str = "cuda") -> Views:
        """The batch on the GPU that it is copied to; work of the current stream waits for the copy."""
        stream = torch.cuda.current_stream(device)
        stream.wait_event(self.arrival)

        def held(tensor: Tensor) -> Tensor:
            tensor.record_stream(stream)  # else the next copy could reuse its memory too early
            return tensor

        return LoadedViews.views(map_tensors(self, held), device)


class Mover:
    """Pins batches and copies them on a stream of its own.

    Args:
        device: a GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, batch: LoadedViews) -> LoadedViews:
        """The batch on its way."""
        # The device first: a thread begins on GPU 0, and a stream that gives that back would open a context there.
        with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
            there = moved(map_tensors(batch, Tensor.pin_memory), self.device)
            arrival = self._stream.record_event()
        return ArrivingViews(there.images, there.clean, there.others, arrival)

    @cached_property
    def _stream(self) -> torch.cuda.Stream:
        return torch.cuda.Stream(self.device)
