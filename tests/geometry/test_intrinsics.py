"""Intrinsics: units, crops, and fields of view."""

import math

import pytest
import torch

from openrayzer.geometry.intrinsics import (
    after_crop,
    focal_to_fov,
    fov_to_focal,
    from_pixels,
    square_pixel_intrinsics,
    to_pixels,
)
from openrayzer.geometry.rays import ray_directions
from openrayzer.types import Cameras

INTRINSICS = torch.tensor([[[0.9, 1.3, 0.48, 0.53]]])


def directions(intrinsics: torch.Tensor, image_size: tuple[int, int]) -> torch.Tensor:
    return ray_directions(Cameras(torch.eye(4)[None, None], intrinsics), image_size)


def test_pixels_are_width_height_width_height():
    torch.testing.assert_close(
        to_pixels(torch.tensor([1.0, 2.0, 0.5, 0.25]), (40, 100)), torch.tensor([100.0, 80.0, 50.0, 10.0])
    )


def test_from_pixels_undoes_to_pixels():
    torch.testing.assert_close(from_pixels(to_pixels(INTRINSICS, (48, 64)), (48, 64)), INTRINSICS)


def test_rays_of_a_crop_are_the_rays_of_the_image_at_the_same_pixels():
    cropped = after_crop(INTRINSICS, (48, 64), 7, 11, (20, 30))
    torch.testing.assert_close(directions(cropped, (20, 30)), directions(INTRINSICS, (48, 64))[..., 7:27, 11:41])


def test_a_crop_of_the_whole_image_changes_nothing():
    torch.testing.assert_close(after_crop(INTRINSICS, (48, 64), 0, 0, (48, 64)), INTRINSICS)


def test_a_crop_undoes_padding():
    padded = after_crop(INTRINSICS, (48, 64), -8, -4, (64, 72))
    torch.testing.assert_close(after_crop(padded, (64, 72), 8, 4, (48, 64)), INTRINSICS)


def test_resizing_does_not_change_intrinsics():
    """With odd factors, each old pixel centre is a new pixel centre."""
    large = directions(INTRINSICS, (8 * 3, 10 * 5))
    torch.testing.assert_close(large[..., 1::3, 2::5], directions(INTRINSICS, (8, 10)))


@pytest.mark.parametrize("degrees", [1.0, 43.6, 90.0, 120.0, 179.0])
def test_focal_and_field_of_view_undo_each_other(degrees):
    fov = torch.tensor(math.radians(degrees))
    torch.testing.assert_close(focal_to_fov(fov_to_focal(fov)), fov)


def test_a_field_of_view_of_ninety_degrees_has_a_focal_length_of_one_half():
    assert fov_to_focal(torch.tensor(math.pi / 2)).item() == pytest.approx(0.5)


@pytest.mark.parametrize("image_size", [(48, 64), (64, 48), (32, 32)])
def test_pixels_are_square_for_each_aspect_ratio(image_size):
    focal = torch.tensor([[0.7, 1.25]])
    fx, fy, cx, cy = to_pixels(square_pixel_intrinsics(focal, image_size), image_size).unbind(-1)
    torch.testing.assert_close(fx, focal * min(image_size))
    torch.testing.assert_close(fy, fx)
    assert (cx == image_size[1] / 2).all()
    assert (cy == image_size[0] / 2).all()


@pytest.mark.parametrize("image_size", [(48, 64), (64, 48)])
def test_field_of_view_spans_the_shorter_side_with_square_pixels(image_size):
    fov = torch.tensor(0.8)
    fx, fy, _, _ = square_pixel_intrinsics(fov_to_focal(fov), image_size).unbind(-1)
    torch.testing.assert_close(focal_to_fov(fy if image_size[0] < image_size[1] else fx), fov)


def test_gradients_are_correct():
    values = torch.tensor([0.6, 1.1], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda fov: square_pixel_intrinsics(fov_to_focal(fov), (3, 4)), values)
    assert torch.autograd.gradcheck(focal_to_fov, values)
