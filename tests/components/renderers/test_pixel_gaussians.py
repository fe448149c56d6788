"""Renderer "gaussians": where Gaussians are, their limits, and its losses."""

import math

import pytest
import torch
from einops import rearrange

from openrayzer.geometry.rays import project, unproject
from openrayzer.interfaces import RENDERERS, InputError
from openrayzer.types import Cameras

SIZE = (16, 24)


def tokens(scale: float = 1.0) -> torch.Tensor:
    """Tokens (2, 3, 6, 32) of three views of 16 x 24 pixels with patches of 8."""
    return scale * torch.randn(2, 3, 6, 32, generator=torch.Generator().manual_seed(1))


def images() -> torch.Tensor:
    """Three views of 16 x 24 pixels."""
    return torch.rand(2, 3, 3, *SIZE, generator=torch.Generator().manual_seed(2))


def cameras() -> Cameras:
    """Parallel cameras in a row."""
    c2w = torch.eye(4).repeat(2, 3, 1, 1)
    c2w[..., 0, 3] = torch.tensor([0.0, 0.4, 1.0])
    return Cameras(c2w, torch.tensor([0.9, 1.2, 0.45, 0.55]).repeat(2, 3, 1))


@pytest.mark.parametrize("cell", [1, 2, 4])
def test_each_gaussian_is_on_the_ray_of_its_pixel_in_the_order_of_patches(small, cell):
    gaussians = small(RENDERERS, "gaussians", pixels_per_gaussian=cell).gaussians(tokens(), images(), cameras())
    means = rearrange(gaussians.means, "b (v each) xyz -> b v each xyz", v=3)
    assert means.shape[2] == 16 * 24 // cell**2
    places = project(means, cameras())
    y, x = torch.meshgrid(torch.arange(16 // cell), torch.arange(24 // cell), indexing="ij")
    grid = torch.stack([(x + 0.5) * cell / 24, (y + 0.5) * cell / 16], dim=-1)
    side = 8 // cell
    wanted = rearrange(grid, "(y p) (x q) two -> (y x p q) two", p=side, q=side)
    torch.testing.assert_close(places, wanted.expand_as(places), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("spacing", "near", "far", "start"),
    [("linear", 0.0, 8.0, 4.0), ("log", 0.5, 8.0, 2.0), ("disparity", 0.5, 8.0, 2 / (1 / 0.5 + 1 / 8))],
)
def test_distances_start_in_the_middle_and_stay_between_near_and_far(small, spacing, near, far, start):
    renderer = small(RENDERERS, "gaussians", spacing=spacing, near=near, far=far)

    def distances(scale: float) -> torch.Tensor:
        centres = cameras().c2w[:, :, None, :3, 3]
        means = renderer.gaussians(tokens(scale), images(), cameras()).means.unflatten(1, (3, -1))
        return (means - centres).norm(dim=-1)

    torch.testing.assert_close(distances(0.0), torch.full((2, 3, 384), start))
    with torch.no_grad():
        renderer.linear.weight.mul_(1e3)
    extreme = distances(1.0)
    assert extreme.min() < near + 0.05
    assert extreme.max() > far - 0.05
    assert near - 1e-5 <= extreme.min()
    assert extreme.max() <= far + 1e-5


def test_scales_and_opacities_start_at_their_biases_and_keep_their_limits(small):
    renderer = small(RENDERERS, "gaussians", min_log_scale=-6.0, min_opacity_logit=-4.0)
    start = renderer.gaussians(tokens(0.0), images(), cameras())
    assert start.scales.unique().item() == pytest.approx(math.exp(-3))
    assert start.opacities.unique().item() == pytest.approx(1 / (1 + math.exp(2)))
    with torch.no_grad():
        renderer.linear.weight.mul_(1e3)
    extreme = renderer.gaussians(tokens(), images(), cameras())
    assert extreme.scales.min().item() == pytest.approx(math.exp(-6))
    assert extreme.scales.max().item() == pytest.approx(math.exp(-2))
    assert extreme.opacities.min().item() == pytest.approx(1 / (1 + math.exp(4)))
    torch.testing.assert_close(extreme.rotations.norm(dim=-1), torch.ones(2, 1152))


def test_residual_colours_are_added_to_the_mean_colours_of_the_cells(small):
    for cell in (1, 2):
        predicted, residual = (
            small(RENDERERS, "gaussians", pixels_per_gaussian=cell, colours=colours)
            .gaussians(tokens(), images(), cameras())
            .harmonics
            for colours in ("predicted", "residual")
        )
        assert torch.equal(predicted[:, :, 1:], residual[:, :, 1:])
        added = 0.5 + 0.28209479177387814 * (residual - predicted)[:, :, 0]
        means = images().unflatten(-1, (-1, cell)).unflatten(-3, (-1, cell)).mean(dim=(-3, -1))
        side = 8 // cell
        wanted = rearrange(means, "b v c (y p) (x q) -> b (v y x p q) c", p=side, q=side)
        torch.testing.assert_close(added, wanted)


def test_training_clamps_images_and_evaluation_does_not(small):
    for clamped in (True, False):
        renderer = small(RENDERERS, "gaussians", clamp_in_training=clamped, background=(1.5, 0.5, -0.5))
        gaussians = renderer.gaussians(tokens(0.0), images(), cameras())
        far_away = Cameras(cameras().c2w.clone(), cameras().intrinsics)
        far_away.c2w[..., 2, 3] = 100.0  # all Gaussians are behind these cameras
        colours = [
            renderer.train(mode)(gaussians, far_away, SIZE).images[0, 0, :, 0, 0].tolist() for mode in (True, False)
        ]
        assert colours == [[1.0, 0.5, 0.0] if clamped else [1.5, 0.5, -0.5], [1.5, 0.5, -0.5]]


def test_losses_are_the_weighted_means_of_opacities_and_scales(small):
    gaussians = small(RENDERERS, "gaussians").gaussians(tokens(), images(), cameras())
    assert small(RENDERERS, "gaussians").losses(gaussians) == {}
    losses = small(RENDERERS, "gaussians", opacity_loss=0.5, scale_loss=2.0).losses(gaussians)
    assert losses["opacity"].item() == pytest.approx(0.5 * gaussians.opacities.mean().item())
    assert losses["scale"].item() == pytest.approx(2 * gaussians.scales.mean().item())


def test_depth_of_a_plane_of_gaussians(small):
    """Opaque Gaussians on the plane z = 2 give its depth in all views."""
    renderer = small(RENDERERS, "gaussians")
    plane = rearrange(unproject(torch.full((2, 3, *SIZE), 2.0), cameras()), "b v xyz h w -> b (v h w) xyz")
    start = renderer.gaussians(tokens(0.0), images(), cameras())
    flat = type(start)(plane, start.scales, start.rotations, torch.full_like(start.opacities, 0.99), start.harmonics)
    views = renderer(flat, cameras(), SIZE)
    inside = (slice(None), slice(1, 2), slice(None), slice(3, -3), slice(6, -6))
    torch.testing.assert_close(views.depth[inside], torch.full_like(views.depth[inside], 2.0), atol=1e-3, rtol=0)
    assert views.opacity[inside].min() > 0.95


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pixels_per_gaussian": 3}, "pixels_per_gaussian must divide patch_size 8, got 3"),
        ({"harmonics_degree": 4}, "harmonics_degree must be from 0 to 3, got 4"),
        ({"near": 8.0}, "near must be 0 or more and below far"),
        ({"spacing": "log"}, "near must be above 0 with the spacing 'log'"),
        ({"max_log_scale": -11.0}, "min_log_scale must be below max_log_scale"),
        ({"scale_loss": -1.0}, "opacity_loss and scale_loss must be 0 or more"),
    ],
)
def test_impossible_values_are_refused(small, given, message):
    with pytest.raises(InputError, match=message):
        small(RENDERERS, "gaussians", **given)
