"""Rays and projection: pixel centres, axes, Plücker coordinates, gradients."""

import pytest
import torch

from openrayzer.geometry.intrinsics import square_pixel_intrinsics
from openrayzer.geometry.rays import pixel_grid, plucker_rays, project, ray_directions, unproject
from openrayzer.geometry.rotations import se3_exp
from openrayzer.types import Cameras

SIZES = [(5, 8), (8, 5), (6, 6)]


def random_cameras(*, views: int = 3, dtype: torch.dtype = torch.float32) -> Cameras:
    generator = torch.Generator().manual_seed(0)
    c2w = se3_exp(torch.randn(2, views, 6, generator=generator, dtype=dtype))
    spread = torch.rand(2, views, 4, generator=generator, dtype=dtype)
    return Cameras(c2w, torch.tensor([0.6, 0.6, 0.3, 0.3], dtype=dtype) + 0.4 * spread)


def pixels_first(values: torch.Tensor) -> torch.Tensor:
    """(b, v, c, h, w) -> (b, v, h * w, c)."""
    return values.flatten(3).mT


@pytest.mark.parametrize("image_size", SIZES)
@pytest.mark.parametrize("distance", [0.5, 20.0])
def test_rays_pass_through_pixel_centres(image_size, distance):
    cameras = random_cameras()
    points = cameras.c2w[:, :, None, :3, 3] + distance * pixels_first(ray_directions(cameras, image_size))
    grid = pixel_grid(image_size, like=points).flatten(0, 1)
    torch.testing.assert_close(project(points, cameras), grid.expand(2, 3, -1, 2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("image_size", SIZES)
def test_unprojected_points_lie_at_their_pixels_and_depths(image_size):
    cameras = random_cameras(dtype=torch.float64)
    depth = 0.5 + torch.rand(2, 3, *image_size, generator=torch.Generator().manual_seed(1))
    points = unproject(depth.double(), cameras)
    grid = pixel_grid(image_size, like=points).flatten(0, 1)
    torch.testing.assert_close(project(pixels_first(points), cameras), grid.expand(2, 3, -1, 2))
    forward, centre = cameras.c2w[..., :3, 2], cameras.c2w[..., :3, 3]
    along = torch.einsum("bvchw, bvc -> bvhw", points, forward) - (forward * centre).sum(-1)[..., None, None]
    torch.testing.assert_close(along, depth.double())


def test_pixel_centres_lie_at_half():
    grid = pixel_grid((2, 4), like=torch.zeros(()))
    torch.testing.assert_close(grid[0, 0], torch.tensor([0.125, 0.25]))
    torch.testing.assert_close(grid[1, 3], torch.tensor([0.875, 0.75]))


def test_axes_are_right_down_forward():
    cameras = Cameras(torch.eye(4)[None, None], torch.tensor([[[0.5, 0.5, 0.5, 0.5]]]))
    directions = ray_directions(cameras, (2, 2))[0, 0]
    corner = torch.nn.functional.normalize(torch.tensor([0.5, -0.5, 1.0]), dim=0)
    torch.testing.assert_close(directions[:, 0, 1], corner)


def test_moment_comes_first_and_directions_are_unit():
    cameras = random_cameras()
    moment, direction = plucker_rays(cameras, (5, 8)).split(3, dim=2)
    torch.testing.assert_close(direction, ray_directions(cameras, (5, 8)))
    torch.testing.assert_close(direction.norm(dim=2), torch.ones(2, 3, 5, 8))
    origin = cameras.c2w[:, :, :3, 3, None, None].expand_as(direction)
    torch.testing.assert_close(moment, torch.linalg.cross(origin, direction, dim=2), atol=2e-6, rtol=0)


def test_rays_equal_the_formula_pixel_by_pixel():
    cameras = random_cameras(dtype=torch.float64)
    rays = plucker_rays(cameras, (3, 4))
    fx, fy, cx, cy = cameras.intrinsics[1, 2] * torch.tensor([4, 3, 4, 3])
    for row in range(3):
        for column in range(4):
            local = torch.stack([(column + 0.5 - cx) / fx, (row + 0.5 - cy) / fy, torch.ones_like(fx)])
            direction = cameras.c2w[1, 2, :3, :3] @ local
            direction = direction / direction.norm()
            expected = torch.cat([torch.linalg.cross(cameras.c2w[1, 2, :3, 3], direction), direction])
            torch.testing.assert_close(rays[1, 2, :, row, column], expected)


def test_rays_are_equivariant_to_rigid_motions():
    cameras = random_cameras()
    motion = se3_exp(torch.tensor([0.3, -1.0, 0.5, 2.0, 0.1, -0.4]))
    moved = plucker_rays(Cameras(motion @ cameras.c2w, cameras.intrinsics), (5, 8))
    moment, direction = pixels_first(plucker_rays(cameras, (5, 8))).split(3, dim=-1)
    new_direction = direction @ motion[:3, :3].T
    shift = torch.linalg.cross(motion[:3, 3].expand_as(new_direction), new_direction, dim=-1)
    expected = torch.cat([moment @ motion[:3, :3].T + shift, new_direction], dim=-1)
    torch.testing.assert_close(pixels_first(moved), expected, atol=1e-5, rtol=0)


def test_rays_of_a_view_do_not_depend_on_other_views():
    cameras = random_cameras()
    order = torch.tensor([[2, 0, 1], [2, 0, 1]])
    torch.testing.assert_close(plucker_rays(cameras.select(order), (5, 8)), plucker_rays(cameras, (5, 8))[:, [2, 0, 1]])


def test_gradients_are_correct():
    cameras = random_cameras(views=1, dtype=torch.float64)
    leaves = (cameras.c2w.requires_grad_(), cameras.intrinsics.requires_grad_())
    assert torch.autograd.gradcheck(lambda c2w, k: plucker_rays(Cameras(c2w, k), (2, 3)), leaves)
    points = torch.tensor([[[[0.1, 0.2, 0.3]]]] * 2, dtype=torch.float64) + cameras.c2w.detach()[:, :, None, :3, 2] * 5
    assert torch.autograd.gradcheck(lambda c2w, k: project(points, Cameras(c2w, k)), leaves)


def test_points_behind_the_camera_are_nan_and_gradients_stay_finite():
    cameras = Cameras(torch.eye(4)[None, None], square_pixel_intrinsics(torch.ones(1, 1), (4, 4)))
    points = torch.tensor([[[[0.0, 0.0, -1.0], [0.2, 0.1, 0.0], [0.0, 0.0, 2.0]]]], requires_grad=True)
    image = project(points, cameras)
    assert image[0, 0, :2].isnan().all()
    torch.testing.assert_close(image[0, 0, 2], torch.tensor([0.5, 0.5]))
    (gradient,) = torch.autograd.grad(image[0, 0, 2].sum(), points)
    assert gradient.isfinite().all()
