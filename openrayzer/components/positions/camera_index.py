"""Position encoding "camera_index": the index of the view, added to camera tokens only."""

from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.components.positions.sinusoidal import sinusoid
from openrayzer.interfaces import POSITION_ENCODINGS, PositionEncoding


@POSITION_ENCODINGS.register("camera_index")
class CameraIndexEncoding(PositionEncoding):
    """Sinusoids of the view index, added to camera tokens; patch tokens have no position.

    Source: RayZer's released code with "input_with_pe" switched off.
    """

    reads_view_index = True

    def embed_cameras(self, tokens: Float[Tensor, "b v c d"], index: Int[Tensor, "b v"]) -> Float[Tensor, "b v c d"]:
        code = sinusoid(rearrange(index, "b v -> (b v)"), tokens.shape[-1])
        return tokens + rearrange(code.to(tokens.dtype), "(b v) d -> b v 1 d", b=index.shape[0])
