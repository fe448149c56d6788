"""Views of painted rooms from their true cameras, without training."""

from dataclasses import replace

import pytest
import torch
from painted_room import painted_rooms

from openrayzer.components.renderers.plane_sweep import PlaneSweep
from openrayzer.evaluation.metrics.image_baselines import nearest_context
from openrayzer.evaluation.metrics.image_metrics import psnr
from openrayzer.interfaces import InputError
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


def test_impossible_planes_are_refused():
    with pytest.raises(InputError, match="planes"):
        PlaneSweep(planes=1)
    with pytest.raises(InputError, match="farthest"):
        PlaneSweep(nearest=0.1, farthest=0.2)
