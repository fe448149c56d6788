"""Loss "perceptual": distance of VGG-19 features."""

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from openrayzer.components.losses.matconvnet import REMEDY, read_vgg19
from openrayzer.geometry.precision import no_autocast
from openrayzer.interfaces import LOSSES, InputError, Loss
from openrayzer.layers.constants import constant_in_graphs
from openrayzer.layers.weight_files import building_on_meta, require_file

_STAGES = ((0, 2), (5, 7), (10, 12, 14, 16), (19, 21, 23, 25), (28, 30))
"""Convolutions between two poolings, up to conv5_2, by their index in torchvision's ``vgg19().features``."""
_CHANNELS = (64, 128, 256, 512, 512)
_MEAN_RGB = (123.68, 116.779, 103.939)
"""Mean colour of the training images in [0, 255]; MatConvNet's VGG-19 expects images minus this mean."""
_TERMS = (1.0, 1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5)
"""Weights of the pixel term and of relu1_2 ... relu5_2; they give all terms a similar size."""
_SMALLEST = 2 ** (len(_STAGES) - 1)
"""Smallest image side in pixels: the poolings halve it four times."""


class Vgg19Features(nn.Module):
    """VGG-19 up to relu5_2, with average pooling in place of max pooling."""

    def __init__(self) -> None:
        super().__init__()
        convolutions, before = {}, 3
        for stage, channels in zip(_STAGES, _CHANNELS, strict=True):
            for index in stage:
                convolutions[str(index)] = nn.Conv2d(before, channels, kernel_size=3, padding=1)
                before = channels
        self.features = nn.ModuleDict(convolutions)

    def forward(self, pixels: Float[Tensor, "i 3 h w"]) -> list[Float[Tensor, "i c y x"]]:
        """Features after the second ReLU of each stage: relu1_2, relu2_2, relu3_2, relu4_2, relu5_2."""
        taps, values = [], pixels
        for number, stage in enumerate(_STAGES):
            if number:
                values = F.avg_pool2d(values, kernel_size=2)
            for index in stage:
                values = self.features[str(index)](values).relu()
                if index == stage[1]:
                    taps.append(values)
        return taps


@LOSSES.register("perceptual")
class Perceptual(Loss):
    """Distance of pixels and of VGG-19 features with MatConvNet's weights, as in RayZer and LVSM.

    (|x - y| + sum of w |f(x) - f(y)|) / 255, where |.| is the mean absolute difference, x and y are images in
    [0, 255], and f are the features after relu1_2 ... relu5_2. The network is frozen; only the prediction gets
    gradients. The images have at least 16 pixels on each side.

    In bfloat16, only the network rounds; differences and means are float32. Compared with float32, on random weights
    and images of 128 x 128 pixels at 10 to 30 dB, values differ by 0.5 % at most, and the cosine between the gradients
    is 0.994 to 0.999. At 35 dB it is 1.4 % and 0.983 for white noise, 0.3 % and 0.998 for blur. RayZer and LVSM train
    the whole loss in bfloat16.

    Args:
        weights: imagenet-vgg-verydeep-19.mat from https://www.vlfeat.org/matconvnet/pretrained/, or the same
            weights under the names features.N.weight and features.N.bias in a .pt, .pth or .safetensors file.
        precision: precision of the network: "bfloat16", "float32" or "auto". "auto" is bfloat16 on GPUs that compute
            in it, and float32 elsewhere. By its data sheet an H100 is 15 times as fast in bfloat16.

    Raises:
        InputError: the file is missing, damaged, or holds weights of another network.

    Source: Chen and Koltun 2017, "Photographic Image Synthesis with Cascaded Refinement Networks", equation 1; weights
    of the terms as in Li et al. 2020, "Crowdsampling the Plenoptic Function", which RayZer and LVSM adopted.
    """

    mean_over_views = True

    mean_rgb: Tensor

    def __init__(self, *, weights: Path | str, precision: Literal["auto", "float32", "bfloat16"] = "auto") -> None:
        super().__init__()
        weights = Path(weights)
        self.precision = precision
        require_file(weights, remedy=REMEDY)
        with torch.device("meta"):  # no random numbers: the weights come from the file
            self.network = Vgg19Features()
        if not building_on_meta():
            shapes = {name: value.shape for name, value in self.network.state_dict().items()}
            self.network.load_state_dict(read_vgg19(weights, shapes=shapes), assign=True)
            self.network.to(torch.get_default_device()).to(memory_format=torch.channels_last)
        mean = rearrange(torch.tensor(_MEAN_RGB), "c -> 1 c 1 1")
        self.register_buffer("mean_rgb", mean, persistent=False)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Perceptual":
        """Keeps evaluation mode for every ``mode``, because the network is frozen."""
        return super().train(False)

    def forward(self, prediction: Float[Tensor, "b v 3 h w"], target: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, ""]:
        if min(prediction.shape[-2:]) < _SMALLEST:
            size = " x ".join(map(str, prediction.shape[-2:]))
            raise InputError(f"the perceptual loss needs images of {_SMALLEST} pixels or more, got {size}")
        with no_autocast(prediction):
            with torch.no_grad():
                wanted = self._measured(target)
            pairs = zip(self._measured(prediction), wanted, strict=True)
            terms = [(ours.float() - theirs.float()).abs().mean() for ours, theirs in pairs]
            return torch.stack([weight * term for weight, term in zip(_TERMS, terms, strict=True)]).sum() / 255

    def _measured(self, images: Float[Tensor, "b v 3 h w"]) -> list[Float[Tensor, "i c y x"]]:
        """Pixels minus the mean colour, and the features."""
        pixels = rearrange(images.float(), "b v c h w -> (b v) c h w") * 255 - self.mean_rgb
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self._rounds(pixels.device)):
            return [pixels, *self.network(pixels)]

    def _rounds(self, device: torch.device) -> bool:
        """True if the network computes in bfloat16."""
        return _computes_bfloat16(device) if self.precision == "auto" else self.precision == "bfloat16"


@constant_in_graphs
def _computes_bfloat16(device: torch.device) -> bool:
    """True for GPUs that compute in bfloat16. On a machine without a GPU, the planner assumes such a GPU."""
    return device.type == "cuda" and (
        not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)
    )
