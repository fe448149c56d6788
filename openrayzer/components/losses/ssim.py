"""Loss "ssim": structural dissimilarity."""

from jaxtyping import Float
from torch import Tensor

from openrayzer.interfaces import LOSSES, Loss
from openrayzer.layers.ssim import structural_similarity


@LOSSES.register("ssim")
class StructuralDissimilarity(Loss):
    """1 - SSIM with a Gaussian window of 11 x 11 pixels and sigma 1.5; smaller images are an error."""

    mean_over_views = True

    def forward(self, prediction: Float[Tensor, "b v 3 h w"], target: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, ""]:
        return 1 - structural_similarity(prediction, target).mean()
