"""Mask-swap: two halves without a common pixel, exchanged cameras, whole clips, and models that do not suit."""

import pytest
import torch
from torch import Tensor

from openrayzer.components.objectives.mask_swap import MaskSwap
from openrayzer.geometry.intrinsics import square_pixel_intrinsics
from openrayzer.interfaces import InputError, Model
from openrayzer.types import Cameras, Scene, Views


class Recorder(Model[Scene]):
    """Its cameras have the mean colour of a clip as position; its images have this position as colour."""

    posed = False

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.reconstructed: list[tuple[Tensor, Tensor]] = []

    def estimate(self, images: Tensor, intrinsics: Tensor | None = None) -> Cameras:
        self.seen.append(images)
        c2w = torch.eye(4).repeat(*images.shape[:2], 1, 1)
        c2w[..., :3, 3] = images.mean(dim=(1, 3, 4))[:, None]
        return Cameras(c2w, square_pixel_intrinsics(torch.ones(images.shape[:2]), (16, 24)))

    def reconstruct(self, images: Tensor, cameras: Cameras, index: Tensor | None = None) -> Scene:
        self.reconstructed.append((images, cameras.c2w))
        return Scene(image_size=(16, 24))

    def render(self, scene: Scene, cameras: Cameras) -> Tensor:
        return cameras.c2w[..., :3, 3, None, None].expand(-1, -1, 3, 16, 24)


def halves_of(model: Recorder) -> tuple[Tensor, Tensor]:
    first, second = model.seen[0].chunk(2)
    return first, second


def test_the_halves_share_no_pixel_and_are_two_quarters_of_all_views(views):
    torch.manual_seed(0)
    model = Recorder()
    MaskSwap(whole=0.0)(model, views)
    first, second = ((half == views.images).all(dim=2) for half in halves_of(model))
    assert (first ^ second).all()
    assert (first == first[:, :1]).all()  # the same pixels in all views
    quarters = first[:, 0].unflatten(1, (2, 8)).unflatten(3, (2, 12)).float().mean(dim=(2, 4)).flatten(1)
    assert (quarters.sort(dim=1).values == torch.tensor([0.0, 0, 1, 1])).all()


def test_all_six_choices_of_two_quarters_occur():
    torch.manual_seed(0)
    seen = MaskSwap(whole=0.0)._first_half(200, (4, 4), torch.device("cpu"))[:, ::2, ::2].flatten(1)
    assert len({tuple(row.tolist()) for row in seen}) == 6


def test_each_half_is_rendered_and_reconstructed_with_the_cameras_of_the_other(views):
    torch.manual_seed(0)
    model = Recorder()
    prediction = MaskSwap(whole=0.0)(model, views)
    first, second = halves_of(model)
    mask = (first == views.images).all(dim=2)[:, :1, None]
    means = [half.mean(dim=(1, 3, 4))[:, None, :, None, None] for half in (first, second)]
    torch.testing.assert_close(prediction.images, torch.where(mask, means[1], means[0]).expand_as(prediction.images))
    images, c2w = model.reconstructed[0]
    assert torch.equal(images, torch.cat([first, second])[:, [0, 2, 4]])
    torch.testing.assert_close(c2w[:, 0, :3, 3], torch.cat([means[1], means[0]])[:, 0, :, 0, 0])


def test_whole_clips_are_trained_as_without_the_objective(views):
    model = Recorder()
    prediction, plain = MaskSwap(whole=1.0)(model, views), model(views)
    assert torch.equal(prediction.images, plain.images)
    assert torch.equal(prediction.cameras.c2w, plain.cameras.c2w)


def test_only_the_images_of_the_poses_are_augmented(views):
    torch.manual_seed(0)
    model = Recorder()
    MaskSwap(whole=1.0, pose_brightness=0.2, pose_contrast=0.2)(model, views)
    assert not torch.allclose(model.seen[0], torch.cat([views.images] * 2), atol=1e-2)
    assert torch.equal(model.reconstructed[0][0], torch.cat([views.context_images] * 2))


def test_a_model_with_true_intrinsics_gets_them_for_both_halves(views: Views):
    model = Recorder()
    model.needs_intrinsics = True
    given = []
    model.estimate = lambda images, intrinsics: given.append(intrinsics) or Recorder().estimate(images)  # type: ignore
    MaskSwap()(model, views)
    assert torch.equal(given[0], torch.cat([views.cameras.intrinsics] * 2))


@pytest.mark.parametrize(
    ("posed", "message"),
    [(True, "exchanges estimated cameras, and Unsuited has true ones"), (False, "leaves out the losses that Unsuited")],
)
def test_models_that_do_not_suit_are_refused(posed, message):
    unsuited = type("Unsuited", (Recorder,), {"posed": posed, "has_losses": True})
    with pytest.raises(InputError, match=message):
        MaskSwap().check_model(unsuited())


@pytest.mark.parametrize("given", [{"whole": 1.1}, {"pose_brightness": -0.1}, {"pose_contrast": 1.0}])
def test_numbers_out_of_range_are_refused(given):
    with pytest.raises(InputError, match="whole and pose_brightness must be between 0 and 1"):
        MaskSwap(**given)
