"""Renderer "surface_gaussians": places, sizes and colours of its Gaussians, and views of painted rooms."""

from dataclasses import replace

import pytest
import torch
from painted_room import painted_rooms

from openrayzer.components.renderers.surface_gaussians import SurfaceGaussians
from openrayzer.evaluation.metrics.image_baselines import nearest_context
from openrayzer.evaluation.metrics.image_metrics import psnr
from openrayzer.geometry.rays import project
from openrayzer.geometry.rotations import so3_exp
from openrayzer.interfaces import RASTERISERS, Gaussians, InputError
from openrayzer.layers.image_sampling import blurred
from openrayzer.types import Cameras, Views

SIZE = (24, 32)


def built(**given) -> SurfaceGaussians:
    torch.manual_seed(0)
    return SurfaceGaussians(rasteriser=RASTERISERS["torch"](near=0.05), **given).eval()


def awake(renderer: SurfaceGaussians) -> SurfaceGaussians:
    """The renderer with random weights in place of those that start at zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in (renderer.plane_logits.weight, renderer.head[-1].weight):
            weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
    return renderer


@pytest.fixture
def views() -> Views:
    """One painted room, in units of about its mean depth."""
    views = painted_rooms(1, image_size=SIZE)
    c2w = views.cameras.c2w.clone()
    c2w[..., :3, 3] /= 2
    return replace(views, cameras=replace(views.cameras, c2w=c2w))


def scene_of(renderer: SurfaceGaussians, views: Views, cameras: Cameras, **given) -> Gaussians:
    """The Gaussians of the context views, from equal rough depths."""
    grid = torch.ones(*views.context.shape, 6, 8)
    arguments = {"inverse_depth": grid, "agreement": grid} | given
    return renderer.gaussians(views.context_images, cameras.select(views.context), **arguments)


@pytest.mark.parametrize("cell", [1, 2])
@torch.no_grad()
def test_each_gaussian_is_on_the_ray_of_its_cell_and_has_its_colour_and_size(views, cell):
    renderer, cameras = built(pixels_per_gaussian=cell, scale=0.4, opacity=0.7), views.cameras.select(views.context)
    gaussians = scene_of(renderer, views, views.cameras)
    rows, columns = SIZE[0] // cell, SIZE[1] // cell
    places = project(gaussians.means.unflatten(1, (3, -1)), cameras).unflatten(2, (rows, columns))
    y, x = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
    torch.testing.assert_close(places, torch.stack([x, y], dim=-1).expand_as(places), atol=1e-5, rtol=0)
    colours = torch.nn.functional.avg_pool2d(views.context_images.flatten(0, 1), cell).unflatten(0, (1, 3))
    shown = 0.5 + 0.28209479177387814 * gaussians.harmonics[:, :, 0].unflatten(1, (3, rows, columns))
    torch.testing.assert_close(shown, colours.movedim(2, -1), atol=1e-5, rtol=0)
    depth = (gaussians.means.unflatten(1, (3, -1)) - cameras.c2w[:, :, None, :3, 3]).mul(cameras.c2w[:, :, None, :3, 2])
    wide = 0.4 * depth.sum(-1).flatten(1) / (cameras.intrinsics[0, 0, 0] * columns)
    torch.testing.assert_close(gaussians.scales[..., 0], wide, rtol=1e-4, atol=0)
    torch.testing.assert_close(gaussians.opacities, torch.full_like(gaussians.opacities, 0.7))


@torch.no_grad()
def test_no_gaussian_is_narrower_than_the_limit(views):
    narrow, limited = (
        scene_of(awake(built(scale=0.2, min_scale=least)), views, views.cameras).scales for least in (0.13, 0.3)
    )
    assert (limited >= narrow).all()
    assert (limited[..., 0] / narrow[..., 0]).max() > 1.2


@torch.no_grad()
def test_without_other_views_the_blurred_rough_depth_remains(views):
    """A sweep of a single view sees no difference between planes, and the prior is symmetric."""
    rough = 1 + 0.5 * torch.rand(1, 1, 6, 8, generator=torch.Generator().manual_seed(2))
    single = replace(views, context=views.context[:, :1])
    gaussians = scene_of(built(), single, views.cameras, inverse_depth=rough, agreement=torch.ones_like(rough))
    camera = views.cameras.c2w[:, 0]
    depth = ((gaussians.means - camera[:, None, :3, 3]) * camera[:, None, :3, 2]).sum(-1)
    wanted = torch.nn.functional.interpolate(blurred(rough, 0.8).log(), (12, 16), mode="bilinear")
    wanted = torch.nn.functional.interpolate(wanted, SIZE, mode="bilinear")
    torch.testing.assert_close(-depth.log(), wanted.flatten(1), atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_sweep_moves_wrong_depths_towards_the_surface(views):
    """All Gaussians of a room lie on its walls, which are at 2, 1.2 and 2 metres, here in units of 2 metres."""
    walls = torch.tensor([1.0, 0.6, 1.0])

    def error(renderer: SurfaceGaussians) -> float:
        means = scene_of(renderer, views, views.cameras).means
        return (means.abs() / walls).amax(-1).log().abs().median().item()

    blind = built()
    blind.log_sharpness.fill_(-20.0)
    assert error(built()) < 0.7 * error(blind)


@torch.no_grad()
def test_an_untrained_renderer_beats_the_nearest_view_and_fills_every_pixel(views):
    renderer = built()
    seen = renderer(scene_of(renderer, views, views.cameras), views.cameras.select(views.target), SIZE)
    free = psnr(nearest_context(views), views.target_images).mean()
    assert psnr(seen.images, views.target_images).mean() > free + 3
    assert set(seen.maps) == {"depth", "opacity"}
    assert seen.maps["depth"].min() > 0
    behind = replace(views.cameras, c2w=views.cameras.c2w * torch.tensor([1.0, 1.0, 1.0, 1.0]))
    behind.c2w[..., :3, 3] += 50 * behind.c2w[..., :3, 2]
    empty = renderer(scene_of(renderer, views, views.cameras), behind, SIZE)
    assert empty.maps["opacity"].max() == 0
    assert empty.maps["depth"].min() > 0
    assert empty.images.std(dim=(-1, -2)).max() < 1e-6


@torch.no_grad()
def test_the_world_frame_and_the_order_of_the_views_do_not_matter(views):
    renderer = awake(built())
    turn = torch.eye(4)
    turn[:3, :3], turn[:3, 3] = so3_exp(torch.tensor([0.4, -1.2, 2.0])), torch.tensor([3.0, -1.0, 0.5])
    moved = replace(views.cameras, c2w=turn @ views.cameras.c2w)
    reordered = replace(views, context=views.context.flip(1))
    plain = renderer(scene_of(renderer, views, views.cameras), views.cameras.select(views.target), SIZE).images
    for clip, cameras in ((views, moved), (reordered, views.cameras)):
        other = renderer(scene_of(renderer, clip, cameras), cameras.select(views.target), SIZE).images
        torch.testing.assert_close(other, plain, atol=2e-4, rtol=0)


def test_all_weights_and_all_cameras_get_gradients(views):
    renderer = awake(built()).train()
    c2w = views.cameras.c2w.clone().requires_grad_()
    cameras = replace(views.cameras, c2w=c2w)
    seen = renderer(scene_of(renderer, views, cameras), cameras.select(views.target), SIZE)
    (seen.images - views.target_images).square().mean().backward()
    for name, weight in renderer.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().max() > 0, name
    assert (c2w.grad[0].abs().flatten(1).amax(1) > 0).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"planes": 1}, "2 or more planes"),
        ({"span": 1.0}, "a span above 1"),
        ({"pixels_per_gaussian": 0}, "1 or more pixels per Gaussian"),
        ({"scale": 0.0}, "a scale and a min_scale between 0 and 4"),
        ({"min_scale": 5.0}, "a scale and a min_scale between 0 and 4"),
        ({"opacity": 1.0}, "an opacity between 0 and 1"),
    ],
)
def test_impossible_values_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        built(**given)
