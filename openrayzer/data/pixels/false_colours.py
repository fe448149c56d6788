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
INVERSE = ("depth",)
"""Maps of distances. Pictures show the inverse, which changes most where the scene is near."""
SHARES = ("confidence", "opacity")
"""Maps of values in [0, 1], which are grey in pictures."""


def colour_range(name: str, maps: Float[Tensor, "*batch c h w"]) -> tuple[float, float]:
    """The values of one-channel maps at the two ends of the colour scale.

    Args:
        name: name of the maps, see ``Model.render_maps``.
        maps: all maps that share the scale, e.g. those of one scene.

    Returns:
        Two quantiles of the inverse for maps of ``INVERSE``, (0, 1) for maps of ``SHARES``, otherwise two quantiles of
        the values; (0, 1) if no value can be shown.
    """
    if name in SHARES:
        return 0.0, 1.0
    values = maps.detach().float().flatten()
    values = _drawn(name, values[:: -(-values.numel() // MOST_VALUES)])
    values = values[values.isfinite()]
    if not values.numel():
        return 0.0, 1.0
    low, high = torch.quantile(values, torch.tensor([LOW, HIGH], device=values.device)).tolist()
    return low, high


def as_picture(name: str, values: Float[Tensor, "c h w"], between: tuple[float, float]) -> UInt8[Tensor, "h w 3"]:
    """A map as RGB.

    Args:
        name: name of the map.
        values: a map of 3 channels in [0, 1], shown as it is; or of 1 channel. Maps of ``SHARES`` are grey, white for
            1. Other maps have the colours of "turbo", from blue for low values to red for high ones. Maps of
            ``INVERSE`` are inverted first, so that near points are red and far ones blue. Values that are not finite,
            and distances of 0 or less, are black.
        between: the values of the two ends of the colour scale, from ``colour_range``.

    Raises:
        ValueError: the map has neither 1 nor 3 channels.
    """
    if values.shape[0] == 3:
        return to_bytes(values)
    if values.shape[0] != 1:
        raise ValueError(f"a map has 1 or 3 channels, got {values.shape[0]}")
    low, high = between
    drawn = _drawn(name, values[0].float()).cpu()
    scaled = ((drawn - low) / max(high - low, 1e-12)).nan_to_num().clamp(0, 1)
    grey = (255 * scaled).round().to(torch.uint8)
    if name in SHARES:
        colours = grey[..., None].expand(*grey.shape, 3)
    else:
        turbo = cv2.applyColorMap(grey.numpy(), cv2.COLORMAP_TURBO)
        colours = torch.from_numpy(cv2.cvtColor(turbo, cv2.COLOR_BGR2RGB))
    return colours * drawn.isfinite()[..., None]


def _drawn(name: str, values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The values that the colours stand for; NaN for a distance of 0 or less."""
    return torch.where(values > 0, 1 / values, torch.nan) if name in INVERSE else values
