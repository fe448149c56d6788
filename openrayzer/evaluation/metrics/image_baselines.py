"""Baselines for images: predictions without a model."""

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.interfaces import InputError
from openrayzer.types import Views, select_views


def nearest_context(views: Views) -> Float[Tensor, "b vt 3 h w"]:
    """For each target view, the context view nearest in frame number; of two, the earlier."""
    return select_views(views.context_images, nearest_contexts(views, itself=True))


def nearest_contexts(views: Views, *, itself: bool) -> Int[Tensor, "b vt"]:
    """For each target, the position among the context views of the one nearest in frame number; of two, the earlier.

    Args:
        views: the clips.
        itself: whether a target that is a context view may be its own nearest. It always may if there is no other
            context view.
    """
    context = rearrange(select_views(views.frames, views.context), "b vc -> b 1 vc")
    target = rearrange(select_views(views.frames, views.target), "b vt -> b vt 1")
    # The distances are doubled, so the 1 added for a later frame only decides between equal distances.
    distance = 2 * (context - target).abs() + (context > target)
    if not itself:
        distance = torch.where(distance == 0, torch.iinfo(distance.dtype).max, distance)
    return distance.argmin(dim=-1)


def mean_context(views: Views) -> Float[Tensor, "b vt 3 h w"]:
    """For each target view, the mean of all context views."""
    return repeat(views.context_images.mean(dim=1), "b c h w -> b vt c h w", vt=views.target.shape[1])


def exchanged_targets(targets: int) -> Int[Tensor, " vt"]:
    """An order of the target views in which no view keeps its position: each moves by half the number of views.

    A render of the targets with their cameras in this order shows how much the cameras matter.

    Raises:
        InputError: there is only one target view.
    """
    if targets < 2:
        raise InputError(f"an exchange of cameras needs 2 target views or more, got {targets}")
    return torch.arange(targets).roll(-(targets // 2))
