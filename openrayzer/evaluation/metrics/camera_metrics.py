"""How well estimated cameras match true ones, whatever frame and scale they were estimated in; float64 throughout.

All but ``translation_error`` and ``focal_error`` compare the relative poses of all pairs of views. A pair's translation
is a direction, compared by angle; folded means that a direction and its opposite count as equal, as in the published
tables. A pair whose two centres coincide, in either set, counts as 90 degrees.
"""

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.geometry.poses import SMALLEST_EXTENT
from openrayzer.geometry.precision import product, transform
from openrayzer.geometry.rotations import geodesic_angle
from openrayzer.geometry.similarity import similarity_between
from openrayzer.types import Cameras

THRESHOLDS = (5, 15, 30)
"""Degrees up to which a pair counts as right: RRA, RTA and RPA."""

AUC_THRESHOLDS = (5, 10, 20, 30)
"""Degrees up to which the area under the accuracy curve is taken."""


def pose_metrics(estimated: Cameras, true: Cameras) -> dict[str, float]:
    """What can be said of one scene's cameras; what is not defined is NaN, such as pairs of a single view.

    Poses that are not finite are wrong within every threshold, and errors over them are NaN.

    ``rra@t``: share of pairs whose rotation is off by t degrees or less.
    ``rta@t``: the same of the translation's direction, folded; ``rta_unfolded@t``: unfolded.
    ``rpa@t``: share of pairs for which both hold, folded.
    ``auc@t``: mean over the thresholds 1, 2, ..., t of the share of pairs of which both are below, folded.
    ``rotation_error_deg``: median over pairs.
    ``translation_error``: root mean square distance of the centres after the similarity that lays the estimated poses
    onto the true ones, divided by the largest distance between two true centres.
    ``focal_error``: median over views and both axes of |f / f_true - 1|.

    Args:
        estimated: one batch element.
        true: the same views.

    Raises:
        ValueError: more than one scene, or another number of views.

    Source: RPA from E-RayZer, its evaluation code; AUC from Wang et al., VGGT: Visual Geometry Grounded Transformer.
    """
    if estimated.c2w.shape != true.c2w.shape or true.c2w.shape[0] != 1:
        raise ValueError(f"one scene each, the same views: got {estimated.c2w.shape} and {true.c2w.shape}")
    poses, true_poses = estimated.c2w.double(), true.c2w.double()
    rotation = rotation_errors(poses, true_poses)[0]
    unfolded = direction_errors(poses, true_poses)[0]
    folded = torch.minimum(unfolded, 180 - unfolded)
    both = torch.maximum(rotation, folded)
    named = {"rra": rotation, "rta": folded, "rta_unfolded": unfolded, "rpa": both}
    metrics = {f"{name}@{limit}": _share(errors <= limit) for name, errors in named.items() for limit in THRESHOLDS}
    metrics |= {f"auc@{limit}": accuracy_area(both, limit) for limit in AUC_THRESHOLDS}
    metrics["rotation_error_deg"] = _median(rotation)
    metrics["translation_error"] = _translation_error(poses, true_poses)
    ratio = estimated.intrinsics[..., :2].double() / true.intrinsics[..., :2].double()
    metrics["focal_error"] = _median((ratio - 1).abs().flatten())
    return metrics


def rotation_errors(poses: Float[Tensor, "b v 4 4"], true: Float[Tensor, "b v 4 4"]) -> Float[Tensor, "b pairs"]:
    """Degrees between the relative rotations of each pair of views, first before second; 0 to 180."""
    first, second = _pairs(poses)
    relative, true_relative = (
        product(rotation[:, first].mT, rotation[:, second]) for rotation in (poses[..., :3, :3], true[..., :3, :3])
    )
    return geodesic_angle(relative, true_relative).rad2deg()


def direction_errors(poses: Float[Tensor, "b v 4 4"], true: Float[Tensor, "b v 4 4"]) -> Float[Tensor, "b pairs"]:
    """Degrees between the directions in which the first view of each pair sees the second's centre; 0 to 180.

    90 where there is no direction.
    """
    direction, true_direction = relative_centres(poses), relative_centres(true)
    sine = torch.linalg.cross(direction, true_direction, dim=-1).norm(dim=-1)
    cosine = (direction * true_direction).sum(dim=-1)
    defined = (direction != 0).any(dim=-1) & (true_direction != 0).any(dim=-1)
    return torch.where(defined, torch.atan2(sine, cosine).rad2deg(), 90.0)


def relative_centres(poses: Float[Tensor, "b v 4 4"]) -> Float[Tensor, "b pairs 3"]:
    """Where the first view of each pair sees the second's centre; exactly 0 for centres that differ by rounding."""
    first, second = _pairs(poses)
    rotation, centre = poses[..., :3, :3], poses[..., :3, 3]
    offset = transform(rotation[:, first].mT, centre[:, second] - centre[:, first])
    finite = torch.where(centre.isfinite(), centre.abs(), 0.0)  # one broken pose must not spoil the other pairs
    reach = rearrange(finite.amax(dim=(1, 2)), "b -> b 1 1")
    return torch.where(offset.norm(dim=-1, keepdim=True) > SMALLEST_EXTENT * reach, offset, 0.0)


def accuracy_area(errors: Float[Tensor, " pairs"], limit: int) -> float:
    """Mean over the thresholds 1, 2, ..., ``limit`` degrees of the share of errors below; NaN without errors."""
    thresholds = torch.arange(1, limit + 1, device=errors.device)
    return _share(errors[:, None] < thresholds)


def _pairs(poses: Float[Tensor, "b v 4 4"]) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """All v (v - 1) / 2 pairs of views."""
    first, second = torch.triu_indices(poses.shape[1], poses.shape[1], offset=1, device=poses.device)
    return first, second


def _translation_error(poses: Float[Tensor, "1 v 4 4"], true: Float[Tensor, "1 v 4 4"]) -> float:
    aligned = similarity_between(poses, true).poses(poses)
    distance = (aligned - true)[0, :, :3, 3].square().sum(dim=-1).mean().sqrt()
    offsets = relative_centres(true)[0].norm(dim=-1)
    return float(distance / offsets.max()) if (offsets > 0).any() else float("nan")


def _share(right: Tensor) -> float:
    return float(right.double().mean())  # the mean of nothing is NaN


def _median(values: Float[Tensor, " n"]) -> float:
    """Of an even number of values, the mean of the middle two; NaN without values."""
    return float(values.quantile(0.5)) if values.numel() else float("nan")
