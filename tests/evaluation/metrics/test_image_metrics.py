"""Image metrics against scikit-image, and baselines by hand."""

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from openrayzer.evaluation.metrics.image_baselines import (
    exchanged_targets,
    mean_context,
    nearest_context,
    nearest_contexts,
)
from openrayzer.evaluation.metrics.image_metrics import psnr, ssim
from openrayzer.interfaces import InputError
from openrayzer.types import Views


def smooth_images(seed: int, height: int, width: int) -> Tensor:
    """Images of low frequencies: windows are nearly flat, so small variances matter."""
    noise = torch.rand(2, 3, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    large = torch.nn.functional.interpolate(noise.flatten(0, 1), (height, width), mode="bilinear")
    return large.unflatten(0, (2, 3))


@pytest.mark.parametrize(("height", "width"), [(11, 11), (11, 40), (33, 17), (64, 96)])
@pytest.mark.parametrize("noise", [0.0, 0.01, 0.3])
def test_metrics_equal_scikit_image(height: int, width: int, noise: float):
    target = smooth_images(0, height, width)
    change = noise * (torch.rand(target.shape, generator=torch.Generator().manual_seed(1)) - 0.5)
    prediction = (0.9 * target + change).clamp(0, 1)
    ours = torch.stack([ssim(prediction, target), psnr(prediction, target)], dim=-1).flatten(0, 1)
    for row, x, y in zip(ours, prediction.flatten(0, 1).numpy(), target.flatten(0, 1).numpy(), strict=True):
        similarity = structural_similarity(
            x, y, win_size=11, gaussian_weights=True, sigma=1.5, channel_axis=0, data_range=1
        )
        assert row[0].item() == pytest.approx(similarity, abs=1e-4)
        assert row[1].item() == pytest.approx(peak_signal_noise_ratio(y, x, data_range=1), abs=1e-3)


def test_equal_images():
    image = smooth_images(2, 16, 16)
    assert psnr(image, image).isinf().all()
    torch.testing.assert_close(ssim(image, image), torch.ones(2, 3))


def test_values_beyond_the_range_are_clamped():
    black, below = torch.zeros(1, 1, 3, 16, 16), torch.full((1, 1, 3, 16, 16), -0.5)
    assert psnr(below, black).isinf().all()
    assert ssim(below, black).item() == pytest.approx(1)


def test_each_image_is_measured_alone_and_in_float32():
    prediction, target = smooth_images(3, 16, 24), smooth_images(4, 16, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for metric in (psnr, ssim):
            together = metric(prediction, target)
            alone = metric(prediction[1:, 2:], target[1:, 2:])
            assert together.dtype == torch.float32
            torch.testing.assert_close(together[1:, 2:], alone)


def test_small_images_are_refused():
    with pytest.raises(InputError, match="at least 11 x 11 pixels, got 10 x 16"):
        ssim(torch.zeros(1, 1, 3, 10, 16), torch.zeros(1, 1, 3, 10, 16))


def views(frames: list[int], context: list[int], target: list[int]) -> Views:
    """Views with their frame numbers as pixel values."""
    images = torch.tensor(frames, dtype=torch.float32)[None, :, None, None, None].expand(1, -1, 3, 2, 2)
    positions = [torch.tensor([chosen]) for chosen in (context, target)]
    return Views(images=images, frames=torch.tensor([frames]), context=positions[0], target=positions[1], scenes=("s",))


def test_nearest_context_view_earlier_on_ties():
    # The frames are not sorted: the nearest view is nearest in frame number, not in position.
    clip = views(frames=[30, 10, 20, 11, 25, 99], context=[0, 1], target=[2, 3, 4, 5, 1])
    assert nearest_context(clip)[0, :, 0, 0, 0].tolist() == [10, 10, 30, 30, 10]


def test_nearest_context_besides_the_target_itself():
    clip = views(frames=[30, 10, 20, 11], context=[0, 1, 3], target=[2, 1, 0])
    assert nearest_contexts(clip, itself=True).tolist() == [[2, 1, 0]]
    assert nearest_contexts(clip, itself=False).tolist() == [[2, 2, 2]]
    assert nearest_contexts(views(frames=[5], context=[0], target=[0]), itself=False).tolist() == [[0]]


def test_mean_of_the_context_views():
    clip = views(frames=[0, 1, 2, 6], context=[0, 1, 3], target=[2, 3])
    mean = mean_context(clip)
    assert mean.shape == (1, 2, 3, 2, 2)
    torch.testing.assert_close(mean, torch.full_like(mean, 7 / 3))


@pytest.mark.parametrize("targets", [2, 3, 8, 9])
def test_an_exchange_moves_every_view(targets: int):
    order = exchanged_targets(targets)
    assert sorted(order.tolist()) == list(range(targets))
    assert (order != torch.arange(targets)).all()


def test_one_view_cannot_be_exchanged():
    with pytest.raises(InputError, match="2 target views or more, got 1"):
        exchanged_targets(1)
