"""The loss whose value and gradient a golden file records: the loss in its own configuration."""

from jaxtyping import Float
from torch import Tensor

from openrayzer.interfaces import InputError
from openrayzer.weights.interop.configuration import Configuration

SQUARED, ABSOLUTE_ERROR = "training.l2_loss_weight", "training.l1_loss_weight"
"""Keys of the weights of mean squared and mean absolute error, in LVSM, RayZer and systems based on their code."""
XFACTOR = "L_WEIGHTS.w_l1.value"
"""Key of the weight of the mean absolute error of pixels in [-1, 1], in XFactor."""
NETWORKS = (
    "training.lpips_loss_weight", "training.perceptual_loss_weight", "training.proj_loss_weight",
    "L_WEIGHTS.w_lpips.value",
)  # fmt: skip
"""Keys of the weights of terms that need a network from elsewhere."""


def recorded_loss(
    render: Float[Tensor, "b v 3 h w"], target: Float[Tensor, "b v 3 h w"], configuration: Configuration
) -> Float[Tensor, ""]:
    """The sum of all terms with a weight in the configuration; without any, the mean squared error.

    Args:
        render: rendered target views, black 0 and white 1.
        target: true target views, likewise.
        configuration: of the published code.

    Raises:
        InputError: a term needs a network that a golden file does not hold.
    """
    used = [key for key in NETWORKS if configuration.get(key, 0.0)]
    if used:
        raise InputError(
            f"the loss of this recording has terms that need a network from elsewhere ({', '.join(used)}); record it "
            "with their weights set to 0"
        )
    difference = render - target
    terms = {
        SQUARED: difference.square().mean(),
        ABSOLUTE_ERROR: difference.abs().mean(),
        XFACTOR: 2 * difference.abs().mean(),
    }
    weights = {key: float(configuration.get(key, 0.0)) for key in terms}
    if not any(weights.values()):
        return terms[SQUARED]
    return sum((weight * terms[key] for key, weight in weights.items() if weight), render.new_zeros(()))
