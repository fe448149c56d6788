"""How well rendered views match: one number per image, computed in float32."""

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.geometry.precision import no_autocast
from openrayzer.layers.ssim import structural_similarity

PERFECT = 100.0
"""PSNR in dB of two equal images, which is infinite, so that a mean can hold it."""


@torch.no_grad()
def psnr(prediction: Float[Tensor, "b v 3 h w"], target: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v"]:
    """Peak signal-to-noise ratio of each image in dB, both clamped to [0, 1]; infinite for equal images."""
    with no_autocast(prediction):
        error = prediction.float().clamp(0, 1) - target.float().clamp(0, 1)
        return -10 * error.square().mean(dim=(2, 3, 4)).log10()


@torch.no_grad()
def ssim(prediction: Float[Tensor, "b v 3 h w"], target: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v"]:
    """Structural similarity of each image, both clamped to [0, 1]; 1 for equal images.

    Gaussian window of 11 pixels, sigma 1.5, as in the tables of LVSM and RayZer; scikit-image's default, a flat
    window of 7 pixels, gives other numbers.

    Raises:
        InputError: the images are smaller than 11 pixels.
    """
    return structural_similarity(prediction.float().clamp(0, 1), target.float().clamp(0, 1))
