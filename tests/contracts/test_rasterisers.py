"""Every rasteriser that runs here draws the same right images with gradients; others state a reason."""

from dataclasses import replace

import pytest
import torch
from literal import random_scene
from small import names

from openrayzer.interfaces import RASTERISERS, Gaussians, InputError
from openrayzer.types import Cameras, map_tensors

NAMES = names(RASTERISERS)
SIZE = (18, 27)
CPU = torch.device("cpu")


def runnable(name: str, **given):
    rasteriser = RASTERISERS[name](**given)
    if refusal := rasteriser.refusal(CPU):
        pytest.skip(f"{name}: {refusal}")
    return rasteriser


@pytest.mark.parametrize("name", NAMES)
def test_a_round_gaussian_gives_the_image_worked_out_by_hand(name):
    gaussians = Gaussians(
        means=torch.tensor([[[0.0, 0.0, 2.0]]]),
        scales=torch.full((1, 1, 3), 0.1),
        rotations=torch.tensor([[[1.0, 0.0, 0.0, 0.0]]]),
        opacities=torch.tensor([[0.8]]),
        harmonics=torch.tensor([[[[1.0, -1.0, 0.0]]]]),
    )
    cameras = Cameras(torch.eye(4)[None, None], torch.tensor([[[1.0, 1.0, 0.5, 0.5]]]))
    views = runnable(name).rasterise(gaussians, cameras, (21, 21), background=torch.tensor([[[0.0, 1.0, 0.0]]]))
    variance = (21 * 0.1 / 2) ** 2 + 0.3  # the pixel in the middle looks along the axis, the other is 2 and 1 away
    colour = torch.tensor([0.5 + 0.28209479177387814, 0.5 - 0.28209479177387814, 0.5])
    for row, column, square in ((10, 10, 0.0), (12, 9, 5.0)):
        alpha = 0.8 * torch.exp(torch.tensor(-square / 2 / variance))
        expected = alpha * colour + (1 - alpha) * torch.tensor([0.0, 1.0, 0.0])
        torch.testing.assert_close(views.images[0, 0, :, row, column], expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(views.opacity[0, 0, 0, row, column], alpha, atol=1e-5, rtol=0)
        torch.testing.assert_close(views.depth[0, 0, 0, row, column], torch.tensor(2.0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_everything_and_are_finite(name):
    gaussians, cameras, background = random_scene()
    views = runnable(name).rasterise(gaussians, cameras, SIZE, background=background)
    (views.images.square().mean() + views.depth.mean() + views.opacity.mean()).backward()
    for tensor in (*vars(gaussians).values(), cameras.c2w, cameras.intrinsics, background):
        assert tensor.grad.isfinite().all()
        assert tensor.grad.flatten(1).abs().amax(1).min() > 0


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_views_and_scenes_do_not_influence_each_other(name):
    rasteriser = runnable(name)
    gaussians, cameras, background = random_scene(b=3, v=2)
    together = rasteriser.rasterise(gaussians, cameras, SIZE, background=background)
    alone = rasteriser.rasterise(
        map_tensors(gaussians, lambda part: part[1:2]),
        map_tensors(cameras, lambda part: part[1:2, 1:]),
        SIZE,
        background=background[1:2, 1:],
    )
    for several, one in zip(vars(together).values(), vars(alone).values(), strict=True):
        torch.testing.assert_close(several[1, 1], one[0, 0])


@pytest.mark.parametrize("name", NAMES)
def test_chunks_of_views_change_neither_images_nor_gradients(name):
    found = []
    for chunk in (1, 2**23):
        gaussians, cameras, background = random_scene(v=3)
        views = runnable(name, chunk=chunk).rasterise(gaussians, cameras, SIZE, background=background)
        leaves = (*vars(gaussians).values(), cameras.c2w, cameras.intrinsics)
        found.append([views.images, *torch.autograd.grad(views.images.square().sum(), leaves)])
    for chunked, whole in zip(*found, strict=True):
        torch.testing.assert_close(chunked, whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_autocast_does_not_change_the_images(name):
    rasteriser = runnable(name)
    gaussians, cameras, background = random_scene()
    exact = rasteriser.rasterise(gaussians, cameras, SIZE, background=background)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(rasteriser.rasterise(gaussians, cameras, SIZE, background=background).images, exact.images)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_the_background_shows_where_no_gaussian_is(name):
    gaussians, cameras, background = random_scene()
    behind = replace(gaussians, means=gaussians.means * torch.tensor([1.0, 1.0, -1.0]))
    for empty in (behind, map_tensors(gaussians, lambda part: part[:, :0])):
        views = runnable(name).rasterise(empty, cameras, SIZE, background=background)
        assert torch.equal(views.images, background[..., None, None].expand(2, 2, 3, *SIZE))
        assert not views.opacity.any()
        assert not views.depth.any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("field", ["means", "scales", "rotations", "opacities", "harmonics"])
@torch.no_grad()
def test_a_value_that_is_not_finite_gives_nan_in_its_scene_only(name, field):
    rasteriser = runnable(name)
    gaussians, cameras, background = random_scene()
    right = rasteriser.rasterise(gaussians, cameras, SIZE, background=background).images
    getattr(gaussians, field)[1].view(-1)[3] = torch.nan
    images = rasteriser.rasterise(gaussians, cameras, SIZE, background=background).images
    assert images[1].isnan().all()
    assert torch.equal(images[0], right[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_number_of_harmonics_is_refused(name):
    gaussians, cameras, background = random_scene()
    broken = replace(gaussians, harmonics=gaussians.harmonics[:, :, :3])
    with pytest.raises(InputError, match="1, 4, 9 or 16 coefficients per channel, got 3"):
        runnable(name).rasterise(broken, cameras, SIZE, background=background)


@pytest.mark.parametrize("name", NAMES)
def test_impossible_settings_are_refused(name):
    with pytest.raises(InputError, match="near must be"):
        RASTERISERS[name](near=0.0)
    with pytest.raises(InputError, match="chunk must be"):
        RASTERISERS[name](chunk=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_rasteriser_that_cannot_run_is_refused_by_its_name_with_the_reason(name):
    rasteriser = RASTERISERS[name]()
    if not (refusal := rasteriser.refusal(CPU)):
        return
    gaussians, cameras, background = random_scene()
    with pytest.raises(InputError) as caught:
        rasteriser.rasterise(gaussians, cameras, SIZE, background=background)
    assert f"'{name}'" in str(caught.value)
    assert refusal in str(caught.value)
