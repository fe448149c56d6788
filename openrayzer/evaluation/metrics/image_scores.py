"""All image metrics at once: one number per image, in float32, and a reason for each that cannot be had."""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from openrayzer.evaluation.metrics.image_metrics import PERFECT, psnr, ssim
from openrayzer.interfaces import InputError
from openrayzer.layers.lpips import Lpips

METRICS = ("psnr", "ssim", "lpips_vgg", "lpips_alex")
"""In the order in which tables show them."""
SSIM_WINDOW = "Gaussian window of 11 pixels, sigma 1.5, sample covariance, data range 1, as LVSM and RayZer"
LPIPS_FILES = {"vgg": Path("weights/vgg16-397923af.pth"), "alex": Path("weights/alexnet-owt-7be5be79.pth")}
"""Where backbones are looked for when nobody says where they are."""


class ImageScores:
    """Measures images of one size.

    Args:
        image_size: height and width in pixels.
        lpips: backbone files by network, ``vgg`` and ``alex``; None looks for ``LPIPS_FILES``.
        device: where images will be.

    Attributes:
        missing: why a metric cannot be had, by its name.
        lpips: the file that each network's weights come from, or why it has none.

    Raises:
        InputError: a file that was named is missing, damaged or another network's.
    """

    def __init__(
        self, image_size: tuple[int, int], *, lpips: Mapping[str, Path | None], device: torch.device | str
    ) -> None:
        self.missing: dict[str, str] = {}
        self.lpips: dict[str, str] = {}
        self._networks: dict[str, Lpips] = {}
        for net, default in LPIPS_FILES.items():
            self._add_lpips(net, lpips.get(net), default, device)
        blank = torch.zeros(1, 1, 3, *image_size, device=device)
        for metric, network in list(self._networks.items()):
            self._try(metric, lambda network=network: network(blank, blank))
            if metric in self.missing:
                self.lpips[network.net] = self.missing[metric]
                del self._networks[metric]
        self._try("ssim", lambda: ssim(blank, blank))

    @torch.no_grad()
    def __call__(
        self, prediction: Float[Tensor, "b v 3 h w"], target: Float[Tensor, "b v 3 h w"]
    ) -> dict[str, Float[Tensor, "b v"]]:
        """Each metric that can be had, of each image; NaN for an image with a value that is not finite.

        Predictions are clamped to [0, 1]; an exact copy counts as ``PERFECT`` dB.
        """
        finite = prediction.isfinite().all(dim=4).all(dim=3).all(dim=2)
        prediction = prediction.float().clamp(0, 1)
        values = {"psnr": psnr(prediction, target).clamp(max=PERFECT)}
        if "ssim" not in self.missing:
            values["ssim"] = ssim(prediction, target)
        for metric, network in self._networks.items():
            values[metric] = network(prediction, target)
        return {metric: value.masked_fill(~finite, float("nan")) for metric, value in values.items()}

    def _add_lpips(self, net: str, given: Path | None, default: Path, device: torch.device | str) -> None:
        file = given or default
        if given is None and not default.is_file():
            self.lpips[net] = (
                f"no weights: get https://download.pytorch.org/models/{default.name} into {default.parent}/, "
                f"or name the file with --lpips_{net}"
            )
            self.missing[f"lpips_{net}"] = self.lpips[net]
            return
        self._networks[f"lpips_{net}"] = Lpips(net="vgg" if net == "vgg" else "alex", backbone=file).to(device)
        self.lpips[net] = str(file)

    def _try(self, metric: str, measure: object) -> None:
        try:
            measure()  # type: ignore[operator]
        except InputError as error:
            self.missing[metric] = str(error)
