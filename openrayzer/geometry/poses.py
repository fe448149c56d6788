"""Rigid camera poses: inverse, change of frame, scene normalisation, interpolation.

Functions compute and return float32, or float64 if the input is float64, without autocast.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.geometry.precision import full_precision, no_autocast, product, transform
from openrayzer.geometry.rotations import pose_from, rotation_from_6d, so3_exp, so3_log
from openrayzer.types import Cameras, select_views

SHORTEST_MEAN_AXIS = 1e-3
"""A mean of unit axes that is shorter than this has no usable direction; the axes of the first view replace it."""

SMALLEST_EXTENT = 1e-6
"""Camera centres count as equal if their extent is at most this share of their distance from the origin (rounding)."""


def invert(c2w: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Inverse of rigid motions, (R, t) to (R^T, -R^T t)."""
    with no_autocast(c2w):
        rotation, translation = _parts(c2w)
        return pose_from(rotation.mT, -transform(rotation.mT, translation))


def relative_to(c2w: Float[Tensor, "b v 4 4"], view: Int[Tensor, " b"]) -> Float[Tensor, "b v 4 4"]:
    """Poses in the frame of one view of each batch element; the pose of this view becomes the identity.

    Args:
        c2w: camera to world, OpenCV axes.
        view: position of the reference view of each batch element.
    """
    with no_autocast(c2w):
        return _in_frame(c2w, select_views(c2w, view[:, None]))


def normalise_poses(c2w: Float[Tensor, "b v 4 4"], *, scene_scale: float = 1.35) -> Float[Tensor, "b v 4 4"]:
    """Poses in the frame of the mean camera, scaled so that the largest coordinate of a centre is 1 / ``scene_scale``.

    The mean camera has the mean centre, the mean viewing direction and the mean down direction. If the mean
    directions cancel, the directions of the first view replace them. If all centres are equal, they become 0.

    Args:
        c2w: camera to world, OpenCV axes.
        scene_scale: above 0.

    Source: the code of Jin et al. 2024, "LVSM: A Large View Synthesis Model with Minimal 3D Inductive Bias".
    """
    with no_autocast(c2w):
        c2w = full_precision(c2w)
        centred = _in_frame(c2w, mean_pose(c2w))
        extent = centred[..., :3, 3].abs().amax(dim=(1, 2))
        reach = c2w[..., :3, 3].abs().amax(dim=(1, 2))
        apart = extent > SMALLEST_EXTENT * reach
        scale = torch.where(apart, 1 / (scene_scale * torch.where(apart, extent, 1.0)), 0.0)
        return pose_from(centred[..., :3, :3], centred[..., :3, 3] * scale[:, None, None])


def mean_pose(c2w: Float[Tensor, "b v 4 4"]) -> Float[Tensor, "b 1 4 4"]:
    """Pose of the mean camera, see ``normalise_poses``."""
    mean = c2w.mean(dim=1, keepdim=True)
    down, forward = mean[..., :3, 1], mean[..., :3, 2]
    direction = torch.nn.functional.normalize(forward, dim=-1)
    spread = torch.linalg.cross(direction, down, dim=-1).norm(dim=-1, keepdim=True)
    usable = (forward.norm(dim=-1, keepdim=True) > SHORTEST_MEAN_AXIS) & (spread > SHORTEST_MEAN_AXIS)
    forward = torch.where(usable, forward, c2w[:, :1, :3, 2])
    down = torch.where(usable, down, c2w[:, :1, :3, 1])
    z, y, left = rotation_from_6d(torch.cat([forward, down], dim=-1)).unbind(-1)
    return pose_from(torch.stack([-left, y, z], dim=-1), mean[..., :3, 3])


def interpolate_poses(
    start: Float[Tensor, "*batch 4 4"], end: Float[Tensor, "*batch 4 4"], fraction: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch 4 4"]:
    """Poses between ``start`` (fraction 0) and ``end`` (fraction 1).

    The rotation follows the shorter geodesic at constant angular speed. The centre moves on a line.
    """
    with no_autocast(start):
        fraction = full_precision(fraction)[..., None]
        (start_rotation, start_centre), (end_rotation, end_centre) = _parts(start), _parts(end)
        between = so3_log(product(start_rotation.mT, end_rotation))
        rotation = product(start_rotation, so3_exp(fraction * between))
        return pose_from(rotation, torch.lerp(start_centre, end_centre, fraction))


def interpolate_cameras(cameras: Cameras, num_frames: int) -> Cameras:
    """``num_frames`` cameras from the first view to the last, with piecewise ``interpolate_poses`` between views.

    The views are evenly spaced in time. The path passes exactly through each view if ``num_frames`` - 1 is a multiple
    of the number of views - 1. If there is one view, all frames show it.

    Raises:
        ValueError: ``num_frames`` is below 1.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames must be 1 or more, got {num_frames}")
    c2w, intrinsics = full_precision(cameras.c2w), full_precision(cameras.intrinsics)
    batch, last = c2w.shape[0], cameras.num_views - 1
    position = torch.linspace(0, last, num_frames, dtype=c2w.dtype, device=c2w.device)
    before = position.long().clamp(max=max(last - 1, 0))
    after = (before + 1).clamp(max=last)
    fraction = (position - before).expand(batch, -1)
    poses = interpolate_poses(c2w[:, before], c2w[:, after], fraction)
    return Cameras(poses, torch.lerp(intrinsics[:, before], intrinsics[:, after], fraction[..., None]))


def _parts(pose: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation (..., 3, 3) and translation (..., 3)."""
    pose = full_precision(pose)
    return pose[..., :3, :3], pose[..., :3, 3]


def _in_frame(c2w: Float[Tensor, "b v 4 4"], frame: Float[Tensor, "b 1 4 4"]) -> Float[Tensor, "b v 4 4"]:
    """Poses in the frame of the pose ``frame``. Centres are subtracted first, which is exact for nearby cameras."""
    (rotation, centre), (frame_rotation, frame_centre) = _parts(c2w), _parts(frame)
    inverse = frame_rotation.mT
    return pose_from(product(inverse, rotation), transform(inverse, centre - frame_centre))
