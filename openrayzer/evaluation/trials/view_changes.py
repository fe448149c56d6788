"""Clips changed: one of a batch, its views in another order, its colours."""

from dataclasses import replace

import torch
from einops import einsum, reduce
from jaxtyping import Float
from torch import Tensor

from openrayzer.types import Cameras, Views, select_views

BRIGHTNESS, CONTRAST, SATURATION = 0.8, 1.2, 0.8
"""Factors of the colour change."""

LUMA = (0.299, 0.587, 0.114)
"""How bright red, green and blue are; Rec. ITU-R BT.601."""


def single_clip(views: Views, row: int) -> Views:
    """One clip of a batch."""
    tensors = {name: getattr(views, name)[row : row + 1] for name in ("images", "frames", "context", "target")}
    cameras = views.cameras
    if cameras is not None:
        cameras = Cameras(cameras.c2w[row : row + 1], cameras.intrinsics[row : row + 1])
    clean = None if views.clean is None else views.clean[row : row + 1]
    return replace(views, scenes=views.scenes[row : row + 1], cameras=cameras, clean=clean, **tensors)


def rearranged(views: Views, places: list[int], targets: tuple[int, ...]) -> Views:
    """One clip with some of its views in another order; contexts and targets are the first copies of their views.

    Args:
        views: one clip.
        places: positions on its view axis, as they follow each other afterwards; contexts and ``targets`` among them.
        targets: numbers of the targets that are kept.
    """
    device = views.images.device
    chosen = torch.tensor([places], device=device)
    now = torch.zeros(views.images.shape[1], dtype=torch.long, device=device)
    for place in reversed(range(len(places))):
        now[places[place]] = place
    return replace(
        views,
        images=select_views(views.images, chosen),
        frames=select_views(views.frames, chosen),
        context=now[views.context],
        target=now[views.target[:, list(targets)]],
        cameras=None if views.cameras is None else views.cameras.select(chosen),
        clean=None if views.clean is None else select_views(views.clean, chosen),
    )


def recoloured(images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v 3 h w"]:
    """Every second image darker, of more contrast and paler, in [0, 1].

    What all images share would hardly show: a factor in colours that poses carry is a factor in their scale.
    """
    darker = BRIGHTNESS * images[:, 1::2]
    luma = torch.tensor(LUMA, dtype=images.dtype, device=images.device)
    grey = einsum(darker, luma, "b v c h w, c -> b v h w")[:, :, None]
    mean = reduce(grey, "b v 1 h w -> b v 1 1 1", "mean")
    paler = grey + SATURATION * (darker - grey)
    changed = images.clone()
    changed[:, 1::2] = (mean + CONTRAST * (paler - mean)).clamp(0, 1)
    return changed
