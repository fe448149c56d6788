"""Baselines for cameras; they use no image."""

import math
from collections.abc import Callable, Mapping
from hashlib import sha256

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

from openrayzer.geometry.intrinsics import fov_to_focal, square_pixel_intrinsics
from openrayzer.geometry.rotations import pose_from, rotation_from_quaternion
from openrayzer.types import Cameras, Views

FIELD_OF_VIEW = math.radians(60)
"""Field of view of all baselines in radians, across the shorter image side."""


def constant_pose(views: Views) -> Cameras:
    """All cameras are equal. Their rotations are within the thresholds if the true camera hardly turns."""
    return _with_guessed_lens(torch.zeros_like(views.frames, dtype=torch.float32), views)


def straight_line(views: Views) -> Cameras:
    """Cameras move to the right at constant speed, by their frame numbers, and do not turn."""
    return _with_guessed_lens((views.frames - views.frames[:, :1]).float(), views)


def random_poses(views: Views) -> Cameras:
    """Uniformly distributed rotations and normally distributed centres, which depend only on the name of the scene."""
    drawn = torch.stack([_draws(scene, views.frames.shape[1]) for scene in views.scenes]).to(views.images.device)
    c2w = pose_from(rotation_from_quaternion(drawn[..., :4]), drawn[..., 4:])
    return Cameras(c2w, _guessed_intrinsics(views))


def _draws(scene: str, count: int) -> Float[Tensor, "v 7"]:
    digest = sha256(scene.encode("utf-8", "surrogatepass")).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
    return torch.randn(count, 7, generator=generator)


def _with_guessed_lens(x: Float[Tensor, "b v"], views: Views) -> Cameras:
    """Cameras that look along z from (x, 0, 0)."""
    centres = torch.stack([x, torch.zeros_like(x), torch.zeros_like(x)], dim=-1)
    rotation = repeat(torch.eye(3, device=x.device), "i j -> b v i j", b=x.shape[0], v=x.shape[1])
    return Cameras(pose_from(rotation, centres), _guessed_intrinsics(views))


def _guessed_intrinsics(views: Views) -> Float[Tensor, "b v 4"]:
    focal = fov_to_focal(torch.full(views.frames.shape, FIELD_OF_VIEW, device=views.images.device))
    return square_pixel_intrinsics(focal, (views.images.shape[3], views.images.shape[4]))


CAMERA_BASELINES: Mapping[str, Callable[[Views], Cameras]] = {
    function.__name__: function for function in (constant_pose, straight_line, random_poses)
}
"""All baselines by name."""
