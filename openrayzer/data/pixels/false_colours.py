"""Maps such as depth or opacity as pictures."""

import cv2
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from openrayzer.data.pixels.resizing import to_bytes

LOW, HIGH = 0.02, 0.98
"""Quantiles of a map that become the two ends of the colour scale, so that a few outliers do not flatten the rest."""
MOST_VALUES = 1_000_000
"""Values from which the quantiles are computed; of a larger map every n-th value counts."""


def colour_range(maps: Float[Tensor, "*batch c h w"]) -> tuple[float, float]:
    """The values of one-channel maps at the two ends of the colour scale; (0, 1) if no value is finite."""
    values = maps.detach().float().flatten()
    values = values[:: -(-values.numel() // MOST_VALUES)]
    values = values[values.isfinite()]
    if not values.numel():
        return 0.0, 1.0
    low, high = torch.quantile(values, torch.tensor([LOW, HIGH], device=values.device)).tolist()
    return low, high


def as_picture(values: Float[Tensor, "c h w"], between: tuple[float, float]) -> UInt8[Tensor, "h w 3"]:
    """A map as RGB.

    Args:
        values: a map of 3 channels in [0, 1], shown as it is; or of 1 channel, shown in the colours of "turbo", from
            blue for low values to red for high ones. Values that are not finite are black.
        between: the values of the two ends of the colour scale, from ``colour_range``.

    Raises:
        ValueError: the map has neither 1 nor 3 channels.
    """
    if values.shape[0] == 3:
        return to_bytes(values)
    if values.shape[0] != 1:
        raise ValueError(f"a map has 1 or 3 channels, got {values.shape[0]}")
    low, high = between
    finite = values[0].isfinite().cpu()
    scaled = ((values[0].float() - low) / max(high - low, 1e-12)).nan_to_num().clamp(0, 1)
    grey = (255 * scaled).round().to(torch.uint8).cpu().numpy()
    colours = torch.from_numpy(cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB))
    return colours * finite[..., None]
