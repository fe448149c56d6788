"""What costs nothing: predictions without a model, to be beaten."""

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.interfaces import InputError
from openrayzer.types import Views, select_views


def nearest_context(views: Views) -> Float[Tensor, "b vt 3 h w"]:
    """For each target view the context view nearest in frame number; of two equally near, the earlier."""
    return select_views(views.context_images, nearest_contexts(views, itself=True))


def nearest_contexts(views: Views, *, itself: bool) -> Int[Tensor, "b vt"]:
    """Number of the context view that is nearest to each target in frame number; of two equally near, the earlier.

    Args:
        views: the clips.
        itself: whether a target that is a context may be its own nearest; if not, and there is no other, it still is.
    """
    context = rearrange(select_views(views.frames, views.context), "b vc -> b 1 vc")
    target = rearrange(select_views(views.frames, views.target), "b vt -> b vt 1")
    # Doubled, so that the 1 for a later frame decides between equal distances and nothing else.
    distance = 2 * (context - target).abs() + (context > target)
    if not itself:
        distance = torch.where(distance == 0, torch.iinfo(distance.dtype).max, distance)
    return distance.argmin(dim=-1)


def mean_context(views: Views) -> Float[Tensor, "b vt 3 h w"]:
    """For each target view the mean of all context views."""
    return repeat(views.context_images.mean(dim=1), "b c h w -> b vt c h w", vt=views.target.shape[1])


def shuffled(targets: int) -> Int[Tensor, " vt"]:
    """An order of the target views in which none keeps its place: each takes that of the view half a round away.

    Rendering with the cameras in this order shows how much the cameras matter.

    Raises:
        InputError: a single view cannot change place.
    """
    if targets < 2:
        raise InputError(f"shuffling needs 2 target views or more, got {targets}")
    return torch.arange(targets).roll(-(targets // 2))
