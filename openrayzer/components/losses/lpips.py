"""Loss: learned perceptual distance."""

from pathlib import Path
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from openrayzer.interfaces import LOSSES, Loss
from openrayzer.layers.lpips import Lpips


@LOSSES.register("lpips")
class LpipsLoss(Loss):
    """LPIPS 0.1 of images in [0, 1]; gradients reach the prediction only.

    Args:
        backbone: torchvision's ImageNet weights, vgg16-397923af.pth or alexnet-owt-7be5be79.pth, both at
            https://download.pytorch.org/models/.
        net: the backbone, VGG-16 or AlexNet.

    Raises:
        InputError: the file is missing, damaged or of another network.
    """

    def __init__(self, *, backbone: Path, net: Literal["vgg", "alex"] = "vgg") -> None:
        super().__init__()
        self.distance = Lpips(net=net, backbone=backbone)

    def forward(self, prediction: Float[Tensor, "b v 3 h w"], target: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, ""]:
        return self.distance(prediction, target.detach()).mean()
