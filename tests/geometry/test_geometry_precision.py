"""Geometry computes in float32 under bfloat16 autocast and with bfloat16 inputs."""

import pytest
import torch

from openrayzer.geometry import intrinsics, poses, rays, rotations
from openrayzer.geometry.precision import product, transform
from openrayzer.types import Cameras

SIZE = (5, 8)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


C2W = rotations.se3_exp(normal(2, 3, 6))
ROTATION = C2W[..., :3, :3]
POINTS = normal(2, 3, 9, 3)
INTRINSICS = 0.5 + normal(2, 3, 4).abs()

FUNCTIONS = {
    "rotation_from_6d": (rotations.rotation_from_6d, normal(2, 3, 6)),
    "rotation_from_9d": (rotations.rotation_from_9d, normal(2, 3, 9)),
    "rotation_from_quaternion": (rotations.rotation_from_quaternion, normal(2, 3, 4)),
    "quaternion_from_rotation": (rotations.quaternion_from_rotation, ROTATION),
    "so3_exp": (rotations.so3_exp, normal(2, 3, 3)),
    "so3_log": (rotations.so3_log, ROTATION),
    "se3_exp": (rotations.se3_exp, normal(2, 3, 6)),
    "geodesic_angle": (lambda rotation: rotations.geodesic_angle(rotation, rotation.flip(0)), ROTATION),
    "pose_from": (lambda rotation: rotations.pose_from(rotation, rotation[..., 0]), ROTATION),
    "invert": (poses.invert, C2W),
    "relative_to": (lambda c2w: poses.relative_to(c2w, torch.tensor([1, 2])), C2W),
    "normalise_poses": (poses.normalise_poses, C2W),
    "interpolate_poses": (lambda c2w: poses.interpolate_poses(c2w, c2w.flip(0), torch.rand(2, 3)), C2W),
    "interpolate_cameras": (lambda c2w: poses.interpolate_cameras(Cameras(c2w, INTRINSICS), 7).c2w, C2W),
    "plucker_rays": (lambda c2w: rays.plucker_rays(Cameras(c2w, INTRINSICS), SIZE), C2W),
    "plucker_rays_intrinsics": (lambda k: rays.plucker_rays(Cameras(C2W, k), SIZE), INTRINSICS),
    "ray_directions": (lambda c2w: rays.ray_directions(Cameras(c2w, INTRINSICS), SIZE), C2W),
    "project": (lambda c2w: rays.project(POINTS, Cameras(c2w, INTRINSICS)), C2W),
    "to_pixels": (lambda k: intrinsics.to_pixels(k, SIZE), INTRINSICS),
    "from_pixels": (lambda k: intrinsics.from_pixels(k, SIZE), INTRINSICS),
    "after_crop": (lambda k: intrinsics.after_crop(k, SIZE, 1, 2, (3, 4)), INTRINSICS),
    "focal_to_fov": (intrinsics.focal_to_fov, INTRINSICS),
    "fov_to_focal": (intrinsics.fov_to_focal, INTRINSICS),
    "square_pixel_intrinsics": (lambda focal: intrinsics.square_pixel_intrinsics(focal, SIZE), INTRINSICS),
}
by_function = pytest.mark.parametrize(("function", "values"), FUNCTIONS.values(), ids=FUNCTIONS)


def value_and_gradient(function, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    leaf = values.clone().requires_grad_()
    result = function(leaf)
    (gradient,) = torch.autograd.grad(result.float().square().nansum(), leaf)
    return result.detach(), gradient


@by_function
def test_autocast_changes_nothing(function, values):
    expected = value_and_gradient(function, values)
    with torch.autocast(device_type="cpu", dtype=torch.bfloat16):
        autocast = value_and_gradient(function, values)
    assert autocast[0].dtype == torch.float32
    torch.testing.assert_close(autocast, expected, atol=0, rtol=0, equal_nan=True)


@by_function
def test_bfloat16_inputs_become_float32_first(function, values):
    rounded = values.bfloat16()
    torch.manual_seed(0)
    result = function(rounded)
    assert result.dtype == torch.float32
    torch.manual_seed(0)
    torch.testing.assert_close(result, function(rounded.float()), atol=0, rtol=0, equal_nan=True)


def test_functions_run_on_the_meta_device():
    values = torch.empty(2, 3, 9, device="meta")
    for to_rotation, width in ((rotations.rotation_from_6d, 6), (rotations.rotation_from_9d, 9)):
        c2w = rotations.pose_from(to_rotation(values[..., :width]), values[..., :3])
        cameras = Cameras(c2w, intrinsics.square_pixel_intrinsics(values[..., 0], SIZE))
        assert rays.plucker_rays(cameras, SIZE).shape == (2, 3, 6, *SIZE)


def test_product_and_transform_broadcast():
    first, second, vector = normal(4, 1, 3, 3), normal(5, 3, 2), normal(5, 3)
    torch.testing.assert_close(product(first, second), first @ second)
    torch.testing.assert_close(transform(first, vector), (first @ vector[..., None])[..., 0])
