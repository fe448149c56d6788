"""Loss "mse": mean squared error."""

from jaxtyping import Float
from torch import Tensor

from openrayzer.geometry.precision import no_autocast
from openrayzer.interfaces import LOSSES, Loss


@LOSSES.register("mse")
class MeanSquaredError(Loss):
    """Mean squared difference of pixel values in [0, 1]."""

    mean_over_views = True

    def forward(self, prediction: Float[Tensor, "b v 3 h w"], target: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, ""]:
        with no_autocast(prediction):
            return (prediction.float() - target.float()).square().mean()
