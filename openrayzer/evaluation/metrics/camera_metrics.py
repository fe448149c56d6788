"""Metrics of estimated cameras against true ones, independent of frame and scale; computed in float64.

All metrics except ``translation_error`` and ``focal_error`` compare the relative poses of all pairs of views. The
translation of a pair is a direction, compared by angle. "Folded" means that a direction and its opposite count as
equal, as in the published tables. The error of a pair with coinciding centres, estimated or true, is 90 degrees.
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
"""Largest errors in degrees at which a pair counts as right for RRA, RTA and RPA."""

AUC_THRESHOLDS = (5, 10, 20, 30)
"""Upper ends, in degrees, of the area under the accuracy curve."""


def pose_metrics(estimated: Cameras, true: Cameras) -> dict[str, float]:
    """All metrics of one scene. An undefined metric, such as one over the pairs of a single view, is NaN.

    Poses that are not finite are wrong at every threshold, and means and medians that include them are NaN.

    ``rra@t``: share of pairs with a rotation error up to t degrees.
    ``rta@t``: share of pairs with an error of the translation's direction up to t degrees, folded.
    ``rta_unfolded@t``: the same, unfolded.
    ``rpa@t``: share of pairs with both errors up to t degrees, folded.
    ``auc@t``: mean over the thresholds 1, 2, ..., t of the share of pairs with both errors below, folded.
    ``rotation_error_deg``: median rotation error over pairs.
    ``translation_error``: RMS distance of the centres after the similarity that aligns the estimated poses with the
    true ones, divided by the largest distance between two true centres.
    ``focal_error``: median over views and both axes of |f / f_true - 1|.

    Args:
        estimated: cameras of one scene, (1, v).
        true: true cameras of the same views.

    Raises:
        ValueError: there is more than one scene, or the numbers of views differ.

    Source: RPA from E-RayZer, its evaluation code; AUC from Wang et al., VGGT: Visual Geometry Grounded Transformer.
    """
    if estimated.c2w.shape != true.c2w.shape or true.c2w.shape[0] != 1:
        raise ValueError(f"expected one scene and the same views, got {estimated.c2w.shape} and {true.c2w.shape}")
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
    """Angle between the relative rotations of each pair of views, in degrees, 0 to 180."""
    first, second = _pairs(poses)
    relative, true_relative = (
        product(rotation[:, first].mT, rotation[:, second]) for rotation in (poses[..., :3, :3], true[..., :3, :3])
    )
    return geodesic_angle(relative, true_relative).rad2deg()


def direction_errors(poses: Float[Tensor, "b v 4 4"], true: Float[Tensor, "b v 4 4"]) -> Float[Tensor, "b pairs"]:
    """Angle between the directions in which the first view of each pair sees the second centre, in degrees, 0 to 180.

    The angle is 90 if there is no direction.
    """
    direction, true_direction = relative_centres(poses), relative_centres(true)
    sine = torch.linalg.cross(direction, true_direction, dim=-1).norm(dim=-1)
    cosine = (direction * true_direction).sum(dim=-1)
    defined = (direction != 0).any(dim=-1) & (true_direction != 0).any(dim=-1)
    return torch.where(defined, torch.atan2(sine, cosine).rad2deg(), 90.0)


def relative_centres(poses: Float[Tensor, "b v 4 4"]) -> Float[Tensor, "b pairs 3"]:
    """Centre of the second view of each pair in the frame of the first; exactly 0 if the centres differ by rounding."""
    first, second = _pairs(poses)
    rotation, centre = poses[..., :3, :3], poses[..., :3, 3]
    offset = transform(rotation[:, first].mT, centre[:, second] - centre[:, first])
    # A pose that is not finite does not affect the other pairs.
    finite = torch.where(centre.isfinite(), centre.abs(), 0.0)
    reach = rearrange(finite.amax(dim=(1, 2)), "b -> b 1 1")
    return torch.where(offset.norm(dim=-1, keepdim=True) > SMALLEST_EXTENT * reach, offset, 0.0)


def accuracy_area(errors: Float[Tensor, " pairs"], limit: int) -> float:
    """Mean over the thresholds 1, 2, ..., ``limit`` degrees of the share of errors below; NaN if there are none."""
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
    return float(right.double().mean())  # NaN if empty


def _median(values: Float[Tensor, " n"]) -> float:
    """The median; the mean of the middle two of an even number of values; NaN if there are no values."""
    return float(values.quantile(0.5)) if values.numel() else float("nan")
