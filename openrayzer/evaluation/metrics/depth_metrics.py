"""Metrics of depth maps against true depth, independent of the scale of each view."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

DELTA = 1.25
"""Largest ratio between a depth and the true depth at which a pixel counts as right."""
ABS_REL, RIGHT = "depth_abs_rel", f"depth_delta_{DELTA}"


def depth_metrics(predicted: Float[Tensor, "v h w"], true: Float[Tensor, "v h w"]) -> dict[str, float]:
    """Means over the views of a scene that have true depth; NaN if no view has.

    ``depth_abs_rel``: mean over pixels of |d - d_true| / d_true, lower is better.
    ``depth_delta_1.25``: share of pixels at which the larger of d / d_true and d_true / d is below 1.25.

    Each view is multiplied by the median of d_true / d first, because neither the scale of a scene nor that of a
    model's world is known from images. Pixels with an unknown true depth do not count. A predicted depth that is not
    finite or not above 0 is wrong, and ``depth_abs_rel`` of its view is NaN.

    Args:
        predicted: depth along the optical axis in any unit.
        true: true depth; 0 where it is unknown.

    Source: Eigen et al. 2014, "Depth Map Prediction from a Single Image using a Multi-Scale Deep Network", section 4.
    """
    views = [
        _of_view(some.double(), truth.double())
        for some, truth in zip(predicted, true, strict=True)
        if (truth > 0).any()
    ]
    means = torch.tensor(views, dtype=torch.float64).reshape(-1, 2).mean(dim=0)
    return dict(zip((ABS_REL, RIGHT), means.tolist(), strict=True))


def _of_view(predicted: Float[Tensor, "h w"], true: Float[Tensor, "h w"]) -> tuple[float, float]:
    known = true > 0
    depth, truth = predicted[known], true[known]
    usable = depth.isfinite() & (depth > 0)
    if not usable.any():
        return math.nan, 0.0
    scaled = depth * (truth[usable] / depth[usable]).median()
    ratio = torch.maximum(scaled / truth, truth / scaled)
    right = float((usable & (ratio < DELTA)).double().mean())
    return (float(((scaled - truth).abs() / truth).mean()) if usable.all() else math.nan), right
