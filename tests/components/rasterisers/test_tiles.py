"""The rasteriser "torch" follows the published loop, at any size, order and extent, and for extreme Gaussians."""

import math
from dataclasses import replace

import pytest
import torch
from literal import blended, random_scene
from torch._subclasses.fake_tensor import FakeTensorMode

from openrayzer.components.rasterisers import blending, tile_lists
from openrayzer.components.rasterisers.ellipses import project
from openrayzer.components.rasterisers.harmonics import harmonic_basis
from openrayzer.components.rasterisers.tiled import TiledRasteriser
from openrayzer.interfaces import Gaussians
from openrayzer.types import Cameras, map_tensors


def literal_views(gaussians: Gaussians, cameras: Cameras, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Colours and passing light of each view (b v c h w), blended in one tile with all Gaussians."""
    ellipses = project(gaussians, cameras, size, near=0.2, extent="box")
    b, v, _ = ellipses.depths.shape
    colours, light = [], []
    for scene in range(b):
        for view in range(v):
            visible = (ellipses.radii[0, scene, view] > 0).nonzero()[:, 0]
            order = visible[ellipses.depths[scene, view, visible].float().argsort(stable=True)].tolist()
            parts = (ellipses.centres, ellipses.conics, ellipses.colours)
            one = [part[:, scene, view].mT for part in parts] + [ellipses.opacities[scene, view]]
            found = blended(*one, size, [(slice(None), slice(None), order)])
            colours.append(found[0].movedim(-1, 0))
            light.append(found[1].movedim(-1, 0))
    return torch.stack(colours).unflatten(0, (b, v)), torch.stack(light).unflatten(0, (b, v))


@pytest.mark.parametrize(("size", "segment"), [((18, 27), 64), ((18, 27), 3), ((5, 1), 64)])
def test_images_and_gradients_are_those_of_the_loop(monkeypatch, size, segment):
    monkeypatch.setattr(blending, "SEGMENT", segment)
    results = []
    for tiled in (True, False):
        gaussians, cameras, background = random_scene(k=16, degree=2, dtype=torch.float64)
        if tiled:
            views = TiledRasteriser().rasterise(gaussians, cameras, size, background=background)
            images, light = views.images, 1 - views.opacity
        else:
            colours, light = literal_views(gaussians, cameras, size)
            images = colours + light * background[..., None, None]
        leaves = (*vars(gaussians).values(), cameras.c2w, cameras.intrinsics, background)
        results.append([images, light, *torch.autograd.grad((images.square() + 0.3 * light).sum(), leaves)])
    for tiled, loop in zip(*results, strict=True):
        torch.testing.assert_close(tiled, loop, atol=1e-9, rtol=1e-9)


def test_a_pixel_that_stopped_stays_as_it_is():
    """Opaque Gaussians in front: those behind get no gradient, and light keeps the value before the stop."""
    k = 9
    gaussians = Gaussians(
        means=torch.stack([torch.zeros(k), torch.zeros(k), 1.0 + torch.arange(k)], dim=-1)[None],
        scales=torch.full((1, k, 3), 50.0),
        rotations=torch.ones(1, k, 4),
        opacities=torch.full((1, k), 0.95),
        harmonics=torch.ones(1, k, 1, 3, requires_grad=True),
    )
    cameras = Cameras(torch.eye(4)[None, None], torch.tensor([[[1.0, 1.0, 0.5, 0.5]]]))
    for segment in (2, 64):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(blending, "SEGMENT", segment)
            views = TiledRasteriser().rasterise(gaussians, cameras, (8, 8), background=torch.zeros(1, 1, 3))
        gradient = torch.autograd.grad(views.images.sum(), gaussians.harmonics)[0]
        assert views.opacity[0, 0, 0, 4, 4].item() == pytest.approx(1 - 0.05**3, abs=1e-4)
        assert (gradient[0, :3] > 0).all()
        assert not gradient[0, 4:].any()


def round_gaussian(opacity: float, deviation: float, *colours: float) -> Gaussians:
    """Equal Gaussians on the optical axis at z = 2; the deviation is in pixels at a focal length of 48 pixels."""
    scale = (deviation**2 - 0.3) ** 0.5 * 2 / 48
    return Gaussians(
        means=torch.tensor([0.0, 0.0, 2.0]).repeat(1, len(colours), 1),
        scales=torch.full((1, len(colours), 3), scale),
        rotations=torch.ones(1, len(colours), 4),
        opacities=torch.full((1, len(colours)), opacity),
        harmonics=torch.tensor(colours)[None, :, None, None].expand(1, -1, 1, 3),
    )


def drawn(gaussians: Gaussians, centre: float, *, extent: str = "box") -> torch.Tensor:
    """An image (3, 48, 48) with the optical axis at ``centre`` pixels from the left and the top."""
    camera = Cameras(torch.eye(4)[None, None], torch.tensor([[[1.0, 1.0, centre / 48, centre / 48]]]))
    rasteriser = TiledRasteriser(extent=extent)
    return rasteriser.rasterise(gaussians, camera, (48, 48), background=torch.zeros(1, 1, 3)).images[0, 0]


def test_three_sigma_cuts_a_strong_wide_gaussian_at_a_tile():
    strong, weak = round_gaussian(0.999, 4.9, 1.0), round_gaussian(0.05, 4.9, 1.0)
    box, cut = (drawn(strong, 16.5, extent=extent) for extent in ("box", "three_sigma"))
    assert (box[:, :, 32] > 0).any()  # 16 pixels away, and the radius is 15
    assert not cut[:, :, 32:].any()
    assert torch.equal(box[:, :32, :32], cut[:, :32, :32])
    assert torch.equal(drawn(weak, 16.5), drawn(weak, 16.5, extent="three_sigma"))


def test_lists_hold_the_gaussians_of_a_tile_front_to_back():
    gaussians, cameras, _ = random_scene(b=1, v=1, k=30)
    ellipses = project(gaussians, cameras, (24, 24), near=0.2, extent="box")
    lists = tile_lists.list_tiles(ellipses, (24, 24), side=8)
    assert lists.counts.sum() == len(lists.members)
    for tile, (members, (left, top)) in enumerate(
        zip(lists.members.split(lists.counts.tolist()), lists.origins().mT.tolist(), strict=True)
    ):
        assert (left, top) == (tile % 3 * 8, tile // 3 * 8)
        depths = ellipses.depths.flatten()[members]
        assert (depths[1:] >= depths[:-1]).all()
        centres, reach = ellipses.centres.flatten(1), ellipses.reach.flatten(1)
        pixels = torch.arange(8) + 0.5
        columns = ((centres[0, :, None] - left - pixels).abs() <= reach[0, :, None]).any(1)
        rows = ((centres[1, :, None] - top - pixels).abs() <= reach[1, :, None]).any(1)
        assert sorted(members.tolist()) == (columns & rows).nonzero()[:, 0].tolist()


def test_equal_depths_keep_the_order_of_the_gaussians():
    assert drawn(round_gaussian(0.999, 5.0, 5.0, -5.0), 24.5).max() > 1.8
    assert drawn(round_gaussian(0.999, 5.0, -5.0, 5.0), 24.5)[:, 24, 24].max() < 0.01


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scales", 0.0), ("scales", 1e30), ("scales", -0.1), ("rotations", 0.0), ("opacities", 0.0),
        ("means", 1e30), ("means", 0.0), ("harmonics", 1e4), ("opacities", 1.0), ("scales", 1e-30),
    ],
)  # fmt: skip
def test_extreme_gaussians_give_finite_images_and_gradients(field, value):
    gaussians, cameras, background = random_scene()
    with torch.no_grad():
        getattr(gaussians, field)[:, :3] = value
    views = TiledRasteriser().rasterise(gaussians, cameras, (16, 20), background=background)
    assert all(part.isfinite().all() for part in vars(views).values())
    (views.images.mean() + views.depth.mean()).backward()
    for tensor in (*vars(gaussians).values(), cameras.c2w, cameras.intrinsics):
        assert tensor.grad.isfinite().all()


def test_a_huge_gaussian_covers_the_image_evenly():
    gaussians, cameras, background = random_scene(b=1, v=1, k=1, degree=0)
    with torch.no_grad():
        gaussians.scales.fill_(1e12)
        opacity = TiledRasteriser().rasterise(gaussians, cameras, (9, 9), background=background).opacity
    torch.testing.assert_close(opacity, gaussians.opacities.detach()[0, 0].expand_as(opacity))


def test_moving_the_principal_point_moves_the_image():
    gaussians, cameras, background = random_scene(b=1, v=1, k=5, degree=0)
    shift = torch.tensor([0.0, 0.0, 5 / 40, 3 / 40])
    with torch.no_grad():
        small = replace(gaussians, scales=gaussians.scales * 0.2, means=gaussians.means * torch.tensor([0.2, 0.2, 1.0]))
        one, other = (
            TiledRasteriser().rasterise(small, Cameras(cameras.c2w, intrinsics), (40, 40), background=background).images
            for intrinsics in (cameras.intrinsics, cameras.intrinsics + shift)
        )
    torch.testing.assert_close(other[..., 3:, 5:], one[..., :-3, :-5], atol=1e-4, rtol=0)


def test_harmonics_are_orthonormal():
    count = 4000
    z = 1 - 2 * (torch.arange(count, dtype=torch.float64) + 0.5) / count  # points of a spiral, evenly on the sphere
    angle = math.pi * (1 + 5**0.5) * torch.arange(count, dtype=torch.float64)
    ring = (1 - z * z).sqrt()
    direction = torch.stack([ring * angle.cos(), ring * angle.sin(), z])[:, None, :, None]
    basis = torch.stack(harmonic_basis(direction, 3)).flatten(1)
    products = basis @ basis.mT * 4 * math.pi / count
    torch.testing.assert_close(products, torch.eye(16, dtype=torch.float64), atol=2e-3, rtol=0)


def test_memory_for_gradients_grows_with_gaussians_and_not_with_pixels():
    """The backward pass computes exponents anew: between the passes, no tensor holds all pairs."""
    gaussians, cameras, background = random_scene(b=1, v=1, k=200)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda part: (sizes.append(part.numel()), part)[1], lambda part: part
    ):
        TiledRasteriser().rasterise(gaussians, cameras, (64, 64), background=background)
    assert max(sizes) <= 200 * 3 * 16 + 5 * 64 * 64


def test_gaussians_from_outside_are_checked_with_the_place_of_the_first_fault():
    gaussians, _, _ = random_scene()
    gaussians.require_finite()
    with torch.no_grad():
        gaussians.scales[1, 4, 2] = torch.inf
    with pytest.raises(ValueError, match=r"scales of 1 Gaussians are not finite, first of Gaussian 4 of scene 1"):
        gaussians.require_finite()


def test_planning_sees_shapes_and_gradients_without_data():
    with FakeTensorMode() as mode:
        gaussians, cameras, background = map_tensors(random_scene(), mode.from_tensor)
        views = TiledRasteriser(prune=True).rasterise(gaussians, cameras, (18, 27), background=background)
        leaves = (*vars(gaussians).values(), cameras.c2w, cameras.intrinsics)
        gradients = torch.autograd.grad(views.images.sum() + views.depth.sum(), leaves)
    assert (views.images.shape, views.depth.shape) == ((2, 2, 3, 18, 27), (2, 2, 1, 18, 27))
    assert [gradient.shape for gradient in gradients] == [leaf.shape for leaf in leaves]


def test_pruning_of_unseen_gaussians_changes_no_image_and_no_gradient():
    results = []
    for rasteriser in (TiledRasteriser(), TiledRasteriser(prune=True), TiledRasteriser(prune=True, chunk=1)):
        gaussians, cameras, background = random_scene(k=30, degree=2)
        with torch.no_grad():
            gaussians.means[0, 5:20, 2] -= 10.0  # behind the cameras
            gaussians.means[1, ::2, 0] += 50.0  # beside the images
            gaussians.opacities[:, 3] = 0.003  # too faint for any pixel
        seen = rasteriser.seen(gaussians, cameras, (18, 27))
        views = rasteriser.rasterise(gaussians, cameras, (18, 27), background=background)
        leaves = (*vars(gaussians).values(), cameras.c2w, cameras.intrinsics, background)
        loss = views.images.square().mean() + 0.1 * views.depth.mean() + views.opacity.mean()
        results.append([*vars(views).values(), *torch.autograd.grad(loss, leaves)])
        assert 0 < seen[0].sum() <= 14
        assert 0 < seen[1].sum() <= 15
        assert not seen[:, 3].any()
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            torch.testing.assert_close(other, one, atol=1e-7, rtol=1e-5)


def test_only_seen_gaussians_change_an_image():
    gaussians, cameras, background = random_scene(b=1, v=2, k=40)
    with torch.no_grad():
        gaussians.means[..., 0] *= 4
    rasteriser = TiledRasteriser()
    seen = rasteriser.seen(gaussians, cameras, (18, 27))[0]
    images = rasteriser.rasterise(gaussians, cameras, (18, 27), background=background).images
    changed = torch.autograd.grad(images.square().sum(), gaussians.opacities)[0][0] != 0
    assert seen.any()
    assert not seen.all()
    assert not (changed & ~seen).any()


def test_a_scene_without_a_gaussian_in_view_is_its_background():
    gaussians, cameras, background = random_scene()
    with torch.no_grad():
        gaussians.means[0, :, 2] = -5.0
    views = TiledRasteriser(prune=True).rasterise(gaussians, cameras, (9, 14), background=background)
    assert torch.equal(views.images[0], background[0, :, :, None, None].expand(2, 3, 9, 14))
    assert not views.opacity[0].any()
    assert not views.depth[0].any()
    assert views.opacity[1].any()
    (views.images.sum() + views.depth.sum()).backward()
    assert not gaussians.means.grad[0].any()


@pytest.mark.parametrize("field", ["means", "scales", "rotations", "opacities", "harmonics"])
def test_with_pruning_a_scene_that_is_not_finite_gives_nan_and_leaves_the_others_alone(field):
    right, cameras, background = random_scene()
    rasteriser = TiledRasteriser(prune=True)
    with torch.no_grad():
        clean = rasteriser.rasterise(right, cameras, (9, 14), background=background).images
        getattr(right, field)[0, 2] = torch.nan
        images = rasteriser.rasterise(right, cameras, (9, 14), background=background).images
    assert images[0].isnan().all()
    assert torch.equal(images[1], clean[1])


@pytest.mark.slow
def test_millions_of_gaussians_are_drawn_on_a_cpu_view_by_view():
    """Twelve Gaussians among a million behind the camera give the image of the twelve alone."""
    few, cameras, background = map_tensors(random_scene(b=1, v=2, degree=0), torch.Tensor.detach)
    behind = few.means.new_tensor([0.0, 0.0, -9.0]).expand(1, 2**20, 3)
    many = Gaussians(
        means=torch.cat([behind, few.means], dim=1),
        **{
            name: torch.cat([values[:, :1].expand(-1, 2**20, *values.shape[2:]), values], dim=1)
            for name, values in vars(few).items()
            if name != "means"
        },
    )
    rasteriser = TiledRasteriser(chunk=2**20, prune=True)
    seen = rasteriser.seen(many, cameras, (16, 16))[0].nonzero()[:, 0]
    assert 0 < len(seen) <= 12
    images = rasteriser.rasterise(many, cameras, (16, 16), background=background).images
    alone = TiledRasteriser().rasterise(few, cameras, (16, 16), background=background).images
    torch.testing.assert_close(images, alone, atol=1e-6, rtol=0)
