"""Position encoding: the view's index, added to camera tokens alone."""

from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.components.positions.sinusoidal import sinusoid
from openrayzer.interfaces import POSITION_ENCODINGS, PositionEncoding


@POSITION_ENCODINGS.register("camera_index")
class CameraIndexEncoding(PositionEncoding):
    """Sinusoids of the view's index, as they are, added to camera tokens; patches do not know where they are.

    Source: RayZer's released code with "input_with_pe" switched off.
    """

    def embed_cameras(self, tokens: Float[Tensor, "b v c d"], index: Int[Tensor, "b v"]) -> Float[Tensor, "b v c d"]:
        code = sinusoid(rearrange(index, "b v -> (b v)"), tokens.shape[-1])
        return tokens + rearrange(code.to(tokens.dtype), "(b v) d -> b v 1 d", b=index.shape[0])
