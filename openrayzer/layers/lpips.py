"""Learned perceptual image patch similarity (LPIPS); the backbone weights come from a file of the user."""

import hashlib
import logging
import warnings
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.geometry.precision import no_autocast
from openrayzer.interfaces import InputError
from openrayzer.layers.tf32 import exact_float32
from openrayzer.layers.weight_files import building_on_meta, read_state_dict, require_file, select_weights

_FILES = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}
"""torchvision's ImageNet weights; the hexadecimal part of the name is the beginning of the file's SHA-256."""
_SMALLEST = {"vgg": 16, "alex": 31}
"""Smallest image side in pixels that the last pooling layer accepts."""

_log = logging.getLogger(__name__)


class Lpips(nn.Module):
    """LPIPS version 0.1 of pairs of images in [0, 1]. The network is frozen and always in evaluation mode.

    Args:
        net: backbone, "vgg" for VGG-16 or "alex" for AlexNet.
        backbone: file of its torchvision weights.

    Raises:
        InputError: the file is missing, damaged, or holds weights of another network; the message names the right file.

    Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric". The network
    and its calibrated heads come from the ``lpips`` package.
    """

    def __init__(self, *, net: Literal["vgg", "alex"], backbone: Path | str) -> None:
        super().__init__()
        if net not in _FILES:
            raise InputError(f"net must be one of {', '.join(_FILES)}, got {net!r}")
        self.net, backbone = net, Path(backbone)
        require_file(backbone, remedy=_remedy(net))
        self.network = _empty_network(net)
        if not building_on_meta():
            self.network.load_state_dict(_weights(self.network, net, backbone), strict=False, assign=True)
            _warn_of_other_weights(backbone, net)
            self.network.to(torch.get_default_device())
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Lpips":
        """Keeps evaluation mode for every ``mode``, because the heads have dropout."""
        return super().train(False)

    def forward(
        self, prediction: Float[Tensor, "b v 3 h w"], target: Float[Tensor, "b v 3 h w"]
    ) -> Float[Tensor, "b v"]:
        """Distance of each pair of images, computed in float32; 0 for equal images.

        Raises:
            InputError: an image side is below 16 (VGG-16) or 31 (AlexNet) pixels.
        """
        batch, _, _, height, width = prediction.shape
        if min(height, width) < _SMALLEST[self.net]:
            raise InputError(
                f"LPIPS ({self.net}) needs images of {_SMALLEST[self.net]} pixels or more, got {height} x {width}"
            )
        first, second = (rearrange(images.float(), "b v c h w -> (b v) c h w") for images in (prediction, target))
        with no_autocast(prediction), exact_float32():
            distance = self.network(first, second, normalize=True)
        return rearrange(distance, "(b v) 1 1 1 -> b v", b=batch)


def _remedy(net: str) -> str:
    return (
        f"get https://download.pytorch.org/models/{_FILES[net]} (torchvision's ImageNet weights) "
        "and give its path as 'backbone'"
    )


def _empty_network(net: str) -> nn.Module:
    """The network on the meta device: this draws no random numbers and allocates no memory."""
    from lpips import LPIPS

    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torchvision")  # lpips passes a deprecated argument
        return LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)


def _weights(network: nn.Module, net: str, backbone: Path) -> dict[str, Tensor]:
    """Backbone weights from the user's file and head weights from the lpips package, by their names in ``network``."""
    own = network.state_dict()
    # The name features.N in torchvision is net.sliceS.N in lpips.
    names = {f"features.{key.split('.', 2)[2]}": key for key in own if key.startswith("net.")}
    shapes = {theirs: own[ours].shape for theirs, ours in names.items()}
    state = read_state_dict(backbone, remedy=_remedy(net))
    chosen = select_weights(state, shapes=shapes, path=backbone, remedy=_remedy(net))
    with as_file(files("lpips") / "weights" / "v0.1" / f"{net}.pth") as path:
        heads = torch.load(path, map_location="cpu", weights_only=True)
    return heads | {names[theirs]: value for theirs, value in chosen.items()}


def _warn_of_other_weights(backbone: Path, net: str) -> None:
    with backbone.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(_FILES[net].rsplit("-")[-1].removesuffix(".pth")):
        _log.warning("%s is not torchvision's %s: do not compare LPIPS with published numbers", backbone, _FILES[net])
