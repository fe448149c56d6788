"""Views of painted rooms from their true cameras, without training."""

from dataclasses import replace

import pytest
import torch
from painted_room import painted_rooms
from torch import Tensor

from openrayzer.components.renderers.plane_sweep import PlaneSweep
from openrayzer.evaluation.metrics.image_baselines import nearest_context
from openrayzer.evaluation.metrics.image_metrics import psnr
from openrayzer.interfaces import InputError
from openrayzer.machine.live_bytes import LiveBytes
from openrayzer.types import Cameras, Views


@pytest.fixture
def renderer():
    torch.manual_seed(0)
    return PlaneSweep(planes=16).eval()


def in_units_of_depth(views: Views, unit: float = 2.0) -> Cameras:
    """The cameras with lengths divided by about the mean depth of a painted room."""
    c2w = views.cameras.c2w.clone()
    c2w[..., :3, 3] /= unit
    return replace(views.cameras, c2w=c2w)


@pytest.mark.parametrize("image_size", [(64, 64), (48, 80)])
@torch.no_grad()
def test_an_untrained_sweep_beats_the_nearest_view(renderer, image_size):
    views = painted_rooms(2, image_size=image_size)
    cameras = in_units_of_depth(views)
    rendered = renderer(views.context_images, cameras.select(views.context), cameras.select(views.target))
    free = psnr(nearest_context(views), views.target_images).mean()
    assert psnr(rendered.images, views.target_images).mean() > free + 6
    assert rendered.maps["depth"].shape == rendered.maps["confidence"].shape == (2, 3, 1, *image_size)
    assert ((rendered.maps["confidence"] >= 0) & (rendered.maps["confidence"] <= 1)).all()
    assert rendered.maps["depth"].median() == pytest.approx(1, abs=0.4)


@torch.no_grad()
def test_more_context_views_give_better_pictures(renderer):
    views = painted_rooms(2, image_size=(64, 64), num_views=8)
    cameras, target = in_units_of_depth(views), torch.tensor([[4], [4]])
    results = []
    for context in ([0, 7], [0, 3, 7], [0, 3, 5, 7]):
        chosen = torch.tensor([context, context])
        images = torch.stack([clip[context] for clip in views.images])
        rendered = renderer(images, cameras.select(chosen), cameras.select(target)).images
        results.append(psnr(rendered, views.images[:, 4:5]).mean().item())
    assert results == sorted(results)


@torch.no_grad()
def test_crops_of_the_context_with_their_own_intrinsics_show_the_same_scene(renderer):
    views = painted_rooms(1, image_size=(64, 64))
    cameras = in_units_of_depth(views)
    context, target = cameras.select(views.context), cameras.select(views.target)
    whole = renderer(views.context_images, context, target).images
    # The lens of a crop to the middle half, and the target seen through it.
    narrow = target.intrinsics * torch.tensor([2.0, 2.0, 1.0, 1.0])
    zoomed = renderer(views.context_images, context, replace(target, intrinsics=narrow)).images
    middle = torch.nn.functional.interpolate(zoomed[0], (32, 32), mode="area")
    assert psnr(middle[None], whole[:, :, :, 16:48, 16:48]).mean() > 22


def results_and_peak(num_context: int, num_target: int, activation_checkpointing: int) -> tuple[list[Tensor], int]:
    """Depths, gradients of weights and poses, and the peak of memory in training; all weights are random."""
    torch.manual_seed(0)
    renderer = PlaneSweep(planes=8, activation_checkpointing=activation_checkpointing)
    for weight in renderer.parameters():
        torch.nn.init.normal_(weight, std=0.05)
    c2w = torch.eye(4).repeat(1, num_context + num_target, 1, 1)
    c2w[..., :3, 3] = 0.1 * torch.randn(*c2w.shape[:2], 3)
    cameras = Cameras(c2w.requires_grad_(), torch.tensor([1.2, 1.2, 0.5, 0.5]).expand(*c2w.shape[:2], 4))
    images = torch.rand(1, num_context, 3, 16, 16)
    context, target = (torch.arange(*ends)[None] for ends in ((num_context,), (num_context, c2w.shape[1])))
    with LiveBytes() as live:
        rendered = renderer(images, cameras.select(context), cameras.select(target))
        (rendered.images.square().mean() + rendered.maps["depth"].mean()).backward()
    return [
        rendered.maps["depth"],
        c2w.grad,
        renderer.feature[0].weight.grad,
        renderer.costs.first.weight.grad,
    ], live.peak


@pytest.mark.parametrize("every", [1, 2])
def test_recomputed_target_views_have_equal_depths_and_gradients(every):
    kept, recomputed = (results_and_peak(4, 3, number)[0] for number in (0, every))
    for one, other in zip(kept, recomputed, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4 * one.abs().max().item())


def test_memory_of_training_hardly_grows_with_recomputed_target_views():
    kept, recomputed = ([results_and_peak(4, views, every)[1] for views in (2, 8)] for every in (0, 1))
    assert kept[1] > 3 * kept[0]
    assert recomputed[1] < 1.5 * recomputed[0]


@torch.no_grad()
def test_memory_of_rendering_hardly_grows_with_the_context(renderer):
    """The sweep keeps running sums; the blending keeps colours of all context views, without planes."""
    peaks = []
    for views in (3, 12):
        cameras = Cameras(torch.eye(4).repeat(1, views, 1, 1), torch.tensor([1.2, 1.2, 0.5, 0.5]).repeat(1, views, 1))
        features, pair = torch.rand(1, views, 15, 16, 16), torch.zeros(1, 1, dtype=torch.int64)
        with LiveBytes() as live:
            renderer(torch.rand(1, views, 3, 32, 32), cameras, cameras.select(pair), prepared=(features,))
        peaks.append(live.peak)
    assert peaks[1] < 2 * peaks[0]


def test_impossible_planes_are_refused():
    with pytest.raises(InputError, match="planes"):
        PlaneSweep(planes=1)
    with pytest.raises(InputError, match="farthest"):
        PlaneSweep(nearest=0.1, farthest=0.2)


def test_a_negative_number_of_recomputed_views_is_refused():
    with pytest.raises(InputError, match="activation_checkpointing"):
        PlaneSweep(activation_checkpointing=-1)
