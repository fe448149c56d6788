"""Differentiable structural similarity of images (SSIM)."""

from functools import cache, reduce
from math import exp
from operator import add

from jaxtyping import Float
from torch import Tensor

from openrayzer.geometry.precision import no_autocast
from openrayzer.interfaces import InputError

WINDOW = 11
"""Side of the Gaussian window in pixels. SSIM is undefined for smaller images."""

_SIGMA = 1.5
# C1 and C2 of the paper for values in [0, 1]. They keep the quotient stable in dark (C1) and flat (C2) regions.
_STABILISERS = (0.01**2, 0.03**2)
# n / (n - 1) for the n samples of the window: scikit-image uses the unbiased covariance.
_SAMPLE_COVARIANCE = WINDOW**2 / (WINDOW**2 - 1)


def structural_similarity(
    prediction: Float[Tensor, "b v c h w"], target: Float[Tensor, "b v c h w"]
) -> Float[Tensor, "b v"]:
    """Mean structural similarity of each pair of images in [0, 1], computed in float32; 1 for equal images.

    The mean is over all windows inside the image. The result equals scikit-image's ``structural_similarity`` with
    ``gaussian_weights=True, sigma=1.5, data_range=1``, which has the same window and covariance.

    Raises:
        InputError: an image side is below 11 pixels.

    Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", equation 13.
    """
    height, width = prediction.shape[-2:]
    if min(height, width) < WINDOW:
        raise InputError(f"SSIM needs images of at least {WINDOW} x {WINDOW} pixels, got {height} x {width}")
    with no_autocast(prediction):
        x, y = prediction.float(), target.float()
        mean_x, mean_y = _windowed(x), _windowed(y)
        variance_x = _SAMPLE_COVARIANCE * (_windowed(x * x) - mean_x**2)
        variance_y = _SAMPLE_COVARIANCE * (_windowed(y * y) - mean_y**2)
        covariance = _SAMPLE_COVARIANCE * (_windowed(x * y) - mean_x * mean_y)
        dark, flat = _STABILISERS
        luminance = (2 * mean_x * mean_y + dark) / (mean_x**2 + mean_y**2 + dark)
        structure = (2 * covariance + flat) / (variance_x + variance_y + flat)
        return (luminance * structure).mean(dim=(2, 3, 4))


def _windowed(images: Float[Tensor, "b v c h w"]) -> Float[Tensor, "b v c y x"]:
    """Gaussian-weighted mean in each window.

    It sums shifted images and uses no convolution, because a GPU may run convolutions in TF32. The 10 bits of TF32 are
    too few for differences of second moments.
    """
    rows, columns = images.shape[-2] - WINDOW + 1, images.shape[-1] - WINDOW + 1
    shares = list(enumerate(_window()))
    images = reduce(add, (share * images[..., i : i + rows, :] for i, share in shares))
    return reduce(add, (share * images[..., i : i + columns] for i, share in shares))


@cache
def _window() -> tuple[float, ...]:
    """Samples of the Gaussian along one axis; their sum is 1."""
    samples = [exp(-0.5 * ((i - WINDOW // 2) / _SIGMA) ** 2) for i in range(WINDOW)]
    return tuple(sample / sum(samples) for sample in samples)
