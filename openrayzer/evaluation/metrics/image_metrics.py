"""The registered metrics of rendered views: PSNR, SSIM and LPIPS, computed in float32."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.geometry.precision import no_autocast
from openrayzer.interfaces import METRICS, Metric
from openrayzer.layers.lpips import Lpips
from openrayzer.layers.ssim import structural_similarity

PERFECT = 100.0
"""PSNR in dB that replaces the infinite PSNR of two equal images, so that means stay finite."""


@torch.no_grad()
def psnr(prediction: Float[Tensor, "b v 3 h w"], target: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v"]:
    """Peak signal-to-noise ratio of each image in dB, both clamped to [0, 1]; infinite for equal images."""
    with no_autocast(prediction):
        error = prediction.float().clamp(0, 1) - target.float().clamp(0, 1)
        return -10 * error.square().mean(dim=(2, 3, 4)).log10()


@torch.no_grad()
def ssim(prediction: Float[Tensor, "b v 3 h w"], target: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v"]:
    """Structural similarity of each image, both clamped to [0, 1]; 1 for equal images.

    The Gaussian window has 11 pixels and sigma 1.5, as in the tables of LVSM and RayZer. The default of scikit-image, a
    flat window of 7 pixels, gives other numbers.

    Raises:
        InputError: the images are smaller than 11 pixels.
    """
    return structural_similarity(prediction.float().clamp(0, 1), target.float().clamp(0, 1))


@METRICS.register("psnr")
class PsnrMetric(Metric):
    """Peak signal-to-noise ratio; the PSNR of an exact copy is set to 100 dB."""

    label, unit, digits, position = "PSNR", "dB", 2, 0

    def compute(
        self, prediction: Float[Tensor, "b v 3 h w"], target: Float[Tensor, "b v 3 h w"]
    ) -> Float[Tensor, "b v"]:
        return psnr(prediction, target).clamp(max=PERFECT)


@METRICS.register("ssim")
class SsimMetric(Metric):
    """Structural similarity; undefined for images smaller than 11 pixels."""

    label, position = "SSIM", 1
    definition = "Gaussian window of 11 pixels, sigma 1.5, sample covariance, data range 1, as LVSM and RayZer"

    def compute(
        self, prediction: Float[Tensor, "b v 3 h w"], target: Float[Tensor, "b v 3 h w"]
    ) -> Float[Tensor, "b v"]:
        return ssim(prediction, target)


class _LpipsMetric(Metric):
    better = "lower"
    network: Lpips

    def compute(
        self, prediction: Float[Tensor, "b v 3 h w"], target: Float[Tensor, "b v 3 h w"]
    ) -> Float[Tensor, "b v"]:
        distance: Tensor = self.network(prediction, target)
        return distance

    def to(self, device: torch.device | str) -> Metric:
        self.network.to(device)
        return self


@METRICS.register("lpips_vgg")
class LpipsVggMetric(_LpipsMetric):
    """LPIPS 0.1 with VGG-16; needs images of 16 pixels or more.

    Args:
        weights: torchvision's ImageNet weights of VGG-16.
    """

    label, position = "LPIPS (VGG)", 2
    weights_url = "https://download.pytorch.org/models/vgg16-397923af.pth"

    def __init__(self, *, weights: Path) -> None:
        self.network = Lpips(net="vgg", backbone=weights)


@METRICS.register("lpips_alex")
class LpipsAlexMetric(_LpipsMetric):
    """LPIPS 0.1 with AlexNet; needs images of 31 pixels or more.

    Args:
        weights: torchvision's ImageNet weights of AlexNet.
    """

    label, position = "LPIPS (AlexNet)", 3
    weights_url = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"

    def __init__(self, *, weights: Path) -> None:
        self.network = Lpips(net="alex", backbone=weights)
