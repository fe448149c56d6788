"""Measures of a set of cameras: the point that they look at, the up direction, their extent and distances."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from openrayzer.geometry.poses import SHORTEST_MEAN_AXIS, mean_pose
from openrayzer.geometry.precision import full_precision, no_autocast, transform
from openrayzer.geometry.rotations import geodesic_angle, pose_from, rotation_from_6d

PARALLEL = 3e-4
"""Viewing rays count as parallel below this mean squared sine of their angles to the best common axis: one degree."""

FALLBACK_DEPTH = 3.0
"""Distance of the pivot from the mean camera in extents of the centres, if the viewing rays do not meet."""


def look_at(
    centre: Float[Tensor, "*batch 3"], target: Float[Tensor, "*#batch 3"], up: Float[Tensor, "*#batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """Poses (camera to world) of cameras at ``centre`` that look at ``target``.

    Args:
        centre: camera centres.
        target: points in the world.
        up: direction in the world that points up in the images, of any length. If a camera looks along ``up``, it
            gets one of the possible roll angles.
    """
    with no_autocast(centre):
        centre = full_precision(centre)
        forward = F.normalize(full_precision(target) - centre, dim=-1)
        down = F.normalize(-full_precision(up), dim=-1).expand_as(forward)
        z, y, left = rotation_from_6d(torch.cat([forward, down], dim=-1)).unbind(-1)
        return pose_from(torch.stack([-left, y, z], dim=-1), centre)


def pivot_of(c2w: Float[Tensor, "b v 4 4"]) -> Float[Tensor, "b 3"]:
    """The point nearest to all viewing rays, by least squares.

    If the rays are parallel or meet behind the cameras, the pivot lies on the axis of the mean camera, at distance
    ``FALLBACK_DEPTH`` * ``extent_of(c2w)``. The distance is 1 if all centres are equal.
    """
    with no_autocast(c2w):
        c2w = full_precision(c2w)
        centre, forward = c2w[..., :3, 3], c2w[..., :3, 2]
        mean = centre.mean(dim=1)  # (b, 3)
        across = torch.eye(3, dtype=c2w.dtype, device=c2w.device) - forward[..., :, None] * forward[..., None, :]
        normal = across.mean(dim=1)  # (b, 3, 3)
        right = transform(across, centre - mean[:, None]).mean(dim=1)
        meeting = torch.linalg.eigvalsh(normal)[..., 0] > PARALLEL
        solvable = normal + torch.where(meeting, 0.0, 1.0)[:, None, None] * torch.eye(3).to(normal)
        point = mean + torch.linalg.solve(solvable, right)
        ahead = ((point[:, None] - centre) * forward).sum(-1).mean(dim=1) > 0
        extent = extent_of(c2w)
        depth = torch.where(extent > 0, FALLBACK_DEPTH * extent, 1.0)
        fallback = mean + depth[:, None] * mean_pose(c2w)[:, 0, :3, 2]
        return torch.where((meeting & ahead)[:, None], point, fallback)


def mean_up(c2w: Float[Tensor, "b v 4 4"]) -> Float[Tensor, "b 3"]:
    """Mean upward direction of the images, of length 1. If the directions cancel, it is the one of the first view."""
    up = -full_precision(c2w)[..., :3, 1]
    mean = up.mean(dim=1)
    return F.normalize(torch.where(mean.norm(dim=-1, keepdim=True) > SHORTEST_MEAN_AXIS, mean, up[:, 0]), dim=-1)


def extent_of(c2w: Float[Tensor, "b v 4 4"]) -> Float[Tensor, " b"]:
    """Largest distance of a centre from the mean of the centres; exactly 0 if all centres are equal."""
    centre = full_precision(c2w)[..., :3, 3]
    apart = (centre - centre[:, :1]).abs().amax(dim=(1, 2)) > 0  # rounding can move the mean of equal numbers
    return torch.where(apart, (centre - centre.mean(dim=1, keepdim=True)).norm(dim=-1).amax(dim=1), 0.0)


def camera_distance(
    first: Float[Tensor, "*batch 4 4"], second: Float[Tensor, "*batch 4 4"], extent: Float[Tensor, "*#batch"]
) -> Float[Tensor, "*batch"]:
    """Distance of two poses: sqrt(angle^2 + (centre distance / extent)^2), with the angle between them in radians.

    Only the angle counts where ``extent`` is 0.
    """
    first, second = full_precision(first), full_precision(second)
    angle = geodesic_angle(first[..., :3, :3], second[..., :3, :3])
    distance = (first[..., :3, 3] - second[..., :3, 3]).norm(dim=-1)
    return torch.hypot(angle, torch.where(extent > 0, distance / torch.where(extent > 0, extent, 1.0), 0.0))
