"""Loss "lpips": learned perceptual image patch similarity."""

from pathlib import Path
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from openrayzer.interfaces import LOSSES, Loss
from openrayzer.layers.lpips import Lpips


@LOSSES.register("lpips")
class LpipsLoss(Loss):
    """LPIPS version 0.1 of images in [0, 1]; only the prediction gets gradients.

    Args:
        backbone: file of torchvision's ImageNet weights, vgg16-397923af.pth or alexnet-owt-7be5be79.pth, both at
            https://download.pytorch.org/models/.
        net: backbone, "vgg" for VGG-16 or "alex" for AlexNet.

    Raises:
        InputError: the file is missing, damaged, or holds weights of another network.
    """

    mean_over_views = True

    def __init__(self, *, backbone: Path | str, net: Literal["vgg", "alex"] = "vgg") -> None:
        super().__init__()
        self.distance = Lpips(net=net, backbone=backbone)

    def forward(self, prediction: Float[Tensor, "b v 3 h w"], target: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, ""]:
        return self.distance(prediction, target.detach()).mean()
