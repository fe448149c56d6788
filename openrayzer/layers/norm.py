"""Normalisation layers."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class HeadNorm(nn.Module):
    """RMSNorm over the width of one attention head, in float32, returned in the dtype that came in.

    Source: QK-norm of RayZer and LVSM; x / sqrt(mean(x^2) + eps) * gain, one gain vector for all heads.
    """

    def __init__(self, head_width: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(head_width))

    def forward(self, heads: Float[Tensor, "b n h e"]) -> Float[Tensor, "b n h e"]:
        values = heads.float()
        norm = torch.linalg.vector_norm(values, dim=-1, keepdim=True)  # one pass where square().mean() takes two
        scale = torch.rsqrt(norm.square() / heads.shape[-1] + self.eps)
        return (values * scale * self.weight).to(heads.dtype)


def head_norm(head_width: int, eps: float | None) -> nn.Module:
    """RMSNorm of one head's queries or keys; nothing at all where ``eps`` is None.

    Raises:
        ValueError: ``eps`` is not above 0.
    """
    if eps is None:
        return nn.Identity()
    if not eps > 0:
        raise ValueError(f"qk_norm_eps must be above 0, or null for no norm, got {eps}")
    return HeadNorm(head_width, eps=eps)


def layer_norm(width: int) -> nn.LayerNorm:
    """LayerNorm with a gain and no bias, eps 1e-5, as in RayZer and LVSM."""
    return nn.LayerNorm(width, bias=False)
