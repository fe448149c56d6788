"""Structural similarity of images, differentiable."""

from functools import cache, reduce
from math import exp
from operator import add

from jaxtyping import Float
from torch import Tensor

from openrayzer.geometry.precision import no_autocast
from openrayzer.interfaces import InputError

WINDOW = 11
"""Side of the Gaussian window in pixels; smaller images have no similarity."""

_SIGMA = 1.5
# Keep the quotient stable where an image is dark (first) or flat (second); for values in [0, 1].
_STABILISERS = (0.01**2, 0.03**2)
# scikit-image divides by the sample count less one; the window has 121 samples.
_SAMPLE_COVARIANCE = WINDOW**2 / (WINDOW**2 - 1)


def structural_similarity(
    prediction: Float[Tensor, "b v c h w"], target: Float[Tensor, "b v c h w"]
) -> Float[Tensor, "b v"]:
    """Mean structural similarity of each pair of images, 1 for equal ones; computed in float32.

    Windows that would cross the border are left out, so it equals scikit-image's ``structural_similarity`` with
    ``gaussian_weights=True, sigma=1.5, data_range=1`` (whose window is 11 pixels wide) and default sample covariance.

    Raises:
        InputError: the images are smaller than the window.

    Source: Wang et al., Image quality assessment: from error visibility to structural similarity, 2004, eq. 13.
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
    """Gaussian-weighted mean in each whole window.

    Sums of shifted images and not a convolution: a GPU may run that in TF32, whose 10 bits do not
    survive the difference of second moments.
    """
    rows, columns = images.shape[-2] - WINDOW + 1, images.shape[-1] - WINDOW + 1
    shares = list(enumerate(_window()))
    images = reduce(add, (share * images[..., i : i + rows, :] for i, share in shares))
    return reduce(add, (share * images[..., i : i + columns] for i, share in shares))


@cache
def _window() -> tuple[float, ...]:
    """Samples of the Gaussian along one axis; they sum to 1."""
    samples = [exp(-0.5 * ((i - WINDOW // 2) / _SIGMA) ** 2) for i in range(WINDOW)]
    return tuple(sample / sum(samples) for sample in samples)
