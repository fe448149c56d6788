"""Changed clips: a single clip of a batch, another order of views, other colours."""

from dataclasses import replace

import torch
from einops import einsum, reduce
from jaxtyping import Float
from torch import Tensor

from openrayzer.types import Cameras, Views, select_views

BRIGHTNESS, CONTRAST, SATURATION = 0.8, 1.2, 0.8
"""Factors of the colour change."""

LUMA = (0.299, 0.587, 0.114)
"""Brightness of red, green and blue, from Rec. ITU-R BT.601."""


def single_clip(views: Views, row: int) -> Views:
    """One clip of a batch."""
    tensors = {name: getattr(views, name)[row : row + 1] for name in ("images", "frames", "context", "target")}
    cameras = views.cameras
    if cameras is not None:
        cameras = Cameras(cameras.c2w[row : row + 1], cameras.intrinsics[row : row + 1])
    clean = None if views.clean is None else views.clean[row : row + 1]
    depth = None if views.depth is None else views.depth[row : row + 1]
    return replace(views, scenes=views.scenes[row : row + 1], cameras=cameras, clean=clean, depth=depth, **tensors)


def rearranged(views: Views, places: list[int], targets: tuple[int, ...]) -> Views:
    """One clip with some of its views in another order. Context and target views are the first copies of their views.

    Args:
        views: one clip.
        places: positions on its view axis in the new order, including all context views and ``targets``.
        targets: numbers of the targets to keep.
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
        depth=None if views.depth is None else select_views(views.depth, chosen),
    )


def recoloured(images: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v 3 h w"]:
    """The images, in [0, 1], with every second one darker, of more contrast and less saturated.

    A change of all images would hardly show: if poses contain colours, it would only change the scale of the poses.
    """
    darker = BRIGHTNESS * images[:, 1::2]
    luma = torch.tensor(LUMA, dtype=images.dtype, device=images.device)
    grey = einsum(darker, luma, "b v c h w, c -> b v h w")[:, :, None]
    mean = reduce(grey, "b v 1 h w -> b v 1 1 1", "mean")
    paler = grey + SATURATION * (darker - grey)
    changed = images.clone()
    changed[:, 1::2] = (mean + CONTRAST * (paler - mean)).clamp(0, 1)
    return changed
