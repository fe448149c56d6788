"""Where cameras stand and look: the point in front of them, which way is up, how far apart they are."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from openrayzer.geometry.poses import SHORTEST_MEAN_AXIS, mean_pose
from openrayzer.geometry.precision import full_precision, no_autocast, transform
from openrayzer.geometry.rotations import geodesic_angle, pose_from, rotation_from_6d

PARALLEL = 3e-4
"""Mean squared sine of the angles among rays below which the point where they meet means nothing: one degree."""

FALLBACK_DEPTH = 3.0
"""How far in front of the mean camera the pivot is, in extents of the centres, where viewing rays do not meet."""


def look_at(
    centre: Float[Tensor, "*batch 3"], target: Float[Tensor, "*#batch 3"], up: Float[Tensor, "*#batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """Camera to world of cameras that look at ``target``, with ``up`` pointing up in their images.

    A camera that looks along ``up`` is turned about its axis in one of the possible ways.
    """
    with no_autocast(centre):
        centre = full_precision(centre)
        forward = F.normalize(full_precision(target) - centre, dim=-1)
        down = F.normalize(-full_precision(up), dim=-1).expand_as(forward)
        z, y, left = rotation_from_6d(torch.cat([forward, down], dim=-1)).unbind(-1)
        return pose_from(torch.stack([-left, y, z], dim=-1), centre)


def pivot_of(c2w: Float[Tensor, "b v 4 4"]) -> Float[Tensor, "b 3"]:
    """The point nearest to all viewing rays, in the sense of least squares.

    Where the rays are parallel, or meet behind the cameras, it is a point in front of the mean camera,
    ``FALLBACK_DEPTH`` times as far as the centres reach from their mean, or at distance 1 if they are all equal.
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
        reach = extent_of(c2w)
        depth = torch.where(reach > 0, FALLBACK_DEPTH * reach, 1.0)
        stand_in = mean + depth[:, None] * mean_pose(c2w)[:, 0, :3, 2]
        return torch.where((meeting & ahead)[:, None], point, stand_in)


def mean_up(c2w: Float[Tensor, "b v 4 4"]) -> Float[Tensor, "b 3"]:
    """The mean upward direction of the images, of length 1; the first view's where the directions cancel."""
    up = -full_precision(c2w)[..., :3, 1]
    mean = up.mean(dim=1)
    return F.normalize(torch.where(mean.norm(dim=-1, keepdim=True) > SHORTEST_MEAN_AXIS, mean, up[:, 0]), dim=-1)


def extent_of(c2w: Float[Tensor, "b v 4 4"]) -> Float[Tensor, " b"]:
    """The largest distance of a centre from the mean of the centres; exactly 0 where they are all equal."""
    centre = full_precision(c2w)[..., :3, 3]
    apart = (centre - centre[:, :1]).abs().amax(dim=(1, 2)) > 0  # the mean of equal numbers may be rounded
    return torch.where(apart, (centre - centre.mean(dim=1, keepdim=True)).norm(dim=-1).amax(dim=1), 0.0)


def camera_distance(
    first: Float[Tensor, "*batch 4 4"], second: Float[Tensor, "*batch 4 4"], extent: Float[Tensor, "*#batch"]
) -> Float[Tensor, "*batch"]:
    """How different two poses are: the angle between them in radians and the distance of their centres in extents,
    taken together as the sides of a right angle; the angle alone where ``extent`` is 0.
    """
    first, second = full_precision(first), full_precision(second)
    angle = geodesic_angle(first[..., :3, :3], second[..., :3, :3])
    distance = (first[..., :3, 3] - second[..., :3, 3]).norm(dim=-1)
    return torch.hypot(angle, torch.where(extent > 0, distance / torch.where(extent > 0, extent, 1.0), 0.0))
