"""Numbers from the device to the host. Each reading waits for the device, so one reads many numbers."""

from collections.abc import Sequence

import torch
from torch import Tensor


def read(values: Sequence[Tensor]) -> list[Tensor]:
    """The values, single numbers, on the CPU in float64: one reading for each device that holds some of them."""
    devices = dict.fromkeys(value.device for value in values)
    found: dict[int, Tensor] = {}
    for device in devices:
        places = [place for place, value in enumerate(values) if value.device == device]
        together = torch.stack([values[place].detach().double() for place in places]).cpu()
        found |= zip(places, together.unbind(), strict=True)
    return [found[place] for place in range(len(values))]
